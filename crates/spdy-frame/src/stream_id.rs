//! Stream ids and the two sides that hand them out.

use std::{fmt, num::NonZeroU32};

/// One of the two roles on a transport: the side that opened it, or the side that accepted it.
///
/// The role fixes the parity of stream and PING ids: odd for the client, even for the server
/// (protocol.md §11.1, §16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Opened the transport; initiates odd ids.
    Client,
    /// Accepted the transport; initiates even ids.
    Server,
}

impl Side {
    /// The other side.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    /// The lowest id that this side may give to a stream or a PING: 1 or 2.
    #[must_use]
    pub const fn first_id(self) -> u32 {
        match self {
            Self::Client => 1,
            Self::Server => 2,
        }
    }

    /// Whether `id` has this side's parity. Zero is even, so it has the server's.
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

/// The id of a stream: 1 to 2^31-1. Zero is not a stream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(NonZeroU32);

impl StreamId {
    /// The highest id there is, 2^31-1. Ids never wrap (protocol.md §11.1).
    pub const MAX: Self = match NonZeroU32::new(0x7fff_ffff) {
        Some(id) => Self(id),
        None => unreachable!(),
    };

    /// Makes an id of a number; `None` for zero and above 2^31-1.
    #[must_use]
    pub const fn new(raw: u32) -> Option<Self> {
        match NonZeroU32::new(raw) {
            Some(id) if raw <= Self::MAX.get() => Some(Self(id)),
            _ => None,
        }
    }

    /// Reads the id from a 32-bit field, whose top bit is reserved and masked (protocol.md §4.1).
    #[must_use]
    pub const fn from_field(field: u32) -> Option<Self> {
        Self::new(field & Self::MAX.get())
    }

    /// The first id that `side` gives out: 1 or 2.
    #[must_use]
    pub const fn first(side: Side) -> Self {
        match NonZeroU32::new(side.first_id()) {
            Some(id) => Self(id),
            None => unreachable!(),
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The side that may open a stream with this id.
    #[must_use]
    pub const fn initiator(self) -> Side {
        if Side::Client.owns(self.get()) {
            Side::Client
        } else {
            Side::Server
        }
    }

    /// The next id of the same side; `None` when its range is used up.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        Self::new(self.get() + 2)
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
