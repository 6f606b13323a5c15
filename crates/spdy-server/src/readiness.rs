//! Whether the application is ready, for `/readyz`.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

/// A check of the application, and its last outcome.
#[derive(Clone)]
pub(crate) struct Readiness(Arc<Inner>);

struct Inner {
    check: Box<Check>,
    last: Mutex<Option<Outcome>>,
}

type Check = dyn Fn() -> Checking + Send + Sync;
type Checking = Pin<Box<dyn Future<Output = bool> + Send>>;

#[derive(Clone, Copy)]
struct Outcome {
    at: Instant,
    is_ready: bool,
}

impl Readiness {
    pub(crate) fn new<F, C>(check: F) -> Self
    where
        F: Fn() -> C + Send + Sync + 'static,
        C: Future<Output = bool> + Send + 'static,
    {
        Self(Arc::new(Inner {
            check: Box::new(move || Box::pin(check())),
            last: Mutex::default(),
        }))
    }

    /// Returns whether the application is ready, from a check that ended less than [`PERIOD`] ago,
    /// or from a new one. It takes [`DEADLINE`] at most.
    ///
    /// The check runs in a task of its own, so a client that leaves does not end it for others.
    pub(crate) async fn is_ready(&self) -> bool {
        let inner = Arc::clone(&self.0);
        let asking = tokio::spawn(async move { inner.ask().await });
        // A check that panics says that the application is not ready.
        asking.await.unwrap_or(false)
    }
}

impl Inner {
    async fn ask(&self) -> bool {
        let mut last = self.last.lock().await;
        if let Some(Outcome { at, is_ready }) = *last
            && at.elapsed() < PERIOD
        {
            return is_ready;
        }
        let is_ready = timeout(DEADLINE, (self.check)()).await.unwrap_or(false);
        *last = Some(Outcome {
            at: Instant::now(),
            is_ready,
        });
        is_ready
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readiness")
    }
}

/// How long the outcome of a check is used.
const PERIOD: Duration = Duration::from_secs(1);

/// How long a check can take. Then the application is not ready.
const DEADLINE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    };

    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn however_many_ask_there_is_one_check_in_each_period() {
        let (checks, state) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(true)),
        );
        let (count, now) = (Arc::clone(&checks), Arc::clone(&state));
        let readiness = Readiness::new(move || {
            count.fetch_add(1, Relaxed);
            let is_ready = now.load(Relaxed);
            async move {
                sleep(SECOND / 10).await;
                is_ready
            }
        });
        for round in 1..5 {
            let expected = round % 2 == 0;
            state.store(expected, Relaxed);
            let all: Vec<_> = (0..50)
                .map(|_| {
                    let readiness = readiness.clone();
                    tokio::spawn(async move { readiness.is_ready().await })
                })
                .collect();
            for one in all {
                assert_eq!(one.await.unwrap(), expected);
            }
            state.store(!expected, Relaxed);
            sleep(SECOND - Duration::from_millis(1)).await;
            assert_eq!(readiness.is_ready().await, expected);
            assert_eq!(checks.load(Relaxed), round);
            sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_does_not_end_is_not_waited_for() {
        let readiness = Readiness::new(pending::<bool>);
        let begun = Instant::now();
        let impatient = timeout(SECOND / 2, readiness.is_ready()).await;
        assert!(impatient.is_err());
        assert!(!readiness.is_ready().await);
        assert_eq!(
            begun.elapsed(),
            DEADLINE,
            "the client that has left began it"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_panics_is_a_no() {
        let readiness = Readiness::new(async || std::panic::resume_unwind(Box::new("no")));
        for _ in 0..3 {
            assert!(!readiness.is_ready().await);
        }
    }
}
