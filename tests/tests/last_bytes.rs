//! The last bytes of a peer that closes its connection: they lie in the buffers of the system, and
//! neither side may destroy them.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use spdy_frame::{GoAwayStatus, RstStatus, Version};
use spdy_session::{
    Config, FlowControl, HeaderBlock, OpenOptions, Received as Piece, RecvStream, Session,
    SessionError, Shutdown, Stream, StreamError, Timeout,
};
use spdy_tests::{
    frames,
    wire::{Received, Wire},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, BufWriter, DuplexStream, ReadBuf, duplex},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

// --- the side that closes ------------------------------------------------------------------------

/// A server that has written a response and ends in order. Its transport took everything, and the
/// peer has read nothing.
async fn written(version: Version) -> (JoinHandle<Result<(), SessionError>>, Wire<DuplexStream>) {
    let (_, driver, peer) = written_with(version, Config::default()).await;
    (driver, peer)
}

async fn written_with(
    version: Version,
    config: Config,
) -> (
    Session,
    JoinHandle<Result<(), SessionError>>,
    Wire<DuplexStream>,
) {
    let (near, far) = duplex(1 << 20);
    written_to(near, far, version, config).await
}

async fn written_to(
    near: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    far: DuplexStream,
    version: Version,
    config: Config,
) -> (
    Session,
    JoinHandle<Result<(), SessionError>>,
    Wire<DuplexStream>,
) {
    let (session, mut incoming, driver) = spdy_session::server(near, version, config);
    let driver = tokio::spawn(driver);
    let mut peer = Wire::new(far, version);
    peer.send(frames::syn_stream(version, 1).get("/").fin())
        .await;
    let stream = incoming.accept().await.unwrap();
    let mut stream = stream
        .split()
        .1
        .send_reply(HeaderBlock::new(), false)
        .unwrap();
    stream
        .send_data(Bytes::from(vec![7; 50_000]), true)
        .unwrap();
    stream.written().await.unwrap();
    session.shutdown(Shutdown::Graceful { deadline: None });
    (session, driver, peer)
}

/// A response has left, and behind it a download keeps the transport full. The peer cancels the
/// download and leaves: it has all that it wanted.
#[tokio::test(start_paused = true)]
async fn a_response_that_has_left_is_not_lost_because_the_transport_was_full_behind_it() {
    for version in Version::ALL {
        let (near, far) = duplex(2000);
        let (_session, mut incoming, driver) =
            spdy_session::server(near, version, Config::default());
        let driver = tokio::spawn(driver);
        let mut peer = Wire::new(far, version);
        for stream in [1, 3] {
            let request = frames::syn_stream(version, stream).get("/").fin();
            peer.send(request).await;
        }
        let mut replies = Vec::new();
        for _ in 0..2 {
            let stream = incoming.accept().await.unwrap();
            let reply = stream.split().1.send_reply(HeaderBlock::new(), false);
            replies.push(reply.unwrap());
        }
        let (mut download, mut small) = (replies.pop().unwrap(), replies.pop().unwrap());
        small.send_data(Bytes::from_static(b"small"), true).unwrap();
        download.send_data(vec![7; 50_000].into(), false).unwrap();
        small.written().await.unwrap();
        let is_end = |frame: &Received| {
            matches!(
                frame,
                Received::Data {
                    stream: 1,
                    fin: true,
                    ..
                }
            )
        };
        peer.recv_until(is_end).await;
        peer.send(frames::rst_stream(version, 3, RstStatus::CANCEL))
            .await;
        peer.send(frames::go_away(version, 0, GoAwayStatus::OK))
            .await;
        drop(peer);
        let end = driver.await.unwrap();
        assert!(end.is_ok(), "{version}: {end:?}");
    }
}

/// Reads to the end, and returns the length of the payload.
async fn rest(peer: &mut Wire<DuplexStream>) -> usize {
    let frames = peer.recv_all().await;
    let length = frames.iter().map(|frame| match frame {
        Received::Data { payload, .. } => payload.len(),
        _ => 0,
    });
    length.sum()
}

/// The same, but the transport holds what it took, as TLS does, and has room for little at a time.
async fn held(
    version: Version,
) -> (
    Session,
    JoinHandle<Result<(), SessionError>>,
    Wire<DuplexStream>,
) {
    held_with(version, Config::default()).await
}

async fn held_with(
    version: Version,
    config: Config,
) -> (
    Session,
    JoinHandle<Result<(), SessionError>>,
    Wire<DuplexStream>,
) {
    let (near, far) = duplex(64);
    let near = BufWriter::with_capacity(80 * 1024, near);
    written_to(near, far, version, config).await
}

#[tokio::test(start_paused = true)]
async fn bytes_that_the_transport_holds_have_as_long_as_any_write() {
    for version in Version::ALL {
        let (_session, driver, mut peer) = held(version).await;
        sleep(Duration::from_secs(25)).await;
        assert!(!driver.is_finished(), "{version}: the bytes are lost");
        assert_eq!(rest(&mut peer).await, 50_000, "{version}");
        drop(peer);
        driver.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_the_last_bytes_in_the_transport_is_a_write_that_timed_out() {
    for version in Version::ALL {
        let (_session, driver, _peer) = held(version).await;
        let start = Instant::now();
        let end = driver.await.unwrap();
        let timed_out = matches!(end, Err(SessionError::TimedOut(Timeout::Write)));
        assert!(timed_out, "{version}: {end:?}");
        assert_eq!(start.elapsed().as_secs(), 30, "{version}");
    }
}

/// The application has ordered the end, and then waits no longer.
#[tokio::test(start_paused = true)]
async fn bytes_that_the_transport_holds_do_not_delay_an_end_at_once() {
    for version in Version::ALL {
        for (order, end) in [(5, 1005), (10_000, 11_000), (29_500, 30_000)] {
            let (session, driver, _peer) = held(version).await;
            let start = Instant::now();
            sleep(Duration::from_millis(order)).await;
            session.shutdown(Shutdown::Now);
            let outcome = driver.await.unwrap();
            assert!(outcome.is_err(), "{version}");
            let taken = start.elapsed().as_millis();
            assert!((end..end + 10).contains(&taken), "{version}: {taken}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_the_transport_holds_are_not_waited_for_for_ever_without_a_limit_for_writes() {
    let version = Version::V3_1;
    let (hours, hundred) = (Duration::from_secs(4 * 3600), Duration::from_secs(100));
    for (write, trickle, seconds) in [
        (None, Some(hundred), 100),
        (None, None, 300),
        // While the session goes on, a write may take long.
        (Some(hours), Some(hundred), 100),
        (Some(hours), None, 300),
    ] {
        let mut config = Config::default();
        config.timeouts.write = write;
        config.timeouts.trickle = trickle;
        let (_session, driver, _peer) = held_with(version, config).await;
        let start = Instant::now();
        let end = timeout(Duration::from_secs(1000), driver).await;
        let end = end.expect("the session goes on").unwrap();
        let timed_out = matches!(end, Err(SessionError::TimedOut(Timeout::Write)));
        assert!(timed_out, "{end:?}");
        assert_eq!(start.elapsed().as_secs(), seconds);
    }
}

/// Each piece of credit shows that the peer reads on.
#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_slowly_has_as_long_as_it_reads() {
    for version in [Version::V3, Version::V3_1] {
        let (driver, mut peer) = written(version).await;
        for _ in 0..25 {
            sleep(Duration::from_secs(4)).await;
            peer.send(frames::window_update(version, 1, 2000)).await;
            assert!(!driver.is_finished(), "the transport is open");
        }
        assert_eq!(rest(&mut peer).await, 50_000);
        let end = Instant::now();
        drop(peer);
        driver.await.unwrap().unwrap();
        assert_eq!(
            end.elapsed(),
            Duration::ZERO,
            "the server does not wait for a peer that has closed"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_close_is_not_waited_for_for_long() {
    for version in Version::ALL {
        // It is silent.
        let (driver, _peer) = written(version).await;
        let start = Instant::now();
        driver.await.unwrap().unwrap();
        assert_eq!(start.elapsed().as_secs(), 5);

        // It is not.
        let (driver, mut peer) = written(version).await;
        let start = Instant::now();
        while !driver.is_finished() {
            peer.send(frames::noop(version)).await;
            sleep(Duration::from_secs(1)).await;
        }
        driver.await.unwrap().unwrap();
        assert!((300..=301).contains(&start.elapsed().as_secs()));
    }
}

/// Sends something each second until the session has ended, and returns the seconds.
async fn dribble(
    driver: JoinHandle<Result<(), SessionError>>,
    mut peer: Wire<DuplexStream>,
    version: Version,
) -> u64 {
    let start = Instant::now();
    while !driver.is_finished() {
        peer.send(frames::noop(version)).await;
        sleep(Duration::from_secs(1)).await;
    }
    start.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_goes_on_is_not_listened_to_for_ever_without_a_limit_for_slow_ones() {
    let version = Version::V3_1;
    let mut config = Config::default();
    config.timeouts.trickle = None;
    let (_session, driver, peer) = written_with(version, config).await;
    let waited = dribble(driver, peer, version).await;
    assert!((300..=301).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_ended_at_once_does_not_wait_for_a_peer_that_goes_on() {
    for version in Version::ALL {
        let (session, driver, peer) = written_with(version, Config::default()).await;
        sleep(Duration::from_secs(2)).await;
        assert!(!driver.is_finished());
        session.shutdown(Shutdown::Now);
        let waited = dribble(driver, peer, version).await;
        assert!((1..=2).contains(&waited), "{waited}");
    }
}

/// However short the wait after an orderly end is.
#[tokio::test(start_paused = true)]
async fn a_session_that_has_failed_lingers_although_its_peer_goes_on() {
    let version = Version::V3_1;
    let mut config = Config::default();
    config.timeouts.close = Duration::ZERO;
    config.timeouts.linger = Duration::from_secs(3);
    let (near, far) = duplex(1 << 20);
    let (_session, _incoming, driver) = spdy_session::server(near, version, config);
    let driver = tokio::spawn(driver);
    let mut peer = Wire::new(far, version);
    peer.send(frames::ping(version, 1).length(3)).await;
    let waited = dribble(driver, peer, version).await;
    assert!((3..=4).contains(&waited), "{waited}");
}

// --- the side that reads -------------------------------------------------------------------------

/// A transport that takes no more bytes when `is_broken`, as that of a peer that has closed.
struct Breaking {
    io: DuplexStream,
    is_broken: Arc<AtomicBool>,
}

impl AsyncRead for Breaking {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Breaking {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_broken.load(Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A client, and the peer of its transport.
struct Client {
    session: Session,
    driver: JoinHandle<Result<(), SessionError>>,
    peer: Wire<DuplexStream>,
    is_broken: Arc<AtomicBool>,
}

impl Client {
    fn new(version: Version) -> Self {
        Self::with(version, Config::default())
    }

    fn with(version: Version, config: Config) -> Self {
        let (near, far) = duplex(1 << 20);
        let is_broken = Arc::<AtomicBool>::default();
        let io = Breaking {
            io: near,
            is_broken: Arc::clone(&is_broken),
        };
        let (session, _, driver) = spdy_session::client(io, version, config);
        Self {
            session,
            driver: tokio::spawn(driver),
            peer: Wire::new(far, version),
            is_broken,
        }
    }

    /// Opens a stream, and waits until the peer has its first frame.
    async fn open(&mut self, fin: bool) -> Stream {
        let mut how = OpenOptions::default();
        how.fin = fin;
        let stream = self.session.open(HeaderBlock::new(), how).await.unwrap();
        let is_request = |frame: &Received| matches!(frame, Received::SynStream { .. });
        self.peer.recv_until(is_request).await;
        stream
    }

    /// The peer answers in full, closes, and its transport takes nothing more. The client has not
    /// run since, and reads less than this in one turn.
    async fn answered(&mut self, version: Version, stream: u32) {
        self.peer.send(frames::syn_reply(version, stream)).await;
        for _ in 0..24 {
            self.peer.send(frames::data(stream, vec![7; 10_000])).await;
        }
        self.peer.send(frames::data(stream, "").fin()).await;
        self.peer.shutdown().await;
        self.is_broken.store(true, Relaxed);
    }
}

/// Reads a body slowly, so that credit is written while the body is in the transport.
async fn length(stream: &mut RecvStream) -> Result<usize, StreamError> {
    let mut length = 0;
    while let Some(piece) = stream.next().await {
        if let Piece::Data(data) = piece? {
            length += data.len();
        }
        sleep(Duration::from_secs(1)).await;
    }
    Ok(length)
}

#[tokio::test(start_paused = true)]
async fn a_response_that_has_arrived_is_read_though_credit_cannot_be_written() {
    for version in Version::ALL {
        let mut client = Client::new(version);
        let (mut receive, _send) = client.open(true).await.split();
        client.answered(version, 1).await;
        let ping = client.session.ping().await;
        assert!(matches!(ping, Err(SessionError::Io(_))), "{ping:?}");
        assert_eq!(length(&mut receive).await.unwrap(), 240_000);
        let end = client.driver.await.unwrap();
        assert!(matches!(end, Err(SessionError::Io(_))), "{end:?}");
    }
}

/// The response says why the rest of the request is not wanted.
#[tokio::test(start_paused = true)]
async fn an_early_response_is_read_though_the_request_cannot_be_written() {
    for version in Version::ALL {
        let mut client = Client::new(version);
        let (mut receive, mut send) = client.open(false).await.split();
        client.answered(version, 1).await;
        send.send_data(Bytes::from_static(b"the rest"), true)
            .unwrap();
        let (length, written) = tokio::join!(length(&mut receive), send.written());
        assert_eq!(length.unwrap(), 240_000);
        assert!(written.is_err(), "the rest has not left");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_the_peer_has_not_finished_fails_and_no_other_is_opened() {
    for version in Version::ALL {
        let mut client = Client::new(version);
        let (mut receive, _send) = client.open(true).await.split();
        client.peer.send(frames::syn_reply(version, 1)).await;
        client.peer.send(frames::data(1, vec![7; 10_000])).await;
        client.is_broken.store(true, Relaxed);
        let start = Instant::now();
        let how = OpenOptions::default();
        let other = client.session.open(HeaderBlock::new(), how).await;
        let other = other.unwrap().closed().await;
        assert!(
            matches!(other, StreamError::Session(SessionError::Io(_))),
            "{other:?}"
        );
        let third = client.session.open(HeaderBlock::new(), how).await;
        assert!(third.is_err(), "{third:?}");
        // The peer neither sends nor closes.
        assert_eq!(start.elapsed().as_secs(), 1);
        let read = length(&mut receive).await;
        assert!(read.is_err(), "{read:?}");
        let end = client.driver.await.unwrap();
        assert!(matches!(end, Err(SessionError::Io(_))), "{end:?}");
    }
}

/// Without windows a transport is not read while the application does not. So a connection that is
/// lost waits for the application, which can be slow, and not for ever.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_learns_that_its_connection_is_lost() {
    let version = Version::V3_1;
    for reads in [false, true] {
        let mut config = Config::default();
        config.flow_control = FlowControl::Off;
        let mut client = Client::with(version, config);
        let (mut receive, _send) = client.open(true).await.split();
        client.peer.send(frames::syn_reply(version, 1)).await;
        for _ in 0..90 {
            client.peer.send(frames::data(1, vec![7; 10_000])).await;
        }
        client.peer.send(frames::data(1, "").fin()).await;
        client.peer.shutdown().await;
        client.is_broken.store(true, Relaxed);
        let start = Instant::now();
        if reads {
            assert_eq!(length(&mut receive).await.unwrap(), 900_000);
        } else {
            // A probe finds that nothing can be written.
            let lost = client.session.closed().await;
            assert!(matches!(lost, Err(SessionError::Io(_))), "{lost:?}");
            let waited = start.elapsed().as_secs();
            assert!((10..=11).contains(&waited), "{waited}");
        }
    }
}
