//! How streams and sessions end, for every cause (protocol.md §12.1, §12.2, §15).
//!
//! Each stream ends in [`Connection::end_stream`], or with all others in [`Connection::end`].

use std::time::{Duration, Instant};

use spdy_frame::{GoAwayStatus, RstStatus, Side, StreamId};

use super::{Connection, Phase};
use crate::{
    Count, Limit, SessionError, StreamError,
    error::Initiator,
    proto::{
        error::Violation,
        event::Event,
        guard::Charge,
        streams::{Ended, Ending, Stream},
        transmit::Outbound,
    },
};

impl Connection {
    pub(super) fn on_violation(&mut self, now: Instant, violation: Violation) {
        if let Some(limit) = violation.rule().limit() {
            self.reached(limit);
        }
        match violation {
            Violation::Session { status, rule } => {
                self.fail(status, SessionError::Violation { status, rule });
            }
            Violation::Stream { id, status, rule } => {
                let initiator = Initiator::Library { rule };
                let error = StreamError::Reset { status, initiator };
                self.end_stream(id, Ending::reset(status, error));
                self.charge_reset(now);
            }
        }
    }

    /// Counts a limit that ends something.
    pub(super) fn reached(&mut self, limit: Limit) {
        self.tally.one(Count::Limit(limit));
    }

    /// Charges the peer for a RST_STREAM that it caused.
    pub(super) fn charge_reset(&mut self, now: Instant) {
        if self.phase == Phase::Closing {
            return;
        }
        if let Err(violation) = self
            .guard
            .charge(Charge::LocalReset, &self.config.limits, now)
        {
            self.on_violation(now, violation);
        }
    }

    // --- streams ---------------------------------------------------------------------------------

    /// Ends a stream. If it is gone already, RST_STREAM is still sent.
    pub(super) fn end_stream(&mut self, id: StreamId, ending: Ending) {
        let ended = self.streams.end(id, &ending);
        // A stream of this side whose SYN_STREAM has not left does not exist for the peer.
        let is_known = match &ended {
            Some(Ended(stream)) => !stream.has_opening() || !self.role.is_local(id),
            None => true,
        };
        if let Some(status) = ending.peer.filter(|_| is_known) {
            self.tell_reset(id, status);
        }
        if let Some(ended) = ended {
            self.settle(ended, ending.app);
        }
    }

    /// Takes an ended stream out of all queues, and reports the error to the application if there
    /// is one.
    fn settle(&mut self, Ended(stream): Ended, error: Option<StreamError>) {
        let id = stream.id();
        self.output.forget(&stream);
        self.waits.forget(&stream);
        let Some(error) = error else {
            return;
        };
        tracing::debug!(target: "spdy", side = %self.role.side(), stream = %id, %error, "stream ends");
        if stream.is_sent() {
            // The reset is the last event of the stream, even if its FIN leaves later.
            self.output.forget_fin(id);
        }
        self.events.push_back(Event::Reset { id, error });
    }

    /// Ends a stream that the peer can no longer complete, because it has closed its side of the
    /// transport.
    pub(super) fn lose_stream(&mut self, id: StreamId) {
        self.note_loss();
        let error = StreamError::Session(SessionError::ConnectionLost);
        self.end_stream(id, Ending::failed(error));
    }

    /// Counts the frames that the transport has taken since the last call, and reports streams
    /// whose FIN has left. Returns whether any of these frames belonged to a stream.
    pub(super) fn note_sent(&mut self) -> bool {
        let mut is_of_stream = false;
        while let Some(mut frame) = self.output.pop_sent() {
            self.tally.one(Count::FramesSent(frame.kind()));
            match frame {
                Outbound::Reset(status) => self.tally.one(Count::ResetsSent(status)),
                Outbound::Ping(id) => self.pings.left(id),
                Outbound::GoAway(status) => self.tally.one(Count::GoAwaysSent(status)),
                _ => {}
            }
            is_of_stream |= frame.stream().is_some();
            if let Some(id) = frame.take_fin() {
                self.held.take_end();
                self.events.push_back(Event::Sent {
                    id,
                    bytes: 0,
                    fin: true,
                    window: 0,
                });
            }
        }
        is_of_stream
    }

    /// Queues RST_STREAM, and takes back the frames of the stream that have not begun to leave.
    pub(super) fn tell_reset(&mut self, id: StreamId, status: RstStatus) {
        self.take_back(id);
        self.output.reset(id, status);
        self.streams.remember_reset(id);
    }

    /// Resets a stream that has ended here but whose FIN has not begun to leave: the rest is taken
    /// back, so the peer does not see the end. Returns whether there was such a stream.
    pub(super) fn drop_ready(&mut self, id: StreamId, error: StreamError) -> bool {
        let is_closed = !self.streams.contains(id) && self.output.has_fin(id);
        let is_ready = is_closed && self.take_back(id);
        if is_ready {
            self.events.push_back(Event::Reset { id, error });
        }
        is_ready
    }

    /// Takes back the frames of an ended stream that have not begun to leave, and returns their
    /// bytes to the window of the session. Returns whether there were any.
    pub(super) fn take_back(&mut self, id: StreamId) -> bool {
        let Some(bytes) = self.output.take_back(id) else {
            return false;
        };
        self.windows.give_back(bytes);
        true
    }

    // --- the session -----------------------------------------------------------------------------

    pub(super) fn shutdown_gracefully(&mut self, now: Instant, deadline: Option<Duration>) {
        if self.phase == Phase::Closing {
            return;
        }
        if let Some(deadline) = deadline.and_then(|deadline| now.checked_add(deadline)) {
            self.clock.drain_by(deadline);
        }
        self.phase = Phase::Draining;
        // Peers without flow control stop reading at GOAWAY, so they get it when all streams have
        // ended.
        if self.role.enforces_windows() {
            self.send_go_away();
        }
    }

    /// Ends the session with GOAWAY (protocol.md §12.1). All streams fail with `error`.
    pub(super) fn fail(&mut self, status: GoAwayStatus, error: SessionError) {
        if self.phase == Phase::Closing {
            return;
        }
        tracing::debug!(target: "spdy", side = %self.role.side(), %status, %error, "session fails");
        let last_good = self.go_away.send_error(self.streams.highest_remote());
        self.output.go_away(last_good, status);
        self.end(error);
    }

    /// Ends the session at once. Only control frames that are already queued still go out.
    pub(super) fn end(&mut self, error: SessionError) {
        self.phase = Phase::Closing;
        self.clock.cut();
        self.output.stop();
        self.waits.stop();
        for ended in self.streams.end_all() {
            self.settle(ended, Some(StreamError::Session(error.clone())));
        }
        self.drop_unwritten(&error);
        self.outcome = Err(error);
    }

    /// Handles a transport that takes no more bytes.
    ///
    /// To a server this is the end of the session. A client may find responses in the transport
    /// that the server sent before it closed the connection: pass them to
    /// [`handle_input`](Self::handle_input), and then call [`handle_eof`](Self::handle_eof) or
    /// [`handle_transport_error`](Self::handle_transport_error). Meanwhile no stream is opened or
    /// accepted, [`poll_transmit`](Self::poll_transmit) returns no bytes, and nothing counts as
    /// sent.
    pub fn handle_write_error(&mut self, error: SessionError) {
        // The clients of a server that can send nothing get no responses.
        let is_server = self.role.side() == Side::Server;
        if is_server || self.phase == Phase::Closing {
            return self.handle_transport_error(error);
        }
        if self.output.is_broken() {
            return;
        }
        self.note_sent();
        // The server does not know these.
        let unopened = self.streams.iter().filter(|stream| stream.has_opening());
        for id in unopened.map(Stream::id).collect::<Vec<_>>() {
            let error = StreamError::Session(error.clone());
            self.end_stream(id, Ending::failed(error));
        }
        // The others can still receive. If they do, their FIN is never reported.
        for id in self.output.take_fins() {
            if !self.streams.contains(id) {
                let error = StreamError::Session(error.clone());
                self.events.push_back(Event::Reset { id, error });
            }
        }
        self.output.break_off(error.clone());
        self.phase = Phase::Draining;
        self.go_away.skip();
        if self.outcome.is_ok() {
            self.outcome = Err(error);
        }
        self.close_when_received();
    }

    /// Ends a session that can send nothing and has nothing more to receive.
    pub(super) fn close_when_received(&mut self) {
        if self.phase != Phase::Closing && !self.may_receive() {
            self.fail_broken();
        }
    }

    /// Ends a session whose transport takes no more bytes.
    pub(super) fn fail_broken(&mut self) {
        if let Some(error) = self.output.broken().cloned() {
            self.handle_transport_error(error);
        }
    }

    /// Returns whether the peer may have finished a stream before it closed the transport.
    fn may_receive(&self) -> bool {
        !self.inbound.is_ended() && self.streams.iter().any(|stream| !stream.is_received())
    }

    /// Handles a failed transport: the session and all its streams end at once.
    pub fn handle_transport_error(&mut self, error: SessionError) {
        if self.phase != Phase::Closing {
            self.end(error.clone());
        } else {
            let is_lost = self.drop_unwritten(&error) || self.held.has_end();
            if is_lost && self.outcome.is_ok() {
                self.outcome = Err(error.clone());
            }
        }
        self.output.break_off(error);
        self.waits.stop();
    }

    /// Reports the error to streams whose FIN has not left, because their last bytes might never
    /// arrive. Returns whether there were any.
    pub(super) fn drop_unwritten(&mut self, error: &SessionError) -> bool {
        self.note_sent();
        let unwritten = self.output.take_fins();
        for &id in &unwritten {
            let error = StreamError::Session(error.clone());
            self.events.push_back(Event::Reset { id, error });
        }
        !unwritten.is_empty()
    }

    /// Sets the outcome to a lost connection, unless an earlier cause is set.
    pub(super) fn note_loss(&mut self) {
        if self.outcome.is_ok() {
            self.outcome = Err(SessionError::ConnectionLost);
        }
    }

    /// Starts closing if no stream is left on a connection that accepts no new ones.
    pub(super) fn close_when_done(&mut self) {
        let ending = self.phase == Phase::Draining || self.go_away.is_received();
        if !ending || self.phase == Phase::Closing || !self.streams.is_empty() {
            return;
        }
        self.send_go_away();
        self.phase = Phase::Closing;
    }

    /// Sends GOAWAY for an orderly end, unless one was sent.
    pub(super) fn send_go_away(&mut self) {
        if let Some(last_good) = self.go_away.send() {
            self.output.go_away(last_good, GoAwayStatus::OK);
        }
    }
}
