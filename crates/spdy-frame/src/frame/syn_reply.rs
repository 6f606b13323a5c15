//! SYN_REPLY (protocol.md §5.2).

use std::fmt;

use bytes::{Buf, BytesMut};

use super::{
    CompressedBlock, FlagNames,
    head::{self, FLAG_FIN},
};
use crate::{EncodeError, FrameError, FrameKind, StreamId, Version, payload::Payload};

/// SYN_REPLY ([protocol.md §5.2]): accepts a stream.
///
/// [`HeaderEncoder::encode_syn_reply`](crate::HeaderEncoder::encode_syn_reply) writes one with a
/// [`HeaderBlock`](crate::HeaderBlock).
///
/// [protocol.md §5.2]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#52-syn_reply-type-2
#[derive(Debug, PartialEq, Eq)]
pub struct SynReply<H> {
    /// The stream.
    pub stream: StreamId,
    /// Whether the acceptor sends nothing after this frame.
    pub fin: bool,
    /// The header block.
    pub block: H,
}

impl<B> SynReply<CompressedBlock<B>> {
    /// Parses a payload of at least 6 bytes in SPDY/2, and of at least 4 bytes in later versions.
    #[inline]
    pub(crate) fn parse<P: Payload<Kept = B>>(
        version: Version,
        flags: u8,
        payload: P,
    ) -> Result<Self, FrameError> {
        Ok(Self {
            stream: head::stream_id(FrameKind::SynReply, payload.bytes().get_u32())?,
            fin: flags & FLAG_FIN != 0,
            block: CompressedBlock(payload.keep_from(head::block_offset(version))),
        })
    }
}

impl<H> SynReply<H> {
    /// Writes everything but the block and the length of the frame. Returns the position of the
    /// frame, which [`head::finish_control`] needs once the block is written.
    pub(crate) fn begin(&self, version: Version, dst: &mut BytesMut) -> usize {
        let flags = if self.fin { FLAG_FIN } else { 0 };
        let start = head::begin_control(version, head::SYN_REPLY, flags, dst);
        head::put_before_block(version, self.stream, dst);
        start
    }
}

impl<B: AsRef<[u8]>> SynReply<CompressedBlock<B>> {
    /// Appends the frame to `dst`, with the block as it is.
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

impl<B: AsRef<[u8]>> fmt::Display for SynReply<CompressedBlock<B>> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = FlagNames([(self.fin, "FIN")]);
        write!(
            f,
            "SYN_REPLY stream={} flags={flags} block={}",
            self.stream,
            self.block.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c055_the_block_follows_two_unused_bytes_in_v2_and_the_id_later() {
        let payload = [0x80, 0, 0, 1, 0xff, 0xff, b'z'];
        let v2 = SynReply::parse(Version::V2, FLAG_FIN, &payload[..]).unwrap();
        assert_eq!(
            (v2.stream.get(), v2.fin, v2.block.as_bytes()),
            (1, true, &b"z"[..])
        );
        let v3 = SynReply::parse(Version::V3, 0, &payload[..]).unwrap();
        assert_eq!(
            (v3.stream.get(), v3.fin, v3.block.as_bytes()),
            (1, false, &b"\xff\xffz"[..])
        );
    }

    #[test]
    fn c055_the_unused_bytes_of_v2_are_written_as_zero() {
        let stream = StreamId::new(3).unwrap();
        let frame = SynReply {
            stream,
            fin: true,
            block: CompressedBlock::new("zip"),
        };
        let mut dst = BytesMut::new();
        frame.encode(Version::V2, &mut dst).unwrap();
        assert_eq!(
            dst[..],
            *b"\x80\x02\x00\x02\x01\x00\x00\x09\x00\x00\x00\x03\x00\x00zip"
        );
        dst.clear();
        frame.encode(Version::V3_1, &mut dst).unwrap();
        assert_eq!(
            dst[..],
            *b"\x80\x03\x00\x02\x01\x00\x00\x07\x00\x00\x00\x03zip"
        );
    }

    #[test]
    fn stream_0_cannot_be_accepted() {
        let error = SynReply::parse(Version::V3, 0, &[0x80, 0, 0, 0][..]).unwrap_err();
        assert_eq!(
            error,
            FrameError::StreamIdZero {
                kind: FrameKind::SynReply
            }
        );
    }
}
