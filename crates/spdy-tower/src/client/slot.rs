//! The connections to one origin, and the requests that wait for one.
//!
//! All of it is one [`State`] behind one lock, which is held for a few instructions and never
//! during a wait. [`Slot::change`] is the only way to the state. A change that gives requests a
//! chance ends with [`State::settle`], the only place that gives connections to requests and starts
//! new connections. What a change leaves to do, it puts into a [`Todo`], which is done after the
//! lock is released: answers, attempts, and the drop of each connection that is not wanted.
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
mod trims;
mod waiting;

use std::{
    sync::{Arc, Weak},
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
    locked::{DroppedUnlocked, Locked},
    origin::Origin,
};

/// The connections to one origin, and the requests that wait for one.
#[derive(Debug)]
pub(super) struct Slot {
    origin: Origin,
    connector: Arc<Connector>,
    state: Locked<State>,
    /// It is dropped with the slot, which ends the tasks that work for the slot.
    gone: watch::Sender<()>,
    me: Weak<Self>,
    _dropped: DroppedUnlocked,
}

type Answer = Result<Lease, ConnectorError>;

impl Slot {
    pub(super) fn new(origin: Origin, connector: Arc<Connector>) -> Arc<Self> {
        let is_shared = connector.is_shared(&origin);
        Arc::new_cyclic(|me| Self {
            origin,
            connector,
            state: Locked::new(State::new(is_shared)),
            gone: watch::Sender::new(()),
            me: Weak::clone(me),
            _dropped: DroppedUnlocked,
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
        match self.enter(wants_fresh, patience)? {
            Entered::Taken(lease) => Ok(lease),
            Entered::Waits(ticket) => ticket.wait().await,
        }
    }

    fn enter(
        self: &Arc<Self>,
        wants_fresh: bool,
        patience: Duration,
    ) -> Result<Entered<'_>, ConnectorError> {
        self.change(|state, todo| {
            if let Some(connection) = state.take(wants_fresh, todo) {
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
                _dropped: DroppedUnlocked,
            });
            state.settle(self, todo);
            Ok(Entered::Waits(Ticket {
                slot: self,
                id,
                deadline,
                answered,
            }))
        })
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
        self.change(|state, todo| {
            state.resting.push(connection);
            state.settle(self, todo);
        });
    }

    /// Stops using a connection that accepts no requests.
    pub(super) fn forget(&self, shared: &Arc<Shared>) {
        self.change(|state, todo| state.common.forget(shared, todo));
    }

    /// Stops using a connection for new requests until it shows life. Called when the server has
    /// sent nothing for as long as a request has waited. The connection is cut if no request uses
    /// it and another request needs its place.
    pub(super) fn doubt(&self, shared: Arc<Shared>) {
        let was_used = self.change(|state, todo| {
            let was_used = state.common.forget(&shared, todo);
            if was_used {
                state.settle(self, todo);
            }
            was_used
        });
        if was_used {
            self.ask_for_life(shared);
        }
    }

    /// Assigns open connections to waiting requests, and starts new ones.
    pub(super) fn settle(&self) {
        self.change(|state, todo| state.settle(self, todo));
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
        self.change(|state, todo| {
            if state.common.trust(&shared) {
                state.share(Arc::clone(&shared), todo);
                state.settle(self, todo);
            }
        });
    }

    /// Closes the connections that no request uses. Returns whether the slot can be forgotten.
    pub(super) fn close_unused(&self) -> bool {
        self.change(|state, todo| {
            state.resting.close_all(todo);
            state.common.forget_unused(todo);
            state.places == 0 && state.waiting.is_empty()
        })
    }

    pub(super) const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Returns the error for a request whose time is over.
    fn late(&self) -> ConnectorError {
        if self.change(|state, _| state.attempts) == 0 {
            return ConnectorError::Connections(self.connector.max_connections);
        }
        self.connector.timed_out(&self.origin)
    }

    /// Closes a connection that has been unused for too long. Returns when to check again.
    fn next_check(&self, id: u64) -> Instant {
        let idle = self.connector.idle_timeout;
        self.change(|state, todo| state.next_check(id, idle, todo))
    }

    /// Changes the state, and does after that what the change leaves to do.
    fn change<T>(&self, change: impl FnOnce(&mut State, &mut Todo) -> T) -> T {
        let mut todo = Todo::default();
        let result = self.state.with(|state| change(state, &mut todo));
        todo.run();
        result
    }
}

/// The result for a request that wants a connection.
enum Entered<'a> {
    Taken(Lease),
    Waits(Ticket<'a>),
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
