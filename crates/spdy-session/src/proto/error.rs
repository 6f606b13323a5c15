//! A rule that the peer broke, and what it costs.

use spdy_frame::{GoAwayStatus, HeaderError, RstStatus, StreamId};

use crate::Rule;

/// A broken rule. This type alone decides between RST_STREAM and GOAWAY (protocol.md §12.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Ends the stream.
    Stream {
        id: StreamId,
        status: RstStatus,
        rule: Rule,
    },
    /// Ends the session.
    Session { status: GoAwayStatus, rule: Rule },
}

impl Violation {
    pub(crate) const fn stream(id: StreamId, status: RstStatus, rule: Rule) -> Self {
        Self::Stream { id, status, rule }
    }

    pub(crate) const fn session(rule: Rule) -> Self {
        Self::Session {
            status: GoAwayStatus::PROTOCOL_ERROR,
            rule,
        }
    }

    /// Returns the rule that was broken.
    pub(crate) const fn rule(&self) -> Rule {
        match self {
            Self::Stream { rule, .. } | Self::Session { rule, .. } => *rule,
        }
    }
}

/// Returns the violation of a stream whose header block cannot be read.
pub(crate) fn broken_block(id: StreamId, error: &HeaderError) -> Violation {
    let rule = match error {
        HeaderError::UnexpectedEnd => Rule::HeadersEndEarly,
        HeaderError::TrailingBytes => Rule::HeadersTrailingBytes,
        HeaderError::EmptyName => Rule::EmptyName,
        HeaderError::InvalidName => Rule::InvalidName,
        HeaderError::DuplicateName => Rule::DuplicateName,
        HeaderError::InvalidValue => Rule::InvalidValue,
        HeaderError::EmptyValue => Rule::EmptyValue,
        _ => Rule::MalformedHeaders,
    };
    Violation::stream(id, RstStatus::PROTOCOL_ERROR, rule)
}
