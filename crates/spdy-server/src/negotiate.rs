//! Determines the protocol of a connection: by ALPN over TLS, by the first bytes in plain text.
//!
//! The server sends nothing before it knows the protocol (protocol.md §3.4), because even the first
//! frames differ between the versions of SPDY. [`Rewind`] returns the bytes that were read to the
//! protocol.

use std::{error::Error, fmt, io, str::FromStr};

use spdy_frame::Version;
pub use spdy_tower::Protocol;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::rewind::Rewind;

/// The SPDY version that version field 3 means on a plaintext listener.
///
/// SPDY/3 and SPDY/3.1 have the same first bytes, so without ALPN this has to be configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlainVersion {
    /// SPDY/3: each stream has a window.
    V3,
    /// SPDY/3.1: the session has a window, too. Nearly all clients use it.
    #[default]
    V3_1,
}

impl From<PlainVersion> for Version {
    fn from(version: PlainVersion) -> Self {
        match version {
            PlainVersion::V3 => Self::V3,
            PlainVersion::V3_1 => Self::V3_1,
        }
    }
}

impl FromStr for PlainVersion {
    type Err = UnknownPlainVersion;

    fn from_str(token: &str) -> Result<Self, UnknownPlainVersion> {
        match token {
            "spdy/3" => Ok(Self::V3),
            "spdy/3.1" => Ok(Self::V3_1),
            _ => Err(UnknownPlainVersion),
        }
    }
}

/// The error for a text that is neither `spdy/3` nor `spdy/3.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownPlainVersion;

impl fmt::Display for UnknownPlainVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the version must be spdy/3 or spdy/3.1")
    }
}

impl Error for UnknownPlainVersion {}

/// Returns the name and the version of a protocol as OpenTelemetry writes them.
pub(crate) const fn name_and_version(protocol: Protocol) -> (&'static str, &'static str) {
    match protocol {
        Protocol::Spdy(Version::V2) => ("spdy", "2"),
        Protocol::Spdy(Version::V3) => ("spdy", "3"),
        Protocol::Spdy(Version::V3_1) => ("spdy", "3.1"),
        Protocol::Http2 => ("http", "2"),
        Protocol::Http1 => ("http", "1.1"),
    }
}

/// Reads from a new plaintext connection until its protocol is known, and not one byte more.
///
/// Writes nothing. The error is `UnexpectedEof` if the peer leaves first, and `InvalidData` if its
/// bytes belong to none of the protocols. The caller has to set a time limit.
pub(crate) async fn first_bytes<IO>(
    mut io: IO,
    three: PlainVersion,
) -> io::Result<(Protocol, Rewind<IO>)>
where
    IO: AsyncRead + Unpin,
{
    let mut bytes = [0; H2_PREFACE.len()];
    let mut filled = 0;
    loop {
        match io.read(&mut bytes[filled..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => filled += more,
        }
        match recognise(&bytes[..filled], three) {
            Guess::Is(protocol) => return Ok((protocol, Rewind::new(io, bytes, filled))),
            Guess::Nothing => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, UnknownProtocol));
            }
            Guess::NeedsMore => {}
        }
    }
}

/// The result for the bytes that were read so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guess {
    Is(Protocol),
    NeedsMore,
    Nothing,
}

/// Determines the protocol from the first bytes of the client (protocol.md §3.4).
///
/// With as many bytes as [`H2_PREFACE`] has, the result is never [`Guess::NeedsMore`].
fn recognise(bytes: &[u8], three: PlainVersion) -> Guess {
    match bytes {
        // The control bit and the version field of a SPDY control frame.
        [] | [0x80] => Guess::NeedsMore,
        [0x80, 2, ..] => Guess::Is(Protocol::Spdy(Version::V2)),
        [0x80, 3, ..] => Guess::Is(Protocol::Spdy(three.into())),
        preface if preface.starts_with(H2_PREFACE) => Guess::Is(Protocol::Http2),
        // `P` can also begin POST or PUT.
        partial if H2_PREFACE.starts_with(partial) => Guess::NeedsMore,
        [b'A'..=b'Z', ..] => Guess::Is(Protocol::Http1),
        _ => Guess::Nothing,
    }
}

/// The beginning of the HTTP/2 connection preface. No other method is called `PRI`.
const H2_PREFACE: &[u8; 14] = b"PRI * HTTP/2.0";

/// The error for first bytes that are neither SPDY nor HTTP.
#[derive(Debug)]
struct UnknownProtocol;

impl fmt::Display for UnknownProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the first bytes are neither SPDY nor HTTP")
    }
}

impl Error for UnknownProtocol {}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    const V2: Guess = Guess::Is(Protocol::Spdy(Version::V2));
    const V3: Guess = Guess::Is(Protocol::Spdy(Version::V3));
    const V3_1: Guess = Guess::Is(Protocol::Spdy(Version::V3_1));

    #[test]
    fn c007_the_version_field_of_the_first_control_frame_tells_spdy_2_from_3() {
        let settings = [0, 4, 0, 0, 0, 4, 0, 0, 0, 0];
        for (version, three, expected) in [
            (2, PlainVersion::V3, V2),
            (2, PlainVersion::V3_1, V2),
            (3, PlainVersion::V3, V3),
            (3, PlainVersion::V3_1, V3_1),
        ] {
            let frame = [&[0x80, version], &settings[..]].concat();
            assert_eq!(recognise(&frame[..1], three), Guess::NeedsMore);
            assert_eq!(recognise(&frame[..2], three), expected);
            assert_eq!(recognise(&frame, three), expected);
        }
    }

    #[test]
    fn c008_an_upper_case_letter_begins_http_1() {
        for request in [
            "GET / HTTP/1.1",
            "POST /",
            "PUT /",
            "PRIMER /",
            "PRI * HTTP/1.1",
            "OPTIONS *",
            "Z",
        ] {
            assert_eq!(
                recognise(request.as_bytes(), PlainVersion::V3_1),
                Guess::Is(Protocol::Http1),
                "{request}"
            );
        }
    }

    #[test]
    fn the_preface_of_http_2_is_recognised_at_its_last_byte() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        for end in 1..H2_PREFACE.len() {
            assert_eq!(
                recognise(&preface[..end], PlainVersion::V3_1),
                Guess::NeedsMore,
                "{end}"
            );
        }
        for end in H2_PREFACE.len()..=preface.len() {
            assert_eq!(
                recognise(&preface[..end], PlainVersion::V3_1),
                Guess::Is(Protocol::Http2),
                "{end}"
            );
        }
    }

    #[test]
    fn anything_else_begins_nothing() {
        for bytes in [
            &[0x16, 3, 1][..], // TLS
            &[0x80, 1],        // SPDY/1
            &[0x80, 4],
            &[0x81, 3],
            &[0, 0, 0, 1], // a DATA frame
            b"get / HTTP/1.1",
            b"\r\nGET /",
            b"\xff",
        ] {
            assert_eq!(
                recognise(bytes, PlainVersion::V3_1),
                Guess::Nothing,
                "{bytes:02x?}"
            );
        }
    }

    #[tokio::test]
    async fn c009_nothing_is_sent_before_the_version_is_known() {
        let (mut client, server) = duplex(64);
        let detection = tokio::spawn(first_bytes(server, PlainVersion::V3_1));
        client.write_all(&[0x80]).await.unwrap();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!detection.is_finished());

        client.write_all(&[3]).await.unwrap();
        let (protocol, server) = detection.await.unwrap().unwrap();
        assert_eq!(protocol, Protocol::Spdy(Version::V3_1));
        drop(server);
        let mut sent = Vec::new();
        client.read_to_end(&mut sent).await.unwrap();
        assert_eq!(
            sent, b"",
            "the server has written before it knew the version"
        );
    }

    #[tokio::test]
    async fn the_protocol_reads_every_byte_from_the_first_one() {
        let (mut client, server) = duplex(1);
        let request = b"PRIVATE / HTTP/1.1\r\nhost: a\r\n\r\n";
        let writer = tokio::spawn(async move { client.write_all(request).await });
        let (protocol, mut server) = first_bytes(server, PlainVersion::V3_1).await.unwrap();
        assert_eq!(protocol, Protocol::Http1);
        let mut seen = Vec::new();
        server.read_to_end(&mut seen).await.unwrap();
        writer.await.unwrap().unwrap();
        assert_eq!(seen, request);
    }

    #[tokio::test]
    async fn a_peer_that_leaves_or_speaks_something_else_is_an_error() {
        for (bytes, kind) in [
            (&b""[..], io::ErrorKind::UnexpectedEof),
            (b"PRI", io::ErrorKind::UnexpectedEof),
            (b"\x16\x03", io::ErrorKind::InvalidData),
        ] {
            let error = first_bytes(bytes, PlainVersion::V3_1).await.unwrap_err();
            assert_eq!(error.kind(), kind);
        }
    }

    #[test]
    fn plain_versions_are_named_by_their_tokens() {
        assert_eq!("spdy/3".parse(), Ok(PlainVersion::V3));
        assert_eq!("spdy/3.1".parse(), Ok(PlainVersion::V3_1));
        assert_eq!("spdy/2".parse::<PlainVersion>(), Err(UnknownPlainVersion));
        assert_eq!(Version::from(PlainVersion::default()), Version::V3_1);
    }
}
