//! The arithmetic-free part of flow control: targets, increments and the constants of protocol.md §13.1.

use std::{fmt, num::NonZeroU32};

use crate::StreamId;

/// The size of every window before anybody changes it: 65,536 bytes (HTTP/2 has one byte less).
pub const DEFAULT_WINDOW: u32 = 65_536;

/// The largest window there is: 2^31-1 bytes.
pub const MAX_WINDOW: u32 = 0x7fff_ffff;

/// What a WINDOW_UPDATE adds to a window: 1 to 2^31-1 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowIncrement(NonZeroU32);

impl WindowIncrement {
    /// Makes an increment of a number of bytes; `None` for zero and above 2^31-1.
    #[must_use]
    pub const fn new(bytes: u32) -> Option<Self> {
        match NonZeroU32::new(bytes) {
            Some(value) if bytes <= MAX_WINDOW => Some(Self(value)),
            _ => None,
        }
    }

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for WindowIncrement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whose window a WINDOW_UPDATE is about. Stream 0 on the wire is the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WindowTarget {
    /// The session's window (SPDY/3.1; ignored on receipt in SPDY/3).
    Session,
    /// One stream's window.
    Stream(StreamId),
}

impl WindowTarget {
    /// Reads the target from a 32-bit stream id field, whose top bit is masked.
    #[must_use]
    pub const fn from_field(field: u32) -> Self {
        match StreamId::from_field(field) {
            Some(stream) => Self::Stream(stream),
            None => Self::Session,
        }
    }

    /// The number in the stream id field.
    #[must_use]
    pub const fn to_field(self) -> u32 {
        match self {
            Self::Session => 0,
            Self::Stream(stream) => stream.get(),
        }
    }
}

impl fmt::Display for WindowTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session => f.write_str("session"),
            Self::Stream(stream) => write!(f, "stream {stream}"),
        }
    }
}
