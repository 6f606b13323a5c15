//! What a server speaks without TLS, by the first bytes that it sends.

use std::fmt;

use spdy_frame::Version;
use spdy_tower::Protocol;

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    Http1,
    Http2,
    /// SPDY/2.
    Spdy2,
    /// SPDY/3 or SPDY/3.1, which begin in the same way.
    Spdy3,
    Tls,
    /// None of these.
    Other,
}

impl Speech {
    /// Returns what begins with these bytes. Nine are enough.
    pub(crate) const fn recognize(first: &[u8]) -> Option<Self> {
        Some(match first {
            [b'H', b'T', b'T', b'P', b'/', b'1', ..] => Self::Http1,
            // A page about the error, without a head: so a server of HTTP/1.1 answers what it takes
            // for HTTP/0.9.
            [b'<', b'!' | b'H' | b'h', ..] => Self::Http1,
            // SETTINGS, or GOAWAY, of the whole connection.
            [0, _, _, 4 | 7, 0, 0, 0, 0, 0, ..] => Self::Http2,
            [0x80, 2, 0, 1..=9, ..] => Self::Spdy2,
            [0x80, 3, 0, 1..=9, ..] => Self::Spdy3,
            // An alert.
            [0x15, 3, ..] => Self::Tls,
            [_, _, _, _, _, _, _, _, _, ..] => Self::Other,
            _ => return None,
        })
    }

    const fn is(self, protocol: Protocol) -> bool {
        matches!(
            (self, protocol),
            (Self::Http1, Protocol::Http1)
                | (Self::Http2, Protocol::Http2)
                | (Self::Spdy2, Protocol::Spdy(Version::V2))
                | (Self::Spdy3, Protocol::Spdy(Version::V3 | Version::V3_1))
        )
    }

    /// Returns what is wrong and what to do, if the server does not speak this protocol. A command
    /// that can speak nothing but SPDY has no other.
    pub(crate) fn instead_of(self, protocol: Protocol, is_spdy_alone: bool) -> Option<String> {
        let cure = match self {
            Self::Http1 | Self::Http2 if is_spdy_alone => WITH_SPDY,
            Self::Http1 => "try --http1",
            Self::Http2 => "try --http2",
            Self::Spdy2 => "try --version 2",
            Self::Spdy3 => "try --version 3.1, or --version 3",
            Self::Tls => "try https://",
            Self::Other => "check the port",
        };
        let message = format!("the server speaks {self} and not {protocol}: {cure}");
        (!self.is(protocol)).then_some(message)
    }
}

/// Returns what to do about a server without TLS that has sent nothing.
pub(crate) const fn cure_of_silence(is_spdy_alone: bool) -> &'static str {
    if is_spdy_alone {
        "try https://, or a server that has SPDY"
    } else {
        "try --http1 or https://"
    }
}

/// What to do without another protocol.
const WITH_SPDY: &str = "try a server that has SPDY";

impl fmt::Display for Speech {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
            Self::Spdy2 => "SPDY/2",
            Self::Spdy3 => "SPDY/3",
            Self::Tls => "TLS",
            Self::Other => "something else",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_what_a_server_speaks() {
        for (first, expected) in [
            (&b"HTTP/1.0 400 Bad Request"[..], Some(Speech::Http1)),
            (b"<!DOCTYPE HTML>", Some(Speech::Http1)),
            (b"<html>", Some(Speech::Http1)),
            (b"\0\0\x12\x04\0\0\0\0\0", Some(Speech::Http2)),
            (b"\0\0\x08\x07\0\0\0\0\0", Some(Speech::Http2)),
            (b"\x80\x02\0\x07\0\0\0\x04", Some(Speech::Spdy2)),
            (b"\x80\x03\0\x04\0\0\0\x0c", Some(Speech::Spdy3)),
            (b"\x15\x03\x03\0\x02\x02\x46", Some(Speech::Tls)),
            (b"\x16\x03\x03\0\x7a\x02", None),
            (b"\0\0\x12\x04\0\0\0\0", None),
            (b"\x80\x04\0\x04", None),
            (b"SSH-2.0-OpenSSH_9.6", Some(Speech::Other)),
            (b"SSH-2.0-", None),
            (b"<", None),
            (b"", None),
        ] {
            assert_eq!(Speech::recognize(first), expected, "{first:x?}");
        }
    }
}
