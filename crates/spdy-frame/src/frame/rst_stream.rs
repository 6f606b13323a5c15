//! RST_STREAM (protocol.md §5.3).

use std::fmt;

use bytes::{Buf, BufMut, BytesMut};

use super::{Code, head};
use crate::{FrameError, FrameKind, RstStatus, StreamId, Version};

/// RST_STREAM ([protocol.md §5.3]): ends both directions of a stream at once.
///
/// [protocol.md §5.3]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#53-rst_stream-type-3
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RstStream {
    /// The stream.
    pub stream: StreamId,
    /// The reason.
    pub status: RstStatus,
}

impl RstStream {
    /// Parses a payload of at least 8 bytes. Text after the status is ignored.
    #[inline]
    pub(crate) fn parse(mut payload: &[u8]) -> Result<Self, FrameError> {
        let stream = head::stream_id(FrameKind::RstStream, payload.get_u32())?;
        Ok(Self {
            stream,
            status: RstStatus(payload.get_u32()),
        })
    }

    /// Appends the frame to `dst`.
    #[inline]
    pub fn encode(&self, version: Version, dst: &mut BytesMut) {
        head::put_control(version, head::RST_STREAM, 0, 8, dst);
        dst.put_u32(self.stream.get());
        dst.put_u32(self.status.0);
    }
}

impl fmt::Display for RstStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = Code {
            name: self.status.name(),
            number: self.status.0,
        };
        write!(f, "RST_STREAM stream={} status={status}", self.stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: RstStream = RstStream {
        stream: StreamId::MAX,
        status: RstStatus::REFUSED_STREAM,
    };

    #[test]
    fn c068_the_frame_has_8_bytes_and_no_flags() {
        let written = |version| {
            let mut dst = BytesMut::new();
            REFUSED.encode(version, &mut dst);
            dst
        };
        let v2 = b"\x80\x02\x00\x03\x00\x00\x00\x08\x7f\xff\xff\xff\x00\x00\x00\x03";
        let v3 = b"\x80\x03\x00\x03\x00\x00\x00\x08\x7f\xff\xff\xff\x00\x00\x00\x03";
        assert_eq!(written(Version::V2)[..], *v2);
        assert_eq!(written(Version::V3)[..], *v3);
        assert_eq!(written(Version::V3_1)[..], *v3);
    }

    #[test]
    fn c028_the_reserved_bit_is_masked() {
        assert_eq!(
            RstStream::parse(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 3]),
            Ok(REFUSED)
        );
    }

    #[test]
    fn c065_any_status_is_kept() {
        let status = |bytes: &[u8]| RstStream::parse(bytes).unwrap().status;
        assert_eq!(status(&[0, 0, 0, 1, 0, 0, 0, 0]), RstStatus(0));
        assert_eq!(status(&[0, 0, 0, 1, 0, 0, 0, 99]), RstStatus(99));
    }

    #[test]
    fn c067_text_behind_the_status_is_left_out() {
        let payload = b"\x00\x00\x00\x01\x00\x00\x00\x05twenty extra bytes.";
        let stream = StreamId::new(1).unwrap();
        assert_eq!(
            RstStream::parse(payload),
            Ok(RstStream {
                stream,
                status: RstStatus::CANCEL
            })
        );
    }

    #[test]
    fn stream_0_cannot_be_reset() {
        let error = RstStream::parse(&[0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(
            error,
            Err(FrameError::StreamIdZero {
                kind: FrameKind::RstStream
            })
        );
    }
}
