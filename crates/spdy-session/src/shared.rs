//! What all handles of a session share with its driver.
//!
//! # A read without a lock
//!
//! Locks are taken in one order: that of a cell, then that of the hub. Everything that is shared is
//! read under one of them, but for a sum (`consumed`) and one case: a handle whose cell is already
//! on the ready list reads `is_parked`, and what the parked driver heeds, under the lock of the
//! cell alone. It sees what it has to, though these reads and writes are `Relaxed`:
//!
//! 1. The driver parks under the lock of the hub, and only while the ready list is empty. So if the
//!    driver is parked, the cell was put on the list later, and under the lock of the hub too: the
//!    write of `is_parked` happened before.
//! 2. The cell was put on the list under its own lock. The handle holds that lock now and has read
//!    that the cell is listed. So the listing happened before the read of `is_parked`, and with it
//!    the write: the handle reads `true`, or what was written after it.
//! 3. What was written after it is `false`: the driver was woken. It looks at the list before it
//!    parks again, and locks each cell that is on it to carry out its orders. The handle holds that
//!    lock, so the driver comes after it and finds the new order.

pub(crate) mod budget;
pub(crate) mod stream_cell;

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use spdy_frame::{HeaderBlock, Setting, Settings, Side, StreamId, Version};
use tokio::sync::{Notify, oneshot};

use self::{
    budget::{Asking, Room, Verdict},
    stream_cell::StreamCell,
};
use crate::{
    OpenError, SessionError,
    config::Config,
    handle::{PendingStream, Stream},
    proto::{Heeds, OpenOptions, Outcome, Quiet, Shutdown},
    queue::Queue,
    sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError},
};

/// The meeting place of a session's handles and the driver.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) side: Side,
    pub(crate) version: Version,
    /// What may be queued to be sent.
    pub(crate) room: Room,
    /// Octets that were consumed since the driver last ran.
    consumed: AtomicUsize,
    /// Whether a part of a piece, which counts as consumed only as a whole, was read since the driver
    /// last asked. It asks when a deadline has come, so `Timeouts::unread` may take twice as long then.
    is_partly_read: AtomicBool,
    /// How many consumed bytes wake the driver that waits, and whether a released stream does: see
    /// [`Heeds`]. Written and read as `is_parked` is.
    heeds_consumed: AtomicUsize,
    heeds_releases: AtomicBool,
    /// Whether the driver waits to be woken. Written under the lock of `state`; the [module](self)
    /// says why it may be read without.
    is_parked: AtomicBool,
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Debug)]
struct State {
    orders: Orders,
    incoming: Incoming,
    /// How many [`Session`](crate::Session) handles there are.
    sessions: usize,
    /// The driver's task, while it waits to be woken.
    parked: Option<Waker>,
    /// One of the sides has said that it wants no more streams.
    going_away: bool,
    /// What the peer has announced: the latest entry of each id.
    settings: Vec<Setting>,
    /// When this side last kept the peer from sending payload.
    held_up: HeldUp,
    /// How the session ended, once it has.
    outcome: Option<Outcome>,
}

/// Whether the peer could send payload: what
/// [`Connection::holds_up_peer`](crate::proto::Connection::holds_up_peer) has said over time.
#[derive(Clone, Copy, Debug)]
enum HeldUp {
    Never,
    Until(Instant),
    Now,
}

/// What the driver is to do.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// The streams that have orders of their own.
    pub(crate) ready: Vec<Arc<StreamCell>>,
    pub(crate) opens: VecDeque<OpenOrder>,
    pub(crate) pings: Vec<oneshot::Sender<Duration>>,
    pub(crate) shutdown: Option<Shutdown>,
    /// How many of `ready` had orders before the shutdown was ordered.
    pub(crate) ready_before: usize,
}

/// A stream to be opened.
#[derive(Debug)]
pub(crate) struct OpenOrder {
    pub(crate) headers: HeaderBlock,
    pub(crate) how: OpenOptions,
    pub(crate) note: Note,
    pub(crate) answer: oneshot::Sender<Result<Stream, OpenError>>,
}

/// Hears the id of a stream as soon as it has one.
pub(crate) struct Note(pub(crate) Box<dyn FnOnce(StreamId) + Send>);

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Note")
    }
}

/// Streams of the peer that wait to be accepted.
#[derive(Debug)]
struct Incoming {
    queue: Queue<PendingStream>,
    /// What was taken out of the queue since the driver last looked.
    taken: Vec<StreamId>,
    waker: Option<Waker>,
    /// The handle exists.
    is_open: bool,
}

/// What a handle has to tell the driver. Whether it wakes a driver that waits is decided by what
/// the driver waits for, not by the handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// An order that the driver carries out at once.
    Order,
    /// The application is done with payload; the sum of all streams since the driver last ran, in
    /// bytes.
    Consumed(usize),
    /// The application has taken a header block.
    Taken,
    /// All handles of a stream are dropped.
    Released,
}

impl Hub {
    pub(crate) fn new(side: Side, version: Version, config: Arc<Config>) -> Self {
        let state = State {
            orders: Orders::default(),
            incoming: Incoming {
                queue: Queue::new(),
                taken: Vec::new(),
                waker: None,
                is_open: true,
            },
            sessions: 1,
            parked: None,
            going_away: false,
            settings: Vec::new(),
            held_up: HeldUp::Never,
            outcome: None,
        };
        Self {
            side,
            version,
            room: Room::new(config),
            consumed: AtomicUsize::new(0),
            is_partly_read: AtomicBool::new(false),
            heeds_consumed: AtomicUsize::new(0),
            heeds_releases: AtomicBool::new(true),
            is_parked: AtomicBool::new(false),
            state: Mutex::new(state),
            ended: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock, so a poisoned state is a sound one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the driver's task to be woken, if it waits.
    fn take_parked(&self, state: &mut State) -> Option<Waker> {
        self.is_parked.store(false, Ordering::Relaxed);
        state.parked.take()
    }

    /// Gives the driver an order, unless the session has ended.
    fn order(&self, place: impl FnOnce(&mut Orders)) -> Result<(), Outcome> {
        let mut state = self.lock();
        if let Some(outcome) = &state.outcome {
            return Err(outcome.clone());
        }
        place(&mut state.orders);
        let parked = self.take_parked(&mut state);
        drop(state);
        wake(parked);
        Ok(())
    }
}

/// Sizes of queues.
impl Hub {
    /// Returns how many bytes a writer that has `queued` may add to its send queue now: see
    /// [`Room::of_writer`].
    pub(crate) fn room_of_writer(&self, queued: usize) -> usize {
        self.room.of_writer(queued)
    }

    /// Returns whether a stream may have another piece: see [`Room::of_piece`].
    pub(crate) fn room_of_piece(&self, asking: Asking) -> Verdict {
        self.room.of_piece(asking)
    }

    /// Takes room for a piece of unknown length: see [`Room::claim`].
    pub(crate) fn claim_room(&self, asking: Asking) -> Result<usize, Verdict> {
        self.room.claim(asking)
    }

    /// Takes room for a piece that is made to measure: see [`Room::reserve`].
    pub(crate) fn reserve_room(&self, asking: Asking, most: usize) -> usize {
        self.room.reserve(asking, most)
    }

    /// Counts bytes that an application is done with. Counted over all streams, or many small
    /// remainders could add up to the session's whole window.
    pub(crate) fn note_consumed(&self, octets: usize) -> News {
        News::Consumed(self.consumed.fetch_add(octets, Ordering::Relaxed) + octets)
    }

    /// Notes that an application has read a part of a piece.
    pub(crate) fn note_partly_read(&self) {
        self.is_partly_read.store(true, Ordering::Relaxed);
    }
}

/// For handles of streams.
impl Hub {
    /// Puts a cell with new orders on the ready list; `None`: it is there already. The caller holds
    /// the cell's lock, and wakes what it is given when it does not any more.
    pub(crate) fn enlist(&self, cell: Option<&Arc<StreamCell>>, news: News) -> Option<Waker> {
        // A driver that does not wait looks at the ready list before it does. So far there is
        // nothing to lock for.
        if cell.is_none() && !(self.is_parked.load(Ordering::Relaxed) && self.is_heeded(news)) {
            return None;
        }
        let mut state = self.lock();
        if state.outcome.is_some() {
            return None;
        }
        if let Some(cell) = cell {
            state.orders.ready.push(Arc::clone(cell));
        }
        if self.is_heeded(news) {
            self.take_parked(&mut state)
        } else {
            None
        }
    }

    /// Whether the news wake a driver that waits.
    fn is_heeded(&self, news: News) -> bool {
        match news {
            News::Order => true,
            News::Consumed(sum) => sum >= self.heeds_consumed.load(Ordering::Relaxed),
            News::Taken => false,
            News::Released => self.heeds_releases.load(Ordering::Relaxed),
        }
    }
}

/// For handles of streams that wait for the peer.
impl Hub {
    /// Returns the last moment at which the peer could not send payload; `now` if it cannot at
    /// present.
    pub(crate) fn held_up_until(&self, now: Instant) -> Option<Instant> {
        match self.lock().held_up {
            HeldUp::Never => None,
            HeldUp::Until(moment) => Some(moment),
            HeldUp::Now => Some(now),
        }
    }
}

/// For [`Session`](crate::Session).
impl Hub {
    pub(crate) fn open(&self, order: OpenOrder) -> Result<(), OpenError> {
        self.order(|orders| orders.opens.push_back(order))
            .map_err(|outcome| OpenError::Session(error_of(outcome)))
    }

    pub(crate) fn ping(&self, answer: oneshot::Sender<Duration>) -> Result<(), SessionError> {
        self.order(|orders| orders.pings.push(answer))
            .map_err(error_of)
    }

    pub(crate) fn peer_settings(&self) -> Vec<Setting> {
        self.lock().settings.clone()
    }

    pub(crate) fn can_open(&self) -> bool {
        let state = self.lock();
        !state.going_away && state.outcome.is_none()
    }

    pub(crate) fn shutdown(&self, how: Shutdown) {
        self.note_going_away();
        // A session that has ended is shut down already.
        _ = self.order(|orders| {
            orders.ready_before = orders.ready.len();
            orders.shutdown = Some(match orders.shutdown {
                Some(earlier) => earlier.sooner(how),
                None => how,
            });
        });
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.lock().outcome.clone()
    }

    /// What to tell those who wanted something of a session that has ended.
    pub(crate) fn error(&self) -> SessionError {
        error_of(self.outcome().unwrap_or(Ok(())))
    }

    /// Waits for the end of the session.
    pub(crate) async fn ended(&self) -> Outcome {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            ended.await;
        }
    }

    pub(crate) fn session_cloned(&self) {
        self.lock().sessions += 1;
    }

    /// Without handles that could open or accept a stream, the session ends when its streams have.
    pub(crate) fn session_dropped(&self) {
        let mut state = self.lock();
        state.sessions -= 1;
        self.end_if_abandoned(state);
    }

    fn end_if_abandoned(&self, state: MutexGuard<'_, State>) {
        if state.sessions == 0 && !state.incoming.is_open {
            drop(state);
            self.shutdown(Shutdown::Graceful { deadline: None });
        }
    }
}

/// For [`Incoming`](crate::Incoming).
impl Hub {
    /// Takes a stream out of the queue. `Err`: there is none, and whether more may come.
    pub(crate) fn accept(&self) -> Result<PendingStream, MayCome> {
        let mut state = self.lock();
        match state.incoming.pop() {
            Some(stream) => Ok(stream),
            None => Err(MayCome(state.outcome.is_none())),
        }
    }

    pub(crate) fn poll_accept(&self, cx: &Context<'_>) -> Poll<Option<PendingStream>> {
        let mut state = self.lock();
        match state.incoming.pop() {
            Some(stream) => Poll::Ready(Some(stream)),
            None if state.outcome.is_some() => Poll::Ready(None),
            None => {
                state.incoming.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(crate) fn incoming_dropped(&self) {
        let mut state = self.lock();
        state.incoming.is_open = false;
        // Dropping a stream gives an order of its own, so it cannot happen under the lock.
        let queue = mem::replace(&mut state.incoming.queue, Queue::new());
        self.end_if_abandoned(state);
        drop(queue);
    }
}

impl Incoming {
    /// Takes a stream. It counts as waiting until the driver looks, which is before it reads on:
    /// that is soon enough.
    fn pop(&mut self) -> Option<PendingStream> {
        let stream = self.queue.pop_front()?;
        self.taken.push(stream.id());
        Some(stream)
    }
}

/// Whether a queue that is empty may get another stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MayCome(pub(crate) bool);

/// For the driver.
impl Hub {
    /// The driver runs: nobody needs to wake it.
    pub(crate) fn unpark(&self) {
        if self.is_parked.load(Ordering::Relaxed) {
            self.take_parked(&mut self.lock());
        }
    }

    /// Takes the orders, and gives those that there usually are none of: `ready` gets the streams
    /// that have some, `taken` those that are not to wait for acceptance any more. Both are empty
    /// before.
    pub(crate) fn take_orders(
        &self,
        ready: &mut Vec<Arc<StreamCell>>,
        taken: &mut Vec<StreamId>,
    ) -> Option<Orders> {
        self.consumed.store(0, Ordering::Relaxed);
        let mut state = self.lock();
        mem::swap(ready, &mut state.orders.ready);
        mem::swap(taken, &mut state.incoming.taken);
        let orders = &mut state.orders;
        if orders.opens.is_empty() && orders.pings.is_empty() && orders.shutdown.is_none() {
            return None;
        }
        let ready = mem::take(&mut orders.ready);
        let orders = mem::take(orders);
        state.orders.ready = ready;
        Some(orders)
    }

    /// Returns whether an application has read a part of a piece since the last call.
    pub(crate) fn take_partly_read(&self) -> bool {
        self.is_partly_read.swap(false, Ordering::Relaxed)
    }

    /// Registers the driver's task to be woken by the next order, and by news that it heeds. False:
    /// there are some already.
    pub(crate) fn park(&self, cx: &Context<'_>, heeds: Heeds) -> bool {
        let mut state = self.lock();
        let orders = &state.orders;
        let is_idle = orders.ready.is_empty()
            && orders.opens.is_empty()
            && orders.pings.is_empty()
            && orders.shutdown.is_none();
        if is_idle {
            state.parked = Some(cx.waker().clone());
            self.heeds_consumed.store(heeds.consumed, Ordering::Relaxed);
            self.heeds_releases.store(heeds.releases, Ordering::Relaxed);
            self.is_parked.store(true, Ordering::Relaxed);
        }
        is_idle
    }

    /// For tests: returns the orders that may wait, or what is left undone beside them.
    pub(crate) fn check_rest(&self) -> Result<Quiet, String> {
        let state = self.lock();
        let orders = &state.orders;
        if state.parked.is_none() {
            return Err("the driver can be woken by no order".into());
        }
        if !orders.opens.is_empty() || !orders.pings.is_empty() || orders.shutdown.is_some() {
            return Err("an order of a session handle is not looked at".into());
        }
        if !state.incoming.queue.is_empty() && state.incoming.waker.is_some() {
            return Err("a stream waits, and the task that accepts was not woken".into());
        }
        let ready = orders.ready.clone();
        drop(state);
        let mut quiet = Quiet::default();
        for cell in ready {
            cell.check_rest(&mut quiet)?;
        }
        Ok(quiet)
    }

    /// Keeps what the peer has announced, as many ids as one frame may have.
    pub(crate) fn note_settings(&self, frame: &Settings) {
        let settings = &mut self.lock().settings;
        for entry in &frame.entries {
            match settings.iter().position(|known| known.id == entry.id) {
                Some(known) => settings[known] = *entry,
                None if settings.len() < Settings::MAX_ENTRIES => settings.push(*entry),
                None => {}
            }
        }
    }

    /// This side begins to keep the peer from sending payload, or ends it.
    pub(crate) fn note_held_up(&self, is_held_up: bool, now: Instant) {
        self.lock().held_up = if is_held_up {
            HeldUp::Now
        } else {
            HeldUp::Until(now)
        };
    }

    /// No more streams can be opened.
    pub(crate) fn note_going_away(&self) {
        self.lock().going_away = true;
    }

    /// Queues a stream of the peer. Without a handle to accept it, it is dropped and thereby
    /// refused.
    pub(crate) fn incoming(&self, stream: PendingStream) {
        let mut state = self.lock();
        if !state.incoming.is_open {
            drop(state);
            drop(stream);
            return;
        }
        state.incoming.queue.push_back(stream);
        let waker = state.incoming.waker.take();
        drop(state);
        wake(waker);
    }

    /// The session has ended. Orders that were not carried out are dropped, which tells those who
    /// gave them.
    pub(crate) fn end(&self, outcome: Outcome) {
        let mut state = self.lock();
        if state.outcome.is_some() {
            return;
        }
        state.outcome = Some(outcome);
        let orders = mem::take(&mut state.orders);
        let queue = mem::replace(&mut state.incoming.queue, Queue::new());
        let waker = state.incoming.waker.take();
        drop(state);
        drop(orders);
        drop(queue);
        wake(waker);
        self.ended.notify_waiters();
    }
}

/// An orderly end is an error to those who were not done.
fn error_of(outcome: Outcome) -> SessionError {
    outcome.err().unwrap_or(SessionError::Closed)
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
