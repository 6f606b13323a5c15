//! Every PING of this side and its purpose, and the probes that detect a dead peer.
//!
//! *Keep-alive*: if the peer is silent this side sends a PING, and the peer has a limited time to
//! answer. The time runs only while an answer could arrive: after the PING has left, while the
//! transport is read, and while nothing waits for the transport, which has its own timeout. Any
//! frame shows that the peer is alive, and so does a full transport that takes bytes again. Bytes
//! that were sent before the PING and may still be under way extend the time.
//!
//! *Probe*: in two situations this side cannot see the end of the peer by reading. While reading
//! pauses, the end is behind unread bytes. After the end of the peer's bytes nothing more arrives,
//! and the peer may still read or may have closed its connection completely. But the system of a
//! dead peer answers everything with a reset, which this side notices at the next write. So while
//! nothing else is written, probes are.
//!
//! A probe is an empty DATA frame, which every peer ignores, or a PING if no stream is open for
//! DATA. DATA is better, because the answer to a PING could not be read, and some peers let other
//! frames wait behind an answer that they cannot write.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use spdy_frame::Side;

use super::{clock::Moment, event::PingId};
use crate::{
    config::{Timeouts, range::MIN_PROBE},
    spare::Spare,
};

/// All PINGs of this side.
#[derive(Debug)]
pub(crate) struct Pings {
    side: Side,
    next: u32,
    /// PINGs of the application without an answer, oldest first.
    user: VecDeque<(PingId, Instant)>,
    /// The PING behind our SETTINGS. Until its answer arrives the peer might not have seen that its
    /// windows are smaller than the protocol's initial size.
    settings: Option<u32>,
    /// The PING that measures the path.
    path: Option<u32>,
    asked: Asked,
    /// When the peer last showed that it is alive.
    heard: Moment,
    /// How many bytes had left at that moment.
    sent_before: u64,
    probed: Option<Instant>,
    /// The time from the last probe to the next one, if that is shorter than the configured time.
    wait: Duration,
}

/// The state of the keep-alive PING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    No,
    /// It waits to be written.
    Queued(u32),
    /// It has left. The moment is set soon after.
    Sent(u32, Option<Moment>),
}

/// The purpose of a PING that is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Learns that the peer has seen our SETTINGS.
    Settings,
    /// Measures the path.
    Path,
    /// Learns whether the peer is alive.
    KeepAlive,
    /// Was sent for the application at this time.
    User(PingId, Instant),
}

impl Pings {
    pub(crate) fn new(side: Side, start: Moment) -> Self {
        Self {
            side,
            next: side.first_id(),
            user: VecDeque::new(),
            settings: None,
            path: None,
            asked: Asked::No,
            heard: start,
            sent_before: 0,
            probed: None,
            wait: Duration::MAX,
        }
    }

    /// Frees memory that is not needed.
    pub(crate) fn free_spare(&mut self) {
        self.user.free_spare();
    }

    // --- what is sent, and what for --------------------------------------------------------------

    /// Returns the id of a PING whose answer is not needed. Ids wrap within their parity. 0 is
    /// never used, because some peers close the connection when they see it.
    pub(crate) fn take_id(&mut self) -> u32 {
        let id = self.next;
        let next = id.checked_add(2);
        self.next = next.unwrap_or_else(|| self.side.first_id());
        id
    }

    /// Returns the id of the PING behind our SETTINGS.
    pub(crate) fn ask_settings(&mut self) -> u32 {
        let id = self.take_id();
        *self.settings.insert(id)
    }

    /// Returns the id of the PING that measures the path.
    pub(crate) fn ask_path(&mut self) -> u32 {
        let id = self.take_id();
        *self.path.insert(id)
    }

    /// Returns the id of a keep-alive PING, or `None` if the last one is not answered.
    pub(crate) fn ask_life(&mut self) -> Option<u32> {
        if self.asked != Asked::No {
            return None;
        }
        let id = self.take_id();
        self.asked = Asked::Queued(id);
        Some(id)
    }

    /// Returns the id of a PING of the application. If too many wait for an answer, the oldest is
    /// forgotten.
    pub(crate) fn ask_for_user(&mut self, now: Instant) -> PingId {
        let id = PingId(self.take_id());
        if self.user.len() == MAX_PINGS {
            self.user.pop_front();
        }
        self.user.push_back((id, now));
        id
    }

    // --- what comes back -------------------------------------------------------------------------

    /// Returns the purpose of the PING with this id, or `None` if no answer is needed.
    pub(crate) fn purpose(&self, id: u32) -> Option<Purpose> {
        if self.settings == Some(id) {
            return Some(Purpose::Settings);
        }
        if self.path == Some(id) {
            return Some(Purpose::Path);
        }
        if matches!(self.asked, Asked::Queued(asked) | Asked::Sent(asked, _) if asked == id) {
            return Some(Purpose::KeepAlive);
        }
        let user = self.user.iter().find(|(ping, _)| ping.0 == id);
        user.map(|&(id, sent)| Purpose::User(id, sent))
    }

    /// Notes that a PING was answered. [`note_life`](Self::note_life) notes that the peer is alive.
    pub(crate) fn answered(&mut self, purpose: Purpose) {
        match purpose {
            Purpose::Settings => self.settings = None,
            Purpose::Path => self.path = None,
            Purpose::KeepAlive => {}
            Purpose::User(id, _) => self.user.retain(|(ping, _)| *ping != id),
        }
    }

    /// Returns whether the peer might not have seen our SETTINGS.
    pub(crate) const fn awaits_settings(&self) -> bool {
        self.settings.is_some()
    }

    /// Returns whether a PING of the application waits for its answer.
    #[cfg(feature = "tokio")]
    pub(crate) fn awaits_user(&self, id: PingId) -> bool {
        self.user.iter().any(|(waiting, _)| *waiting == id)
    }

    // --- the keep-alive --------------------------------------------------------------------------

    /// Notes that the peer is alive, and how many bytes have left until now.
    #[inline]
    pub(crate) fn note_life(&mut self, moment: Moment, taken: u64) {
        self.heard = moment;
        self.sent_before = taken;
        self.asked = Asked::No;
    }

    /// Notes that the PING with this id has left.
    pub(crate) fn left(&mut self, id: u32) {
        if self.asked == Asked::Queued(id) {
            self.asked = Asked::Sent(id, None);
        }
    }

    /// Sets the moment at which the keep-alive PING left.
    #[inline]
    pub(crate) fn left_at(&mut self, moment: Moment) {
        if let Asked::Sent(_, since) = &mut self.asked {
            since.get_or_insert(moment);
        }
    }

    /// Returns when the next keep-alive PING is due, or when the peer has not answered in time.
    /// Call it only if nothing waits for the transport. `taken` is the number of bytes that the
    /// transport has taken since the start.
    pub(crate) fn keep_alive_deadline(&self, timeouts: &Timeouts, taken: u64) -> Option<Moment> {
        match self.asked {
            Asked::No => self.heard.after(timeouts.keep_alive?),
            Asked::Queued(_) => None,
            Asked::Sent(_, since) => {
                let under_way = time_under_way(taken - self.sent_before);
                since?.after(timeouts.keep_alive_reply.saturating_add(under_way))
            }
        }
    }

    // --- the probe -------------------------------------------------------------------------------

    /// Notes that the peer has ended its bytes. It takes two probes to find out whether it is gone,
    /// so the first ones are sent soon.
    pub(crate) fn half_closed(&mut self) {
        // The shortest interval, because most responses are on their way by then.
        self.wait = MIN_PROBE;
    }

    /// Returns when the next probe is due, if the peer has been out of sight since `since`. Another
    /// write replaces a probe.
    pub(crate) fn probe_deadline(
        &self,
        timeouts: &Timeouts,
        since: Instant,
        written: Option<Instant>,
    ) -> Option<Instant> {
        let interval = timeouts.probe?;
        let written = [self.probed, written];
        let last = written.into_iter().flatten().fold(since, Instant::max);
        last.checked_add(self.wait.min(interval))
    }

    /// Notes that a probe is sent.
    pub(crate) fn probed(&mut self, now: Instant) {
        self.probed = Some(now);
        self.wait = self.wait.saturating_mul(2);
    }
}

/// Returns the extra time for bytes that were sent since the peer was last heard. The peer may have
/// to read them before it reads the PING, and without windows nothing shows that.
fn time_under_way(sent: u64) -> Duration {
    Duration::from_secs(sent / SLOWEST).min(MOST_UNDER_WAY)
}

/// How many PINGs of the application can wait for their answers.
const MAX_PINGS: usize = 64;

/// A peer that receives fewer bytes a second than this counts as gone.
const SLOWEST: u64 = 4 * 1024;

/// The longest extra time for bytes that are under way to the peer.
pub(crate) const MOST_UNDER_WAY: Duration = Duration::from_secs(120);
