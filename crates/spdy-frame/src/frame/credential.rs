//! CREDENTIAL (protocol.md §5.10).

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::head;
use crate::{EncodeError, FrameError, FrameKind, Version, hidden::Hidden, payload::Payload};

/// CREDENTIAL ([protocol.md §5.10]). The lengths in it are checked, its contents are not.
///
/// [protocol.md §5.10]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#510-credential-type-10-spdy3-only
#[derive(PartialEq, Eq)]
pub struct Credential<B = Bytes> {
    /// The slot, counted from 1.
    pub slot: u16,
    /// The proof and the certificates with their lengths, uninterpreted.
    pub payload: B,
}

impl<B> Credential<B> {
    /// Parses a payload of at least 6 bytes.
    ///
    /// # Errors
    ///
    /// Returns [`FrameError::Length`] if the proof and the certificates do not end where the frame
    /// ends.
    pub(crate) fn parse<P: Payload<Kept = B>>(payload: P) -> Result<Self, FrameError> {
        let mut parts = payload.bytes();
        let length = parts.len() as u32;
        let slot = parts.get_u16();
        match missing(parts) {
            0 => Ok(Self {
                slot,
                payload: payload.keep_from(2),
            }),
            missing => {
                let wanted = length.saturating_add(missing);
                let kind = FrameKind::Credential;
                Err(FrameError::Length {
                    kind,
                    length,
                    min: wanted,
                    max: wanted,
                })
            }
        }
    }
}

impl<B: AsRef<[u8]>> Credential<B> {
    /// Appends the frame to `dst`.
    ///
    /// # Errors
    ///
    /// Returns [`EncodeError::NotInVersion`] in SPDY/2 and SPDY/3.1, and [`EncodeError::TooLarge`]
    /// if the payload is longer than 16,777,215 bytes. After an error `dst` is unchanged.
    pub fn encode(&self, version: Version, dst: &mut BytesMut) -> Result<(), EncodeError> {
        if version != Version::V3 {
            return Err(EncodeError::NotInVersion {
                kind: FrameKind::Credential,
                version,
            });
        }
        let start = head::begin_control(version, head::CREDENTIAL, 0, dst);
        dst.put_u16(self.slot);
        dst.extend_from_slice(self.payload.as_ref());
        head::finish_control(start, dst)
    }
}

/// Shows only the length of the proof and the certificates.
impl<B: AsRef<[u8]>> fmt::Debug for Credential<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("slot", &self.slot)
            .field("payload", &Hidden(self.payload.as_ref().len()))
            .finish()
    }
}

impl<B: AsRef<[u8]>> fmt::Display for Credential<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CREDENTIAL slot={} length={}",
            self.slot,
            self.payload.as_ref().len()
        )
    }
}

/// Returns the number of bytes that are missing after `parts`. Each part is a 32-bit length and
/// that number of bytes.
fn missing(mut parts: &[u8]) -> u32 {
    while !parts.is_empty() {
        let Some((length, rest)) = parts.split_first_chunk::<4>() else {
            return 4 - parts.len() as u32;
        };
        let length = u32::from_be_bytes(*length);
        match rest.get(length as usize..) {
            Some(next) => parts = next,
            None => return length - rest.len() as u32,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slot 3, a proof of two bytes, one certificate of three bytes and an empty one.
    const PAYLOAD: &[u8] = b"\x00\x03\x00\x00\x00\x02ok\x00\x00\x00\x03der\x00\x00\x00\x00";

    #[test]
    fn proof_and_certificates_fill_the_rest_of_the_frame() {
        let frame = Credential::parse(PAYLOAD).unwrap();
        assert_eq!((frame.slot, frame.payload), (3, &PAYLOAD[2..]));
        assert!(Credential::parse(&[0, 1, 0, 0, 0, 0][..]).is_ok());
    }

    #[test]
    fn a_part_that_reaches_past_the_end_is_an_error() {
        let wanted = |payload: &[u8]| match Credential::parse(payload).unwrap_err() {
            FrameError::Length { min, max, .. } if min == max => max,
            other => panic!("{other}"),
        };
        assert_eq!(wanted(&PAYLOAD[..PAYLOAD.len() - 1]), 19);
        assert_eq!(wanted(&[0, 1, 0, 0, 0, 9, 1]), 15);
        assert_eq!(wanted(&[0, 1, 0xff, 0xff, 0xff, 0xff]), u32::MAX);
    }

    #[test]
    fn the_frame_exists_in_v3_only() {
        let frame = Credential {
            slot: 3,
            payload: &PAYLOAD[2..],
        };
        let mut dst = BytesMut::new();
        for version in [Version::V2, Version::V3_1] {
            let error = EncodeError::NotInVersion {
                kind: FrameKind::Credential,
                version,
            };
            assert_eq!(frame.encode(version, &mut dst), Err(error));
        }
        assert!(dst.is_empty());
        frame.encode(Version::V3, &mut dst).unwrap();
        assert_eq!(dst[..8], *b"\x80\x03\x00\x0a\x00\x00\x00\x13");
        assert_eq!(dst[8..], *PAYLOAD);
    }
}
