//! SYN_STREAM (protocol.md §5.1).

use std::fmt;

use bytes::{Buf, BufMut, BytesMut};

use super::{
    CompressedBlock, FlagNames,
    head::{self, FLAG_FIN, FLAG_UNIDIRECTIONAL},
};
use crate::{EncodeError, FrameError, FrameKind, Priority, StreamId, Version, payload::Payload};

/// SYN_STREAM ([protocol.md §5.1]): opens a stream.
///
/// [`HeaderEncoder::encode_syn_stream`](crate::HeaderEncoder::encode_syn_stream) writes one with a
/// [`HeaderBlock`](crate::HeaderBlock).
///
/// [protocol.md §5.1]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#51-syn_stream-type-1
#[derive(Debug, PartialEq, Eq)]
pub struct SynStream<H> {
    /// The new stream.
    pub stream: StreamId,
    /// The stream that this one belongs to. Pushed streams have one.
    pub associated: Option<StreamId>,
    /// The priority of the stream.
    pub priority: Priority,
    /// Whether the initiator sends nothing after this frame.
    pub fin: bool,
    /// Whether the acceptor must not send anything on the stream.
    pub unidirectional: bool,
    /// The header block.
    pub block: H,
}

impl<B> SynStream<CompressedBlock<B>> {
    /// Parses a payload of at least 10 bytes.
    #[inline]
    pub(crate) fn parse<P: Payload<Kept = B>>(
        version: Version,
        flags: u8,
        payload: P,
    ) -> Result<Self, FrameError> {
        let mut fields = payload.bytes();
        Ok(Self {
            stream: head::stream_id(FrameKind::SynStream, fields.get_u32())?,
            associated: StreamId::from_field(fields.get_u32()),
            priority: Priority::from_byte(version, fields.get_u8()),
            fin: flags & FLAG_FIN != 0,
            unidirectional: flags & FLAG_UNIDIRECTIONAL != 0,
            // Byte 9 is the slot of a client certificate in SPDY/3 and unused in the other
            // versions. It is ignored in all versions (protocol.md §5.10).
            block: CompressedBlock(payload.keep_from(10)),
        })
    }
}

impl<H> SynStream<H> {
    /// Writes everything but the block and the length of the frame. Returns the position of the
    /// frame, which [`head::finish_control`] needs once the block is written.
    pub(crate) fn begin(&self, version: Version, dst: &mut BytesMut) -> usize {
        let fin = if self.fin { FLAG_FIN } else { 0 };
        let unidirectional = if self.unidirectional {
            FLAG_UNIDIRECTIONAL
        } else {
            0
        };
        let start = head::begin_control(version, head::SYN_STREAM, fin | unidirectional, dst);
        dst.put_u32(self.stream.get());
        dst.put_u32(self.associated.map_or(0, StreamId::get));
        dst.put_u8(self.priority.to_byte(version));
        dst.put_u8(0);
        start
    }
}

impl<B: AsRef<[u8]>> SynStream<CompressedBlock<B>> {
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

impl<B: AsRef<[u8]>> fmt::Display for SynStream<CompressedBlock<B>> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SYN_STREAM stream={} associated={} priority={} flags={} block={}",
            self.stream,
            self.associated.map_or(0, StreamId::get),
            self.priority.get(),
            FlagNames([(self.fin, "FIN"), (self.unidirectional, "UNIDIRECTIONAL")]),
            self.block.len(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD: [u8; 13] = [0, 0, 0, 2, 0, 0, 0, 1, 0xe0, 9, b'z', b'i', b'p'];

    fn parse(version: Version, flags: u8, payload: &[u8]) -> SynStream<CompressedBlock<&[u8]>> {
        SynStream::parse(version, flags, payload).unwrap()
    }

    #[test]
    fn c060_fields_stand_where_the_draft_puts_them_and_the_slot_is_ignored() {
        for version in Version::ALL {
            let frame = parse(version, FLAG_UNIDIRECTIONAL, &PAYLOAD);
            assert_eq!(frame.stream.get(), 2);
            assert_eq!(frame.associated, StreamId::new(1));
            assert!(frame.unidirectional && !frame.fin);
            assert_eq!(frame.block.as_bytes(), b"zip");
        }
    }

    #[test]
    fn c058_c059_three_bits_of_priority_are_two_in_v2() {
        assert_eq!(parse(Version::V2, 0, &PAYLOAD).priority.get(), 3);
        assert_eq!(parse(Version::V3, 0, &PAYLOAD).priority.get(), 7);
        assert_eq!(parse(Version::V3_1, 0, &PAYLOAD).priority.get(), 7);
    }

    #[test]
    fn c028_reserved_bits_are_masked() {
        let frame = parse(Version::V3, 0, &[0x80, 0, 0, 1, 0x80, 0, 0, 0, 0x1f, 0xff]);
        assert_eq!(frame.stream.get(), 1);
        assert_eq!(frame.associated, None);
        assert_eq!(frame.priority, Priority::HIGHEST);
        assert!(frame.block.is_empty());
    }

    #[test]
    fn c039_stream_0_cannot_be_opened() {
        let error = SynStream::parse(Version::V3, 0, &[0; 10][..]).unwrap_err();
        assert_eq!(
            error,
            FrameError::StreamIdZero {
                kind: FrameKind::SynStream
            }
        );
    }

    #[test]
    fn c031_unused_bytes_are_written_as_zero() {
        let frame = SynStream {
            stream: StreamId::MAX,
            associated: None,
            priority: Priority::LOWEST,
            fin: true,
            unidirectional: true,
            block: CompressedBlock::new("zip"),
        };
        let written = |version| {
            let mut dst = BytesMut::new();
            frame.encode(version, &mut dst).unwrap();
            dst
        };
        let v2 = b"\x80\x02\x00\x01\x03\x00\x00\x0d\x7f\xff\xff\xff\x00\x00\x00\x00\xc0\x00zip";
        let v3 = b"\x80\x03\x00\x01\x03\x00\x00\x0d\x7f\xff\xff\xff\x00\x00\x00\x00\xe0\x00zip";
        assert_eq!(written(Version::V2)[..], *v2);
        assert_eq!(written(Version::V3)[..], *v3);
        assert_eq!(written(Version::V3_1)[..], *v3);
    }
}
