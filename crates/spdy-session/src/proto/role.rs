//! The role of a connection, which never changes, and its consequences.

use spdy_frame::{RstStatus, Side, StreamId, Version};

use super::error::Violation;
use crate::{
    Rule,
    config::{Config, FlowControl},
};

/// The side, the version, and which windows are in force.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Role {
    side: Side,
    version: Version,
    enforces_windows: bool,
}

impl Role {
    pub(crate) fn new(side: Side, version: Version, config: &Config) -> Self {
        Self {
            side,
            version,
            enforces_windows: config.flow_control == FlowControl::Enforce,
        }
    }

    #[inline]
    pub(crate) const fn side(self) -> Side {
        self.side
    }

    #[inline]
    pub(crate) const fn version(self) -> Version {
        self.version
    }

    /// Returns whether this side opens the streams with this parity of ids.
    #[inline]
    pub(crate) fn is_local(self, id: StreamId) -> bool {
        id.initiator() == self.side
    }

    #[inline]
    pub(crate) const fn enforces_windows(self) -> bool {
        self.enforces_windows
    }

    #[inline]
    pub(crate) const fn has_stream_windows(self) -> bool {
        self.enforces_windows && self.version.has_stream_windows()
    }

    #[inline]
    pub(crate) const fn has_session_window(self) -> bool {
        self.enforces_windows && self.version.has_session_window()
    }

    /// Returns the status, or PROTOCOL_ERROR if the version does not define it. No version defines
    /// 0, codes above 7 came with SPDY/3, and INVALID_CREDENTIALS was removed in SPDY/3.1.
    pub(crate) fn status_in_version(self, status: RstStatus) -> RstStatus {
        let highest = match self.version {
            Version::V2 => RstStatus::FLOW_CONTROL_ERROR,
            Version::V3 | Version::V3_1 => RstStatus::FRAME_TOO_LARGE,
        };
        let is_retired = self.version == Version::V3_1 && status == RstStatus::INVALID_CREDENTIALS;
        if (1..=highest.0).contains(&status.0) && !is_retired {
            status
        } else {
            RstStatus::PROTOCOL_ERROR
        }
    }

    /// Returns the violation of a stream whose header block is larger than this side accepts by
    /// `rule`.
    pub(crate) fn oversized(self, id: StreamId, rule: Rule) -> Violation {
        let status = self.status_in_version(RstStatus::FRAME_TOO_LARGE);
        Violation::stream(id, status, rule)
    }
}
