//! What a request costs a server: the same axum router, served over SPDY/3.1 by this crate and over
//! HTTP/2 by hyper.
//!
//! The client is a transport that gives requests which were written beforehand, ten at a time, and
//! gives the next ten when the last answer of these has come. All of the time is the server's.
//! Requests are alike, as those of most clients are, or each has a field that no other has.
//!
//! `cargo bench -p spdy-tower --bench serve` shows both servers and their ratio; with `--once`
//! there is one run alone, for an instruction profile:
//!
//! ```text
//! valgrind --tool=callgrind target/release/deps/serve-… --once spdy alike 20000
//! ```

use std::{
    collections::VecDeque,
    env, io,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use axum::{Router, routing::get};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use spdy_frame::{
    HeaderBlock, HeaderCompression, HeaderEncoder, Priority, StreamId, SynStream, Version,
};
use spdy_tower::Builder;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::{self, Runtime},
};
use tower::ServiceExt;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--once", protocol, requests, count, ..] => {
            let protocol = match protocol {
                "h2" => Protocol::Http2,
                _ => Protocol::Spdy,
            };
            let requests = match requests {
                "unlike" => Requests::Unlike,
                _ => Requests::Alike,
            };
            run(protocol, requests, count.parse().expect("a number"));
        }
        _ => [Requests::Alike, Requests::Unlike]
            .into_iter()
            .for_each(compare),
    }
}

/// The best of some rounds, in turns, so that what disturbs the machine disturbs both.
fn compare(requests: Requests) {
    let mut best = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        for (best, protocol) in best.iter_mut().zip([Protocol::Spdy, Protocol::Http2]) {
            *best = run(protocol, requests, COUNT).min(*best);
        }
    }
    let [spdy, h2] = best.map(|time| time.as_nanos() as f64 / COUNT as f64);
    println!("{requests:?} requests");
    println!("    spdy/3.1 by spdy-tower  {spdy:6.0} ns each");
    println!("    h2 by hyper             {h2:6.0} ns each");
    println!("    ratio                   {:6.2}", spdy / h2);
}

/// Serves this number of requests on one connection.
fn run(protocol: Protocol, requests: Requests, count: usize) -> Duration {
    let app = Router::new().route("/hello", get(async || HELLO));
    let replay = Replay::new(protocol, requests, count);
    let runtime = runtime();
    let start = Instant::now();
    match protocol {
        Protocol::Spdy => {
            let connection = Builder::new().serve_connection(replay, Version::V3_1, app);
            runtime.block_on(connection).expect("an orderly end");
        }
        Protocol::Http2 => {
            let service = service_fn(move |request| app.clone().oneshot(request));
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(replay), service);
            runtime.block_on(connection).expect("an orderly end");
        }
    }
    start.elapsed()
}

fn runtime() -> Runtime {
    runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
}

#[derive(Clone, Copy, Debug)]
enum Protocol {
    Spdy,
    Http2,
}

/// How much the requests have in common.
#[derive(Clone, Copy, Debug)]
enum Requests {
    Alike,
    Unlike,
}

/// The client's end: what it will send, and how many answers are due before it goes on.
#[derive(Debug)]
struct Replay {
    protocol: Protocol,
    batches: VecDeque<Bytes>,
    unread: Bytes,
    due: usize,
    /// The head of the frame that is being written to the client.
    head: Vec<u8>,
    /// What is left of its payload.
    payload: usize,
    waker: Option<Waker>,
}

impl Replay {
    fn new(protocol: Protocol, requests: Requests, count: usize) -> Self {
        let batches = match protocol {
            Protocol::Spdy => spdy_requests(requests, count),
            Protocol::Http2 => h2_requests(requests, count),
        };
        Self {
            protocol,
            batches,
            unread: Bytes::new(),
            due: 0,
            head: Vec::new(),
            payload: 0,
            waker: None,
        }
    }

    /// Takes a part of what the server has written.
    fn written(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let part = self.payload.min(bytes.len());
                bytes = &bytes[part..];
                self.payload -= part;
                continue;
            }
            let length = match self.protocol {
                Protocol::Spdy => 8,
                Protocol::Http2 => 9,
            };
            let part = (length - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..part]);
            bytes = &bytes[part..];
            if self.head.len() == length {
                self.framed();
            }
        }
    }

    fn framed(&mut self) {
        let head = &self.head[..];
        let (is_data, length) = match self.protocol {
            Protocol::Spdy => (head[0] & 0x80 == 0, &head[5..8]),
            Protocol::Http2 => (head[3] == 0, &head[..3]),
        };
        self.payload = length
            .iter()
            .fold(0, |sum, &byte| sum << 8 | usize::from(byte));
        if is_data && head[4] & 1 != 0 {
            self.due -= 1;
            if self.due == 0
                && let Some(waker) = self.waker.take()
            {
                waker.wake();
            }
        }
        self.head.clear();
    }
}

impl AsyncRead for Replay {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            if self.due > 0 {
                self.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            if let Some(batch) = self.batches.pop_front() {
                self.unread = batch;
                self.due = BATCH;
            }
        }
        let part = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..part]);
        self.unread.advance(part);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replay {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut length = 0;
        for slice in slices {
            self.written(slice);
            length += slice.len();
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn spdy_requests(requests: Requests, count: usize) -> VecDeque<Bytes> {
    let meta = [
        (":method", "GET"),
        (":path", "/hello"),
        (":version", "HTTP/1.1"),
        (":host", HOST),
        (":scheme", "https"),
    ];
    let usual = HeaderBlock::from_pairs(meta.into_iter().chain(FIELDS)).expect("a sound block");
    let mut encoder = HeaderEncoder::new(Version::V3_1, HeaderCompression::Indexed);
    let mut id = 1;
    batches(count, |first, bytes| {
        if first {
            // WINDOW_UPDATE of the session: no response waits for the client.
            bytes.put_slice(&[0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 0, 0x7f, 0, 0, 0]);
        }
        for _ in 0..BATCH {
            let mut block = usual.clone();
            if let Requests::Unlike = requests {
                block.append(OWN_FIELD, own_value(id)).expect("a value");
            }
            let frame = SynStream {
                stream: StreamId::new(id).expect("no more requests than ids"),
                associated: None,
                priority: Priority::default(),
                fin: true,
                unidirectional: false,
                block: &block,
            };
            encoder
                .encode_syn_stream(&frame, bytes)
                .expect("a sound block");
            id += 2;
        }
    })
}

/// The first request puts its fields into the table of HPACK, the others refer to them.
fn h2_requests(requests: Requests, count: usize) -> VecDeque<Bytes> {
    const STATIC: [u8; 2] = [0x80 | 2, 0x80 | 7]; // `:method: GET`, `:scheme: https`
    let usual: Vec<(&str, &str)> = [(":path", "/hello"), (":authority", HOST)]
        .into_iter()
        .chain(FIELDS)
        .collect();
    let mut full = STATIC.to_vec();
    for (name, value) in &usual {
        full.push(0x40);
        put_string(&mut full, name);
        put_string(&mut full, value);
    }
    let references = (0..usual.len() as u8).map(|place| 0x80 | (62 + place));
    let short: Vec<u8> = STATIC.into_iter().chain(references.rev()).collect();
    let mut id = 1;
    batches(count, |first, bytes| {
        if first {
            bytes.put_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
            bytes.put_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]); // SETTINGS
            bytes.put_slice(&[0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0, 0, 0]); // WINDOW_UPDATE
        } else if id == 1 + 2 * BATCH as u32 {
            // The server's SETTINGS have come with the first answers.
            bytes.put_slice(&[0, 0, 0, 4, 1, 0, 0, 0, 0]);
        }
        for _ in 0..BATCH {
            let mut block = if id == 1 { full.clone() } else { short.clone() };
            if let Requests::Unlike = requests {
                block.push(0);
                put_string(&mut block, OWN_FIELD);
                put_string(&mut block, &own_value(id));
            }
            bytes.put_uint(block.len() as u64, 3);
            bytes.put_slice(&[1, 5]); // HEADERS with END_STREAM and END_HEADERS
            bytes.put_u32(id);
            bytes.put_slice(&block);
            id += 2;
        }
    })
}

/// A string of HPACK, shorter than 254 bytes. With 127 in a prefix of seven bits its length goes on
/// in the next byte.
fn put_string(bytes: &mut Vec<u8>, string: &str) {
    match string.len() {
        length @ ..127 => bytes.push(length as u8),
        length => bytes.extend([127, (length - 127) as u8]),
    }
    bytes.extend(string.as_bytes());
}

fn batches(count: usize, mut write: impl FnMut(bool, &mut BytesMut)) -> VecDeque<Bytes> {
    (0..count / BATCH)
        .map(|batch| {
            let mut bytes = BytesMut::new();
            write(batch == 0, &mut bytes);
            bytes.freeze()
        })
        .collect()
}

fn own_value(id: u32) -> String {
    format!("{:08x}", id.wrapping_mul(0x9e37_79b1))
}

const ROUNDS: usize = 10;
const COUNT: usize = 50_000;

/// What no two requests have alike, if any.
const OWN_FIELD: &str = "x-request-id";

/// Requests under way at once.
const BATCH: usize = 10;

const HOST: &str = "www.example.com";

/// What a browser sends.
const FIELDS: [(&str, &str); 6] = [
    (
        "accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    ),
    ("accept-encoding", "gzip,deflate,sdch"),
    ("accept-language", "en-US,en;q=0.8"),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/38.0 Safari/537.36",
    ),
    ("referer", "https://www.example.com/"),
    ("cache-control", "max-age=0"),
];

/// 100 bytes.
const HELLO: &str = "Hello over whichever protocol it is: one hundred bytes of plain text, which are sent to who asks.\n\n";
