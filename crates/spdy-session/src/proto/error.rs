//! How the peer broke a rule, and what that costs.

use spdy_frame::{GoAwayStatus, RstStatus, StreamId};

use crate::Limit;

/// A broken rule. Nothing else decides between RST_STREAM and GOAWAY (protocol.md §12.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Costs the stream.
    Stream {
        id: StreamId,
        status: RstStatus,
        reason: &'static str,
        /// The bound that was reached, if it is one.
        limit: Option<Limit>,
    },
    /// Costs the session.
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

    /// The same, with the bound that the peer went beyond.
    pub(crate) const fn beyond(mut self, bound: Limit) -> Self {
        match &mut self {
            Self::Stream { limit, .. } | Self::Session { limit, .. } => *limit = Some(bound),
        }
        self
    }

    /// The bound that was reached.
    pub(crate) const fn limit(&self) -> Option<Limit> {
        match self {
            Self::Stream { limit, .. } | Self::Session { limit, .. } => *limit,
        }
    }
}
