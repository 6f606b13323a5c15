//! The two ways in which a frame keeps its last bytes, borrowed or shared, for one parser.

use bytes::{Buf, Bytes, BytesMut};

use crate::frame::head::HEAD_LENGTH;

/// The payload of a complete control frame.
pub(crate) trait Payload {
    /// The type in which a frame keeps bytes.
    type Kept;

    /// Returns all bytes of the payload.
    fn bytes(&self) -> &[u8];

    /// Keeps the bytes from `start` to the end.
    fn keep_from(self, start: usize) -> Self::Kept;

    /// Keeps none of the bytes.
    fn drop_all(self);
}

/// A payload that borrows the input.
impl<'a> Payload for &'a [u8] {
    type Kept = &'a [u8];

    #[inline]
    fn bytes(&self) -> &[u8] {
        self
    }

    #[inline]
    fn keep_from(self, start: usize) -> &'a [u8] {
        &self[start..]
    }

    #[inline]
    fn drop_all(self) {}
}

/// A payload that shares the input, whose first bytes are the frame. Keeping and dropping take the
/// frame off the input.
pub(crate) struct Shared<'a> {
    pub(crate) src: &'a mut BytesMut,
    /// The end of the frame in `src`.
    pub(crate) end: usize,
}

impl Payload for Shared<'_> {
    type Kept = Bytes;

    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.src[HEAD_LENGTH..self.end]
    }

    // As a call it would return its value through memory. Moving that into a frame takes longer
    // than everything else here.
    #[inline(always)]
    fn keep_from(self, start: usize) -> Bytes {
        let start = HEAD_LENGTH + start;
        if start == self.end {
            // Nothing is kept, so the reference count of the buffer does not change.
            self.drop_all();
            return Bytes::new();
        }
        let mut frame = self.src.split_to(self.end).freeze();
        frame.advance(start);
        frame
    }

    #[inline]
    fn drop_all(self) {
        self.src.advance(self.end);
    }
}
