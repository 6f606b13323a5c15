//! The end of bytes that only the close of their connection ends: those of another protocol after a
//! switch, or of a response to HTTP/1.0.
//!
//! Over plain TCP, a peer takes the close of a connection for the end of such bytes. So it is reset
//! instead if some of them are missing. Over TLS it sends no close_notify then, either.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep},
};

use crate::{pass::pass, socket::Fails};

/// What a transport and the writer of its bytes tell each other of their end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Whether the bytes have no end but that of the transport.
    is_open: AtomicBool,
    /// Whether some of them will never come.
    is_cut: AtomicBool,
}

impl Tail {
    /// Notes that the bytes have no end but that of the transport. It is reset if it is dropped
    /// before it was shut down.
    pub(crate) fn open(&self) {
        self.0.is_open.store(true, Ordering::Relaxed);
    }

    /// Notes that bytes are missing. The shutdown of the transport only waits until those before
    /// have left, for [`LINGER`] at most, and the transport is reset when it is dropped.
    pub(crate) fn cut(&self) {
        self.open();
        self.0.is_cut.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.is_open.load(Ordering::Relaxed)
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.0.is_cut.load(Ordering::Relaxed)
    }
}

/// A transport whose end is a reset if its bytes are not whole.
#[derive(Debug)]
pub(crate) struct Tailed<IO: Fails> {
    io: IO,
    tail: Tail,
    /// Whether the peer has our end.
    is_closed: bool,
    leaving: Option<Leaving>,
}

/// The wait until the bytes before a cut have left.
#[derive(Debug)]
struct Leaving {
    until: Instant,
    pause: Duration,
    alarm: Pin<Box<Sleep>>,
}

impl<IO: Fails> Tailed<IO> {
    pub(crate) const fn new(io: IO, tail: Tail) -> Self {
        Self {
            io,
            tail,
            is_closed: false,
            leaving: None,
        }
    }
}

impl<IO: Fails> Drop for Tailed<IO> {
    fn drop(&mut self) {
        if self.tail.is_open() && !self.is_closed {
            self.io.reset_when_dropped();
        }
    }
}

impl<IO: AsyncWrite + Fails + Unpin> Tailed<IO> {
    /// Completes when the system has sent everything, or has had [`LINGER`] for it.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let leaving = self.leaving.get_or_insert_with(|| Leaving {
            until: Instant::now() + LINGER,
            pause: SHORTEST_PAUSE,
            alarm: Box::pin(sleep(Duration::ZERO)),
        });
        loop {
            let flushed = Pin::new(&mut self.io).poll_flush(cx)?;
            ready!(leaving.alarm.as_mut().poll(cx));
            if flushed.is_ready() && self.io.is_sent() {
                return Poll::Ready(Ok(()));
            }
            let now = Instant::now();
            if leaving.until <= now {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            leaving
                .alarm
                .as_mut()
                .reset(leaving.until.min(now + leaving.pause));
            leaving.pause = (leaving.pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl<IO: Fails> Fails for Tailed<IO> {
    pass!(Fails => io);
}

impl<IO: AsyncRead + Fails + Unpin> AsyncRead for Tailed<IO> {
    pass!(poll_read => io);
}

impl<IO: AsyncWrite + Fails + Unpin> AsyncWrite for Tailed<IO> {
    pass!(poll_write, poll_write_vectored, is_write_vectored, poll_flush => io);

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.tail.is_cut() {
            return self.poll_sent(cx);
        }
        ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        self.is_closed = true;
        Poll::Ready(Ok(()))
    }
}

/// How long the bytes before a cut can take to leave.
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// The pauses before the system is asked again whether they have left, each twice as long as the
/// one before. It does not tell by itself.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests;
