//! Work that several handlers share.

use std::time::Instant;

use spdy_frame::{
    CompressedBlock, GoAwayStatus, HeaderBlock, HeaderError, RstStatus, StreamId, Version,
};

use super::{Connection, Handled};
use crate::{
    Limit, Rule, SessionError, StreamError,
    error::Initiator,
    proto::{error::Violation, streams::Ending},
};

impl Connection {
    /// Inflates a block. The outer error ends the session, the inner one only the stream.
    pub(super) fn inflate(
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
                // The session has ended, so the caller has nothing left to check.
                Err(Violation::session(Rule::ContextLost))
            }
            result => Ok(result),
        }
    }

    /// Returns whether a stream is ignored because the peer opened it after our GOAWAY (protocol.md
    /// §15).
    pub(super) fn is_beyond_our_go_away(&self, id: StreamId) -> bool {
        self.go_away.is_sent() && self.streams.is_new_remote(id)
    }

    /// Handles a frame with a header block for a stream that is not open. It is answered at most
    /// once. It is charged each time, because its block had to be inflated.
    pub(super) fn on_stray(&mut self, now: Instant, id: StreamId, rule: Rule) -> Handled {
        if self.is_answered(id) {
            self.charge_reset(now);
            return Ok(());
        }
        Err(Violation::stream(id, RstStatus::INVALID_STREAM, rule))
    }

    /// Returns whether the peer already knows that a stream is not open, from our RST_STREAM or our
    /// GOAWAY. Peers without flow control get no second answer, because they keep sending on
    /// streams that were reset.
    pub(super) fn is_answered(&self, id: StreamId) -> bool {
        self.is_beyond_our_go_away(id)
            || self.streams.was_reset_lately(id)
            || !self.role.enforces_windows()
    }

    /// Counts bytes that are dropped: payload, or the size of header blocks.
    pub(super) fn count_discarded(&mut self, id: StreamId, bytes: usize, fin: bool) {
        let stream = self.streams.get(id);
        let is_too_much = stream.is_some_and(|mut stream| !stream.discard(bytes));
        if is_too_much && !fin {
            self.reached(Limit::Discard);
            let (status, initiator) = (RstStatus::CANCEL, Initiator::Local);
            let error = StreamError::Reset { status, initiator };
            self.end_stream(id, Ending::reset(status, error));
        }
    }
}
