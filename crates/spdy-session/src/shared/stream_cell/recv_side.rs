//! The receiving half: what has arrived and was not taken.

use std::{collections::VecDeque, fmt, mem, task::Waker};

use bytes::Bytes;
use spdy_frame::HeaderBlock;

use super::joined::Joined;
use crate::{config::MAX_PINNED, proto::held_size};

/// What has arrived on a stream and was not taken.
pub(super) struct RecvSide {
    reply: Reply,
    pieces: VecDeque<Received>,
    /// Short pieces, which come after all others.
    joined: Joined,
    pub(super) fin: bool,
    /// Whether the handle is dropped, so that nothing more is wanted.
    pub(super) dropped: bool,
    pub(super) waker: Option<Waker>,
}

/// The SYN_REPLY of the peer.
#[derive(Debug)]
pub(super) enum Reply {
    /// None will arrive, because the peer opened the stream or cannot send on it.
    None,
    Due,
    Here(HeaderBlock),
    Taken,
}

/// Payload or a header block that arrived on a stream.
pub enum Received {
    /// Payload, which is never empty.
    Data(Bytes),
    /// A header block after the first one. If nothing follows, it has the trailers.
    Headers(HeaderBlock),
}

/// Shows header blocks, and the length of payload.
impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(payload) => write!(f, "Data(<{} bytes>)", payload.len()),
            Self::Headers(block) => f.debug_tuple("Headers").field(block).finish(),
        }
    }
}

impl fmt::Debug for RecvSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvSide")
            .field("reply", &self.reply)
            .field("pieces", &self.pieces)
            .field("joined", &self.joined.len())
            .field("fin", &self.fin)
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}

impl RecvSide {
    /// Returns a half for which a SYN_REPLY `is_due`, and which the peer may have finished already.
    pub(super) fn new(is_due: bool, is_finished: bool) -> Self {
        Self {
            reply: if is_due { Reply::Due } else { Reply::None },
            pieces: VecDeque::new(),
            joined: Joined::default(),
            fin: is_finished,
            // Nothing will arrive, so nothing can be dropped.
            dropped: is_finished,
            waker: None,
        }
    }

    pub(super) fn keep_reply(&mut self, block: HeaderBlock) {
        self.reply = Reply::Here(block);
    }

    /// Stores a header block. Returns its size if no handle wants it.
    pub(super) fn keep_headers(&mut self, block: HeaderBlock) -> usize {
        if self.dropped {
            return held_size(&block);
        }
        self.flush_joined();
        self.pieces.push_back(Received::Headers(block));
        0
    }

    /// Stores a piece of payload, which is a slice of a read buffer of `buffer` bytes. The slice
    /// keeps the whole buffer alive. So only a piece that is a large part of the buffer is kept as
    /// it is. Other pieces are copied, and joined until they are taken. Otherwise a few bytes each
    /// could keep one buffer each, and their records would be larger than the pieces.
    ///
    /// Returns how many bytes no handle wants.
    pub(super) fn keep_data(&mut self, payload: Bytes, buffer: usize) -> usize {
        if self.dropped {
            return payload.len();
        }
        if payload.is_empty() {
            return 0;
        }
        if payload.len() * MAX_PINNED >= buffer {
            self.flush_joined();
            self.pieces.push_back(Received::Data(payload));
            return 0;
        }
        let pieces = &mut self.pieces;
        let full = |joined| pieces.push_back(Received::Data(joined));
        self.joined.add(&payload, full);
        0
    }

    fn flush_joined(&mut self) {
        if let Some(joined) = self.joined.take() {
            self.pieces.push_back(Received::Data(joined));
        }
    }

    /// Takes the SYN_REPLY if it has arrived. Returns its state.
    pub(super) fn take_reply(&mut self) -> Reply {
        match self.reply {
            Reply::Due => Reply::Due,
            _ => mem::replace(&mut self.reply, Reply::Taken),
        }
    }

    /// Takes the first piece or header block.
    pub(super) fn take(&mut self) -> Option<Received> {
        match self.pieces.pop_front() {
            None => self.joined.take().map(Received::Data),
            received => received,
        }
    }

    /// Takes the first header block.
    pub(super) fn take_headers(&mut self) -> Option<HeaderBlock> {
        let is_headers = |piece: &Received| matches!(piece, Received::Headers(_));
        let position = self.pieces.iter().position(is_headers)?;
        match self.pieces.remove(position) {
            Some(Received::Headers(block)) => Some(block),
            _ => None,
        }
    }

    /// Returns whether the peer has finished and everything that arrived was taken.
    pub(super) fn is_drained(&self) -> bool {
        self.fin && self.pieces.is_empty() && self.joined.is_empty()
    }

    /// Drops all payload. Returns the number of bytes.
    pub(super) fn discard_payload(&mut self) -> usize {
        let mut payload = mem::take(&mut self.joined).len();
        self.pieces.retain(|piece| match piece {
            Received::Data(bytes) => {
                payload += bytes.len();
                false
            }
            Received::Headers(_) => true,
        });
        payload
    }

    /// Drops everything. Returns the number of bytes of payload, and the size of the header blocks.
    pub(super) fn discard(&mut self) -> (usize, usize) {
        let (mut payload, mut headers) = (mem::take(&mut self.joined).len(), 0);
        for piece in mem::take(&mut self.pieces) {
            match piece {
                Received::Data(bytes) => payload += bytes.len(),
                Received::Headers(block) => headers += held_size(&block),
            }
        }
        (payload, headers)
    }
}
