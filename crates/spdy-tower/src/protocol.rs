//! The protocols that a connection can speak.

use std::fmt;

use spdy_frame::Version;

/// The protocol of a connection. Each response of a `client::Client` has it in its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// SPDY in one of its versions.
    Spdy(Version),
    /// HTTP/2.
    Http2,
    /// HTTP/1.1, and HTTP/1.0 from old clients.
    Http1,
}

impl Protocol {
    /// All protocols, best first: the order in which a client offers them and a server prefers
    /// them.
    pub const ALL: [Self; 5] = [
        Self::Spdy(Version::V3_1),
        Self::Spdy(Version::V3),
        Self::Spdy(Version::V2),
        Self::Http2,
        Self::Http1,
    ];

    /// Returns the protocol with this ALPN id, which is compared byte for byte.
    #[must_use]
    pub fn from_alpn(id: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.alpn() == id)
    }

    /// Returns the ALPN protocol id, without a length byte ([protocol.md §3.1]).
    ///
    /// [protocol.md §3.1]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#31-tokens
    #[must_use]
    pub const fn alpn(self) -> &'static [u8] {
        self.token().as_bytes()
    }

    /// Returns the ALPN protocol id as text, such as `spdy/3.1` or `h2`.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Spdy(version) => version.token(),
            Self::Http2 => "h2",
            Self::Http1 => "http/1.1",
        }
    }

    /// Returns the usual name, such as `SPDY/3.1` or `HTTP/2`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spdy(Version::V2) => "SPDY/2",
            Self::Spdy(Version::V3) => "SPDY/3",
            Self::Spdy(Version::V3_1) => "SPDY/3.1",
            Self::Http2 => "HTTP/2",
            Self::Http1 => "HTTP/1.1",
        }
    }
}

/// Writes the [name](Self::name).
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_ids_are_matched_byte_for_byte() {
        for protocol in Protocol::ALL {
            assert_eq!(Protocol::from_alpn(protocol.alpn()), Some(protocol));
        }
        for id in ["spdy/1", "spdy/4a2", "H2", "http/1.0", "h2c", ""] {
            assert_eq!(Protocol::from_alpn(id.as_bytes()), None, "{id}");
        }
    }
}
