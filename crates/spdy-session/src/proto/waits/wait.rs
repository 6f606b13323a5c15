//! How long streams wait for a window of the peer.
//!
//! As long as the peer grants windows to any stream it takes in what it was sent, however slowly, and
//! nothing says that a stream which waits is not next. But what is sent of a stream is counted as
//! well: a peer that grants byte by byte, or only to others, would hold for ever what is queued.

use std::time::Duration;

use crate::proto::clock::Moment;

/// The time for which a stream has waited for its window. It stands still while the window is open, and is forgotten once
/// enough was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wait {
    since: Option<Moment>,
    /// How long it has waited before, for too few bytes.
    before: Duration,
    /// What was sent in between.
    sent: usize,
}

impl Wait {
    /// Whether it waits now.
    pub(crate) const fn is_on(&self) -> bool {
        self.since.is_some()
    }

    /// The window is shut.
    pub(crate) fn begin(&mut self, moment: Moment) {
        self.since.get_or_insert(moment);
    }

    /// The window has opened.
    pub(crate) fn end(&mut self, moment: Moment) {
        if let Some(since) = self.since.take() {
            self.before += moment.since(since);
        }
    }

    /// Bytes were sent. With `least` of them, or when nothing is left, all waiting is forgotten.
    pub(crate) fn sent(&mut self, octets: usize, is_all: bool, least: usize) {
        if self.before.is_zero() {
            return;
        }
        self.sent += octets;
        if is_all || self.sent >= least {
            *self = Self::default();
        }
    }

    /// Returns when it has waited too long, if it waits.
    pub(crate) fn deadline(&self, patience: Patience) -> Option<Moment> {
        patience.deadline(self.since?, self.before)
    }
}

/// How long may be waited for a window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// When the peer last granted anything.
    pub(crate) granted: Moment,
    /// Without a grant.
    pub(crate) blocked: Option<Duration>,
    /// With grants, and with too few bytes sent.
    pub(crate) trickle: Option<Duration>,
}

impl Patience {
    /// Returns when it is over for a stream that waits since then, and has waited before.
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

/// The time for which all streams have waited for the window of the session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stall {
    since: Moment,
    /// What was sent since then: too little to end the stall.
    sent: usize,
    /// Streams whose places in the scheduler have higher numbers were not looked at.
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

    /// Returns since when a stream takes part, of which no more is known than `known`.
    pub(crate) fn joined(&self, known: Option<Moment>) -> Moment {
        known.map_or(self.since, |known| known.max(self.since))
    }

    /// Whether a stream with this mark was there when it began, or has joined it since.
    pub(crate) fn is_joined(&self, known: Option<Moment>) -> bool {
        known >= Some(self.since)
    }

    /// Bytes were sent. Returns whether that were enough for the stall to be over.
    #[must_use]
    pub(crate) fn is_ended_by(&mut self, octets: usize, least: usize) -> bool {
        self.sent += octets;
        self.sent >= least
    }

    /// Returns when a stream has waited too long that takes part since `known`.
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
