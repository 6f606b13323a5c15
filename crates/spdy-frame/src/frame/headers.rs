//! HEADERS (protocol.md §5.8).

use std::fmt;

use bytes::{Buf, BytesMut};

use super::{
    CompressedBlock, FlagNames,
    head::{self, FLAG_FIN},
};
use crate::{EncodeError, FrameError, FrameKind, StreamId, Version, payload::Payload};

/// HEADERS ([protocol.md §5.8]): more header fields for a stream. They are trailers if `fin` is
/// set.
///
/// [`HeaderEncoder::encode_headers`](crate::HeaderEncoder::encode_headers) writes one with a
/// [`HeaderBlock`](crate::HeaderBlock).
///
/// [protocol.md §5.8]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#58-headers-type-8
#[derive(Debug, PartialEq, Eq)]
pub struct Headers<H> {
    /// The stream.
    pub stream: StreamId,
    /// Whether the sender sends nothing after this frame. The flag is honoured in SPDY/2 on
    /// receipt, but never written there: end the stream with an empty DATA frame instead.
    pub fin: bool,
    /// The header block.
    pub block: H,
}

impl<B> Headers<CompressedBlock<B>> {
    /// Parses a payload of at least 6 bytes in SPDY/2, and of at least 4 bytes in later versions.
    #[inline]
    pub(crate) fn parse<P: Payload<Kept = B>>(
        version: Version,
        flags: u8,
        payload: P,
    ) -> Result<Self, FrameError> {
        Ok(Self {
            stream: head::stream_id(FrameKind::Headers, payload.bytes().get_u32())?,
            fin: flags & FLAG_FIN != 0,
            block: CompressedBlock(payload.keep_from(head::block_offset(version))),
        })
    }
}

impl<H> Headers<H> {
    /// Writes everything but the block and the length of the frame. Returns the position of the
    /// frame, which [`head::finish_control`] needs once the block is written.
    pub(crate) fn begin(&self, version: Version, dst: &mut BytesMut) -> usize {
        // SPDY/2 defines no flags for HEADERS, so a peer might ignore them (protocol.md §5.8).
        let flags = if self.fin && version != Version::V2 {
            FLAG_FIN
        } else {
            0
        };
        let start = head::begin_control(version, head::HEADERS, flags, dst);
        head::put_before_block(version, self.stream, dst);
        start
    }
}

impl<B: AsRef<[u8]>> Headers<CompressedBlock<B>> {
    /// Appends the frame to `dst`, with the block as it is. In SPDY/2 [`fin`](Self::fin) is left
    /// out.
    ///
    /// # Errors
    ///
    /// Returns [`EncodeError::TooLarge`] if the payload is longer than 16,777,215 bytes. After an
    /// error `dst` is unchanged.
    pub fn encode(&self, version: Version, dst: &mut BytesMut) -> Result<(), EncodeError> {
        let start = self.begin(version, dst);
        dst.extend_from_slice(self.block.as_bytes());
        head::finish_control(start, dst)
    }
}

impl<B: AsRef<[u8]>> fmt::Display for Headers<CompressedBlock<B>> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = FlagNames([(self.fin, "FIN")]);
        write!(
            f,
            "HEADERS stream={} flags={flags} block={}",
            self.stream,
            self.block.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_follows_two_unused_bytes_in_v2_and_the_id_later() {
        let payload = [0, 0, 0, 1, 0xff, 0xff, b'z'];
        let v2 = Headers::parse(Version::V2, FLAG_FIN, &payload[..]).unwrap();
        assert_eq!(
            (v2.fin, v2.block.as_bytes()),
            (true, &b"z"[..]),
            "FIN is honoured in SPDY/2 too"
        );
        let v3 = Headers::parse(Version::V3, 0, &payload[..]).unwrap();
        assert_eq!((v3.fin, v3.block.as_bytes()), (false, &b"\xff\xffz"[..]));
    }

    #[test]
    fn c109_headers_of_four_bytes_have_no_fields() {
        for version in [Version::V3, Version::V3_1] {
            let frame = Headers::parse(version, FLAG_FIN, &[0, 0, 0, 5][..]).unwrap();
            assert_eq!(frame.stream.get(), 5);
            assert!(frame.fin && frame.block.is_empty());
        }
    }

    #[test]
    fn c111_stream_0_has_no_headers() {
        let error = Headers::parse(Version::V2, 0, &[0; 6][..]).unwrap_err();
        assert_eq!(
            error,
            FrameError::StreamIdZero {
                kind: FrameKind::Headers
            }
        );
    }

    #[test]
    fn fin_is_written_in_v3_and_left_out_in_v2() {
        let stream = StreamId::new(3).unwrap();
        let frame = Headers {
            stream,
            fin: true,
            block: CompressedBlock::new("zip"),
        };
        let mut dst = BytesMut::new();
        frame.encode(Version::V2, &mut dst).unwrap();
        assert_eq!(
            dst[..],
            *b"\x80\x02\x00\x08\x00\x00\x00\x09\x00\x00\x00\x03\x00\x00zip"
        );
        dst.clear();
        frame.encode(Version::V3, &mut dst).unwrap();
        assert_eq!(
            dst[..],
            *b"\x80\x03\x00\x08\x01\x00\x00\x07\x00\x00\x00\x03zip"
        );
    }
}
