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
    time::{Instant, timeout},
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

    /// Takes a connection back: at once if it has no response to be read, else when that is read. When `unwanted` comes
    /// before, it is cut.
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
        // Outside of a runtime, or as it ends, there is no use for the connection.
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

    /// A connection that takes no requests is not tried again.
    pub(super) fn forget(&self, shared: &Arc<Shared>) {
        self.lock().common.forget(shared);
    }

    /// The server has not spoken for as long as a request was waited for. New requests do not go by the connection until
    /// a PING is answered, and it is cut as soon as no request uses it and another one needs its place.
    pub(super) fn doubt(&self, shared: Arc<Shared>) {
        if self.lock().common.forget(&shared) {
            self.settle();
            self.ask_for_life(shared);
        }
    }

    /// Has requests that wait look again at what is open.
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
        if !state.common.trust(&shared) {
            return;
        }
        state.share(shared);
        let todo = state.settle(self);
        drop(state);
        todo.run();
    }

    /// Closes what no request uses, and says whether nothing is left that has to be remembered.
    pub(super) fn is_idle_now(&self) -> bool {
        let mut state = self.lock();
        state.resting.close_all();
        state.common.forget_unused();
        state.places == 0 && state.waiting.is_empty()
    }

    /// Why a request is told that its time is over.
    fn late(&self) -> ConnectorError {
        if self.lock().attempts == 0 {
            return ConnectorError::Connections(self.connector.max_connections);
        }
        self.connector.timed_out(&self.origin)
    }

    /// Drops a connection that has been of no use for too long, and returns when to look again.
    fn next_check(&self, id: u64) -> Instant {
        self.lock().next_check(id, self.connector.idle_timeout)
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

/// The moment `timeout` from now.
fn after(timeout: Duration) -> Instant {
    later(Instant::now(), timeout)
}

/// The moment `timeout` after `since`, or a far one where there is none.
fn later(since: Instant, timeout: Duration) -> Instant {
    let far = || since + FAR;
    since.checked_add(timeout).unwrap_or_else(far)
}

/// A time beyond every deadline that means something: thirty years.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
