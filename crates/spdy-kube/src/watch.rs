//! Finds out that a client is gone whose connection nobody reads.
//!
//! A command that does not read its input holds up the client, and the connection is not read any more: it has no other
//! back-pressure. A client that is killed then has octets under way that cannot arrive, and behind them the end of its
//! connection, which is not seen. But its system answers whatever it is sent by a reset of TCP, and at the next octet
//! that is known here.
//!
//! So a held up client is sent an empty DATA frame from time to time. A PING will not do: spdystream answers it on the
//! thread that handles some of the streams, where it waits for the octets that are held up, and the outputs of these
//! streams stop. Empty DATA is passed over.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use spdy_session::StreamId;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Interval, MissedTickBehavior, interval_at},
};

use crate::config::after;

/// A transport that carries a session, and the watch over it.
pub(crate) fn watched<IO>(io: IO, period: Duration) -> (Watched<IO>, Watch<IO>) {
    let shared = Arc::new(Mutex::new(Shared {
        io,
        is_read: true,
        is_flushed: true,
        frames: Frames::default(),
        probe: Bytes::new(),
    }));
    let watched = Watched(Arc::clone(&shared));
    let ticks = ticks(period);
    (watched, Watch { shared, ticks })
}

/// The moments at which clients are looked after, the first of them after one period.
pub(crate) fn ticks(period: Duration) -> Interval {
    let period = period.max(SHORTEST);
    let mut ticks = interval_at(after(period), period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Looks after the client of a session.
#[derive(Debug)]
pub(crate) struct Watch<IO> {
    shared: Arc<Mutex<Shared<IO>>>,
    ticks: Interval,
}

impl<IO: AsyncWrite + Unpin> Watch<IO> {
    /// Waits until the client is gone while nothing is read from it. `stream` is one that is open. Cancel safe.
    pub(crate) async fn lost(&mut self, stream: Option<StreamId>) {
        loop {
            self.ticks.tick().await;
            let Some(stream) = stream else {
                continue;
            };
            if let Err(error) = lock(&self.shared).probe(stream) {
                tracing::debug!(target: "spdy", %error, "client that was held up is gone");
                return;
            }
        }
    }
}

/// A transport that is watched.
#[derive(Debug)]
pub(crate) struct Watched<IO>(Arc<Mutex<Shared<IO>>>);

#[derive(Debug)]
struct Shared<IO> {
    io: IO,
    /// The session waits for octets, so it sees by itself when there will be none.
    is_read: bool,
    /// The session has no octets to write, and does not wait for any to be taken.
    is_flushed: bool,
    frames: Frames,
    /// What is left of a probe.
    probe: Bytes,
}

impl<IO: AsyncWrite + Unpin> Shared<IO> {
    /// Sends an empty DATA frame if the session neither reads nor writes.
    fn probe(&mut self, stream: StreamId) -> io::Result<()> {
        if self.is_read || !self.is_flushed || !self.frames.is_whole() {
            return Ok(());
        }
        if self.probe.is_empty() {
            let mut frame = BytesMut::zeroed(HEAD);
            frame[..4].copy_from_slice(&stream.get().to_be_bytes());
            self.probe = frame.freeze();
        }
        // The session does not wait for anything of the transport, so no waker gets lost. What is not taken now is at
        // the next time, or before what the session writes.
        let mut cx = Context::from_waker(Waker::noop());
        match self.poll_probe(&mut cx)? {
            Poll::Ready(()) => _ = Pin::new(&mut self.io).poll_flush(&mut cx)?,
            Poll::Pending => {}
        }
        Ok(())
    }

    /// Writes what is left of a probe: the session's frames come behind it.
    fn poll_probe(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.probe.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.probe))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.probe.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut shared = lock(&self.0);
        let read = Pin::new(&mut shared.io).poll_read(cx, buffer);
        shared.is_read = read.is_pending();
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(octets)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut shared = lock(&self.0);
        shared.is_flushed = false;
        ready!(shared.poll_probe(cx))?;
        let written = ready!(Pin::new(&mut shared.io).poll_write_vectored(cx, slices))?;
        shared.frames.pass(slices, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        lock(&self.0).io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = lock(&self.0);
        ready!(shared.poll_probe(cx))?;
        ready!(Pin::new(&mut shared.io).poll_flush(cx))?;
        shared.is_flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = lock(&self.0);
        shared.is_flushed = false;
        ready!(shared.poll_probe(cx))?;
        Pin::new(&mut shared.io).poll_shutdown(cx)
    }
}

fn lock<IO>(shared: &Mutex<Shared<IO>>) -> MutexGuard<'_, Shared<IO>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the frames end that are written.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; HEAD],
    filled: usize,
    /// Octets of the payload that are to come.
    payload: usize,
}

impl Frames {
    /// Whether the next octet is the first of a frame.
    fn is_whole(&self) -> bool {
        self.filled == 0 && self.payload == 0
    }

    /// Notes the first `written` octets of `slices`.
    fn pass(&mut self, slices: &[IoSlice<'_>], mut written: usize) {
        for slice in slices {
            let taken = written.min(slice.len());
            self.pass_octets(&slice[..taken]);
            written -= taken;
        }
    }

    fn pass_octets(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let skipped = self.payload.min(octets.len());
            self.payload -= skipped;
            octets = &octets[skipped..];
            let taken = octets.len().min(HEAD - self.filled);
            self.head[self.filled..self.filled + taken].copy_from_slice(&octets[..taken]);
            self.filled += taken;
            octets = &octets[taken..];
            if self.filled == HEAD {
                let [.., first, second, third] = self.head;
                self.payload = u32::from_be_bytes([0, first, second, third]) as usize;
                self.filled = 0;
            }
        }
    }
}

/// A few octets for each client that is held up, and a command that goes on for so long without its client.
pub(crate) const WATCH: Duration = Duration::from_secs(10);

/// An interval of nothing is none.
const SHORTEST: Duration = Duration::from_millis(1);

/// The head of a frame, octets: of all frames the last three of them are the length of what follows.
const HEAD: usize = 8;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const FRAME: [u8; 11] = [0, 0, 0, 1, 0, 0, 0, 3, b'a', b'b', b'c'];
    const PROBE: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 0];

    #[test]
    fn the_ends_of_frames_are_known_however_they_are_written() {
        for step in 1..FRAME.len() {
            let mut frames = Frames::default();
            let octets = [FRAME, FRAME].concat();
            let mut passed = 0;
            for piece in octets.chunks(step) {
                let (first, second) = piece.split_at(piece.len() / 2);
                // Not all of it is taken.
                let slices = [first, second, b"more"].map(IoSlice::new);
                frames.pass(&slices, piece.len());
                passed += piece.len();
                assert_eq!(frames.is_whole(), passed % FRAME.len() == 0, "{step}");
            }
        }
    }

    /// A transport that nothing is read from any more.
    async fn held_up() -> (
        Watched<tokio::io::DuplexStream>,
        Watch<tokio::io::DuplexStream>,
        tokio::io::DuplexStream,
    ) {
        let (mut far, near) = duplex(16);
        let (mut watched, watch) = watched(near, Duration::from_secs(1));
        far.write_all(b"x").await.unwrap();
        watched.read_u8().await.unwrap();
        (watched, watch, far)
    }

    fn probe(watch: &Watch<tokio::io::DuplexStream>) -> io::Result<()> {
        lock(&watch.shared).probe(StreamId::new(1).unwrap())
    }

    #[tokio::test]
    async fn a_probe_stands_between_frames_and_nowhere_else() {
        let (mut watched, watch, mut far) = held_up().await;
        watched.write_all(&FRAME[..9]).await.unwrap();
        watched.flush().await.unwrap();
        probe(&watch).unwrap();
        watched.write_all(&FRAME[9..]).await.unwrap();
        probe(&watch).unwrap();
        watched.flush().await.unwrap();
        // There is room for five octets of it. The rest stands before what comes next.
        probe(&watch).unwrap();
        probe(&watch).unwrap();
        let mut octets = [0; 16];
        far.read_exact(&mut octets).await.unwrap();
        watched.write_all(&FRAME).await.unwrap();
        let mut rest = [0; 14];
        far.read_exact(&mut rest).await.unwrap();
        assert_eq!(
            [&octets[..], &rest].concat(),
            [&FRAME[..], &PROBE, &FRAME].concat()
        );
    }

    #[tokio::test]
    async fn a_transport_that_is_read_is_not_probed() {
        let (mut watched, watch, mut far) = held_up().await;
        let mut octet = [0];
        let mut buffer = ReadBuf::new(&mut octet);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(
            Pin::new(&mut watched)
                .poll_read(&mut cx, &mut buffer)
                .is_pending()
        );
        probe(&watch).unwrap();
        drop((watched, watch));
        assert_eq!(far.read(&mut [0; 16]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_any_more_is_lost() {
        let (_watched, mut watch, far) = held_up().await;
        drop(far);
        watch.lost(StreamId::new(1)).await;
    }
}
