//! The recommended length of pieces of payload.

use std::{fmt, sync::Arc};

use crate::shared::stream_cell::StreamCell;

/// The room for the payload of one stream, for bodies that can be read in pieces of any length.
#[derive(Clone)]
pub struct SendRoom(Arc<StreamCell>);

impl SendRoom {
    pub(super) const fn new(cell: Arc<StreamCell>) -> Self {
        Self(cell)
    }

    /// Promises that no further piece is longer than the room for it. In return the stream may go
    /// on while streams whose pieces have any length wait.
    pub fn promise(&self) {
        self.0.promise_room();
    }

    /// Reserves room for the next piece, of at most `most` bytes: as much as the window of the
    /// stream lets out and the session has room for
    /// ([`Limits::large_send_pieces`](crate::Limits::large_send_pieces)), but at least 4 KiB or
    /// `most`. Drop the result when the piece is queued.
    pub fn reserve(&self, most: usize) -> Reserved {
        let length = self.0.reserve(most);
        let cell = Some(Arc::clone(&self.0));
        Reserved { cell, length }
    }
}

/// The reserved room for a piece that is being made. Dropping it gives the room back.
#[must_use = "without it other streams take the room"]
pub struct Reserved {
    cell: Option<Arc<StreamCell>>,
    length: usize,
}

impl Reserved {
    pub(super) const fn new(cell: Option<Arc<StreamCell>>, length: usize) -> Self {
        Self { cell, length }
    }

    /// Returns how long the piece may be, in bytes.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(cell) = &self.cell {
            cell.give_back(self.length);
        }
    }
}

impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reserved").field(&self.length).finish()
    }
}

impl fmt::Debug for SendRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SendRoom").field(&self.0.id).finish()
    }
}
