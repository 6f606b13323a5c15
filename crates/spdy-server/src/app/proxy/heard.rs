//! A transport to the application that counts the bytes it receives, fails when a write is stalled,
//! and can be cut.

use std::{
    io::{self, IoSlice},
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Notify, oneshot},
    time::{Instant, Sleep, sleep},
};

use crate::{pass::pass, socket::Fails, tail::Tail};

/// What an application has sent on a connection.
#[derive(Clone, Debug)]
pub(super) struct Heard(Arc<Words>);

#[derive(Debug)]
struct Words {
    bytes: AtomicU64,
    since: Instant,
    /// The milliseconds from `since` to the last byte.
    last: AtomicU64,
    settings: Notify,
    /// Whether a tunnel limits the time of writes.
    is_tunnel: AtomicBool,
    tail: Tail,
}

impl Heard {
    fn new() -> Self {
        Self(Arc::new(Words {
            bytes: AtomicU64::new(0),
            since: Instant::now(),
            last: AtomicU64::new(0),
            settings: Notify::new(),
            is_tunnel: AtomicBool::new(false),
            tail: Tail::default(),
        }))
    }

    /// Leaves it to a tunnel to limit the time of writes.
    pub(super) fn timed_by_tunnel(&self) {
        self.0.is_tunnel.store(true, Ordering::Relaxed);
    }

    /// Returns the state of the end of bytes that only the close of the transport ends.
    pub(super) fn tail(&self) -> &Tail {
        &self.0.tail
    }

    fn note(&self, bytes: u64) {
        let after = self.0.since.elapsed().as_millis();
        self.0.last.store(after as u64, Ordering::Relaxed);
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns the number of bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Returns the time since the last byte.
    pub(super) fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.0.last.load(Ordering::Relaxed));
        self.0.since.elapsed().saturating_sub(last)
    }

    /// Waits until the reader of an HTTP/2 connection has handled SETTINGS that no earlier call has
    /// reported. The first frame has some.
    pub(super) async fn settings(&self) {
        self.0.settings.notified().await;
    }
}

/// Finds the SETTINGS in what is read of HTTP/2.
#[derive(Debug)]
struct Frames {
    /// The head of the present frame, as far as it was read.
    head: u128,
    is_in_head: bool,
    /// How many bytes the head, or else the payload, still has.
    left: usize,
    /// Whether SETTINGS were read that the reader might not have handled.
    have_settings: bool,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            head: 0,
            is_in_head: true,
            left: HEAD,
            have_settings: false,
        }
    }
}

impl Frames {
    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(self.left));
            if self.is_in_head {
                let add = |head, byte: &u8| head << 8 | u128::from(*byte);
                self.head = part.iter().fold(self.head, add);
            }
            self.left -= part.len();
            if self.left == 0 {
                self.end_part();
            }
            bytes = rest;
        }
    }

    fn end_part(&mut self) {
        if self.is_in_head {
            self.is_in_head = false;
            self.left = (self.head >> PAYLOAD) as usize;
        }
        if self.left == 0 {
            *self = Self {
                have_settings: self.have_settings || (self.head >> TYPE) as u8 == SETTINGS,
                ..Self::default()
            };
        }
    }
}

/// The length of the head of a frame. It begins with the length of the payload, of 24 bits, and the
/// type, of 8 bits.
const HEAD: usize = 9;
const PAYLOAD: usize = 48;
const TYPE: usize = 40;
const SETTINGS: u8 = 4;

/// Closes a transport at once, with whatever is still to be written. If it is dropped, the
/// transport stays open.
#[derive(Debug)]
pub(super) struct Cut(Mutex<Option<oneshot::Sender<()>>>);

impl Cut {
    /// Closes the transport. Returns whether it was open.
    pub(super) fn cut(&self) -> bool {
        let cut = self.lock().take();
        cut.is_some_and(|cut| cut.send(()).is_ok())
    }

    /// Returns whether the transport is closed, or about to be.
    pub(super) fn is_over(&self) -> bool {
        self.lock().as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<oneshot::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A transport that counts the bytes read. Its writes fail once the application has taken no byte
/// for some time. Otherwise requests that were given up would keep the connection to an application
/// that has vanished.
#[derive(Debug)]
pub(super) struct Listening<IO, H = ()> {
    io: IO,
    /// `None` once nothing can cut the transport.
    told: Option<oneshot::Receiver<()>>,
    is_cut: bool,
    /// What is held as long as the transport is open, and can be cut.
    _held: H,
    heard: Heard,
    /// `None` if the connection does not speak HTTP/2.
    frames: Option<Frames>,
    patience: Duration,
    /// Rings when a write has waited for too long. `None` while the transport takes bytes.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<IO, H> Listening<IO, H> {
    pub(super) fn new(io: IO, held: H, patience: Duration) -> (Self, Heard, Cut) {
        let heard = Heard::new();
        let (cut, told) = oneshot::channel();
        let listening = Self {
            io,
            _held: held,
            heard: heard.clone(),
            frames: None,
            patience,
            stalled: None,
            told: Some(told),
            is_cut: false,
        };
        (listening, heard, Cut(Mutex::new(Some(cut))))
    }

    /// Looks for SETTINGS, which [`Heard::settings`] waits for.
    pub(super) fn of_http2(self) -> Self {
        Self {
            frames: Some(Frames::default()),
            ..self
        }
    }

    /// Notes that the reader has handled what it has read, because it reads on.
    fn note_settings(&mut self) {
        let frames = self.frames.as_mut();
        if frames.is_some_and(|frames| mem::take(&mut frames.have_settings)) {
            self.heard.0.settings.notify_one();
        }
    }

    /// Replaces the outcome if the transport is cut.
    fn unless_cut<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_pending()
            && let Some(told) = &mut self.told
            && let Poll::Ready(told) = Pin::new(told).poll(cx)
        {
            self.told = None;
            self.is_cut = told.is_ok();
        }
        if self.is_cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        outcome
    }

    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let outcome = self.unless_cut(cx, outcome);
        if outcome.is_ready() || self.heard.0.is_tunnel.load(Ordering::Relaxed) {
            self.stalled = None;
            return outcome;
        }
        let patience = self.patience;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<IO: Fails, H> Fails for Listening<IO, H> {
    pass!(Fails => io);
}

impl<IO: AsyncRead + Unpin, H: Unpin> AsyncRead for Listening<IO, H> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.note_settings();
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.io).poll_read(cx, buf);
        let bytes = &buf.filled()[before..];
        if !bytes.is_empty() {
            if let Some(frames) = &mut self.frames {
                frames.read(bytes);
            }
            self.heard.note(bytes.len() as u64);
        }
        self.unless_cut(cx, outcome)
    }
}

impl<IO: AsyncWrite + Unpin, H: Unpin> AsyncWrite for Listening<IO, H> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(cx, buf);
        self.watch(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watch(cx, outcome)
    }

    pass!(is_write_vectored => io);

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_flush(cx);
        self.watch(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_shutdown(cx);
        self.watch(cx, outcome)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::timeout,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_application_that_takes_nothing_is_not_written_to_for_ever() {
        let patience = Duration::from_secs(60);
        let (near, mut far) = duplex(1);
        let (mut near, ..) = Listening::new(near, (), patience);
        let begun = Instant::now();
        let taking = tokio::spawn(async move {
            // The time restarts with each byte that is taken.
            for _ in 0..3 {
                sleep(patience / 2).await;
                far.read_u8().await.unwrap();
            }
            far
        });
        let error = near.write_all(&[0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), 3 * patience / 2 + patience);
        drop(taking.await);
    }

    #[test]
    fn settings_are_found_wherever_the_bytes_are_cut() {
        // DATA that looks like the head of SETTINGS, SETTINGS, an answer to SETTINGS, PING.
        let data = b"\0\0\x0a\0\0\0\0\0\x01x\0\0\0\x04\0\0\0\0\0";
        let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
        let answer = b"\0\0\0\x04\x01\0\0\0\0";
        let ping = b"\0\0\x08\x06\0\0\0\0\0pingpong";
        let bytes = [&data[..], settings, answer, ping].concat();
        let expected = [
            data.len() + settings.len(),
            data.len() + settings.len() + answer.len(),
        ];
        for step in 1..=bytes.len() {
            let mut frames = Frames::default();
            let (mut read, mut found) = (0, Vec::new());
            for part in bytes.chunks(step) {
                frames.read(part);
                read += part.len();
                if mem::take(&mut frames.have_settings) {
                    found.push(read);
                }
            }
            let seen_at = |end: usize| end.div_ceil(step).saturating_mul(step).min(bytes.len());
            let mut seen: Vec<_> = expected.map(seen_at).into();
            seen.dedup();
            assert_eq!(found, seen, "{step}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_transport_that_is_cut_fails_although_its_peer_is_silent() {
        let (near, _far) = duplex(1);
        let (near, _, cut) = Listening::new(near, (), Duration::from_secs(60));
        let (mut reads, mut writes) = tokio::io::split(near);
        let reading = tokio::spawn(async move { reads.read_u8().await });
        sleep(Duration::from_secs(1)).await;
        assert!(!cut.is_over());
        cut.cut();
        let read = timeout(Duration::from_secs(1), reading).await;
        let error = read.expect("a read ends").unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        let error = writes.write_all(&[0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert!(cut.is_over());
    }
}
