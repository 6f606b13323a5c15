//! The receiving half: what has come and is not taken yet.

use std::{collections::VecDeque, fmt, mem, task::Waker};

use bytes::{Bytes, BytesMut};
use spdy_frame::HeaderBlock;

use super::pieces::JOINED_LENGTH;
use crate::{config::MAX_PINNED, proto::held_size};

/// What has come and is not taken yet.
pub(super) struct RecvSide {
    reply: Reply,
    pieces: VecDeque<Received>,
    /// Small pieces are joined here, behind all others.
    joined: BytesMut,
    pub(super) fin: bool,
    /// The handle is dropped, so what comes is not wanted.
    pub(super) dropped: bool,
    pub(super) waker: Option<Waker>,
}

/// The SYN_REPLY of the peer.
#[derive(Debug)]
pub(super) enum Reply {
    /// None will come: the peer opened the stream, or cannot send on it.
    None,
    Due,
    Here(HeaderBlock),
    Taken,
}

/// What a stream brings, in order.
pub enum Received {
    /// Payload; never empty.
    Data(Bytes),
    /// A header block that came after the first one: trailers, if nothing follows.
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
    /// A half of which a SYN_REPLY `is_due`, and which the peer may have finished already.
    pub(super) fn new(is_due: bool, is_finished: bool) -> Self {
        Self {
            reply: if is_due { Reply::Due } else { Reply::None },
            pieces: VecDeque::new(),
            joined: BytesMut::new(),
            fin: is_finished,
            // Where nothing is to come there is nothing to drop.
            dropped: is_finished,
            waker: None,
        }
    }

    pub(super) fn keep_reply(&mut self, block: HeaderBlock) {
        self.reply = Reply::Here(block);
    }

    /// Keeps a header block. Returns what it counts if no handle wants it.
    pub(super) fn keep_headers(&mut self, block: HeaderBlock) -> usize {
        if self.dropped {
            return held_size(&block);
        }
        self.flush_joined();
        self.pieces.push_back(Received::Headers(block));
        0
    }

    /// Keeps a piece of payload, a slice of a read buffer of `buffer` bytes. The buffer lives as
    /// long as the slice does. So a piece that is a large part of it is kept as it is. Others are
    /// copied, and joined until they are taken: otherwise a few bytes each could pin one buffer
    /// each, and their bookkeeping would exceed them.
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
        self.joined.extend_from_slice(&payload);
        if self.joined.len() >= JOINED_LENGTH {
            self.flush_joined();
        }
        0
    }

    fn flush_joined(&mut self) {
        if !self.joined.is_empty() {
            let joined = mem::take(&mut self.joined).freeze();
            self.pieces.push_back(Received::Data(joined));
        }
    }

    /// Takes the SYN_REPLY if it is here, and returns what is known of it.
    pub(super) fn take_reply(&mut self) -> Reply {
        match self.reply {
            Reply::Due => Reply::Due,
            _ => mem::replace(&mut self.reply, Reply::Taken),
        }
    }

    /// Takes what came first.
    pub(super) fn take(&mut self) -> Option<Received> {
        match self.pieces.pop_front() {
            None if self.joined.is_empty() => None,
            None => Some(Received::Data(mem::take(&mut self.joined).freeze())),
            received => received,
        }
    }

    /// Takes the header block that came first.
    pub(super) fn take_headers(&mut self) -> Option<HeaderBlock> {
        let is_headers = |piece: &Received| matches!(piece, Received::Headers(_));
        let position = self.pieces.iter().position(is_headers)?;
        match self.pieces.remove(position) {
            Some(Received::Headers(block)) => Some(block),
            _ => None,
        }
    }

    /// Whether the peer has finished and all that came was taken.
    pub(super) fn is_drained(&self) -> bool {
        self.fin && self.pieces.is_empty() && self.joined.is_empty()
    }

    /// Drops all payload, and returns how many bytes that was.
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

    /// Drops everything. Returns how many bytes of payload that was, and what the header blocks
    /// count.
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
