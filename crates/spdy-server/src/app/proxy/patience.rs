//! How long a request waits, however many connections it is tried on.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout};

/// What is left of a time that a request may spend on one kind of waiting.
#[derive(Debug)]
pub(super) struct Patience {
    whole: Duration,
    left: Duration,
}

impl Patience {
    pub(super) const fn new(whole: Duration) -> Self {
        Self { whole, left: whole }
    }

    /// Waits; returns `None` when the time is spent.
    pub(super) async fn wait<T>(&mut self, waiting: impl Future<Output = T>) -> Option<T> {
        let begun = Instant::now();
        let outcome = timeout(self.left, waiting).await.ok();
        self.left = self.left.saturating_sub(begun.elapsed());
        outcome
    }

    /// Begins anew, as of an earlier time.
    pub(super) fn renew(&mut self, since: Instant) {
        self.left = self.whole.saturating_sub(since.elapsed());
    }

    pub(super) const fn is_spent(&self) -> bool {
        self.left.is_zero()
    }
}
