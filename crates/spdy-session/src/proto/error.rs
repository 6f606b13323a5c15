//! A rule that the peer broke, and what it costs.

use spdy_frame::{GoAwayStatus, HeaderError, RstStatus, StreamId};

use crate::Limit;

/// A broken rule. This type alone decides between RST_STREAM and GOAWAY (protocol.md §12.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Ends the stream.
    Stream {
        id: StreamId,
        status: RstStatus,
        reason: &'static str,
        /// The limit that the peer exceeded, if the rule is a limit.
        limit: Option<Limit>,
    },
    /// Ends the session.
    Session {
        status: GoAwayStatus,
        reason: &'static str,
        limit: Option<Limit>,
    },
}

impl Violation {
    pub(crate) const fn stream(id: StreamId, status: RstStatus, reason: &'static str) -> Self {
        Self::Stream {
            id,
            status,
            reason,
            limit: None,
        }
    }

    pub(crate) const fn session(reason: &'static str) -> Self {
        Self::Session {
            status: GoAwayStatus::PROTOCOL_ERROR,
            reason,
            limit: None,
        }
    }

    /// Returns the same violation with the limit that the peer exceeded.
    pub(crate) const fn beyond(mut self, bound: Limit) -> Self {
        match &mut self {
            Self::Stream { limit, .. } | Self::Session { limit, .. } => *limit = Some(bound),
        }
        self
    }

    /// Returns the limit that the peer exceeded, if the rule is a limit.
    pub(crate) const fn limit(&self) -> Option<Limit> {
        match self {
            Self::Stream { limit, .. } | Self::Session { limit, .. } => *limit,
        }
    }
}

/// Returns the violation of a stream whose header block cannot be read.
pub(crate) fn broken_block(id: StreamId, error: &HeaderError) -> Violation {
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
