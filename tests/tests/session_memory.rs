//! How much memory a session holds while its peer does its worst, counted by the allocator.
//!
//! The session, its application and the peer run on one thread, over a transport in memory; what
//! the peer and the transport allocate is not counted. Time is virtual, so that the speed of the
//! machine changes neither the order of what happens nor the round trip by which windows grow.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use allocation_counter::{AllocationInfo, measure, opt_out};
use flate2::{Compress, Compression, FlushCompress};
use spdy_frame::{Version, WindowTarget};
use spdy_session::{Config, HeaderBlock, Incoming, Limits, RecvStream, SendReply};
use spdy_tests::{
    frames::{self, RawFrame, StoredBlocks},
    wire::{Reader, Received},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    runtime::Runtime,
    task::JoinSet,
    time::{sleep, timeout},
};

/// Everything at once: headers to the limit, payload cut so that it pins as much as possible, the
/// smallest pieces and header blocks between them, answers that must not be sent yet, replies that
/// are not read, and half a frame.
#[test]
fn all_limits_reached_at_once_stay_within_session_memory() {
    for version in Version::ALL {
        let bound = Limits::default().session_memory();
        let info = attack(version, Handler::Writes, worst);
        println!("{version}: {} of {bound} bytes at the peak", info.bytes_max);
        assert!((info.bytes_max as usize) < bound, "{version}: {info:?}");
        assert!(
            info.bytes_max > 2_000_000,
            "the attack has hit nothing: {info:?}"
        );
    }
}

/// The same after windows have grown to their maximum.
#[test]
fn all_limits_reached_with_grown_windows_stay_within_session_memory() {
    for version in [Version::V3, Version::V3_1] {
        let bound = Limits::default().session_memory();
        let info = attack(version, Handler::Writes, move |mut peer: Peer| async move {
            let (stream, pieces) = match version {
                Version::V3_1 => (2 << 20, 370),
                _ => (512 << 10, 90),
            };
            peer.grow(stream, pieces * 11_000).await;
            worst_after(peer, 1, pieces as usize).await
        });
        println!("{version}: {} of {bound} bytes at the peak", info.bytes_max);
        assert!((info.bytes_max as usize) < bound, "{version}: {info:?}");
        let least = if version == Version::V3_1 {
            8_000_000
        } else {
            2_000_000
        };
        assert!(
            info.bytes_max > least,
            "the attack has hit nothing: {info:?}"
        );
    }
}

#[test]
fn the_bound_of_the_default_is_below_22_mebibytes_and_13_with_fixed_windows() {
    let mut limits = Limits::default();
    assert!(limits.session_memory() < 22 << 20);
    limits.max_session_window = 0;
    assert!(limits.session_memory() < 13 << 20);
}

/// Rows 9 and 10: the bookkeeping of many small pieces is no larger than what they count for.
#[test]
fn s09_unread_single_bytes_take_no_more_memory_than_the_window() {
    for version in Version::ALL {
        let info = attack(version, Handler::Idles, move |mut peer: Peer| async move {
            peer.send(frames::syn_stream(version, 1).post("/")).await;
            let byte = frames::data(1, "x").bytes(&mut peer.blocks);
            // As many as the window of one stream takes.
            peer.send_bytes(&byte.repeat(262_143)).await;
            peer
        });
        println!("{version}: {} bytes at the peak", info.bytes_max);
        assert!(info.bytes_max < 1_000_000, "{version}: {info:?}");
    }
}

/// Rows 9 and 10: as much for what is echoed to a peer that does not read.
#[test]
fn s09_echoed_single_bytes_take_no_more_memory_than_the_send_queue() {
    for version in Version::ALL {
        let info = attack(version, Handler::Echoes, move |mut peer: Peer| async move {
            if version != Version::V2 {
                peer.send(frames::settings(version, &[(7, 0)])).await;
            }
            peer.send(frames::syn_stream(version, 1).post("/")).await;
            let byte = frames::data(1, "x").bytes(&mut peer.blocks);
            let junk = frames::control(version, 4711, vec![0; 30_000]).bytes(&mut peer.blocks);
            for _ in 0..100 {
                peer.send_bytes(&byte.repeat(1000)).await;
                peer.send_bytes(&byte).await;
                peer.send_bytes(&junk).await;
            }
            peer
        });
        println!("{version}: {} bytes at the peak", info.bytes_max);
        assert!(info.bytes_max < 1_000_000, "{version}: {info:?}");
    }
}

/// Row 9: a slice of a few bytes would keep the whole buffer that it was read into.
#[test]
fn s09_a_few_bytes_on_each_stream_do_not_pin_a_buffer_each() {
    for version in Version::ALL {
        let info = attack(version, Handler::Idles, move |mut peer: Peer| async move {
            for stream in 0..100 {
                peer.send(frames::syn_stream(version, 2 * stream + 1).post("/"))
                    .await;
            }
            let junk = frames::control(version, 4711, vec![0; 250_000]).bytes(&mut peer.blocks);
            for stream in 0..100 {
                for _ in 0..3 {
                    peer.send_bytes(&junk).await;
                    peer.send(frames::data(2 * stream + 1, "6bytes")).await;
                }
            }
            peer
        });
        println!("{version}: {} bytes at the peak", info.bytes_max);
        assert!(info.bytes_max < 1_000_000, "{version}: {info:?}");
    }
}

/// Row 3: what a field or a block takes besides its bytes is counted.
#[test]
fn s03_tiny_header_blocks_are_charged_for_what_they_take() {
    for version in Version::ALL {
        let info = attack(version, Handler::Idles, move |mut peer: Peer| async move {
            peer.send(frames::syn_stream(version, 1).post("/")).await;
            let tiny = frames::headers(version, 1).field("a", "");
            for _ in 0..40_000 {
                let bytes = [
                    tiny.bytes(&mut peer.blocks),
                    frames::data(1, "x").bytes(&mut peer.blocks),
                ];
                if !peer.try_send_bytes(&bytes.concat()).await {
                    break;
                }
            }
            peer
        });
        println!("{version}: {} bytes at the peak", info.bytes_max);
        assert!(info.bytes_max < 2_000_000, "{version}: {info:?}");
    }
}

/// Row 1: inflating stops at the hard limit, and holds no more than the soft one meanwhile.
#[test]
fn s01_a_bomb_takes_no_more_than_the_soft_limit() {
    for version in Version::ALL {
        // 64 MiB in 64 KiB; the session sees one MiB of it.
        let bomb = bomb(version, 64 << 20);
        assert!(bomb.len() < 100_000);
        let info = attack(version, Handler::Idles, move |mut peer: Peer| async move {
            let frame = frames::syn_stream(version, 1).compressed_block(bomb);
            peer.send(frame).await;
            peer.expect_end().await;
            peer
        });
        println!("{version}: {} bytes at the peak", info.bytes_max);
        assert!(info.bytes_max < 600_000, "{version}: {info:?}");
    }
}

/// Row 2: numbers of the peer are compared with what is there before they are used.
#[test]
fn s02_large_numbers_allocate_nothing() {
    for version in Version::ALL {
        let mut settings = u32::MAX.to_be_bytes().to_vec();
        settings.extend([0; 16]);
        let attacks = [
            frames::control(version, 4, settings),
            frames::control(version, 4, []).length(0xff_ffff),
            frames::syn_stream(version, 1).length(0xff_ffff),
            frames::syn_stream(version, 1).plain_block([0xff; 64]),
            frames::data(1, "x").length(0xff_ffff),
        ];
        for frame in attacks {
            let said = frame.clone();
            let info = attack(version, Handler::Idles, move |mut peer: Peer| async move {
                peer.send(said).await;
                sleep(Duration::from_millis(5)).await;
                peer
            });
            assert!(info.bytes_max < 150_000, "{version} {frame:?}: {info:?}");
        }
    }
}

/// Row 7: replies that the peer does not read.
#[test]
fn s07_pings_from_a_peer_that_does_not_read_take_no_memory() {
    for version in Version::ALL {
        let info = attack(version, Handler::Idles, move |mut peer: Peer| async move {
            let ping = frames::ping(version, 1).bytes(&mut peer.blocks);
            while peer.try_send_bytes(&ping.repeat(100)).await {}
            peer
        });
        println!("{version}: {} bytes at the peak", info.bytes_max);
        assert!(info.bytes_max < 200_000, "{version}: {info:?}");
    }
}

async fn worst(peer: Peer) -> Peer {
    worst_after(peer, 0, 90).await
}

/// The attack after `streams` streams, with `pieces` large pieces.
async fn worst_after(mut peer: Peer, streams: u32, pieces: usize) -> Peer {
    let version = peer.version;
    let number = |n: usize| 2 * (streams + n as u32 % (100 - streams)) + 1;
    if version != Version::V2 {
        // With a window of 0 no answer can be sent.
        peer.send(frames::settings(version, &[(7, 0)])).await;
    }
    // As many small fields as a block may have, on as many streams as there may be.
    for stream in 0..100 - streams as usize {
        let frame = frames::syn_stream(version, number(stream)).post("/");
        let frame = (0..120).fold(frame, |frame, n| {
            frame.field(format!("x-{n}"), "0123456789012345678901234567890123456789")
        });
        peer.send(frame).await;
    }
    // Large pieces, each alone in the buffer that it is read into.
    for round in 0..pieces {
        let piece = frames::data(number(round), vec![7; 11_000]);
        let junk = frames::control(version, 4711, vec![0; 32 * 1024 - 11_000 - 16]);
        let unit = [piece.bytes(&mut peer.blocks), junk.bytes(&mut peer.blocks)];
        if !peer.try_send_bytes(&unit.concat()).await {
            return peer; // The transport is not read any more.
        }
        // It is read before the next one comes.
        sleep(Duration::from_millis(1)).await;
    }
    // The smallest pieces of both kinds.
    for _ in 0..500 {
        peer.send(frames::headers(version, number(0)).field("a", ""))
            .await;
        peer.send(frames::data(number(0), "x")).await;
    }
    // Half of the longest frame, and before it what is to be answered.
    let ping = frames::ping(version, 1).bytes(&mut peer.blocks);
    for _ in 0..200 {
        peer.send_bytes(&ping).await;
    }
    let half = frames::headers(version, number(0))
        .plain_block(vec![0; 200_000])
        .length(256 * 1024)
        .bytes(&mut peer.blocks);
    peer.try_send_bytes(&half).await;
    peer
}

/// What the application does with a stream.
#[derive(Clone, Copy, Debug)]
enum Handler {
    /// It keeps the request and does nothing.
    Idles,
    /// It keeps the request, and answers with more than may be queued.
    Writes,
    /// It echoes everything.
    Echoes,
}

/// Serves a session that is attacked, and counts what is allocated for it. All has to be free in
/// the end.
///
/// Nothing of the peer is counted. It reads nothing unless the attack says so.
fn attack<F>(version: Version, handler: Handler, attack: impl FnOnce(Peer) -> F) -> AllocationInfo
where
    F: Future<Output = Peer>,
{
    // What is allocated once and kept is there afterwards: the room in which the thread inflates
    // among it.
    for _ in 0..17 {
        serve(version, Handler::Echoes, warm_up);
    }
    let info = serve(version, handler, attack);
    // But for the read buffer that a thread keeps for its next session.
    assert!(
        info.bytes_current.abs() < 4096 + 65_536,
        "{version}: all memory is back: {info:?}"
    );
    info
}

async fn warm_up(mut peer: Peer) -> Peer {
    let version = peer.version;
    peer.send(frames::syn_stream(version, 1).post("/")).await;
    peer.send(frames::data(1, "x").fin()).await;
    sleep(Duration::from_millis(2)).await;
    peer
}

fn serve<F>(version: Version, handler: Handler, attack: impl FnOnce(Peer) -> F) -> AllocationInfo
where
    F: Future<Output = Peer>,
{
    let runtime = runtime();
    let (near, far) = duplex(TRANSPORT);
    let (io, near) = (Uncounted::new(far), Peer::new(version, near));
    let peer = Uncounted::new(Box::pin(async {
        let peer = attack(near).await;
        // The session does what it still can.
        sleep(Duration::from_millis(20)).await;
        drop(peer);
    }));
    measure(|| {
        runtime.block_on(async {
            let (session, incoming, driver) = spdy_session::server(io, version, Config::default());
            let served = timeout(PATIENCE, driver);
            let (end, (), ()) = tokio::join!(served, application(incoming, handler), peer);
            _ = end.expect("the session ends");
            drop(session);
        });
    })
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be built")
}

/// A future or a transport of which no allocation is counted, whatever is done with it.
struct Uncounted<T>(Option<T>);

impl<T: Unpin> Uncounted<T> {
    fn new(it: T) -> Self {
        Self(Some(it))
    }

    fn with<R>(&mut self, work: impl FnOnce(Pin<&mut T>) -> R) -> R {
        let it = Pin::new(self.0.as_mut().expect("it is there until it is dropped"));
        let mut result = None;
        opt_out(|| result = Some(work(it)));
        result.expect("the work was done")
    }
}

impl<T> Drop for Uncounted<T> {
    fn drop(&mut self) {
        let it = self.0.take();
        opt_out(|| drop(it));
    }
}

impl<F: Future + Unpin> Future for Uncounted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.get_mut().with(|future| future.poll(cx))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Uncounted<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().with(|io| io.poll_read(cx, buf))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Uncounted<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().with(|io| io.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().with(|io| io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().with(|io| io.poll_shutdown(cx))
    }
}

/// Keeps everything that it is given.
async fn application(mut incoming: Incoming, handler: Handler) {
    let mut handlers = JoinSet::new();
    while let Some(stream) = incoming.accept().await {
        let (headers, receive, reply) = stream.into_parts();
        handlers.spawn(async move {
            let mut receive = receive;
            if headers
                .get(":path")
                .is_some_and(|path| path == GROW.as_bytes())
            {
                read_until_stop(&mut receive).await;
            }
            handle(handler, receive, reply).await;
            drop(headers);
        });
    }
    handlers.shutdown().await;
}

async fn read_until_stop(receive: &mut RecvStream) {
    while let Some(Ok(spdy_session::Received::Data(piece))) = receive.next().await {
        if piece.ends_with(STOP) {
            return;
        }
    }
}

/// A stream whose payload is read up to [`STOP`], before it is done with it what is done with every
/// stream.
const GROW: &str = "/grow";
const STOP: &[u8] = b"stop";

async fn handle(handler: Handler, mut receive: RecvStream, mut reply: SendReply) {
    match handler {
        Handler::Idles => {
            poll_fn(|cx| reply.poll_closed(cx)).await;
        }
        Handler::Writes => {
            let Ok(mut send) = reply.send_reply(HeaderBlock::new(), false) else {
                return;
            };
            static BODY: [u8; 10_000] = [b'x'; 10_000];
            while send.write_all(&BODY).await.is_ok() {}
        }
        Handler::Echoes => {
            let Ok(mut send) = reply.send_reply(HeaderBlock::new(), false) else {
                return;
            };
            while let Some(Ok(piece)) = receive.next().await {
                let spdy_session::Received::Data(piece) = piece else {
                    continue;
                };
                if send.ready().await.is_err() || send.send_data(piece, false).is_err() {
                    return;
                }
            }
        }
    }
    drop(receive);
}

/// The peer.
struct Peer {
    version: Version,
    io: DuplexStream,
    blocks: StoredBlocks,
}

impl Peer {
    fn new(version: Version, io: DuplexStream) -> Self {
        Self {
            version,
            io,
            blocks: StoredBlocks::new(version),
        }
    }

    async fn send(&mut self, frame: RawFrame) {
        let bytes = frame.bytes(&mut self.blocks);
        self.send_bytes(&bytes).await;
    }

    async fn send_bytes(&mut self, bytes: &[u8]) {
        assert!(self.sends_within(PATIENCE, bytes).await, "nothing is read");
    }

    /// Uploads over what it pretends to be a long path, until it may send this number of bytes on
    /// the stream and in the session.
    async fn grow(&mut self, on_stream: i64, in_session: i64) {
        let mut reader = Reader::new(self.version);
        let mut asked = VecDeque::new();
        let (mut stream, mut session) = (i64::from(Limits::default().stream_window), 65_536);
        self.send(frames::syn_stream(self.version, 1).post(GROW))
            .await;
        while stream < on_stream || session < in_session {
            // SPDY/3 grants a session nothing.
            if self.version == Version::V3 {
                session = i64::MAX / 2;
            }
            let bytes = stream.min(session);
            if bytes > 0 {
                let data = frames::data(1, vec![7; bytes as usize]);
                self.send(data).await;
                (stream, session) = (stream - bytes, session - bytes);
            }
            while let Ok(read) = timeout(QUIET, self.io.read_buf(reader.buffer())).await {
                assert!(read.is_ok_and(|bytes| bytes > 0), "the session goes on");
            }
            while let Some(frame) = reader.next_frame().expect("it sends sound frames") {
                match frame {
                    Received::WindowUpdate(update) => match update.target {
                        WindowTarget::Session => session += i64::from(update.increment.get()),
                        WindowTarget::Stream(_) => stream += i64::from(update.increment.get()),
                    },
                    Received::Ping(ping) => asked.push_back(ping.id),
                    _ => {}
                }
            }
            // The answer comes with what is sent next, as if it had been on its way meanwhile.
            while let Some(id) = asked.pop_front() {
                self.send(frames::ping(self.version, id)).await;
            }
        }
        self.send(frames::data(1, STOP)).await;
    }

    /// Whether the bytes were taken, for sessions that may stop reading: no time passes while one
    /// reads.
    async fn try_send_bytes(&mut self, bytes: &[u8]) -> bool {
        self.sends_within(Duration::from_secs(1), bytes).await
    }

    async fn sends_within(&mut self, time: Duration, bytes: &[u8]) -> bool {
        matches!(timeout(time, self.io.write_all(bytes)).await, Ok(Ok(())))
    }

    async fn expect_end(&mut self) {
        let mut rest = Vec::new();
        let end = timeout(PATIENCE, self.io.read_to_end(&mut rest)).await;
        _ = end.expect("the session has ended");
    }
}

/// A compressed block that inflates to this number of bytes, all of them 0.
fn bomb(version: Version, bytes: usize) -> Vec<u8> {
    // The zlib header and dictionary come from a block of no bytes.
    let mut out = StoredBlocks::new(version).compress(&[]);
    let mut deflate = Compress::new(Compression::best(), false);
    let zeros = vec![0; 1 << 20];
    let mut piece = Vec::with_capacity(1 << 16);
    for _ in 0..bytes >> 20 {
        piece.clear();
        deflate
            .compress_vec(&zeros, &mut piece, FlushCompress::Sync)
            .expect("it can be compressed");
        out.extend_from_slice(&piece);
    }
    out
}

/// What the transport holds in each direction: more than large buffers of sockets.
const TRANSPORT: usize = 1024 * 1024;

/// After this time without a byte nothing more comes.
const QUIET: Duration = Duration::from_millis(5);

const PATIENCE: Duration = Duration::from_secs(20);
