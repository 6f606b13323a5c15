//! WINDOW_UPDATE (protocol.md §5.9).

use std::fmt;

use bytes::{Buf, BufMut, BytesMut};

use super::head;
use crate::{FrameError, MAX_WINDOW, Version, WindowIncrement, WindowTarget};

/// WINDOW_UPDATE ([protocol.md §5.9], [protocol.md §13]).
///
/// [protocol.md §5.9]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#59-window_update-type-9-spdy3-and-31
/// [protocol.md §13]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#13-flow-control
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowUpdate {
    /// The window that grows.
    pub target: WindowTarget,
    /// The number of bytes that are added.
    pub increment: WindowIncrement,
}

impl WindowUpdate {
    /// Parses a payload of 8 bytes. Returns `None` if the increment is 0, see
    /// [`zero_increment`](Self::zero_increment).
    #[inline]
    pub(crate) fn parse(mut payload: &[u8]) -> Option<Self> {
        let target = WindowTarget::from_field(payload.get_u32());
        let increment = WindowIncrement::new(payload.get_u32() & MAX_WINDOW)?;
        Some(Self { target, increment })
    }

    /// Returns [`FrameError::ZeroIncrement`] for a payload whose increment is 0, or `None` if it is
    /// for the session in SPDY/3: SPDY/3 has no session window, and stream 0 is ignored whatever
    /// the increment is (protocol.md §20, 8).
    pub(crate) fn zero_increment(version: Version, mut payload: &[u8]) -> Option<FrameError> {
        let target = WindowTarget::from_field(payload.get_u32());
        let is_ignored = target == WindowTarget::Session && !version.has_session_window();
        (!is_ignored).then_some(FrameError::ZeroIncrement { target })
    }

    /// Appends the frame to `dst`.
    ///
    /// SPDY/2 has no windows, so `version` must not be SPDY/2. Only debug builds check this.
    #[inline]
    pub fn encode(&self, version: Version, dst: &mut BytesMut) {
        debug_assert!(version.has_stream_windows(), "WINDOW_UPDATE in {version}");
        head::put_control(version, head::WINDOW_UPDATE, 0, 8, dst);
        dst.put_u32(self.target.to_field());
        dst.put_u32(self.increment.get());
    }
}

impl fmt::Display for WindowUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "WINDOW_UPDATE stream={} increment={}",
            self.target.to_field(),
            self.increment
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StreamId;

    fn update(stream: u32, bytes: u32) -> WindowUpdate {
        let increment = WindowIncrement::new(bytes).unwrap();
        WindowUpdate {
            target: WindowTarget::from_field(stream),
            increment,
        }
    }

    #[test]
    fn c028_reserved_bits_are_masked() {
        assert_eq!(
            WindowUpdate::parse(&[0x80, 0, 0, 1, 0x80, 0, 0x80, 0]),
            Some(update(1, 0x8000))
        );
        assert_eq!(
            WindowUpdate::parse(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
            Some(update(0, MAX_WINDOW))
        );
    }

    #[test]
    fn c190_an_increment_of_0_is_an_error_of_the_stream() {
        let payload = [0, 0, 0, 3, 0x80, 0, 0, 0];
        assert_eq!(WindowUpdate::parse(&payload), None);
        for version in [Version::V3, Version::V3_1] {
            let error = WindowUpdate::zero_increment(version, &payload).unwrap();
            let stream = StreamId::new(3).unwrap();
            assert_eq!(
                error,
                FrameError::ZeroIncrement {
                    target: WindowTarget::Stream(stream)
                }
            );
            assert_eq!(error.go_away(), None);
        }
    }

    #[test]
    fn c191_an_increment_of_0_is_an_error_of_the_session_in_v3_1() {
        assert_eq!(WindowUpdate::parse(&[0; 8]), None);
        let error = WindowUpdate::zero_increment(Version::V3_1, &[0; 8]).unwrap();
        assert!(error.go_away().is_some());
    }

    #[test]
    fn c193_stream_0_is_no_error_in_v3() {
        assert_eq!(WindowUpdate::zero_increment(Version::V3, &[0; 8]), None);
        let one = [0, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(WindowUpdate::parse(&one), Some(update(0, 1)));
    }

    #[test]
    fn the_session_is_stream_0_on_the_wire() {
        let mut dst = BytesMut::new();
        update(0, 65_536).encode(Version::V3_1, &mut dst);
        assert_eq!(
            dst[..],
            *b"\x80\x03\x00\x09\x00\x00\x00\x08\x00\x00\x00\x00\x00\x01\x00\x00"
        );
        dst.clear();
        update(1, 32_768).encode(Version::V3, &mut dst);
        assert_eq!(
            dst[..],
            *b"\x80\x03\x00\x09\x00\x00\x00\x08\x00\x00\x00\x01\x00\x00\x80\x00"
        );
    }
}
