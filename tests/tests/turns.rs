//! How much of a body is made ahead of the transport, and what waits in front of a PING.

use std::{
    convert::Infallible,
    future::ready,
    io::IoSlice,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::Frame;
use spdy_frame::{
    DEFAULT_WINDOW, HeaderBlock, HeaderCompression, HeaderEncoder, MAX_WINDOW, Ping, Priority,
    Setting, SettingFlags, SettingId, Settings, Side, StreamId, SynStream, WindowIncrement,
    WindowTarget, WindowUpdate,
};
use spdy_session::Config;
use spdy_tests::fed::{Fed, Sink};
use spdy_tower::{Body, Builder, Version};
use tokio::task::yield_now;
use tower::service_fn;

const VERSION: Version = Version::V3_1;

/// The length of the pieces of the body.
const PIECE: usize = 16 * 1024;

/// What is ready for the transport at most: `docs/limits.md`.
const READY: usize = 65_000;

#[tokio::test(start_paused = true)]
async fn a_body_is_read_further_ahead_while_the_transport_takes_everything() {
    let made = Arc::new(AtomicUsize::new(0));
    let transport = counting(Arc::clone(&made));
    let body = Arc::clone(&made);
    let service = service_fn(move |_: Request<Body>| {
        ready(Ok::<_, Infallible>(Response::new(Endless(Arc::clone(
            &body,
        )))))
    });
    let mut config = Config::default();
    // Otherwise the limit of the session would be the one that is seen.
    config.limits.session_send_queue = 1 << 20;
    let builder = Builder::new().config(config);
    let connection = builder.serve_connection(transport.clone(), VERSION, service);
    let mut connection = pin!(connection);
    let mut polls = async |number| {
        transport.sink(|it| it.deepest = 0);
        for _ in 0..number {
            let cx = &mut Context::from_waker(Waker::noop());
            assert!(connection.as_mut().poll(cx).is_pending());
            yield_now().await;
        }
        transport.sink(|it| it.deepest)
    };
    transport.feed(request());

    // It grows from 64 KiB to 256 KiB, and no further.
    transport.sink(|it| it.takes = usize::MAX);
    let first = polls(1).await;
    assert!(first <= 64 * 1024 + PIECE, "{first} bytes at first");
    let most = polls(20).await;
    assert!(most > 192 * 1024, "{most} bytes ahead");
    assert!(most <= 256 * 1024 + PIECE, "{most} bytes ahead");
    let longest = transport.sink(|it| it.longest);
    assert!(
        (64_000..=READY).contains(&longest),
        "{longest} bytes in a write"
    );

    // It shrinks at once when the transport takes less than everything. What was made is kept.
    transport.sink(|it| it.takes = 100_000);
    polls(5).await;
    let held = held_by(&transport);
    assert!(held <= 256 * 1024 + PIECE + READY, "{held} bytes are held");
    while held_by(&transport) > 64 * 1024 + READY {
        let held = held_by(&transport);
        transport.sink(|it| it.takes = 1000);
        polls(5).await;
        assert!(
            held_by(&transport) < held,
            "a piece is made of {held} bytes"
        );
    }
    for _ in 0..50 {
        transport.sink(|it| it.takes = 10_000);
        polls(5).await;
        let held = held_by(&transport);
        assert!(held <= 64 * 1024 + PIECE + READY, "{held} bytes are held");
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_waits_behind_one_turn_at_most() {
    let made = Arc::new(AtomicUsize::new(0));
    let transport = counting(Arc::clone(&made));
    let service = service_fn(move |_: Request<Body>| {
        ready(Ok::<_, Infallible>(Response::new(Endless(Arc::clone(
            &made,
        )))))
    });
    let connection = Builder::new().serve_connection(transport.clone(), VERSION, service);
    let mut connection = pin!(connection);
    let mut polls = async |number| {
        for _ in 0..number {
            let cx = &mut Context::from_waker(Waker::noop());
            assert!(connection.as_mut().poll(cx).is_pending());
            yield_now().await;
        }
    };
    transport.feed(request());
    transport.sink(|it| it.takes = usize::MAX);
    polls(20).await;
    transport.sink(|it| it.takes = 0);
    polls(5).await;
    assert!(held_by(&transport) > 192 * 1024, "much is queued");

    transport.feed(ping());
    polls(5).await;
    transport.sink(|it| {
        it.log = Some(Vec::new());
        it.takes = usize::MAX;
    });
    polls(1).await;
    let log = transport.sink(|it| it.log.take().unwrap());
    let position = log.windows(12).position(|frame| frame == &ping()[..]);
    let position = position.expect("the PING is answered");
    assert!(
        position <= READY,
        "the answer waits behind {position} bytes"
    );
}

/// A client that sends a request, with the largest windows.
fn request() -> Bytes {
    let mut written = BytesMut::new();
    let windows = Setting {
        id: SettingId::INITIAL_WINDOW_SIZE,
        flags: SettingFlags::default(),
        value: MAX_WINDOW,
    };
    let settings = Settings {
        clear: false,
        entries: vec![windows],
    };
    settings.encode(VERSION, &mut written);
    WindowUpdate {
        target: WindowTarget::Session,
        increment: WindowIncrement::new(MAX_WINDOW - DEFAULT_WINDOW).unwrap(),
    }
    .encode(VERSION, &mut written);
    let block = HeaderBlock::from_pairs([
        (":method", "GET"),
        (":path", "/"),
        (":version", "HTTP/1.1"),
        (":host", "a.test"),
        (":scheme", "http"),
    ]);
    let frame = SynStream {
        stream: StreamId::first(Side::Client),
        associated: None,
        priority: Priority::default(),
        fin: true,
        unidirectional: false,
        block: &block.unwrap(),
    };
    HeaderEncoder::new(VERSION, HeaderCompression::Indexed)
        .encode_syn_stream(&frame, &mut written)
        .unwrap();
    written.freeze()
}

fn ping() -> Bytes {
    let mut written = BytesMut::new();
    Ping { id: 1_234_567 }.encode(VERSION, &mut written);
    written.freeze()
}

/// A body without an end. It counts the bytes that it has made.
struct Endless(Arc<AtomicUsize>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.fetch_add(PIECE, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; PIECE])))))
    }
}

type Transport = Fed<Counting>;

/// Takes a number of bytes, and then no more.
struct Counting {
    takes: usize,
    written: usize,
    log: Option<Vec<u8>>,
    made: Arc<AtomicUsize>,
    /// The most bytes that were made and not written when something was written.
    deepest: usize,
    /// The most bytes of one write.
    longest: usize,
}

fn counting(made: Arc<AtomicUsize>) -> Transport {
    Fed::new(Counting {
        takes: 0,
        written: 0,
        log: None,
        made,
        deepest: 0,
        longest: 0,
    })
}

fn held_by(transport: &Transport) -> usize {
    transport.sink(|it| it.held())
}

impl Counting {
    /// Returns how many bytes were made and not written.
    fn held(&self) -> usize {
        // Heads of frames are written as well.
        let made = self.made.load(Ordering::Relaxed);
        made.saturating_sub(self.written)
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.takes);
        self.takes -= taken;
        self.written += taken;
        if let Some(log) = &mut self.log {
            log.extend_from_slice(&bytes[..taken]);
        }
        taken
    }
}

impl Sink for Counting {
    fn take(&mut self, pieces: &[IoSlice<'_>]) -> usize {
        self.deepest = self.deepest.max(self.held());
        let offered = pieces.iter().map(|piece| piece.len()).sum();
        self.longest = self.longest.max(offered);
        pieces.iter().map(|piece| self.write(piece)).sum()
    }
}
