//! The two ways in which a frame keeps the bytes that end it, for one parser.

use bytes::{Buf, Bytes, BytesMut};

use crate::frame::head::HEAD_LENGTH;

/// The payload of a control frame which is there as a whole.
pub(crate) trait Payload {
    /// How a frame holds the bytes that it keeps.
    type Kept;

    /// All bytes of the payload.
    fn bytes(&self) -> &[u8];

    /// Keeps the bytes from `start` to the end.
    fn keep_from(self, start: usize) -> Self::Kept;

    /// Keeps none of the bytes.
    fn drop_all(self);
}

/// Borrowed from the input.
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

/// Shared with the input, at whose front the frame lies. Keeping and dropping take the frame off it.
pub(crate) struct Shared<'a> {
    pub(crate) src: &'a mut BytesMut,
    /// Where the frame ends.
    pub(crate) end: usize,
}

impl Payload for Shared<'_> {
    type Kept = Bytes;

    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.src[HEAD_LENGTH..self.end]
    }

    // As a call it would answer through memory, and moving that into a frame takes longer than all the rest.
    #[inline(always)]
    fn keep_from(self, start: usize) -> Bytes {
        let start = HEAD_LENGTH + start;
        if start == self.end {
            // Nothing is kept, so the reference count of the buffer need not be touched.
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
