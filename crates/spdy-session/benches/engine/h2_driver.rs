//! `h2` over `tokio::io::duplex`, in one thread.

use std::future::poll_fn;

use bytes::Bytes;
use h2::{
    client::SendRequest,
    server::{Connection, SendResponse},
};
use http::Request;
use tokio::{
    io::{DuplexStream, duplex},
    runtime::Runtime,
    task::JoinSet,
};

use super::{
    Pair,
    data::{BODY, PIECE, piece},
    driver::{TRANSPORT, number},
    h2_machine::{Heads, client_builder, server_builder},
    one_thread,
};

/// A client and a server, each in its own task.
pub(crate) struct H2Driven {
    runtime: Runtime,
    requests: SendRequest<Bytes>,
    at_once: usize,
}

impl H2Driven {
    /// Creates the pair. `at_once` is the number of concurrent requests.
    pub(crate) fn new(at_once: usize) -> Self {
        let runtime = one_thread();
        let requests = runtime.block_on(async {
            let (near, far) = duplex(TRANSPORT);
            tokio::spawn(async {
                let connection = server_builder().handshake(far).await;
                serve(connection.expect("the client's preface is sound")).await;
            });
            let connected = client_builder().handshake(near).await;
            let (requests, connection) = connected.expect("the transport works");
            tokio::spawn(connection);
            requests
        });
        Self {
            runtime,
            requests,
            at_once,
        }
    }
}

impl Pair for H2Driven {
    fn requests(&mut self, count: usize) {
        self.runtime.block_on(async {
            let mut workers = JoinSet::new();
            for _ in 0..self.at_once {
                let (mut requests, heads) = (self.requests.clone(), Heads::new());
                let share = count / self.at_once;
                workers.spawn(async move {
                    for _ in 0..share {
                        let bytes = fetch(&mut requests, heads.request()).await;
                        assert_eq!(bytes, BODY.len());
                    }
                });
            }
            while let Some(worker) = workers.join_next().await {
                worker.expect("no request fails");
            }
        });
    }

    fn download(&mut self, bytes: usize) {
        let mut request = Heads::new().request();
        request.headers_mut().insert("bytes", bytes.into());
        let taken = self.runtime.block_on(fetch(&mut self.requests, request));
        assert_eq!(taken, bytes);
    }
}

/// Sends a request and reads its response. Returns the length of the body.
async fn fetch(requests: &mut SendRequest<Bytes>, request: Request<()>) -> usize {
    let ready = poll_fn(|cx| requests.poll_ready(cx)).await;
    ready.expect("the connection is open");
    let (response, _) = requests
        .send_request(request, true)
        .expect("it may be opened");
    let response = response.await.expect("it is answered");
    let mut body = response.into_body();
    let mut bytes = 0;
    while let Some(data) = body.data().await {
        let length = data.expect("the server does not fail").len();
        let released = body.flow_control().release_capacity(length);
        released.expect("they had come");
        bytes += length;
    }
    bytes
}

async fn serve(mut connection: Connection<DuplexStream, Bytes>) {
    let heads = Heads::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let bytes = request.headers().get("bytes");
        answer(bytes.map(|bytes| number(bytes.as_bytes())), respond, &heads);
    }
}

/// Answers with the number of bytes that the request asks for.
fn answer(bytes: Option<usize>, mut respond: SendResponse<Bytes>, heads: &Heads) {
    let head = match bytes {
        Some(_) => heads.long_response(),
        None => heads.response(),
    };
    let replied = respond.send_response(head, false);
    let mut send = replied.expect("it was opened now");
    let Some(bytes) = bytes else {
        let sent = send.send_data(Bytes::from_static(&BODY), true);
        return sent.expect("it is open");
    };
    tokio::spawn(async move {
        for sent in (PIECE..=bytes).step_by(PIECE) {
            send.reserve_capacity(PIECE);
            while send.capacity() < PIECE {
                let more = poll_fn(|cx| send.poll_capacity(cx)).await;
                more.expect("the client has not gone")
                    .expect("the client reads");
            }
            let fin = sent == bytes;
            send.send_data(piece(), fin).expect("it is open");
        }
    });
}
