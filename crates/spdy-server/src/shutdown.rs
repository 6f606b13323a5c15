//! The shutdown: the signals that start it, and the phases that every connection follows.
//!
//! ```text
//! Serving ──drain──► Draining ──half of the time──► LastCall ──deadline──► Cut
//! ```
//!
//! Each listener and each connection holds a [`Lifeline`]. The lifeline tells it the phase. When it
//! is dropped, the [`Lifecycle`] counts one less. Dropping the [`Lifecycle`] ends all of them at
//! once.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

/// The signals that stop a server: SIGINT and SIGTERM, or Ctrl-C on other systems.
///
/// Once this is created, these signals no longer end the process by themselves.
#[derive(Debug)]
pub struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Starts listening for the signals. Must be called within a tokio runtime that has its I/O
    /// driver enabled.
    ///
    /// # Errors
    /// Returns an error if the operating system does not let the process install a handler.
    pub fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next signal. Cancel safe: no signal is lost, but several of the same kind can
    /// count as one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    /// Starts listening for Ctrl-C.
    ///
    /// # Errors
    /// None on this platform.
    pub fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next Ctrl-C.
    pub async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a handler, the operating system ends the process.
            std::future::pending().await
        }
    }
}

/// The result of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Drained {
    /// The number of connections that had not finished at the deadline and were closed.
    pub cut: usize,
    /// The number of connections that had finished: every request was answered and every byte
    /// written. Only their clients had not closed their side by the deadline.
    pub unclosed: usize,
}

impl Drained {
    /// All connections have finished and are closed.
    const ALL: Self = Self {
        cut: 0,
        unclosed: 0,
    };
}

/// The server's side of all lifelines.
#[derive(Debug)]
pub(crate) struct Lifecycle(watch::Sender<State>);

/// What all lifelines share.
#[derive(Debug)]
struct State {
    phase: Phase,
    /// The number of connections that had finished when everything had to end at once.
    unclosed: AtomicUsize,
}

impl Lifecycle {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(State {
            phase: Phase::Serving,
            unclosed: AtomicUsize::new(0),
        }))
    }

    /// Returns a new lifeline. The server counts as in use until it is dropped.
    pub(crate) fn lifeline(&self) -> Lifeline {
        Lifeline(self.0.subscribe())
    }

    /// Asks all connections and listeners to finish, and returns at once.
    pub(crate) fn begin_to_drain(&self) {
        self.0.send_if_modified(|state| {
            let is_serving = state.phase == Phase::Serving;
            if is_serving {
                state.phase = Phase::Draining;
            }
            is_serving
        });
    }

    /// Asks all connections and listeners to finish, and ends those that have not done so within
    /// `deadline`.
    pub(crate) async fn drain(self, deadline: Duration) -> Drained {
        for (phase, time) in [
            (Phase::Draining, deadline / 2),
            (Phase::LastCall, deadline - deadline / 2),
        ] {
            self.0.send_modify(|state| state.phase = phase);
            if timeout(time, self.0.closed()).await.is_ok() {
                return Drained::ALL;
            }
        }
        let left = self.0.receiver_count();
        self.0.send_modify(|state| state.phase = Phase::Cut);
        // A handler that blocks its thread does not notice. It must not delay the shutdown as well.
        let _ = timeout(CUT_GRACE, self.0.closed()).await;
        let unclosed = self.0.borrow().unclosed.load(Ordering::Relaxed);
        Drained {
            cut: left.saturating_sub(unclosed),
            unclosed,
        }
    }
}

/// The time for connections to end after the order to end at once.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// The side of a connection or a listener: it receives the phase, and counts as in use while it is
/// held.
#[derive(Clone, Debug)]
pub(crate) struct Lifeline(watch::Receiver<State>);

impl Lifeline {
    /// Waits until the server accepts no new work. Cancel safe.
    pub(crate) async fn draining(&mut self) {
        self.reached(Phase::Draining).await;
    }

    /// Waits until connections that are not served yet must be answered with 503. Cancel safe.
    pub(crate) async fn last_call(&mut self) {
        self.reached(Phase::LastCall).await;
    }

    /// Waits until everything must end at once. Cancel safe.
    pub(crate) async fn cut(&mut self) {
        self.reached(Phase::Cut).await;
    }

    /// Notes that the connection had finished when everything had to end, and that only its client
    /// had not closed it.
    pub(crate) fn note_unclosed(&self) {
        self.0.borrow().unclosed.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns whether the server accepts no new work.
    pub(crate) fn is_draining(&self) -> bool {
        self.0.borrow().phase >= Phase::Draining || self.0.has_changed().is_err()
    }

    async fn reached(&mut self, phase: Phase) {
        // An error means that the server was dropped, which is the last phase.
        let _ = self.0.wait_for(|now| now.phase >= phase).await;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    LastCall,
    Cut,
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn drain_returns_as_soon_as_the_last_lifeline_is_gone() {
        let lifecycle = Lifecycle::new();
        let mut lifeline = lifecycle.lifeline();
        let connection = tokio::spawn(async move {
            lifeline.draining().await;
            tokio::time::sleep(SOON).await;
        });
        let start = Instant::now();
        assert_eq!(lifecycle.drain(LONG).await, Drained::ALL);
        assert_eq!(start.elapsed(), SOON);
        connection.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_end_by_the_deadline_is_cut_and_counted() {
        let lifecycle = Lifecycle::new();
        let connections: Vec<_> = (0..3)
            .map(|_| {
                let mut lifeline = lifecycle.lifeline();
                tokio::spawn(async move { lifeline.cut().await })
            })
            .collect();
        let mut finished = lifecycle.lifeline();
        let unclosed = tokio::spawn(async move {
            finished.cut().await;
            finished.note_unclosed();
        });
        let drained = lifecycle.drain(SOON).await;
        assert_eq!((drained.cut, drained.unclosed), (3, 1));
        unclosed.await.unwrap();
        for connection in connections {
            connection.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_never_yields_does_not_hold_up_the_end() {
        let lifecycle = Lifecycle::new();
        let deaf = lifecycle.lifeline();
        assert_eq!(lifecycle.drain(SOON).await.cut, 1);
        drop(deaf);
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_lifecycle_cuts_everybody() {
        let lifecycle = Lifecycle::new();
        let mut lifeline = lifecycle.lifeline();
        drop(lifecycle);
        lifeline.draining().await;
        lifeline.cut().await;
    }
}
