//! The three deployed protocol versions and what each of them has.

use std::fmt;

/// A protocol version, as negotiated.
///
/// The version *on the wire* is another thing: SPDY/3 and SPDY/3.1 both write 3, so the first bytes of a
/// conversation never tell them apart. Only this type knows the difference (protocol.md §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// SPDY/2: no flow control, 16-bit lengths in header blocks.
    V2,
    /// SPDY/3: a window for each stream.
    V3,
    /// SPDY/3.1: as SPDY/3, and a window for the session.
    V3_1,
}

impl Version {
    /// All versions, newest first: the order in which a server prefers them.
    pub const ALL: [Self; 3] = [Self::V3_1, Self::V3, Self::V2];

    /// Finds the version that an ALPN or NPN protocol id names, byte for byte (protocol.md §3.1).
    #[must_use]
    pub fn from_alpn(id: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.alpn() == id)
    }

    /// The ALPN and NPN protocol id, without a length byte.
    #[must_use]
    pub const fn alpn(self) -> &'static [u8] {
        self.token().as_bytes()
    }

    /// The negotiation token as text: `spdy/2`, `spdy/3` or `spdy/3.1`.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::V2 => "spdy/2",
            Self::V3 => "spdy/3",
            Self::V3_1 => "spdy/3.1",
        }
    }

    /// The number in the version field of control frames: 2 or 3.
    #[must_use]
    pub const fn wire_version(self) -> u16 {
        match self {
            Self::V2 => 2,
            Self::V3 | Self::V3_1 => 3,
        }
    }

    /// Whether streams have flow-control windows: SPDY/3 and SPDY/3.1 (protocol.md §13).
    #[must_use]
    pub const fn has_stream_windows(self) -> bool {
        !matches!(self, Self::V2)
    }

    /// Whether the session as a whole has a flow-control window: SPDY/3.1 alone.
    #[must_use]
    pub const fn has_session_window(self) -> bool {
        matches!(self, Self::V3_1)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_matched_byte_for_byte() {
        for version in Version::ALL {
            assert_eq!(Version::from_alpn(version.alpn()), Some(version));
        }
        assert_eq!(Version::from_alpn(b"SPDY/3"), None);
        assert_eq!(Version::from_alpn(b"spdy/1"), None);
        assert_eq!(Version::from_alpn(b""), None);
    }
}
