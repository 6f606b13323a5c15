//! What finds out whether the peer is still there.
//!
//! *Keep-alive*: a peer that is silent is asked, and has its time to answer. The time runs only
//! while an answer could come and be heard: once the PING has left, while the transport is read,
//! and while nothing waits for the transport, which has a timeout of its own. Any frame shows that
//! the peer lives, and so does a full transport that takes bytes again. What was sent before the PING, and may still be under way, gives it more time.
//!
//! *Probe*: the end of a peer may be out of sight. While reading pauses it stands behind bytes that
//! are not read; after the end of the peer's bytes nothing comes any more, and the peer may still
//! read, or may have closed its connection for good. But the system of a peer that is gone answers
//! whatever is sent by a reset, which is noticed at the write after it. So while nothing else is
//! written, probes are: empty DATA, which every peer passes over, or a PING where no stream is open
//! for it. An answer to a PING could not be heard, and some peers let other frames wait behind one
//! that they cannot write.

use std::time::{Duration, Instant};

use super::Connection;
use crate::proto::{reading_time::Moment, streams::Stream};

/// What is known of the peer's life.
#[derive(Debug)]
pub(super) struct Probes {
    /// The last sign of life.
    heard: Moment,
    /// How many bytes had left by then.
    sent_before: u64,
    asked: Asked,
    last: Option<Instant>,
    /// How long after the last probe the next one is, if that is sooner than they are set to be.
    wait: Duration,
}

/// The PING of the keep-alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    No,
    /// It waits to be written.
    Queued(u32),
    /// It has left, lately or at that moment.
    Sent(u32, Option<Moment>),
}

impl Probes {
    pub(super) fn new(start: Moment) -> Self {
        Self {
            heard: start,
            sent_before: 0,
            asked: Asked::No,
            last: None,
            wait: Duration::MAX,
        }
    }

    /// Whether a PING with this id is that of the keep-alive.
    pub(super) fn awaits(&self, id: u32) -> bool {
        matches!(self.asked, Asked::Queued(asked) | Asked::Sent(asked, _) if asked == id)
    }

    /// Notes that the PING with this id has left.
    pub(super) fn left(&mut self, id: u32) {
        if self.asked == Asked::Queued(id) {
            self.asked = Asked::Sent(id, None);
        }
    }

    /// Notes at which moment that was.
    pub(super) fn left_at(&mut self, moment: Moment) {
        if let Asked::Sent(_, since) = &mut self.asked {
            since.get_or_insert(moment);
        }
    }

    /// The peer has ended its bytes: two probes tell whether it is gone, so some are sent promptly.
    pub(super) fn half_closed(&mut self) {
        self.wait = FIRST_WAIT;
    }
}

impl Connection {
    /// Notes a sign of life of the peer.
    pub(super) fn note_life(&mut self, now: Instant) {
        self.probes.heard = self.clock.reading.at(now);
        self.probes.sent_before = self.output.taken();
        self.probes.asked = Asked::No;
    }

    pub(super) fn keep_alive_deadline(&self) -> Option<Instant> {
        let timeouts = &self.config.timeouts;
        if self.output.is_waiting() {
            return None;
        }
        let due = match self.probes.asked {
            Asked::No => self.probes.heard.after(timeouts.keep_alive?),
            Asked::Queued(_) => None,
            Asked::Sent(_, since) => {
                let time = timeouts
                    .keep_alive_reply
                    .saturating_add(self.time_under_way());
                since?.after(time)
            }
        };
        self.clock.reading.when(due?)
    }

    /// Returns how much time the peer is given for what it was sent since it was last heard: it
    /// may come to the PING only behind that, and nothing says so where there are no windows.
    fn time_under_way(&self) -> Duration {
        let sent = self.output.taken() - self.probes.sent_before;
        Duration::from_secs(sent / SLOWEST).min(MOST_UNDER_WAY)
    }

    /// Asks the peer whether it is there. False if it was asked, and has not answered in time.
    pub(super) fn ask(&mut self) -> bool {
        if self.probes.asked != Asked::No {
            return false;
        }
        let id = self.take_ping_id();
        self.probes.asked = Asked::Queued(id);
        self.output.ping(id);
        true
    }

    /// Any write shows as well as a probe whether the peer is gone. One that waits for the
    /// transport has the timeout of writing.
    pub(super) fn probe_deadline(&self) -> Option<Instant> {
        let interval = self.config.timeouts.probe?.max(FIRST_WAIT);
        let since = self.clock.reading.paused_since()?;
        if self.output.is_waiting() || self.output.has_control() {
            return None;
        }
        let written = [self.probes.last, self.clock.write_progress];
        let last = written.into_iter().flatten().fold(since, Instant::max);
        let wait = self.probes.wait.min(interval);
        last.checked_add(wait)
    }

    /// Writes what a peer that is gone answers with a reset.
    pub(super) fn probe(&mut self, now: Instant) {
        self.probes.last = Some(now);
        self.probes.wait = self.probes.wait.saturating_mul(2);
        let open = self.streams.iter().find(|it| it.is_open_for_data());
        match open.map(Stream::id) {
            Some(id) => self.output.empty_data(id),
            None => {
                let id = self.take_ping_id();
                self.output.ping(id);
            }
        }
    }
}

/// How long after the end of the peer's bytes it is probed: most responses are on their way by then.
/// Nor are probes sent more often.
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(10);

/// A peer that takes in fewer bytes a second than this counts as gone.
const SLOWEST: u64 = 4 * 1024;

/// The most that a peer is given for what is under way to it.
pub(super) const MOST_UNDER_WAY: Duration = Duration::from_secs(120);
