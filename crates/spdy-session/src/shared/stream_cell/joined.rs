//! Short pieces of payload that are copied together: pieces to be sent, and pieces that arrived.

use std::mem;

use bytes::{Bytes, BytesMut};

/// The short pieces behind all other items of a queue.
#[derive(Default)]
pub(super) struct Joined(BytesMut);

impl Joined {
    /// Copies bytes behind the others. `full` gets each piece that has become long enough.
    ///
    /// No joined piece is longer than [`LENGTH`], so the rest of one does not keep much memory.
    #[inline]
    pub(super) fn add(&mut self, bytes: &[u8], mut full: impl FnMut(Bytes)) {
        for piece in bytes.chunks(LENGTH) {
            if self.0.len() + piece.len() > LENGTH
                && let Some(joined) = self.take()
            {
                full(joined);
            }
            self.0.extend_from_slice(piece);
        }
    }

    /// Takes what is left, if there is something.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Bytes> {
        // Most of the time there is nothing.
        if self.0.is_empty() {
            return None;
        }
        Some(mem::take(&mut self.0).freeze())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The length up to which pieces are joined, in bytes.
const LENGTH: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_pieces_have_all_bytes_in_order_and_at_most_the_stated_length() {
        let bytes: Vec<u8> = (0..100_000).map(|at| (at % 251) as u8).collect();
        for step in [1, 1000, LENGTH, LENGTH + 1, 50_000] {
            let (mut joined, mut pieces) = (Joined::default(), Vec::new());
            for piece in bytes.chunks(step) {
                joined.add(piece, |full| pieces.push(full));
            }
            assert!(!joined.is_empty());
            pieces.extend(joined.take());
            assert_eq!(joined.take(), None);
            assert!(pieces.iter().all(|it| (1..=LENGTH).contains(&it.len())));
            assert!(pieces.concat() == bytes, "with steps of {step}");
        }
    }
}
