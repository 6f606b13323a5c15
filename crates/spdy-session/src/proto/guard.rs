//! The guard: it bounds how often a peer may do what costs more than it gives.

use std::time::Instant;

use super::error::Violation;
use crate::{
    Limit,
    config::{Limits, Rate},
};

/// A token bucket for each thing that a peer must not do too often.
#[derive(Debug)]
pub(crate) struct Guard {
    peer_resets: Bucket,
    local_resets: Bucket,
    settings: Bucket,
    empty_frames: Bucket,
    idle_frames: Bucket,
    pings: Bucket,
}

/// What a peer is charged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    /// It resets a stream that it opened.
    PeerReset,
    /// It causes a RST_STREAM of this side, or would if it had not got one already.
    LocalReset,
    /// It sends SETTINGS.
    Settings,
    /// It sends a frame with nothing in it.
    EmptyFrame,
    /// It sends a frame that is about nothing. A few of them are normal: they have crossed the end
    /// of their stream.
    IdleFrame,
    /// It sends a PING, or answers one.
    Ping,
}

impl Guard {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        let bucket = |rate| Bucket::new(rate, now);
        Self {
            peer_resets: bucket(limits.peer_resets),
            local_resets: bucket(limits.local_resets),
            settings: bucket(limits.settings),
            empty_frames: bucket(limits.empty_frames),
            idle_frames: bucket(limits.idle_frames),
            pings: bucket(limits.pings),
        }
    }

    /// Charges the peer. An error costs the session.
    pub(crate) fn charge(&mut self, charge: Charge, now: Instant) -> Result<(), Violation> {
        let (bucket, limit, reason) = match charge {
            Charge::PeerReset => (
                &mut self.peer_resets,
                Limit::PeerResets,
                "peer reset too many streams of its own",
            ),
            Charge::LocalReset => (
                &mut self.local_resets,
                Limit::LocalResets,
                "peer caused too many RST_STREAMs",
            ),
            Charge::Settings => (
                &mut self.settings,
                Limit::Settings,
                "peer sent too many SETTINGS frames",
            ),
            Charge::EmptyFrame => (
                &mut self.empty_frames,
                Limit::EmptyFrames,
                "peer sent too many empty frames",
            ),
            Charge::IdleFrame => (
                &mut self.idle_frames,
                Limit::IdleFrames,
                "peer sent too many frames about nothing",
            ),
            Charge::Ping => (&mut self.pings, Limit::Pings, "peer sent too many PINGs"),
        };
        if bucket.take(now) {
            Ok(())
        } else {
            Err(Violation::session(reason).beyond(limit))
        }
    }
}

/// A bucket that starts full and refills with time, so an old healthy session is never punished for
/// its age.
#[derive(Clone, Debug)]
struct Bucket {
    rate: Rate,
    /// What is left, in millionths of a token: refilling is exact for any rate.
    level: u64,
    filled: Instant,
}

const TOKEN: u64 = 1_000_000;

impl Bucket {
    fn new(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            level: u64::from(rate.burst) * TOKEN,
            filled: now,
        }
    }

    /// Takes one token; false when there is none.
    fn take(&mut self, now: Instant) -> bool {
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
