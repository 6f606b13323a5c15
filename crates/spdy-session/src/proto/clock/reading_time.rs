//! Time that stands still while the transport is not read.
//!
//! During a pause of reading this side cannot see what the peer sends. So each wait for the peer is
//! measured in this time, and a pause that this side causes never counts against the peer.

use std::time::{Duration, Instant};

/// Measures how much of the time the transport was read.
#[derive(Debug, Default)]
pub(crate) struct ReadingTime {
    /// When the current pause began.
    paused_since: Option<Instant>,
    /// The length of all pauses that are over.
    paused: Duration,
}

/// A moment in [`ReadingTime`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Instant);

impl ReadingTime {
    /// Notes whether the transport is read from now on.
    pub(crate) fn note(&mut self, now: Instant, is_read: bool) {
        match self.paused_since {
            None if is_read => {}
            None => self.paused_since = Some(now),
            Some(since) if is_read => {
                self.paused_since = None;
                self.paused += now.saturating_duration_since(since);
            }
            Some(_) => {}
        }
    }

    /// Returns when the current pause began, if reading pauses.
    pub(crate) fn paused_since(&self) -> Option<Instant> {
        self.paused_since
    }

    /// Returns the current moment.
    pub(crate) fn at(&self, now: Instant) -> Moment {
        let now = self.paused_since.unwrap_or(now);
        if self.paused.is_zero() {
            return Moment(now);
        }
        Moment(now.checked_sub(self.paused).unwrap_or(now))
    }

    /// Returns when a moment comes if reading does not pause again, or `None` during a pause.
    pub(crate) fn when(&self, moment: Moment) -> Option<Instant> {
        match self.paused_since {
            None => moment.0.checked_add(self.paused),
            Some(_) => None,
        }
    }
}

impl Moment {
    /// Returns how much time has passed since an earlier moment.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }

    /// Returns the moment that is `time` later, or `None` if `Instant` cannot express it.
    pub(crate) fn after(self, time: Duration) -> Option<Self> {
        self.0.checked_add(time).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_moves_by_the_length_of_each_pause() {
        let start = Instant::now();
        let second = |n| start + Duration::from_secs(n);
        let mut time = ReadingTime::default();
        let deadline = time.at(start).after(Duration::from_secs(10)).unwrap();
        assert_eq!(time.when(deadline), Some(second(10)));
        time.note(second(4), false);
        time.note(second(5), false);
        assert_eq!(time.when(deadline), None);
        assert_eq!(time.at(second(50)), time.at(second(4)));
        time.note(second(104), true);
        assert_eq!(time.when(deadline), Some(second(110)));
        time.note(second(105), true);
        time.note(second(106), false);
        time.note(second(107), true);
        assert_eq!(time.when(deadline), Some(second(111)));
        assert!(time.at(second(110)) < deadline && time.at(second(111)) == deadline);
    }
}
