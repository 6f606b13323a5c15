//! Which stream is served when (docs/limits.md): every bound is in frames, and counted here on the
//! wire.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use spdy_frame::Version;
use spdy_session::{Config, HeaderBlock, Incoming, PendingStream, Session};
use spdy_tests::{
    frames,
    machine::Machine,
    wire::{Received, Wire},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    time::{sleep, timeout},
};

/// How many frames may be ready to be written: 65,000 bytes, and the frame that exceeds them.
const READY: usize = 5;

/// A level that was passed over this number of times is served next.
const AGING: usize = 16;

/// A server that has no end of payload for every stream, and a peer that reads no more than it asks
/// for.
struct Served {
    version: Version,
    peer: Wire<Sips>,
    incoming: Incoming,
    _session: Session,
}

impl Served {
    async fn new(version: Version) -> Self {
        Self::with(version, Config::default()).await
    }

    async fn with(version: Version, config: Config) -> Self {
        // Almost nothing is on its way: what is counted is the order that the session has chosen.
        Self::over(version, config, 512).await
    }

    /// Up to `on_its_way` bytes are taken of the session before the peer reads them.
    async fn over(version: Version, config: Config, on_its_way: usize) -> Self {
        let (near, far) = duplex(on_its_way);
        let (session, incoming, driver) = spdy_session::server(far, version, config);
        tokio::spawn(driver);
        let mut served = Self {
            version,
            peer: Wire::new(Sips(near), version),
            incoming,
            _session: session,
        };
        if version != Version::V2 {
            let wide = frames::settings(version, &[(7, 0x7fff_ffff)]);
            served.peer.send(wide).await;
            served
                .peer
                .send(frames::window_update(version, 0, 0x7ffe_0000))
                .await;
        }
        served
    }

    /// Opens a stream with a priority from 0, the highest, to 7; in SPDY/2 to 3.
    async fn open(&mut self, stream: u32, priority: u8) -> PendingStream {
        let bits = if self.version == Version::V2 { 6 } else { 5 };
        let request = frames::syn_stream(self.version, stream)
            .get("/")
            .fin()
            .priority_bytes([priority << bits, 0]);
        self.peer.send(request).await;
        // The peer goes on reading, or nothing else would move.
        loop {
            tokio::select! {
                biased;
                pending = self.incoming.accept() => return pending.expect("the session goes on"),
                _ = self.peer.recv() => {}
            }
        }
    }

    /// Opens a stream that is answered with payload without end.
    async fn download(&mut self, stream: u32, priority: u8) {
        self.download_in(stream, priority, 16 * 1024).await;
    }

    /// The same as [`download`](Self::download), in pieces of this length.
    async fn download_in(&mut self, stream: u32, priority: u8, piece: usize) {
        let pending = self.open(stream, priority).await;
        let (_, reply) = pending.split();
        let mut send = reply.send_reply(HeaderBlock::new(), false).unwrap();
        tokio::spawn(async move {
            let piece = Bytes::from(vec![0; piece]);
            while send.ready().await.is_ok() && send.send_data(piece.clone(), false).is_ok() {}
        });
    }

    /// How many DATA frames come before the frame that is wanted.
    async fn frames_before(&mut self, wanted: impl Fn(&Received) -> bool) -> usize {
        let mut before = 0;
        loop {
            let frame = self.peer.recv().await;
            if wanted(&frame) {
                return before;
            }
            before += usize::from(matches!(frame, Received::Data { .. }));
        }
    }

    /// Reads this number of DATA frames, and counts those of each stream.
    async fn share(&mut self, frames: usize) -> BTreeMap<u32, usize> {
        let mut share = BTreeMap::new();
        for _ in 0..frames {
            let frame = self
                .peer
                .recv_until(|frame| matches!(frame, Received::Data { .. }))
                .await;
            if let Received::Data { stream, .. } = frame {
                *share.entry(stream).or_default() += 1;
            }
        }
        share
    }
}

fn lowest(version: Version) -> u8 {
    if version == Version::V2 { 3 } else { 7 }
}

#[tokio::test(start_paused = true)]
async fn a_ping_overtakes_a_large_download() {
    for version in Version::ALL {
        let mut served = Served::new(version).await;
        served.download(1, 0).await;
        served.share(20).await;
        for n in 0..20 {
            served.peer.send(frames::ping(version, 2 * n + 1)).await;
            let before = served
                .frames_before(
                    |frame| matches!(frame, Received::Ping(ping) if ping.id == 2 * n + 1),
                )
                .await;
            // One more is on its way through the transport.
            assert!(before <= READY + 1, "{version}: {before}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_small_response_overtakes_a_large_download_of_its_priority() {
    for version in Version::ALL {
        for priority in [0, lowest(version)] {
            let mut served = Served::new(version).await;
            served.download(1, priority).await;
            served.share(20).await;
            let pending = served.open(3, priority).await;
            let mut stream = pending.send_reply(HeaderBlock::new()).unwrap().split().1;
            stream
                .send_data(Bytes::from_static(b"small"), true)
                .unwrap();
            let before = served
                .frames_before(|frame| {
                    matches!(
                        frame,
                        Received::Data {
                            stream: 3,
                            fin: true,
                            ..
                        }
                    )
                })
                .await;
            assert!(before <= READY + 2, "{version}: {before}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_lowest_priority_is_served_under_a_flood_of_the_highest() {
    for version in Version::ALL {
        let mut served = Served::new(version).await;
        for n in 0..20 {
            served.download(2 * n + 1, 0).await;
        }
        served.download(101, lowest(version)).await;
        served
            .frames_before(|frame| matches!(frame, Received::Data { stream: 101, .. }))
            .await;
        for _ in 0..10 {
            let before = served
                .frames_before(|frame| matches!(frame, Received::Data { stream: 101, .. }))
                .await;
            assert!(before <= AGING, "{version}: {before}");
        }
    }
}

/// Short answers whose headers alone fill what may be ready: they come first, and DATA goes on all
/// the same.
#[tokio::test(start_paused = true)]
async fn a_flood_of_small_responses_does_not_starve_a_download() {
    for version in Version::ALL {
        let mut served = Served::new(version).await;
        served.download(1, lowest(version)).await;
        served.share(20).await;
        let mut replies = 0;
        let mut data = 0;
        let mut stream = 3;
        while data < 20 {
            assert!(replies < 1000, "{version}: the download is starved");
            for _ in 0..10 {
                let pending = served.open(stream, 0).await;
                let (_, reply) = pending.split();
                // Each has bytes of its own, or they would be compressed to nothing.
                let mut field = HeaderBlock::new();
                field.append("x-large", random_text(8000, stream)).unwrap();
                reply.send_reply(field, true).unwrap();
                stream += 2;
            }
            for _ in 0..10 {
                match served.peer.recv().await {
                    Received::SynReply { .. } => replies += 1,
                    Received::Data { stream: 1, .. } => data += 1,
                    _ => {}
                }
            }
        }
    }
}

/// The session's window opens by a few bytes at a time. However few they are, a stream has its
/// share of frames and of bytes: a frame that the window cuts short is not the whole of a turn.
#[test]
fn every_priority_has_its_share_whatever_the_window_of_the_session_opens_by() {
    let version = Version::V3_1;
    let grants = [1, 100, 16_384, 16_385, 32_768, 65_536, 65_537];
    // With the last one the turn of the lowest priority always comes when one byte is left of what
    // was granted.
    let grants = grants.map(|grant| (grant, 0));
    for (grant, first) in grants.into_iter().chain([(262_145, 212_992)]) {
        let mut server = Machine::server(version).alone("how payload is cut is what it is about");
        server.feed(frames::settings(version, &[(7, 0x7fff_ffff)]));
        for (stream, priority) in [(1, 0), (3, 0), (5, 3), (7, 7)] {
            let request = frames::syn_stream(version, stream).get("/").fin();
            server.feed(request.priority_bytes([priority << 5, 0]));
        }
        for stream in [1, 3, 5, 7] {
            server.reply(stream, false);
            server.send(stream, 20 << 20, false);
        }
        server.sent();
        if first > 0 {
            server.feed(frames::window_update(version, 0, first));
            server.sent();
        }
        let mut since = BTreeMap::from([(1, 0), (3, 0), (5, 0), (7, 0)]);
        let mut bytes = BTreeMap::new();
        let mut all = 0;
        for _ in 0..2000.min((10 << 20) / grant) {
            server.feed(frames::window_update(version, 0, grant));
            for frame in server.sent() {
                let Received::Data {
                    stream, payload, ..
                } = frame
                else {
                    continue;
                };
                since.values_mut().for_each(|frames| *frames += 1);
                let waited = since.insert(stream, 0).unwrap();
                let rivals = if stream < 5 { 2 } else { 1 };
                assert!(waited <= 8 * AGING * rivals, "{grant}: {stream} {waited}");
                *bytes.entry(stream).or_insert(0) += payload.len();
                all += payload.len();
            }
        }
        for stream in [1, 3, 5, 7] {
            let share = bytes.get(&stream).copied().unwrap_or(0);
            assert!(share >= all / 40, "{grant}: {stream} has {share} of {all}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn downloads_of_one_priority_share_alike() {
    for version in Version::ALL {
        let mut served = Served::new(version).await;
        for n in 0..10 {
            served.download(2 * n + 1, 3).await;
        }
        served.share(100).await;
        let share = served.share(500).await;
        assert_eq!(share.len(), 10, "{version}: {share:?}");
        for frames in share.values() {
            assert!((30..=70).contains(frames), "{version}: {share:?}");
        }
    }
}

/// The length of long pieces.
const PIECE: usize = 256 * 1024;

/// The transport takes a part of a download that sends alone, and later takes less than a frame at
/// a time. Then there is another download.
#[tokio::test(start_paused = true)]
async fn a_download_that_began_alone_and_a_later_one_share_alike() {
    for version in Version::ALL {
        // The transport takes all of two pieces, and a part of the third.
        let mut served = Served::over(version, Config::default(), 2 * PIECE + 100_000).await;
        served.download_in(1, 3, PIECE).await;
        sleep(Duration::from_secs(1)).await;
        served.download_in(3, 3, PIECE).await;
        served
            .frames_before(|frame| matches!(frame, Received::Data { stream: 3, .. }))
            .await;
        let share = served.share(40).await;
        for frames in [1, 3].map(|stream| share.get(&stream)) {
            assert!(
                (15..=25).contains(frames.unwrap_or(&0)),
                "{version}: {share:?}"
            );
        }
    }
}

/// A stream whose window is shut keeps what it has queued, and holds up no other stream.
#[tokio::test(start_paused = true)]
async fn streams_that_may_not_send_hold_up_nobody() {
    for version in [Version::V3, Version::V3_1] {
        let mut served = Served::new(version).await;
        served.peer.send(frames::settings(version, &[(7, 0)])).await;
        for n in 0..50 {
            served.download(2 * n + 1, 0).await;
        }
        let last = 201;
        served.download(last, lowest(version)).await;
        served
            .peer
            .send(frames::window_update(version, last, 1 << 30))
            .await;
        let share = served.share(100).await;
        assert_eq!(share, BTreeMap::from([(last, 100)]), "{version}");
    }
}

/// As above on the other side of the handles: room in the queue is left for every stream.
#[tokio::test(start_paused = true)]
async fn writers_that_wait_leave_room_for_others() {
    for version in Version::ALL {
        let mut served = Served::new(version).await;
        let mut senders = Vec::new();
        for n in 0..50 {
            let pending = served.open(2 * n + 1, 0).await;
            let (_, reply) = pending.split();
            let mut send = reply.send_reply(HeaderBlock::new(), false).unwrap();
            // Each takes all that it gets.
            while let Ok(Ok(())) = timeout(Duration::from_millis(1), send.ready()).await {
                send.send_data(Bytes::from_static(&[0; 1024]), false)
                    .unwrap();
            }
            senders.push(send);
        }
        let pending = served.open(201, lowest(version)).await;
        let mut send = pending.send_reply(HeaderBlock::new()).unwrap().split().1;
        timeout(Duration::from_secs(20), send.ready())
            .await
            .expect("there is room")
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_size_of_data_frames_is_set() {
    for version in Version::ALL {
        for size in [1, 1000, 50_000] {
            let mut config = Config::default();
            config.limits.data_frame = size;
            let mut served = Served::with(version, config).await;
            let pending = served.open(1, 0).await;
            let mut send = pending.send_reply(HeaderBlock::new()).unwrap().split().1;
            let bytes = 20 * size;
            let sending = tokio::spawn(async move {
                for _ in 0..20 {
                    send.ready().await.unwrap();
                    send.send_data(Bytes::from(vec![7; size]), false).unwrap();
                }
                send.finish().unwrap();
                send.closed().await;
            });
            let mut received = 0;
            let mut longest = 0;
            while received < bytes {
                if let Received::Data { payload, .. } = served.peer.recv().await {
                    received += payload.len();
                    longest = longest.max(payload.len());
                }
            }
            assert_eq!(received, bytes);
            assert_eq!(longest, size, "{version}");
            sending.abort();
        }
    }
}

/// Text that no compression makes much shorter.
fn random_text(length: usize, seed: u32) -> String {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b'0' + (state >> 33) as u8 % 64)
        })
        .collect()
}

/// A transport that is read a few bytes at a time.
struct Sips(DuplexStream);

impl AsyncRead for Sips {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut few = [0; 512];
        let most = few.len().min(to.remaining());
        let mut read = ReadBuf::new(&mut few[..most]);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut read))?;
        to.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Sips {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
