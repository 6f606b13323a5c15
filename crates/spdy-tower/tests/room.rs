//! Bodies are asked for pieces as there is room for them, and a stream that can send is not held up
//! by streams that cannot.

mod support;

use std::{
    convert::Infallible,
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use spdy_frame::{HeaderBlock, Version};
use spdy_session::{
    Config, OpenOptions, Received, RecvStream, SendRoom, Session, StreamError, client,
};
use spdy_tower::{Body, Builder, StreamInfo};
use tokio::{
    io::duplex,
    time::{Sleep, sleep, timeout},
};

use self::support::{Reply, head};

/// A client whose streams have narrow windows, and a server of [`Chunks`].
struct Narrow {
    session: Session,
    held: Arc<AtomicUsize>,
}

impl Narrow {
    /// Windows of a thousand bytes.
    fn start() -> Self {
        Self::of_window(1000)
    }

    fn of_window(window: u32) -> Self {
        let held = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&held);
        let service = tower::service_fn(move |request: Request<Body>| {
            let response = Response::new(Chunks::asked(&request, Arc::clone(&counted)));
            async { Ok::<_, Infallible>(response) }
        });
        let (near, far) = duplex(16 * 1024);
        tokio::spawn(Builder::new().serve_connection(far, Version::V3_1, service));
        let mut config = Config::default();
        config.limits.stream_window = window;
        config.limits.max_stream_window = 0;
        let (session, _pushes, driver) = client(near, Version::V3_1, config);
        tokio::spawn(driver);
        Self { session, held }
    }

    /// Asks for chunks, as many and as long as the path says.
    async fn open(&self, path: &str) -> RecvStream {
        let how = OpenOptions::new().fin(true);
        let head = head(Version::V3_1, "GET", path);
        let stream = self.session.open(head, how).await.unwrap();
        stream.split().0
    }

    /// Asks for bodies that it never reads.
    async fn open_stuck(&self, streams: usize, path: &str) -> Vec<RecvStream> {
        let mut stuck = Vec::new();
        for _ in 0..streams {
            let mut receive = self.open(path).await;
            let _: HeaderBlock = Reply::head(&mut receive).await.unwrap();
            stuck.push(receive);
        }
        sleep(Duration::from_secs(1)).await;
        stuck
    }
}

/// A body of a number of chunks, each of a fixed length or of the length that has room. It counts
/// the bytes that are held.
struct Chunks {
    left: usize,
    length: usize,
    room: Option<SendRoom>,
    size: Option<u64>,
    /// A short chunk comes first, and the others after a pause.
    begins_short: bool,
    pause: Option<Pin<Box<Sleep>>>,
    held: Arc<AtomicUsize>,
}

impl Chunks {
    /// `/COUNT/LENGTH` or `/COUNT/LENGTH/KIND`.
    fn asked(request: &Request<Body>, held: Arc<AtomicUsize>) -> Self {
        let mut path = request.uri().path().split('/').skip(1);
        let mut number = || path.next().unwrap().parse().unwrap();
        let (left, length): (usize, usize) = (number(), number());
        let kind = path.next().unwrap_or_default();
        let info = request.extensions().get::<StreamInfo>().unwrap();
        Self {
            left,
            length,
            room: (kind == "room").then(|| info.room()),
            begins_short: kind == "late",
            pause: None,
            size: (kind == "sized").then_some((left * length) as u64),
            held,
        }
    }
}

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if mem::take(&mut self.begins_short) {
            self.pause = Some(Box::pin(sleep(Duration::from_millis(500))));
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"short")))));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        self.left -= 1;
        let length = match &self.room {
            Some(room) => room.reserve(self.length).length(),
            None => self.length,
        };
        self.held.fetch_add(length, Ordering::Relaxed);
        let chunk = Chunk(vec![7; length], Arc::clone(&self.held));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(chunk)))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.size
            .map_or_else(Default::default, http_body::SizeHint::with_exact)
    }
}

struct Chunk(Vec<u8>, Arc<AtomicUsize>);

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.len(), Ordering::Relaxed);
    }
}

/// What all streams of a session may hold of chunks of a mebibyte, and of short ones.
const MOST: usize = 4 << 20;

#[tokio::test(start_paused = true)]
async fn streams_without_a_window_hold_less_than_their_bound_together() {
    for path in ["/9/1048576", "/9/262144/room", "/99/65536", "/999/16384"] {
        let client = Narrow::start();
        let _stuck = client.open_stuck(99, path).await;
        let held = client.held.load(Ordering::Relaxed);
        assert!((1..MOST).contains(&held), "{path}: {held}");
    }
}

/// Those that are stuck hold a mebibyte each, and most of them wait for room.
#[tokio::test(start_paused = true)]
async fn a_healthy_stream_finishes_beside_99_that_are_stuck() {
    for (healthy, bytes) in [("/1/9000/sized", 9000), ("/40/262144/room", 40 * 16_384)] {
        let client = Narrow::start();
        let _stuck = client.open_stuck(99, "/9/1048576").await;
        let receive = client.open(healthy).await;
        let reply = timeout(Duration::from_secs(20), Reply::read(receive)).await;
        let reply = reply.unwrap_or_else(|_| panic!("{healthy} is held up"));
        assert_eq!(reply.unwrap().body.len(), bytes, "{healthy}");
    }
}

/// It has shown that its pieces leave.
#[tokio::test(start_paused = true)]
async fn a_stream_of_short_chunks_goes_on_when_99_others_get_stuck() {
    let client = Narrow::start();
    let mut receive = client.open("/400/5000").await;
    let _: HeaderBlock = Reply::head(&mut receive).await.unwrap();
    let Some(Ok(Received::Data(first))) = receive.next().await else {
        panic!("there is no first chunk");
    };
    let _stuck = client.open_stuck(99, "/9/1048576").await;
    let bytes = read(receive, Duration::from_secs(20)).await;
    assert_eq!(bytes.unwrap(), 400 * 5000 - first.len());
}

/// Bodies that begin with a short chunk, and get stuck with a long one, fill the sum twice.
#[tokio::test(start_paused = true)]
async fn short_bodies_and_pieces_to_measure_wait_for_no_stream_that_is_stuck() {
    let client = Narrow::start();
    let _stuck = client.open_stuck(90, "/9/1048576/late").await;
    let held = client.held.load(Ordering::Relaxed);
    assert!((2 * 1280 * 1024..MOST).contains(&held), "{held}");
    // A piece that is made to measure is short now, because the session holds a lot.
    for (healthy, bytes) in [("/1/9000/sized", 9000), ("/40/262144/room", 40 * 4096)] {
        let receive = client.open(healthy).await;
        let reply = timeout(Duration::from_secs(20), Reply::read(receive)).await;
        let reply = reply.unwrap_or_else(|_| panic!("{healthy} is held up"));
        assert_eq!(reply.unwrap().body.len(), bytes, "{healthy}");
    }
}

/// Its chunks fit into its window, which is granted in halves: by the second the stream may go on.
#[tokio::test(start_paused = true)]
async fn a_stream_goes_on_when_its_window_is_wide_enough_whatever_the_others_hold() {
    let client = Narrow::of_window(65_536);
    let mut receive = client.open("/40/65536").await;
    let _: HeaderBlock = Reply::head(&mut receive).await.unwrap();
    let _stuck = client.open_stuck(2, "/9/1048576").await;
    let mut bytes = 0;
    while bytes < 40 * 65_536 {
        let next = timeout(Duration::from_secs(20), receive.next()).await;
        let next = next.unwrap_or_else(|_| panic!("it is held up after {bytes} bytes"));
        let Some(Ok(Received::Data(data))) = next else {
            panic!("it ends after {bytes} bytes: {next:?}");
        };
        bytes += data.len();
        // What was read is granted before more is read.
        sleep(Duration::from_millis(10)).await;
    }
}

/// What is stuck is reset when it was granted no window for `blocked`, and what waits for its room
/// goes on then.
#[tokio::test(start_paused = true)]
async fn a_stream_of_long_chunks_waits_no_longer_for_room_than_others_may_be_stuck() {
    let client = Narrow::start();
    let mut stuck = client.open_stuck(3, "/9/1048576").await;
    let receive = client.open("/2/1048576").await;
    let bytes = read(receive, Duration::from_secs(70)).await;
    assert_eq!(bytes.unwrap(), 2 << 20);
    for receive in stuck.drain(..2) {
        let end = read(receive, Duration::from_secs(20)).await;
        assert!(matches!(end, Err(StreamError::Reset { .. })), "{end:?}");
    }
}

/// Reads a body to its end, and returns how long it was.
async fn read(mut receive: RecvStream, within: Duration) -> Result<usize, StreamError> {
    let all = async {
        let mut bytes = 0;
        while let Some(received) = receive.next().await {
            if let Received::Data(data) = received? {
                bytes += data.len();
            }
        }
        Ok(bytes)
    };
    timeout(within, all).await.expect("it is held up")
}
