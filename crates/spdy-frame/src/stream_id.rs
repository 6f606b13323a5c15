//! Stream ids, and the two sides that assign them.

use std::{fmt, num::NonZeroU32};

use crate::OutOfRangeError;

/// One of the two roles on a transport: the side that opened it, or the side that accepted it.
///
/// The role determines the parity of stream and PING ids: odd for the client, even for the server
/// ([protocol.md §11.1], [protocol.md §16]).
///
/// [protocol.md §11.1]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#111-identifiers
/// [protocol.md §16]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#16-ping-semantics
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The side that opened the transport. Its ids are odd.
    Client,
    /// The side that accepted the transport. Its ids are even.
    Server,
}

impl Side {
    /// Returns the other side.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    /// Returns the lowest id that this side can assign to a stream or a PING: 1 or 2.
    #[must_use]
    pub const fn first_id(self) -> u32 {
        match self {
            Self::Client => 1,
            Self::Server => 2,
        }
    }

    /// Returns whether `id` has this side's parity. Zero is even, so it has the server's.
    #[must_use]
    pub const fn owns(self, id: u32) -> bool {
        id % 2 == self.first_id() % 2
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// The id of a stream: 1 to 2^31-1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(NonZeroU32);

impl StreamId {
    /// The highest id, 2^31-1. Ids never wrap ([protocol.md §11.1]).
    ///
    /// [protocol.md §11.1]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#111-identifiers
    pub const MAX: Self = match NonZeroU32::new(0x7fff_ffff) {
        Some(id) => Self(id),
        None => unreachable!(),
    };

    /// Returns the id with this number, or `None` for zero and above 2^31-1.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(id) if number <= Self::MAX.get() => Some(Self(id)),
            _ => None,
        }
    }

    /// Reads the id from a 32-bit field, ignoring the reserved top bit ([protocol.md §4.1]).
    /// Returns `None` for 0.
    ///
    /// [protocol.md §4.1]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#41-common-header-8-octets
    #[must_use]
    pub const fn from_field(field: u32) -> Option<Self> {
        Self::new(field & Self::MAX.get())
    }

    /// Returns the first id of `side`: 1 or 2.
    #[must_use]
    pub const fn first(side: Side) -> Self {
        match NonZeroU32::new(side.first_id()) {
            Some(id) => Self(id),
            None => unreachable!(),
        }
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// Returns the side that opens streams with this id.
    #[must_use]
    pub const fn initiator(self) -> Side {
        if Side::Client.owns(self.get()) {
            Side::Client
        } else {
            Side::Server
        }
    }

    /// Returns the next id of the same side, or `None` if no id is left.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        Self::new(self.get() + 2)
    }
}

impl TryFrom<u32> for StreamId {
    type Error = OutOfRangeError;

    fn try_from(number: u32) -> Result<Self, OutOfRangeError> {
        Self::new(number).ok_or_else(|| OutOfRangeError::new(number, 1, Self::MAX.get()))
    }
}

impl From<StreamId> for u32 {
    fn from(id: StreamId) -> Self {
        id.get()
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_the_reserved_bit_are_no_ids() {
        assert_eq!(StreamId::new(0), None);
        assert_eq!(StreamId::new(0x8000_0000), None);
        assert_eq!(StreamId::from_field(0x8000_0000), None);
        assert_eq!(StreamId::from_field(0x8000_0005), StreamId::new(5));
    }

    #[test]
    fn a_number_that_is_no_id_is_an_error_with_the_range() {
        assert_eq!(StreamId::try_from(5).map(u32::from), Ok(5));
        let error = StreamId::try_from(0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "0 is out of range, expected 1 to 2147483647"
        );
        assert_eq!(StreamId::try_from(1 << 31).unwrap_err().value(), 1 << 31);
    }

    #[test]
    fn parity_tells_the_initiator() {
        assert_eq!(StreamId::first(Side::Client).initiator(), Side::Client);
        assert_eq!(StreamId::first(Side::Server).initiator(), Side::Server);
        assert!(Side::Server.owns(0), "zero has the server's parity");
    }

    #[test]
    fn ids_end_without_wrapping() {
        let last_of_server = StreamId::new(0x7fff_fffe).unwrap();
        assert_eq!(StreamId::MAX.next(), None);
        assert_eq!(last_of_server.next(), None);
        assert_eq!(
            StreamId::new(0x7fff_fffd).unwrap().next(),
            Some(StreamId::MAX)
        );
    }
}
