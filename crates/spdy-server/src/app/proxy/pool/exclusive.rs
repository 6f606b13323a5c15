//! Connections of HTTP/1.1: each carries one request at a time.
//!
//! A place is what a connection takes of `max_connections`. The request that uses the connection has it, so there are
//! never more connections than places: a new one is made only when none is at rest.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, sleep_until},
};
use tracing::debug;

use super::{super::sips::Sips, Failure, Heard, Patience, Progress, Proxy, UPLOAD_PAUSE, Upload};

/// The connections that are at rest, and the places.
#[derive(Debug)]
pub(super) struct Exclusive {
    proxy: Arc<Proxy>,
    places: Arc<Semaphore>,
    rest: Mutex<Rest>,
}

#[derive(Debug, Default)]
struct Rest {
    /// The one that rests for the shortest time is the last.
    connections: Vec<Resting>,
    /// Whether a task will close those that rest for too long.
    is_watched: bool,
}

/// A connection that waits for its next request.
#[derive(Debug)]
struct Resting {
    connection: Connection,
    until: Instant,
}

/// A connection. Dropped, it is closed.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Upload>,
    heard: Heard,
    /// Closes the connection; a place that is given to it is free once the connection is closed.
    close: oneshot::Sender<OwnedSemaphorePermit>,
}

impl Exclusive {
    pub(super) fn new(proxy: Arc<Proxy>) -> Self {
        let places = proxy.max_connections.min(Semaphore::MAX_PERMITS);
        Self {
            proxy,
            places: Arc::new(Semaphore::new(places)),
            rest: Mutex::default(),
        }
    }

    pub(super) async fn lease(self: &Arc<Self>, patience: &mut Patience) -> Result<Lease, Failure> {
        let place = patience
            .wait(Arc::clone(&self.places).acquire_owned())
            .await
            .ok_or(Failure::Busy)?
            .expect("the semaphore is never closed");
        match self.take_resting() {
            Some(connection) => Ok(Lease::new(connection, place, self, true)),
            None => self.connect(place, patience).await,
        }
    }

    async fn connect(
        self: &Arc<Self>,
        place: OwnedSemaphorePermit,
        patience: &mut Patience,
    ) -> Result<Lease, Failure> {
        let connection = patience
            .wait(Connection::new(&self.proxy))
            .await
            .ok_or(Failure::ConnectTimeout)??;
        Ok(Lease::new(connection, place, self, false))
    }

    /// Finds a connection that is still of use; the one that has rested for the shortest time.
    fn take_resting(&self) -> Option<Connection> {
        let mut rest = self.at_rest();
        while let Some(Resting { connection, .. }) = rest.connections.pop() {
            if connection.sender.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request.
    fn keep(self: &Arc<Self>, connection: Connection) {
        let until = Instant::now() + MAX_REST;
        let mut rest = self.at_rest();
        rest.connections.push(Resting { connection, until });
        let is_watched = mem::replace(&mut rest.is_watched, true);
        // A runtime that ends drops the task at once, which asks for the lock.
        drop(rest);
        if !is_watched {
            tokio::spawn(close_in_time(Watch(Some(Arc::downgrade(self))), until));
        }
    }

    /// Closes the connections that have rested for too long; returns when the next one has.
    fn close_rested(&self) -> Option<Instant> {
        let mut rest = self.at_rest();
        let now = Instant::now();
        rest.connections
            .retain(|resting| now < resting.until && resting.connection.sender.is_ready());
        rest.is_watched = !rest.connections.is_empty();
        rest.connections.first().map(|oldest| oldest.until)
    }

    fn at_rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections that rest, each in its time, until there are none.
async fn close_in_time(mut watch: Watch, mut next: Instant) {
    loop {
        sleep_until(next).await;
        match watch.close_rested() {
            Some(until) => next = until,
            None => return,
        }
    }
}

/// The duty to close connections that rest, of a pool that counts on it. When the task that has it is dropped with its
/// runtime, the pool looks for another one.
#[derive(Debug)]
struct Watch(Option<Weak<Exclusive>>);

impl Watch {
    /// Closes what has rested for too long. `None`: there is nothing more to do.
    fn close_rested(&mut self) -> Option<Instant> {
        let pool = self.0.as_ref()?.upgrade()?;
        let next = pool.close_rested();
        if next.is_none() {
            // The pool knows.
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
    async fn new(proxy: &Proxy) -> Result<Self, Failure> {
        let (io, heard) = super::connect(proxy).await?;
        let handshake = http1::handshake(TokioIo::new(Sips(io))).await;
        let (sender, connection) = handshake.map_err(|error| Failure::of(&error))?;
        let (close, closed) = oneshot::channel();
        // Boxed, or the task would have room for it twice.
        let connection = Box::pin(connection);
        tokio::spawn(async move {
            // The connection is dropped with the `select`, and the place after it.
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

/// A connection in use, and its place. Dropped, the connection is closed, and then the place is free.
#[derive(Debug)]
pub(in super::super) struct Lease {
    sender: SendRequest<Upload>,
    heard: Heard,
    hold: Hold,
    pool: Arc<Exclusive>,
    reused: bool,
}

/// What frees a place, and the place.
#[derive(Debug)]
struct Hold(Option<(oneshot::Sender<OwnedSemaphorePermit>, OwnedSemaphorePermit)>);

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some((close, place)) = self.0.take() {
            // A connection that has ended already does not take its place, which is free here then.
            drop(close.send(place));
        }
    }
}

impl Lease {
    fn new(
        connection: Connection,
        place: OwnedSemaphorePermit,
        pool: &Arc<Exclusive>,
        reused: bool,
    ) -> Self {
        Self {
            sender: connection.sender,
            heard: connection.heard,
            hold: Hold(Some((connection.close, place))),
            pool: Arc::clone(pool),
            reused,
        }
    }

    pub(super) const fn sender(&mut self) -> &mut SendRequest<Upload> {
        &mut self.sender
    }

    pub(super) const fn heard(&self) -> &Heard {
        &self.heard
    }

    /// Whether the connection has carried other requests before.
    pub(super) const fn is_reused(&self) -> bool {
        self.reused
    }

    /// Closes the connection, and makes another one in its place.
    pub(super) async fn renew(self, patience: &mut Patience) -> Result<Self, Failure> {
        let Self { pool, mut hold, .. } = self;
        match hold.0.take() {
            Some((close, place)) => {
                drop(close);
                pool.connect(place, patience).await
            }
            None => pool.lease(patience).await,
        }
    }

    /// Lets the connection rest once the request has left, too.
    ///
    /// An application may answer before it has read the whole request, and read on. It is let to, as long as the
    /// request moves.
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
        if let Some((close, _place)) = self.hold.0.take() {
            self.pool.keep(Connection {
                sender: self.sender,
                heard: self.heard,
                close,
            });
        }
    }
}

/// How long a connection may rest and is used again. Applications close theirs after some time, mostly a longer one.
const MAX_REST: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use tokio::{
        io::duplex,
        runtime::{Builder, Runtime},
        time::sleep,
    };

    use super::*;

    fn runtime() -> Runtime {
        let mut builder = Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    }

    /// Has a connection made, and lets it rest.
    async fn rest(pool: &Arc<Exclusive>) {
        let mut patience = Patience::new(Duration::from_secs(1));
        pool.lease(&mut patience).await.unwrap().rest();
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
        let pool = Arc::new(Exclusive::new(Arc::new(proxy)));
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
