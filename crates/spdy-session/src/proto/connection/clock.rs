//! Time: every deadline of a connection, and what happens when one passes.

use std::time::{Duration, Instant};

use spdy_frame::{GoAwayStatus, RstStatus, Side, StreamId};

use super::{Connection, Phase};
use crate::{SessionError, StreamError, config::Timeouts, error::Timeout};

/// The moments that deadlines are counted from.
#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    /// When octets last came.
    last_input: Instant,
    /// Since when a frame is incomplete.
    partial_since: Option<Instant>,
    pub(super) seen_frame: bool,
    /// When outgoing octets last moved, or began to wait.
    pub(super) write_progress: Option<Instant>,
    /// When to look for streams that wait too long for a window.
    blocked_check: Option<Instant>,
    /// Since when unread octets keep the transport from being read.
    pub(super) unread_since: Option<Instant>,
    pub(super) drain_deadline: Option<Instant>,
    pub(super) keep_alive_sent: Option<Instant>,
}

impl Clock {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            started: now,
            last_input: now,
            partial_since: None,
            seen_frame: false,
            write_progress: None,
            blocked_check: None,
            unread_since: None,
            drain_deadline: None,
            keep_alive_sent: None,
        }
    }

    /// Octets came: whole frames among them or not, and with the beginning of another behind them or not.
    pub(super) fn input(&mut self, now: Instant, handled: bool, partial: bool) {
        if handled {
            self.last_input = now;
            self.partial_since = None;
        }
        if !partial {
            self.partial_since = None;
        } else if self.partial_since.is_none() {
            self.partial_since = Some(now);
        }
    }

    /// A stream began to wait for a window.
    pub(super) fn watch_blocked(&mut self, now: Instant, timeouts: &Timeouts) {
        if self.blocked_check.is_none() {
            self.blocked_check = after(now, timeouts.blocked);
        }
    }
}

impl Connection {
    /// The moment at which [`handle_timeout`](Self::handle_timeout) wants to be called, if any. It may move
    /// with every other call; being called too early does no harm.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines()
            .into_iter()
            .flatten()
            .map(|(deadline, _)| deadline)
            .min()
    }

    /// Acts on every deadline that has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.note_unread(now);
        let passed = |deadline: &(Instant, Deadline)| deadline.0 <= now;
        let due: Vec<Deadline> = self
            .deadlines()
            .into_iter()
            .flatten()
            .filter(passed)
            .map(|(_, what)| what)
            .collect();
        for what in due {
            self.on_deadline(now, what);
        }
    }

    /// Starts or stops the clock of unread octets; the driver calls it when it has done what it can.
    pub fn note_unread(&mut self, now: Instant) {
        if !self.is_overfull() {
            self.clock.unread_since = None;
        } else if self.clock.unread_since.is_none() {
            self.clock.unread_since = Some(now);
        }
    }

    fn deadlines(&self) -> [Option<(Instant, Deadline)>; 8] {
        let (clock, timeouts) = (&self.clock, &self.config.timeouts);
        if self.phase == Phase::Closing {
            let write = clock
                .write_progress
                .and_then(|since| after(since, timeouts.write));
            return [
                write.map(|at| (at, Deadline::Write)),
                None,
                None,
                None,
                None,
                None,
                None,
                None,
            ];
        }
        let is_idle = self.streams.is_empty() && self.cancelled.is_empty();
        let is_writing = self.output.is_waiting();
        let first = (self.side == Side::Server && !clock.seen_frame)
            .then(|| after(clock.started, timeouts.first_frame))
            .flatten();
        let frame = clock
            .partial_since
            .filter(|_| self.wants_input())
            .and_then(|since| after(since, timeouts.frame));
        let idle = is_idle
            .then(|| after(clock.last_input, timeouts.idle))
            .flatten();
        let write = clock
            .write_progress
            .filter(|_| is_writing)
            .and_then(|since| after(since, timeouts.write));
        let unread = clock
            .unread_since
            .and_then(|since| after(since, timeouts.unread));
        let keep_alive = match clock.keep_alive_sent {
            Some(sent) => after(sent, Some(timeouts.keep_alive_reply)),
            None => after(clock.last_input, timeouts.keep_alive),
        };
        [
            first.map(|at| (at, Deadline::FirstFrame)),
            frame.map(|at| (at, Deadline::Frame)),
            idle.map(|at| (at, Deadline::Idle)),
            write.map(|at| (at, Deadline::Write)),
            clock.blocked_check.map(|at| (at, Deadline::Blocked)),
            unread.map(|at| (at, Deadline::Unread)),
            clock.drain_deadline.map(|at| (at, Deadline::Drain)),
            keep_alive.map(|at| (at, Deadline::KeepAlive)),
        ]
    }

    fn on_deadline(&mut self, now: Instant, what: Deadline) {
        let timed_out = |timeout| SessionError::TimedOut(timeout);
        match what {
            Deadline::FirstFrame => self.fail(GoAwayStatus::OK, timed_out(Timeout::FirstFrame)),
            Deadline::Frame => self.fail(GoAwayStatus::PROTOCOL_ERROR, timed_out(Timeout::Frame)),
            // An idle session ends in order, with GOAWAY OK (protocol.md §15).
            Deadline::Idle => self.shutdown_gracefully(now, None),
            Deadline::Write => self.handle_transport_error(timed_out(Timeout::Write)),
            Deadline::Drain => self.fail(GoAwayStatus::OK, timed_out(Timeout::Drain)),
            Deadline::Blocked => self.reset_blocked(now),
            Deadline::Unread => self.reset_fullest(now),
            Deadline::KeepAlive if self.clock.keep_alive_sent.is_none() => {
                self.ping(now);
                self.clock.keep_alive_sent = Some(now);
            }
            Deadline::KeepAlive => self.fail(GoAwayStatus::OK, timed_out(Timeout::KeepAlive)),
        }
    }

    /// Resets the streams that wait too long for a window, and says when to look again.
    fn reset_blocked(&mut self, now: Instant) {
        let timeout = self.config.timeouts.blocked;
        self.clock.blocked_check = None;
        let mut expired = Vec::new();
        for stream in self.streams.values() {
            let Some(deadline) = stream.blocked_since.and_then(|since| after(since, timeout))
            else {
                continue;
            };
            if deadline <= now {
                expired.push(stream.id);
            } else {
                let check = self
                    .clock
                    .blocked_check
                    .map_or(deadline, |earlier| earlier.min(deadline));
                self.clock.blocked_check = Some(check);
            }
        }
        for id in expired {
            self.reset_with(
                id,
                RstStatus::CANCEL,
                StreamError::TimedOut(Timeout::Blocked),
            );
        }
    }

    /// Resets the stream with the most unread octets: it keeps all others from being read.
    fn reset_fullest(&mut self, now: Instant) {
        let fullest = self
            .streams
            .values()
            .max_by_key(|stream| stream.recv_window.held());
        let fullest: Option<StreamId> = fullest
            .filter(|stream| stream.recv_window.held() > 0)
            .map(|s| s.id);
        if let Some(id) = fullest {
            self.reset_with(
                id,
                RstStatus::CANCEL,
                StreamError::TimedOut(Timeout::Unread),
            );
        }
        self.clock.unread_since = Some(now);
    }
}

/// What a deadline is about.
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
}

/// The moment `timeout` after `since`; `None` without a timeout, or past the end of time.
fn after(since: Instant, timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| since.checked_add(timeout))
}
