//! In the making.
use bytes::{Bytes, BytesMut};
use crate::{Frame, FrameError, Version};

/// Bounds on what the decoder accepts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DecodeLimits {
    /// The longest control frame in octets of payload. Default 262,144; never below 8,192.
    pub max_control_frame: u32,
    /// Session errors for what is tolerated otherwise. Default false.
    pub strict: bool,
}

impl Default for DecodeLimits {
    fn default() -> Self { Self { max_control_frame: 256 * 1024, strict: false } }
}

/// Takes frames off a buffer.
#[derive(Debug)]
pub struct Decoder {}

impl Decoder {
    /// A decoder.
    pub fn new(_version: Version, _limits: DecodeLimits) -> Self { Self {} }
    /// Takes one frame, or one piece of a DATA frame, off the front of `src` without copying.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn decode(&mut self, _src: &mut BytesMut) -> Result<Option<Frame<Bytes>>, FrameError> { unimplemented!() }
    /// Whether a frame has begun and is not complete.
    pub fn is_mid_frame(&self) -> bool { unimplemented!() }
}

/// Parses one whole frame.
///
/// # Errors
/// See [`FrameError`].
pub fn parse(_version: Version, _src: &[u8]) -> Result<Option<(Frame<&[u8]>, usize)>, FrameError> { unimplemented!() }
