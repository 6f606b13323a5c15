//! The bytes of a client and of an application that have switched to another protocol.
//!
//! Each direction ends by itself, after its last byte, and its end is passed on. So a client that
//! has ended its direction still gets the rest of what the application sends.
//!
//! A direction that breaks off is broken off on the other side, too: bytes of which the last are
//! missing never look whole. See [`tail`](crate::tail).

use std::{
    future::Future,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    config::after,
    observe::Passed,
    tail::{LINGER, Tail},
};

/// A transport, and the state of the end of what is written.
pub(super) struct Side<IO> {
    io: IO,
    /// `None` if the transport is not one of this crate. Then it cannot be reset.
    tail: Option<Tail>,
}

impl<IO> Side<IO> {
    /// From now on the transport is reset when it is dropped, unless it was shut down.
    pub(super) fn new(io: IO, tail: Option<Tail>) -> Self {
        tail.iter().for_each(Tail::open);
        Self { io, tail }
    }
}

impl<IO: AsyncWrite + Unpin> Side<IO> {
    /// Passes on the end of the other side. A transport is shut down only behind its last byte.
    fn poll_end(&mut self, cx: &mut Context<'_>, last: Last) -> Poll<io::Result<()>> {
        let io = Pin::new(&mut self.io);
        match (last, &self.tail) {
            (Last::Whole, _) => io.poll_shutdown(cx),
            (Last::Cut, Some(tail)) => {
                tail.cut();
                io.poll_shutdown(cx)
            }
            (Last::Cut, None) => io.poll_flush(cx),
        }
    }
}

/// Passes bytes both ways. Completes with the reason of the end. When it is dropped, it closes both
/// transports.
pub(super) struct Tunnel<C, A> {
    client: Side<C>,
    application: Side<A>,
    up: Flow,
    down: Flow,
    passed: Passed,
    /// How long no byte can move in either direction, and how long a transport can take none.
    patience: Duration,
    moved: Instant,
    /// Since when one side takes nothing more, and only the rest of the other one is waited for.
    leaving: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
}

/// Why a tunnel has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Both sides have ended.
    Whole,
    /// The application broke off, and the client was sent everything before that.
    Broken,
    /// The client has left, or the server ends. The application was sent everything before that.
    Left,
    /// No byte has moved for too long.
    Silent,
    /// A side took no byte for too long.
    Stalled,
}

impl<C, A> Tunnel<C, A> {
    pub(super) fn new(
        client: Side<C>,
        application: Side<A>,
        passed: Passed,
        patience: Duration,
    ) -> Self {
        Self {
            client,
            application,
            up: Flow::default(),
            down: Flow::default(),
            passed,
            patience,
            moved: Instant::now(),
            leaving: None,
            alarm: Box::pin(sleep_until(after(patience))),
        }
    }

    /// Returns the time at which the tunnel ends if nothing happens, and why it does.
    fn deadline(&self) -> (Instant, End) {
        let silence = match self.down.stage {
            _ if self.leaving.is_some() => self.patience.min(LINGER),
            Stage::Over => self.patience.min(ENDED),
            _ => self.patience,
        };
        let far = || after(Duration::MAX);
        let until = |since: Instant, time| since.checked_add(time).unwrap_or_else(far);
        let stalls = [self.up.stalled, self.down.stalled].into_iter().flatten();
        let stalled = stalls.map(|since| (until(since, self.patience), End::Stalled));
        let longest = self
            .leaving
            .map(|since| (until(since, LONGEST), End::Silent));
        let silent = (until(self.moved, silence), End::Silent);
        let earlier =
            |one: (Instant, End), two: (Instant, End)| if two.0 < one.0 { two } else { one };
        stalled.chain(longest).fold(silent, earlier)
    }

    /// Completes when nothing is left to pass on, or at a deadline.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let (up, down) = (&self.up, &self.down);
        match (up.fault, down.fault) {
            (Some(Fault::Reading), _) if up.stage == Stage::Over => Poll::Ready(End::Left),
            (_, Some(Fault::Writing)) if up.has_ended() => Poll::Ready(End::Left),
            (_, Some(Fault::Reading)) if down.stage == Stage::Over => Poll::Ready(End::Broken),
            (_, None) if up.stage == Stage::Over && down.stage == Stage::Over => {
                Poll::Ready(End::Whole)
            }
            _ => self.poll_late(cx),
        }
    }

    /// Notes since when only the rest of one side is waited for.
    fn note_leaving(&mut self) {
        let refuses = self.down.stage == Stage::Over && self.up.stage == Stage::Unwanted;
        if refuses || self.down.fault == Some(Fault::Writing) {
            self.leaving.get_or_insert_with(Instant::now);
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
        this.down.is_doubtful = this.up.has_met_reset;
        this.down.poll(cx, &mut this.application, &mut this.client);
        this.up.is_doubtful = this.down.has_met_reset;
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
        this.note_leaving();
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
    /// Whether a write has found that the receiver has reset its connection.
    has_met_reset: bool,
    /// Whether a write of the other direction has found that the sender has reset its connection.
    /// A system that tells that once says that the sender has ended when it is read.
    is_doubtful: bool,
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
    /// The sender sends nothing more, and the receiver is to learn it.
    Ending(Last),
    /// The receiver takes no more, and further bytes are thrown away. If the transport of the
    /// sender was closed with bytes unread, it could lose those of the other direction.
    Unwanted,
    Over,
}

/// How a sender has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// It has sent everything, and has said so.
    Whole,
    /// It has broken off.
    Cut,
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

    /// Returns whether the receiver gets nothing more.
    fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Unwanted | Stage::Over)
    }

    /// Passes bytes until one of the sides has to be waited for.
    fn poll<F, T>(&mut self, cx: &mut Context<'_>, from: &mut Side<F>, to: &mut Side<T>)
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        let mut polled = Poll::Ready(());
        while polled.is_ready() && self.stage != Stage::Over {
            polled = match self.stage {
                Stage::Passing => self.poll_pass(cx, &mut from.io, &mut to.io),
                Stage::Ending(last) => self.poll_end(cx, last, to),
                Stage::Unwanted => self.poll_discard(cx, &mut from.io),
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
            Poll::Ready(Ok(())) if buf.filled().is_empty() && !self.is_doubtful => {
                self.stage = Stage::Ending(Last::Whole);
            }
            Poll::Ready(Ok(())) if buf.filled().is_empty() => self.cut(),
            Poll::Ready(Ok(())) => {
                self.read += buf.filled().len() as u64;
                self.kept.extend_from_slice(buf.filled());
            }
            Poll::Ready(Err(_)) => self.cut(),
        }
        Poll::Ready(())
    }

    fn cut(&mut self) {
        self.fault = Some(Fault::Reading);
        self.stage = Stage::Ending(Last::Cut);
    }

    fn fail_to_write(&mut self, error: io::ErrorKind) {
        self.fault = Some(Fault::Writing);
        // After the end of the receiver, the system reports a reset as a broken pipe.
        self.has_met_reset = TELLS_RESETS_ONCE && error != io::ErrorKind::BrokenPipe;
        self.give_up();
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
                Ok(0) => {
                    self.fail_to_write(io::ErrorKind::WriteZero);
                    return Poll::Ready(());
                }
                Err(error) => {
                    self.fail_to_write(error.kind());
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
                Err(error) => {
                    self.fail_to_write(error.kind());
                    // It has to be polled in its new stage.
                    cx.waker().wake_by_ref();
                }
            }
        }
        Poll::Ready(())
    }

    fn poll_end<T: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        last: Last,
        to: &mut Side<T>,
    ) -> Poll<()> {
        let ended = to.poll_end(cx, last);
        // If it fails, the receiver has ended before.
        _ = ready!(self.watch(ended));
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

/// Whether the system reports a reset that a write has met to no read. Others report it to each, so
/// a read that ends is to be believed.
const TELLS_RESETS_ONCE: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// The maximum number of bytes that wait in one direction for a side that does not read, beside
/// those in the system.
const BUFFER: usize = 16 * 1024;

/// How long a client can be silent once the application has ended.
const ENDED: Duration = Duration::from_secs(60);

/// How long the rest of one side is waited for in all, when the other one takes nothing more, as in
/// [`linger`](crate::linger). It can be silent for [`LINGER`].
const LONGEST: Duration = Duration::from_secs(30);

/// The maximum number of bytes that are thrown away.
const MOST: usize = 1 << 20;

#[cfg(test)]
mod tests;
