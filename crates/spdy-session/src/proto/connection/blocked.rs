//! Streams that have payload and no window for it: they wait for the peer, and not for ever.
//!
//! A stream waits for its own window, or all streams wait for that of the session; how long, says
//! [`wait`](crate::proto::wait).

use std::time::Instant;

use spdy_frame::{DEFAULT_WINDOW, StreamId};

use super::{Connection, output::TRANSMIT_TARGET};
use crate::{
    error::Timeout,
    proto::{
        reading_time::Moment,
        scheduler::Need,
        streams::Stream,
        wait::{Patience, Stall},
    },
};

impl Connection {
    /// Whether the session's window lets payload out.
    pub(super) fn is_session_open(&self) -> bool {
        !self.role.has_session_window() || self.send_window.available(DEFAULT_WINDOW) > 0
    }

    /// Whether a stream has payload that a window does not let out.
    pub(super) fn is_blocked(&self, stream: &Stream) -> bool {
        stream.blocked.is_on() || self.is_stalled(stream)
    }

    fn is_stalled(&self, stream: &Stream) -> bool {
        stream.scheduled && stream.need() == Need::Window && !self.is_session_open()
    }

    /// The peer made a window larger. While the transport takes nothing it is not the session's that is waited for.
    pub(super) fn note_grant(&mut self, now: Instant) {
        self.clock.last_grant = self.clock.reading.at(now);
        if self.output.transmit.held() >= TRANSMIT_TARGET {
            self.output.stall = None;
        }
    }

    // --- the window of a stream -------------------------------------------------------------------------

    /// A stream has payload, and its window is used up.
    pub(super) fn wait_for_window(&mut self, now: Instant, id: StreamId) {
        if self.peer.ended {
            return self.lose_stream(id); // No peer is left to grant anything.
        }
        let (moment, patience) = (self.clock.reading.at(now), self.patience());
        if let Some(mut stream) = self.streams.get(id) {
            stream.blocked.begin(moment);
            let shortfall = stream.send_window().shortfall();
            self.output.blocked.insert((shortfall, id));
            let deadline = stream.blocked.deadline(patience);
            self.clock.watch_blocked(deadline);
        }
    }

    /// The window of a stream grew.
    pub(super) fn unblock(&mut self, now: Instant, id: StreamId) {
        let Some(mut stream) = self.streams.get(id) else {
            return;
        };
        let is_open = stream.send_window().available(self.peer.initial_window) > 0;
        if stream.blocked.is_on() && is_open {
            stream.blocked.end(self.clock.reading.at(now));
            let shortfall = stream.send_window().shortfall();
            self.output.blocked.remove(&(shortfall, id));
            self.output.schedule(self.role, &mut stream);
            self.tell_window(id);
        }
    }

    /// The windows of all streams grew.
    pub(super) fn unblock_all(&mut self, now: Instant) {
        let initial = i64::from(self.peer.initial_window);
        while let Some(&(shortfall, id)) = self.output.blocked.first() {
            if shortfall >= initial {
                return;
            }
            self.output.blocked.pop_first();
            self.unblock(now, id);
        }
    }

    // --- the window of the session ----------------------------------------------------------------------

    /// Notes whether streams wait for the window of the session, and since when.
    pub(super) fn note_stall(&mut self, now: Instant) {
        if self.is_session_open() || !self.output.scheduler.has_payload() {
            self.output.stall = None;
            return;
        }
        if self.peer.ended {
            return self.lose_stalled();
        }
        let moment = self.clock.reading.at(now);
        let places = self.output.scheduler.places();
        if self.output.stall.is_none() {
            let stall = Stall::new(moment, places);
            self.output.stall = Some(stall);
            let deadline = stall.deadline(None, self.patience());
            return self.clock.watch_blocked(deadline);
        }
        self.join_stall(now);
        if self.clock.blocked_check.is_none() {
            // The streams that were watched are gone, or the window was open when they were looked at.
            for stream in self.streams.iter() {
                self.clock.watch_blocked(self.blocked_until(stream));
            }
        }
    }

    /// Streams that have come to those that wait have not waited before.
    fn join_stall(&mut self, now: Instant) {
        let Some(stall) = &mut self.output.stall else {
            return;
        };
        let moment = self.clock.reading.at(now);
        for id in self.output.scheduler.payload_after(stall.seen) {
            if let Some(mut stream) = self.streams.get(id)
                && !stall.is_joined(stream.stalled_since)
            {
                stream.stalled_since = Some(moment);
            }
        }
        stall.seen = self.output.scheduler.places();
    }

    /// No peer is left to open the window of the session.
    fn lose_stalled(&mut self) {
        let stalled: Vec<StreamId> = self.output.scheduler.payload().collect();
        for id in stalled {
            self.lose_stream(id);
        }
    }

    // --- the timeout ------------------------------------------------------------------------------------

    /// Resets the streams that wait too long for a window, and says when to look again.
    pub(super) fn reset_blocked(&mut self, now: Instant) {
        self.clock.blocked_check = None;
        // Behind a full transport nobody has looked at them since they came.
        self.join_stall(now);
        let moment = self.clock.reading.at(now);
        let mut expired = Vec::new();
        for stream in self.streams.iter() {
            match self.blocked_until(stream) {
                Some(deadline) if deadline <= moment => expired.push(stream.id()),
                deadline => self.clock.watch_blocked(deadline),
            }
        }
        if !expired.is_empty() && self.is_taken_for_another_version() {
            tracing::warn!(
                target: "spdy",
                "peer grants windows to streams and never to the session: it seems to speak SPDY/3, \
                 and SPDY/3.1 is assumed (--plain-version spdy/3)"
            );
        }
        for id in expired {
            self.time_out_stream(id, Timeout::Blocked);
        }
    }

    /// Whether the peer behaves as one of SPDY/3 does in a session of SPDY/3.1: the session's window is used up, and
    /// while windows of streams are granted that one never was. In plain text the two versions look the same.
    fn is_taken_for_another_version(&self) -> bool {
        !self.is_session_open() && self.peer.grants_streams && !self.peer.grants_session
    }

    fn blocked_until(&self, stream: &Stream) -> Option<Moment> {
        match self.output.stall {
            Some(stall) if self.is_stalled(stream) => {
                stall.deadline(stream.stalled_since, self.patience())
            }
            _ => stream.blocked.deadline(self.patience()),
        }
    }

    fn patience(&self) -> Patience {
        let timeouts = &self.config.timeouts;
        Patience {
            granted: self.clock.last_grant,
            blocked: timeouts.blocked,
            trickle: timeouts.trickle(timeouts.blocked),
        }
    }
}
