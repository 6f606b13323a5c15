//! What handles and the driver of a session share.
//!
//! ```text
//!   handle/…  ── orders ──►   Hub, one for each session           ◄── takes orders ──  driver/…
//!                             │ mailbox   cells with orders, waking; under its lock:
//!                             │   session   opens, PINGs, shutdown; settings, outcome
//!                             │   backlog   streams that wait to be accepted
//!                             │ budget    how much payload is queued and consumed
//!                             ▲
//!             ── orders ──►   StreamCell, one for each stream     ◄── events ──
//!                               what came, what is to be sent, orders, the end
//! ```
//!
//! A handle never touches the protocol machine. It leaves orders here, and the driver carries them
//! out. The driver leaves here what has happened, and wakes the task of the handle. Handles and
//! driver know this module, and it knows neither of them: nothing here is a handle, so to drop
//! something here does nothing by itself.
//!
//! # Locks
//!
//! There are three locks: that of a cell, that of the mailbox, and that of the list in the budget.
//! They are locked in one order: the cell first, then one of the other two, never both of these.
//!
//! No code of the application runs under a lock: no task is woken, and nothing that the application
//! gave is dropped. Payload can have an owner, the last waker of a task can end that task, and a
//! [`Note`](session::Note) captures what it likes; each of them may use the same stream. So a
//! function that takes such a thing out under a lock returns it. The driver calls the machine
//! without a lock, because the machine drops payload.
//!
//! # A read without the lock
//!
//! A handle that gives an order has the lock of its cell. If the cell is on the ready list already,
//! the handle only has to know whether to wake the driver. For that it reads `is_parked`, and what
//! the parked driver heeds, without the lock of the mailbox. These reads and writes are `Relaxed`,
//! and still no wake is lost:
//!
//! 1. The driver parks under the lock of the mailbox, and only while the ready list is empty. So if
//!    the driver is parked, the cell came onto the list after that, under the same lock. Therefore
//!    the driver wrote `is_parked` before the cell was listed.
//! 2. A cell is listed under its own lock. The handle has that lock now, and it saw that the cell
//!    is listed. Therefore the cell was listed before the handle reads `is_parked`.
//! 3. From 1 and 2: the write came before the read. So the handle reads `true`, or something that
//!    was written after that.
//! 4. If it reads something that was written after that, it reads `false`: the driver was woken.
//!    Before the driver parks again, it empties the list, and it locks each cell of the list to
//!    carry out its orders. The handle has the lock of its cell now, so the driver comes to that
//!    cell later, and finds the new order.
//!
//! Beside these, the [`Budget`] has sums that are counted without a lock, and its own argument for
//! the tasks that wait for them. `shuttle/` tries the orders in which all of this may run.

pub(crate) mod backlog;
pub(crate) mod budget;
pub(crate) mod mailbox;
pub(crate) mod session;
pub(crate) mod stream_cell;
mod wakers;

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use spdy_frame::{Setting, Settings, Side, StreamId, Version};
use tokio::sync::{Notify, oneshot};

use self::{
    backlog::{Backlog, Waiting},
    budget::Budget,
    mailbox::Mailbox,
    session::{OpenOrder, Orders, SessionState},
    wakers::wake,
};
use crate::{
    OpenError, SessionError,
    config::Config,
    proto::{Heeds, Outcome, Shutdown},
    queue::Queue,
    sync::{AtomicBool, Ordering},
};

/// The meeting place of a session's handles and the driver. A stream has a cell `C`, which knows
/// the hub; the hub does not know what is in a cell.
#[derive(Debug)]
pub(crate) struct Hub<C> {
    pub(crate) side: Side,
    pub(crate) version: Version,
    pub(crate) mailbox: Mailbox<Arc<C>, State<C>>,
    pub(crate) budget: Budget,
    /// Whether a handle has ordered the session to end at once.
    is_cut: AtomicBool,
    ended: Notify,
}

/// The state under the lock of the mailbox.
#[derive(Debug)]
pub(crate) struct State<C> {
    session: SessionState<C>,
    backlog: Backlog<C>,
}

impl<C> Hub<C> {
    pub(crate) fn new(side: Side, version: Version, config: Arc<Config>) -> Self {
        let state = State {
            session: SessionState::new(),
            backlog: Backlog::new(),
        };
        Self {
            side,
            version,
            mailbox: Mailbox::new(state),
            budget: Budget::new(config),
            is_cut: AtomicBool::new(false),
            ended: Notify::new(),
        }
    }
}

/// For handles of streams.
impl<C> Hub<C> {
    /// Returns the last moment at which the peer could not send payload; `now` if it cannot at
    /// present.
    pub(crate) fn held_up_until(&self, now: Instant) -> Option<Instant> {
        self.mailbox.lock().state.session.held_up_until(now)
    }

    /// Returns whether the session was ordered to end at once. Then no stream may be reset any
    /// more, and dropping a handle resets nothing: if the cell of the stream is on the ready list
    /// already, the driver would carry out the reset before it ends the session. The peer could
    /// take it for the end of the stream.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }
}

/// For the handles of the session.
impl<C> Hub<C> {
    pub(crate) fn open(&self, order: OpenOrder<C>) -> Result<(), OpenError> {
        self.mailbox
            .order(|state, _| state.session.order_open(order))
            .map_err(|(outcome, _)| OpenError::Session(error_of(outcome)))
    }

    pub(crate) fn ping(&self, answer: oneshot::Sender<Duration>) -> Result<(), SessionError> {
        self.mailbox
            .order(|state, _| state.session.order_ping(answer))
            .map_err(|(outcome, _)| error_of(outcome))
    }

    pub(crate) fn shutdown(&self, how: Shutdown) {
        if how == Shutdown::Now {
            self.is_cut.store(true, Ordering::Relaxed);
        }
        // A session that has ended is shut down already.
        _ = self
            .mailbox
            .order(|state, ready| state.session.order_shutdown(how, ready));
    }

    pub(crate) fn peer_settings(&self) -> Vec<Setting> {
        self.mailbox.lock().state.session.peer_settings()
    }

    pub(crate) fn can_open(&self) -> bool {
        self.mailbox.lock().state.session.can_open()
    }

    fn outcome(&self) -> Option<Outcome> {
        self.mailbox.lock().state.session.outcome().cloned()
    }

    /// Returns the error for a task that wanted something of a session that has ended.
    pub(crate) fn error(&self) -> SessionError {
        error_of(self.outcome().unwrap_or(Ok(())))
    }

    /// Waits for the end of the session.
    pub(crate) async fn ended(&self) -> Outcome {
        loop {
            let mut ended = pin!(self.ended.notified());
            ended.as_mut().enable();
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            ended.await;
        }
    }

    pub(crate) fn session_cloned(&self) {
        self.mailbox.lock().state.session.add_handle();
    }

    /// Counts a handle less. Without a handle that could open or accept a stream, the session ends
    /// when its streams have ended.
    pub(crate) fn session_dropped(&self) {
        let is_abandoned = {
            let state = &mut self.mailbox.lock().state;
            state.session.drop_handle();
            state.is_abandoned()
        };
        if is_abandoned {
            self.shutdown(Shutdown::Graceful { deadline: None });
        }
    }
}

/// For the handle that accepts streams.
impl<C> Hub<C> {
    /// Takes a stream that waits. Without one, returns the outcome of the session if it has ended.
    pub(crate) fn accept(&self) -> Result<Waiting<C>, Option<Outcome>> {
        let state = &mut self.mailbox.lock().state;
        state
            .backlog
            .pop()
            .ok_or_else(|| state.session.outcome().cloned())
    }

    pub(crate) fn poll_accept(&self, cx: &Context<'_>) -> Poll<Option<Waiting<C>>> {
        let replaced = {
            let state = &mut self.mailbox.lock().state;
            match state.backlog.pop() {
                Some(stream) => return Poll::Ready(Some(stream)),
                None if state.session.outcome().is_some() => return Poll::Ready(None),
                None => state.backlog.register(cx),
            }
        };
        drop(replaced);
        Poll::Pending
    }

    /// Accepts no more streams. Returns those that wait, which the caller has to refuse. It may be
    /// the last handle that keeps the session from its end: see
    /// [`session_dropped`](Self::session_dropped).
    pub(crate) fn incoming_dropped(&self) -> Queue<Waiting<C>> {
        let (waiting, is_abandoned) = {
            let state = &mut self.mailbox.lock().state;
            (state.backlog.close(), state.is_abandoned())
        };
        if is_abandoned {
            self.shutdown(Shutdown::Graceful { deadline: None });
        }
        waiting
    }
}

/// For the driver.
impl<C> Hub<C> {
    /// Takes the orders. `ready` gets the cells that have some, and `accepted` the streams that do
    /// not wait to be accepted any more; both are empty before. Returns the orders of the session,
    /// of which there usually are none.
    pub(crate) fn take_orders(
        &self,
        ready: &mut Vec<Arc<C>>,
        accepted: &mut Vec<StreamId>,
    ) -> Option<Orders<C>> {
        self.budget.reset_consumed();
        let state = &mut self.mailbox.take_ready(ready).state;
        state.backlog.take_accepted(accepted);
        state.session.take_orders()
    }

    /// Registers the driver's task to be woken by the next order, and by news that `heeds` names.
    /// Returns false if there are orders already.
    pub(crate) fn park(&self, cx: &Context<'_>, heeds: Heeds) -> bool {
        self.mailbox
            .park(cx, heeds, |state| !state.session.has_orders())
    }

    /// Frees memory that is not needed after many streams.
    pub(crate) fn free_spare(&self) {
        self.mailbox.free_spare(|state| state.backlog.free_spare());
    }

    pub(crate) fn note_settings(&self, frame: &Settings) {
        self.mailbox.lock().state.session.note_settings(frame);
    }

    pub(crate) fn note_held_up(&self, is_held_up: bool, now: Instant) {
        let state = &mut self.mailbox.lock().state;
        state.session.note_held_up(is_held_up, now);
    }

    pub(crate) fn note_going_away(&self) {
        self.mailbox.lock().state.session.note_going_away();
    }

    /// Offers a stream of the peer to be accepted. Returns it if no handle can accept it.
    pub(crate) fn offer(&self, stream: Waiting<C>) -> Result<(), Waiting<C>> {
        let pushed = self.mailbox.lock().state.backlog.push(stream);
        pushed.map(wake)
    }

    /// Ends the session, and informs its handles. The cells of streams are informed before.
    pub(crate) fn end(&self, outcome: Outcome) {
        if self.outcome().is_some() {
            return;
        }
        let (ready, (orders, (waiting, waker))) = self
            .mailbox
            .close(|state| (state.session.end(outcome), state.backlog.end()));
        // Dropped without a lock, orders tell the tasks that gave them that no answer will come.
        drop((ready, orders, waiting));
        wake(waker);
        self.ended.notify_waiters();
    }

    /// For tests: returns the cells whose orders have not been carried out, or what else is left
    /// undone.
    pub(crate) fn check_rest(&self) -> Result<Vec<Arc<C>>, String> {
        let contents = self.mailbox.lock();
        if !contents.is_parked() {
            return Err("the driver can be woken by no order".into());
        }
        if contents.state.session.has_orders() {
            return Err("an order of a session handle is not looked at".into());
        }
        if contents.state.backlog.has_missed_wake() {
            return Err("a stream waits, and the task that accepts was not woken".into());
        }
        Ok(contents.ready())
    }
}

impl<C> State<C> {
    /// Whether no handle can open or accept a stream.
    fn is_abandoned(&self) -> bool {
        !self.session.has_handles() && !self.backlog.is_open()
    }
}

/// Returns the outcome as an error: an orderly end is one to a task that was not done.
fn error_of(outcome: Outcome) -> SessionError {
    outcome.err().unwrap_or(SessionError::Closed)
}
