//! Counts the allocations of a request, from the bytes of the client to those of the response.
//!
//! The bounds are what was measured. docs/performance.md lists whose the allocations are. Some 30
//! in a hundred requests are lists that grow again, because a session at rest keeps no room for a
//! hundred streams. If a hundred requests come together, the allocator has too few free pieces at
//! hand for them, and then each allocation costs several times as much.

use std::{
    convert::Infallible,
    future::Future,
    io::IoSlice,
    pin::pin,
    task::{Context, Waker},
};

use allocation_counter::measure;
use axum::{Router, routing::get};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use spdy_frame::{
    HeaderBlock, HeaderCompression, HeaderEncoder, Priority, Side, StreamId, SynStream,
};
use spdy_tests::fed::{Fed, Sink};
use spdy_tower::{Body, Builder, HttpService, Version};
use tower::service_fn;

/// The number of requests that come together.
const STREAMS: usize = 100;

/// The response of both applications.
const TEXT: &str = "Hello, world!";

#[tokio::test(start_paused = true)]
async fn a_request_to_a_service_that_allocates_nothing_costs_few_allocations() {
    let service = service_fn(async |_: Request<Body>| {
        let mut response = Response::new(Full::new(Bytes::from_static(TEXT.as_bytes())));
        let text = HeaderValue::from_static("text/plain");
        response.headers_mut().insert(header::CONTENT_TYPE, text);
        Ok::<_, Infallible>(response)
    });
    let each = allocations(service);
    println!("{each} allocations a request to a service");
    assert!(each <= 10.5, "{each} allocations a request");
}

#[tokio::test(start_paused = true)]
async fn a_request_to_a_router_of_axum_costs_few_allocations() {
    let each = allocations(Router::new().route("/hello", get(async || TEXT)));
    println!("{each} allocations a request to axum");
    assert!(each <= 17.5, "{each} allocations a request");
}

/// Returns how many allocations a request has, after some have been answered.
fn allocations(service: impl HttpService) -> f64 {
    let transport = Fed::new(Answers::default());
    let mut client = Client::new();
    let turns: Vec<Bytes> = (0..25).map(|_| client.requests(STREAMS)).collect();
    let connection = Builder::new().serve_connection(transport.clone(), Version::V3_1, service);
    let mut connection = pin!(connection);
    let mut answer = |turn: &Bytes| {
        transport.feed(turn.clone());
        let before = transport.sink(|answers| answers.0);
        let cx = &mut Context::from_waker(Waker::noop());
        while transport.sink(|answers| answers.0) < before + STREAMS {
            assert!(connection.as_mut().poll(cx).is_pending());
        }
    };
    let (before, counted) = turns.split_at(5);
    before.iter().for_each(&mut answer);
    let info = measure(|| counted.iter().for_each(&mut answer));
    info.count_total as f64 / (counted.len() * STREAMS) as f64
}

/// Writes what a browser sends.
struct Client {
    encoder: HeaderEncoder,
    next: StreamId,
}

impl Client {
    fn new() -> Self {
        Self {
            encoder: HeaderEncoder::new(Version::V3_1, HeaderCompression::Indexed),
            next: StreamId::first(Side::Client),
        }
    }

    fn requests(&mut self, number: usize) -> Bytes {
        let block = HeaderBlock::from_pairs(HEAD).unwrap();
        let mut written = BytesMut::new();
        for _ in 0..number {
            let frame = SynStream {
                stream: self.next,
                associated: None,
                priority: Priority::default(),
                fin: true,
                unidirectional: false,
                block: &block,
            };
            self.encoder
                .encode_syn_stream(&frame, &mut written)
                .unwrap();
            self.next = self.next.next().unwrap();
        }
        written.freeze()
    }
}

const HEAD: [(&str, &str); 11] = [
    (":method", "GET"),
    (":path", "/hello"),
    (":version", "HTTP/1.1"),
    (":host", "localhost:8080"),
    (":scheme", "http"),
    ("accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
    ("accept-encoding", "gzip,deflate,sdch"),
    ("accept-language", "en-US,en;q=0.8"),
    ("cache-control", "max-age=0"),
    ("referer", "http://localhost/"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)"),
];

/// Counts the responses that are written.
#[derive(Default)]
struct Answers(usize);

impl Sink for Answers {
    fn take(&mut self, pieces: &[IoSlice<'_>]) -> usize {
        let text = TEXT.as_bytes();
        for piece in pieces {
            self.0 += piece
                .windows(text.len())
                .filter(|part| *part == text)
                .count();
        }
        pieces.iter().map(|piece| piece.len()).sum()
    }
}
