//! A token bucket.

use std::time::Instant;

use crate::config::Rate;

/// A bucket that starts full and refills with time, so that an old healthy session does not run out
/// of tokens.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    rate: Rate,
    /// The content, in millionths of a token, so that refilling is exact for any rate.
    level: u64,
    filled: Instant,
}

const TOKEN: u64 = 1_000_000;

impl Bucket {
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            level: u64::from(rate.burst) * TOKEN,
            filled: now,
        }
    }

    /// Takes one token. Returns whether there was one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        match self.level.checked_sub(TOKEN) {
            Some(level) => {
                self.level = level;
                true
            }
            None => false,
        }
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled).as_micros();
        if elapsed == 0 {
            return; // What is below a microsecond counts the next time.
        }
        let gained = u64::try_from(elapsed)
            .unwrap_or(u64::MAX)
            .saturating_mul(self.rate.per_second.into());
        self.level = self
            .level
            .saturating_add(gained)
            .min(u64::from(self.rate.burst) * TOKEN);
        self.filled = now;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_and_the_next_one_waits_for_the_refill() {
        let start = Instant::now();
        let mut bucket = Bucket::new(
            Rate {
                burst: 3,
                per_second: 2,
            },
            start,
        );
        assert!((0..3).all(|_| bucket.take(start)));
        assert!(!bucket.take(start));
        assert!(!bucket.take(start + Duration::from_millis(499)));
        assert!(bucket.take(start + Duration::from_millis(500)));
        let later = start + Duration::from_secs(3600);
        assert!((0..3).all(|_| bucket.take(later)));
        assert!(!bucket.take(later), "it never holds more than the burst");
    }

    #[test]
    fn a_bucket_that_was_full_for_long_gives_one_burst_and_not_two() {
        let start = Instant::now();
        let rate = Rate {
            burst: 3,
            per_second: 2,
        };
        let mut bucket = Bucket::new(rate, start);
        let later = start + Duration::from_secs(3600);
        assert!((0..3).all(|_| bucket.take(later)));
        assert!(!bucket.take(later));
    }
}
