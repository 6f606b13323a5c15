//! The receiving half: what has come and is not taken yet.

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use spdy_frame::{HeaderBlock, RstStatus};

use super::{Birth, JOINED_LENGTH, State, StreamCell, park, wake};
use crate::{StreamError, config::MAX_PINNED, proto::held_size, shared::News, sync::MutexGuard};

/// What has come and is not taken yet.
pub(super) struct RecvSide {
    reply: Reply,
    pieces: VecDeque<Received>,
    /// Small pieces are joined here, behind all others.
    joined: BytesMut,
    pub(super) fin: bool,
    /// The handle is gone: nobody wants what comes.
    pub(super) dropped: bool,
    pub(super) waker: Option<Waker>,
}

/// The SYN_REPLY of the peer.
#[derive(Debug)]
enum Reply {
    /// The peer opened the stream, or may not answer: there will be none.
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

/// Shows header blocks, and tells the length of payload.
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

/// For the driver.
impl StreamCell {
    /// The application has not taken what came for too long. It is dropped, though the stream may have been over: the
    /// reader gets the error that follows, and no end. Returns how many bytes of payload that were.
    pub(crate) fn give_up(&self) -> usize {
        let mut state = self.lock();
        state.recv.fin = false;
        state.end = None;
        state.recv.discard_payload()
    }
}

/// For the receiving handle.
impl StreamCell {
    pub(crate) fn poll_response_headers(
        &self,
        cx: &Context<'_>,
    ) -> Poll<Result<HeaderBlock, StreamError>> {
        let mut state = self.lock();
        match mem::replace(&mut state.recv.reply, Reply::Taken) {
            Reply::Here(block) => Poll::Ready(Ok(block)),
            Reply::Due => {
                state.recv.reply = Reply::Due;
                match &state.end {
                    Some(end) => Poll::Ready(Err(end.clone())),
                    None => {
                        park(&mut state.recv.waker, cx);
                        Poll::Pending
                    }
                }
            }
            Reply::None | Reply::Taken => Poll::Ready(Err(StreamError::Finished)),
        }
    }

    /// The next thing that came; `None` after FIN. What came before an abnormal end is given first. `consumes`: the
    /// application is done with payload when it has it.
    pub(crate) fn poll_next(
        self: &Arc<Self>,
        cx: &Context<'_>,
        consumes: bool,
    ) -> Poll<Option<Result<Received, StreamError>>> {
        let mut state = self.lock();
        match state.recv.take() {
            Some(Received::Headers(block)) => {
                self.took(state, &block);
                Poll::Ready(Some(Ok(Received::Headers(block))))
            }
            Some(Received::Data(payload)) => {
                if consumes {
                    self.consume(state, payload.len());
                }
                Poll::Ready(Some(Ok(Received::Data(payload))))
            }
            None => state.poll_drained(cx),
        }
    }

    /// The next header block, also from behind payload that is not taken yet.
    pub(crate) fn poll_headers(
        self: &Arc<Self>,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<HeaderBlock, StreamError>>> {
        let mut state = self.lock();
        let is_headers = |piece: &Received| matches!(piece, Received::Headers(_));
        let position = state.recv.pieces.iter().position(is_headers);
        match position.and_then(|position| state.recv.pieces.remove(position)) {
            Some(Received::Headers(block)) => {
                self.took(state, &block);
                Poll::Ready(Some(Ok(block)))
            }
            _ => state.poll_drained(cx),
        }
    }

    /// The application has a header block. The driver looks before it reads on: that is soon enough.
    fn took(self: &Arc<Self>, mut state: MutexGuard<'_, State>, block: &HeaderBlock) {
        state.orders.headers += held_size(block);
        self.enlist(state, News::Taken);
    }

    /// Whether the peer has finished and all that came was taken.
    pub(crate) fn is_drained(&self) -> bool {
        let state = self.lock();
        state.recv.fin && state.recv.pieces.is_empty() && state.recv.joined.is_empty()
    }

    /// Returns the last moment at which the peer could not send payload; `now` if it cannot at present.
    pub(crate) fn held_up_until(&self, now: Instant) -> Option<Instant> {
        self.hub.held_up_until(now)
    }

    /// The application is done with octets that it took: their credit goes back.
    pub(crate) fn consumed(self: &Arc<Self>, octets: usize) {
        if octets > 0 {
            self.consume(self.lock(), octets);
        }
    }

    /// The application has read a part of a piece, which it is not done with.
    pub(crate) fn partly_read(&self) {
        self.hub.note_partly_read();
    }

    fn consume(self: &Arc<Self>, mut state: MutexGuard<'_, State>, octets: usize) {
        state.orders.consumed += octets;
        self.enlist(state, self.hub.note_consumed(octets));
    }

    /// The receiving handle is dropped with `octets` taken and not reported.
    pub(crate) fn drop_recv(self: &Arc<Self>, octets: usize) {
        let mut state = self.lock();
        let (payload, headers) = state.recv.discard();
        let unread = octets + payload;
        state.recv.dropped = true;
        state.orders.headers += headers;
        let stop = !state.recv.fin && state.end.is_none();
        state.orders.consumed += unread;
        state.orders.stop_reading |= stop;
        if stop && state.send.mute {
            // Nobody waits for an answer, so a reset does no harm.
            state.orders.reset.get_or_insert(RstStatus::CANCEL);
        }
        let waker = state.take_closed_waker();
        if stop || unread > 0 || headers > 0 {
            self.enlist(state, News::Order);
        } else if state.is_released() {
            self.enlist(state, News::Released);
        } else {
            drop(state);
        }
        wake(waker);
    }
}

impl State {
    /// What to say when everything that came was taken.
    fn poll_drained<T>(&mut self, cx: &Context<'_>) -> Poll<Option<Result<T, StreamError>>> {
        if self.recv.fin {
            return Poll::Ready(None);
        }
        match &self.end {
            Some(end) => Poll::Ready(Some(Err(end.clone()))),
            None => {
                park(&mut self.recv.waker, cx);
                Poll::Pending
            }
        }
    }
}

impl RecvSide {
    pub(super) fn new(birth: Birth) -> Self {
        Self {
            reply: if birth.replied {
                Reply::Due
            } else {
                Reply::None
            },
            pieces: VecDeque::new(),
            joined: BytesMut::new(),
            fin: birth.received,
            // Where nothing is to come there is nothing to drop.
            dropped: birth.received,
            waker: None,
        }
    }

    fn take(&mut self) -> Option<Received> {
        match self.pieces.pop_front() {
            None if self.joined.is_empty() => None,
            None => Some(Received::Data(mem::take(&mut self.joined).freeze())),
            received => received,
        }
    }

    /// Keeps a piece of payload, a slice of a read buffer of `buffer` octets, which lives as long as the slice does.
    /// A piece that is a large part of it is kept as it is. Others are copied, and joined while nobody takes them:
    /// otherwise a few octets each could pin one buffer each, and their bookkeeping would exceed them.
    ///
    /// Says how many octets nobody wants.
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

    fn flush_joined(&mut self) {
        if !self.joined.is_empty() {
            let joined = mem::take(&mut self.joined).freeze();
            self.pieces.push_back(Received::Data(joined));
        }
    }

    /// Drops all payload, and returns how many bytes that was.
    fn discard_payload(&mut self) -> usize {
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

    /// Drops everything, and says how many octets of payload that was, and what the header blocks count.
    fn discard(&mut self) -> (usize, usize) {
        let (mut payload, mut headers) = (mem::take(&mut self.joined).len(), 0);
        for piece in mem::take(&mut self.pieces) {
            match piece {
                Received::Data(octets) => payload += octets.len(),
                Received::Headers(block) => headers += held_size(&block),
            }
        }
        (payload, headers)
    }
}
