//! The values of flow control: targets, increments and constants (protocol.md §13.1).

use std::{fmt, num::NonZeroU32};

use crate::{OutOfRangeError, StreamId};

/// The initial size of every window, in bytes: 65,536, one byte more than in HTTP/2
/// ([protocol.md §13.1]).
///
/// [protocol.md §13.1]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#131-windows
pub const DEFAULT_WINDOW: u32 = 65_536;

/// The largest size of a window, in bytes: 2^31-1.
pub const MAX_WINDOW: u32 = 0x7fff_ffff;

/// The number of bytes that a WINDOW_UPDATE adds to a window: 1 to 2^31-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowIncrement(NonZeroU32);

impl WindowIncrement {
    /// Returns the increment of this number of bytes, or `None` for zero and above 2^31-1.
    #[must_use]
    pub const fn new(bytes: u32) -> Option<Self> {
        match NonZeroU32::new(bytes) {
            Some(value) if bytes <= MAX_WINDOW => Some(Self(value)),
            _ => None,
        }
    }

    /// Returns the number of bytes.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl TryFrom<u32> for WindowIncrement {
    type Error = OutOfRangeError;

    fn try_from(bytes: u32) -> Result<Self, OutOfRangeError> {
        Self::new(bytes).ok_or_else(|| OutOfRangeError::new(bytes, 1, MAX_WINDOW))
    }
}

impl From<WindowIncrement> for u32 {
    fn from(increment: WindowIncrement) -> Self {
        increment.get()
    }
}

impl fmt::Display for WindowIncrement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The window that a WINDOW_UPDATE enlarges. Stream id 0 in the frame means the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WindowTarget {
    /// The window of the session (SPDY/3.1; ignored on receipt in SPDY/3).
    Session,
    /// The window of one stream.
    Stream(StreamId),
}

impl WindowTarget {
    /// Reads the target from a 32-bit stream id field, ignoring the reserved top bit.
    #[must_use]
    pub const fn from_field(field: u32) -> Self {
        match StreamId::from_field(field) {
            Some(stream) => Self::Stream(stream),
            None => Self::Session,
        }
    }

    /// Returns the number in the stream id field.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_increment_has_1_to_2_31_minus_1_bytes() {
        for bytes in [1, DEFAULT_WINDOW, MAX_WINDOW] {
            assert_eq!(WindowIncrement::try_from(bytes).map(u32::from), Ok(bytes));
        }
        for bytes in [0, MAX_WINDOW + 1, u32::MAX] {
            assert!(WindowIncrement::try_from(bytes).is_err());
        }
    }
}
