//! What can be wrong with frames and header blocks, and what it costs.

use std::fmt;

use crate::{FrameKind, GoAwayStatus, RstStatus, StreamId, Version, WindowTarget};

/// A frame that cannot be accepted.
///
/// [`reset`](Self::reset) and [`go_away`](Self::go_away) say what the peer has to be told. While `go_away` is
/// `None` the frame has been skipped and decoding may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// A control frame of another protocol version (protocol.md §4.4).
    Version {
        /// The version field of the frame.
        found: u16,
        /// The version of the session.
        expected: Version,
        /// The stream, if the frame is a SYN_STREAM and its id could be read.
        syn_stream: Option<StreamId>,
    },
    /// A control frame is longer than [`DecodeLimits`](crate::DecodeLimits) allow.
    TooLarge {
        /// The kind of frame.
        kind: FrameKind,
        /// The announced length in bytes.
        length: u32,
        /// The bound in bytes.
        limit: u32,
        /// The stream, if its id could be read.
        stream: Option<StreamId>,
    },
    /// The length field does not fit the type.
    Length {
        /// The kind of frame.
        kind: FrameKind,
        /// The announced length in bytes.
        length: u32,
        /// The smallest legal length.
        min: u32,
        /// The largest legal length.
        max: u32,
    },
    /// A frame that needs a stream has stream id 0.
    StreamIdZero {
        /// The kind of frame.
        kind: FrameKind,
    },
    /// A WINDOW_UPDATE of 0 bytes.
    ZeroIncrement {
        /// Whose window it names.
        target: WindowTarget,
    },
    /// The number of SETTINGS entries does not fit the length of the frame.
    SettingsCount {
        /// The announced number of entries.
        count: u32,
        /// The length of the frame in bytes.
        length: u32,
    },
    /// Flag bits that the type does not have; an error in strict decoding only.
    Flags {
        /// The kind of frame.
        kind: FrameKind,
        /// The flags byte.
        flags: u8,
    },
}

impl FrameError {
    /// The RST_STREAM that the frame earns, if any. It goes before the GOAWAY.
    #[must_use]
    pub fn reset(&self) -> Option<(StreamId, RstStatus)> {
        match *self {
            Self::Version {
                syn_stream: Some(stream),
                ..
            } => Some((stream, RstStatus::UNSUPPORTED_VERSION)),
            Self::TooLarge {
                stream: Some(stream),
                ..
            } => Some((stream, RstStatus::FRAME_TOO_LARGE)),
            Self::ZeroIncrement {
                target: WindowTarget::Stream(stream),
            } => Some((stream, RstStatus::FLOW_CONTROL_ERROR)),
            _ => None,
        }
    }

    /// The GOAWAY that the frame earns; `None` if the session goes on.
    #[must_use]
    pub fn go_away(&self) -> Option<GoAwayStatus> {
        match self {
            Self::ZeroIncrement {
                target: WindowTarget::Stream(_),
            } => None,
            _ => Some(GoAwayStatus::PROTOCOL_ERROR),
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version {
                found, expected, ..
            } => {
                write!(
                    f,
                    "control frame has version {found} in a session of {expected}"
                )
            }
            Self::TooLarge {
                kind,
                length,
                limit,
                ..
            } => {
                write!(
                    f,
                    "{kind} frame announces {length} bytes, more than {limit}"
                )
            }
            Self::Length {
                kind,
                length,
                min,
                max,
            } if min == max => {
                write!(f, "{kind} frame has length {length}, not {min}")
            }
            Self::Length {
                kind,
                length,
                min,
                max,
            } => {
                write!(f, "{kind} frame has length {length}, not {min} to {max}")
            }
            Self::StreamIdZero { kind } => write!(f, "{kind} frame has stream id 0"),
            Self::ZeroIncrement { target } => write!(f, "WINDOW_UPDATE of 0 bytes for {target}"),
            Self::SettingsCount { count, length } => {
                write!(f, "SETTINGS announces {count} entries in {length} bytes")
            }
            Self::Flags { kind, flags } => write!(f, "{kind} frame has unknown flags {flags:#04x}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// A header block that cannot be accepted (protocol.md §7.2, §8.5, §8.6).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The bytes are not a zlib stream, or a corrupt one.
    Corrupt,
    /// The zlib stream names another preset dictionary than the version's.
    WrongDictionary {
        /// The Adler-32 id found.
        found: u32,
    },
    /// The deflate stream ends inside the block.
    EndOfStream,
    /// The block inflates to more than the hard limit.
    Bomb {
        /// The bound in bytes.
        limit: usize,
    },
    /// A length or the count reaches past the end of the block.
    UnexpectedEnd,
    /// Bytes follow the last pair.
    TrailingBytes,
    /// A name of no bytes.
    EmptyName,
    /// A name with an upper-case letter, a NUL, CR or LF.
    InvalidName,
    /// A name that stands in the block already.
    DuplicateName,
    /// A value that starts or ends with NUL, has two in a row, or contains CR or LF.
    InvalidValue,
    /// A value of no bytes in SPDY/2; an error in [strict](crate::HeaderLimits::strict) decoding only.
    EmptyValue,
}

impl HeaderError {
    /// Whether the compression context is lost, so that the session has to end. Otherwise the error is the
    /// stream's alone.
    #[must_use]
    pub const fn is_context_lost(&self) -> bool {
        matches!(
            self,
            Self::Corrupt | Self::WrongDictionary { .. } | Self::EndOfStream | Self::Bomb { .. }
        )
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt => f.write_str("header block is not a sound zlib stream"),
            Self::WrongDictionary { found } => {
                write!(f, "header block wants the preset dictionary {found:08x}")
            }
            Self::EndOfStream => f.write_str("deflate stream ends inside a header block"),
            Self::Bomb { limit } => write!(f, "header block inflates to more than {limit} bytes"),
            Self::UnexpectedEnd => f.write_str("header block ends before its last pair"),
            Self::TrailingBytes => f.write_str("bytes follow the last pair of a header block"),
            Self::EmptyName => f.write_str("header name is empty"),
            Self::InvalidName => f.write_str("header name has an upper-case letter, NUL, CR or LF"),
            Self::DuplicateName => f.write_str("header name occurs twice in a block"),
            Self::InvalidValue => f.write_str("header value has a misplaced NUL, a CR or a LF"),
            Self::EmptyValue => f.write_str("header value is empty"),
        }
    }
}

impl std::error::Error for HeaderError {}

/// A frame that cannot be written. Nothing was written, and no compression context moved.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The payload of a frame is longer than 2^24-1 bytes.
    TooLarge {
        /// Its length in bytes.
        length: usize,
    },
    /// A header name or value does not fit the version's length field (65,535 bytes in SPDY/2).
    FieldTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The number of header fields does not fit the version's length field (65,535 in SPDY/2).
    TooManyFields {
        /// The number of fields.
        count: usize,
    },
    /// The version does not have this kind of frame.
    NotInVersion {
        /// The kind of frame.
        kind: FrameKind,
        /// The version.
        version: Version,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { length } => {
                write!(f, "frame of {length} bytes is longer than 16777215")
            }
            Self::FieldTooLong { length } => {
                write!(
                    f,
                    "header name or value of {length} bytes does not fit its length field"
                )
            }
            Self::TooManyFields { count } => {
                write!(
                    f,
                    "{count} header fields do not fit the field for their number"
                )
            }
            Self::NotInVersion { kind, version } => write!(f, "{version} has no {kind} frame"),
        }
    }
}

impl std::error::Error for EncodeError {}
