//! Which requests are sent, and when.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::tally::Tally;

/// The requests of all workers, and their results.
pub(super) struct Plan {
    start: Instant,
    /// The number of requests, or `None` if only time ends them.
    count: Option<u64>,
    /// The requests per second, or `None` if each follows the response before it.
    rate: Option<f64>,
    /// The number of requests that a worker has taken.
    taken: AtomicU64,
    /// The number of requests that were due.
    begun: AtomicU64,
    tally: Mutex<Tally>,
}

impl Plan {
    /// Creates a plan that begins now.
    pub(super) fn new(count: Option<u64>, rate: Option<u32>) -> Self {
        Self {
            start: Instant::now(),
            count,
            rate: rate.map(f64::from),
            taken: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            tally: Mutex::default(),
        }
    }

    /// Takes the next request, and waits until it is due. Returns its number and the time at which
    /// its latency begins, or `None` if no request is left.
    pub(super) async fn next(&self) -> Option<(u64, Instant)> {
        let count = self.count.unwrap_or(u64::MAX);
        let more = |taken: u64| (taken < count).then_some(taken + 1);
        let (set, read) = (Ordering::Relaxed, Ordering::Relaxed);
        let number = self.taken.fetch_update(set, read, more).ok()?;
        let mut due = Instant::now();
        if let Some(rate) = self.rate {
            // A request that is sent late has waited since it was due.
            due = self.start + Duration::from_secs_f64(number as f64 / rate);
            sleep_until(due).await;
        }
        self.begun.fetch_add(1, Ordering::Relaxed);
        Some((number, due))
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of requests that were begun.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Returns the number of requests that were not begun.
    pub(super) fn left(&self) -> u64 {
        self.count.map_or(0, |count| count - self.begun())
    }

    /// Describes the progress in one line.
    pub(super) fn line(&self) -> String {
        let tally = self.tally();
        let seconds = self.start.elapsed().as_secs_f64();
        let of = self
            .count
            .map_or_else(String::new, |count| format!(" of {count}"));
        format!(
            "{seconds:.0} s: {}{of} responses, {:.0}/s, p99 {:.3} ms, {} errors",
            tally.responses(),
            tally.responses() as f64 / seconds,
            tally.percentile(99.0),
            tally.errors(),
        )
    }
}
