//! Control frames that are skipped (protocol.md §5.11).

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::head;
use crate::{EncodeError, Version, hidden::Hidden};

/// A control frame that has no meaning in this session and is skipped.
///
/// Most have a type that the version does not have ([protocol.md §5.11]). The others are frames of
/// another version in SPDY/2 ([protocol.md §4.4]), and updates of the session window by 0 in
/// SPDY/3, which has no session window.
///
/// [protocol.md §5.11]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#511-unknown-control-frame-types
/// [protocol.md §4.4]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#44-version-check
#[derive(PartialEq, Eq)]
pub struct UnknownControl<B = Bytes> {
    /// The type number.
    pub type_number: u16,
    /// The flags byte.
    pub flags: u8,
    /// The payload. It is empty if the frame is longer than
    /// [`max_control_frame`](crate::DecodeLimits::max_control_frame): then its bytes are not kept.
    pub payload: B,
}

impl<B: AsRef<[u8]>> UnknownControl<B> {
    /// Appends the frame to `dst`, whatever its type number means. Sessions never send one; tests
    /// and tools do.
    ///
    /// # Errors
    ///
    /// Returns [`EncodeError::TooLarge`] if the payload is longer than 16,777,215 bytes. After an
    /// error `dst` is unchanged.
    pub fn encode(&self, version: Version, dst: &mut BytesMut) -> Result<(), EncodeError> {
        let start = head::begin_control(version, self.type_number, self.flags, dst);
        dst.extend_from_slice(self.payload.as_ref());
        head::finish_control(start, dst)
    }
}

/// Shows only the length of the payload: frames of another version contain header blocks.
impl<B: AsRef<[u8]>> fmt::Debug for UnknownControl<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnknownControl")
            .field("type_number", &self.type_number)
            .field("flags", &self.flags)
            .field("payload", &Hidden(self.payload.as_ref().len()))
            .finish()
    }
}

impl<B: AsRef<[u8]>> fmt::Display for UnknownControl<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            type_number,
            flags,
            payload,
        } = self;
        write!(
            f,
            "UNKNOWN type={type_number} flags={flags:#04x} length={}",
            payload.as_ref().len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_and_flags_are_written_as_they_are() {
        let mut dst = BytesMut::new();
        UnknownControl {
            type_number: 0xf000,
            flags: 0x82,
            payload: "host",
        }
        .encode(Version::V3_1, &mut dst)
        .unwrap();
        assert_eq!(dst[..], *b"\x80\x03\xf0\x00\x82\x00\x00\x04host");
    }
}
