//! The future that moves bytes between a transport and the protocol machine.
//!
//! [`Driver::poll_around`] runs turns as long as there is work. One turn:
//!
//! ```text
//!   orders of the handles ─► machine
//!   transport ─► machine ─► events ─► handles     until there is nothing more, or for a while
//!   work of the caller, which acts on its handles
//!   orders of the handles ─► machine ─► transport one vectored write for all that is ready
//! ```
//!
//! The machine belongs to the driver alone. The driver meets the handles in the [shared
//! state](crate::shared): in the cell of each stream and in the [`Hub`].

mod dispatch;
mod patience;
mod rest;
mod transport;

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Handle,
    time::{Sleep, sleep_until},
};

use self::{
    dispatch::Dispatch,
    patience::{Patience, Rest},
    transport::{Read, Transport},
};
use crate::{
    SessionError,
    memory::Share,
    proto::{Connection, Outcome, Phase},
    shared::stream_cell::Hub,
};

/// Drives one session. The future ends when the session has ended, with `Ok` if it ended in order.
/// Then the transport has passed on every stream that was reported as written. If it cannot, or not
/// in time, the result is its error.
///
/// Poll it within a tokio runtime whose time is enabled. Dropping it drops the transport. Then open
/// streams fail, and [`Session::closed`](crate::Session::closed) returns [`SessionError::Closed`].
#[must_use = "a session does nothing unless its driver is polled"]
pub struct Driver<IO> {
    transport: Transport<IO>,
    dispatch: Dispatch,
    /// Goes off at the next deadline, or at an earlier moment.
    alarm: Option<Pin<Box<Sleep>>>,
    /// The runtime of the alarm, if it is not the one that polls.
    timers: Option<Handle>,
    stage: Stage,
}

/// How far the end has progressed.
#[derive(Debug)]
enum Stage {
    Running,
    /// The transport takes no more bytes. It is read to its end, because the peer may have sent all
    /// of a response before it closed.
    Unwritable(SessionError, Rest),
    /// The transport has everything since this moment, and has not passed it on: TLS holds what the
    /// socket does not take.
    Flushing(Instant),
    /// Everything is written. The transport is read for a while, so that the peer reads what it has
    /// before a TCP reset destroys it.
    Lingering(Patience),
    Ended(Outcome),
}

/// Why the driver stopped reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "reading may have to go on in this poll"]
enum Reading {
    /// The transport has nothing, and wakes the task when it has. Or it has ended.
    Transport,
    /// The connection accepts no input now. No waker is registered with the transport.
    Paused,
    /// This turn has read its share.
    Share,
}

impl Reading {
    /// Returns whether more could be read immediately.
    fn may_go_on(self, connection: &Connection) -> bool {
        match self {
            Self::Transport => false,
            Self::Paused => connection.wants_input(),
            Self::Share => true,
        }
    }
}

impl<IO> Driver<IO> {
    /// Creates a driver of `connection` that shares `hub` with the handles.
    pub(crate) fn new(io: IO, connection: Connection, hub: Arc<Hub>) -> Self {
        let share = Share::new(connection.config().memory.clone());
        Self {
            transport: Transport::new(io),
            dispatch: Dispatch::new(share, connection, hub),
            alarm: None,
            timers: None,
            stage: Stage::Running,
        }
    }

    /// Lets another runtime than the one that polls the driver watch the deadlines of the session.
    /// Call it before the first poll.
    ///
    /// A runtime that watches deadlines sleeps with a timer of the system. For requests that come
    /// one by one, this timer costs about a tenth of what the system does for a small request. A
    /// second runtime on its own thread saves that, because it is woken only when a deadline has
    /// really passed, which rarely happens.
    ///
    /// # Panics
    ///
    /// Polling the driver panics if the time of that runtime is not enabled, or if the runtime has
    /// ended.
    pub fn timers(mut self, runtime: Handle) -> Self {
        self.timers = Some(runtime);
        self
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Driver<IO> {
    /// Polls the driver, and calls `work` in each turn, on the same task, between reading and
    /// writing. Payload that `work` queues on streams is written in the same turn, and needs no
    /// wake-up of this task.
    ///
    /// `work` returns whether it may have more to do immediately. It is called again in the next
    /// turn.
    ///
    /// # Errors
    ///
    /// Returns why the session has ended, unless it ended in order.
    pub fn poll_around(
        &mut self,
        cx: &mut Context<'_>,
        mut work: impl FnMut(&mut Context<'_>) -> bool,
    ) -> Poll<Result<(), SessionError>> {
        if let Stage::Ended(outcome) = &self.stage {
            return Poll::Ready(outcome.clone());
        }
        self.dispatch.hub.mailbox.unpark();
        let start = now();
        let mut now = start;
        for _ in 0..TURNS_PER_POLL {
            self.dispatch.carry_out(now);
            let reading = self.read(cx, now);
            let mut more = work(cx);
            self.dispatch.carry_out(now);
            self.write(cx, now);
            if let Poll::Ready(outcome) = self.poll_end(cx, now) {
                self.dispatch.end(outcome.clone());
                self.stage = Stage::Ended(outcome.clone());
                return Poll::Ready(outcome);
            }
            more |= self.poll_alarm(cx);
            // This is the one place that checks whether anything can go on. A read, a write, an
            // order or a deadline of this turn may have made it possible.
            more |= reading.may_go_on(&self.dispatch.connection) || self.dispatch.can_open_next();
            self.dispatch.tell_hub(now);
            if !more && self.dispatch.park(cx) {
                self.transport.rest();
                self.dispatch.release_memory();
                self.dispatch.count_memory(self.transport.held());
                return Poll::Pending;
            }
            now = self::now();
            if now.saturating_duration_since(start) >= MAX_POLL {
                break;
            }
        }
        self.dispatch.count_memory(self.transport.held());
        // Lets other tasks run first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Returns whether the session is over: every stream has ended, and the last frames are written
    /// and the transport is closed. `Timeouts::write`, `Timeouts::close` and `Timeouts::linger`
    /// limit how long that takes. To wait for less, drop the driver.
    pub fn is_closing(&self) -> bool {
        self.dispatch.connection.phase() == Phase::Closing
    }

    /// Returns whether the session is over, everything is written, and only the close of the peer
    /// is waited for, which `Timeouts::close` and `Timeouts::linger` limit. To wait for less, drop
    /// the driver: then the peer can lose what it has not read.
    pub fn is_lingering(&self) -> bool {
        matches!(self.stage, Stage::Lingering(_)) && self.transport.is_shut_down()
    }

    /// Returns whether the transport holds the end of a stream whose
    /// [`written`](crate::SendStream::written) has returned or returns next: it has taken more than
    /// it has passed on. A `Driver` that is dropped meanwhile, or ends with an error, loses that
    /// end. While a transport is full it counts as one that holds something.
    pub fn holds_written(&self) -> bool {
        self.dispatch.connection.holds_end()
    }

    /// Reads and handles what the transport has. Returns why it stopped.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> Reading {
        let dispatch = &mut self.dispatch;
        let mut was_read = false;
        for _ in 0..READS_PER_TURN {
            dispatch.read_buffer = self.transport.buffer_size();
            while dispatch
                .connection
                .handle_input(now, self.transport.buffer())
            {
                dispatch.deliver();
            }
            let is_wanted = dispatch.connection.wants_input();
            if let Stage::Unwritable(_, rest) = &mut self.stage {
                rest.look(&dispatch.connection, is_wanted, was_read, now);
            }
            if !is_wanted {
                return Reading::Paused;
            }
            if self::now().saturating_duration_since(now) >= MAX_POLL {
                return Reading::Share;
            }
            match self.transport.poll_read(cx) {
                Read::Some => {
                    was_read = true;
                    continue;
                }
                Read::Nothing => {}
                Read::End => dispatch.connection.handle_eof(now),
                Read::Failed(error) => dispatch.connection.handle_transport_error(error.into()),
            }
            dispatch.deliver();
            return Reading::Transport;
        }
        Reading::Share
    }

    /// Writes the bytes that can leave now.
    fn write(&mut self, cx: &mut Context<'_>, now: Instant) {
        let connection = &mut self.dispatch.connection;
        if let Stage::Unwritable(..) = self.stage {
            // Nothing comes out.
            connection.poll_transmit(now);
            return self.dispatch.deliver();
        }
        let polled = self.transport.poll_write(cx, connection, now);
        connection.note_held(self.transport.is_unflushed());
        // Before the tasks are woken that wait for bytes to leave.
        let budget = &self.dispatch.hub.budget;
        budget.note_turn(self.transport.written, polled.is_ready());
        if let Poll::Ready(Err(error)) = polled {
            let error = SessionError::from(error);
            connection.handle_write_error(error.clone());
            if connection.phase() != Phase::Closing {
                self.stage = Stage::Unwritable(error, Rest::new(connection, now));
                // The transport may have been read to its end in this turn.
                cx.waker().wake_by_ref();
            }
        }
        self.dispatch.deliver();
    }

    /// Waits until the session has ended and the transport is done.
    fn poll_end(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Outcome> {
        let connection = &mut self.dispatch.connection;
        if connection.phase() != Phase::Closing || connection.has_output() {
            return Poll::Pending;
        }
        if self.transport.is_unflushed() && !connection.is_broken() {
            let since = match self.stage {
                Stage::Flushing(since) => since,
                _ => now,
            };
            self.stage = Stage::Flushing(since);
            if connection.flush_deadline(since).is_none_or(|at| now < at) {
                return Poll::Pending;
            }
            connection.handle_unflushed();
        }
        let mut linger = match self.stage {
            Stage::Lingering(linger) => linger,
            _ => Patience::of_an_end(connection, now),
        };
        if connection.is_cut() {
            linger.at_most(now + connection.config().timeouts.linger);
        }
        self.stage = Stage::Lingering(linger);
        if now < linger.until {
            ready!(self.transport.poll_shutdown(cx));
            let before = self.transport.drained;
            let polled = self.transport.poll_drain(cx);
            if self.transport.drained > before {
                linger.heard(now);
                self.stage = Stage::Lingering(linger);
            }
            ready!(polled);
        }
        Poll::Ready(connection.outcome().clone())
    }

    /// Acts on deadlines that have passed, and registers the task for the next one. Returns whether
    /// there is work now.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> bool {
        let next = match self.stage {
            Stage::Lingering(linger) => Some(linger.until),
            Stage::Flushing(since) => self.dispatch.connection.flush_deadline(since),
            Stage::Unwritable(_, rest) => {
                let next = self.dispatch.connection.poll_timeout();
                [next, Some(rest.until())].into_iter().flatten().min()
            }
            _ => self.dispatch.connection.poll_timeout(),
        };
        let Some(next) = next.map(tokio::time::Instant::from_std) else {
            return false;
        };
        let alarm = self.alarm.get_or_insert_with(|| {
            let _context = self.timers.as_ref().map(Handle::enter);
            Box::pin(sleep_until(next))
        });
        // A deadline that moved further away is checked when the old one has passed, because most
        // deadlines never pass.
        if next < alarm.deadline() || alarm.is_elapsed() {
            alarm.as_mut().reset(next);
        }
        if alarm.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.dispatch.note_partly_read();
        let now = now();
        self.dispatch.connection.handle_timeout(now);
        if let Stage::Unwritable(error, rest) = &self.stage
            && rest.until() <= now
        {
            let connection = &mut self.dispatch.connection;
            connection.handle_transport_error(error.clone());
        }
        self.dispatch.forget_pings();
        self.dispatch.deliver();
        true
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Future for Driver<IO> {
    type Output = Result<(), SessionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().poll_around(cx, |_| false)
    }
}

impl<IO> fmt::Debug for Driver<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("side", &self.dispatch.hub.side)
            .field("version", &self.dispatch.hub.version)
            .field("streams", &self.dispatch.cells.len())
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl<IO> Drop for Driver<IO> {
    fn drop(&mut self) {
        if !matches!(self.stage, Stage::Ended(_)) {
            self.dispatch.end(Err(SessionError::Closed));
        }
    }
}

/// Returns the present time, which tests can set.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// After this time in one poll, no turn begins and nothing more is read, so that other tasks can
/// run.
const MAX_POLL: Duration = Duration::from_micros(500);

/// How many turns one poll has, however short they are, before other tasks can run.
const TURNS_PER_POLL: usize = 8;

/// How many reads one turn has, so that a peer that sends faster than this side can handle does not
/// keep it from writing.
const READS_PER_TURN: usize = 4;
