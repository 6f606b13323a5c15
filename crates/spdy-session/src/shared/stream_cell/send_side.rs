//! The sending half: what a stream has to send.

use std::{fmt, mem, task::Waker};

use bytes::Bytes;
use spdy_frame::{HeaderBlock, StreamId};

use super::{joined::Joined, pieces::Pieces};
use crate::{
    proto::{Connection, Outgoing},
    queue::Queue,
    shared::budget::{Asking, Budget, Freed, Left, Verdict},
};

/// What a stream has to send.
pub(super) struct SendSide {
    reply: Option<HeaderBlock>,
    items: Queue<Outgoing>,
    /// Short pieces and writes, which come after all items.
    joined: Joined,
    fin: Fin,
    /// Whether this side cannot send on the stream.
    pub(super) is_mute: bool,
    /// The payload that has not left for the transport, here and in the machine.
    pieces: Pieces,
    /// How many bytes the stream's window let out when a frame of it last left.
    pub(super) window: usize,
    /// Whether the machine was asked to report when the window is open.
    window_asked: bool,
    /// Whether the machine was asked to report when the window has changed.
    grant_asked: bool,
    /// Whether the stream is or was on the list of streams that wait for large pieces of others to
    /// leave.
    pub(super) waits_for_others: bool,
    /// Whether the pieces of the stream are no longer than the room for them.
    pub(super) is_modest: bool,
    pub(super) dropped: bool,
    pub(super) awaited: Awaited,
    pub(super) waker: Option<Waker>,
}

/// Shows how much is to be sent, and no content.
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

/// The progress of FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fin {
    /// The application may send more.
    Open,
    /// The application has finished.
    Ordered,
    /// The machine has it.
    HandedOver,
    /// It is written to the transport.
    Written,
}

/// What the sending handle's task waits for, which may be several things. The end of the stream
/// wakes it in any case.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Awaited {
    /// There is room in the queue, for a writer.
    pub(super) room: bool,
    /// Another piece may be asked for.
    pub(super) piece: bool,
    /// Nothing is queued.
    pub(super) flushed: bool,
    /// FIN is written.
    pub(super) written: bool,
}

impl SendSide {
    /// Returns a half with this window, which this side may have finished already.
    pub(super) fn new(is_finished: bool, window: usize) -> Self {
        let fin = if is_finished {
            Fin::HandedOver
        } else {
            Fin::Open
        };
        Self::with(fin, window)
    }

    /// Returns a half on which this side cannot send.
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
            joined: Joined::default(),
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

    /// Returns whether the application may send more, unless the stream has ended.
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

/// What the application does.
impl SendSide {
    pub(super) fn set_reply(&mut self, headers: HeaderBlock) {
        self.reply = Some(headers);
    }

    /// Adds a piece, unless it is empty. `last` says whether it is the last one. Returns a piece
    /// that was not kept.
    #[must_use = "payload is dropped without a lock"]
    pub(super) fn push(&mut self, payload: Bytes, last: bool, budget: &Budget) -> Option<Bytes> {
        let length = payload.len();
        if length == 0 {
            return Some(payload);
        }
        self.pieces.pushed(length, last, budget);
        let joins = length < SMALL_LENGTH && !(last && self.joined.is_empty());
        if joins {
            self.join(&payload);
            return Some(payload);
        }
        self.flush_joined();
        self.items.push_back(Outgoing::Data(payload));
        None
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

    /// Copies bytes behind what is queued.
    fn join(&mut self, bytes: &[u8]) {
        let items = &mut self.items;
        let full = |joined| items.push_back(Outgoing::Data(joined));
        self.joined.add(bytes, full);
    }

    fn flush_joined(&mut self) {
        if let Some(joined) = self.joined.take() {
            self.items.push_back(Outgoing::Data(joined));
        }
    }
}

/// What the driver does.
impl SendSide {
    /// Returns whether there is something to hand over.
    pub(super) fn has_orders(&self) -> bool {
        self.reply.is_some()
            || !self.items.is_empty()
            || !self.joined.is_empty()
            || self.fin == Fin::Ordered
    }

    /// Takes everything that is queued, if anything is.
    pub(super) fn take_orders(&mut self) -> Option<Orders> {
        if !self.has_orders() {
            return None;
        }
        self.flush_joined();
        let fin = self.fin == Fin::Ordered;
        if fin {
            self.fin = Fin::HandedOver;
        }
        Some(Orders {
            reply: self.reply.take(),
            items: mem::replace(&mut self.items, Queue::new()),
            fin,
        })
    }

    /// Notes that bytes have left, with FIN if `fin` is set.
    pub(super) fn sent(&mut self, bytes: usize, fin: bool) -> Freed {
        if fin {
            self.fin = Fin::Written;
        }
        self.pieces.sent(bytes)
    }

    /// Removes everything. Returns what leaves the budget, including the payload in the machine.
    pub(super) fn discard(&mut self) -> (Freed, Option<Orders>) {
        (self.pieces.clear(), self.take_orders())
    }
}

/// What was queued on a stream. Whatever becomes of it, it is dropped without a lock, because
/// payload can have an owner that uses the stream.
#[must_use = "it is handed over or dropped without a lock"]
pub(super) struct Orders {
    reply: Option<HeaderBlock>,
    items: Queue<Outgoing>,
    fin: bool,
}

impl Orders {
    /// Moves everything into the machine. The machine refuses items for a stream that has ended
    /// meanwhile; the event of the end informs the handle.
    pub(super) fn hand_over(self, id: StreamId, connection: &mut Connection) {
        let Self {
            reply,
            mut items,
            fin,
        } = self;
        if let Some(headers) = reply {
            _ = connection.send_reply(id, headers, fin && items.is_empty());
        } else if fin && items.is_empty() {
            _ = connection.finish(id);
        }
        while let Some(item) = items.pop_front() {
            let last = fin && items.is_empty();
            _ = connection.queue(id, Some(item), last);
        }
    }
}

/// Room and windows.
impl SendSide {
    /// Returns what the budget needs to know when the stream asks for a piece behind `held` bytes
    /// that are about to be queued.
    pub(super) fn asking(&self, held: usize, is_modest: bool) -> Asking {
        Asking {
            queued: self.pieces.queued() + held,
            window: self.window,
            last: self.pieces.last(),
            is_modest: is_modest || self.is_modest,
        }
    }

    /// Reserves room for a piece, or returns the room that was reserved while the stream waited for
    /// others.
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

    /// Notes that the stream no longer waits for others.
    pub(super) fn leave(&mut self, id: StreamId, budget: &Budget) -> Left {
        match mem::take(&mut self.waits_for_others) {
            true => budget.leave(id),
            false => Left::default(),
        }
    }

    /// Returns whether the machine still has to be asked to report when the window is open.
    pub(super) fn asks_for_window(&mut self) -> bool {
        !mem::replace(&mut self.window_asked, true)
    }

    /// Returns whether the machine still has to be asked to report when the window has changed.
    pub(super) fn asks_for_grant(&mut self) -> bool {
        !mem::replace(&mut self.grant_asked, true)
    }

    pub(super) fn window_opened(&mut self, window: usize) {
        self.window = window;
        self.window_asked = false;
        self.grant_asked = false;
    }

    /// Takes the task, if something that it waits for has happened.
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

    /// Returns whether the stream may have another piece, or has to wait for something else than
    /// before.
    fn may_ask_again(&self, budget: &Budget) -> bool {
        match budget.of_piece(self.asking(0, self.is_modest)) {
            Verdict::Yes(_) | Verdict::WhenOthersHaveSent => true,
            Verdict::WhenWindowOpens => !self.window_asked,
            Verdict::WhenSent => false,
        }
    }

    /// For tests: returns whether the task waits for a piece that the stream may have with this
    /// window.
    pub(super) fn is_held_up(&self, window: usize, budget: &Budget) -> bool {
        let asking = Asking {
            window,
            ..self.asking(0, self.is_modest)
        };
        let may_have = matches!(budget.of_piece_without_growth(asking), Verdict::Yes(_));
        self.awaited.piece && self.waker.is_some() && may_have
    }
}

/// Pieces to be sent that are shorter than this, in bytes, are joined. An additional frame costs
/// more than the copy, and so do many small pieces that wait.
const SMALL_LENGTH: usize = 1024;
