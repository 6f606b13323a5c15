//! How streams and sessions end, whatever the cause (protocol.md §12.1, §12.2, §15).

use std::time::Instant;

use spdy_frame::{FrameError, GoAwayStatus, RstStatus, StreamId, Version, WindowTarget};

use super::{Connection, Phase, RESET_LATELY};
use crate::{
    Count, Limit, SessionError, StreamError,
    error::Origin,
    proto::{error::Violation, event::Event, guard::Charge, state::SendHalf, stream::Stream},
};

impl Connection {
    pub(super) fn on_violation(&mut self, now: Instant, violation: Violation) {
        if let Some(limit) = violation.limit() {
            self.reached(limit);
        }
        match violation {
            Violation::Session { status, reason, .. } => {
                self.fail(status, SessionError::Violation { status, reason });
            }
            Violation::Stream {
                id, status, reason, ..
            } => {
                let origin = Origin::Library { reason };
                self.reset_with(id, status, StreamError::Reset { status, origin });
                self.charge_reset(now);
            }
        }
    }

    /// Counts a bound that ends something.
    pub(super) fn reached(&mut self, limit: Limit) {
        self.tally.one(Count::Limit(limit));
    }

    /// Charges a RST_STREAM that the peer caused.
    pub(super) fn charge_reset(&mut self, now: Instant) {
        if self.phase == Phase::Closing {
            return;
        }
        if let Err(violation) = self.guard.charge(Charge::LocalReset, now) {
            self.on_violation(now, violation);
        }
    }

    /// Ends the session with GOAWAY (protocol.md §12.1). All streams fail with `error`.
    pub(super) fn fail(&mut self, status: GoAwayStatus, error: SessionError) {
        if self.phase == Phase::Closing {
            return;
        }
        tracing::debug!(target: "spdy", side = %self.role.side(), %status, %error, "session fails");
        self.output.go_away(self.last_good_for_error(), status);
        self.end(error);
    }

    /// Ends the session: nothing but control frames already queued goes out.
    pub(super) fn end(&mut self, error: SessionError) {
        self.phase = Phase::Closing;
        self.clock.cut = true;
        self.output.stop();
        let open: Vec<StreamId> = self.streams.keys().copied().collect();
        for id in open {
            self.drop_stream(id, StreamError::Session(error.clone()));
        }
        self.drop_unwritten(&error);
        self.outcome = Err(error);
    }

    /// Tells the owners of streams whose last octets are not written that these may never arrive. Gives whether
    /// there were any.
    pub(super) fn drop_unwritten(&mut self, error: &SessionError) -> bool {
        self.note_sent();
        let unwritten = self.output.transmit.take_fins();
        for &id in &unwritten {
            let error = StreamError::Session(error.clone());
            self.events.push_back(Event::Reset { id, error });
        }
        !unwritten.is_empty()
    }

    /// The peer has closed its side of the transport and a stream is not complete.
    pub(super) fn lose_stream(&mut self, id: StreamId) {
        self.note_loss();
        self.drop_stream(id, StreamError::Session(SessionError::ConnectionLost));
    }

    /// The first cause of the end is kept.
    pub(super) fn note_loss(&mut self) {
        if self.outcome.is_ok() {
            self.outcome = Err(SessionError::ConnectionLost);
        }
    }

    /// Starts closing once nothing is left to do on a connection that takes no new streams.
    pub(super) fn close_when_done(&mut self) {
        let ending = self.phase == Phase::Draining || self.peer.going_away;
        if !ending || self.phase == Phase::Closing || !self.streams.is_empty() {
            return;
        }
        if !self.output.go_away_sent {
            self.output.go_away(self.last_good, GoAwayStatus::OK);
        }
        self.phase = Phase::Closing;
    }

    // --- streams, however they end ----------------------------------------------------------------------

    /// Resets a stream, which need not exist any more, and tells the application if it did.
    pub(super) fn reset_with(&mut self, id: StreamId, status: RstStatus, error: StreamError) {
        let told = match self.streams.get(&id) {
            // Our SYN_STREAM has not left: for the peer the stream never was.
            Some(stream) => stream.opening.is_none() || !self.role.is_local(id),
            None => true,
        };
        if told {
            self.tell_reset(id, status);
        }
        self.drop_stream(id, error);
    }

    /// Forgets a stream before its end and tells the application why.
    pub(super) fn drop_stream(&mut self, id: StreamId, error: StreamError) {
        let Some(stream) = self.forget(id) else {
            return;
        };
        tracing::debug!(target: "spdy", side = %self.role.side(), stream = %id, %error, "stream ends");
        if stream.send == SendHalf::Finished {
            // Nothing more is told of it, also when its FIN gets out.
            self.output.transmit.forget_fin(id);
        }
        if is_of_peer(&error) {
            self.count_until_released(&stream);
        }
        self.events.push_back(Event::Reset { id, error });
    }

    /// What the application does for a stream of the peer goes on until it has noticed that the stream is gone, so
    /// the stream keeps its place until then: else a peer that makes streams fail has more than its share.
    pub(super) fn count_until_released(&mut self, stream: &Stream) {
        let is_counted = !self.role.is_local(stream.id) && !stream.released;
        if is_counted && self.cancelled.len() < self.config.limits.max_streams as usize {
            self.cancelled.insert(stream.id);
        }
    }

    /// Takes a stream out of all books.
    pub(super) fn forget(&mut self, id: StreamId) -> Option<Box<Stream>> {
        let stream = self.streams.remove(&id)?;
        if self.role.is_local(id) {
            self.local_open -= 1;
        } else {
            self.remote_open -= 1;
            self.backlog -= usize::from(!stream.accepted);
        }
        self.close_headers(&stream);
        self.overfull -= usize::from(self.is_full(&stream.recv_window));
        self.note_untaken(id, stream.recv_window.held());
        self.output.unlist(&stream);
        self.abandoned.forget(&stream);
        self.grants_awaited.remove(&id);
        Some(stream)
    }

    /// Forgets a stream if both its halves are finished.
    pub(super) fn forget_if_closed(&mut self, id: StreamId) {
        let stream = self.streams.get(&id);
        if !stream.is_some_and(|stream| stream.is_closed()) {
            return;
        }
        if let Some(stream) = self.forget(id).filter(|stream| !stream.accepted) {
            // Else the backlog would not bound streams that close before anybody has looked at them.
            self.count_until_released(&stream);
        }
    }

    pub(super) fn remember_reset(&mut self, id: StreamId) {
        if self.reset_lately.len() == RESET_LATELY {
            self.reset_lately.pop_front();
        }
        self.reset_lately.push_back(id);
    }

    /// The last-good id of a GOAWAY with an error: the stream last received (protocol.md §12.1), but nothing above
    /// an earlier GOAWAY (§15).
    pub(super) fn last_good_for_error(&self) -> Option<StreamId> {
        if self.output.go_away_sent {
            self.last_good
        } else {
            self.highest_remote
        }
    }

    /// Whether RST_STREAM answers a frame that could not be decoded.
    pub(super) fn deserves_reset(&self, error: &FrameError) -> bool {
        match error {
            // SPDY/2 has no FRAME_TOO_LARGE, and the session ends anyway.
            FrameError::TooLarge { .. } => self.role.version() != Version::V2,
            // WINDOW_UPDATE is ignored where the stream is gone, or no window counts (protocol.md §12.3).
            FrameError::ZeroIncrement {
                target: WindowTarget::Stream(id),
            } => self.role.has_stream_windows() && self.streams.contains_key(id),
            _ => true,
        }
    }
}

/// Whether the peer brought the stream to its end, by its will or by its fault. An application that has
/// reset a stream itself knows that it is gone.
fn is_of_peer(error: &StreamError) -> bool {
    match error {
        StreamError::NotProcessed | StreamError::TimedOut(_) => true,
        StreamError::Reset { origin, .. } => *origin != Origin::Local,
        _ => false,
    }
}
