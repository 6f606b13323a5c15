//! What is open to one origin, and who waits for it.
//!
//! All of it is one [`State`] behind one lock, which is held for a few instructions and never while anything is waited
//! for. Whatever changes the state ends with [`State::settle`]: that is the one place where connections meet requests, and
//! where new ones are begun.
//!
//! ```text
//!   request ──► waiters ◄── settle ──► answer: a lease         resting ◄── give_back ◄── response read, lease unused
//!                              │                                  shared ◄── PING answered
//!                              └─────► attempt ──► connection ──► shared | the first waiter | resting
//!                                         └──► place, free when the transport is closed ──► settle
//! ```

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    Connector, ConnectorError,
    connection::{Connection, Http1, Lease, Shared},
    origin::Origin,
};

/// What is open to one origin.
#[derive(Debug)]
pub(super) struct Slot {
    origin: Origin,
    connector: Arc<Connector>,
    state: Mutex<State>,
    /// Dropped with the slot: then the tasks that work for it end.
    gone: watch::Sender<()>,
    me: Weak<Self>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether requests share a connection; `None` until there has been one.
    is_shared: Option<bool>,
    /// The connection that all new requests go by.
    shared: Option<Arc<Shared>>,
    /// When that was used last, or known to be in use.
    shared_at: Option<Instant>,
    /// Connections of HTTP/1.1 without a request, the one that has rested for longest first.
    resting: Vec<Resting>,
    /// The requests that wait for a connection, in the order of their ids.
    waiters: VecDeque<Waiter>,
    /// Connections that are open or being made.
    places: usize,
    /// Those that are being made.
    attempts: usize,
    next_id: u64,
}

#[derive(Debug)]
struct Resting {
    connection: Http1,
    since: Instant,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    /// A connection that has served before will not do.
    wants_fresh: bool,
    deadline: Instant,
    /// Where a connection for it can be made.
    runtime: Handle,
    answer: oneshot::Sender<Answer>,
}

type Answer = Result<Lease, ConnectorError>;

impl Slot {
    pub(super) fn new(origin: Origin, connector: Arc<Connector>) -> Arc<Self> {
        let state = State {
            is_shared: connector.is_shared(&origin),
            ..State::default()
        };
        Arc::new_cyclic(|me| Self {
            origin,
            connector,
            state: Mutex::new(state),
            gone: watch::Sender::new(()),
            me: Weak::clone(me),
        })
    }

    /// Waits for a connection that takes a request, for `patience` at most. An open one is there at once.
    ///
    /// Cancel safe: a connection that is not taken goes to the next request.
    pub(super) async fn connection(
        self: &Arc<Self>,
        wants_fresh: bool,
        patience: Duration,
    ) -> Answer {
        let (ticket, todo) = match self.enter(wants_fresh, patience)? {
            Entered::Taken(lease) => return Ok(lease),
            Entered::Waits(ticket, todo) => (ticket, todo),
        };
        todo.run();
        ticket.wait().await
    }

    fn enter(
        self: &Arc<Self>,
        wants_fresh: bool,
        patience: Duration,
    ) -> Result<Entered<'_>, ConnectorError> {
        let mut state = self.lock();
        if let Some(connection) = state.take(wants_fresh) {
            return Ok(Entered::Taken(Lease::new(Arc::clone(self), connection)));
        }
        if state.waiters.len() >= self.connector.max_waiting {
            return Err(ConnectorError::Waiting(state.waiters.len()));
        }
        let (answer, answered) = oneshot::channel();
        let (id, deadline) = (state.new_id(), after(patience));
        state.waiters.push_back(Waiter {
            id,
            wants_fresh,
            deadline,
            runtime: Handle::current(),
            answer,
        });
        let todo = state.settle(self);
        let ticket = Ticket {
            slot: self,
            id,
            deadline,
            answered,
        };
        Ok(Entered::Waits(ticket, todo))
    }

    /// Takes a connection back: at once if it has no response to be read, else when that is read.
    pub(super) fn give_back(&self, mut connection: Http1) {
        if connection.is_ready() {
            return self.rest(connection);
        }
        let (me, mut gone) = (Weak::clone(&self.me), self.gone.subscribe());
        let rests = async move {
            let rests = tokio::select! {
                biased;
                rests = connection.rests() => rests,
                _ = gone.changed() => false,
            };
            if let (true, Some(slot)) = (rests, me.upgrade()) {
                slot.rest(connection);
            }
        };
        // Outside of a runtime, or as it ends, there is no use for the connection.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(rests);
        }
    }

    fn rest(&self, connection: Http1) {
        let mut state = self.lock();
        let since = Instant::now();
        state.resting.push(Resting { connection, since });
        let todo = state.settle(self);
        if state.resting.len() > MAX_RESTING {
            state.resting.remove(0);
        }
        drop(state);
        todo.run();
    }

    /// A connection that takes no requests is not tried again.
    pub(super) fn forget(&self, shared: &Arc<Shared>) {
        self.lock().drop_shared(shared);
    }

    /// The server has not spoken for as long as a request was waited for. New requests do not go by the connection until
    /// a PING is answered.
    pub(super) fn doubt(&self, shared: Arc<Shared>) {
        if !self.lock().drop_shared(&shared) {
            return;
        }
        let (me, mut gone) = (Weak::clone(&self.me), self.gone.subscribe());
        let patience = self.connector.patience();
        let ping = async move {
            let is_alive = tokio::select! {
                biased;
                is_alive = timeout(patience, shared.is_alive()) => is_alive == Ok(true),
                _ = gone.changed() => false,
            };
            if let (true, Some(slot)) = (is_alive, me.upgrade()) {
                slot.trust(shared);
            }
        };
        // Without a PING the connection ends after the responses that are under way.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(ping);
        }
    }

    fn trust(&self, shared: Arc<Shared>) {
        let mut state = self.lock();
        state.share(shared);
        let todo = state.settle(self);
        drop(state);
        todo.run();
    }

    /// Closes what no request uses, and says whether nothing is left that has to be remembered.
    pub(super) fn is_idle_now(&self) -> bool {
        let mut state = self.lock();
        state.resting.clear();
        if let Some(shared) = state.shared.take_if(|shared| !shared.is_in_use()) {
            drop(shared);
        }
        state.places == 0 && state.waiters.is_empty()
    }

    /// Why a request is told that its time is over.
    fn late(&self) -> ConnectorError {
        if self.lock().attempts == 0 {
            return ConnectorError::Connections(self.connector.max_connections);
        }
        self.connector.timed_out(&self.origin)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of a request that wants a connection.
enum Entered<'a> {
    Taken(Lease),
    Waits(Ticket<'a>, Todo),
}

/// A request's place among those that wait. Dropped, it waits no more.
struct Ticket<'a> {
    slot: &'a Slot,
    id: u64,
    deadline: Instant,
    answered: oneshot::Receiver<Answer>,
}

impl Ticket<'_> {
    async fn wait(mut self) -> Answer {
        match timeout_at(self.deadline, &mut self.answered).await {
            Ok(answer) => answer.expect("a waiter is answered or leaves"),
            Err(_) => Err(self.slot.late()),
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.slot.lock();
        if let Ok(index) = state.waiters.binary_search_by_key(&self.id, |w| w.id) {
            state.waiters.remove(index);
        }
    }
}

impl State {
    const fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Takes a connection for one request, if one is there.
    fn take(&mut self, wants_fresh: bool) -> Option<Connection> {
        self.shared.take_if(|shared| !shared.is_open());
        if let Some(shared) = &self.shared {
            self.shared_at = Some(Instant::now());
            return Some(Connection::Shared(Arc::clone(shared)));
        }
        if wants_fresh {
            return None;
        }
        let open = std::iter::from_fn(|| self.resting.pop())
            .map(|resting| resting.connection)
            .find(|connection| !connection.is_closed());
        open.map(Connection::Http1)
    }

    /// Makes a connection the one that all requests go by. If there is one already, it is not needed.
    fn share(&mut self, shared: Arc<Shared>) {
        self.is_shared = Some(true);
        if !self.shared.as_ref().is_some_and(|shared| shared.is_open()) {
            self.shared = Some(shared);
        }
    }

    /// Whether it was the one that all requests go by.
    fn drop_shared(&mut self, shared: &Arc<Shared>) -> bool {
        let is_same = |current: &mut Arc<Shared>| Arc::ptr_eq(current, shared);
        self.shared.take_if(is_same).is_some()
    }

    /// Hands connections to the requests that wait, in their order, and begins new ones where that is of use.
    /// What is to be done
    /// about it is done when the lock is gone.
    fn settle(&mut self, slot: &Slot) -> Todo {
        let mut todo = Todo::default();
        let Some(me) = slot.me.upgrade() else {
            return todo;
        };
        let mut index = 0;
        while let Some(waiter) = self.waiters.get(index) {
            match self.take(waiter.wants_fresh) {
                Some(connection) => {
                    let waiter = self.waiters.remove(index).expect("the index is below len");
                    let lease = Lease::new(Arc::clone(&me), connection);
                    todo.answers.push((waiter.answer, Ok(lease)));
                }
                None if self.resting.is_empty() && self.shared.is_none() => break,
                None => index += 1,
            }
        }
        while self.wants_attempt(slot.connector.max_connections) {
            todo.attempts.push(self.begin(slot));
        }
        // What is left wants a fresh connection, for which one that rests makes room.
        if !self.waiters.is_empty() && self.attempts == 0 && !self.resting.is_empty() {
            self.resting.remove(0);
        }
        todo
    }

    /// One connection is made for all who wait if they will share it, or if it is not known whether; else each gets its
    /// own. None is begun for requests whose time is over.
    fn wants_attempt(&self, max_connections: usize) -> bool {
        let is_shared = self.is_shared.unwrap_or(true);
        let wanted = self
            .waiters
            .len()
            .min(if is_shared { 1 } else { usize::MAX });
        self.attempts < wanted
            && self.places < max_connections
            && self.waiters.iter().any(|w| w.deadline > Instant::now())
    }

    fn begin(&mut self, slot: &Slot) -> Attempt {
        self.attempts += 1;
        self.places += 1;
        let id = self.new_id();
        let newest = self.waiters.back().expect("an attempt is for a waiter");
        Attempt {
            slot: Weak::clone(&slot.me),
            place: Arc::new(Place {
                slot: Weak::clone(&slot.me),
                id,
            }),
            runtime: newest.runtime.clone(),
            is_over: false,
        }
    }

    /// A connection was made.
    fn made(&mut self, connection: Connection, me: &Arc<Slot>, todo: &mut Todo) {
        match connection {
            Connection::Shared(shared) => self.share(shared),
            Connection::Http1(connection) => {
                self.is_shared = Some(false);
                match self.waiters.pop_front() {
                    Some(waiter) => {
                        let lease = Lease::new(Arc::clone(me), Connection::Http1(connection));
                        todo.answers.push((waiter.answer, Ok(lease)));
                    }
                    None => {
                        let since = Instant::now();
                        self.resting.push(Resting { connection, since });
                    }
                }
            }
        }
    }

    /// A connection could not be made. Those for whom it was made are told; one that came later gets an attempt of its
    /// own.
    fn failed(&mut self, id: u64, error: &ConnectorError, todo: &mut Todo) {
        let spare = match self.is_shared {
            // Each of the others will answer one.
            Some(false) => self.attempts,
            _ => 0,
        };
        let mut told = 0;
        let most = if self.is_shared == Some(false) {
            1
        } else {
            usize::MAX
        };
        while told < most
            && self.waiters.len() > spare
            && self.waiters.front().is_some_and(|waiter| waiter.id < id)
        {
            let waiter = self.waiters.pop_front().expect("there is a first");
            todo.answers.push((waiter.answer, Err(error.clone())));
            told += 1;
        }
    }
}

/// What is to be done when the lock is gone. It must be [run](Self::run).
#[derive(Debug, Default)]
#[must_use]
struct Todo {
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
    attempts: Vec<Attempt>,
}

impl Todo {
    fn run(self) {
        for (waiter, answer) in self.answers {
            // A lease that comes back unused goes to the next request as it is dropped.
            drop(waiter.send(answer));
        }
        for attempt in self.attempts {
            attempt.spawn();
        }
    }
}

/// A connection that is being made. Dropped before it is over, it has failed.
#[derive(Debug)]
struct Attempt {
    slot: Weak<Slot>,
    place: Arc<Place>,
    runtime: Handle,
    is_over: bool,
}

impl Attempt {
    fn spawn(mut self) {
        let Some(slot) = self.slot.upgrade() else {
            return;
        };
        let (connector, origin) = (Arc::clone(&slot.connector), slot.origin.clone());
        let mut gone = slot.gone.subscribe();
        let runtime = self.runtime.clone();
        drop(slot);
        runtime.spawn(async move {
            tokio::select! {
                biased;
                made = connector.connect(&origin, &self.place) => self.end(made),
                _ = gone.changed() => {}
            }
        });
    }

    fn end(&mut self, made: Result<Connection, ConnectorError>) {
        self.is_over = true;
        let Some(slot) = self.slot.upgrade() else {
            return;
        };
        let mut state = slot.lock();
        state.attempts -= 1;
        let mut todo = Todo::default();
        match made {
            Ok(connection) => state.made(connection, &slot, &mut todo),
            Err(error) => state.failed(self.place.id, &error, &mut todo),
        }
        let settled = state.settle(&slot);
        drop(state);
        todo.run();
        settled.run();
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.is_over {
            let reason = "connecting ended with its runtime";
            self.end(Err(std::io::Error::other(reason).into()));
        }
    }
}

/// One of the connections that an origin may have. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    slot: Weak<Slot>,
    id: u64,
}

impl Place {
    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    /// Drives a connection to its end, and closes it when no request has used it for the idle timeout.
    pub(super) fn outlast<D: Future>(
        self: &Arc<Self>,
        driver: D,
    ) -> impl Future<Output = ()> + use<D> {
        let (slot, id) = (Weak::clone(&self.slot), self.id);
        async move {
            let mut driver = std::pin::pin!(driver);
            while let Some(check) = slot.upgrade().map(|slot| slot.next_check(id)) {
                tokio::select! {
                biased;
                    _ = &mut driver => return,
                    () = sleep_until(check) => {}
                }
            }
            driver.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(slot) = self.slot.upgrade() else {
            return;
        };
        let mut state = slot.lock();
        state.places -= 1;
        let todo = state.settle(&slot);
        drop(state);
        todo.run();
    }
}

impl Slot {
    /// Drops a connection that has been of no use for too long, and returns when to look again.
    fn next_check(&self, id: u64) -> Instant {
        self.lock().next_check(id, self.connector.idle_timeout)
    }
}

impl State {
    fn next_check(&mut self, id: u64, idle: Duration) -> Instant {
        let now = Instant::now();
        let since = if self.shared.as_ref().is_some_and(|shared| shared.id == id) {
            self.shared_since(now)
        } else {
            let resting = self.resting.iter().find(|r| r.connection.id == id);
            resting.map_or(now, |resting| resting.since)
        };
        let due = later(since, idle);
        if due > now {
            return due;
        }
        self.shared.take_if(|shared| shared.id == id);
        self.resting.retain(|resting| resting.connection.id != id);
        later(now, idle)
    }

    /// Since when no request uses the shared connection.
    fn shared_since(&mut self, now: Instant) -> Instant {
        if self
            .shared
            .as_ref()
            .is_some_and(|shared| shared.is_in_use())
        {
            self.shared_at = Some(now);
        }
        *self.shared_at.get_or_insert(now)
    }
}

/// The moment `timeout` from now.
fn after(timeout: Duration) -> Instant {
    later(Instant::now(), timeout)
}

/// The moment `timeout` after `since`, or a far one where there is none.
fn later(since: Instant, timeout: Duration) -> Instant {
    let far = || since + FAR;
    since.checked_add(timeout).unwrap_or_else(far)
}

/// Connections of HTTP/1.1 that are kept for one origin.
const MAX_RESTING: usize = 8;

/// A time beyond every deadline that means something: thirty years.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
