//! Status codes: the reason for which a stream is reset or a session ends.

use std::fmt;

/// The status code of RST_STREAM ([protocol.md §5.3]). Unknown codes are kept.
///
/// [protocol.md §5.3]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#53-rst_stream-type-3
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RstStatus(pub u32);

impl RstStatus {
    /// The peer broke a rule that has no status of its own.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// A frame came for a stream that is not active.
    pub const INVALID_STREAM: Self = Self(2);
    /// The stream was refused before any processing: the initiator can safely retry.
    pub const REFUSED_STREAM: Self = Self(3);
    /// The version of the frame that opened the stream is not supported.
    pub const UNSUPPORTED_VERSION: Self = Self(4);
    /// The sender no longer wants the stream.
    pub const CANCEL: Self = Self(5);
    /// The sender of the reset failed. The peer is not at fault.
    pub const INTERNAL_ERROR: Self = Self(6);
    /// The peer broke the rules of flow control.
    pub const FLOW_CONTROL_ERROR: Self = Self(7);
    /// A second SYN_REPLY came (SPDY/3 and later).
    pub const STREAM_IN_USE: Self = Self(8);
    /// A frame came on a stream that its sender had finished (SPDY/3 and later).
    pub const STREAM_ALREADY_CLOSED: Self = Self(9);
    /// The client certificate is invalid (SPDY/3 only, never deployed).
    pub const INVALID_CREDENTIALS: Self = Self(10);
    /// A frame was larger than the receiver supports (SPDY/3 and later).
    pub const FRAME_TOO_LARGE: Self = Self(11);

    /// Returns the name in the drafts, or `None` for an unknown code.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::PROTOCOL_ERROR => "PROTOCOL_ERROR",
            Self::INVALID_STREAM => "INVALID_STREAM",
            Self::REFUSED_STREAM => "REFUSED_STREAM",
            Self::UNSUPPORTED_VERSION => "UNSUPPORTED_VERSION",
            Self::CANCEL => "CANCEL",
            Self::INTERNAL_ERROR => "INTERNAL_ERROR",
            Self::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
            Self::STREAM_IN_USE => "STREAM_IN_USE",
            Self::STREAM_ALREADY_CLOSED => "STREAM_ALREADY_CLOSED",
            Self::INVALID_CREDENTIALS => "INVALID_CREDENTIALS",
            Self::FRAME_TOO_LARGE => "FRAME_TOO_LARGE",
            _ => return None,
        })
    }
}

/// The status code of GOAWAY in SPDY/3 and SPDY/3.1 ([protocol.md §5.7]). Unknown codes are kept.
///
/// SPDY/2 does not send a status. Its GOAWAY is read as [`GoAwayStatus::OK`].
///
/// [protocol.md §5.7]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#57-goaway-type-7
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct GoAwayStatus(pub u32);

impl GoAwayStatus {
    /// The session ends normally.
    pub const OK: Self = Self(0);
    /// The peer broke a rule.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// The sender of the GOAWAY failed.
    pub const INTERNAL_ERROR: Self = Self(2);

    /// Returns the name in the drafts, or `None` for an unknown code.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::OK => "OK",
            Self::PROTOCOL_ERROR => "PROTOCOL_ERROR",
            // An early SPDY/3 text has 11 here (protocol.md §21, A2). It is read and never written.
            Self::INTERNAL_ERROR | Self(11) => "INTERNAL_ERROR",
            _ => return None,
        })
    }
}

macro_rules! show {
    ($status:ident) => {
        impl fmt::Display for $status {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, "status {}", self.0),
                }
            }
        }

        impl fmt::Debug for $status {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($status))
            }
        }
    };
}

show!(RstStatus);
show!(GoAwayStatus);

#[cfg(test)]
mod tests {
    use super::*;

    /// A table that left INTERNAL_ERROR out made all codes after it one too low (X1).
    #[test]
    fn x1_codes_are_those_of_the_drafts() {
        assert_eq!(RstStatus::CANCEL.0, 5);
        assert_eq!(RstStatus::INTERNAL_ERROR.0, 6);
        assert_eq!(RstStatus::FLOW_CONTROL_ERROR.0, 7);
        assert_eq!(RstStatus::STREAM_IN_USE.0, 8);
        assert_eq!(RstStatus::STREAM_ALREADY_CLOSED.0, 9);
        assert_eq!(RstStatus::FRAME_TOO_LARGE.0, 11);
    }

    #[test]
    fn unknown_codes_keep_their_number() {
        assert_eq!(RstStatus(99).to_string(), "status 99");
        assert_eq!(GoAwayStatus(11).to_string(), "INTERNAL_ERROR");
    }
}
