//! Requests to a service, from the bytes of the client to those of the response. The client's part
//! is prepared.

use std::{
    future::{Future, poll_fn},
    io::IoSlice,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use bytes::Bytes;
use spdy_tests::fed::{Fed, Sink};
use spdy_tower::{Builder, Version};
use tokio::task::yield_now;

use crate::{
    client::Client,
    data::{BODY, PIECE},
    service::{LONG, service},
    timeless,
};

/// A GET and its response of 100 bytes, by itself.
pub(crate) fn request(prepared: usize, done: usize) {
    serve(prepared, done, |client| Turn::gets(client, 1, "/"));
}

/// The same, when ten of them come together.
pub(crate) fn ten_requests(prepared: usize, done: usize) {
    serve(prepared, done, |client| Turn::gets(client, 10, "/"));
}

/// The same, when a hundred of them come together.
pub(crate) fn hundred_requests(prepared: usize, done: usize) {
    serve(prepared, done, |client| Turn::gets(client, 100, "/"));
}

/// A GET and its response of a MiB.
pub(crate) fn download(prepared: usize, done: usize) {
    serve(prepared, done, |client| Turn::gets(client, 1, LONG));
}

/// A POST of a MiB and its response of 100 bytes.
pub(crate) fn upload(prepared: usize, done: usize) {
    serve(prepared, done, Turn::post);
}

/// What a client sends at once, and how the end of the answers is noticed.
struct Turn {
    /// What is read together.
    reads: Vec<Bytes>,
    requests: usize,
    /// The length of the body of each response, in bytes.
    bytes: usize,
}

impl Turn {
    fn gets(client: &mut Client, requests: usize, path: &str) -> Self {
        (0..requests).for_each(|_| client.get(path));
        Self {
            reads: vec![client.take()],
            requests,
            bytes: requests * if path == LONG { 1 << 20 } else { BODY.len() },
        }
    }

    fn post(client: &mut Client) -> Self {
        client.begin_post();
        let pieces = (1 << 20) / PIECE;
        let mut reads = Vec::new();
        for piece in 1..=pieces {
            client.payload(piece == pieces);
            // Less than the windows of the server, which is let at it in between.
            if piece % 2 == 0 {
                reads.push(client.take());
            }
        }
        Self {
            reads,
            requests: 1,
            bytes: BODY.len(),
        }
    }
}

fn serve(prepared: usize, done: usize, turn: impl Fn(&mut Client) -> Turn) {
    let mut client = Client::new();
    let transport = Fed::new(Written::default());
    transport.feed(client.take());
    let turns: Vec<Turn> = (0..prepared).map(|_| turn(&mut client)).collect();
    timeless().block_on(answer(transport, &turns[..done]));
}

async fn answer(transport: Fed<Written>, turns: &[Turn]) {
    let answered = Arc::new(AtomicUsize::new(0));
    let service = service(Arc::clone(&answered));
    let connection = Builder::new().serve_connection(transport.clone(), Version::V3_1, service);
    let mut connection = pin!(connection);
    let mut requests = 0;
    for turn in turns {
        requests += turn.requests;
        let written = transport.sink(|written| written.0) + turn.bytes;
        for read in &turn.reads {
            transport.feed(read.clone());
            poll(connection.as_mut()).await;
        }
        while answered.load(Ordering::Relaxed) < requests
            || transport.sink(|written| written.0) < written
        {
            poll(connection.as_mut()).await;
        }
    }
    poll(connection).await;
}

/// Counts the bytes that are written, and drops them.
#[derive(Default)]
struct Written(usize);

impl Sink for Written {
    fn take(&mut self, pieces: &[IoSlice<'_>]) -> usize {
        let bytes = pieces.iter().map(|piece| piece.len()).sum();
        self.0 += bytes;
        bytes
    }
}

/// Polls a connection once, and lets the tasks run.
async fn poll(mut connection: Pin<&mut impl Future>) {
    poll_fn(|cx| {
        let polled = connection.as_mut().poll(cx);
        assert!(polled.is_pending(), "the client has not gone");
        Poll::Ready(())
    })
    .await;
    yield_now().await;
}
