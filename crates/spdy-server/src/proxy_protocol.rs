//! The header of the PROXY protocol, with which a proxy announces the address of its client.
//!
//! Not one byte after the header is read, because those bytes belong to the handshake. The binary
//! header of version 2 contains its length. The line of version 1 is read in steps of at most the
//! bytes that must still follow.

use std::{error::Error, fmt, io, net::SocketAddr};

use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Reads the header. Returns `None` if the proxy connects for itself, or does not announce the
/// address.
///
/// The caller has to set a time limit. The error is `InvalidData` if the header is not valid.
pub(crate) async fn read<IO: AsyncRead + Unpin>(io: &mut IO) -> io::Result<Option<SocketAddr>> {
    let mut start = [0; SHORTEST];
    io.read_exact(&mut start).await?;
    if start.starts_with(SIGNATURE) {
        read_v2(io, start).await
    } else if start.starts_with(b"PROXY ") {
        read_v1(io, start).await
    } else {
        Err(NoHeader.into())
    }
}

async fn read_v2<IO: AsyncRead + Unpin>(
    io: &mut IO,
    start: [u8; SHORTEST],
) -> io::Result<Option<SocketAddr>> {
    let mut header = [0; V2_HEAD + MAX_V2];
    header[..SHORTEST].copy_from_slice(&start);
    io.read_exact(&mut header[SHORTEST..V2_HEAD]).await?;
    let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if rest > MAX_V2 {
        return Err(NoHeader.into());
    }
    io.read_exact(&mut header[V2_HEAD..V2_HEAD + rest]).await?;
    let header = v2::Header::try_from(&header[..V2_HEAD + rest]).map_err(|_| NoHeader)?;
    Ok(match (header.command, header.addresses) {
        // A health check of the proxy.
        (v2::Command::Local, _) => None,
        (_, v2::Addresses::IPv4(v4)) => Some((v4.source_address, v4.source_port).into()),
        (_, v2::Addresses::IPv6(v6)) => Some((v6.source_address, v6.source_port).into()),
        (_, v2::Addresses::Unspecified | v2::Addresses::Unix(_)) => None,
    })
}

async fn read_v1<IO: AsyncRead + Unpin>(
    io: &mut IO,
    start: [u8; SHORTEST],
) -> io::Result<Option<SocketAddr>> {
    let mut line = [0; MAX_V1];
    line[..SHORTEST].copy_from_slice(&start);
    let mut filled = SHORTEST;
    while line[filled - 1] != b'\n' {
        // Without a CR at the end, at least two bytes follow: CR and LF.
        let missing = if line[filled - 1] == b'\r' { 1 } else { 2 };
        if filled + missing > MAX_V1 {
            return Err(NoHeader.into());
        }
        io.read_exact(&mut line[filled..filled + missing]).await?;
        filled += missing;
    }
    let header = v1::Header::try_from(&line[..filled]).map_err(|_| NoHeader)?;
    Ok(match header.addresses {
        v1::Addresses::Tcp4(v4) => Some((v4.source_address, v4.source_port).into()),
        v1::Addresses::Tcp6(v6) => Some((v6.source_address, v6.source_port).into()),
        v1::Addresses::Unknown => None,
    })
}

/// The error for a connection that does not begin with a valid PROXY protocol header, or whose
/// header is too long.
#[derive(Debug)]
struct NoHeader;

impl fmt::Display for NoHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("missing or invalid PROXY protocol header")
    }
}

impl Error for NoHeader {}

impl From<NoHeader> for io::Error {
    fn from(error: NoHeader) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// The beginning of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The number of bytes that distinguish the two versions. Every header is longer.
const SHORTEST: usize = 12;

/// The part of version 2 that contains the length of the rest.
const V2_HEAD: usize = 16;

/// Room for the longest addresses, which are those of Unix sockets, and for the details about TLS
/// that proxies add.
const MAX_V2: usize = 1024;

/// The longest line of version 1 in its specification.
const MAX_V1: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a header that is followed by `rest`. Checks that the rest is not read.
    async fn read_of(header: &[u8]) -> io::Result<Option<String>> {
        let bytes = [header, b"rest"].concat();
        let mut io = &bytes[..];
        let peer = read(&mut io).await?;
        assert_eq!(io, b"rest");
        Ok(peer.map(|peer| peer.to_string()))
    }

    fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [
            &SIGNATURE[..],
            &[0x20 | command, family],
            &length,
            addresses,
        ]
        .concat()
    }

    #[tokio::test]
    async fn version_1_is_read_to_its_line_end() {
        for (line, peer) in [
            (
                "PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n",
                Some("192.0.2.1:5000"),
            ),
            (
                "PROXY TCP4 192.0.2.10 192.0.2.2 5000 443\r\n",
                Some("192.0.2.10:5000"),
            ),
            (
                "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n",
                Some("[2001:db8::1]:1"),
            ),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
        ] {
            let seen = read_of(line.as_bytes()).await.unwrap();
            assert_eq!(seen.as_deref(), peer, "{line}");
        }
    }

    #[tokio::test]
    async fn version_2_is_read_to_its_length() {
        let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0x13, 0x88, 1, 0xbb];
        let expected = Some("192.0.2.1:5000".to_owned());
        assert_eq!(read_of(&v2(1, 0x11, &v4)).await.unwrap(), expected);
        let with_more = [&v4[..], &[4, 0, 1, 0]].concat();
        assert_eq!(read_of(&v2(1, 0x11, &with_more)).await.unwrap(), expected);
        assert_eq!(read_of(&v2(0, 0, &[])).await.unwrap(), None);
        assert_eq!(read_of(&v2(0, 0x11, &v4)).await.unwrap(), None);
        let mut v6 = [0; 36];
        v6[15] = 1;
        v6[33] = 7;
        assert_eq!(
            read_of(&v2(1, 0x21, &v6)).await.unwrap().unwrap(),
            "[::1]:7"
        );
    }

    #[tokio::test]
    async fn anything_else_is_refused_and_read_no_further_than_the_longest_header() {
        let endless = [&b"PROXY "[..], &[b'x'; 4096]].concat();
        let mut io = &endless[..];
        assert!(read(&mut io).await.is_err());
        assert!(endless.len() - io.len() <= MAX_V1);
        for bytes in [
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1\r\n".to_vec(),
            b"PROXY TCP4 a b c d\r\n".to_vec(),
            v2(1, 0x11, &[0; 4]),
            v2(1, 0x11, &[0; MAX_V2 + 1]),
            vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0],
        ] {
            let error = read(&mut &bytes[..]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bytes:02x?}");
        }
        let error = read(&mut &b"PROXY TCP4"[..]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
