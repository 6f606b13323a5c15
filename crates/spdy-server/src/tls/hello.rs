//! Reads the first message of the client before the handshake, to determine whether it offers ALPN
//! or NPN.
//!
//! Other parts of the message are not checked. The library that does the handshake checks them.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::rewind::Rewind;

/// Reads the message. Returns the transport, which yields all bytes again, and whether the client
/// offers NPN but not ALPN.
///
/// Writes nothing, and reads at most 64 KiB. The caller has to set a time limit.
pub(super) async fn read<IO>(mut io: IO) -> io::Result<(Rewind<IO, Vec<u8>>, bool)>
where
    IO: AsyncRead + Unpin,
{
    let (mut bytes, mut message) = (Vec::new(), Vec::new());
    let offers_npn_alone = loop {
        if !read_record(&mut io, &mut bytes, &mut message).await? {
            break false;
        }
        match Offer::of(&message) {
            Some(offer) => break offer.npn && !offer.alpn,
            None if message.len() > MAX_MESSAGE => break false,
            None => {}
        }
    };
    let len = bytes.len();
    Ok((Rewind::new(io, bytes, len), offers_npn_alone))
}

/// Reads one record into `bytes`, and its payload also into `message`. Returns `false` if it is not
/// a handshake record.
async fn read_record<IO>(
    io: &mut IO,
    bytes: &mut Vec<u8>,
    message: &mut Vec<u8>,
) -> io::Result<bool>
where
    IO: AsyncRead + Unpin,
{
    let start = bytes.len();
    bytes.resize(start + RECORD_HEAD, 0);
    io.read_exact(&mut bytes[start..]).await?;
    let head = &bytes[start..];
    let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
    if head[..2] != HANDSHAKE_RECORD || length == 0 || length > MAX_RECORD {
        return Ok(false);
    }
    let start = bytes.len();
    bytes.resize(start + length, 0);
    io.read_exact(&mut bytes[start..]).await?;
    message.extend_from_slice(&bytes[start..]);
    Ok(true)
}

/// The extensions for choosing a protocol that a client offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Offer {
    npn: bool,
    alpn: bool,
}

impl Offer {
    /// Parses a handshake message. Returns `None` if it is incomplete. An invalid message offers
    /// nothing.
    fn of(message: &[u8]) -> Option<Self> {
        let (head, rest) = message.split_at_checked(4)?;
        let length = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
        if head[0] != CLIENT_HELLO || length > MAX_MESSAGE {
            return Some(Self::default());
        }
        let body = rest.get(..length)?;
        Some(Self::of_hello(body).unwrap_or_default())
    }

    /// RFC 5246 §7.4.1.2: version, random, session id, cipher suites, compression methods,
    /// extensions.
    fn of_hello(mut body: &[u8]) -> Option<Self> {
        let body = &mut body;
        take(body, 2 + 32)?;
        take_vector::<1>(body)?;
        take_vector::<2>(body)?;
        take_vector::<1>(body)?;
        let mut extensions = take_vector::<2>(body)?;
        let mut offer = Self::default();
        while !extensions.is_empty() {
            let kind = take(&mut extensions, 2)?;
            take_vector::<2>(&mut extensions)?;
            offer.npn |= kind == NPN;
            offer.alpn |= kind == ALPN;
        }
        Some(offer)
    }
}

/// Takes bytes from the front.
fn take<'a>(from: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(bytes)?;
    *from = rest;
    Some(taken)
}

/// Takes a length of `N` bytes from the front, and then that number of bytes.
fn take_vector<'a, const N: usize>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take(from, N)?
        .iter()
        .fold(0, |length, byte| length << 8 | usize::from(*byte));
    take(from, length)
}

/// Type, version and length.
const RECORD_HEAD: usize = 5;

/// A handshake record, with version 3.x of SSL, as in all versions of TLS.
const HANDSHAKE_RECORD: [u8; 2] = [22, 3];

const MAX_RECORD: usize = 1 << 14;

/// More than the first message of any client, and as much as rustls reads.
const MAX_MESSAGE: usize = 0xffff - MAX_RECORD;

const CLIENT_HELLO: u8 = 1;
const NPN: [u8; 2] = 13172_u16.to_be_bytes();
const ALPN: [u8; 2] = 16_u16.to_be_bytes();

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a message with these extensions, all of them empty.
    fn hello(extensions: &[u16]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0xc0, 0x2f, 1, 0]);
        body.extend(u16::try_from(extensions.len() * 4).unwrap().to_be_bytes());
        for kind in extensions {
            body.extend(kind.to_be_bytes());
            body.extend([0, 0]);
        }
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[CLIENT_HELLO], &length[1..], &body].concat()
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let record = |piece: &[u8]| {
            let length = u16::try_from(piece.len()).unwrap().to_be_bytes();
            [&[22, 3, 1], &length[..], piece].concat()
        };
        message.chunks(size).flat_map(record).collect()
    }

    #[tokio::test]
    async fn npn_counts_where_there_is_no_alpn() {
        for (extensions, expected) in [
            (&[0, 13172, 10][..], true),
            (&[13172], true),
            (&[13172, 16], false),
            (&[16, 13172], false),
            (&[16], false),
            (&[], false),
        ] {
            for size in [1000, 50, 1] {
                let bytes = records(&hello(extensions), size);
                let (mut io, npn) = read(&bytes[..]).await.unwrap();
                assert_eq!(npn, expected, "{extensions:?} in pieces of {size}");
                let mut seen = Vec::new();
                io.read_to_end(&mut seen).await.unwrap();
                assert_eq!(seen, bytes);
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_hello_is_left_to_others() {
        let mut broken = hello(&[13172]);
        let last = broken.len() - 1;
        broken[last] = 9;
        for bytes in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            records(&broken, 1000),
            records(&[2, 0, 0, 1, 0], 1000),
            records(&[1, 0xff, 0xff, 0xff], 1000),
            vec![22, 3, 1, 0, 0],
            vec![22, 3, 1, 0xff, 0xff],
        ] {
            let (mut io, npn) = read(&bytes[..]).await.unwrap();
            assert!(!npn);
            let mut seen = Vec::new();
            io.read_to_end(&mut seen).await.unwrap();
            assert_eq!(seen, bytes);
        }
        let cut = &records(&hello(&[13172]), 1000)[..20];
        let error = read(cut).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_hello_without_an_end_is_read_for_so_long_only() {
        let endless = records(&[&[1, 0, 0xbf, 0xff], &[0; 200_000][..]].concat(), 1000);
        let mut left = &endless[..];
        let (_, npn) = read(&mut left).await.unwrap();
        assert!(!npn);
        assert!(endless.len() - left.len() < 70_000);
    }
}
