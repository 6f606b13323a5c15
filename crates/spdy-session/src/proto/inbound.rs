//! The input: bytes become frames, and compressed blocks become header blocks.

use std::mem;

use bytes::BytesMut;
use spdy_frame::{
    CompressedBlock, DecodeLimits, Decoder, Frame, FrameError, HeaderBlock, HeaderDecoder,
    HeaderError, HeaderLimits,
};

use super::{
    foreign::{self, ForeignProtocol},
    role::Role,
};
use crate::config::Config;

/// The decoders, and what they have seen of the peer.
#[derive(Debug)]
pub(crate) struct Inbound {
    role: Role,
    decoder: Decoder,
    headers: HeaderDecoder,
    /// Whether a frame of the peer came. A server that limits streams announces the limit in its
    /// first frame.
    is_heard: bool,
    /// Whether the peer has closed its writing side of the transport.
    is_ended: bool,
}

impl Inbound {
    pub(crate) fn new(role: Role, config: &Config) -> Self {
        let version = role.version();
        Self {
            role,
            decoder: Decoder::new(version, decode_limits(config)),
            headers: HeaderDecoder::new(version, header_limits(config)),
            is_heard: false,
            is_ended: false,
        }
    }

    /// Takes the next frame off the front of `src`.
    #[inline]
    pub(crate) fn next(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        self.decoder.decode(src)
    }

    /// Inflates a header block. Every block must be inflated, whatever happens to its stream,
    /// because later blocks refer to it.
    pub(crate) fn inflate(&mut self, block: CompressedBlock) -> Result<HeaderBlock, HeaderError> {
        self.headers.decode(block)
    }

    /// Returns the protocol of the peer, if its first bytes show that it is not SPDY.
    pub(crate) fn foreign(&self, src: &[u8]) -> Option<ForeignProtocol> {
        if self.is_heard || self.is_mid_frame() {
            return None;
        }
        foreign::recognize(self.role.side().peer(), src)
    }

    /// Notes that a frame came. Returns whether it is the first.
    #[inline]
    pub(crate) fn note_frame(&mut self) -> bool {
        !mem::replace(&mut self.is_heard, true)
    }

    /// Notes the end of the peer's bytes.
    pub(crate) fn end(&mut self) {
        self.is_ended = true;
    }

    /// Returns whether the peer has closed its writing side of the transport.
    #[inline]
    pub(crate) const fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Returns whether a frame of the peer came.
    #[cfg(feature = "tokio")]
    pub(crate) const fn is_heard(&self) -> bool {
        self.is_heard
    }

    /// Returns whether a part of a frame has arrived.
    #[inline]
    pub(crate) fn is_mid_frame(&self) -> bool {
        self.decoder.is_mid_frame()
    }

    /// Returns how many bytes of the peer's header blocks are kept, because later blocks may refer
    /// to them.
    pub(crate) fn memory(&self) -> usize {
        self.headers.memory()
    }
}

fn header_limits(config: &Config) -> HeaderLimits {
    let mut limits = config.limits.headers.clone();
    limits.strict |= config.strict;
    limits
}

fn decode_limits(config: &Config) -> DecodeLimits {
    let mut limits = DecodeLimits::default();
    limits.max_control_frame = config.limits.max_control_frame;
    limits.strict = config.strict;
    limits
}
