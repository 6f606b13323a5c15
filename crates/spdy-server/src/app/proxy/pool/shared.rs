//! HTTP/2 connections: many requests share each.
//!
//! A place is the right of a request to use a connection. The application limits the places of a
//! connection. When all are taken, the pool opens another connection for the next request, up to
//! `max_connections`. Further requests wait in the order of arrival, each for its own time. Only
//! the first of them looks for a place.
//!
//! A connection is opened in a separate task. A request that has waited for an attempt of an
//! earlier request, and sees it fail, makes one more attempt.

mod leaving;

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use axum::http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http2::{self, SendRequest},
    },
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};
use tracing::debug;

use self::leaving::{Asking, Leaving};
use super::{Channel, Failure, Heard, Listening, Patience, Progress, Proxy, UPLOAD_PAUSE, Upload};

/// The connections that requests share.
#[derive(Debug)]
pub(super) struct Shared {
    proxy: Arc<Proxy>,
    state: Mutex<State>,
    /// The request that is next to get a place holds this lock.
    queue: tokio::sync::Mutex<()>,
    /// Wakes the holder of `queue` to look again.
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The oldest connection is the first, and is preferred. So the later ones become idle in quiet
    /// times, and are closed.
    open: Vec<Connection>,
    /// The last attempt to open another connection, unless it has succeeded.
    attempt: Option<Attempt>,
}

/// A connection that is being opened.
#[derive(Clone, Debug)]
struct Attempt {
    since: Instant,
    outcome: watch::Receiver<Option<Result<(), Failure>>>,
}

/// A connection. Once the pool has forgotten it, it closes when its last request has ended.
#[derive(Clone, Debug)]
struct Connection {
    sender: SendRequest<Upload>,
    heard: Heard,
    usage: Arc<Usage>,
}

/// The use of a connection.
#[derive(Debug)]
struct Usage {
    /// The number of requests, and the time when the last one ended.
    requests: Mutex<(usize, Instant)>,
    /// The maximum number of requests. 0 means that the application has not announced it yet: then
    /// it receives one request.
    places: AtomicUsize,
    leaving: Leaving,
    /// The number of requests that ended early.
    broken: AtomicUsize,
}

enum Found {
    Place(Connection),
    Attempt(Attempt),
    Failed(Failure),
    Nothing,
}

impl Shared {
    pub(super) fn new(proxy: Arc<Proxy>) -> Self {
        Self {
            proxy,
            state: Mutex::default(),
            queue: tokio::sync::Mutex::default(),
            freed: Notify::new(),
        }
    }

    pub(super) async fn lease(self: &Arc<Self>, patience: &mut Patience) -> Result<Lease, Failure> {
        let found = patience.wait(self.place(Instant::now())).await;
        let connection = found.ok_or_else(|| self.late())??;
        Ok(Lease::new(connection, self))
    }

    /// Waits for a place, and takes it.
    async fn place(self: &Arc<Self>, arrived: Instant) -> Result<Connection, Failure> {
        let _turn = self.queue.lock().await;
        loop {
            match self.find(arrived) {
                Found::Place(connection) => return Ok(connection),
                Found::Failed(failure) => return Err(failure),
                Found::Nothing => self.freed.notified().await,
                Found::Attempt(attempt) => tokio::select! {
                    () = attempt.over() => {}
                    () = self.freed.notified() => {}
                },
            }
        }
    }

    /// Takes a place, or returns the attempt to open a connection. Starts an attempt if all
    /// connections are full.
    fn find(self: &Arc<Self>, arrived: Instant) -> Found {
        let mut state = self.state();
        state
            .open
            .retain(|connection| !connection.sender.is_closed());
        if let Some(connection) = state.open.iter().find(|one| one.usage.take_place()) {
            return Found::Place(connection.clone());
        }
        let is_known = state.open.iter().all(|one| one.usage.is_known());
        if !is_known || state.open.len() >= self.proxy.max_connections {
            return Found::Nothing;
        }
        match &state.attempt {
            Some(attempt) if attempt.is_under_way() => return Found::Attempt(attempt.clone()),
            Some(attempt) if attempt.since >= arrived => {
                return match attempt.failure() {
                    Some(failure) if state.open.is_empty() => Found::Failed(failure),
                    _ => Found::Nothing,
                };
            }
            Some(_) | None => {}
        }
        let attempt = self.connect();
        state.attempt = Some(attempt.clone());
        Found::Attempt(attempt)
    }

    fn connect(self: &Arc<Self>) -> Attempt {
        let (sender, outcome) = watch::channel(None);
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            let made = Connection::new(&pool).await;
            let outcome = made.map(|connection| pool.add(connection));
            sender.send_replace(Some(outcome));
        });
        Attempt {
            since: Instant::now(),
            outcome,
        }
    }

    fn add(self: &Arc<Self>, connection: Connection) {
        let usage = Arc::clone(&connection.usage);
        tokio::spawn(close_in_time(Arc::downgrade(self), usage));
        let mut state = self.state();
        state.open.push(connection);
        state.attempt = None;
    }

    /// Stops other requests from using a connection.
    fn forget(&self, usage: &Arc<Usage>) {
        let is_other = |one: &Connection| !Arc::ptr_eq(&one.usage, usage);
        self.state().open.retain(is_other);
        self.freed.notify_one();
    }

    /// Returns the reason why a request has run out of time.
    fn late(&self) -> Failure {
        let is_full = self.state().open.iter().any(|one| one.usage.is_known());
        if is_full {
            Failure::Busy
        } else {
            Failure::ConnectTimeout
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
            return pool.forget(&usage);
        }
    }
}

impl Attempt {
    /// Returns whether the attempt still runs. If the runtime ends, the task that opens the
    /// connection ends without a result.
    fn is_under_way(&self) -> bool {
        self.outcome.borrow().is_none() && self.outcome.has_changed().is_ok()
    }

    fn failure(&self) -> Option<Failure> {
        match &*self.outcome.borrow() {
            Some(Ok(())) => None,
            Some(Err(failure)) => Some(failure.clone()),
            None => Some(Failure::Connect("the attempt was abandoned".into())),
        }
    }

    async fn over(mut self) {
        _ = self.outcome.wait_for(Option::is_some).await;
    }
}

impl Connection {
    async fn new(pool: &Arc<Shared>) -> Result<Self, Failure> {
        let (io, heard) = super::connect(&pool.proxy).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(STREAM_WINDOW as usize)
            .initial_max_send_streams(1)
            // With the default, many invalid responses would end the connection with the requests
            // of other clients.
            .max_local_error_reset_streams(None)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| Failure::of(&error))?;
        let usage = Arc::new(Usage::default());
        let run = run(
            connection,
            heard.clone(),
            Arc::clone(&usage),
            Arc::downgrade(pool),
        );
        tokio::spawn(run);
        Ok(Self {
            sender,
            heard,
            usage,
        })
    }
}

type Http2 = http2::Connection<TokioIo<Listening<Channel>>, Upload, TokioExecutor>;

/// Runs a connection, and records how many places the application allows.
async fn run(connection: Http2, heard: Heard, usage: Arc<Usage>, pool: Weak<Shared>) {
    let mut connection = pin!(connection);
    let mut begun = pin!(heard.begun());
    let mut has_begun = false;
    let outcome = poll_fn(|cx| {
        let outcome = connection.as_mut().poll(cx);
        if outcome.is_ready() {
            return outcome;
        }
        has_begun = has_begun || begun.as_mut().poll(cx).is_ready();
        if has_begun && usage.set_places(connection.current_max_send_streams()) {
            notify(&pool);
        }
        Poll::Pending
    })
    .await;
    if let Err(error) = outcome {
        debug!(%error, "connection to the application failed");
    }
    notify(&pool);
}

fn notify(pool: &Weak<Shared>) {
    if let Some(pool) = pool.upgrade() {
        pool.freed.notify_one();
    }
}

impl Default for Usage {
    fn default() -> Self {
        Self {
            requests: Mutex::new((0, Instant::now())),
            places: AtomicUsize::new(0),
            leaving: Leaving::default(),
            broken: AtomicUsize::new(0),
        }
    }
}

impl Usage {
    /// Takes a place if one is free.
    fn take_place(&self) -> bool {
        let mut requests = self.get();
        let is_free = requests.0 < self.places.load(Ordering::Relaxed).max(1);
        requests.0 += usize::from(is_free);
        is_free
    }

    /// Returns whether the application has announced the number of places.
    fn is_known(&self) -> bool {
        self.places.load(Ordering::Relaxed) > 0
    }

    fn end(&self) {
        let mut requests = self.get();
        *requests = (requests.0 - 1, Instant::now());
    }

    /// Sets the number of places. Returns whether it has grown. (An application that accepts no
    /// requests for a while counts as one place.)
    fn set_places(&self, places: usize) -> bool {
        let places = places.max(1);
        self.places.swap(places, Ordering::Relaxed) < places
    }

    /// Returns when the connection will have been idle for too long. A connection in use will be
    /// idle later.
    fn rests_until(&self) -> Instant {
        let (requests, since) = *self.get();
        let since = if requests == 0 { since } else { Instant::now() };
        since + MAX_REST
    }

    fn get(&self) -> MutexGuard<'_, (usize, Instant)> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The use of a connection by one request. Dropping it frees the place.
#[derive(Debug)]
pub(in super::super) struct Place {
    usage: Arc<Usage>,
    pool: Arc<Shared>,
}

impl Place {
    /// Notes that the request ends early: its client has left, or the application has not read all
    /// of it.
    ///
    /// Applications close a connection with too many such requests. h2 counts the frames for
    /// streams that it has forgotten, and ends the connection after a thousand; others count
    /// resets. So a connection with [`MAX_BROKEN`] of them takes no more requests, and its open
    /// requests continue.
    pub(in super::super) fn note_broken(&self) {
        if self.usage.broken.fetch_add(1, Ordering::Relaxed) + 1 == MAX_BROKEN {
            self.pool.forget(&self.usage);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.usage.end();
        self.pool.freed.notify_one();
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
    fn new(connection: Connection, pool: &Arc<Shared>) -> Self {
        let Connection {
            sender,
            heard,
            usage,
        } = connection;
        let pool = Arc::clone(pool);
        Self {
            sender,
            heard,
            place: Arc::new(Place { usage, pool }),
        }
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

    /// Stops other requests from using the connection. Its open requests continue.
    pub(super) fn forget(&self) {
        self.place.pool.forget(&self.place.usage);
    }

    /// Replaces the connection with a new one.
    pub(super) async fn renew(self, patience: &mut Patience) -> Result<Self, Failure> {
        self.forget();
        let pool = Arc::clone(&self.place.pool);
        drop(self);
        pool.lease(patience).await
    }

    /// Lets the application read on after its response, as long as the request body moves.
    pub(super) fn finish(self, progress: Progress) {
        if progress.is_over() {
            return;
        }
        tokio::spawn(async move {
            let mut left = Patience::new(UPLOAD_PAUSE);
            if progress
                .or_still(progress.dropped(), &mut left)
                .await
                .is_none()
            {
                progress.take_back();
            }
        });
    }
}

/// The interval of PINGs to an application while requests are open. Without a reply within 20 s,
/// which is hyper's timeout, the requests end.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How long a connection can be idle.
const MAX_REST: Duration = Duration::from_secs(30);

/// The maximum number of requests that can end early on a connection that takes further requests.
const MAX_BROKEN: usize = 100;

/// The window, in bytes, of one response and of one request: one DATA frame. The application is
/// near, and a client that does not read might have a hundred streams.
const STREAM_WINDOW: u32 = 16_384;

/// As large as possible, because the window of each response limits it. With a smaller one,
/// responses to clients that do not read would block all others.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
