//! PING (protocol.md §5.6).

use std::fmt;

use bytes::{Buf, BufMut, BytesMut};

use super::head;
use crate::Version;

/// PING ([protocol.md §5.6], [protocol.md §16]).
///
/// [protocol.md §5.6]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#56-ping-type-6
/// [protocol.md §16]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#16-ping-semantics
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// The id: odd if the client started the exchange, even (also 0) if the server did.
    pub id: u32,
}

impl Ping {
    /// Parses a payload of 4 bytes. The id has no reserved bit.
    #[inline]
    pub(crate) fn parse(mut payload: &[u8]) -> Self {
        Self {
            id: payload.get_u32(),
        }
    }

    /// Appends the frame to `dst`.
    #[inline]
    pub fn encode(&self, version: Version, dst: &mut BytesMut) {
        head::put_control(version, head::PING, 0, 4, dst);
        dst.put_u32(self.id);
    }
}

impl fmt::Display for Ping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PING id={}", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_32_bits_are_the_id() {
        assert_eq!(
            Ping::parse(&[0xff, 0xff, 0xff, 0xff]),
            Ping { id: u32::MAX }
        );
        assert_eq!(Ping::parse(&[0, 0, 0, 0]), Ping { id: 0 });
    }

    #[test]
    fn the_frame_has_4_bytes_and_no_flags() {
        let mut dst = BytesMut::new();
        Ping { id: 0x8000_0001 }.encode(Version::V2, &mut dst);
        assert_eq!(
            dst[..],
            *b"\x80\x02\x00\x06\x00\x00\x00\x04\x80\x00\x00\x01"
        );
        dst.clear();
        Ping { id: 2 }.encode(Version::V3_1, &mut dst);
        assert_eq!(
            dst[..],
            *b"\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x02"
        );
    }
}
