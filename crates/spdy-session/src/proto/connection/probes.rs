//! PINGs that find out whether the peer is still there.
//!
//! *Keep-alive*: a peer that is silent is asked, and has its time to answer. The time runs only
//! while an answer could come and be heard: once the PING has left, while the transport is read,
//! and while nothing waits for the transport, which has a timeout of its own. Any frame shows that
//! the peer lives, and so does a full transport that takes bytes again. What was sent before the PING, and may still be under way, gives it more time.
//!
//! *Half-closed*: after the end of the peer's bytes no answer can come, and the peer may still
//! read: it gets its responses. Or its connection is closed for good, and its system answers
//! whatever is sent by a reset, which is noticed at the write after it. So as long as a response
//! is due and nothing else is written, PINGs are: some promptly, as it takes two, then ever more
//! rarely.

use std::time::{Duration, Instant};

use super::{Connection, clock::Deadline};
use crate::proto::reading_time::Moment;

/// What is known of the peer's life.
#[derive(Debug)]
pub(super) struct Probes {
    /// The last sign of life.
    heard: Moment,
    /// How many bytes had left by then.
    sent_before: u64,
    asked: Asked,
    half_closed: Option<HalfClosed>,
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

/// How the peer is probed that has ended its bytes.
#[derive(Clone, Copy, Debug)]
struct HalfClosed {
    last: Instant,
    /// How long after that the next probe is.
    wait: Duration,
}

impl Probes {
    pub(super) fn new(start: Moment) -> Self {
        Self {
            heard: start,
            sent_before: 0,
            asked: Asked::No,
            half_closed: None,
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

    /// The peer has ended its bytes.
    pub(super) fn half_closed(&mut self, now: Instant) {
        let (last, wait) = (now, FIRST_WAIT);
        self.half_closed = Some(HalfClosed { last, wait });
    }
}

impl Connection {
    /// Notes a sign of life of the peer.
    pub(super) fn note_life(&mut self, now: Instant) {
        self.probes.heard = self.clock.reading.at(now);
        self.probes.sent_before = self.output.transmit.taken();
        self.probes.asked = Asked::No;
    }

    pub(super) fn keep_alive_deadline(&self) -> Option<(Instant, Deadline)> {
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
        let at = self.clock.reading.when(due?)?;
        Some((at, Deadline::KeepAlive))
    }

    /// Returns how much time the peer is given for what it was sent since it was last heard: it
    /// may come to the PING only behind that, and nothing says so where there are no windows.
    fn time_under_way(&self) -> Duration {
        let sent = self.output.transmit.taken() - self.probes.sent_before;
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

    /// A write to the peer shows as well as a PING whether it is gone. One that waits for the
    /// transport has the timeout of writing.
    pub(super) fn half_closed_deadline(&self) -> Option<(Instant, Deadline)> {
        let probe = self.probes.half_closed?;
        self.config.timeouts.half_closed_probe?;
        if self.output.is_waiting() || !self.output.control.is_empty() {
            return None;
        }
        let written = self.clock.write_progress;
        let last = written.map_or(probe.last, |at| at.max(probe.last));
        Some((last.checked_add(probe.wait)?, Deadline::HalfClosed))
    }

    /// Writes what a peer that is gone answers with a reset.
    pub(super) fn probe_half_closed(&mut self, now: Instant) {
        let interval = self.config.timeouts.half_closed_probe;
        if let (Some(probe), Some(interval)) = (&mut self.probes.half_closed, interval) {
            let wait = (2 * probe.wait).min(interval).max(FIRST_WAIT);
            *probe = HalfClosed { last: now, wait };
            let id = self.take_ping_id();
            self.output.ping(id);
        }
    }
}

/// How long after the end of the peer's bytes it is probed: most responses are on their way by then.
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(10);

/// A peer that takes in fewer bytes a second than this counts as gone.
const SLOWEST: u64 = 4 * 1024;

/// The most that a peer is given for what is under way to it.
pub(super) const MOST_UNDER_WAY: Duration = Duration::from_secs(120);
