//! How long the rest of forwarded connections is waited for.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::config::STALLED;

/// What targets have taken. Clones are of the same connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The moment by which the targets have taken everything, as far as is known.
    due: Mutex<Option<Instant>>,
    /// How many connections a relay passes.
    passing: watch::Sender<usize>,
    /// The moment from which nothing more is waited for, once the client has gone.
    end: OnceLock<Instant>,
}

impl Taken {
    /// A target has taken bytes.
    pub(crate) fn add(&self) {
        let now = Instant::now();
        let mut due = self.due();
        *due = Some(due.map_or(now, |due| due.max(now)));
    }

    /// Bytes were passed on to another server. What it holds of them is not seen, so it is given
    /// the time of a slow target for them.
    pub(crate) fn pass(&self, bytes: usize) {
        let now = Instant::now();
        let time = Duration::from_secs(bytes as u64 / SLOWEST).min(HIDDEN);
        let mut due = self.due();
        let begin = due.map_or(now, |due| due.max(now));
        *due = Some((begin + time).min(now + HIDDEN));
    }

    /// A relay passes one more connection, until the result is dropped.
    pub(crate) fn passing(&self) -> Passing {
        self.0.passing.send_modify(|count| *count += 1);
        Passing(self.clone())
    }

    /// Returns whether a relay passes no connection.
    pub(crate) fn is_idle(&self) -> bool {
        *self.0.passing.borrow() == 0
    }

    /// Waits until a relay passes no connection.
    pub(super) async fn idle(&self) {
        let mut passing = self.0.passing.subscribe();
        // An error is impossible: the sender lives as long as this.
        _ = passing.wait_for(|count| *count == 0).await;
    }

    /// Waits for the rest of connections whose one direction has ended, as long as their targets
    /// take bytes. Returns `None` if they have taken none for [`HALF_CLOSED`].
    pub(crate) async fn rest<T>(&self, rest: impl Future<Output = T>) -> Option<T> {
        let mut rest = pin!(rest);
        self.add();
        loop {
            let due = *self.due();
            let until = due.unwrap_or_else(Instant::now) + HALF_CLOSED;
            match timeout_at(until, &mut rest).await {
                Ok(done) => return Some(done),
                Err(_) if *self.due() == due => return None,
                Err(_) => {}
            }
        }
    }

    /// Waits for the rest of connections whose client has gone, in all calls together no longer
    /// than [`LEFT`].
    pub(crate) async fn last<T>(&self, rest: impl Future<Output = T>) -> Option<T> {
        let end = *self.0.end.get_or_init(|| Instant::now() + LEFT);
        timeout_at(end, self.rest(rest)).await.ok().flatten()
    }

    fn due(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that a relay passes.
#[derive(Debug)]
pub(crate) struct Passing(Taken);

impl Drop for Passing {
    fn drop(&mut self) {
        self.0.0.passing.send_modify(|count| *count -= 1);
    }
}

/// How long a target whose connection has ended in one direction may take nothing in the other.
const HALF_CLOSED: Duration = Duration::from_secs(30);

/// How many bytes a target takes in a second, behind another server that holds them.
const SLOWEST: u64 = 100;

/// How long another server is given at most for bytes that it holds: 1 MB at 100 bytes a second.
const HIDDEN: Duration = Duration::from_secs(10_000);

/// How long the connections of a client that has gone may go on, whatever their targets take: as
/// long as those of a client that stays and sends nothing.
pub(super) const LEFT: Duration = STALLED;

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Returns how long the rest is waited for.
    async fn lasts(taken: &Taken) -> Duration {
        let begin = Instant::now();
        assert_eq!(taken.rest(pending::<()>()).await, None);
        begin.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_has_30_s_from_each_byte_that_it_takes() {
        let taken = Taken::default();
        taken.add();
        sleep(100 * SECOND).await;
        assert_eq!(lasts(&taken).await.as_secs(), 30);
        let taking = async {
            for _ in 0..10 {
                sleep(29 * SECOND).await;
                taken.add();
            }
        };
        let (lasted, ()) = tokio::join!(lasts(&taken), taking);
        assert_eq!(lasted.as_secs(), 320);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_of_a_client_that_has_gone_has_4_h_in_all() {
        let taken = Taken::default();
        let taking = async {
            loop {
                sleep(29 * SECOND).await;
                taken.add();
            }
        };
        let begin = Instant::now();
        let waiting = async {
            assert_eq!(taken.last(sleep(10_000 * SECOND)).await, Some(()));
            assert_eq!(taken.last(pending::<()>()).await, None);
        };
        tokio::select! {
            () = waiting => {}
            () = taking => {}
        }
        assert_eq!(begin.elapsed().as_secs(), 4 * 60 * 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_has_a_second_more_for_each_100_bytes_and_no_more_than_10000() {
        let taken = Taken::default();
        taken.pass(5_000);
        sleep(20 * SECOND).await;
        assert_eq!(lasts(&taken).await.as_secs(), 60);
        for _ in 0..10 {
            taken.pass(usize::MAX);
        }
        assert_eq!(lasts(&taken).await.as_secs(), 10_030);
    }
}
