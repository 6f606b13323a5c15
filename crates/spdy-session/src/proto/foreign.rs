//! Recognizes by its first bytes a peer that speaks another protocol than SPDY.
//!
//! Without this an HTTP/1.1 response would look like a DATA frame of stream 1,213,486,160, and the
//! error would be about flow control.

use std::fmt;

use spdy_frame::Side;

/// A protocol that a peer speaks instead of SPDY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForeignProtocol {
    /// HTTP/1.1 or HTTP/1.0, in plain text.
    Http1,
    /// HTTP/2, in plain text.
    Http2,
    /// TLS: the peer expects a handshake, or refuses one.
    Tls,
}

/// Returns the protocol that begins with these bytes, unless it can be SPDY. As SPDY all of them
/// would be a DATA frame of a stream that cannot be open.
///
/// Eight bytes are enough for every protocol. A server of TLS sends an alert of seven bytes, and
/// nothing else.
pub(super) fn recognize(peer: Side, first: &[u8]) -> Option<ForeignProtocol> {
    let is_one_of = |beginnings: &[&[u8]]| beginnings.iter().any(|it| first.starts_with(it));
    let (http1, http2) = match peer {
        Side::Server => (is_one_of(&[b"HTTP/1."]), is_settings(first)),
        Side::Client => (is_one_of(METHODS), is_one_of(&[b"PRI * HT"])),
    };
    let tls = matches!(first, [0x14..=0x17, 3, 0..=4, _, _, _, _, ..]);
    [
        (http1, ForeignProtocol::Http1),
        (http2, ForeignProtocol::Http2),
        (tls, ForeignProtocol::Tls),
    ]
    .into_iter()
    .find_map(|(is_it, protocol)| is_it.then_some(protocol))
}

/// Returns whether the bytes are the head of SETTINGS, with which an HTTP/2 server begins: a
/// length, type 4, no flags, stream 0.
fn is_settings(first: &[u8]) -> bool {
    matches!(first, [0, _, _, 4, 0, 0, 0, 0, ..])
}

const METHODS: &[&[u8]] = &[
    b"GET /",
    b"HEAD /",
    b"POST /",
    b"PUT /",
    b"DELETE /",
    b"OPTIONS ",
    b"CONNECT ",
    b"PATCH /",
    b"TRACE /",
];

impl fmt::Display for ForeignProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
            Self::Tls => "TLS",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_protocols_are_recognized_by_their_first_bytes() {
        let (client, server) = (Side::Client, Side::Server);
        for (peer, bytes, expected) in [
            (
                server,
                &b"HTTP/1.1 400 Bad Request"[..],
                Some(ForeignProtocol::Http1),
            ),
            (server, b"HTTP/1.0 200 OK", Some(ForeignProtocol::Http1)),
            (client, b"GET / HTTP/1.1", Some(ForeignProtocol::Http1)),
            (client, b"OPTIONS * HTTP/1.1", Some(ForeignProtocol::Http1)),
            (
                client,
                b"PRI * HTTP/2.0\r\n\r\nSM",
                Some(ForeignProtocol::Http2),
            ),
            (
                server,
                b"\0\0\x12\x04\0\0\0\0\0",
                Some(ForeignProtocol::Http2),
            ),
            (
                client,
                b"\x16\x03\x01\x02\0\x01\0\x01",
                Some(ForeignProtocol::Tls),
            ),
            (
                server,
                b"\x15\x03\x03\0\x02\x02\x46",
                Some(ForeignProtocol::Tls),
            ),
            (server, b"\x80\x03\0\x04\0\0\0\x0c", None),
            (client, b"\x80\x02\0\x01\x01\0\0\x20", None),
            (client, b"\0\0\0\x01\0\0\0\x05", None),
            (client, b"HTTP/1.1", None),
            (server, b"\x15\x03\x03\0\x02\x02", None),
            (server, b"\0\0\x12\x04\0\0\0", None),
        ] {
            assert_eq!(recognize(peer, bytes), expected, "{peer:?} {bytes:x?}");
        }
    }
}
