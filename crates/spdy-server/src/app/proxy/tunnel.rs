//! The bytes of a client and of an application that have switched to another protocol.
//!
//! Each direction ends by itself, after its last byte, and its end is passed on. So a client that
//! has ended its direction still gets the rest of what the application sends.

use std::{
    future::Future,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::{config::after, observe::Passed};

/// Passes bytes both ways. Completes with the reason of the end. When it is dropped, it closes both
/// transports.
pub(super) struct Tunnel<C, A> {
    client: C,
    application: A,
    up: Flow,
    down: Flow,
    passed: Passed,
    /// How long no byte can move in either direction, and how long a transport can take none.
    patience: Duration,
    moved: Instant,
    alarm: Pin<Box<Sleep>>,
}

/// Why a tunnel has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Both sides have ended.
    Whole,
    /// The application broke off, and the client was sent everything before that.
    Broken,
    /// The client has left, or the server ends.
    Left,
    /// No byte has moved for too long.
    Silent,
    /// A side took no byte for too long.
    Stalled,
}

impl<C, A> Tunnel<C, A> {
    pub(super) fn new(client: C, application: A, passed: Passed, patience: Duration) -> Self {
        Self {
            client,
            application,
            up: Flow::default(),
            down: Flow::default(),
            passed,
            patience,
            moved: Instant::now(),
            alarm: Box::pin(sleep_until(after(patience))),
        }
    }

    /// Returns the time at which the tunnel ends if nothing happens, and why it does.
    fn deadline(&self) -> (Instant, End) {
        let silence = match (self.down.stage, self.up.stage) {
            (Stage::Over, Stage::Unwanted) => self.patience.min(LINGER),
            (Stage::Over, _) => self.patience.min(ENDED),
            _ => self.patience,
        };
        let far = || after(Duration::MAX);
        let until = |since: Instant, time| since.checked_add(time).unwrap_or_else(far);
        let stalls = [self.up.stalled, self.down.stalled].into_iter().flatten();
        let stalled = stalls.map(|since| (until(since, self.patience), End::Stalled));
        let silent = (until(self.moved, silence), End::Silent);
        stalled.fold(silent, |one, two| if two.0 < one.0 { two } else { one })
    }

    /// Completes when both directions are over, when the client has left, or at a deadline.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let is_over = self.up.stage == Stage::Over && self.down.stage == Stage::Over;
        match (self.up.fault, self.down.fault) {
            (Some(Fault::Reading), _) | (_, Some(Fault::Writing)) => Poll::Ready(End::Left),
            (_, Some(Fault::Reading)) if is_over => Poll::Ready(End::Broken),
            (_, None) if is_over => Poll::Ready(End::Whole),
            _ => self.poll_late(cx),
        }
    }

    /// Completes when a deadline has passed.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let (deadline, end) = self.deadline();
            if deadline <= Instant::now() {
                return Poll::Ready(end);
            }
            if deadline < self.alarm.deadline() {
                self.alarm.as_mut().reset(deadline);
            }
            ready!(self.alarm.as_mut().poll(cx));
            // The alarm was set for an earlier deadline.
            self.alarm.as_mut().reset(deadline);
        }
    }
}

impl<C, A> Future for Tunnel<C, A>
where
    C: AsyncRead + AsyncWrite + Unpin,
    A: AsyncRead + AsyncWrite + Unpin,
{
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let this = &mut *self;
        let before = (this.up.bytes(), this.down.bytes());
        this.up.poll(cx, &mut this.client, &mut this.application);
        this.down.poll(cx, &mut this.application, &mut this.client);
        this.passed.received(this.up.read - before.0.0);
        this.passed.sent(this.down.written - before.1.1);
        if (this.up.bytes(), this.down.bytes()) != before {
            this.moved = Instant::now();
        }
        if this.down.fault == Some(Fault::Reading) && this.up.stage == Stage::Passing {
            // The application is gone.
            this.up.give_up();
            this.up.poll(cx, &mut this.client, &mut this.application);
        }
        let end = ready!(this.poll_end(cx));
        if this.down.stage == Stage::Over && this.down.fault.is_none() {
            this.passed.whole();
        }
        Poll::Ready(end)
    }
}

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    stage: Stage,
    fault: Option<Fault>,
    /// Bytes that the receiver has not taken, [`BUFFER`] at most.
    kept: Vec<u8>,
    /// How many of them it has taken, or how many bytes were thrown away.
    taken: usize,
    read: u64,
    written: u64,
    /// Whether bytes that were written might wait in the transport.
    is_unflushed: bool,
    /// Since when the receiver has taken no byte.
    stalled: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Passing,
    /// The sender has ended, and the receiver is to learn it.
    Ending,
    /// The receiver takes no more, and further bytes are thrown away. If the transport of the
    /// sender was closed with bytes unread, it could lose those of the other direction.
    Unwanted,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Reading,
    Writing,
}

impl Flow {
    const fn bytes(&self) -> (u64, u64) {
        (self.read, self.written)
    }

    /// Passes bytes until one of the sides has to be waited for.
    fn poll<F, T>(&mut self, cx: &mut Context<'_>, from: &mut F, to: &mut T)
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        let mut polled = Poll::Ready(());
        while polled.is_ready() && self.stage != Stage::Over {
            polled = match self.stage {
                Stage::Passing => self.poll_pass(cx, from, to),
                Stage::Ending => self.poll_end(cx, to),
                Stage::Unwanted => self.poll_discard(cx, from),
                Stage::Over => Poll::Pending,
            };
        }
    }

    fn poll_pass<F, T>(&mut self, cx: &mut Context<'_>, from: &mut F, to: &mut T) -> Poll<()>
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        ready!(self.poll_write(cx, to));
        if self.stage != Stage::Passing {
            return Poll::Ready(());
        }
        let mut space = [MaybeUninit::uninit(); BUFFER];
        let mut buf = ReadBuf::uninit(&mut space);
        match Pin::new(from).poll_read(cx, &mut buf) {
            Poll::Pending => {
                ready!(self.poll_flush(cx, to));
                return Poll::Pending;
            }
            Poll::Ready(Ok(())) if buf.filled().is_empty() => self.stage = Stage::Ending,
            Poll::Ready(Ok(())) => {
                self.read += buf.filled().len() as u64;
                self.kept.extend_from_slice(buf.filled());
            }
            Poll::Ready(Err(_)) => {
                self.fault = Some(Fault::Reading);
                self.stage = Stage::Ending;
            }
        }
        Poll::Ready(())
    }

    /// Writes what is kept, and keeps no memory after that.
    fn poll_write<T: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut T) -> Poll<()> {
        while self.taken < self.kept.len() {
            let taken = Pin::new(&mut *to).poll_write(cx, &self.kept[self.taken..]);
            match ready!(self.watch(taken)) {
                Ok(taken @ 1..) => {
                    self.taken += taken;
                    self.written += taken as u64;
                    self.is_unflushed = true;
                }
                Ok(0) | Err(_) => {
                    self.fault = Some(Fault::Writing);
                    self.give_up();
                    return Poll::Ready(());
                }
            }
        }
        self.kept = Vec::new();
        self.taken = 0;
        Poll::Ready(())
    }

    fn poll_flush<T: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut T) -> Poll<()> {
        if self.is_unflushed {
            let flushed = Pin::new(to).poll_flush(cx);
            match ready!(self.watch(flushed)) {
                Ok(()) => self.is_unflushed = false,
                Err(_) => {
                    self.fault = Some(Fault::Writing);
                    self.give_up();
                    // It has to be polled in its new stage.
                    cx.waker().wake_by_ref();
                }
            }
        }
        Poll::Ready(())
    }

    fn poll_end<T: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut T) -> Poll<()> {
        let shut = Pin::new(to).poll_shutdown(cx);
        // If it fails, the receiver has ended before.
        _ = ready!(self.watch(shut));
        self.stage = Stage::Over;
        Poll::Ready(())
    }

    fn poll_discard<F: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
    ) -> Poll<()> {
        let mut space = [MaybeUninit::uninit(); BUFFER];
        let mut buf = ReadBuf::uninit(&mut space);
        let read = ready!(Pin::new(from).poll_read(cx, &mut buf));
        let bytes = buf.filled().len();
        self.read += bytes as u64;
        self.taken += bytes;
        if read.is_err() || bytes == 0 || self.taken > MOST {
            self.stage = Stage::Over;
        }
        Poll::Ready(())
    }

    /// Throws away what the receiver does not take.
    fn give_up(&mut self) {
        self.stage = Stage::Unwanted;
        self.kept = Vec::new();
        self.taken = 0;
        self.stalled = None;
    }

    /// Notes since when the receiver has taken nothing.
    fn watch<R>(&mut self, outcome: Poll<R>) -> Poll<R> {
        match outcome {
            Poll::Ready(_) => self.stalled = None,
            Poll::Pending => _ = self.stalled.get_or_insert_with(Instant::now),
        }
        outcome
    }
}

/// The maximum number of bytes that wait in one direction for a side that does not read, beside
/// those in the system.
const BUFFER: usize = 16 * 1024;

/// How long a client can be silent once the application has ended.
const ENDED: Duration = Duration::from_secs(60);

/// The same if the application takes nothing more, as in [`linger`](crate::linger).
const LINGER: Duration = Duration::from_secs(5);

/// The maximum number of bytes that are thrown away.
const MOST: usize = 1 << 20;

#[cfg(test)]
mod tests;
