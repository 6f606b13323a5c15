//! GOAWAY (protocol.md §5.7).

use std::fmt;

use bytes::{Buf, BufMut, BytesMut};

use super::{Code, head};
use crate::{FrameError, FrameKind, GoAwayStatus, StreamId, Version};

/// GOAWAY ([protocol.md §5.7], [protocol.md §15]).
///
/// [protocol.md §5.7]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#57-goaway-type-7
/// [protocol.md §15]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#15-goaway-and-shutdown
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoAway {
    /// The highest stream of the receiver that the sender might have processed.
    pub last_good: Option<StreamId>,
    /// The reason. It is always [`GoAwayStatus::OK`] in SPDY/2, which has no field for it.
    pub status: GoAwayStatus,
}

impl GoAway {
    /// Parses a payload of 4 or 8 bytes in SPDY/2, and of 8 bytes in later versions.
    pub(crate) fn parse(version: Version, mut payload: &[u8]) -> Result<Self, FrameError> {
        let length = payload.len() as u32;
        let last_good = StreamId::from_field(payload.get_u32());
        let status = match (version, payload.len()) {
            // Deployed SPDY/2 peers send the long form too. Their status has no meaning.
            (Version::V2, 0 | 4) => GoAwayStatus::OK,
            (Version::V2, _) => {
                return Err(FrameError::Length {
                    kind: FrameKind::GoAway,
                    length,
                    min: 4,
                    max: 8,
                });
            }
            (Version::V3 | Version::V3_1, _) => GoAwayStatus(payload.get_u32()),
        };
        Ok(Self { last_good, status })
    }

    /// Appends the frame to `dst`, in SPDY/2 without the status.
    #[inline]
    pub fn encode(&self, version: Version, dst: &mut BytesMut) {
        let last_good = self.last_good.map_or(0, StreamId::get);
        if version == Version::V2 {
            head::put_control(version, head::GOAWAY, 0, 4, dst);
            dst.put_u32(last_good);
        } else {
            head::put_control(version, head::GOAWAY, 0, 8, dst);
            dst.put_u32(last_good);
            dst.put_u32(self.status.0);
        }
    }
}

impl fmt::Display for GoAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last_good = self.last_good.map_or(0, StreamId::get);
        let status = Code {
            name: self.status.name(),
            number: self.status.0,
        };
        write!(f, "GOAWAY last_good={last_good} status={status}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: GoAway = GoAway {
        last_good: StreamId::new(5),
        status: GoAwayStatus::OK,
    };

    #[test]
    fn c094_c095_the_status_is_written_in_v3_only() {
        let frame = GoAway {
            status: GoAwayStatus::PROTOCOL_ERROR,
            ..FIVE
        };
        let mut dst = BytesMut::new();
        frame.encode(Version::V2, &mut dst);
        assert_eq!(
            dst[..],
            *b"\x80\x02\x00\x07\x00\x00\x00\x04\x00\x00\x00\x05"
        );
        dst.clear();
        frame.encode(Version::V3_1, &mut dst);
        assert_eq!(
            dst[..],
            *b"\x80\x03\x00\x07\x00\x00\x00\x08\x00\x00\x00\x05\x00\x00\x00\x01"
        );
    }

    #[test]
    fn c096_no_stream_is_zero_on_the_wire() {
        let frame = GoAway {
            last_good: None,
            status: GoAwayStatus::OK,
        };
        let mut dst = BytesMut::new();
        frame.encode(Version::V3, &mut dst);
        assert_eq!(dst[8..], [0; 8]);
        assert_eq!(GoAway::parse(Version::V3, &dst[8..]), Ok(frame));
        assert_eq!(
            GoAway::parse(Version::V2, &[0x80, 0, 0, 0]),
            Ok(frame),
            "reserved bit"
        );
    }

    #[test]
    fn c104_any_status_is_kept() {
        let status = |bytes: &[u8]| GoAway::parse(Version::V3_1, bytes).unwrap().status;
        assert_eq!(status(&[0, 0, 0, 5, 0, 0, 0, 11]), GoAwayStatus(11));
        assert_eq!(status(&[0, 0, 0, 5, 0, 0, 0, 99]), GoAwayStatus(99));
    }

    #[test]
    fn c105_the_long_form_is_accepted_in_v2_and_its_status_ignored() {
        assert_eq!(GoAway::parse(Version::V2, &[0, 0, 0, 5]), Ok(FIVE));
        assert_eq!(
            GoAway::parse(Version::V2, &[0, 0, 0, 5, 0, 0, 0, 1]),
            Ok(FIVE)
        );
    }

    #[test]
    fn a_length_between_the_two_forms_is_an_error_in_v2() {
        let error = GoAway::parse(Version::V2, &[0, 0, 0, 5, 0, 0]);
        let kind = FrameKind::GoAway;
        assert_eq!(
            error,
            Err(FrameError::Length {
                kind,
                length: 6,
                min: 4,
                max: 8
            })
        );
    }
}
