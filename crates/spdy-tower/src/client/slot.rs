//! The connections to one origin, and the requests that wait for one.
//!
//! All of it is one [`State`] behind one lock, which is held for a few instructions and never
//! during a wait. Every change of the state ends with [`State::settle`], the only place that gives
//! connections to requests and starts new connections.
//!
//! ```text
//!   request ──► waiters ◄── settle ──► answer: a lease
//!                              │
//!                              └─────► attempt ──► connection ──► shared | first waiter | resting
//!                                         └──► place, free when the transport is closed ──► settle
//!
//!   response read, lease unused ──► give_back ──► resting          PING answered ──► shared
//! ```

mod attempt;
mod common;
mod place;
mod resting;
mod state;
mod waiting;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    time::Instant,
};

pub(super) use self::place::{Line, Place, Use};
use self::{
    state::{State, Todo},
    waiting::{Ticket, Waiter},
};
use super::{
    Connector, ConnectorError,
    connection::{Http1, Lease, Shared},
    origin::Origin,
};

/// The connections to one origin, and the requests that wait for one.
#[derive(Debug)]
pub(super) struct Slot {
    origin: Origin,
    connector: Arc<Connector>,
    state: Mutex<State>,
    /// It is dropped with the slot, which ends the tasks that work for the slot.
    gone: watch::Sender<()>,
    me: Weak<Self>,
}

type Answer = Result<Lease, ConnectorError>;

impl Slot {
    pub(super) fn new(origin: Origin, connector: Arc<Connector>) -> Arc<Self> {
        let is_shared = connector.is_shared(&origin);
        Arc::new_cyclic(|me| Self {
            origin,
            connector,
            state: Mutex::new(State::new(is_shared)),
            gone: watch::Sender::new(()),
            me: Weak::clone(me),
        })
    }

    /// Waits at most `patience` for a connection that accepts a request. Returns immediately if one
    /// is open.
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
        if state.waiting.len() >= self.connector.max_waiting {
            return Err(ConnectorError::Waiting(state.waiting.len()));
        }
        let (answer, answered) = oneshot::channel();
        let (id, deadline) = (state.new_id(), after(patience));
        state.waiting.push(Waiter {
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

    /// Takes a connection back, after its response was read. If `unwanted` fires before that, the
    /// connection is cut.
    pub(super) fn give_back(&self, mut connection: Http1, unwanted: oneshot::Receiver<()>) {
        if connection.is_ready() {
            return self.rest(connection);
        }
        let (me, mut gone) = (Weak::clone(&self.me), self.gone.subscribe());
        let rests = async move {
            let rests = tokio::select! {
                biased;
                rests = connection.rests(unwanted) => rests,
                _ = gone.changed() => false,
            };
            if let (true, Some(slot)) = (rests, me.upgrade()) {
                slot.rest(connection);
            }
        };
        // Outside a runtime, or while it shuts down, the connection has no use.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(rests);
        }
    }

    fn rest(&self, connection: Http1) {
        let mut state = self.lock();
        state.resting.push(connection);
        let todo = state.settle(self);
        drop(state);
        todo.run();
    }

    /// Stops using a connection that accepts no requests.
    pub(super) fn forget(&self, shared: &Arc<Shared>) {
        self.lock().common.forget(shared);
    }

    /// Stops using a connection for new requests until it shows life. Called when the server has
    /// sent nothing for as long as a request has waited. The connection is cut if no request uses
    /// it and another request needs its place.
    pub(super) fn doubt(&self, shared: Arc<Shared>) {
        if self.lock().common.forget(&shared) {
            self.settle();
            self.ask_for_life(shared);
        }
    }

    /// Assigns open connections to waiting requests, and starts new ones.
    pub(super) fn settle(&self) {
        let todo = self.lock().settle(self);
        todo.run();
    }

    fn ask_for_life(&self, shared: Arc<Shared>) {
        let (me, mut gone) = (Weak::clone(&self.me), self.gone.subscribe());
        let patience = self.connector.patience();
        let ping = async move {
            let is_alive = tokio::select! {
                biased;
                is_alive = shared.is_alive(patience) => is_alive,
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
        if !state.common.trust(&shared) {
            return;
        }
        state.share(shared);
        let todo = state.settle(self);
        drop(state);
        todo.run();
    }

    /// Closes the connections that no request uses. Returns whether the slot can be forgotten.
    pub(super) fn is_idle_now(&self) -> bool {
        let mut state = self.lock();
        state.resting.close_all();
        state.common.forget_unused();
        state.places == 0 && state.waiting.is_empty()
    }

    /// Returns the error for a request whose time is over.
    fn late(&self) -> ConnectorError {
        if self.lock().attempts == 0 {
            return ConnectorError::Connections(self.connector.max_connections);
        }
        self.connector.timed_out(&self.origin)
    }

    /// Closes a connection that has been unused for too long. Returns when to check again.
    fn next_check(&self, id: u64) -> Instant {
        self.lock().next_check(id, self.connector.idle_timeout)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result for a request that wants a connection.
enum Entered<'a> {
    Taken(Lease),
    Waits(Ticket<'a>, Todo),
}

/// Returns the moment `timeout` from now.
fn after(timeout: Duration) -> Instant {
    later(Instant::now(), timeout)
}

/// Returns the moment `timeout` after `since`, or one far in the future if a clock cannot express
/// it.
fn later(since: Instant, timeout: Duration) -> Instant {
    let far = || since + FAR;
    since.checked_add(timeout).unwrap_or_else(far)
}

/// Thirty years, which is longer than any useful timeout.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
