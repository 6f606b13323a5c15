//! HTTP/2 connections: many requests share each.
//!
//! A place is the right of a request to use a connection. The application limits the places of a
//! connection. When all are taken, the pool opens another connection for the next request, up to
//! `max_connections`. Further requests wait in the order of arrival, each for its own time. Only
//! the first of them looks for a place.
//!
//! A seat is one of the `max_connections`. A connection has it from the first attempt to open it
//! until its transport is closed, whether it takes requests or not. A connection that is of no use
//! any more makes room for another one when no seat is free.
//!
//! A connection is opened in a separate task. It is open when the application has announced how
//! many requests it takes.

mod connection;
mod leaving;
mod state;
mod usage;

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use axum::http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http2::SendRequest},
};
use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};

pub(in super::super) use self::usage::Place;
use self::{
    connection::Connection,
    leaving::Asking,
    state::{Ending, Found, State},
    usage::Usage,
};
use super::{
    Asked, Failure, Fate, Heard, Patience, Placed, Progress, Target, Turn, UPLOAD_PAUSE, Upload,
    Waiting,
};

/// The connections that requests share.
#[derive(Debug)]
pub(super) struct Shared {
    target: Arc<Target>,
    state: Mutex<State>,
    /// The request that is next to get a place holds this lock.
    queue: tokio::sync::Mutex<()>,
    /// Wakes the holder of `queue` to look again.
    freed: Notify,
}

/// One of the `max_connections`. It is free again when this is dropped.
#[derive(Debug)]
struct Seat(Weak<Shared>);

impl Seat {
    fn pool(&self) -> Weak<Shared> {
        Weak::clone(&self.0)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            pool.with(|state| {
                state.seats -= 1;
                state.is_making_room = false;
            });
            pool.freed.notify_one();
        }
    }
}

/// A request that waits for a place. Until this is dropped, those that ask later get none.
struct Waits<'a>(&'a Shared);

impl<'a> Waits<'a> {
    fn new(pool: &'a Shared) -> Self {
        pool.with(|state| state.waiting += 1);
        Self(pool)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.with(|state| state.waiting -= 1);
    }
}

impl Shared {
    pub(super) fn new(target: Arc<Target>) -> Self {
        Self {
            target,
            state: Mutex::default(),
            queue: tokio::sync::Mutex::default(),
            freed: Notify::new(),
        }
    }

    /// Takes a place that is free. If no connection is open, it waits for the first.
    ///
    /// An application that closes a new connection without a word might be about to restart, so
    /// there is one more attempt. The same holds for a request that waits.
    pub(super) async fn ask(self: &Arc<Self>, turn: Turn) -> Result<Asked, Failure> {
        let arrived = self.now();
        let taking = async {
            match self.take_free(arrived).await {
                Err(Failure::Broken(_)) => self.take_free(self.now()).await,
                taken => taken,
            }
        };
        let taken = timeout(self.target.limit(), taking).await;
        Ok(match taken.unwrap_or(Err(Failure::ConnectTimeout))? {
            Some(connection) => Asked::Leased(Lease::leased(connection, self, turn)),
            None => {
                let pool = Arc::clone(self);
                let wait = |placed| pool.wait(turn, arrived, placed);
                Asked::Full(Waiting::new(wait))
            }
        })
    }

    async fn wait(
        self: Arc<Self>,
        turn: Turn,
        arrived: u64,
        placed: Placed,
    ) -> Result<super::Lease, Failure> {
        let taken = match self.take_in_turn(arrived, &placed).await {
            Err(Failure::Broken(_)) => self.take_in_turn(self.now(), &placed).await,
            taken => taken,
        };
        Ok(Lease::leased(taken?, &self, turn))
    }

    /// Returns what tells later which attempts have begun since.
    fn now(&self) -> u64 {
        self.with(|state| state.now())
    }

    /// Looks for a place for the first request that waits.
    fn find(&self, arrived: u64) -> Found {
        let max_connections = self.target.proxy.max_connections;
        self.with(|state| state.find(arrived, max_connections, true))
    }

    /// Takes a place if no request waits for one. Returns `None` if all are taken.
    async fn take_free(self: &Arc<Self>, arrived: u64) -> Result<Option<Connection>, Failure> {
        loop {
            let max_connections = self.target.proxy.max_connections;
            let found = self.with(|state| match state.waiting {
                0 => state.find(arrived, max_connections, false),
                _ => state.first(),
            });
            match found {
                Found::Place(connection) => return Ok(Some(connection)),
                Found::Failed(failure) => return Err(failure),
                Found::Nothing => return Ok(None),
                Found::Begun(ending) => self.connect(ending),
                Found::Attempt(attempt) => attempt.over().await,
            }
        }
    }

    /// Waits until it is the turn of the request, and then for a place. If no other connection
    /// could be opened, it tries again after [`RETRY`].
    async fn take_in_turn(
        self: &Arc<Self>,
        mut arrived: u64,
        placed: &Placed,
    ) -> Result<Connection, Failure> {
        let _waits = Waits::new(self);
        let _turn = self.queue.lock().await;
        loop {
            match self.find(arrived) {
                Found::Place(connection) => return Ok(connection),
                Found::Failed(failure) => return Err(failure),
                Found::Nothing => {
                    if timeout(RETRY, self.freed.notified()).await.is_err() {
                        arrived = self.now();
                    }
                }
                Found::Begun(ending) => self.connect(ending),
                Found::Attempt(attempt) => {
                    if self.with(|state| state.has_none()) {
                        placed.note();
                    }
                    tokio::select! {
                        () = attempt.over() => {}
                        () = self.freed.notified() => {}
                    }
                }
            }
        }
    }

    /// Opens a connection in the seat that it was given.
    fn connect(self: &Arc<Self>, ending: Ending) {
        let seat = Seat(Arc::downgrade(self));
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            let making = Connection::new(&pool.target, seat);
            let made = pool.target.open(None, making).await;
            let outcome = made.map(|connection| pool.add(connection));
            ending.send_replace(Some(outcome));
        });
    }

    fn add(self: &Arc<Self>, connection: Connection) {
        let usage = Arc::clone(&connection.usage);
        tokio::spawn(close_in_time(Arc::downgrade(self), usage));
        self.with(|state| state.add(connection));
    }

    /// Stops other requests from using a connection. Its open requests continue.
    fn retire(&self, usage: &Arc<Usage>) {
        self.with(|state| state.retire(usage));
        self.freed.notify_one();
    }

    /// Stops other requests from using a connection while there can be another one.
    fn spare(&self, usage: &Arc<Usage>) {
        usage.make_spare();
        self.retire_idle(usage);
    }

    fn retire_idle(&self, usage: &Arc<Usage>) {
        if usage.is_idle() {
            self.retire(usage);
        }
    }

    /// Reads or changes the state. Connections that it forgets are dropped while it is not locked:
    /// hyper's part of one can own requests, whose end changes the state again.
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&mut state);
        let forgotten = state.forgotten();
        drop(state);
        drop(forgotten);
        outcome
    }
}

/// Closes a connection once it has been idle for too long. (If it has ended before, this has no
/// effect.)
async fn close_in_time(pool: Weak<Shared>, usage: Arc<Usage>) {
    loop {
        let until = usage.rests_until();
        sleep_until(until).await;
        let Some(pool) = pool.upgrade() else { return };
        if usage.rests_until() <= Instant::now() {
            return pool.retire(&usage);
        }
    }
}

/// A connection with a place for a request.
#[derive(Debug)]
pub(in super::super) struct Lease {
    sender: SendRequest<Upload>,
    heard: Heard,
    place: Arc<Place>,
}

impl Lease {
    /// Creates the lease of a place that has been taken.
    fn leased(connection: Connection, pool: &Arc<Shared>, turn: Turn) -> super::Lease {
        let Connection {
            sender,
            heard,
            usage,
        } = connection;
        super::Lease::Http2(Self {
            sender,
            heard,
            place: Arc::new(Place::new(usage, Arc::clone(pool), turn)),
        })
    }

    /// Sends a request and returns the head of the response. If the future is dropped before that,
    /// the request to the application ends as soon as the connection can bear a reset.
    pub(super) async fn try_send(
        &mut self,
        mut request: Request<Upload>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Upload>>> {
        let progress = request.body().progress();
        request.body_mut().hold(&self.place);
        let answer = Box::pin(self.sender.try_send_request(request));
        Asking::new(answer, self, progress).await
    }

    pub(super) const fn heard(&self) -> &Heard {
        &self.heard
    }

    pub(super) fn target(&self) -> &Target {
        &self.place.pool.target
    }

    pub(super) fn turn(&self) -> &Turn {
        &self.place.turn
    }

    /// Abandons an application that has not responded.
    ///
    /// If it is not even alive, no more requests use the connection. The open ones continue until
    /// the connection has to make room for another one.
    pub(super) fn give_up(self) {
        let Place { usage, pool, .. } = &*self.place;
        if !connection::is_alive(&self.heard, pool.target.proxy.answer_timeout) {
            usage.doubt();
            pool.retire(usage);
        }
    }

    /// Leaves a connection on which the request has failed.
    pub(super) fn leave(self, fate: Fate) {
        let Place { usage, pool, .. } = &*self.place;
        match fate {
            // It refuses this request, and its others continue.
            Fate::Untouched => pool.spare(usage),
            Fate::Lost | Fate::Unknown => pool.retire(usage),
        }
    }

    /// Lets the application read on after its response, as long as the request body moves.
    pub(super) fn finish(self, progress: Progress) {
        let Some(place) = self.unsent() else { return };
        tokio::spawn(async move {
            let mut left = Patience::new(UPLOAD_PAUSE);
            let dropped = progress.or_still(progress.dropped(), &mut left).await;
            if dropped.is_none() {
                progress.take_back();
            }
            see_off(place).await;
        });
    }

    /// Ends a request whose response has begun.
    pub(super) fn break_off(self) {
        self.place.abandon();
        // Without a running runtime, the connection ends as well.
        if let (Some(place), Ok(runtime)) = (self.unsent(), Handle::try_current()) {
            runtime.spawn(see_off(place));
        }
    }

    /// Returns the place if a part of the request body might still be sent.
    fn unsent(self) -> Option<Weak<Place>> {
        let place = Arc::downgrade(&self.place);
        drop(self);
        (place.strong_count() > 0).then_some(place)
    }
}

/// Lets an application take what is on its way of a request whose response is over.
///
/// hyper can reset such a stream only when the application takes more of it. So the connection of
/// an application that neither reads nor resets takes no new requests, and ends with its other
/// responses.
async fn see_off(place: Weak<Place>) {
    sleep(GRACE).await;
    if let Some(place) = place.upgrade() {
        place.strand();
    }
}

/// How long the first request that waits lets pass after an attempt to open a connection that has
/// failed, while others are open and full.
const RETRY: Duration = Duration::from_millis(320);

/// How long the last part of a request body can be on its way once no more of it is sent.
const GRACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
