//! The header blocks that are held, of open streams and of those that are gone and whose handles
//! exist.

use spdy_frame::{HeaderBlock, StreamId};

use super::ids::ById;

/// What header blocks count together for [`Limits::held_headers`](crate::Limits::held_headers).
#[derive(Debug)]
pub(super) struct HeldHeaders {
    most: usize,
    /// Of open streams.
    open: usize,
    /// Of streams that are closed and whose handles exist: blocks that were not taken, and those
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

    /// Returns what the blocks of open streams count.
    pub(super) const fn open(&self) -> usize {
        self.open
    }

    /// Returns what all blocks count.
    pub(super) const fn sum(&self) -> usize {
        self.open + self.gone_sum
    }

    /// Returns whether there is room for a block that counts so much.
    pub(super) const fn has_room(&self, size: usize) -> bool {
        self.sum() + size <= self.most
    }

    /// Counts a block of an open stream.
    pub(super) fn hold(&mut self, size: usize) {
        self.open += size;
    }

    /// Counts a block of an open stream no more.
    pub(super) fn let_go(&mut self, size: usize) {
        self.open -= size;
    }

    /// Holds blocks of a stream that is closed, until its application takes them or drops its
    /// handles.
    pub(super) fn keep(&mut self, id: StreamId, size: usize) {
        if size > 0 {
            self.gone.insert(id, size);
            self.gone_sum += size;
        }
    }

    /// Takes away what the application has taken of a stream that is closed.
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

    /// The handles of a stream are dropped, and with them all blocks.
    pub(super) fn release(&mut self, id: StreamId) {
        if !self.gone.is_empty() {
            self.gone_sum -= self.gone.remove(&id).unwrap_or(0);
        }
    }

    /// Returns an error unless the sums are those of what is held.
    pub(super) fn check(&self, open: usize) -> Result<(), String> {
        let (counted, found) = ((self.open, self.gone_sum), (open, self.gone.values().sum()));
        if counted == found {
            Ok(())
        } else {
            Err(format!("held headers count {counted:?}, and are {found:?}"))
        }
    }
}

/// Returns what a header block that follows the first one of its stream counts for
/// [`Limits::held_headers`](crate::Limits::held_headers).
#[must_use]
pub fn held_size(headers: &HeaderBlock) -> usize {
    headers.size() + BLOCK_OVERHEAD
}

/// What a block that follows the first one of its stream counts besides its fields, in bytes: with
/// one field it takes about as much to keep.
const BLOCK_OVERHEAD: usize = 224;
