//! The time limit of a request, over all connections on which it is tried.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout};

/// The rest of the time that a request can spend on one kind of waiting.
#[derive(Debug)]
pub(super) struct Patience {
    whole: Duration,
    left: Duration,
}

impl Patience {
    pub(super) const fn new(whole: Duration) -> Self {
        Self { whole, left: whole }
    }

    /// Waits for a future. Returns `None` if the time runs out.
    pub(super) async fn wait<T>(&mut self, waiting: impl Future<Output = T>) -> Option<T> {
        let begun = Instant::now();
        let outcome = timeout(self.left, waiting).await.ok();
        self.left = self.left.saturating_sub(begun.elapsed());
        outcome
    }

    /// Restarts the time as of an earlier instant, if more of it is left then.
    pub(super) fn renew(&mut self, since: Instant) {
        self.left = self.whole.saturating_sub(since.elapsed()).max(self.left);
    }

    /// Makes what is left the whole time.
    pub(super) const fn shrink(&mut self) {
        self.whole = self.left;
    }

    pub(super) const fn left(&self) -> Duration {
        self.left
    }

    pub(super) const fn is_spent(&self) -> bool {
        self.left.is_zero()
    }
}
