//! What is open to an application, and what is being opened.

use std::{mem, sync::Arc};

use tokio::sync::watch;

use super::{super::Failure, connection::Connection, usage::Usage};

#[derive(Debug, Default)]
pub(super) struct State {
    /// The oldest connection is the first, and is preferred. So the later ones become idle in quiet
    /// times, and are closed.
    open: Vec<Connection>,
    /// The connections that take no more requests, and are open still.
    retired: Vec<Arc<Usage>>,
    /// The connections that were retired by the current change. They are dropped after it, while
    /// the state is not locked.
    forgotten: Vec<Connection>,
    /// The last attempt to open another connection, unless it has succeeded.
    attempt: Option<Attempt>,
    /// The number of attempts so far.
    attempts: u64,
    /// The number of requests that wait for a place.
    pub(super) waiting: usize,
    /// The number of connections that are open or being opened, whatever they are used for.
    pub(super) seats: usize,
    /// A connection was cut for a request that waits, and is not closed yet.
    pub(super) is_making_room: bool,
}

/// A connection that is being opened.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    number: u64,
    outcome: watch::Receiver<Option<Result<(), Failure>>>,
}

/// Where the requests that wait for an attempt learn how it ends.
pub(super) type Ending = watch::Sender<Option<Result<(), Failure>>>;

pub(super) enum Found {
    Place(Connection),
    Attempt(Attempt),
    /// An attempt that the caller has to make.
    Begun(Ending),
    Failed(Failure),
    Nothing,
}

impl State {
    /// Returns what tells later which attempts have begun since.
    pub(super) const fn now(&self) -> u64 {
        self.attempts
    }

    /// Takes a place, or returns the attempt to open a connection. If all connections are full, an
    /// attempt begins, or, for a request that `waits`, a connection that is of no use makes room
    /// for it. A request that does not wait gets no attempt but that to open the first connection.
    ///
    /// A request that has waited for an attempt of an earlier request, and sees it fail, makes one
    /// more. It does not see those that ended before it `arrived`.
    pub(super) fn find(&mut self, arrived: u64, max_connections: usize, waits: bool) -> Found {
        self.retire_if(Connection::is_over);
        if let Some(connection) = self.take_place(Connection::is_preferred) {
            return Found::Place(connection);
        }
        let begun_since = self.attempt.as_ref().filter(|one| one.number > arrived);
        match (&self.attempt, begun_since) {
            (Some(attempt), _) if attempt.is_under_way() => {
                return match waits || self.open.is_empty() {
                    true => Found::Attempt(attempt.clone()),
                    false => Found::Nothing,
                };
            }
            (_, Some(failed)) if self.open.is_empty() => return Found::Failed(failed.failure()),
            (_, None) if self.seats < max_connections => return Found::Begun(self.begin()),
            (_, None) => {
                if waits && self.makes_room() {
                    return Found::Nothing;
                }
            }
            (_, Some(_)) => {}
        }
        self.take_place(|_| true)
            .map_or(Found::Nothing, Found::Place)
    }

    fn take_place(&self, is_wanted: impl Fn(&Connection) -> bool) -> Option<Connection> {
        let takes = |one: &&Connection| is_wanted(one) && one.usage.take_place();
        self.open.iter().find(takes).cloned()
    }

    fn begin(&mut self) -> Ending {
        self.seats += 1;
        self.attempts += 1;
        let (ending, outcome) = watch::channel(None);
        self.attempt = Some(Attempt {
            number: self.attempts,
            outcome,
        });
        ending
    }

    /// Cuts a connection for a request that waits: one that no client uses, or else one whose
    /// application has not said a word for as long as a request can wait.
    fn makes_room(&mut self) -> bool {
        while !self.is_making_room {
            let unused = self.retired.iter().position(|usage| !usage.is_in_use());
            let doubted = || self.retired.iter().position(|usage| usage.is_doubted());
            let Some(index) = unused.or_else(doubted) else {
                return false;
            };
            // One that has just closed has freed its seat already, or is about to.
            self.is_making_room = self.retired.swap_remove(index).cut();
        }
        true
    }

    /// Adds a connection that was made.
    pub(super) fn add(&mut self, connection: Connection) {
        self.open.push(connection);
        self.attempt = None;
    }

    /// Stops requests from using a connection.
    pub(super) fn retire(&mut self, usage: &Arc<Usage>) {
        self.retire_if(|one| Arc::ptr_eq(&one.usage, usage));
    }

    fn retire_if(&mut self, is_over: impl Fn(&Connection) -> bool) {
        for connection in self.open.extract_if(.., |one| is_over(one)) {
            self.retired.retain(|usage| !usage.is_closed());
            self.retired.push(Arc::clone(&connection.usage));
            self.forgotten.push(connection);
        }
    }

    pub(super) const fn has_none(&self) -> bool {
        self.open.is_empty()
    }

    /// Returns the attempt to open the first connection, if no connection is open.
    pub(super) fn first(&self) -> Found {
        let attempt = self.attempt.as_ref().filter(|one| one.is_under_way());
        match attempt.filter(|_| self.has_none()) {
            Some(attempt) => Found::Attempt(attempt.clone()),
            None => Found::Nothing,
        }
    }

    /// Returns what the caller has to drop while the state is not locked.
    pub(super) fn forgotten(&mut self) -> Vec<Connection> {
        mem::take(&mut self.forgotten)
    }
}

impl Attempt {
    /// Returns whether the attempt still runs. If the runtime ends, the task that opens the
    /// connection ends without a result.
    fn is_under_way(&self) -> bool {
        self.outcome.borrow().is_none() && self.outcome.has_changed().is_ok()
    }

    /// Returns why there is no connection.
    fn failure(&self) -> Failure {
        match &*self.outcome.borrow() {
            Some(Err(failure)) => failure.clone(),
            Some(Ok(())) | None => Failure::Connect("the attempt was abandoned".into()),
        }
    }

    pub(super) async fn over(mut self) {
        _ = self.outcome.wait_for(Option::is_some).await;
    }
}
