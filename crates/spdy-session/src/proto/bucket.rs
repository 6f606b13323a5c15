//! Token buckets.

use std::time::{Duration, Instant};

use crate::config::Rate;

/// The contents of `N` token buckets, which start full and refill with time, so that an old healthy
/// session does not run out of tokens.
///
/// The rates are passed to each call, since all sessions have the same.
#[derive(Clone, Debug)]
pub(super) struct Buckets<const N: usize> {
    /// In millionths of a token, so that refilling is exact for any rate.
    levels: [u64; N],
    filled: Instant,
}

const TOKEN: u64 = 1_000_000;

impl<const N: usize> Buckets<N> {
    pub(super) fn new(rates: [Rate; N], now: Instant) -> Self {
        Self {
            levels: rates.map(full),
            filled: now,
        }
    }

    /// Takes one token from a bucket. Returns whether there was one.
    pub(super) fn take(&mut self, bucket: usize, rates: [Rate; N], now: Instant) -> bool {
        self.refill(rates, now);
        match self.levels[bucket].checked_sub(TOKEN) {
            Some(level) => {
                self.levels[bucket] = level;
                true
            }
            None => false,
        }
    }

    fn refill(&mut self, rates: [Rate; N], now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled).as_micros();
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
        for (level, rate) in self.levels.iter_mut().zip(rates) {
            let gained = elapsed.saturating_mul(rate.per_second.into());
            *level = level.saturating_add(gained).min(full(rate));
        }
        // What is below a microsecond counts the next time.
        self.filled += Duration::from_micros(elapsed);
    }
}

fn full(rate: Rate) -> u64 {
    u64::from(rate.burst) * TOKEN
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        burst: 3,
        per_second: 2,
    };

    #[test]
    fn a_burst_passes_and_the_next_one_waits_for_the_refill() {
        let start = Instant::now();
        let mut buckets = Buckets::new([RATE], start);
        let mut take = |now| buckets.take(0, [RATE], now);
        assert!((0..3).all(|_| take(start)));
        assert!(!take(start));
        assert!(!take(start + Duration::from_millis(499)));
        assert!(take(start + Duration::from_millis(500)));
        let later = start + Duration::from_secs(3600);
        assert!((0..3).all(|_| take(later)));
        assert!(!take(later), "it never holds more than the burst");
    }

    #[test]
    fn a_bucket_that_was_full_for_long_gives_one_burst_and_not_two() {
        let start = Instant::now();
        let mut buckets = Buckets::new([RATE], start);
        let later = start + Duration::from_secs(3600);
        assert!((0..3).all(|_| buckets.take(0, [RATE], later)));
        assert!(!buckets.take(0, [RATE], later));
    }

    #[test]
    fn each_bucket_refills_at_its_own_rate_whichever_is_asked() {
        let fast = Rate {
            burst: 5,
            per_second: 1000,
        };
        let (rates, start) = ([RATE, fast], Instant::now());
        let mut buckets = Buckets::new(rates, start);
        assert!((0..3).all(|_| buckets.take(0, rates, start)));
        assert!((0..5).all(|_| buckets.take(1, rates, start)));
        // The other bucket is asked each millisecond.
        for passed in 1..500 {
            let now = start + Duration::from_millis(passed);
            assert!(buckets.take(1, rates, now) && !buckets.take(0, rates, now));
        }
        assert!(buckets.take(0, rates, start + Duration::from_millis(500)));
    }
}
