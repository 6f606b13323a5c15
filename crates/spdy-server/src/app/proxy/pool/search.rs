//! The way of one request to a connection, over the addresses of its application.

use std::{
    future::poll_fn,
    ops::ControlFlow,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::{
    super::{Failure, Patience, Turn, choice::Wanted},
    Fate, Lease, Pool,
    waiting::{Asked, Waiting},
};
use crate::config::after;

/// The search of a request for a connection. Nothing of the request is sent meanwhile.
///
/// It asks each address, and waits at none that is full. Only when all that are up have been asked,
/// it waits for a place, at all that are full at once. After a part of its time it asks the others
/// again, with those that are left out, and goes on to wait meanwhile.
///
/// It takes one place. While a connection is opened in a place that has become free, it waits at no
/// other address. If that connection cannot be opened, it asks the others again.
///
/// If no address is full, and one refuses connections because its application starts, it asks them
/// again after a pause.
///
/// A request that might have reached its application goes to the same address again, because what
/// ends one instance should not end others. Over HTTP/1.1 it goes on a new connection: a second one
/// that had been used before could have ended in the same way. Only if no connection to it can be
/// opened it goes to another address, so it ends two instances at most. A request that was not
/// looked at goes to another address at once.
pub(super) struct Search<'a> {
    pool: &'a Pool,
    wanted: Wanted,
    held: Option<Held>,
    /// The waits at the addresses that are full, with their indices.
    waiting: Vec<(usize, Waiting)>,
    /// When no address is asked any more.
    deadline: Instant,
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

impl<'a> Search<'a> {
    /// Creates a search for a request, which may have `held` a connection on which it has failed.
    pub(super) fn new(pool: &'a Pool, held: Option<Held>) -> Self {
        let avoided = held.as_ref().map(|held| held.lease.index());
        let is_shunned = held.as_ref().is_some_and(|held| held.attempts > 2);
        Self {
            pool,
            wanted: Wanted {
                avoided,
                is_shunned,
                without_last: true,
                ..Wanted::default()
            },
            held,
            waiting: Vec::new(),
            deadline: Instant::now(),
            until: after(pool.proxy.retry_refused),
            was_refused: false,
            failure: Failure::ConnectTimeout,
        }
    }

    /// Returns a connection, or the last failure.
    pub(super) async fn lease(mut self, patience: &mut Patience) -> Result<Lease, Failure> {
        self.deadline = after(patience.left());
        let found = {
            // It is long, and each function that takes it would have room for it.
            let finding = pin!(self.find());
            patience.wait(finding).await
        };
        match found {
            Some(ControlFlow::Break(lease)) => Ok(lease),
            Some(ControlFlow::Continue(())) | None => Err(self.failure()),
        }
    }

    /// Ends with a connection, or without one where all addresses have failed.
    async fn find(&mut self) -> ControlFlow<Lease> {
        loop {
            self.ask_each().await?;
            match self.waiting.is_empty() {
                false => self.wait().await?,
                true if self.wanted.without_last => {}
                true if self.pauses().await => {}
                true => return ControlFlow::Continue(()),
            }
            self.wanted.without_last = false;
        }
    }

    /// Asks each address that can be chosen. The last of them are asked while it waits for a place;
    /// the others before, because connections are cut to make room for a request that waits.
    async fn ask_each(&mut self) -> ControlFlow<Lease> {
        while !self.has_place()
            && let Some(mut turn) = self.choose()
        {
            let index = turn.index();
            let race = (!self.wanted.without_last).then(|| turn.begin_race());
            let mut asking = pin!(self.ask(turn));
            let asked = poll_fn(|cx| {
                if let Some(race) = &race
                    && let Poll::Ready(place) = self.poll_overtaken(cx)
                {
                    race.lose();
                    return Poll::Ready(Err(place));
                }
                asking.as_mut().poll(cx).map(Ok)
            });
            match asked.await {
                Ok(Ok(Asked::Leased(lease))) | Err(Some(lease)) => {
                    return ControlFlow::Break(lease);
                }
                Ok(Ok(Asked::Full(waiting))) => self.waiting.push((index, waiting)),
                Ok(Err(failure)) => self.note(failure),
                Err(None) => self.wanted.asked.retain(|asked| *asked != index),
            }
        }
        ControlFlow::Continue(())
    }

    /// Completes with a connection at one of the addresses that are full, or once the request has a
    /// place there.
    fn poll_overtaken(&mut self, cx: &mut Context<'_>) -> Poll<Option<Lease>> {
        match self.poll_place(cx) {
            Poll::Ready(ControlFlow::Break(lease)) => Poll::Ready(Some(lease)),
            _ if self.has_place() => Poll::Ready(None),
            _ => Poll::Pending,
        }
    }

    /// Chooses the next address to ask.
    fn choose(&mut self) -> Option<Turn> {
        if self.deadline <= Instant::now() {
            return None;
        }
        let turn = match &self.held {
            Some(held) if held.fate == Fate::Lost => held.lease.turn().again(),
            _ => self.pool.choice.choose(&self.wanted)?,
        };
        self.wanted.asked.push(turn.index());
        self.failure = Failure::ConnectTimeout;
        Some(turn)
    }

    fn ask(&mut self, turn: Turn) -> impl Future<Output = Result<Asked, Failure>> + use<'a> {
        let (pool, held) = (self.pool, self.held.take());
        async move {
            let index = turn.index();
            match held {
                Some(Held {
                    lease: Lease::Http1(lease),
                    ..
                }) if lease.turn().index() == index => return lease.renew(turn).await,
                Some(Held { lease, fate, .. }) => lease.leave(fate),
                None => {}
            }
            pool.addresses[index].ask(turn).await
        }
    }

    /// Waits for a place for a part of the time. Then it can ask the others again: they might be
    /// back.
    async fn wait(&mut self) -> ControlFlow<Lease> {
        let part = self.pool.limit();
        let placed = timeout(part, poll_fn(|cx| self.poll_place(cx))).await;
        placed.unwrap_or_else(|_| {
            if !self.has_place() {
                self.wanted.asked = self.waiting.iter().map(|(index, _)| *index).collect();
            }
            ControlFlow::Continue(())
        })
    }

    /// Completes with a place at one of the addresses that are full, or once all have failed.
    fn poll_place(&mut self, cx: &mut Context<'_>) -> Poll<ControlFlow<Lease>> {
        let mut index = 0;
        while let Some((_, waiting)) = self.waiting.get_mut(index) {
            match waiting.poll(cx) {
                Poll::Pending if self.has_place() => {
                    self.settle(index);
                    break;
                }
                Poll::Pending => index += 1,
                Poll::Ready(Ok(lease)) => return Poll::Ready(ControlFlow::Break(lease)),
                Poll::Ready(Err(failure)) => {
                    drop(self.waiting.remove(index));
                    self.note(failure);
                }
            }
        }
        match self.waiting.is_empty() {
            true => Poll::Ready(ControlFlow::Continue(())),
            false => Poll::Pending,
        }
    }

    /// Returns whether a place has become free for the request, and only its connection is missing.
    ///
    /// A connection of HTTP/2 that is being opened is for all that wait, and no place.
    fn has_place(&self) -> bool {
        !self.pool.proxy.is_http2() && self.waiting.iter().any(|(_, one)| one.connects())
    }

    /// Keeps to the address where the request has a place. The others can be asked again.
    fn settle(&mut self, index: usize) {
        let place = self.waiting.swap_remove(index);
        for (index, _) in self.waiting.drain(..) {
            self.wanted.asked.retain(|asked| *asked != index);
        }
        self.waiting.push(place);
    }

    fn note(&mut self, failure: Failure) {
        self.was_refused |= matches!(failure, Failure::Refused(_));
        self.failure = failure;
    }

    /// Returns why there is no connection. If an address is full, that is what has taken the time.
    fn failure(self) -> Failure {
        match self.waiting.is_empty() {
            true => self.failure,
            false if self.waiting.iter().any(|(_, one)| one.connects()) => Failure::ConnectTimeout,
            false => Failure::Busy,
        }
    }

    /// Waits until the addresses can be asked again. Returns whether they can be.
    async fn pauses(&mut self) -> bool {
        let pause = (self.wanted.pause * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        if !self.was_refused || Instant::now() + pause >= self.until {
            return false;
        }
        debug!(failure = %self.failure, ?pause, "the application refuses connections; trying again");
        self.wanted.pause = pause;
        self.wanted.asked.clear();
        sleep(pause).await;
        true
    }
}

/// The pauses between two attempts to connect to an application that refuses connections.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);
