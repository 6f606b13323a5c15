//! Compressed header blocks, between frames and the compression context.

use std::fmt;

use bytes::Bytes;

use crate::hidden::Hidden;

/// A compressed header block as received: a slice of the input.
///
/// It must go through the [`HeaderDecoder`](crate::HeaderDecoder) of the session exactly once and
/// in order, even if its fields are not needed: the compression context runs through all blocks of
/// a direction ([protocol.md §8.4]). Therefore it does not implement `Clone`, and the compiler
/// warns if it is dropped unread.
///
/// A block of no bytes has no fields and does not change the context ([protocol.md §5.8]).
///
/// [protocol.md §8.4]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#84-the-state-rule
/// [protocol.md §5.8]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#58-headers-type-8
#[derive(PartialEq, Eq)]
#[must_use = "a block that is not inflated loses the compression context of the session"]
pub struct CompressedBlock<B = Bytes>(pub(crate) B);

impl<B> CompressedBlock<B> {
    /// Returns a block of these bytes. They are not checked. Tools and tests use it with captured
    /// bytes.
    pub const fn new(bytes: B) -> Self {
        Self(bytes)
    }
}

impl<B: AsRef<[u8]>> CompressedBlock<B> {
    /// Returns the compressed bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_ref()
    }

    /// Returns the number of compressed bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Returns whether the block has no bytes, and therefore no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }
}

/// Shows only the length: a block that is not compressed shows its secrets in plain text.
impl<B: AsRef<[u8]>> fmt::Debug for CompressedBlock<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CompressedBlock")
            .field(&Hidden(self.len()))
            .finish()
    }
}
