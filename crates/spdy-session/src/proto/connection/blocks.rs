//! Header blocks that come: inflated whatever becomes of their stream, and judged after its state.

use spdy_frame::{
    CompressedBlock, GoAwayStatus, HeaderBlock, HeaderError, RstStatus, StreamId, Version,
};

use super::{Connection, streams::unfit_violation};
use crate::{
    Limit, SessionError,
    proto::{error::Violation, state::Input, stream::Stream},
};

impl Connection {
    /// Inflates a block. The outer error ends the session, the inner one only the stream.
    pub(super) fn inflate(
        &mut self,
        id: StreamId,
        block: CompressedBlock,
    ) -> Result<Result<HeaderBlock, HeaderError>, Violation> {
        match self.inflater.decode(block) {
            Err(error) if error.context_lost() => {
                if matches!(error, HeaderError::Bomb { .. }) {
                    self.reached(Limit::HeadersMaxInflated);
                    if self.version != Version::V2 {
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

    /// Counts a block that an open stream received.
    pub(super) fn take_headers(
        &mut self,
        id: StreamId,
        headers: &HeaderBlock,
    ) -> Result<(), Violation> {
        let size = headers.size() + BLOCK_OVERHEAD;
        if headers.is_truncated() {
            return Err(self.oversized(id).beyond(Limit::Headers));
        }
        if self.held_headers + size > self.config.limits.held_headers {
            return Err(self.oversized(id).beyond(Limit::HeldHeaders));
        }
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.header_octets += size;
            self.held_headers += size;
        }
        Ok(())
    }

    pub(super) fn oversized(&self, id: StreamId) -> Violation {
        let status = self.status_in_version(RstStatus::FRAME_TOO_LARGE);
        Violation::stream(id, status, "header block exceeds a soft limit")
    }
}

/// Moves the receiving half on and judges the block.
pub(super) fn settle_headers(
    stream: &mut Stream,
    version: Version,
    input: Input,
    fin: bool,
    headers: Result<HeaderBlock, HeaderError>,
) -> Result<HeaderBlock, Violation> {
    let id = stream.id;
    let next = stream
        .recv
        .on(version, input, fin)
        .map_err(|unfit| unfit_violation(id, unfit))?;
    let headers = headers.map_err(|error| broken_block(id, &error))?;
    stream.recv = next;
    Ok(headers)
}

pub(super) fn broken_block(id: StreamId, error: &HeaderError) -> Violation {
    let reason = match error {
        HeaderError::Truncated => "header block ends before its last pair",
        HeaderError::TrailingOctets => "octets follow the last pair of a header block",
        HeaderError::EmptyName => "header name is empty",
        HeaderError::InvalidName => "header name has an upper-case letter, NUL, CR or LF",
        HeaderError::DuplicateName => "header name occurs twice in a block",
        HeaderError::InvalidValue => "header value has a misplaced NUL, a CR or a LF",
        HeaderError::EmptyValue => "header value is empty",
        _ => "header block is malformed",
    };
    Violation::stream(id, RstStatus::PROTOCOL_ERROR, reason)
}

/// What a block that follows the first one of its stream counts besides its fields, in octets: with one field it
/// takes about as much to keep.
const BLOCK_OVERHEAD: usize = 224;
