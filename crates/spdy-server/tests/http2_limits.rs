//! Each limit of HTTP/2, reached by a client that writes frames itself, and kept to by one that
//! stops there.

use std::{future::pending, time::Duration};

use axum::{Router, body::Body, routing::post};
use spdy_server::{Config, Http2, auto};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::timeout,
};

/// A client without limits of its own.
struct Peer(DuplexStream);

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The stream was reset.
    Reset { stream: u32, code: u32 },
    /// The connection ends.
    GoAway { code: u32 },
    /// Nothing has to be answered.
    Fine,
}

impl Peer {
    /// Connects to a server whose handlers do not read bodies, and never answer.
    async fn new(http2: Http2) -> Self {
        let (near, far) = duplex(1 << 20);
        let holds = post(async |_unread: Body| pending::<()>().await);
        let config = Config {
            http2,
            ..Config::default()
        };
        let app = Router::new().route("/", holds);
        tokio::spawn(auto::Builder::with_config(&config).serve_connection(far, app));
        let mut peer = Self(near);
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        peer.0.write_all(preface).await.unwrap();
        // Windows apply to a client that has acknowledged them.
        peer.send(frame(SETTINGS, 0, 0, &[])).await;
        peer.send(frame(SETTINGS, ACK, 0, &[])).await;
        assert_eq!(peer.answer().await, Answer::Fine);
        peer
    }

    async fn send(&mut self, frames: Vec<u8>) {
        self.0.write_all(&frames).await.unwrap();
    }

    /// Returns the answer to everything that was sent.
    async fn answer(&mut self) -> Answer {
        loop {
            let mut head = [0; 9];
            // On the paused clock this means that the server has nothing left to do.
            match timeout(Duration::from_secs(1), self.0.read_exact(&mut head)).await {
                Ok(read) => _ = read.expect("the connection has ended"),
                Err(_) => return Answer::Fine,
            }
            let [high, middle, low, kind, _, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
            self.0.read_exact(&mut payload).await.unwrap();
            let number = |at: usize| u32::from_be_bytes(payload[at..][..4].try_into().unwrap());
            match kind {
                RST_STREAM => {
                    return Answer::Reset {
                        stream: u32::from_be_bytes(stream),
                        code: number(0),
                    };
                }
                GOAWAY => return Answer::GoAway { code: number(4) },
                _ => {}
            }
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()];
    [&head.concat(), payload].concat()
}

/// Returns the head of a request, whose body is still to come.
fn request(stream: u32) -> Vec<u8> {
    // `:method` POST, `:scheme` http, `:path` /, all of the static table, and `:authority`.
    frame(HEADERS, END_HEADERS, stream, b"\x83\x86\x84\x01\x01a")
}

/// Returns a whole request whose target has this length, of 255 bytes or more.
fn request_for(length: usize, stream: u32) -> Vec<u8> {
    // `:method` GET, `:scheme` http, `:authority`, and the name of `:path`.
    let mut block = b"\x82\x86\x01\x01a\x04\x7f".to_vec();
    let mut rest = length - 127;
    while rest >= 128 {
        block.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    block.push(rest as u8);
    block.push(b'/');
    block.resize(block.len() + length - 1, b'p');
    let count = block.len().div_ceil(16_384);
    let pieces = block.chunks(16_384).enumerate().map(|(number, piece)| {
        let (kind, first) = if number == 0 {
            (HEADERS, END_STREAM)
        } else {
            (CONTINUATION, 0)
        };
        let last = if number + 1 == count { END_HEADERS } else { 0 };
        frame(kind, first | last, stream, piece)
    });
    pieces.collect::<Vec<_>>().concat()
}

fn data(stream: u32, length: usize) -> Vec<u8> {
    let pieces: Vec<u8> = vec![0; length];
    let pieces = pieces.chunks(16_384);
    pieces
        .flat_map(|piece| frame(DATA, 0, stream, piece))
        .collect()
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// The ids of this many streams of a client.
fn streams(count: usize) -> impl Iterator<Item = u32> {
    (1..).step_by(2).take(count)
}

#[tokio::test(start_paused = true)]
async fn a_target_beyond_its_limit_is_reset() {
    let mut peer = Peer::new(Http2::default()).await;
    peer.send(request_for(65_534, 1)).await;
    assert_eq!(peer.answer().await, Answer::Fine);
    peer.send(request_for(65_535, 3)).await;
    let (stream, code) = (3, PROTOCOL_ERROR);
    assert_eq!(peer.answer().await, Answer::Reset { stream, code });
}

#[tokio::test(start_paused = true)]
async fn streams_beyond_max_streams_are_refused() {
    let mut peer = Peer::new(Http2 {
        max_streams: 3,
        ..Http2::default()
    })
    .await;
    for stream in [1, 3, 5] {
        peer.send(request(stream)).await;
        assert_eq!(peer.answer().await, Answer::Fine);
    }
    for stream in [7, 9] {
        peer.send(request(stream)).await;
        let code = REFUSED_STREAM;
        assert_eq!(peer.answer().await, Answer::Reset { stream, code });
        assert_eq!(peer.answer().await, Answer::Fine);
    }
    peer.send(reset(3)).await;
    peer.send(request(11)).await;
    assert_eq!(peer.answer().await, Answer::Fine);
}

#[tokio::test(start_paused = true)]
async fn a_stream_beyond_its_window_ends_alone() {
    let mut peer = Peer::new(Http2 {
        stream_window: 20_000,
        ..Http2::default()
    })
    .await;
    peer.send([request(1), data(1, 20_000), request(3)].concat())
        .await;
    assert_eq!(peer.answer().await, Answer::Fine);
    peer.send(data(1, 1)).await;
    let expected = Answer::Reset {
        stream: 1,
        code: FLOW_CONTROL_ERROR,
    };
    assert_eq!(peer.answer().await, expected);
    peer.send(data(3, 20_000)).await;
    assert_eq!(peer.answer().await, Answer::Fine);
}

#[tokio::test(start_paused = true)]
async fn a_connection_beyond_its_window_ends() {
    for (beyond, expected) in [
        (0, Answer::Fine),
        (
            1,
            Answer::GoAway {
                code: FLOW_CONTROL_ERROR,
            },
        ),
    ] {
        let mut peer = Peer::new(Http2 {
            connection_window: 100_000,
            ..Http2::default()
        })
        .await;
        let bodies = [data(1, 60_000), data(3, 40_000 + beyond)];
        peer.send([request(1), request(3), bodies.concat()].concat())
            .await;
        assert_eq!(peer.answer().await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_a_larger_frame_than_max_frame_ends() {
    for (beyond, expected) in [
        (0, Answer::Fine),
        (
            1,
            Answer::GoAway {
                code: FRAME_SIZE_ERROR,
            },
        ),
    ] {
        let mut peer = Peer::new(Http2 {
            max_frame: 20_000,
            ..Http2::default()
        })
        .await;
        let large = frame(DATA, 0, 1, &vec![0; 20_000 + beyond]);
        peer.send([request(1), large].concat()).await;
        assert_eq!(peer.answer().await, expected);
    }
}

/// The server gets them all with one read, and looks at none before it has read all.
#[tokio::test(start_paused = true)]
async fn a_connection_with_more_pending_resets_ends() {
    for (beyond, expected) in [
        (0, Answer::Fine),
        (
            1,
            Answer::GoAway {
                code: ENHANCE_YOUR_CALM,
            },
        ),
    ] {
        let mut peer = Peer::new(Http2 {
            max_pending_resets: 5,
            ..Http2::default()
        })
        .await;
        let given_up = streams(5 + beyond).flat_map(|stream| [request(stream), reset(stream)]);
        peer.send(given_up.collect::<Vec<_>>().concat()).await;
        assert_eq!(peer.answer().await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_more_streams_in_error_ends() {
    let mut peer = Peer::new(Http2 {
        max_error_resets: 4,
        ..Http2::default()
    })
    .await;
    // Without `:path`.
    let wrong = |stream| frame(HEADERS, END_HEADERS, stream, b"\x83\x86\x01\x01a");
    for stream in streams(4) {
        peer.send(wrong(stream)).await;
        let code = PROTOCOL_ERROR;
        assert_eq!(peer.answer().await, Answer::Reset { stream, code });
        assert_eq!(peer.answer().await, Answer::Fine);
    }
    peer.send(wrong(9)).await;
    let code = ENHANCE_YOUR_CALM;
    assert_eq!(peer.answer().await, Answer::GoAway { code });
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;
