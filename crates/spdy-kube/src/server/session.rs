//! One session, as its server sees it from outside: what it has moved, its outcome, and when it has
//! to end.

use std::{
    fmt,
    future::pending,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::StatusCode;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::sessions::{Place, Sessions};
use crate::Status;

/// The transport of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Over {
    /// SPDY/3.1.
    Spdy,
    /// WebSocket, also if it carries SPDY.
    WebSocket,
}

/// What is known of a session that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// The transport.
    pub over: Over,
    /// The outcome. `None` if the command was dropped because its client was gone, or if the
    /// session forwarded ports until its client left.
    pub outcome: Option<Status>,
    /// Whether the outcome was written to the transport, and the transport has passed everything
    /// on to the system, which TLS does later. For forwarded ports: the same of the failure that
    /// ended them, for one connection at least.
    pub is_told: bool,
    /// Bytes of the client: those of the input that the command has read, or those that the ports
    /// have taken.
    pub received: u64,
    /// Bytes for the client: those that the outputs of the command or the ports have sent. Unless
    /// the outcome was written, some of them might not have reached the client.
    pub sent: u64,
    /// How long the session has lasted, from the response to the end of the transport.
    pub duration: Duration,
}

/// The rules for a session, and what is called at its end.
pub(crate) struct Rules {
    pub(crate) sessions: Arc<Sessions>,
    /// How long nothing may move.
    pub(crate) idle: Option<Duration>,
    /// Whether everything counts that the client sends, and not only bytes of streams.
    pub(crate) counts_pings: bool,
    pub(crate) on_end: Box<dyn Fn(Ended) + Send + Sync>,
}

/// A handle of one session. The default belongs to a session without rules, and does nothing.
#[derive(Clone, Default)]
pub(crate) struct Session(Option<Arc<State>>);

struct State {
    rules: Rules,
    begin: Instant,
    /// The last use, in milliseconds since `begin`.
    last_use: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    outcome: Mutex<Option<Status>>,
    is_told: AtomicBool,
    /// Whether the transport holds what was written to it.
    is_held: AtomicBool,
    /// Why the session has to end.
    over: watch::Sender<Option<Status>>,
}

impl Session {
    pub(crate) fn new(rules: Rules) -> Self {
        Self(Some(Arc::new(State {
            rules,
            begin: Instant::now(),
            last_use: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            outcome: Mutex::default(),
            is_told: AtomicBool::new(false),
            is_held: AtomicBool::new(false),
            over: watch::Sender::default(),
        })))
    }

    /// Begins the session. Returns the response for a client that comes too late.
    pub(super) fn begin(&self, over: Over) -> Result<Running, Status> {
        let Some(state) = &self.0 else {
            return Ok(Running(None));
        };
        let place = state.rules.sessions.begin().ok_or_else(shutting_down)?;
        let state = Arc::clone(state);
        Ok(Running(Some(Entry { state, over, place })))
    }

    /// The client has sent something of its own accord.
    pub(crate) fn heard(&self) {
        if let Some(state) = self.0.as_deref().filter(|state| state.rules.counts_pings) {
            state.used();
        }
    }

    /// The command or a port has taken bytes of the client.
    pub(crate) fn received(&self, bytes: usize) {
        if let Some(state) = &self.0 {
            state.received.fetch_add(bytes as u64, Relaxed);
            state.used();
        }
    }

    /// The command or a port has sent bytes to the client.
    pub(crate) fn sent(&self, bytes: usize) {
        if let Some(state) = &self.0 {
            state.sent.fetch_add(bytes as u64, Relaxed);
            state.used();
        }
    }

    /// Notes the outcome, and returns it.
    pub(super) fn outcome(&self, outcome: Status) -> Status {
        if let Some(state) = &self.0 {
            *state.outcome() = Some(outcome.clone());
        }
        outcome
    }

    /// The outcome was written to the transport.
    pub(super) fn told(&self) {
        if let Some(state) = &self.0 {
            state.is_told.store(true, Relaxed);
        }
    }

    /// The transport holds what was written to it, or has passed it on.
    pub(super) fn held(&self, is_held: bool) {
        if let Some(state) = &self.0 {
            state.is_held.store(is_held, Relaxed);
        }
    }

    /// Waits until the session has to end, and returns the outcome for the client. Cancel safe.
    pub(super) async fn over(&self) -> Status {
        let Some(state) = &self.0 else {
            return pending().await;
        };
        let mut over = state.over.subscribe();
        let outcome = over.wait_for(Option::is_some).await;
        outcome
            .ok()
            .and_then(|over| over.clone())
            .unwrap_or_else(shutting_down)
    }
}

impl State {
    fn used(&self) {
        let since = self.begin.elapsed().as_millis();
        self.last_use
            .store(u64::try_from(since).unwrap_or(u64::MAX), Relaxed);
    }

    fn outcome(&self) -> std::sync::MutexGuard<'_, Option<Status>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nothing has moved for the idle time, and returns the outcome for the client.
    async fn idle(&self) -> Status {
        let Some(limit) = self.rules.idle else {
            return pending().await;
        };
        loop {
            let last = Duration::from_millis(self.last_use.load(Relaxed));
            let end = last
                .checked_add(limit)
                .and_then(|end| self.begin.checked_add(end));
            let Some(end) = end else {
                return pending().await;
            };
            if end <= Instant::now() {
                let message = format!("session was idle for {} s", limit.as_secs_f64());
                return Status::failure(StatusCode::GATEWAY_TIMEOUT, "Timeout", message);
            }
            sleep_until(end).await;
        }
    }
}

/// Shows no contents of the session.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// A session that has begun. Dropping it ends the session, and reports that.
pub(super) struct Running(Option<Entry>);

struct Entry {
    state: Arc<State>,
    over: Over,
    /// Dropped after the end was reported.
    #[expect(dead_code, reason = "kept until it is dropped")]
    place: Place,
}

impl Running {
    /// Signals the session when it has to end. Returns when it must not wait for its client any
    /// more.
    pub(super) async fn watch(&self) {
        let Some(Entry { state, .. }) = &self.0 else {
            return pending().await;
        };
        let sessions = &state.rules.sessions;
        let (why, is_idle) = tokio::select! {
            why = state.idle() => (why, true),
            why = sessions.ordered() => (why, false),
        };
        state.over.send_replace(Some(why));
        tokio::select! {
            () = sleep(TELL), if is_idle => {}
            () = sessions.broken_off() => {}
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let state = &self.state;
        let outcome = state.outcome().take();
        let is_written = state.is_told.load(Relaxed) && !state.is_held.load(Relaxed);
        let is_told = outcome.is_some() && is_written;
        (state.rules.on_end)(Ended {
            over: self.over,
            outcome,
            is_told,
            received: state.received.load(Relaxed),
            sent: state.sent.load(Relaxed),
            duration: state.begin.elapsed(),
        });
    }
}

pub(crate) fn shutting_down() -> Status {
    Status::unavailable("server is shutting down")
}

/// How long the client of an idle session may take for the outcome.
const TELL: Duration = Duration::from_secs(10);
