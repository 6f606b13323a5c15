//! The connection of HTTP/2: all requests share it.
//!
//! It is made in a task of its own, and all requests that come meanwhile wait for the same attempt, each for its own
//! time. A request that found an attempt under way, and sees it fail, has one more of its own.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::debug;

use super::{Failure, Heard, Patience, Proxy, Upload};

/// The connection that requests share.
#[derive(Debug)]
pub(super) struct Shared {
    proxy: Arc<Proxy>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Closed,
    Connecting(Attempt),
    Open(Connection),
}

/// A connection that is being made.
#[derive(Clone, Debug)]
struct Attempt {
    since: Instant,
    outcome: watch::Receiver<Option<Result<Connection, Failure>>>,
}

/// A connection. It closes when the last request that uses it has ended, once the pool has forgotten it.
#[derive(Clone, Debug)]
struct Connection {
    sender: SendRequest<Upload>,
    heard: Heard,
    usage: Arc<Usage>,
}

/// Who uses a connection.
#[derive(Debug)]
struct Usage(Mutex<(usize, Instant)>);

enum Found {
    Connection(Connection),
    Attempt(Attempt),
}

impl Shared {
    pub(super) fn new(proxy: Arc<Proxy>) -> Self {
        Self {
            proxy,
            state: Mutex::default(),
        }
    }

    pub(super) async fn lease(self: &Arc<Self>, patience: &mut Patience) -> Result<Lease, Failure> {
        let arrived = Instant::now();
        loop {
            let attempt = match self.find() {
                Found::Connection(connection) => return Ok(Lease::new(connection, self)),
                Found::Attempt(attempt) => attempt,
            };
            let outcome = patience.wait(attempt.clone().outcome()).await;
            match outcome.ok_or(Failure::ConnectTimeout)? {
                Ok(connection) => return Ok(Lease::new(connection, self)),
                Err(failure) if attempt.since >= arrived => return Err(failure),
                Err(_) => {}
            }
        }
    }

    /// Returns the connection, or the attempt to make one, which begins here if there is none.
    fn find(self: &Arc<Self>) -> Found {
        let mut state = self.state();
        match &*state {
            State::Open(connection) if !connection.sender.is_closed() => {
                return Found::Connection(connection.clone());
            }
            State::Connecting(attempt) if attempt.is_under_way() => {
                return Found::Attempt(attempt.clone());
            }
            State::Open(_) | State::Connecting(_) | State::Closed => {}
        }
        let (sender, outcome) = watch::channel(None);
        let attempt = Attempt {
            since: Instant::now(),
            outcome,
        };
        *state = State::Connecting(attempt.clone());
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = Connection::new(&pool.proxy).await;
            pool.made(&outcome);
            sender.send_replace(Some(outcome));
        });
        Found::Attempt(attempt)
    }

    fn made(self: &Arc<Self>, outcome: &Result<Connection, Failure>) {
        *self.state() = match outcome {
            Ok(connection) => {
                tokio::spawn(close_in_time(
                    Arc::downgrade(self),
                    connection.clone().usage,
                ));
                State::Open(connection.clone())
            }
            Err(_) => State::Closed,
        };
    }

    /// Has the next request make another connection.
    fn forget(&self, usage: &Arc<Usage>) {
        let mut state = self.state();
        if matches!(&*state, State::Open(connection) if Arc::ptr_eq(&connection.usage, usage)) {
            mem::take(&mut *state);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes a connection once it has rested for too long. (A connection that is gone by then is closed in vain.)
async fn close_in_time(pool: Weak<Shared>, usage: Arc<Usage>) {
    loop {
        let until = usage.rests_until();
        sleep_until(until).await;
        let Some(pool) = pool.upgrade() else { return };
        if usage.rests_until() <= Instant::now() {
            return pool.forget(&usage);
        }
    }
}

impl Attempt {
    /// Whether there will be an outcome: the task that makes it ends without one when its runtime does.
    fn is_under_way(&self) -> bool {
        self.outcome.has_changed().is_ok()
    }

    async fn outcome(mut self) -> Result<Connection, Failure> {
        match self.outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(Failure::ConnectTimeout)),
            Err(_) => Err(Failure::Connect("the attempt was given up".into())),
        }
    }
}

impl Connection {
    async fn new(proxy: &Proxy) -> Result<Self, Failure> {
        let (io, heard) = super::connect(proxy).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(STREAM_WINDOW as usize)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| Failure::of(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "connection to the application failed");
            }
        });
        Ok(Self {
            sender,
            heard,
            usage: Arc::new(Usage(Mutex::new((0, Instant::now())))),
        })
    }
}

impl Usage {
    fn begin(&self) {
        self.get().0 += 1;
    }

    fn end(&self) {
        let mut usage = self.get();
        *usage = (usage.0 - 1, Instant::now());
    }

    /// Until when the connection may rest. One that is in use may rest later.
    fn rests_until(&self) -> Instant {
        let (requests, since) = *self.get();
        let since = if requests == 0 { since } else { Instant::now() };
        since + MAX_REST
    }

    fn get(&self) -> MutexGuard<'_, (usize, Instant)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The use of the connection by one request.
#[derive(Debug)]
pub(in super::super) struct Lease {
    connection: Connection,
    pool: Arc<Shared>,
}

impl Lease {
    fn new(connection: Connection, pool: &Arc<Shared>) -> Self {
        connection.usage.begin();
        Self {
            connection,
            pool: Arc::clone(pool),
        }
    }

    pub(super) const fn sender(&mut self) -> &mut SendRequest<Upload> {
        &mut self.connection.sender
    }

    pub(super) const fn heard(&self) -> &Heard {
        &self.connection.heard
    }

    /// Keeps other requests from the connection. Those that use it go on.
    pub(super) fn forget(&self) {
        self.pool.forget(&self.connection.usage);
    }

    /// Changes to a fresh connection.
    pub(super) async fn renew(self, patience: &mut Patience) -> Result<Self, Failure> {
        self.forget();
        self.pool.lease(patience).await
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.connection.usage.end();
    }
}

/// How often an application is asked for a sign of life while requests are open. Without an answer within 20 s, which
/// is hyper's time, they end.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How long a connection may rest.
const MAX_REST: Duration = Duration::from_secs(30);

/// The bytes of one answer that may be on their way, and of one request: a frame. An application is not far away, and a
/// client that does not read may have a hundred of them.
const STREAM_WINDOW: u32 = 16_384;

/// As large as it can be: the window of each answer bounds it. In a smaller one the answers of clients that do not read
/// would hold up those of all others.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
