//! What comes of a frame of the peer: one handler for each type.
//!
//! A handler goes through the rules in the order in which the drafts list them, and asks the managers. A broken rule is a
//! [`Violation`], which the handler returns.

mod data;
mod go_away;
mod headers;
mod ping;
mod rst_stream;
mod settings;
mod syn_reply;
mod syn_stream;
mod window_update;

use std::time::Instant;

use spdy_frame::{
    CompressedBlock, Frame, GoAwayStatus, HeaderBlock, HeaderError, RstStatus, StreamId, Version,
};

use super::Connection;
use crate::{
    Count, Limit, SessionError, StreamError,
    error::Origin,
    proto::{error::Violation, guard::Charge, pings::Purpose, streams::Ending},
};

type Handled = Result<(), Violation>;

impl Connection {
    /// Handles a frame.
    pub(super) fn on_frame(&mut self, now: Instant, frame: Frame) -> Handled {
        self.note_frame(now, &frame);
        self.count_received(&frame);
        if self.inbound.note_frame() {
            self.streams.set_most_local(usize::MAX);
        }
        match frame {
            Frame::Data(data) => self.on_data(now, data),
            Frame::SynStream(frame) => self.on_syn_stream(now, frame),
            Frame::SynReply(frame) => self.on_syn_reply(now, frame),
            Frame::RstStream(frame) => self.on_rst_stream(now, frame),
            Frame::Settings(frame) => self.on_settings(now, frame),
            Frame::Ping(frame) => self.on_ping(now, frame),
            Frame::GoAway(frame) => self.on_go_away(now, frame),
            Frame::Headers(frame) => self.on_headers(now, frame),
            Frame::WindowUpdate(frame) => self.on_window_update(now, frame),
            // `Frame` has no other kinds; were there more, skipping them is the rule (protocol.md §5.11).
            Frame::Noop | Frame::Credential(_) | Frame::Unknown(_) => {
                self.guard.charge(Charge::IdleFrame, now)
            }
        }
    }

    /// Notes a frame of the peer. What only answers this side keeps no idle session alive.
    fn note_frame(&mut self, now: Instant, frame: &Frame) {
        let ping = match frame {
            Frame::Ping(ping) => Some(ping.id),
            _ => None,
        };
        let purpose = ping.and_then(|id| self.pings.purpose(id));
        if purpose == Some(Purpose::Path) {
            return;
        }
        self.clock.note_frame();
        if purpose != Some(Purpose::KeepAlive) {
            self.clock.note_use(now);
        }
        self.note_life(now);
    }

    fn count_received(&mut self, frame: &Frame) {
        match frame {
            // The frame counts with its last piece.
            Frame::Data(data) if data.remaining > 0 => return,
            Frame::RstStream(frame) => self.tally.one(Count::ResetsReceived(frame.status)),
            Frame::GoAway(frame) => self.tally.one(Count::GoAwaysReceived(frame.status)),
            _ => {}
        }
        self.tally.one(Count::FramesReceived(frame.kind()));
    }

    /// Inflates a block. The outer error ends the session, the inner one only the stream.
    fn inflate(
        &mut self,
        id: StreamId,
        block: CompressedBlock,
    ) -> Result<Result<HeaderBlock, HeaderError>, Violation> {
        match self.inbound.inflate(block) {
            Err(error) if error.is_context_lost() => {
                if matches!(error, HeaderError::Bomb { .. }) {
                    self.reached(Limit::HeadersMaxInflated);
                    if self.role.version() != Version::V2 {
                        self.output.reset(id, RstStatus::FRAME_TOO_LARGE);
                    }
                }
                self.fail(GoAwayStatus::PROTOCOL_ERROR, SessionError::Headers(error));
                // The session is over: the caller has nothing more to judge.
                Err(Violation::session(
                    "header block lost the compression context",
                ))
            }
            result => Ok(result),
        }
    }

    /// After our GOAWAY new streams of the peer are ignored (protocol.md §15).
    fn is_beyond_our_go_away(&self, id: StreamId) -> bool {
        self.go_away.is_sent() && self.streams.is_new_remote(id)
    }

    /// A frame with a header block for a stream that is not open. It is answered at most once, and charged each
    /// time: its block had to be inflated.
    fn on_stray(&mut self, now: Instant, id: StreamId, reason: &'static str) -> Handled {
        if self.is_answered(id) {
            self.charge_reset(now);
            return Ok(());
        }
        Err(Violation::stream(id, RstStatus::INVALID_STREAM, reason))
    }

    /// Whether the peer knows already that a stream is not open, by our RST_STREAM or our GOAWAY. Peers without flow
    /// control go on sending on streams that we reset.
    fn is_answered(&self, id: StreamId) -> bool {
        self.is_beyond_our_go_away(id)
            || self.streams.was_reset_lately(id)
            || !self.role.enforces_windows()
    }

    /// Counts octets that are dropped, payload or what header blocks count.
    fn count_discarded(&mut self, id: StreamId, octets: usize, fin: bool) {
        let stream = self.streams.get(id);
        let is_too_much = stream.is_some_and(|mut stream| !stream.discard(octets));
        if is_too_much && !fin {
            self.reached(Limit::Discard);
            let (status, origin) = (RstStatus::CANCEL, Origin::Local);
            let error = StreamError::Reset { status, origin };
            self.end_stream(id, Ending::reset(status, error));
        }
    }
}
