//! The way of one request to a connection, over the addresses of its application.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::debug;

use super::{
    super::{Failure, Patience, Turn, choice::Wanted},
    Fate, Lease, Pool,
};
use crate::config::after;

/// The search of a request for a connection. Nothing of the request is sent meanwhile.
///
/// It asks each address for a place that is free, and for a connection. It waits for a place only
/// where others that are up have none either. If others are left out, it waits a part of its time
/// and asks them before it waits for the rest.
///
/// If one of the addresses refuses connections, because its application starts, it asks them again
/// after a pause.
///
/// A request that might have reached its application goes to the same address again, on a new
/// connection: a second one that had been used before could have ended in the same way, and what
/// ends one instance should not end others. Only if no connection to it can be opened it goes to
/// another address, so it ends two instances at most. A request that was not looked at goes to
/// another address at once.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pool: &'a Pool,
    wanted: Wanted,
    held: Option<Held>,
    /// Addresses that refuse are asked again until then.
    until: Instant,
    was_refused: bool,
    failure: Failure,
}

/// A connection on which the request has failed.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) lease: Lease,
    pub(super) fate: Fate,
    /// The number of attempts to send the request, with the next one.
    pub(super) attempts: usize,
}

/// How long a request waits at an address for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// It takes one that is free.
    Not,
    /// For as long as it could take to connect.
    Part,
    Rest,
}

impl<'a> Search<'a> {
    /// Creates a search for a request, which may have `held` a connection. It keeps the place of
    /// that connection until it has found a better one.
    pub(super) fn new(pool: &'a Pool, held: Option<Held>) -> Self {
        let avoided = held.as_ref().map(|held| held.lease.index());
        let is_shunned = held.as_ref().is_some_and(|held| held.attempts > 2);
        Self {
            pool,
            wanted: Wanted {
                avoided,
                is_shunned,
                ..Wanted::default()
            },
            held,
            until: after(pool.proxy.retry_refused),
            was_refused: false,
            failure: Failure::ConnectTimeout,
        }
    }

    /// Returns a connection, or the last failure.
    pub(super) async fn lease(mut self, patience: &mut Patience) -> Result<Lease, Failure> {
        if let Some(held) = self.held.take_if(|held| held.fate == Fate::Lost) {
            let index = held.lease.index();
            let wait = self.wait_at(index);
            match held.lease.renew(held.fate, wait, patience).await {
                Ok(lease) => return Ok(lease),
                Err(failure) => self.note(index, wait, failure),
            }
        }
        loop {
            while let Some(turn) = self.pool.choice.choose(&self.wanted) {
                let index = turn.index();
                let wait = self.wait_at(index);
                match self.ask(turn, wait, patience).await {
                    Ok(lease) => return Ok(lease),
                    Err(failure) => self.note(index, wait, failure),
                }
                if patience.is_spent() {
                    return Err(self.failure);
                }
            }
            if !self.pauses(patience).await {
                return Err(self.failure);
            }
        }
    }

    async fn ask(
        &mut self,
        turn: Turn,
        wait: Wait,
        patience: &mut Patience,
    ) -> Result<Lease, Failure> {
        match self.held.take() {
            Some(Held { lease, fate, .. }) if lease.index() == turn.index() => {
                return lease.renew(fate, wait, patience).await;
            }
            Some(Held { lease, fate, .. }) => lease.leave(fate),
            None => {}
        }
        let address = &self.pool.addresses[turn.index()];
        address.lease(turn, wait, patience).await
    }

    fn wait_at(&self, index: usize) -> Wait {
        let Wanted { tried, full, .. } = &self.wanted;
        let mut all = 0..self.pool.addresses.len();
        if !full.contains(&index) {
            Wait::Not
        } else if all.all(|one| tried.contains(&one) || full.contains(&one)) {
            Wait::Rest
        } else {
            Wait::Part
        }
    }

    fn note(&mut self, index: usize, wait: Wait, failure: Failure) {
        match (&failure, wait) {
            (Failure::Busy, Wait::Not) => self.wanted.full.push(index),
            (Failure::Busy, Wait::Part) => self.wanted.has_waited = true,
            _ => self.wanted.tried.push(index),
        }
        self.was_refused |= matches!(failure, Failure::Refused(_));
        self.failure = failure;
    }

    /// Waits until the addresses can be asked again. Returns whether they can be.
    async fn pauses(&mut self, patience: &mut Patience) -> bool {
        let pause = (self.wanted.pause * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        if !self.was_refused || Instant::now() + pause >= self.until {
            return false;
        }
        debug!(failure = %self.failure, ?pause, "the application refuses connections; trying again");
        self.wanted.pause = pause;
        self.wanted.tried.clear();
        self.wanted.full.clear();
        self.wanted.has_waited = false;
        patience.wait(sleep(pause)).await.is_some()
    }
}

/// The pauses between two attempts to connect to an application that refuses connections.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);
