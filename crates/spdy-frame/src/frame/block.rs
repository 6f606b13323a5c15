//! Header blocks on their way between frames and the compression context.

use std::fmt;

use bytes::Bytes;

use crate::hidden::Hidden;

/// A compressed header block as it stands in a frame: a slice of the input.
///
/// It has to go through the session's [`HeaderDecoder`](crate::HeaderDecoder) exactly once and in wire order,
/// also when nobody wants its fields: the compression context runs through all blocks of a direction
/// (protocol.md §8.4). So it is not `Clone`, and dropping it unread is flagged.
///
/// A block of no bytes stands for no fields and does not touch the context (protocol.md §5.8).
#[derive(PartialEq, Eq)]
#[must_use = "a block that is not inflated loses the compression context of the session"]
pub struct CompressedBlock<B = Bytes>(pub(crate) B);

impl<B> CompressedBlock<B> {
    /// Takes bytes for a compressed block. Nothing is checked; tools and tests make frames of captured
    /// bytes with it.
    pub const fn new(bytes: B) -> Self {
        Self(bytes)
    }
}

impl<B: AsRef<[u8]>> CompressedBlock<B> {
    /// The compressed bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_ref()
    }

    /// The number of compressed bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether there are no bytes, which means no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }
}

/// Shows the length alone: a block that is not compressed has its secrets in plain sight.
impl<B: AsRef<[u8]>> fmt::Debug for CompressedBlock<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CompressedBlock")
            .field(&Hidden(self.len()))
            .finish()
    }
}
