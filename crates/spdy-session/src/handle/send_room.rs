//! How long pieces of payload should be.

use std::{fmt, sync::Arc};

use crate::shared::stream_cell::StreamCell;

/// The room for the payload of one stream, for bodies that can be read in pieces of any length.
#[derive(Clone)]
pub struct SendRoom(Arc<StreamCell>);

impl SendRoom {
    pub(super) const fn new(cell: Arc<StreamCell>) -> Self {
        Self(cell)
    }

    /// Promises that from now on no piece is longer than there is room for. Such a stream may go on
    /// when streams whose pieces have any length wait.
    pub fn promise(&self) {
        self.0.promise_room();
    }

    /// Takes room for the next piece, of `most` bytes or less: as many as the window of the stream
    /// lets out and the session has room for
    /// ([`Limits::large_send_pieces`](crate::Limits::large_send_pieces)), and never less than
    /// 16 KiB unless `most` is. Drop what this returns when the piece is handed over.
    pub fn reserve(&self, most: usize) -> Reserved {
        let length = self.0.reserve(most);
        let cell = Some(Arc::clone(&self.0));
        Reserved { cell, length }
    }
}

/// The room for a piece that is being made, until it is dropped.
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
