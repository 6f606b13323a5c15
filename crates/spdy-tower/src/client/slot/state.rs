//! The state of a slot, and where connections and waiting requests meet.

use std::{
    mem,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    super::{
        ConnectorError,
        connection::{Connection, Lease, Shared},
        locked::DroppedUnlocked,
    },
    Answer, Slot,
    attempt::Attempt,
    common::Common,
    later,
    place::{Line, Place},
    resting::Resting,
    trims::Trims,
    waiting::{Waiter, Waiting},
};

#[derive(Debug, Default)]
pub(super) struct State {
    /// Whether requests share a connection; `None` until a connection was made.
    pub(super) is_shared: Option<bool>,
    pub(super) common: Common,
    pub(super) resting: Resting,
    pub(super) waiting: Waiting,
    /// How many connections are open or being made.
    pub(super) places: usize,
    /// How many connections are being made.
    pub(super) attempts: usize,
    /// Whether a task closes the idle connections above the limit when they are due.
    pub(super) is_trimming: bool,
    next_id: u64,
}

impl State {
    pub(super) fn new(is_shared: Option<bool>) -> Self {
        Self {
            is_shared,
            ..Self::default()
        }
    }

    pub(super) const fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Takes a connection for one request, if one is open.
    pub(super) fn take(&mut self, wants_fresh: bool, todo: &mut Todo) -> Option<Connection> {
        if let Some(shared) = self.common.take(todo) {
            return Some(Connection::Shared(shared));
        }
        if wants_fresh {
            return None;
        }
        self.resting.take(todo).map(Connection::Http1)
    }

    /// Assigns connections to the waiting requests in their order, starts new connections if that
    /// helps, and closes idle ones above the limit.
    pub(super) fn settle(&mut self, slot: &Slot, todo: &mut Todo) {
        let Some(me) = slot.me.upgrade() else {
            return;
        };
        let mut index = 0;
        while let Some(waiter) = self.waiting.get(index) {
            match self.take(waiter.wants_fresh, todo) {
                Some(connection) => {
                    let waiter = self.waiting.remove(index).expect("the index is below len");
                    let lease = Lease::new(Arc::clone(&me), connection);
                    todo.answer(waiter, Ok(lease));
                }
                None if self.resting.is_empty() && self.common.is_none() => break,
                None => index += 1,
            }
        }
        while self.wants_attempt(slot.connector.max_connections) {
            todo.attempts.push(self.begin(slot));
        }
        if !self.waiting.is_empty() && self.attempts == 0 {
            self.make_room(todo);
        }
        let has_surplus = self.resting.trim(slot.connector.max_idle, todo).is_some();
        if has_surplus && !mem::replace(&mut self.is_trimming, true) {
            todo.trims = Some(Trims::new(&me));
        }
    }

    /// Closes a connection that the waiting requests cannot use, to free a place for another one.
    fn make_room(&mut self, todo: &mut Todo) {
        // The requests that still wait want a fresh connection.
        if !self.resting.close_oldest(todo) {
            self.common.cut_unused(todo);
        }
    }

    /// Returns whether to start a connection. If requests share one, or might, one is made for all
    /// that wait. Otherwise each request gets its own. None is started for requests whose time is
    /// over.
    fn wants_attempt(&self, max_connections: usize) -> bool {
        let is_shared = self.is_shared.unwrap_or(true);
        let most = if is_shared { 1 } else { usize::MAX };
        self.attempts < self.waiting.len().min(most)
            && self.places < max_connections
            && self.waiting.has_time()
    }

    fn begin(&mut self, slot: &Slot) -> Attempt {
        self.attempts += 1;
        self.places += 1;
        let id = self.new_id();
        let newest = self.waiting.newest().expect("an attempt is for a waiter");
        Attempt {
            slot: Weak::clone(&slot.me),
            place: Arc::new(Place {
                slot: Weak::clone(&slot.me),
                id,
                line: Arc::default(),
            }),
            runtime: newest.runtime.clone(),
            is_over: false,
            _dropped: DroppedUnlocked,
        }
    }

    /// Uses a connection for all requests.
    pub(super) fn share(&mut self, shared: Arc<Shared>, todo: &mut Todo) {
        self.is_shared = Some(true);
        self.common.share(shared, todo);
    }

    /// Hands over a connection that was made.
    pub(super) fn made(&mut self, connection: Connection, me: &Arc<Slot>, todo: &mut Todo) {
        match connection {
            Connection::Shared(shared) => self.share(shared, todo),
            Connection::Http1(connection) => {
                self.is_shared = Some(false);
                match self.waiting.pop() {
                    Some(waiter) => {
                        let lease = Lease::new(Arc::clone(me), Connection::Http1(connection));
                        todo.answer(waiter, Ok(lease));
                    }
                    None => self.resting.push(connection),
                }
            }
        }
    }

    /// Reports a failed connection to the requests for which it was made. A request that came later
    /// gets its own attempt.
    pub(super) fn failed(&mut self, id: u64, error: &ConnectorError, todo: &mut Todo) {
        let (spare, most) = match self.is_shared {
            // Each other attempt will answer one request.
            Some(false) => (self.attempts, 1),
            _ => (0, usize::MAX),
        };
        let told = self.waiting.len().saturating_sub(spare).min(most);
        for waiter in (0..told).map_while(|_| self.waiting.pop_before(id)) {
            todo.answer(waiter, Err(error.clone()));
        }
    }

    /// Closes the connection with this id if it has been unused for too long. Returns when to check
    /// again.
    pub(super) fn next_check(&mut self, id: u64, idle: Duration, todo: &mut Todo) -> Instant {
        let now = Instant::now();
        let since = self.common.since(id).or_else(|| self.resting.since(id));
        let due = later(since.unwrap_or(now), idle);
        if due > now {
            return due;
        }
        self.common.close(id, todo);
        self.resting.close(id, todo);
        later(now, idle)
    }
}

/// What a change of the state leaves to do after the lock is released. [`Slot::change`] does it.
#[derive(Debug, Default)]
pub(super) struct Todo {
    answers: Vec<(Waiter, Answer)>,
    attempts: Vec<Attempt>,
    cut: Vec<Arc<Line>>,
    closed: Vec<Connection>,
    trims: Option<Trims>,
}

impl Todo {
    fn answer(&mut self, waiter: Waiter, answer: Answer) {
        self.answers.push((waiter, answer));
    }

    /// Closes a transport immediately.
    pub(super) fn cut(&mut self, line: Arc<Line>) {
        self.cut.push(line);
    }

    /// Drops a connection, which ends with its last response.
    pub(super) fn close(&mut self, connection: Connection) {
        self.closed.push(connection);
    }

    pub(super) fn run(self) {
        for (waiter, answer) in self.answers {
            // If the request is gone, its lease is dropped here, and the connection goes to the
            // next request.
            drop(waiter.answer.send(answer));
        }
        for attempt in self.attempts {
            attempt.spawn();
        }
        for line in self.cut {
            line.cut();
        }
        drop(self.closed);
        if let Some(trims) = self.trims {
            trims.spawn();
        }
    }
}
