//! HTTP/1.1 connections: each carries one request at a time.
//!
//! A place is the right to one of the `max_connections`. The request that uses a connection holds
//! it, and its turn with it. A new connection is opened only when no connection is idle, so there
//! are never more connections than places.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use spdy_tower::Http1Io;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, sleep_until},
};
use tracing::debug;

use super::{
    super::{failure::MAX_HEAD, sips::Sips},
    Asked, Failure, Heard, Patience, Placed, Progress, Target, Turn, UPLOAD_PAUSE, Upload, Waiting,
};
use crate::tail::{Tail, Tailed};

/// The idle connections, and the places.
#[derive(Debug)]
pub(super) struct Exclusive {
    target: Arc<Target>,
    places: Arc<Semaphore>,
    rest: Mutex<Rest>,
}

#[derive(Debug, Default)]
struct Rest {
    /// The connection that has been idle for the shortest time is the last.
    connections: Vec<Resting>,
    /// Whether a task will close the connections that are idle for too long.
    is_watched: bool,
}

/// A connection that waits for its next request.
#[derive(Debug)]
struct Resting {
    connection: Connection,
    until: Instant,
}

/// A connection. Dropping it closes it.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Upload>,
    heard: Heard,
    /// Closes the connection. A place that is sent here becomes free once the connection is closed.
    close: oneshot::Sender<Place>,
}

/// One of the places, with the turn of the request that has it.
#[derive(Debug)]
struct Place {
    _permit: OwnedSemaphorePermit,
    turn: Turn,
}

impl Exclusive {
    pub(super) fn new(target: Arc<Target>) -> Self {
        let places = target.proxy.max_connections.min(Semaphore::MAX_PERMITS);
        Self {
            target,
            places: Arc::new(Semaphore::new(places)),
            rest: Mutex::default(),
        }
    }

    /// Takes a place that is free, and a connection.
    pub(super) async fn ask(self: &Arc<Self>, turn: Turn) -> Result<Asked, Failure> {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => self.lease(permit, turn).await.map(Asked::Leased),
            Err(_) => {
                let pool = Arc::clone(self);
                let wait = |placed| pool.wait(turn, placed);
                Ok(Asked::Full(Waiting::new(wait)))
            }
        }
    }

    async fn wait(self: Arc<Self>, turn: Turn, placed: Placed) -> Result<super::Lease, Failure> {
        let permit = Arc::clone(&self.places).acquire_owned().await;
        placed.note();
        self.lease(permit.expect("it is never closed"), turn).await
    }

    async fn lease(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
        turn: Turn,
    ) -> Result<super::Lease, Failure> {
        let place = Place {
            _permit: permit,
            turn,
        };
        match self.take_resting() {
            Some(connection) => Ok(Lease::leased(connection, place, self, true)),
            None => self.connect(place).await,
        }
    }

    async fn connect(self: &Arc<Self>, place: Place) -> Result<super::Lease, Failure> {
        let opening = Connection::new(&self.target);
        let connection = self.target.open(place.turn.race(), opening).await?;
        Ok(Lease::leased(connection, place, self, false))
    }

    /// Returns the usable connection that has been idle for the shortest time.
    fn take_resting(&self) -> Option<Connection> {
        loop {
            // Others are dropped while the lock is not held.
            let Resting { connection, .. } = self.at_rest().connections.pop()?;
            if connection.sender.is_ready() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for the next request.
    fn keep(self: &Arc<Self>, connection: Connection) {
        let until = Instant::now() + MAX_REST;
        let mut rest = self.at_rest();
        rest.connections.push(Resting { connection, until });
        let is_watched = mem::replace(&mut rest.is_watched, true);
        // If the runtime is shutting down, it drops the task at once, and that takes the lock.
        drop(rest);
        if !is_watched {
            tokio::spawn(close_in_time(Watch(Some(Arc::downgrade(self))), until));
        }
    }

    /// Closes the connections that have been idle for too long. Returns when the next one is due.
    fn close_rested(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut rest = self.at_rest();
        let is_over = |one: &mut Resting| one.until <= now || !one.connection.sender.is_ready();
        let over: Vec<_> = rest.connections.extract_if(.., is_over).collect();
        rest.is_watched = !rest.connections.is_empty();
        let next = rest.connections.first().map(|oldest| oldest.until);
        drop(rest);
        drop(over);
        next
    }

    fn at_rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes idle connections when they are due, until none is left.
async fn close_in_time(mut watch: Watch, mut next: Instant) {
    loop {
        sleep_until(next).await;
        match watch.close_rested() {
            Some(until) => next = until,
            None => return,
        }
    }
}

/// The duty to close the idle connections of a pool. When a runtime drops the task that has it, the
/// pool starts another one later.
#[derive(Debug)]
struct Watch(Option<Weak<Exclusive>>);

impl Watch {
    /// Closes the connections that have been idle for too long. Returns `None` if none is left.
    fn close_rested(&mut self) -> Option<Instant> {
        let pool = self.0.as_ref()?.upgrade()?;
        let next = pool.close_rested();
        if next.is_none() {
            // The pool has recorded it already.
            self.0 = None;
        }
        next
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take().and_then(|pool| pool.upgrade()) {
            pool.at_rest().is_watched = false;
        }
    }
}

impl Connection {
    async fn new(target: &Target) -> Result<Self, Failure> {
        let (io, heard, _) = super::connect(target, ()).await?;
        let tail = heard.tail().clone();
        let handshake = http1::Builder::new()
            .max_buf_size(MAX_HEAD as usize)
            .handshake(TokioIo::new(Http1Io::new(Sips(Tailed::new(io, tail)))))
            .await;
        let (sender, connection) = handshake.map_err(|error| Failure::of(&error))?;
        let (close, closed) = oneshot::channel();
        // The future is boxed, because the task would otherwise reserve its room twice.
        let connection = Box::pin(connection.with_upgrades());
        tokio::spawn(async move {
            // The `select` drops the connection, and the place is dropped after it.
            let _place = tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        debug!(%error, "connection to the application failed");
                    }
                    None
                }
                place = closed => place.ok(),
            };
        });
        Ok(Self {
            sender,
            heard,
            close,
        })
    }
}

/// A connection in use and its place. Dropping it resets the connection, and then frees the place.
#[derive(Debug)]
pub(in super::super) struct Lease {
    sender: SendRequest<Upload>,
    heard: Heard,
    hold: Hold,
    pool: Arc<Exclusive>,
    reused: bool,
}

/// What ends the connection of a request that is given up.
#[derive(Debug)]
struct Hold {
    /// The sender that closes the connection, and the place.
    held: Option<(oneshot::Sender<Place>, Place)>,
    tail: Tail,
}

impl Drop for Hold {
    /// The connection is reset. If it were closed, its port would be taken for a minute, and
    /// clients that ask and leave could use up all ports.
    fn drop(&mut self) {
        if let Some((close, place)) = self.held.take() {
            self.tail.cut();
            // A connection that has ended does not receive its place, which is dropped here then.
            drop(close.send(place));
        }
    }
}

impl Lease {
    fn leased(
        connection: Connection,
        place: Place,
        pool: &Arc<Exclusive>,
        reused: bool,
    ) -> super::Lease {
        super::Lease::Http1(Self {
            sender: connection.sender,
            hold: Hold {
                held: Some((connection.close, place)),
                tail: connection.heard.tail().clone(),
            },
            heard: connection.heard,
            pool: Arc::clone(pool),
            reused,
        })
    }

    pub(super) const fn sender(&mut self) -> &mut SendRequest<Upload> {
        &mut self.sender
    }

    pub(super) const fn heard(&self) -> &Heard {
        &self.heard
    }

    pub(super) fn target(&self) -> &Target {
        &self.pool.target
    }

    pub(super) fn turn(&self) -> &Turn {
        let (_, place) = self.hold.held.as_ref().expect("it has its place");
        &place.turn
    }

    /// Returns whether the connection has carried other requests before.
    pub(super) const fn is_reused(&self) -> bool {
        self.reused
    }

    /// Closes the connection, and opens another one in its place.
    pub(super) async fn renew(self, turn: Turn) -> Result<Asked, Failure> {
        let Self { pool, mut hold, .. } = self;
        let (close, mut place) = hold.held.take().expect("it has its place");
        drop(close);
        place.turn = turn;
        pool.connect(place).await.map(Asked::Leased)
    }

    /// Keeps the connection for other requests once the request body is sent, too.
    ///
    /// An application can respond before it has read the whole request, and read on. The proxy lets
    /// it, as long as the request body moves.
    pub(super) fn finish(mut self, progress: Progress) {
        if self.sender.is_ready() {
            return self.rest();
        }
        tokio::spawn(async move {
            let mut left = Patience::new(UPLOAD_PAUSE);
            if let Some(Ok(())) = progress.or_still(self.sender.ready(), &mut left).await {
                self.rest();
            }
        });
    }

    fn rest(mut self) {
        if let Some((close, _place)) = self.hold.held.take() {
            self.pool.keep(Connection {
                sender: self.sender,
                heard: self.heard,
                close,
            });
        }
    }
}

/// How long an idle connection can be used again. Applications close idle connections after some
/// time, which is longer in most cases.
const MAX_REST: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use tokio::{
        io::duplex,
        runtime::{Builder, Runtime},
        time::sleep,
    };

    use super::{super::super::Proxy, *};

    fn runtime() -> Runtime {
        let mut builder = Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    }

    /// Has a connection made, and lets it rest.
    async fn rest(pool: &Arc<Exclusive>) {
        match pool.ask(pool.target.turn()).await {
            Ok(Asked::Leased(super::super::Lease::Http1(lease))) => lease.rest(),
            _ => panic!("no connection"),
        }
    }

    #[test]
    fn connections_are_closed_in_time_though_the_runtime_that_watched_them_has_ended() {
        let proxy = Proxy::new("http://a.test".parse().unwrap());
        let proxy = proxy.connector(async || {
            let (near, far) = duplex(1024);
            // The application says nothing, and leaves the connection open.
            tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop(far);
            });
            Ok(near)
        });
        let pool = Arc::new(Exclusive::new(Target::alone(proxy)));
        let first = runtime();
        first.block_on(rest(&pool));
        assert!(pool.at_rest().is_watched);
        drop(first);
        runtime().block_on(async {
            rest(&pool).await;
            sleep(MAX_REST + Duration::from_millis(1)).await;
        });
        let rest = pool.at_rest();
        assert_eq!((rest.connections.len(), rest.is_watched), (0, false));
    }
}
