//! The header of the PROXY protocol, with which a proxy announces the address of its client.
//!
//! Not one byte after the header is read, because those bytes belong to the handshake. The binary
//! header of version 2 contains its length. The line of version 1 is read in steps of at most the
//! bytes that must still follow.

mod checksum;
mod facts;

use std::{error::Error, fmt, io, net::SocketAddr, sync::Arc};

use ppp::{v1, v2};
use spdy_frame::Version;
use tokio::io::{AsyncRead, AsyncReadExt};

pub use self::facts::{ProxyCertificate, ProxyInfo, ProxyTls};
use crate::negotiate::{PlainVersion, Protocol};

/// What is known of the client of a connection before its first byte.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// The address of the client. `None` if the proxy connects for itself, or does not announce the
    /// address.
    pub(crate) peer: Option<SocketAddr>,
    /// What else the header says; `None` if that is nothing.
    pub(crate) info: Option<Arc<ProxyInfo>>,
}

impl Said {
    /// Returns what is known of a connection without a header.
    pub(crate) fn by_itself(peer: Option<SocketAddr>) -> Self {
        Self { peer, info: None }
    }

    /// Returns the same with this address if there is no other.
    pub(crate) fn or(self, peer: Option<SocketAddr>) -> Self {
        Self {
            peer: self.peer.or(peer),
            ..self
        }
    }

    /// Returns whether the client uses TLS up to the proxy.
    pub(crate) fn is_tls(&self) -> bool {
        self.info.as_ref().is_some_and(|info| info.tls.is_some())
    }

    /// Returns the version that version field 3 means, if ALPN has selected it at the proxy.
    pub(crate) fn plain_version(&self) -> Option<PlainVersion> {
        let alpn = self.info.as_ref()?.alpn.as_deref()?;
        match Protocol::from_alpn(alpn)? {
            Protocol::Spdy(Version::V3) => Some(PlainVersion::V3),
            Protocol::Spdy(Version::V3_1) => Some(PlainVersion::V3_1),
            _ => None,
        }
    }
}

/// Reads the header.
///
/// The caller has to set a time limit. The error is `InvalidData` if the header is not valid.
pub(crate) async fn read<IO: AsyncRead + Unpin>(io: &mut IO) -> io::Result<Said> {
    let mut start = [0; SHORTEST];
    io.read_exact(&mut start).await?;
    if start.starts_with(SIGNATURE) {
        read_v2(io, start).await
    } else if start.starts_with(b"PROXY ") {
        read_v1(io, start).await.map(Said::by_itself)
    } else {
        Err(Invalid::Header.into())
    }
}

async fn read_v2<IO: AsyncRead + Unpin>(io: &mut IO, start: [u8; SHORTEST]) -> io::Result<Said> {
    let mut head = [0; V2_HEAD];
    head[..SHORTEST].copy_from_slice(&start);
    io.read_exact(&mut head[SHORTEST..]).await?;
    let rest = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if rest > MAX_V2 {
        return Err(Invalid::Length(rest).into());
    }
    let mut header = head.to_vec();
    header.resize(V2_HEAD + rest, 0);
    io.read_exact(&mut header[V2_HEAD..]).await?;
    let bytes = header;
    let header = v2::Header::try_from(&*bytes).map_err(|_| Invalid::Header)?;
    let verified = checksum::verify(&bytes, header.tlv_bytes());
    if header.command == v2::Command::Local {
        // A health check of the proxy. What follows its addresses need not be fields.
        return match verified {
            Err(error @ Invalid::Checksum { .. }) => Err(error.into()),
            _ => Ok(Said::default()),
        };
    }
    verified?;
    let peer = match header.addresses {
        v2::Addresses::IPv4(v4) => Some((v4.source_address, v4.source_port).into()),
        v2::Addresses::IPv6(v6) => Some((v6.source_address, v6.source_port).into()),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    };
    let info = ProxyInfo::read(header.tlvs())?;
    let info = (info != ProxyInfo::default()).then(|| Arc::new(info));
    Ok(Said { peer, info })
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
            return Err(Invalid::Header.into());
        }
        io.read_exact(&mut line[filled..filled + missing]).await?;
        filled += missing;
    }
    let header = v1::Header::try_from(&line[..filled]).map_err(|_| Invalid::Header)?;
    Ok(match header.addresses {
        v1::Addresses::Tcp4(v4) => Some((v4.source_address, v4.source_port).into()),
        v1::Addresses::Tcp6(v6) => Some((v6.source_address, v6.source_port).into()),
        v1::Addresses::Unknown => None,
    })
}

/// The reason why the beginning of a connection is not a valid PROXY protocol header.
#[derive(Debug, PartialEq, Eq)]
enum Invalid {
    /// There is no header, or its addresses are not valid.
    Header,
    /// The header has this many bytes after its length.
    Length(usize),
    /// A field has more bytes than what contains it.
    Field { kind: u8, length: u16 },
    /// The header, or a field with fields, ends with fewer bytes than the head of a field.
    Rest,
    /// A field is there twice.
    Twice(u8),
    /// The value of a field is malformed.
    Value(u8),
    /// The header is not the one whose checksum it has.
    Checksum { said: u32, is: u32 },
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("missing or invalid PROXY protocol header"),
            Self::Length(length) => write!(
                f,
                "the PROXY protocol header exceeds the limit of {MAX_V2} bytes: it has {length}"
            ),
            Self::Field { kind, length } => write!(
                f,
                "field {kind:#04x} of the PROXY protocol header has {length} bytes, which are more than follow"
            ),
            Self::Rest => {
                f.write_str("the PROXY protocol header ends with bytes that are no field")
            }
            Self::Twice(kind) => write!(f, "the PROXY protocol header has field {kind:#04x} twice"),
            Self::Value(kind) => {
                write!(
                    f,
                    "field {kind:#04x} of the PROXY protocol header is not valid"
                )
            }
            Self::Checksum { said, is } => write!(
                f,
                "the PROXY protocol header has the checksum (CRC32C) {said:#010x}, and its bytes \
                 have {is:#010x}"
            ),
        }
    }
}

impl Error for Invalid {}

impl From<Invalid> for io::Error {
    fn from(error: Invalid) -> Self {
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
/// that proxies add, with the certificate of the client.
const MAX_V2: usize = 4096;

/// The longest line of version 1 in its specification.
const MAX_V1: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a header that is followed by `rest`. Checks that the rest is not read.
    async fn read_of(header: &[u8]) -> io::Result<Option<String>> {
        let bytes = [header, b"rest"].concat();
        let mut io = &bytes[..];
        let said = read(&mut io).await?;
        assert_eq!(io, b"rest");
        Ok(said.peer.map(|peer| peer.to_string()))
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
    async fn a_header_with_a_wrong_checksum_is_refused() {
        let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0x13, 0x88, 1, 0xbb];
        for command in [1, 0] {
            let with = |crc: [u8; 4]| v2(command, 0x11, &[&v4[..], &[3, 0, 4], &crc].concat());
            let wrong = read_of(&with([0; 4])).await.unwrap_err();
            assert_eq!(wrong.kind(), io::ErrorKind::InvalidData);
            let text = wrong.to_string();
            assert!(
                text.contains("the checksum (CRC32C) 0x00000000, and"),
                "{text}"
            );
            let is = text.rsplit_once("have 0x").unwrap().1;
            let is = u32::from_str_radix(is, 16).unwrap();
            read_of(&with(is.to_be_bytes())).await.unwrap();
        }
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
