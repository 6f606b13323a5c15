//! The sending half: what is to be sent.

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use spdy_frame::{HeaderBlock, RstStatus, StreamId};

use super::{Birth, JOINED_LENGTH, State, StreamCell, park, pieces::Pieces};
use crate::{
    StreamError,
    proto::{Connection, Outgoing},
    queue::Queue,
    shared::{
        Hub, News,
        budget::{Asking, Freed, Verdict},
    },
    sync::MutexGuard,
};

/// What is to be sent.
pub(super) struct SendSide {
    reply: Option<HeaderBlock>,
    items: Queue<Outgoing>,
    /// Small writes are joined here, behind all items.
    joined: BytesMut,
    fin: Fin,
    /// This side cannot send on the stream, by nature.
    pub(super) mute: bool,
    /// What has not left for the transport, here and in the machine.
    pieces: Pieces,
    /// What the stream's window let out when a frame of it last left, in bytes.
    pub(super) window: usize,
    /// The machine was asked to say when the window is open.
    window_asked: bool,
    /// The machine was asked to say when the window is another.
    grant_asked: bool,
    /// It stands among those that wait for large pieces of others to leave, or did.
    waits_for_others: bool,
    /// Its pieces are as long as they are told to be.
    is_modest: bool,
    pub(super) dropped: bool,
    awaited: Awaited,
    pub(super) waker: Option<Waker>,
}

/// Shows how much is to be sent, and none of it.
impl fmt::Debug for SendSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendSide")
            .field("reply", &self.reply)
            .field("fin", &self.fin)
            .field("pieces", &self.pieces)
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}

/// How far our FIN is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fin {
    /// The application may send more.
    Open,
    /// The application has finished.
    Ordered,
    /// The machine knows.
    HandedOver,
    /// It is written to the transport.
    Written,
}

/// What the sending handle's task waits for. It may be several things at once; the end of the stream wakes it in any
/// case.
#[derive(Clone, Copy, Debug, Default)]
struct Awaited {
    /// Room in the queue, for a writer.
    room: bool,
    /// That another piece may be asked for.
    piece: bool,
    /// That nothing is queued.
    flushed: bool,
    /// That FIN is written.
    written: bool,
}

/// For the sending handle.
impl StreamCell {
    /// Answers the peer's stream.
    pub(crate) fn send_reply(
        self: &Arc<Self>,
        headers: HeaderBlock,
        fin: bool,
    ) -> Result<(), StreamError> {
        self.send(fin, |send| send.reply = Some(headers))
    }

    /// Answers the peer's stream with all there is to say, and drops the sending handle.
    pub(crate) fn reply_in_full(
        self: &Arc<Self>,
        headers: HeaderBlock,
        payload: Bytes,
    ) -> Result<(), StreamError> {
        self.send(true, |send| {
            send.reply = Some(headers);
            if !payload.is_empty() {
                send.push(payload, true, &self.hub);
            }
            send.dropped = true;
        })
    }

    pub(crate) fn send_data(
        self: &Arc<Self>,
        payload: Bytes,
        fin: bool,
    ) -> Result<(), StreamError> {
        let octets = payload.len();
        if octets == 0 && !fin {
            return self.check_send();
        }
        self.send(fin, |send| {
            if octets > 0 {
                send.push(payload, fin, &self.hub);
            }
        })
    }

    pub(crate) fn send_headers(
        self: &Arc<Self>,
        headers: HeaderBlock,
        fin: bool,
    ) -> Result<(), StreamError> {
        self.send(fin, |send| {
            send.flush_joined();
            send.items.push_back(Outgoing::Headers(headers));
        })
    }

    /// Copies as much of `octets` as there is room for.
    pub(crate) fn poll_write(
        self: &Arc<Self>,
        cx: &Context<'_>,
        octets: &[u8],
    ) -> Poll<Result<usize, StreamError>> {
        if octets.is_empty() {
            return Poll::Ready(self.check_send().map(|()| 0));
        }
        let mut state = self.lock();
        state.check_send()?;
        let room = self.hub.room_of_writer(state.send.pieces.queued());
        if room == 0 {
            state.send.awaited.room = true;
            park(&mut state.send.waker, cx);
            return Poll::Pending;
        }
        let written = room.min(octets.len());
        state.send.join(&octets[..written]);
        state.send.pieces.written(written, &self.hub.room);
        self.enlist(state, News::Order);
        Poll::Ready(Ok(written))
    }

    /// Waits for room in the queue.
    pub(crate) fn poll_ready(&self, cx: &Context<'_>) -> Poll<Result<(), StreamError>> {
        let mut state = self.lock();
        state.check_send()?;
        if self.hub.room_of_writer(state.send.pieces.queued()) > 0 {
            return Poll::Ready(Ok(()));
        }
        state.send.awaited.room = true;
        park(&mut state.send.waker, cx);
        Poll::Pending
    }

    /// Waits until the stream may have another piece, of a length that is known only when it is there: `held` bytes are
    /// about to be queued before it. Takes room for it, and returns how much, which is to be
    /// [given back](Self::give_back). `is_modest`: see [`Asking`].
    pub(crate) fn poll_piece(
        self: &Arc<Self>,
        cx: &Context<'_>,
        held: usize,
        is_modest: bool,
    ) -> Poll<Result<usize, StreamError>> {
        let mut state = self.lock();
        state.check_send()?;
        let asking = state.send.asking(held, is_modest);
        let verdict = match state.send.claim(self.id, asking, &self.hub) {
            Ok(claimed) => {
                self.go_on(state);
                return Poll::Ready(Ok(claimed));
            }
            Err(verdict) => verdict,
        };
        state.send.awaited.piece = true;
        park(&mut state.send.waker, cx);
        let others = match verdict {
            Verdict::WhenOthersHaveSent => Vec::new(),
            _ => state.send.leave(self.id, &self.hub),
        };
        match verdict {
            Verdict::WhenOthersHaveSent => {
                self.hub.room.wait(self.id, asking, cx);
                state.send.waits_for_others = true;
                // They may just have.
                if let Ok(claimed) = state.send.claim(self.id, asking, &self.hub) {
                    self.go_on(state);
                    return Poll::Ready(Ok(claimed));
                }
                // In a wider window the piece might leave at once, and needs to wait for no others.
                if !mem::replace(&mut state.send.grant_asked, true) {
                    state.orders.await_grant = true;
                    self.enlist(state, News::Order);
                }
            }
            Verdict::WhenWindowOpens if !mem::replace(&mut state.send.window_asked, true) => {
                state.orders.await_window = true;
                self.enlist(state, News::Order);
            }
            _ => drop(state),
        }
        others.into_iter().for_each(Waker::wake);
        Poll::Pending
    }

    /// Takes room for a piece that is being made, of `most` bytes or less: what there is room for, and never less than
    /// a small piece. It is to be [given back](Self::give_back).
    pub(crate) fn reserve(&self, most: usize) -> usize {
        let asking = self.lock().send.asking(0, true);
        self.hub.reserve_room(asking, most)
    }

    pub(crate) fn promise_room(&self) {
        self.lock().send.is_modest = true;
    }

    pub(crate) fn give_back(&self, length: usize) {
        let others = self.hub.room.give_back(length);
        others.into_iter().for_each(Waker::wake);
    }

    /// The stream may have another piece, and waits for none any more.
    fn go_on(&self, mut state: MutexGuard<'_, State>) {
        state.send.awaited.piece = false;
        let others = state.send.leave(self.id, &self.hub);
        drop(state);
        others.into_iter().for_each(Waker::wake);
    }

    /// Waits until everything queued has left for the transport.
    pub(crate) fn poll_flush(&self, cx: &Context<'_>) -> Poll<Result<(), StreamError>> {
        let mut state = self.lock();
        let is_done = state.send.pieces.queued() == 0;
        state.send.awaited.flushed = true;
        state.poll_until(is_done, cx)
    }

    /// Waits until FIN has been written to the transport.
    pub(crate) fn poll_written(&self, cx: &Context<'_>) -> Poll<Result<(), StreamError>> {
        let mut state = self.lock();
        state.send.awaited.written = true;
        state.poll_until(false, cx)
    }

    /// Waits for the end: [`StreamError::Finished`] if it is in order.
    pub(crate) fn poll_closed(&self, cx: &Context<'_>) -> Poll<StreamError> {
        let mut state = self.lock();
        match &state.end {
            Some(end) => Poll::Ready(end.clone()),
            None if state.is_over() => Poll::Ready(StreamError::Finished),
            None => {
                park(&mut state.send.waker, cx);
                Poll::Pending
            }
        }
    }

    /// Whether this side has finished the stream.
    pub(crate) fn is_finished(&self) -> bool {
        self.lock().send.fin > Fin::Open
    }

    /// Ends the stream both ways.
    pub(crate) fn reset(self: &Arc<Self>, status: RstStatus) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.orders.reset.get_or_insert(status);
            self.enlist(state, News::Order);
        }
    }

    /// The sending handle is dropped. With a status, a stream that it has not finished is reset, and so is one that the
    /// peer has not finished and that this side cannot send on.
    pub(crate) fn drop_send(self: &Arc<Self>, status: Option<RstStatus>) {
        let mut state = self.lock();
        state.send.dropped = true;
        let others = state.send.leave(self.id, &self.hub);
        let is_open = state.send.fin == Fin::Open || (state.send.mute && !state.recv.fin);
        if let Some(status) = status
            && is_open
            && state.end.is_none()
        {
            state.orders.reset.get_or_insert(status);
            self.enlist(state, News::Order);
        } else if state.is_released() {
            self.enlist(state, News::Released);
        } else {
            drop(state);
        }
        others.into_iter().for_each(Waker::wake);
    }

    fn check_send(&self) -> Result<(), StreamError> {
        self.lock().check_send()
    }

    fn send(
        self: &Arc<Self>,
        fin: bool,
        queue: impl FnOnce(&mut SendSide),
    ) -> Result<(), StreamError> {
        let mut state = self.lock();
        state.check_send()?;
        queue(&mut state.send);
        let mut others = Vec::new();
        if fin {
            state.send.fin = Fin::Ordered;
            others = state.send.leave(self.id, &self.hub);
        }
        self.enlist(state, News::Order);
        others.into_iter().for_each(Waker::wake);
        Ok(())
    }
}

impl State {
    /// Whether anything may still be sent.
    fn check_send(&self) -> Result<(), StreamError> {
        match &self.end {
            Some(end) => Err(end.clone()),
            None if self.send.fin > Fin::Open => Err(StreamError::Finished),
            None => Ok(()),
        }
    }

    fn poll_until(&mut self, is_done: bool, cx: &Context<'_>) -> Poll<Result<(), StreamError>> {
        match &self.end {
            // What was written before the end was written.
            _ if self.send.fin == Fin::Written => Poll::Ready(Ok(())),
            Some(end) => Poll::Ready(Err(end.clone())),
            None if is_done => Poll::Ready(Ok(())),
            None => {
                park(&mut self.send.waker, cx);
                Poll::Pending
            }
        }
    }
}

impl SendSide {
    pub(super) fn new(birth: Birth) -> Self {
        Self {
            reply: None,
            items: Queue::new(),
            joined: BytesMut::new(),
            fin: match birth {
                Birth { mute: true, .. } => Fin::Written,
                Birth { finished: true, .. } => Fin::HandedOver,
                Birth { .. } => Fin::Open,
            },
            mute: birth.mute,
            pieces: Pieces::default(),
            window: birth.window,
            window_asked: false,
            grant_asked: false,
            waits_for_others: false,
            is_modest: false,
            dropped: false,
            awaited: Awaited::default(),
            waker: None,
        }
    }

    /// Adds a piece that is not empty, which may be the last one.
    fn push(&mut self, payload: Bytes, last: bool, hub: &Hub) {
        let octets = payload.len();
        let joins = octets < SMALL_LENGTH && !(last && self.joined.is_empty());
        if joins {
            self.join(&payload);
        } else {
            self.flush_joined();
            self.items.push_back(Outgoing::Data(payload));
        }
        self.pieces.pushed(octets, last, &hub.room);
    }

    /// Copies octets behind what is queued, in pieces that are not so large that a rest of one pins much.
    fn join(&mut self, octets: &[u8]) {
        for piece in octets.chunks(JOINED_LENGTH) {
            if self.joined.len() + piece.len() > JOINED_LENGTH {
                self.flush_joined();
            }
            self.joined.extend_from_slice(piece);
        }
    }

    fn flush_joined(&mut self) {
        if !self.joined.is_empty() {
            let joined = mem::take(&mut self.joined).freeze();
            self.items.push_back(Outgoing::Data(joined));
        }
    }

    /// Drops everything, and returns what payload that was, with what the machine had.
    pub(super) fn discard(&mut self) -> Freed {
        self.items = Queue::new();
        self.joined = BytesMut::new();
        self.reply = None;
        self.pieces.clear()
    }

    /// Notes that bytes have left.
    pub(super) fn sent(&mut self, octets: usize, fin: bool) -> Freed {
        if fin {
            self.fin = Fin::Written;
        }
        self.pieces.sent(octets)
    }

    pub(super) fn window_opened(&mut self, window: usize) {
        self.window = window;
        self.window_asked = false;
        self.grant_asked = false;
    }

    /// Takes room for a piece, or returns the room that was taken for it while it waited for others.
    fn claim(&self, id: StreamId, asking: Asking, hub: &Hub) -> Result<usize, Verdict> {
        let turn = match self.waits_for_others {
            true => hub.room.take_turn(id),
            false => None,
        };
        turn.map_or_else(|| hub.claim_room(asking), Ok)
    }

    /// It waits for no others any more. Returns the tasks of those that may go on for that.
    #[must_use = "tasks wait for its room"]
    pub(super) fn leave(&mut self, id: StreamId, hub: &Hub) -> Vec<Waker> {
        match mem::take(&mut self.waits_for_others) {
            true => hub.room.leave(id),
            false => Vec::new(),
        }
    }

    /// Whether its task waits for a piece that it may have in such a window.
    pub(super) fn is_held_up(&self, window: usize, hub: &Hub) -> bool {
        let asking = Asking {
            window,
            ..self.asking(0, self.is_modest)
        };
        let may_have = matches!(hub.room_of_piece(asking), Verdict::Yes(_));
        self.awaited.piece && self.waker.is_some() && may_have
    }

    /// Takes the task that waits for what has come about.
    pub(super) fn take_due_waker(&mut self, hub: &Hub) -> Option<Waker> {
        let Awaited {
            room,
            piece,
            flushed,
            written,
        } = self.awaited;
        let queued = self.pieces.queued();
        let is_due = (room && hub.room_of_writer(queued) > 0)
            || (piece && self.may_ask_again(hub))
            || (flushed && queued == 0)
            || (written && self.is_written());
        if !is_due {
            return None;
        }
        self.awaited = Awaited::default();
        self.waker.take()
    }

    /// Whether another piece may be asked for, or has to wait for something else than before.
    fn may_ask_again(&self, hub: &Hub) -> bool {
        match hub.room_of_piece(self.asking(0, self.is_modest)) {
            Verdict::Yes(_) | Verdict::WhenOthersHaveSent => true,
            Verdict::WhenWindowOpens => !self.window_asked,
            Verdict::WhenSent => false,
        }
    }

    fn asking(&self, held: usize, is_modest: bool) -> Asking {
        Asking {
            queued: self.pieces.queued() + held,
            window: self.window,
            last: self.pieces.last(),
            is_modest: is_modest || self.is_modest,
        }
    }

    pub(super) fn is_written(&self) -> bool {
        self.fin == Fin::Written
    }

    /// Whether there is something to hand over.
    pub(super) fn has_orders(&self) -> bool {
        self.reply.is_some()
            || !self.items.is_empty()
            || !self.joined.is_empty()
            || self.fin == Fin::Ordered
    }

    /// Moves what is queued into the machine. It refuses what comes for a stream that has ended meanwhile; the
    /// handle gets to know that by the event of the end.
    pub(super) fn hand_over(&mut self, id: StreamId, connection: &mut Connection) {
        self.flush_joined();
        let fin = self.fin == Fin::Ordered;
        if let Some(headers) = self.reply.take() {
            _ = connection.send_reply(id, headers, fin && self.items.is_empty());
        } else if fin && self.items.is_empty() {
            _ = connection.finish(id);
        }
        while let Some(item) = self.items.pop_front() {
            let last = fin && self.items.is_empty();
            _ = connection.queue(id, Some(item), last);
        }
        if fin {
            self.fin = Fin::HandedOver;
        }
    }
}

/// Pieces to be sent that are shorter than this, in octets, are copied together: one frame less costs more than the
/// copy, and so do many small pieces that wait.
const SMALL_LENGTH: usize = 1024;
