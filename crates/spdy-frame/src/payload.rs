//! The two ways in which a frame keeps the octets that end it, for one parser.

use bytes::{Buf, Bytes, BytesMut};

use crate::{FrameError, frame::head::HEAD_LENGTH};

/// The payload of a control frame which is there as a whole.
pub(crate) trait Payload {
    /// How a frame holds the octets that it keeps.
    type Kept;

    /// All octets of the payload.
    fn octets(&self) -> &[u8];

    /// Keeps the octets from `start` to the end.
    fn keep_from(self, start: usize) -> Self::Kept;

    /// Reads the octets and keeps none of them.
    ///
    /// # Errors
    ///
    /// Those of `parse`; the input is as before then.
    fn read<T>(self, parse: impl FnOnce(&[u8]) -> Result<T, FrameError>) -> Result<T, FrameError>;
}

/// Borrowed from the input.
impl<'a> Payload for &'a [u8] {
    type Kept = &'a [u8];

    #[inline]
    fn octets(&self) -> &[u8] {
        self
    }

    #[inline]
    fn keep_from(self, start: usize) -> &'a [u8] {
        &self[start..]
    }

    #[inline]
    fn read<T>(self, parse: impl FnOnce(&[u8]) -> Result<T, FrameError>) -> Result<T, FrameError> {
        parse(self)
    }
}

/// Shared with the input, at whose front the frame lies. Reading and keeping take the frame off it.
pub(crate) struct Shared<'a> {
    pub(crate) src: &'a mut BytesMut,
    /// Where the frame ends.
    pub(crate) end: usize,
}

impl Payload for Shared<'_> {
    type Kept = Bytes;

    #[inline]
    fn octets(&self) -> &[u8] {
        &self.src[HEAD_LENGTH..self.end]
    }

    #[inline]
    fn keep_from(self, start: usize) -> Bytes {
        let start = HEAD_LENGTH + start;
        self.src.advance(start);
        take(self.src, self.end - start)
    }

    #[inline]
    fn read<T>(self, parse: impl FnOnce(&[u8]) -> Result<T, FrameError>) -> Result<T, FrameError> {
        let value = parse(self.octets())?;
        self.src.advance(self.end);
        Ok(value)
    }
}

/// Takes octets off `src`; none of them without touching its reference count.
#[inline]
pub(crate) fn take(src: &mut BytesMut, length: usize) -> Bytes {
    if length == 0 {
        Bytes::new()
    } else {
        src.split_to(length).freeze()
    }
}
