//! Header blocks that come: inflated whatever becomes of their stream, and judged after its state.

use spdy_frame::{
    CompressedBlock, GoAwayStatus, HeaderBlock, HeaderError, RstStatus, StreamId, Version,
};

use super::{Connection, Phase, streams::unfit_violation};
use crate::{
    Limit, SessionError,
    proto::{
        error::Violation,
        state::RecvInput,
        stream::{ById, Stream},
    },
};

impl Connection {
    /// Inflates a block. The outer error ends the session, the inner one only the stream.
    pub(super) fn inflate(
        &mut self,
        id: StreamId,
        block: CompressedBlock,
    ) -> Result<Result<HeaderBlock, HeaderError>, Violation> {
        match self.inflater.decode(block) {
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

    /// Judges the size of a block that an open stream received, and gives what it counts.
    pub(super) fn check_held(
        &self,
        id: StreamId,
        headers: &HeaderBlock,
    ) -> Result<usize, Violation> {
        let size = held_size(headers);
        if headers.is_truncated() {
            return Err(self.role.oversized(id).beyond(Limit::Headers));
        }
        if !self.may_hold(size) {
            return Err(self.role.oversized(id).beyond(Limit::HeldHeaders));
        }
        Ok(size)
    }

    /// Whether there is room for a header block that counts so much.
    pub(super) fn may_hold(&self, size: usize) -> bool {
        self.held_headers + self.unread_headers.sum + size <= self.config.limits.held_headers
    }

    /// Gives back what header blocks of [`Event::Headers`](crate::proto::Event::Headers) count that the application is
    /// done with, by their [`held_size`]. The block that opens a stream, and that of its reply, count as long as the
    /// stream is open, whatever becomes of them; the one that opened a stream of the peer also until
    /// [`release`](Self::release), as do blocks that are not named.
    pub fn consume_headers(&mut self, id: StreamId, octets: usize) {
        match self.streams.get_mut(&id) {
            Some(stream) => {
                let octets = octets.min(stream.unread_headers);
                stream.unread_headers -= octets;
                self.held_headers -= octets;
            }
            None => self.unread_headers.take(id, octets),
        }
    }

    /// A stream is closed. Blocks that its application has not taken are held all the same, until its handles are
    /// dropped: else one stream after the other could leave some. So is the block that opened a stream of the peer, which
    /// waits to be accepted or is what the application works by; streams of ours are as many as it wants.
    pub(super) fn close_headers(&mut self, stream: &Stream) {
        self.held_headers -= stream.header_octets + stream.unread_headers;
        if stream.released || self.phase == Phase::Closing {
            return;
        }
        let opening = match stream.id.initiator() {
            side if side == self.role.side() => 0,
            _ => stream.header_octets,
        };
        self.unread_headers
            .add(stream.id, opening + stream.unread_headers);
    }
}

/// What header blocks count of streams that are closed and whose handles exist: those that were not taken, and those that
/// opened streams of the peer.
#[derive(Debug, Default)]
pub(super) struct Unread {
    streams: ById<usize>,
    pub(super) sum: usize,
}

impl Unread {
    fn add(&mut self, id: StreamId, octets: usize) {
        if octets > 0 {
            self.streams.insert(id, octets);
            self.sum += octets;
        }
    }

    fn take(&mut self, id: StreamId, octets: usize) {
        if let Some(unread) = self.streams.get_mut(&id) {
            let octets = octets.min(*unread);
            *unread -= octets;
            self.sum -= octets;
            if *unread == 0 {
                self.streams.remove(&id);
            }
        }
    }

    /// The handles of a stream are dropped, and with them all blocks.
    pub(super) fn release(&mut self, id: StreamId) {
        self.sum -= self.streams.remove(&id).unwrap_or(0);
    }
}

/// Moves the receiving half on and judges the block.
pub(super) fn settle_headers(
    stream: &mut Stream,
    version: Version,
    input: RecvInput,
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
        HeaderError::UnexpectedEnd => "header block ends before its last value",
        HeaderError::TrailingBytes => "header block has bytes after its last value",
        HeaderError::EmptyName => "header name is empty",
        HeaderError::InvalidName => "header name contains an upper-case letter, NUL, CR or LF",
        HeaderError::DuplicateName => "header name occurs twice in a block",
        HeaderError::InvalidValue => "header value contains CR, LF or a misplaced NUL",
        HeaderError::EmptyValue => "header value is empty",
        _ => "header block is malformed",
    };
    Violation::stream(id, RstStatus::PROTOCOL_ERROR, reason)
}

/// Returns what a header block that follows the first one of its stream counts for
/// [`Limits::held_headers`](crate::Limits::held_headers).
#[must_use]
pub fn held_size(headers: &HeaderBlock) -> usize {
    headers.size() + BLOCK_OVERHEAD
}

/// What a block that follows the first one of its stream counts besides its fields, in octets: with one field it
/// takes about as much to keep.
const BLOCK_OVERHEAD: usize = 224;
