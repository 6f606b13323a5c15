//! Checks, for tests, that a connection at rest has left nothing undone.
//!
//! The result is computed from the records of the streams and from the windows. It does not use the
//! queues, counters and marks that the work itself uses, because those are what the tests check.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use spdy_frame::{Side, StreamId};

use super::{Connection, Phase};
use crate::proto::{
    pings::MOST_UNDER_WAY,
    streams::{Next, Stream},
};

/// The orders of handles that the driver need not carry out at once.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    /// The number of consumed bytes of each stream.
    pub(crate) consumed: HashMap<StreamId, usize>,
    /// Streams whose handles are dropped.
    pub(crate) released: Vec<StreamId>,
}

impl Quiet {
    fn consumed(&self, id: StreamId) -> usize {
        self.consumed.get(&id).copied().unwrap_or(0)
    }

    /// Returns the number of consumed bytes of all streams whose payload counts.
    fn all_consumed(&self, connection: &Connection) -> usize {
        let counted = |&(id, _): &(&StreamId, &usize)| !connection.streams.is_given_up(*id);
        let consumed = self.consumed.iter().filter(counted);
        consumed.map(|(_, bytes)| bytes).sum()
    }
}

/// The name of a deadline, and the latest moment at which it has to come.
pub(crate) type Promise = (&'static str, Instant);

impl Connection {
    /// Returns an error that describes work that could go on although nothing is under way.
    pub(crate) fn check_rest(&self, quiet: &Quiet) -> Result<(), String> {
        self.check_counts()?;
        if self.phase == Phase::Closing {
            return Ok(());
        }
        if self.streams.is_empty() && (self.phase == Phase::Draining || self.go_away.is_received())
        {
            return Err("the last stream has ended and the session does not close".into());
        }
        self.check_reading(quiet)?;
        if self.output.is_broken() {
            return Ok(());
        }
        if !self.output.is_waiting() {
            self.check_output()?;
        }
        self.check_credit(quiet)
    }

    /// Returns whether a further stream of this side can be opened, or would fail at once.
    pub(crate) fn opens_or_fails(&self) -> bool {
        let is_local = |stream: &&Stream| self.role.is_local(stream.id());
        let open = self.streams.iter().filter(is_local).count();
        open < self.streams.most_local() || !self.can_open()
    }

    fn check_counts(&self) -> Result<(), String> {
        self.streams.check()?;
        let (held, of_streams) = (self.windows.recv().held(), self.streams.unread());
        if held != of_streams {
            return Err(format!("{held} bytes count as unread, of {of_streams}"));
        }
        Ok(())
    }

    fn check_output(&self) -> Result<(), String> {
        if self.output.has_replies_to_write() {
            return Err("control frames wait, and the transport has taken everything".into());
        }
        for stream in self.streams.iter() {
            if let Some(what) = self.writable(stream) {
                let id = stream.id();
                return Err(format!(
                    "{what} of stream {id} may go out, and nothing does"
                ));
            }
        }
        Ok(())
    }

    /// Returns what the stream could write now.
    fn writable(&self, stream: &Stream) -> Option<&'static str> {
        if stream.has_opening() {
            return Some("the first frame");
        }
        match stream.next()? {
            Next::Data(_) => (!self.lacks_window(stream)).then_some("DATA"),
            Next::Headers => Some("HEADERS"),
            Next::Fin => Some("FIN"),
        }
    }

    fn lacks_window(&self, stream: &Stream) -> bool {
        self.windows.available(stream) == 0 || !self.windows.is_open()
    }

    /// Returns whether unconsumed payload stops the reading.
    fn is_held_up(&self, quiet: &Quiet) -> bool {
        let limits = &self.config.limits;
        let full = |stream: &Stream| {
            let held = stream.recv_window().held() - quiet.consumed(stream.id());
            held >= limits.stream_buffer
        };
        let all = self.windows.recv().held() - quiet.all_consumed(self);
        (!self.role.has_stream_windows() && self.streams.iter().any(full))
            || (!self.role.has_session_window() && all >= limits.session_buffer)
    }

    /// Returns whether unconsumed payload leaves no room in the window of the session.
    fn leaves_no_room(&self, quiet: &Quiet) -> bool {
        let unread = self.windows.recv().held() - quiet.all_consumed(self);
        !self.inbound.is_ended() && self.windows.lacks_room_beside(unread)
    }

    fn check_reading(&self, quiet: &Quiet) -> Result<(), String> {
        let is_flooded = self.output.replies() >= self.config.limits.max_queued_replies;
        if is_flooded && !self.output.is_waiting() {
            return Err("reading pauses for replies that have left".into());
        }
        let may_read = !self.inbound.is_ended() && !is_flooded && !self.is_held_up(quiet);
        if may_read && !self.wants_input() {
            return Err("reading pauses and might go on".into());
        }
        Ok(())
    }

    /// Returns an error if the peer waits for a window that could be granted.
    fn check_credit(&self, quiet: &Quiet) -> Result<(), String> {
        if self.output.is_waiting() {
            return Ok(()); // The transport has to take it before credit.
        }
        let window = self.windows.recv();
        let granted = window.returnable() as usize + quiet.all_consumed(self);
        if self.role.has_session_window() && window.bytes() <= 0 && granted > 0 {
            let kind = "session is used up, and";
            return Err(format!(
                "the window of the {kind} {granted} bytes of it are consumed"
            ));
        }
        for stream in self.streams.iter().filter(|it| !it.is_received()) {
            let window = stream.recv_window();
            let is_read = window.held() == quiet.consumed(stream.id());
            if self.role.has_stream_windows() && window.bytes() <= 0 && is_read {
                let id = stream.id();
                return Err(format!(
                    "all of the window of stream {id} is consumed, none granted"
                ));
            }
        }
        Ok(())
    }

    /// Returns every deadline that the configuration promises in the present state, with the latest
    /// moment that it may have.
    pub(crate) fn promises(&self, now: Instant, quiet: &Quiet, has_partial: bool) -> Vec<Promise> {
        let timeouts = &self.config.timeouts;
        let has_output = self.output.is_waiting();
        let mut promises = Promises(now, Vec::new());
        let longest = timeouts.longest();
        let write = match self.phase {
            Phase::Closing => Some(timeouts.write.map_or(longest, |write| write.min(longest))),
            _ => timeouts.write,
        };
        promises.add("write", has_output, write);
        if self.phase == Phase::Closing {
            return promises.1;
        }
        let is_heard = self.wants_input();
        let is_idle = is_heard && !has_output && self.is_idle(quiet);
        let is_silent = self.role.side() == Side::Server && !self.inbound.is_heard();
        // While the transport is full, no stream is checked for windows. While reading pauses, no
        // grant can arrive.
        let is_full = self.output.is_full();
        let lacks_window = |stream: &Stream| self.waits_for_window(stream);
        let is_blocked = is_heard && !is_full && self.streams.iter().any(lacks_window);
        promises.add("first frame", is_silent, timeouts.first_frame);
        promises.add("frame", has_partial && is_heard, timeouts.frame);
        promises.add("idle", is_idle, timeouts.idle);
        promises.add("blocked", is_blocked, timeouts.blocked);
        promises.add("trickle", is_blocked, timeouts.trickle(timeouts.blocked));
        let is_in_the_way = self.is_held_up(quiet) || self.leaves_no_room(quiet);
        promises.add("unread", is_in_the_way, timeouts.unread);
        let is_unfinished = is_heard && self.streams.iter().any(Stream::is_abandoned);
        promises.add("discard", is_unfinished, timeouts.discard);
        let asks = timeouts.keep_alive.is_some() && is_heard && !has_output;
        let answer = timeouts.keep_alive_reply + MOST_UNDER_WAY;
        promises.add("keep-alive", asks, timeouts.keep_alive.max(Some(answer)));
        promises.add("probe", !is_heard && !has_output, timeouts.probe);
        promises
            .1
            .extend(self.clock.drain_deadline().map(|at| ("drain", at)));
        promises.1
    }

    /// Returns whether neither side has anything to do with a stream.
    fn is_idle(&self, quiet: &Quiet) -> bool {
        let is_released = |id: StreamId| quiet.released.contains(&id);
        self.streams.is_empty() && self.streams.cancelled().all(is_released)
    }

    fn waits_for_window(&self, stream: &Stream) -> bool {
        let has_data = matches!(stream.next(), Some(Next::Data(_)));
        let is_next = has_data && !stream.has_opening();
        is_next && self.lacks_window(stream)
    }

    /// Returns whether a part of a frame has arrived.
    pub(crate) fn is_mid_frame(&self) -> bool {
        self.inbound.is_mid_frame()
    }
}

struct Promises(Instant, Vec<Promise>);

impl Promises {
    fn add(&mut self, name: &'static str, is_due: bool, timeout: Option<Duration>) {
        let latest = timeout.and_then(|timeout| self.0.checked_add(timeout));
        self.1
            .extend(latest.filter(|_| is_due).map(|at| (name, at)));
    }
}
