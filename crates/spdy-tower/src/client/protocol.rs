//! What connections can speak.

use std::fmt;

use spdy_frame::Version;

/// What is spoken on a connection. Every response of a [`Client`](super::Client) has it among its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// SPDY in one of its versions.
    Spdy(Version),
    /// HTTP/2.
    Http2,
    /// HTTP/1.1.
    Http1,
}

impl Protocol {
    /// All of them, the best first.
    pub const ALL: [Self; 5] = [
        Self::Spdy(Version::V3_1),
        Self::Spdy(Version::V3),
        Self::Spdy(Version::V2),
        Self::Http2,
        Self::Http1,
    ];

    /// The name in ALPN, without a length octet.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Spdy(version) => version.token(),
            Self::Http2 => "h2",
            Self::Http1 => "http/1.1",
        }
    }
}

/// Writes the name in ALPN.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}
