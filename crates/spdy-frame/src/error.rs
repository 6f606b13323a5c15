//! Errors of frames and header blocks, and what this side sends to the peer because of them.

use std::fmt;

use crate::{FrameKind, GoAwayStatus, RstStatus, StreamId, Version, WindowTarget};

/// An error in a received frame.
///
/// [`reset`](Self::reset) and [`go_away`](Self::go_away) return what to tell the peer. If `go_away`
/// returns `None`, the frame has been skipped and decoding continues.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// A control frame has another protocol version than the session ([protocol.md §4.4]).
    ///
    /// [protocol.md §4.4]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#44-version-check
    Version {
        /// The version field of the frame.
        found: u16,
        /// The version of the session.
        expected: Version,
        /// The stream, if the frame is a SYN_STREAM whose id could be read.
        syn_stream: Option<StreamId>,
    },
    /// A control frame is longer than
    /// [`DecodeLimits::max_control_frame`](crate::DecodeLimits::max_control_frame).
    TooLarge {
        /// The kind of frame.
        kind: FrameKind,
        /// The announced length in bytes.
        length: u32,
        /// The limit in bytes.
        limit: u32,
        /// The stream, if its id could be read.
        stream: Option<StreamId>,
    },
    /// The length field is invalid for the type.
    Length {
        /// The kind of frame.
        kind: FrameKind,
        /// The announced length in bytes.
        length: u32,
        /// The smallest valid length in bytes.
        min: u32,
        /// The largest valid length in bytes.
        max: u32,
    },
    /// The stream id is 0 in a frame that needs a stream.
    StreamIdZero {
        /// The kind of frame.
        kind: FrameKind,
    },
    /// The increment of a WINDOW_UPDATE is 0.
    ZeroIncrement {
        /// The window that the frame names.
        target: WindowTarget,
    },
    /// The number of SETTINGS entries does not match the length of the frame.
    SettingsCount {
        /// The announced number of entries.
        count: u32,
        /// The length of the frame in bytes.
        length: u32,
    },
    /// The frame has flag bits that its type does not define. Only
    /// [strict](crate::DecodeLimits::strict) decoding returns this error.
    Flags {
        /// The kind of frame.
        kind: FrameKind,
        /// The flags byte.
        flags: u8,
    },
}

impl FrameError {
    /// Returns the stream to reset and the status to send, if the error calls for RST_STREAM. It is
    /// sent before the GOAWAY.
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

    /// Returns the status of the GOAWAY to send, or `None` if the session continues.
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
                    "control frame has version {found} in a {expected} session"
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
                    "{kind} frame of {length} bytes exceeds the limit of {limit} bytes"
                )
            }
            Self::Length {
                kind,
                length,
                min,
                max,
            } if min == max => {
                write!(f, "{kind} frame has length {length}, expected {min}")
            }
            Self::Length {
                kind,
                length,
                min,
                max,
            } => {
                write!(
                    f,
                    "{kind} frame has length {length}, expected {min} to {max}"
                )
            }
            Self::StreamIdZero { kind } => write!(f, "{kind} frame has stream id 0"),
            Self::ZeroIncrement { target } => {
                write!(f, "WINDOW_UPDATE has increment 0 for {target}")
            }
            Self::SettingsCount { count, length } => {
                write!(
                    f,
                    "SETTINGS frame announces {count} entries in {length} bytes"
                )
            }
            Self::Flags { kind, flags } => write!(f, "{kind} frame has unknown flags {flags:#04x}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// An error in a received header block ([protocol.md §7.2], [protocol.md §8.5],
/// [protocol.md §8.6]).
///
/// [protocol.md §7.2]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#72-rules-and-what-a-violation-means
/// [protocol.md §8.5]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#85-decompression-failures
/// [protocol.md §8.6]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#86-size-limits-and-bombs
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The bytes are not a valid zlib stream.
    Corrupt,
    /// The zlib stream names a preset dictionary that is not the one of the version.
    WrongDictionary {
        /// The Adler-32 checksum of the dictionary that the stream names.
        found: u32,
    },
    /// The deflate stream ends inside the block.
    EndOfStream,
    /// The block inflates to more than [`max_inflated`](crate::HeaderLimits::max_inflated), or has
    /// too many Huffman codes.
    Bomb {
        /// The limit in bytes.
        limit: usize,
    },
    /// The block ends before its last name or value.
    UnexpectedEnd,
    /// Bytes follow the last value.
    TrailingBytes,
    /// A name is empty.
    EmptyName,
    /// A name contains an upper-case letter, NUL, CR or LF.
    InvalidName,
    /// A name occurs twice in the block.
    DuplicateName,
    /// A value contains CR or LF, or starts or ends with NUL, or contains two NULs in a row.
    InvalidValue,
    /// A value is empty in SPDY/2. Only [strict](crate::HeaderLimits::strict) decoding returns this
    /// error.
    EmptyValue,
}

impl HeaderError {
    /// Returns whether the compression context is lost, so that the session must end. If not, the
    /// error affects only the stream.
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
            Self::Corrupt => f.write_str("header block is not a valid zlib stream"),
            Self::WrongDictionary { found } => {
                write!(
                    f,
                    "header block uses the unknown preset dictionary {found:08x}"
                )
            }
            Self::EndOfStream => f.write_str("deflate stream ends inside a header block"),
            Self::Bomb { limit } => write!(
                f,
                "header block exceeds the limit of {limit} inflated bytes"
            ),
            Self::UnexpectedEnd => f.write_str("header block ends before its last value"),
            Self::TrailingBytes => f.write_str("header block has bytes after its last value"),
            Self::EmptyName => f.write_str("header name is empty"),
            Self::InvalidName => {
                f.write_str("header name contains an upper-case letter, NUL, CR or LF")
            }
            Self::DuplicateName => f.write_str("header name occurs twice in a block"),
            Self::InvalidValue => f.write_str("header value contains CR, LF or a misplaced NUL"),
            Self::EmptyValue => f.write_str("header value is empty"),
        }
    }
}

impl std::error::Error for HeaderError {}

/// A frame that cannot be written. Nothing was written, and the compression context is unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The payload of the frame would be longer than 16,777,215 bytes.
    TooLarge {
        /// The length in bytes. For a frame with a header block it is an upper bound.
        length: usize,
    },
    /// A header name or value does not fit the length field of the version: 65,535 bytes in SPDY/2.
    FieldTooLong {
        /// The length in bytes.
        length: usize,
    },
    /// The number of header fields does not fit the field of the version: 65,535 in SPDY/2.
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
                write!(
                    f,
                    "frame of {length} bytes exceeds the limit of 16777215 bytes"
                )
            }
            Self::FieldTooLong { length } => {
                write!(
                    f,
                    "header name or value of {length} bytes exceeds the limit of 65535 bytes"
                )
            }
            Self::TooManyFields { count } => {
                write!(f, "{count} header fields exceed the limit of 65535 fields")
            }
            Self::NotInVersion { kind, version } => write!(f, "{version} has no {kind} frame"),
        }
    }
}

impl std::error::Error for EncodeError {}

/// A number outside the range of a type, such as stream id 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfRangeError {
    value: u32,
    min: u32,
    max: u32,
}

impl OutOfRangeError {
    pub(crate) const fn new(value: u32, min: u32, max: u32) -> Self {
        Self { value, min, max }
    }

    /// Returns the number.
    #[must_use]
    pub const fn value(&self) -> u32 {
        self.value
    }
}

impl fmt::Display for OutOfRangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, min, max } = self;
        write!(f, "{value} is out of range, expected {min} to {max}")
    }
}

impl std::error::Error for OutOfRangeError {}
