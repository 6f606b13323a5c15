//! Every PING of this side and its purpose, and what else finds out whether the peer is still
//! there.
//!
//! *Keep-alive*: a peer that is silent is asked, and has its time to answer. The time runs only
//! while an answer could come and be heard: once the PING has left, while the transport is read,
//! and while nothing waits for the transport, which has a timeout of its own. Any frame shows that
//! the peer lives, and so does a full transport that takes bytes again. What was sent before the
//! PING, and may still be under way, gives it more time.
//!
//! *Probe*: the end of a peer may be out of sight. While reading pauses it stands behind bytes that
//! are not read; after the end of the peer's bytes nothing comes any more, and the peer may still
//! read, or may have closed its connection for good. But the system of a peer that is gone answers
//! whatever is sent by a reset, which is noticed at the write after it. So while nothing else is
//! written, probes are: empty DATA, which every peer passes over, or a PING where no stream is open
//! for it. An answer to a PING could not be heard, and some peers let other frames wait behind one
//! that they cannot write.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use spdy_frame::Side;

use super::{clock::Moment, event::PingId};
use crate::config::Timeouts;

/// All PINGs of this side.
#[derive(Debug)]
pub(crate) struct Pings {
    side: Side,
    next: u32,
    /// PINGs of the application that are not answered, oldest first.
    user: VecDeque<(PingId, Instant)>,
    /// The PING behind our SETTINGS: until its answer comes the peer may not know that its windows
    /// are smaller than the protocol's start.
    settings: Option<u32>,
    /// The PING that measures the path.
    path: Option<u32>,
    asked: Asked,
    /// The last sign of life.
    heard: Moment,
    /// How many bytes had left by then.
    sent_before: u64,
    probed: Option<Instant>,
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

/// What a PING that is not answered is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To learn that the peer has seen our SETTINGS.
    Settings,
    /// To measure the path.
    Path,
    /// To learn whether the peer is there.
    KeepAlive,
    /// The application asked for it then.
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

    // --- what is sent, and what for --------------------------------------------------------------

    /// Returns the id of a PING of which nothing is expected. Ids wrap within their parity; 0 is
    /// never used, some peers drop the connection at it.
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

    /// Returns the id of the PING that asks whether the peer is there; `None` if it was asked, and
    /// has not answered.
    pub(crate) fn ask_life(&mut self) -> Option<u32> {
        if self.asked != Asked::No {
            return None;
        }
        let id = self.take_id();
        self.asked = Asked::Queued(id);
        Some(id)
    }

    /// Returns the id of a PING of the application. The oldest is given up if too many wait.
    pub(crate) fn ask_for_user(&mut self, now: Instant) -> PingId {
        let id = PingId(self.take_id());
        if self.user.len() == MAX_PINGS {
            self.user.pop_front();
        }
        self.user.push_back((id, now));
        id
    }

    // --- what comes back -------------------------------------------------------------------------

    /// Returns what the PING with this id is for, unless nothing is expected of it.
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

    /// Notes that the answer to a PING came: nothing more is expected of it.
    /// [`note_life`](Self::note_life) notes that the peer lives.
    pub(crate) fn answered(&mut self, purpose: Purpose) {
        match purpose {
            Purpose::Settings => self.settings = None,
            Purpose::Path => self.path = None,
            Purpose::KeepAlive => {}
            Purpose::User(id, _) => self.user.retain(|(ping, _)| *ping != id),
        }
    }

    /// Returns whether the peer may not know our SETTINGS.
    pub(crate) const fn awaits_settings(&self) -> bool {
        self.settings.is_some()
    }

    /// Returns whether the answer to a PING of the application is waited for.
    #[cfg(feature = "tokio")]
    pub(crate) fn awaits_user(&self, id: PingId) -> bool {
        self.user.iter().any(|(waiting, _)| *waiting == id)
    }

    // --- the keep-alive --------------------------------------------------------------------------

    /// Notes a sign of life of the peer, and how many bytes have left by then.
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

    /// Notes at which moment that was.
    #[inline]
    pub(crate) fn left_at(&mut self, moment: Moment) {
        if let Asked::Sent(_, since) = &mut self.asked {
            since.get_or_insert(moment);
        }
    }

    /// Returns when the peer is asked, or has not answered in time. Nothing waits for the
    /// transport, which has taken so many bytes since the start.
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

    /// The peer has ended its bytes: two probes tell whether it is gone, so some are sent promptly.
    pub(crate) fn half_closed(&mut self) {
        self.wait = FIRST_WAIT;
    }

    /// Returns when to probe a peer whose end has been out of sight `since` then. A write to it
    /// shows as well as a probe whether it is gone.
    pub(crate) fn probe_deadline(
        &self,
        timeouts: &Timeouts,
        since: Instant,
        written: Option<Instant>,
    ) -> Option<Instant> {
        let interval = timeouts.probe?.max(FIRST_WAIT);
        let written = [self.probed, written];
        let last = written.into_iter().flatten().fold(since, Instant::max);
        last.checked_add(self.wait.min(interval))
    }

    /// Notes that the peer is probed.
    pub(crate) fn probed(&mut self, now: Instant) {
        self.probed = Some(now);
        self.wait = self.wait.saturating_mul(2);
    }
}

/// Returns how much time the peer is given for what it was sent since it was last heard: it may
/// come to the PING only behind that, and nothing says so where there are no windows.
fn time_under_way(sent: u64) -> Duration {
    Duration::from_secs(sent / SLOWEST).min(MOST_UNDER_WAY)
}

/// How many PINGs of the application may wait for their answer.
const MAX_PINGS: usize = 64;

/// How long after the end of the peer's bytes it is probed: most responses are on their way by
/// then. Nor are probes sent more often.
pub(crate) const FIRST_WAIT: Duration = Duration::from_millis(10);

/// A peer that takes in fewer bytes a second than this counts as gone.
const SLOWEST: u64 = 4 * 1024;

/// The most that a peer is given for what is under way to it.
pub(crate) const MOST_UNDER_WAY: Duration = Duration::from_secs(120);
