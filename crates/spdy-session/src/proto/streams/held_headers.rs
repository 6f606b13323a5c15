//! The header blocks that are held, of open streams and of streams that are gone but have handles.

use spdy_frame::{HeaderBlock, StreamId};

use super::ids::ById;
use crate::spare::Spare;

/// The size of the held header blocks, which [`Limits::held_headers`](crate::Limits::held_headers)
/// limits.
#[derive(Debug)]
pub(super) struct HeldHeaders {
    most: usize,
    /// The blocks of open streams.
    open: usize,
    /// The blocks of closed streams whose handles exist: blocks that were not taken, and blocks
    /// that opened streams of the peer.
    gone: ById<usize>,
    /// The sum of `gone`.
    gone_sum: usize,
}

impl HeldHeaders {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            open: 0,
            gone: ById::default(),
            gone_sum: 0,
        }
    }

    /// Returns the size of the blocks of open streams.
    pub(super) const fn open(&self) -> usize {
        self.open
    }

    /// Returns the size of all blocks.
    pub(super) const fn sum(&self) -> usize {
        self.open + self.gone_sum
    }

    /// Returns whether there is room for a block of this size.
    pub(super) const fn has_room(&self, size: usize) -> bool {
        self.sum() + size <= self.most
    }

    /// Adds a block of an open stream.
    pub(super) fn hold(&mut self, size: usize) {
        self.open += size;
    }

    /// Removes a block of an open stream.
    pub(super) fn let_go(&mut self, size: usize) {
        self.open -= size;
    }

    /// Adds blocks of a closed stream, until the application takes them or drops its handles.
    pub(super) fn keep(&mut self, id: StreamId, size: usize) {
        if size > 0 {
            self.gone.insert(id, size);
            self.gone_sum += size;
        }
    }

    /// Removes blocks of a closed stream that the application has taken.
    pub(super) fn take(&mut self, id: StreamId, size: usize) {
        if let Some(held) = self.gone.get_mut(&id) {
            let size = size.min(*held);
            *held -= size;
            self.gone_sum -= size;
            if *held == 0 {
                self.gone.remove(&id);
            }
        }
    }

    /// Removes all blocks of a closed stream, because its handles are dropped.
    pub(super) fn release(&mut self, id: StreamId) {
        if !self.gone.is_empty() {
            self.gone_sum -= self.gone.remove(&id).unwrap_or(0);
        }
    }

    /// Frees memory that is not needed.
    pub(super) fn free_spare(&mut self) {
        self.gone.free_spare();
    }

    /// Returns an error if the sums differ from the blocks that are held.
    pub(super) fn check(&self, open: usize) -> Result<(), String> {
        let (counted, found) = ((self.open, self.gone_sum), (open, self.gone.values().sum()));
        if counted == found {
            Ok(())
        } else {
            Err(format!("held headers count {counted:?}, and are {found:?}"))
        }
    }
}

/// Returns the size that a header block after the first of its stream counts for
/// [`Limits::held_headers`](crate::Limits::held_headers).
#[must_use]
pub fn held_size(headers: &HeaderBlock) -> usize {
    headers.size() + BLOCK_OVERHEAD
}

/// What a block after the first of its stream counts in addition to its fields, in bytes: about the
/// memory that a block with one field takes.
const BLOCK_OVERHEAD: usize = 224;
