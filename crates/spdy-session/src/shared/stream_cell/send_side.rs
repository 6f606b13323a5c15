//! The sending half: what is to be sent.

use std::{fmt, mem, task::Waker};

use bytes::{Bytes, BytesMut};
use spdy_frame::{HeaderBlock, StreamId};

use super::pieces::{JOINED_LENGTH, Pieces};
use crate::{
    proto::{Connection, Outgoing},
    queue::Queue,
    shared::budget::{Asking, Budget, Freed, Verdict},
};

/// What is to be sent.
pub(super) struct SendSide {
    reply: Option<HeaderBlock>,
    items: Queue<Outgoing>,
    /// Small writes are joined here, behind all items.
    joined: BytesMut,
    fin: Fin,
    /// This side cannot send on the stream.
    pub(super) is_mute: bool,
    /// What has not left for the transport, here and in the machine.
    pieces: Pieces,
    /// What the stream's window let out when a frame of it last left, in bytes.
    pub(super) window: usize,
    /// The machine was asked to tell when the window is open.
    window_asked: bool,
    /// The machine was asked to tell when the window has changed.
    grant_asked: bool,
    /// The stream is on the list of those that wait for large pieces of others to leave, or was.
    pub(super) waits_for_others: bool,
    /// The pieces of the stream are no longer than there is room for.
    pub(super) is_modest: bool,
    pub(super) dropped: bool,
    pub(super) awaited: Awaited,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// What the sending handle's task waits for. It may be several things at once. The end of the
/// stream wakes it in any case.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Awaited {
    /// Room in the queue, for a writer.
    pub(super) room: bool,
    /// That another piece may be asked for.
    pub(super) piece: bool,
    /// That nothing is queued.
    pub(super) flushed: bool,
    /// That FIN is written.
    pub(super) written: bool,
}

impl SendSide {
    /// A half that this side may have finished already, with what the stream's window lets out.
    pub(super) fn new(is_finished: bool, window: usize) -> Self {
        let fin = if is_finished {
            Fin::HandedOver
        } else {
            Fin::Open
        };
        Self::with(fin, window)
    }

    /// A half that this side cannot send on.
    pub(super) fn mute() -> Self {
        Self {
            is_mute: true,
            ..Self::with(Fin::Written, 0)
        }
    }

    fn with(fin: Fin, window: usize) -> Self {
        Self {
            reply: None,
            items: Queue::new(),
            joined: BytesMut::new(),
            fin,
            is_mute: false,
            pieces: Pieces::default(),
            window,
            window_asked: false,
            grant_asked: false,
            waits_for_others: false,
            is_modest: false,
            dropped: false,
            awaited: Awaited::default(),
            waker: None,
        }
    }

    /// Whether the application may send more, unless the stream has ended.
    pub(super) fn is_open(&self) -> bool {
        self.fin == Fin::Open
    }

    pub(super) fn is_written(&self) -> bool {
        self.fin == Fin::Written
    }

    /// Returns how many bytes have not left for the transport.
    pub(super) const fn queued(&self) -> usize {
        self.pieces.queued()
    }
}

/// What the application sends.
impl SendSide {
    pub(super) fn set_reply(&mut self, headers: HeaderBlock) {
        self.reply = Some(headers);
    }

    /// Adds a piece that is not empty, which may be the last one.
    pub(super) fn push(&mut self, payload: Bytes, last: bool, budget: &Budget) {
        let length = payload.len();
        let joins = length < SMALL_LENGTH && !(last && self.joined.is_empty());
        if joins {
            self.join(&payload);
        } else {
            self.flush_joined();
            self.items.push_back(Outgoing::Data(payload));
        }
        self.pieces.pushed(length, last, budget);
    }

    pub(super) fn push_headers(&mut self, headers: HeaderBlock) {
        self.flush_joined();
        self.items.push_back(Outgoing::Headers(headers));
    }

    /// Adds a copy of `bytes`.
    pub(super) fn copy(&mut self, bytes: &[u8], budget: &Budget) {
        self.join(bytes);
        self.pieces.written(bytes.len(), budget);
    }

    pub(super) fn finish(&mut self) {
        self.fin = Fin::Ordered;
    }

    /// Copies bytes behind what is queued, in pieces that are not so large that a rest of one pins
    /// much.
    fn join(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(JOINED_LENGTH) {
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
}

/// What becomes of it.
impl SendSide {
    /// Whether there is something to hand over.
    pub(super) fn has_orders(&self) -> bool {
        self.reply.is_some()
            || !self.items.is_empty()
            || !self.joined.is_empty()
            || self.fin == Fin::Ordered
    }

    /// Moves what is queued into the machine. The machine refuses what comes for a stream that has
    /// ended meanwhile; the event of the end tells the handle.
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

    /// Notes that bytes have left, and FIN with them or not.
    pub(super) fn sent(&mut self, bytes: usize, fin: bool) -> Freed {
        if fin {
            self.fin = Fin::Written;
        }
        self.pieces.sent(bytes)
    }

    /// Drops everything, and returns what payload that was, with what the machine had.
    pub(super) fn discard(&mut self) -> Freed {
        self.items = Queue::new();
        self.joined = BytesMut::new();
        self.reply = None;
        self.pieces.clear()
    }
}

/// Room and windows.
impl SendSide {
    /// Returns what the budget has to know when the stream asks for a piece behind `held` bytes
    /// that are about to be queued.
    pub(super) fn asking(&self, held: usize, is_modest: bool) -> Asking {
        Asking {
            queued: self.pieces.queued() + held,
            window: self.window,
            last: self.pieces.last(),
            is_modest: is_modest || self.is_modest,
        }
    }

    /// Takes room for a piece, or returns the room that was taken for it while the stream waited
    /// for others.
    pub(super) fn claim(
        &self,
        id: StreamId,
        asking: Asking,
        budget: &Budget,
    ) -> Result<usize, Verdict> {
        let turn = match self.waits_for_others {
            true => budget.take_turn(id),
            false => None,
        };
        turn.map_or_else(|| budget.claim(asking), Ok)
    }

    /// Notes that the stream waits for no others any more. Returns the tasks of those that may go
    /// on for that.
    #[must_use = "tasks wait for its room"]
    pub(super) fn leave(&mut self, id: StreamId, budget: &Budget) -> Vec<Waker> {
        match mem::take(&mut self.waits_for_others) {
            true => budget.leave(id),
            false => Vec::new(),
        }
    }

    /// Returns whether the machine has still to be asked to tell when the window is open.
    pub(super) fn asks_for_window(&mut self) -> bool {
        !mem::replace(&mut self.window_asked, true)
    }

    /// Returns whether the machine has still to be asked to tell when the window has changed.
    pub(super) fn asks_for_grant(&mut self) -> bool {
        !mem::replace(&mut self.grant_asked, true)
    }

    pub(super) fn window_opened(&mut self, window: usize) {
        self.window = window;
        self.window_asked = false;
        self.grant_asked = false;
    }

    /// Takes the task, if it waits for something that has come about.
    pub(super) fn take_due_waker(&mut self, budget: &Budget) -> Option<Waker> {
        let Awaited {
            room,
            piece,
            flushed,
            written,
        } = self.awaited;
        let queued = self.pieces.queued();
        let is_due = (room && budget.of_writer(queued) > 0)
            || (piece && self.may_ask_again(budget))
            || (flushed && queued == 0)
            || (written && self.is_written());
        if !is_due {
            return None;
        }
        self.awaited = Awaited::default();
        self.waker.take()
    }

    /// Whether the stream may have another piece, or has to wait for something else than before.
    fn may_ask_again(&self, budget: &Budget) -> bool {
        match budget.of_piece(self.asking(0, self.is_modest)) {
            Verdict::Yes(_) | Verdict::WhenOthersHaveSent => true,
            Verdict::WhenWindowOpens => !self.window_asked,
            Verdict::WhenSent => false,
        }
    }

    /// For tests: whether the task waits for a piece that the stream may have in such a window.
    pub(super) fn is_held_up(&self, window: usize, budget: &Budget) -> bool {
        let asking = Asking {
            window,
            ..self.asking(0, self.is_modest)
        };
        let may_have = matches!(budget.of_piece(asking), Verdict::Yes(_));
        self.awaited.piece && self.waker.is_some() && may_have
    }
}

/// Pieces to be sent that are shorter than this, in bytes, are copied together. One frame less
/// costs more than the copy does, and so do many small pieces that wait.
const SMALL_LENGTH: usize = 1024;
