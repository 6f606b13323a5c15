//! How long streams wait for a window of the peer.
//!
//! While the peer grants window to any stream it is reading, however slowly, and a waiting stream
//! may be the next. But the bytes that leave are counted too. Otherwise a peer that grants single
//! bytes, or only grants to other streams, could hold queued payload for ever.

use std::time::Duration;

use crate::proto::clock::Moment;

/// The time for which a stream has waited for its window. It stands still while the window is open,
/// and returns to zero once enough bytes were sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wait {
    since: Option<Moment>,
    /// How long the stream has waited before, during which too few bytes were sent.
    before: Duration,
    /// How many bytes were sent between these waits.
    sent: usize,
}

impl Wait {
    /// Returns whether the stream waits now.
    pub(crate) const fn is_on(&self) -> bool {
        self.since.is_some()
    }

    /// Notes that the window is closed.
    pub(crate) fn begin(&mut self, moment: Moment) {
        self.since.get_or_insert(moment);
    }

    /// Notes that the window has opened.
    pub(crate) fn end(&mut self, moment: Moment) {
        if let Some(since) = self.since.take() {
            self.before += moment.since(since);
        }
    }

    /// Notes that bytes were sent. After `least` bytes, or if nothing is left, the wait starts from
    /// zero.
    pub(crate) fn sent(&mut self, bytes: usize, is_all: bool, least: usize) {
        if self.before.is_zero() {
            return;
        }
        self.sent += bytes;
        if is_all || self.sent >= least {
            *self = Self::default();
        }
    }

    /// Returns when the stream has waited too long, if it waits.
    pub(crate) fn deadline(&self, patience: Patience) -> Option<Moment> {
        patience.deadline(self.since?, self.before)
    }
}

/// How long a stream may wait for a window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// When the peer last granted window.
    pub(crate) granted: Moment,
    /// The limit without any grant.
    pub(crate) blocked: Option<Duration>,
    /// The limit with grants, while too few bytes are sent.
    pub(crate) trickle: Option<Duration>,
}

impl Patience {
    /// Returns the deadline for a stream that has waited since `since`, and for `before` before
    /// that.
    fn deadline(self, since: Moment, before: Duration) -> Option<Moment> {
        let blocked = self
            .blocked
            .and_then(|time| since.max(self.granted).after(time));
        let trickle = self
            .trickle
            .and_then(|time| since.after(time.saturating_sub(before)));
        match (blocked, trickle) {
            (Some(blocked), Some(trickle)) => Some(blocked.min(trickle)),
            (blocked, trickle) => blocked.or(trickle),
        }
    }
}

/// The wait of all streams for the window of the session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stall {
    since: Moment,
    /// How many bytes were sent since then; too few to end the stall.
    sent: usize,
    /// Streams whose places in the scheduler have higher numbers were not checked yet.
    pub(crate) seen: u64,
}

impl Stall {
    pub(crate) const fn new(since: Moment, seen: u64) -> Self {
        Self {
            since,
            sent: 0,
            seen,
        }
    }

    /// Returns when a stream joined the stall. `known` is the stored moment, if there is one.
    pub(crate) fn joined(&self, known: Option<Moment>) -> Moment {
        known.map_or(self.since, |known| known.max(self.since))
    }

    /// Returns whether a stream with this moment was there at the start, or has joined since.
    pub(crate) fn is_joined(&self, known: Option<Moment>) -> bool {
        known >= Some(self.since)
    }

    /// Notes that bytes were sent. Returns whether they were enough to end the stall.
    #[must_use]
    pub(crate) fn is_ended_by(&mut self, bytes: usize, least: usize) -> bool {
        self.sent += bytes;
        self.sent >= least
    }

    /// Returns when a stream that joined at `known` has waited too long.
    pub(crate) fn deadline(&self, known: Option<Moment>, patience: Patience) -> Option<Moment> {
        patience.deadline(self.joined(known), Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::proto::clock::ReadingTime;

    fn seconds() -> impl Fn(u64) -> Moment {
        let (time, start) = (ReadingTime::default(), Instant::now());
        move |n| time.at(start + Duration::from_secs(n))
    }

    fn patience(granted: Moment) -> Patience {
        Patience {
            granted,
            blocked: Some(Duration::from_secs(30)),
            trickle: Some(Duration::from_secs(100)),
        }
    }

    #[test]
    fn a_grant_begins_the_wait_anew_and_only_enough_bytes_end_it() {
        let second = seconds();
        let until = |wait: Wait, granted| wait.deadline(patience(second(granted)));
        let mut wait = Wait::default();
        wait.begin(second(10));
        wait.begin(second(15));
        assert_eq!(until(wait, 0), Some(second(40)));
        assert_eq!(until(wait, 75), Some(second(105)));
        assert_eq!(until(wait, 100), Some(second(110)));
        for round in 0..4 {
            wait.end(second(100 * round + 30));
            assert!(!wait.is_on() && until(wait, 0).is_none());
            wait.sent(24, false, 100);
            wait.begin(second(100 * round + 110));
        }
        assert_eq!(until(wait, 0), Some(second(430)), "80 s are spent");
        wait.end(second(420));
        wait.sent(4, false, 100);
        wait.begin(second(500));
        assert_eq!(until(wait, 510), Some(second(540)), "100 were sent");
        wait.end(second(525));
        wait.sent(1, true, 100);
        assert_eq!(wait.before, Duration::ZERO, "nothing was left");
    }

    #[test]
    fn streams_wait_for_the_session_as_long_as_it_and_they_do() {
        let second = seconds();
        let mut stall = Stall::new(second(10), 0);
        let mut until = |known: Option<u64>, granted, sent| {
            let over = stall.is_ended_by(sent, 100);
            let known = known.map(&second);
            (over, stall.deadline(known, patience(second(granted))))
        };
        assert_eq!(until(None, 0, 0), (false, Some(second(40))));
        assert_eq!(until(Some(5), 0, 0), (false, Some(second(40))));
        assert_eq!(until(Some(19), 0, 0), (false, Some(second(49))));
        assert_eq!(until(Some(19), 25, 99), (false, Some(second(55))));
        assert_eq!(until(None, 100, 0), (false, Some(second(110))));
        assert_eq!(until(Some(19), 100, 0), (false, Some(second(119))));
        assert!(until(None, 100, 1).0);
    }
}
