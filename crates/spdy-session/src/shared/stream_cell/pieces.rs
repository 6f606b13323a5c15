//! The payload of one stream that has not left, which counts in the session's [`Budget`].

use crate::{
    queue::Queue,
    shared::budget::{Budget, Freed, SMALL_PIECE},
};

/// The queued bytes of a stream, and the ends of the large pieces among them.
#[derive(Debug)]
pub(super) struct Pieces {
    /// How many bytes have not left for the transport.
    queued: usize,
    /// How many bytes have left since the start.
    left: u64,
    /// The large pieces that have not left completely.
    large: Queue<Large>,
    /// The length of the last piece.
    last: Option<usize>,
}

#[derive(Debug)]
struct Large {
    /// What it counts: nothing, if it is the whole payload of its stream.
    counts: usize,
    /// The position of the piece's end, in bytes since the start of the stream.
    end: u64,
    len: usize,
}

impl Default for Pieces {
    fn default() -> Self {
        Self {
            queued: 0,
            left: 0,
            large: Queue::new(),
            last: None,
        }
    }
}

impl Pieces {
    pub(super) const fn queued(&self) -> usize {
        self.queued
    }

    pub(super) const fn last(&self) -> Option<usize> {
        self.last
    }

    /// Counts bytes that were copied.
    pub(super) fn written(&mut self, bytes: usize, budget: &Budget) {
        self.queued += bytes;
        budget.add(bytes);
    }

    /// Counts a piece. `is_end` says whether it is the last one. A piece that is the whole payload
    /// of the stream was in memory before, so it does not count as a large piece.
    pub(super) fn pushed(&mut self, bytes: usize, is_end: bool, budget: &Budget) {
        let is_whole = is_end && self.last.is_none();
        self.written(bytes, budget);
        self.last = Some(bytes);
        if bytes > SMALL_PIECE {
            let counts = if is_whole { 0 } else { bytes };
            budget.add_large(counts, bytes);
            self.large.push_back(Large {
                counts,
                end: self.left + self.queued as u64,
                len: bytes,
            });
        }
    }

    /// Removes bytes that have left.
    pub(super) fn sent(&mut self, bytes: usize) -> Freed {
        self.queued -= bytes;
        let before = self.left;
        self.left += bytes as u64;
        let mut freed = Freed {
            queued: bytes,
            ..Freed::default()
        };
        for piece in self.large.iter() {
            let start = piece.end - piece.len as u64;
            let gone = self.left.min(piece.end).saturating_sub(before.max(start));
            freed.of_large += gone as usize;
        }
        while let Some(piece) = self.large.front()
            && piece.end <= self.left
        {
            freed.large += piece.counts;
            self.large.pop_front();
        }
        freed
    }

    /// Removes everything.
    pub(super) fn clear(&mut self) -> Freed {
        self.sent(self.queued)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_large_piece_counts_whole_until_its_last_byte_has_left() {
        let (budget, mut pieces) = (Budget::new(Arc::default()), Pieces::default());
        pieces.pushed(100, false, &budget);
        pieces.pushed(20_000, false, &budget);
        pieces.pushed(16_384, false, &budget);
        let freed = |queued, of_large, large| Freed {
            queued,
            of_large,
            large,
        };
        assert_eq!(pieces.sent(50), freed(50, 0, 0));
        assert_eq!(pieces.sent(20_049), freed(20_049, 19_999, 0));
        assert_eq!(pieces.sent(1), freed(1, 1, 20_000));
        assert_eq!(pieces.clear(), freed(16_384, 0, 0));
    }

    #[test]
    fn a_piece_that_is_the_whole_payload_counts_nothing() {
        let (budget, mut pieces) = (Budget::new(Arc::default()), Pieces::default());
        pieces.pushed(1 << 20, true, &budget);
        let freed = pieces.clear();
        assert_eq!((freed.large, freed.of_large), (0, 1 << 20));
    }
}
