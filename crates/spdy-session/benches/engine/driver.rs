//! Sessions and their drivers over `tokio::io::duplex`, in one thread.

use std::future::poll_fn;

use bytes::Bytes;
use spdy_session::{
    Config, HeaderBlock, Incoming, OpenOptions, PendingStream, Received, Session, Version, client,
    server,
};
use tokio::{io::duplex, runtime::Runtime, task::JoinSet};

use super::data::{BODY, PIECE, piece, request, response};

/// A client and a server, each in its own task.
pub(crate) struct Driven {
    runtime: Runtime,
    session: Session,
    request: HeaderBlock,
    at_once: usize,
}

impl Driven {
    /// Creates the pair on this runtime. `at_once` is the number of concurrent requests.
    pub(crate) fn on(runtime: Runtime, at_once: usize) -> Self {
        let session = runtime.block_on(async {
            let (near, far) = duplex(TRANSPORT);
            let (_, incoming, driver) = server(far, Version::V3_1, Config::default());
            tokio::spawn(serve(incoming, driver));
            let (session, _, driver) = client(near, Version::V3_1, Config::default());
            tokio::spawn(driver);
            session
        });
        Self {
            runtime,
            session,
            request: request(),
            at_once,
        }
    }

    /// Sends `count` requests, `at_once` of them concurrently, and reads their responses.
    pub(crate) fn requests(&self, count: usize) {
        self.runtime.block_on(async {
            let mut workers = JoinSet::new();
            for _ in 0..self.at_once {
                let (session, request) = (self.session.clone(), self.request.clone());
                let share = count / self.at_once;
                workers.spawn(async move {
                    for _ in 0..share {
                        let bytes = fetch(&session, request.clone()).await;
                        assert_eq!(bytes, BODY.len());
                    }
                });
            }
            while let Some(worker) = workers.join_next().await {
                worker.expect("no request fails");
            }
        });
    }

    /// Sends a request whose response has a body of this many bytes, and reads it.
    pub(crate) fn download(&self, bytes: usize) {
        let mut request = self.request.clone();
        request
            .append("bytes", bytes.to_string())
            .expect("the field is sound");
        let taken = self.runtime.block_on(fetch(&self.session, request));
        assert_eq!(taken, bytes);
    }
}

/// Sends a request and reads its response. Returns the length of the body.
async fn fetch(session: &Session, request: HeaderBlock) -> usize {
    let how = OpenOptions::new().fin(true);
    let stream = session.open(request, how).await.expect("it may be opened");
    let (mut receive, _send) = stream.split();
    receive.response_headers().await.expect("it is answered");
    let mut bytes = 0;
    while let Some(received) = receive.next().await {
        if let Received::Data(payload) = received.expect("the server does not fail") {
            bytes += payload.len();
        }
    }
    bytes
}

/// Serves a session in one task. Requests are answered between reading and writing.
async fn serve(mut incoming: Incoming, mut driver: spdy_session::Driver<tokio::io::DuplexStream>) {
    let response = response();
    let ended = poll_fn(|cx| {
        driver.poll_around(cx, |_| {
            while let Ok(stream) = incoming.try_accept() {
                answer(stream, response.clone());
            }
            false
        })
    });
    // The client ends the session when it is dropped.
    _ = ended.await;
}

/// Answers with the number of bytes that the request asks for.
fn answer(stream: PendingStream, response: HeaderBlock) {
    let bytes = stream.headers().get("bytes").map(number);
    let (_receive, reply) = stream.split();
    let mut send = reply
        .send_reply(response, false)
        .expect("it was opened now");
    let Some(bytes) = bytes else {
        let sent = send.send_data(Bytes::from_static(&BODY), true);
        return sent.expect("it is open");
    };
    tokio::spawn(async move {
        for sent in (PIECE..=bytes).step_by(PIECE) {
            send.ready().await.expect("the client reads");
            let fin = sent == bytes;
            send.send_data(piece(), fin).expect("it is open");
        }
        send.written().await.expect("the client reads");
    });
}

/// Parses a number that this program has written.
pub(crate) fn number(digits: &[u8]) -> usize {
    let digits = std::str::from_utf8(digits).expect("it has digits alone");
    digits.parse().expect("it has digits alone")
}

/// How many bytes can be under way in each direction.
pub(crate) const TRANSPORT: usize = 64 * 1024;
