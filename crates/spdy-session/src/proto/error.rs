//! How the peer broke a rule, and what that costs.

use spdy_frame::{GoAwayStatus, RstStatus, StreamId};

/// A broken rule. Nothing else decides between RST_STREAM and GOAWAY (protocol.md §12.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Costs the stream.
    Stream {
        id: StreamId,
        status: RstStatus,
        reason: &'static str,
    },
    /// Costs the session.
    Session {
        status: GoAwayStatus,
        reason: &'static str,
    },
}

impl Violation {
    pub(crate) const fn stream(id: StreamId, status: RstStatus, reason: &'static str) -> Self {
        Self::Stream { id, status, reason }
    }

    pub(crate) const fn session(reason: &'static str) -> Self {
        Self::Session {
            status: GoAwayStatus::PROTOCOL_ERROR,
            reason,
        }
    }
}
