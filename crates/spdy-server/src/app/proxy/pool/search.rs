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
/// It asks each address once. If one of them refuses connections, because its application starts,
/// it asks them again after a pause.
///
/// A request that might have reached its application goes to the same address again, on a new
/// connection: a second one that had been used before could have ended in the same way, and what
/// ends one instance should not end others. A request that was not looked at goes to another one.
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
}

impl<'a> Search<'a> {
    /// Creates a search for a request, which may have `held` a connection. It keeps the place of
    /// that connection until it has found a better one.
    pub(super) fn new(pool: &'a Pool, held: Option<Held>) -> Self {
        let avoided = held.as_ref().map(|held| held.lease.index());
        Self {
            pool,
            wanted: Wanted {
                avoided,
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
        if let Some(Held { lease, fate }) = self.held.take_if(|held| held.fate == Fate::Lost) {
            self.wanted.tried.push(lease.index());
            match lease.renew(fate, patience).await {
                Ok(lease) => return Ok(lease),
                Err(failure) => self.note(failure),
            }
        }
        loop {
            while let Some(turn) = self.pool.choice.choose(&self.wanted) {
                self.wanted.tried.push(turn.index());
                match self.ask(turn, patience).await {
                    Ok(lease) => return Ok(lease),
                    Err(failure) => self.note(failure),
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

    async fn ask(&mut self, turn: Turn, patience: &mut Patience) -> Result<Lease, Failure> {
        match self.held.take() {
            Some(Held { lease, fate }) if lease.index() == turn.index() => {
                return lease.renew(fate, patience).await;
            }
            Some(Held { lease, fate }) => lease.leave(fate),
            None => {}
        }
        let address = &self.pool.addresses[turn.index()];
        address.lease(turn, patience).await
    }

    fn note(&mut self, failure: Failure) {
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
        patience.wait(sleep(pause)).await.is_some()
    }
}

/// The pauses between two attempts to connect to an application that refuses connections.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);
