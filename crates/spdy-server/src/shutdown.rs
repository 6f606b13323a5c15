//! How the server ends: the signals that ask for it, and the phases that every connection follows.
//!
//! ```text
//! Serving ──drain──► Draining ──half of the time──► LastCall ──deadline──► Cut
//! ```
//!
//! Each listener and each connection holds a [`Lifeline`]. It tells them the phase, and by being dropped it tells the
//! [`Lifecycle`] that they are gone. Dropping the [`Lifecycle`] cuts whoever is left.

use std::{io, time::Duration};

use tokio::{sync::watch, time::timeout};

/// What a server may be asked to end by: SIGINT and SIGTERM, or Ctrl-C where there are no such signals.
///
/// From its creation on these signals no longer end the process by themselves.
#[derive(Debug)]
pub struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Starts listening for the signals. Must be called within a tokio runtime that has its I/O driver enabled.
    ///
    /// # Errors
    /// When the operating system does not let the process install a handler.
    pub fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next signal. Cancel safe: no signal is lost, though several of a kind may count as one.
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
            // Without a handler the operating system ends the process by itself.
            std::future::pending().await
        }
    }
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Drained {
    /// Connections that had not ended by themselves at the deadline and were cut.
    pub cut: usize,
}

/// The server's end of all lifelines.
#[derive(Debug)]
pub(crate) struct Lifecycle(watch::Sender<Phase>);

impl Lifecycle {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Phase::Serving))
    }

    /// Hands out a lifeline; the server counts as in use until it is dropped.
    pub(crate) fn lifeline(&self) -> Lifeline {
        Lifeline(self.0.subscribe())
    }

    /// Asks everybody to finish, and returns at once.
    pub(crate) fn begin_to_drain(&self) {
        self.0.send_if_modified(|phase| {
            let is_serving = *phase == Phase::Serving;
            if is_serving {
                *phase = Phase::Draining;
            }
            is_serving
        });
    }

    /// Asks everybody to finish, and cuts who has not done so within `deadline`.
    pub(crate) async fn drain(self, deadline: Duration) -> Drained {
        for (phase, time) in [
            (Phase::Draining, deadline / 2),
            (Phase::LastCall, deadline - deadline / 2),
        ] {
            self.0.send_replace(phase);
            if timeout(time, self.0.closed()).await.is_ok() {
                return Drained { cut: 0 };
            }
        }
        let cut = self.0.receiver_count();
        self.0.send_replace(Phase::Cut);
        // A handler that holds its thread does not notice; it must not hold up the end as well.
        let _ = timeout(CUT_GRACE, self.0.closed()).await;
        Drained { cut }
    }
}

/// How long connections that are cut may take to be gone.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// A connection's or listener's end: it tells the phase for as long as it is held.
#[derive(Clone, Debug)]
pub(crate) struct Lifeline(watch::Receiver<Phase>);

impl Lifeline {
    /// Waits until no new work is wanted. Cancel safe.
    pub(crate) async fn draining(&mut self) {
        self.reached(Phase::Draining).await;
    }

    /// Waits until connections that are not served yet have to be turned away. Cancel safe.
    pub(crate) async fn last_call(&mut self) {
        self.reached(Phase::LastCall).await;
    }

    /// Waits until everything must end at once. Cancel safe.
    pub(crate) async fn cut(&mut self) {
        self.reached(Phase::Cut).await;
    }

    /// Whether no new work is wanted.
    pub(crate) fn is_draining(&self) -> bool {
        *self.0.borrow() >= Phase::Draining || self.0.has_changed().is_err()
    }

    async fn reached(&mut self, phase: Phase) {
        // An error says that the server itself is gone, which is the last phase of all.
        let _ = self.0.wait_for(|now| *now >= phase).await;
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
        assert_eq!(lifecycle.drain(LONG).await, Drained { cut: 0 });
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
        assert_eq!(lifecycle.drain(SOON).await, Drained { cut: 3 });
        for connection in connections {
            connection.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_never_yields_does_not_hold_up_the_end() {
        let lifecycle = Lifecycle::new();
        let deaf = lifecycle.lifeline();
        assert_eq!(lifecycle.drain(SOON).await, Drained { cut: 1 });
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
