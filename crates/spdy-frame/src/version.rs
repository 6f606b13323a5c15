//! The three deployed protocol versions, and how they differ.

use std::{error::Error, fmt, str::FromStr};

/// A negotiated protocol version.
///
/// The version in control frames differs from it: SPDY/3 and SPDY/3.1 both send 3, so the first
/// bytes of a connection cannot distinguish them ([protocol.md §2]).
///
/// `Display` writes the negotiation token, and [`FromStr`] parses it:
///
/// ```
/// use spdy_frame::Version;
///
/// let version: Version = "spdy/3.1".parse()?;
/// assert_eq!(version, Version::V3_1);
/// assert_eq!(version.to_string(), "spdy/3.1");
/// # Ok::<(), spdy_frame::ParseVersionError>(())
/// ```
///
/// [protocol.md §2]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#2-the-three-versions-side-by-side
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// SPDY/2: no flow control, 16-bit lengths in header blocks.
    V2,
    /// SPDY/3: a flow-control window for each stream.
    V3,
    /// SPDY/3.1: as SPDY/3, with a window for the session.
    V3_1,
}

impl Version {
    /// All versions, newest first: the order in which a server prefers them.
    pub const ALL: [Self; 3] = [Self::V3_1, Self::V3, Self::V2];

    /// Returns the version with this ALPN or NPN protocol id, compared byte for byte
    /// ([protocol.md §3.1]), or `None` for any other id.
    ///
    /// [protocol.md §3.1]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#31-tokens
    #[must_use]
    pub fn from_alpn(id: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.alpn() == id)
    }

    /// Returns the ALPN and NPN protocol id, without a length byte.
    #[must_use]
    pub const fn alpn(self) -> &'static [u8] {
        self.token().as_bytes()
    }

    /// Returns the negotiation token as text: `spdy/2`, `spdy/3` or `spdy/3.1`.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::V2 => "spdy/2",
            Self::V3 => "spdy/3",
            Self::V3_1 => "spdy/3.1",
        }
    }

    /// Returns the number in the version field of control frames: 2 or 3.
    #[must_use]
    pub const fn wire_version(self) -> u16 {
        match self {
            Self::V2 => 2,
            Self::V3 | Self::V3_1 => 3,
        }
    }

    /// Returns whether streams have flow-control windows ([protocol.md §13]): `true` for SPDY/3 and
    /// SPDY/3.1.
    ///
    /// [protocol.md §13]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#13-flow-control
    #[must_use]
    pub const fn has_stream_windows(self) -> bool {
        !matches!(self, Self::V2)
    }

    /// Returns whether the session has a flow-control window: `true` for SPDY/3.1 only.
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

impl FromStr for Version {
    type Err = ParseVersionError;

    /// Parses a negotiation token, such as `spdy/3.1`.
    fn from_str(token: &str) -> Result<Self, ParseVersionError> {
        Self::from_alpn(token.as_bytes()).ok_or(ParseVersionError(()))
    }
}

/// The error of parsing a [`Version`] from a text that is not one of the three tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseVersionError(());

impl fmt::Display for ParseVersionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown SPDY version, expected spdy/2, spdy/3 or spdy/3.1")
    }
}

impl Error for ParseVersionError {}

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

    #[test]
    fn tokens_are_parsed_as_they_are_shown() {
        for version in Version::ALL {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
        let error = "spdy/4".parse::<Version>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown SPDY version, expected spdy/2, spdy/3 or spdy/3.1"
        );
        assert!("SPDY/3".parse::<Version>().is_err());
    }
}
