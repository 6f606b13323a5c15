//! Every deadline of a connection, and what happens when it passes.

use std::time::{Duration, Instant};

use spdy_frame::{GoAwayStatus, RstStatus, Side, StreamId};

use super::{Connection, Phase};
use crate::{
    Limit, SessionError, StreamError, Timeout,
    error::Initiator,
    proto::{
        clock::Haste,
        event::Event,
        streams::{Ending, Stream},
    },
};

impl Connection {
    /// Returns the moment at which [`handle_timeout`](Self::handle_timeout) has to be called, if
    /// any. Every other call can change it. Calling `handle_timeout` too early does no harm.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let mut first = None;
        self.deadlines(|deadline, _| {
            first = Some(first.map_or(deadline, |first: Instant| first.min(deadline)));
        });
        first
    }

    /// Acts on every deadline that has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.note_pause(now);
        self.note_unread(now);
        let mut due = Vec::new();
        self.deadlines(|deadline, what| {
            if deadline <= now {
                due.push(what);
            }
        });
        for what in due {
            // An earlier one may have ended the session. After that only the write timeout matters.
            if self.phase != Phase::Closing || matches!(what, Deadline::Write) {
                self.on_deadline(now, what);
            }
        }
    }

    /// Notes that the peer is alive.
    pub(super) fn note_life(&mut self, now: Instant) {
        self.pings
            .note_life(self.clock.at(now), self.output.taken());
    }

    /// Notes whether reading pauses, which stops the time of the peer.
    pub(super) fn note_pause(&mut self, now: Instant) {
        let is_read = self.wants_input();
        self.clock.note_reading(now, is_read);
    }

    /// Starts or stops the time of unread bytes.
    pub(super) fn note_unread(&mut self, now: Instant) {
        self.clock.note_unread(now, self.is_unread_in_the_way());
    }

    /// Calls `name` with every current deadline.
    fn deadlines(&self, mut name: impl FnMut(Instant, Deadline)) {
        let mut at = |what, at: Option<Instant>| {
            if let Some(at) = at {
                name(at, what);
            }
        };
        at(Deadline::Write, self.write_deadline());
        if self.phase == Phase::Closing {
            return;
        }
        let (clock, timeouts) = (&self.clock, &self.config.timeouts);
        if self.role.side() == Side::Server {
            let silent = clock.silent_since();
            at(Deadline::FirstFrame, after(silent, timeouts.first_frame));
        }
        if self.wants_input() {
            at(
                Deadline::Frame,
                after(clock.partial_since(), timeouts.frame),
            );
        }
        at(Deadline::Idle, self.idle_deadline());
        let blocked = self.waits.check();
        at(Deadline::Blocked, blocked.and_then(|at| clock.when(at)));
        let unread = clock.unread_since();
        at(Deadline::Unread, after(unread, timeouts.unread));
        at(Deadline::Drain, clock.drain_deadline());
        at(Deadline::KeepAlive, self.keep_alive_deadline());
        at(Deadline::Probe, self.probe_deadline());
        at(Deadline::Discard, self.discard_deadline());
    }

    fn write_deadline(&self) -> Option<Instant> {
        if !self.output.is_waiting() {
            return None;
        }
        let progress = self.clock.write_progress();
        let write = progress.and_then(|since| self.stand_still_until(since));
        let (timeouts, since) = (&self.config.timeouts, self.clock.write_since());
        let trickle = after(since, timeouts.trickle(timeouts.write));
        let last = since.and_then(|since| self.last_moment(since));
        [write, trickle, last].into_iter().flatten().min()
    }

    /// Returns until when the transport of a session that is over may be slow that has not taken
    /// enough since this moment. A peer that has paused has the whole time from the end on.
    fn last_moment(&self, since: Instant) -> Option<Instant> {
        let since = self.clock.over_since().map(|over| since.max(over));
        after(since, Some(self.config.timeouts.longest()))
    }

    /// Returns until when the transport may stand still that does so since this moment.
    fn stand_still_until(&self, since: Instant) -> Option<Instant> {
        let hurried = match self.clock.haste() {
            // It was reported as written before the session ended.
            Haste::Cut if self.held.has_end() => None,
            // Only the GOAWAY with its reason still has to reach the peer.
            Haste::Cut => Some(since),
            Haste::Since(moment) => Some(since.max(moment)),
            Haste::None | Haste::Ordered => None,
        };
        let hurried = after(hurried, Some(self.config.timeouts.linger));
        let until = after(Some(since), self.config.timeouts.write);
        let last = self.last_moment(since);
        [until, hurried, last].into_iter().flatten().min()
    }

    /// Returns until when the transport has to pass on the last bytes of the session, which it has
    /// taken at `since`.
    #[cfg(feature = "tokio")]
    pub(crate) fn flush_deadline(&self, since: Instant) -> Option<Instant> {
        self.stand_still_until(since)
    }

    /// Notes whether the transport may hold bytes that it has taken. Call it after each write.
    #[cfg(feature = "tokio")]
    #[inline]
    pub(crate) fn note_held(&mut self, is_unflushed: bool) {
        self.held.note(is_unflushed);
    }

    /// Ends a session whose transport has taken the last bytes and has not passed them on in time.
    #[cfg(feature = "tokio")]
    pub(crate) fn handle_unflushed(&mut self) {
        self.reached(Limit::Write);
        self.handle_transport_error(SessionError::TimedOut(Timeout::Write));
    }

    fn discard_deadline(&self) -> Option<Instant> {
        let limit = self.config.timeouts.discard?;
        let moment = self.streams.abandoned_since()?.after(limit)?;
        self.clock.when(moment)
    }

    fn idle_deadline(&self) -> Option<Instant> {
        let is_used = self.streams.records() > 0;
        if is_used || self.output.is_waiting() {
            return None;
        }
        let moment = self.clock.last_use().after(self.config.timeouts.idle?)?;
        self.clock.when(moment)
    }

    fn keep_alive_deadline(&self) -> Option<Instant> {
        if self.output.is_waiting() {
            return None;
        }
        let (timeouts, taken) = (&self.config.timeouts, self.output.taken());
        let moment = self.pings.keep_alive_deadline(timeouts, taken)?;
        self.clock.when(moment)
    }

    /// Returns when the next probe is due. Any write detects a dead peer as well as a probe does,
    /// and a write that waits for the transport has its own timeout.
    fn probe_deadline(&self) -> Option<Instant> {
        let since = self.clock.paused_since()?;
        if self.output.is_waiting() || self.output.has_control() {
            return None;
        }
        let written = self.clock.write_progress();
        let timeouts = &self.config.timeouts;
        self.pings.probe_deadline(timeouts, since, written)
    }

    fn on_deadline(&mut self, now: Instant, what: Deadline) {
        match what {
            Deadline::FirstFrame => self.time_out(GoAwayStatus::OK, Timeout::FirstFrame),
            Deadline::Frame => self.time_out(GoAwayStatus::PROTOCOL_ERROR, Timeout::Frame),
            // An idle session ends in order, with GOAWAY OK (protocol.md §15).
            Deadline::Idle => {
                if self.phase == Phase::Open {
                    self.reached(Limit::Idle);
                }
                self.shutdown_gracefully(now, None);
            }
            Deadline::Write => {
                self.reached(Limit::Write);
                self.handle_transport_error(SessionError::TimedOut(Timeout::Write));
            }
            Deadline::Drain => self.time_out(GoAwayStatus::OK, Timeout::Drain),
            Deadline::Blocked => self.reset_blocked(now),
            Deadline::Unread => self.give_up_fullest(now),
            Deadline::Discard => self.reset_abandoned(now),
            Deadline::KeepAlive => match self.pings.ask_life() {
                Some(id) => self.output.ping(id),
                None => self.time_out(GoAwayStatus::OK, Timeout::KeepAlive),
            },
            Deadline::Probe => self.probe(now),
        }
    }

    /// Writes a frame that a dead peer answers with a TCP reset.
    fn probe(&mut self, now: Instant) {
        self.pings.probed(now);
        let open = self.streams.iter().find(|it| it.is_open_for_data());
        match open.map(Stream::id) {
            Some(id) => self.output.empty_data(id),
            None => self.output.ping(self.pings.take_id()),
        }
    }

    fn time_out(&mut self, status: GoAwayStatus, timeout: Timeout) {
        self.reached(timeout.into());
        self.fail(status, SessionError::TimedOut(timeout));
    }

    /// Drops the unread payload that has kept the peer from sending for too long, and fails its
    /// stream.
    fn give_up_fullest(&mut self, now: Instant) {
        if let Some(id) = self.streams.fullest() {
            let timeout = Timeout::Unread;
            if self.streams.contains(id) {
                self.time_out_stream(id, timeout);
            } else {
                self.reached(timeout.into());
                let error = StreamError::TimedOut(timeout);
                self.events.push_back(Event::Reset { id, error });
            }
            let bytes = self.streams.give_up(id);
            self.windows.consume(bytes);
        }
        self.clock.restart_unread(now, self.is_unread_in_the_way());
    }

    /// Resets the streams that have waited too long for a window.
    fn reset_blocked(&mut self, now: Instant) {
        // While the transport was full, streams that began to wait were not counted.
        self.join_stall(now);
        let moment = self.clock.at(now);
        let is_open = self.windows.is_open();
        let expired = self.waits.expired(self.streams.iter(), is_open, moment);
        if !expired.is_empty() && self.windows.is_taken_for_another_version() {
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

    pub(super) fn time_out_stream(&mut self, id: StreamId, timeout: Timeout) {
        self.reached(timeout.into());
        let error = StreamError::TimedOut(timeout);
        self.end_stream(id, Ending::reset(RstStatus::CANCEL, error));
    }

    /// Resets the streams that the application does not read and that the peer has not finished in
    /// time.
    fn reset_abandoned(&mut self, now: Instant) {
        let Some(limit) = self.config.timeouts.discard else {
            return;
        };
        let moment = self.clock.at(now);
        while let Some(id) = self.streams.pop_abandoned(moment, limit) {
            self.reached(Limit::Discard);
            let (status, initiator) = (RstStatus::CANCEL, Initiator::Local);
            let error = StreamError::Reset { status, initiator };
            self.end_stream(id, Ending::reset(status, error));
        }
    }
}

/// The kind of a deadline.
#[derive(Clone, Copy, Debug)]
enum Deadline {
    FirstFrame,
    Frame,
    Idle,
    Write,
    Blocked,
    Unread,
    Drain,
    KeepAlive,
    Probe,
    Discard,
}

/// Returns the moment `timeout` after `since`, or `None` if one of them is missing or the sum
/// overflows.
fn after(since: Option<Instant>, timeout: Option<Duration>) -> Option<Instant> {
    since?.checked_add(timeout?)
}
