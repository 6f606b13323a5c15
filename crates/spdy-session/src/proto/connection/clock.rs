//! Time: every deadline of a connection, and what happens when one passes.

use std::time::{Duration, Instant};

use spdy_frame::{Frame, GoAwayStatus, RstStatus, Side, StreamId};

use super::{Connection, Phase};
use crate::{
    Limit, SessionError, StreamError,
    config::Timeouts,
    error::{Origin, Timeout},
    proto::{
        event::Event,
        reading_time::{Moment, ReadingTime},
        streams::Ending,
    },
};

/// The moments that deadlines are counted from.
#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    /// What the peer is waited for is counted in it.
    pub(super) reading: ReadingTime,
    /// When a frame last came that does not only answer this side, or a frame of a stream left.
    last_use: Moment,
    /// Since when a frame is incomplete.
    partial_since: Option<Instant>,
    seen_frame: bool,
    /// When outgoing octets last moved, or began to wait.
    pub(super) write_progress: Option<Instant>,
    /// The same, but for octets that are too few to count.
    write_since: Option<Instant>,
    /// How many of these moved since then.
    too_few: u64,
    /// Since when unread octets keep the transport from being read.
    pub(super) unread_since: Option<Instant>,
    pub(super) drain_deadline: Option<Instant>,
    /// The session has ended at once, and all its streams with it.
    pub(super) cut: bool,
}

impl Clock {
    pub(super) fn new(now: Instant) -> Self {
        let reading = ReadingTime::default();
        Self {
            started: now,
            last_use: reading.at(now),
            reading,
            partial_since: None,
            seen_frame: false,
            write_progress: None,
            write_since: None,
            too_few: 0,
            unread_since: None,
            drain_deadline: None,
            cut: false,
        }
    }

    /// The session is in use, which is no idle time.
    pub(super) fn note_use(&mut self, now: Instant) {
        self.last_use = self.reading.at(now);
    }

    /// Octets wait to be written.
    pub(super) fn begin_to_write(&mut self, now: Instant) {
        self.write_progress = Some(now);
        self.write_since = Some(now);
        self.too_few = 0;
    }

    /// The transport took octets, which count if they are at least so many. Returns whether they had waited.
    pub(super) fn written(&mut self, now: Instant, octets: u64, least: usize) -> bool {
        self.too_few += octets;
        if self.too_few >= least as u64 {
            self.write_since = Some(now);
            self.too_few = 0;
        }
        let before = self.write_progress.replace(now);
        before.is_some_and(|before| before < now)
    }

    /// Octets came: whole frames among them or not, and with the beginning of another behind them or not.
    pub(super) fn input(&mut self, now: Instant, handled: bool, partial: bool) {
        if handled || !partial {
            self.partial_since = None;
        }
        if partial {
            self.partial_since.get_or_insert(now);
        }
    }
}

impl Connection {
    /// The moment at which [`handle_timeout`](Self::handle_timeout) wants to be called, if any. It may move
    /// with every other call; being called too early does no harm.
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
            // One of them may have ended the session: then only the write timeout still has a meaning.
            if self.phase != Phase::Closing || matches!(what, Deadline::Write) {
                self.on_deadline(now, what);
            }
        }
    }

    /// Notes a frame of the peer. What only answers this side keeps no idle session alive.
    pub(super) fn note_frame(&mut self, now: Instant, frame: &Frame) {
        let ping = match frame {
            Frame::Ping(ping) => Some(ping.id),
            _ => None,
        };
        if ping.is_some() && ping == self.growth_ping {
            return;
        }
        self.clock.seen_frame = true;
        if !ping.is_some_and(|id| self.probes.awaits(id)) {
            self.clock.note_use(now);
        }
        self.note_life(now);
    }

    /// Starts or stops the time of the peer.
    pub(super) fn note_pause(&mut self, now: Instant) {
        let is_read = self.wants_input();
        self.clock.reading.note(now, is_read);
    }

    /// Starts or stops the clock of unread octets.
    pub(super) fn note_unread(&mut self, now: Instant) {
        if !self.is_overfull() {
            self.clock.unread_since = None;
        } else if self.clock.unread_since.is_none() {
            self.clock.unread_since = Some(now);
        }
    }

    /// Names every deadline there is.
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
        if self.role.side() == Side::Server && !clock.seen_frame {
            at(
                Deadline::FirstFrame,
                after(Some(clock.started), timeouts.first_frame),
            );
        }
        if self.wants_input() {
            at(Deadline::Frame, after(clock.partial_since, timeouts.frame));
        }
        at(Deadline::Idle, self.idle_deadline());
        let blocked = self.waits.check();
        at(
            Deadline::Blocked,
            blocked.and_then(|at| clock.reading.when(at)),
        );
        at(Deadline::Unread, after(clock.unread_since, timeouts.unread));
        at(Deadline::Drain, clock.drain_deadline);
        at(Deadline::KeepAlive, self.keep_alive_deadline());
        at(Deadline::Probe, self.probe_deadline());
        at(Deadline::Discard, self.discard_deadline());
    }

    fn write_deadline(&self) -> Option<Instant> {
        if !self.output.is_waiting() {
            return None;
        }
        let Timeouts { write, linger, .. } = self.config.timeouts;
        let timeout = if self.clock.cut {
            // Nobody waits for what is left, but for the peer that may want to know why.
            Some(write.map_or(linger, |write| write.min(linger)))
        } else {
            write
        };
        let trickle = self.config.timeouts.trickle(timeout);
        let write = after(self.clock.write_progress, timeout);
        let trickle = after(self.clock.write_since, trickle);
        [write, trickle].into_iter().flatten().min()
    }

    fn discard_deadline(&self) -> Option<Instant> {
        let limit = self.config.timeouts.discard?;
        let moment = self.streams.abandoned_since()?.after(limit)?;
        self.clock.reading.when(moment)
    }

    fn idle_deadline(&self) -> Option<Instant> {
        let is_used = self.streams.records() > 0;
        if is_used || self.output.is_waiting() {
            return None;
        }
        let moment = self.clock.last_use.after(self.config.timeouts.idle?)?;
        self.clock.reading.when(moment)
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
            Deadline::KeepAlive => {
                if !self.ask() {
                    self.time_out(GoAwayStatus::OK, Timeout::KeepAlive);
                }
            }
            Deadline::Probe => self.probe(now),
        }
    }

    fn time_out(&mut self, status: GoAwayStatus, timeout: Timeout) {
        self.reached(timeout.into());
        self.fail(status, SessionError::TimedOut(timeout));
    }

    /// Gives up the payload that has kept the transport from being read for too long.
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
        self.clock.unread_since = self.is_overfull().then_some(now);
    }

    /// Resets the streams that wait too long for a window.
    fn reset_blocked(&mut self, now: Instant) {
        // Behind a full transport nobody has looked at them since they came.
        self.join_stall(now);
        let moment = self.clock.reading.at(now);
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

    /// Resets the streams that nobody reads and that the peer has not finished in time.
    fn reset_abandoned(&mut self, now: Instant) {
        let Some(limit) = self.config.timeouts.discard else {
            return;
        };
        let moment = self.clock.reading.at(now);
        while let Some(id) = self.streams.pop_abandoned(moment, limit) {
            self.reached(Limit::Discard);
            let (status, origin) = (RstStatus::CANCEL, Origin::Local);
            let error = StreamError::Reset { status, origin };
            self.end_stream(id, Ending::reset(status, error));
        }
    }
}

/// What a deadline is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deadline {
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

/// The moment `timeout` after `since`; `None` without one of them, or past the end of time.
fn after(since: Option<Instant>, timeout: Option<Duration>) -> Option<Instant> {
    since?.checked_add(timeout?)
}
