//! Trouble that lasts: one line in the log when it begins, and one when it is over.
//!
//! At a limit the same thing happens to each client. With a line for each, the log would grow as
//! fast as clients connect, and would say no more.

use std::{
    convert::Infallible,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tracing::warn;

/// What can happen to the connections of a server again and again.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    /// Connections waited, because the limit of open ones was reached.
    pub(crate) full: Trouble,
    /// Connections were refused, because SPDY sessions held too much memory.
    pub(crate) memory: Trouble,
    /// The system could not accept connections.
    pub(crate) accept: Trouble,
}

impl Troubles {
    /// Logs the end of each trouble. Cancel safe.
    pub(crate) async fn tell_ends(&self) -> Infallible {
        loop {
            tokio::select! {
                over = self.full.over() => tell_full(over),
                over = self.memory.over() => tell_memory(over),
                over = self.accept.over() => tell_accept(over),
            }
        }
    }

    /// Logs the trouble that is not over when the server ends.
    pub(crate) fn tell_rest(&self) {
        self.full.end().into_iter().for_each(tell_full);
        self.memory.end().into_iter().for_each(tell_memory);
        self.accept.end().into_iter().for_each(tell_accept);
    }
}

fn tell_full(Over { count, seconds }: Over) {
    warn!(
        waited = count,
        seconds, "connections do not wait for the limit of open ones any more"
    );
}

fn tell_memory(Over { count, seconds }: Over) {
    warn!(
        refused = count,
        seconds, "SPDY sessions hold less memory; connections are not refused any more"
    );
}

fn tell_accept(Over { count, seconds }: Over) {
    warn!(
        failures = count,
        seconds, "the system accepts connections again"
    );
}

/// One kind of trouble.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    spell: Mutex<Option<Spell>>,
    begun: Notify,
}

/// A time in which it happened again and again.
#[derive(Clone, Copy, Debug)]
struct Spell {
    count: u64,
    first: Instant,
    last: Instant,
}

/// How often it happened, and from the first time to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Over {
    count: u64,
    seconds: u64,
}

impl Trouble {
    /// Notes that it has happened. Returns whether it begins with this, so that it has to be
    /// logged.
    pub(crate) fn begins(&self) -> bool {
        let now = Instant::now();
        let mut spell = self.lock();
        match &mut *spell {
            Some(spell) => {
                spell.count += 1;
                spell.last = now;
                false
            }
            None => {
                *spell = Some(Spell {
                    count: 1,
                    first: now,
                    last: now,
                });
                self.begun.notify_one();
                true
            }
        }
    }

    /// Waits until it has happened, and then not for [`QUIET`]. Cancel safe.
    async fn over(&self) -> Over {
        loop {
            let last = self.lock().map(|spell| spell.last);
            match last {
                None => self.begun.notified().await,
                Some(last) if last + QUIET > Instant::now() => sleep_until(last + QUIET).await,
                Some(_) => {
                    if let Some(over) = self.end() {
                        return over;
                    }
                }
            }
        }
    }

    fn end(&self) -> Option<Over> {
        let spell = self.lock().take()?;
        Some(Over {
            count: spell.count,
            seconds: (spell.last - spell.first).as_secs(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Spell>> {
        self.spell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long it must not happen until it is over. A server that is just at a limit reaches it again
/// within this time.
const QUIET: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_happens_again_and_again_begins_once_and_ends_once() {
        let trouble = Trouble::default();
        assert!(timeout(QUIET * 10, trouble.over()).await.is_err());
        assert!(trouble.begins());
        for _ in 0..1000 {
            sleep(QUIET / 10).await;
            assert!(timeout(Duration::ZERO, trouble.over()).await.is_err());
            assert!(!trouble.begins());
        }
        let last = Instant::now();
        let over = trouble.over().await;
        assert_eq!(last.elapsed(), QUIET);
        let expected = Over {
            count: 1001,
            seconds: (QUIET * 100).as_secs(),
        };
        assert_eq!(over, expected);
        assert!(trouble.begins());
    }
}
