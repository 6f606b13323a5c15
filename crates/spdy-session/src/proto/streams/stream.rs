//! One stream: its two halves, its windows, and what waits to be sent on it.
//!
//! Methods that change what is counted of all streams together are for
//! [`StreamRef`](super::StreamRef) alone, which keeps the counts.

use std::{fmt, mem};

use bytes::{Bytes, BytesMut};
use spdy_frame::{Data, HeaderBlock, HeaderError, Priority, RstStatus, StreamId, WindowIncrement};

use super::halves::{RecvHalf, RecvInput, Refused, SendHalf, SendInput, Unfit};
use crate::{
    Limit,
    proto::{
        error::{Violation, broken_block},
        output::Place,
        role::Role,
        scheduler::Need,
        waits::StreamWait,
        windows::{Overflow, RecvWindow, SendWindow},
    },
    queue::Queue,
};

/// All that is known of a stream that is not closed.
#[derive(Debug)]
pub(crate) struct Stream {
    id: StreamId,
    priority: Priority,
    associated: Option<StreamId>,
    unidirectional: bool,
    send: SendHalf,
    recv: RecvHalf,
    send_window: SendWindow,
    recv_window: RecvWindow,
    /// The block of our SYN_STREAM or SYN_REPLY until it is written.
    opening: Option<HeaderBlock>,
    /// What follows the opening.
    queue: Queue<Outgoing>,
    /// How much was taken off the piece of payload that is the first in `queue`.
    taken: usize,
    /// For the output alone.
    pub(crate) place: Place,
    /// For those alone that wait for windows.
    pub(crate) wait: StreamWait,
    /// Whether a WINDOW_UPDATE is due.
    credit_due: bool,
    /// What the application may still drop unread; `None` while it reads.
    discard: Option<u64>,
    /// The size of the header block that opened it, or of that of its reply.
    opening_headers: usize,
    /// The size of later ones that the application has not taken.
    unread_headers: usize,
    /// Whether the application has taken it up; streams of ours always are.
    accepted: bool,
    /// Whether the application has dropped its handles.
    released: bool,
}

/// What a stream begins with, whichever side opens it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birth {
    pub(crate) priority: Priority,
    pub(crate) associated: Option<StreamId>,
    pub(crate) unidirectional: bool,
    /// Nothing follows the header block.
    pub(crate) fin: bool,
    pub(crate) window: RecvWindow,
}

/// One thing in a stream's send queue.
pub(crate) enum Outgoing {
    Data(Bytes),
    Headers(HeaderBlock),
}

/// Payload that was taken off a queue.
pub(crate) struct Taken {
    pub(crate) payload: Bytes,
    /// It is the last of a long piece, all of which it keeps in memory.
    pub(crate) keeps_long: bool,
}

/// What a stream writes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Payload, of which so many bytes are in one piece.
    Data(usize),
    Headers,
    /// FIN alone.
    Fin,
}

impl Stream {
    /// Returns the record of a stream that this side opens.
    pub(super) fn of_initiator(id: StreamId, birth: Birth, opening: HeaderBlock) -> Self {
        let send = SendHalf::of_initiator(birth.fin);
        let recv = RecvHalf::of_initiator(birth.unidirectional);
        Self {
            opening: Some(opening),
            ..Self::new(id, birth, send, recv)
        }
    }

    /// Returns the record of a stream that the peer opens with a block of this size.
    pub(super) fn of_acceptor(id: StreamId, birth: Birth, opening_headers: usize) -> Self {
        let send = SendHalf::of_acceptor(birth.unidirectional);
        let recv = RecvHalf::of_acceptor(birth.fin);
        Self {
            opening_headers,
            accepted: false,
            ..Self::new(id, birth, send, recv)
        }
    }

    fn new(id: StreamId, birth: Birth, send: SendHalf, recv: RecvHalf) -> Self {
        Self {
            id,
            priority: birth.priority,
            associated: birth.associated,
            unidirectional: birth.unidirectional,
            send,
            recv,
            send_window: SendWindow::default(),
            recv_window: birth.window,
            opening: None,
            queue: Queue::new(),
            taken: 0,
            place: Place::default(),
            wait: StreamWait::default(),
            credit_due: false,
            discard: None,
            opening_headers: 0,
            unread_headers: 0,
            accepted: true,
            released: false,
        }
    }

    // --- questions -------------------------------------------------------------------------------

    #[inline]
    pub(crate) const fn id(&self) -> StreamId {
        self.id
    }

    #[inline]
    pub(crate) const fn priority(&self) -> Priority {
        self.priority
    }

    pub(crate) const fn associated(&self) -> Option<StreamId> {
        self.associated
    }

    pub(crate) const fn is_unidirectional(&self) -> bool {
        self.unidirectional
    }

    #[inline]
    pub(crate) const fn send_window(&self) -> &SendWindow {
        &self.send_window
    }

    #[inline]
    pub(crate) const fn recv_window(&self) -> &RecvWindow {
        &self.recv_window
    }

    /// Returns whether both halves are finished.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.is_sent() && self.is_received()
    }

    /// Returns whether the peer sends nothing more.
    #[inline]
    pub(crate) fn is_received(&self) -> bool {
        self.recv == RecvHalf::Finished
    }

    /// Returns whether FIN of this side went into the bytes for the transport.
    #[inline]
    pub(crate) fn is_sent(&self) -> bool {
        self.send == SendHalf::Finished
    }

    /// Returns whether the application may still queue something.
    pub(crate) const fn is_open_to_send(&self) -> bool {
        self.send.is_open()
    }

    /// Returns whether the peer expects DATA: it has the opening frame, and not FIN.
    pub(crate) fn is_open_for_data(&self) -> bool {
        let is_open = matches!(self.send, SendHalf::Open | SendHalf::Finishing);
        is_open && !self.has_opening()
    }

    /// Returns whether SYN_STREAM or SYN_REPLY of this side is not written.
    #[inline]
    pub(crate) const fn has_opening(&self) -> bool {
        self.opening.is_some()
    }

    /// Returns whether the application reads no more of it.
    pub(crate) const fn is_discarded(&self) -> bool {
        self.discard.is_some()
    }

    /// Returns whether the application wants nothing more of it, and has said all.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.is_discarded() && self.is_sent()
    }

    pub(crate) const fn is_credit_due(&self) -> bool {
        self.credit_due
    }

    pub(crate) const fn is_accepted(&self) -> bool {
        self.accepted
    }

    pub(crate) const fn is_released(&self) -> bool {
        self.released
    }

    pub(super) const fn opening_headers(&self) -> usize {
        self.opening_headers
    }

    pub(super) const fn unread_headers(&self) -> usize {
        self.unread_headers
    }

    /// Returns what it writes after the opening.
    #[inline]
    pub(crate) fn next(&self) -> Option<Next> {
        match self.queue.front() {
            Some(Outgoing::Data(payload)) => Some(Next::Data(payload.len())),
            Some(Outgoing::Headers(_)) => Some(Next::Headers),
            None => (self.send == SendHalf::Finishing).then_some(Next::Fin),
        }
    }

    /// Returns what is needed for what it writes next.
    #[inline]
    pub(crate) fn need(&self) -> Need {
        match self.queue.front() {
            Some(Outgoing::Data(_)) => Need::Window,
            Some(Outgoing::Headers(_)) | None => Need::Nothing,
        }
    }

    /// Returns whether FIN belongs on the frame that was taken last: nothing is queued behind it.
    #[inline]
    pub(crate) fn ends_here(&self) -> bool {
        self.queue.is_empty() && self.send == SendHalf::Finishing
    }

    #[inline]
    pub(crate) const fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Returns how many bytes of payload are queued.
    pub(crate) fn queued_bytes(&self) -> usize {
        let length = |item: &Outgoing| match item {
            Outgoing::Data(payload) => payload.len(),
            Outgoing::Headers(_) => 0,
        };
        self.queue.iter().map(length).sum()
    }

    // --- what the peer sends ---------------------------------------------------------------------

    /// Judges a piece of a DATA frame that has `announced` bytes from there on, and moves the
    /// receiving half on.
    #[inline]
    pub(super) fn receive_data(
        &mut self,
        role: Role,
        data: &Data,
        announced: u64,
    ) -> Result<(), Violation> {
        if data.compressed {
            let reason = "DATA has the flag COMPRESS";
            return Err(Violation::stream(
                self.id,
                RstStatus::PROTOCOL_ERROR,
                reason,
            ));
        }
        let next = self.judge(role, RecvInput::Data, data.fin)?;
        if role.has_stream_windows() && !self.recv_window.allows(announced) {
            let reason = "DATA exceeds the stream window";
            let violation = Violation::stream(self.id, RstStatus::FLOW_CONTROL_ERROR, reason);
            return Err(violation.beyond(Limit::StreamWindow));
        }
        self.recv = next;
        Ok(())
    }

    /// Judges a header block, and moves the receiving half on.
    pub(crate) fn receive_headers(
        &mut self,
        role: Role,
        input: RecvInput,
        fin: bool,
        headers: Result<HeaderBlock, HeaderError>,
    ) -> Result<HeaderBlock, Violation> {
        let next = self.judge(role, input, fin)?;
        let headers = headers.map_err(|error| broken_block(self.id, &error))?;
        self.recv = next;
        Ok(headers)
    }

    fn judge(&self, role: Role, input: RecvInput, fin: bool) -> Result<RecvHalf, Violation> {
        let next = self.recv.on(role.version(), input, fin);
        next.map_err(|unfit| match unfit {
            Unfit::Stream(status, reason) => Violation::stream(self.id, status, reason),
            Unfit::Session(reason) => Violation::session(reason),
        })
    }

    /// Counts what is dropped unread, payload or what header blocks count. Returns whether that is
    /// within the limit.
    #[must_use]
    pub(crate) fn discard(&mut self, amount: usize) -> bool {
        let (left, amount) = (self.discard.unwrap_or(0), amount as u64);
        self.discard = Some(left.saturating_sub(amount));
        amount <= left
    }

    /// Returns whether the stream is to get credit now that `step` bytes of it are there, once for
    /// each time. After the peer's FIN none is due (protocol.md §13.3).
    #[inline]
    pub(super) fn note_credit(&mut self, step: u32) -> bool {
        let is_due = self.recv_window.returnable() >= step && !self.is_received();
        is_due && !mem::replace(&mut self.credit_due, true)
    }

    /// Takes the credit that is due. The window has this size at least then, if the application
    /// keeps up.
    pub(crate) fn take_credit(&mut self, size: u32) -> Option<WindowIncrement> {
        self.credit_due = false;
        if self.is_received() {
            return None;
        }
        if self.recv_window.is_read() {
            self.recv_window.enlarge_to(size);
        }
        self.recv_window.take_credit(1)
    }

    /// Adds what a WINDOW_UPDATE grants to a window that began with `initial` bytes.
    pub(crate) fn grow_window(
        &mut self,
        initial: u32,
        increment: WindowIncrement,
    ) -> Result<(), Overflow> {
        self.send_window.grow(initial, increment)
    }

    // --- what this side sends --------------------------------------------------------------------

    pub(crate) fn take_opening(&mut self) -> Option<HeaderBlock> {
        self.opening.take()
    }

    /// Takes the header block that is the first in the queue.
    pub(crate) fn take_headers(&mut self) -> Option<HeaderBlock> {
        match self.queue.front() {
            Some(Outgoing::Headers(_)) => match self.queue.pop_front() {
                Some(Outgoing::Headers(block)) => Some(block),
                _ => None,
            },
            _ => None,
        }
    }

    /// Takes bytes that are about to be sent out of the window.
    #[inline]
    pub(crate) fn spend_window(&mut self, bytes: usize) {
        self.send_window.take(bytes);
    }

    // --- what is counted of all streams together -------------------------------------------------

    pub(super) fn send_reply(&mut self, headers: HeaderBlock, fin: bool) -> Result<(), Refused> {
        self.send = self.send.on(SendInput::Reply { fin })?;
        self.opening = Some(headers);
        Ok(())
    }

    /// Queues something, and an empty reply in front of it where none was given.
    pub(super) fn queue(&mut self, item: Option<Outgoing>, fin: bool) -> Result<(), Refused> {
        let before = self.send;
        self.send = before.on(SendInput::Queue { fin })?;
        if before == SendHalf::Unreplied {
            // SYN_REPLY precedes DATA, whatever the application does (protocol.md §6).
            self.opening = Some(HeaderBlock::new());
        }
        match item {
            Some(Outgoing::Data(payload)) => self.queue_data(payload),
            Some(headers) => self.queue.push_back(headers),
            None => {}
        }
        Ok(())
    }

    /// Puts payload behind what is queued. Small pieces are joined: else the bookkeeping of many
    /// that wait would exceed the payload, which alone is bounded.
    fn queue_data(&mut self, payload: Bytes) {
        match self.queue.back_mut() {
            Some(Outgoing::Data(last)) if last.len() + payload.len() <= JOINED_LENGTH => {
                let mut joined = match mem::take(last).try_into_mut() {
                    Ok(joined) => joined,
                    Err(shared) => {
                        let mut joined = BytesMut::with_capacity(JOINED_LENGTH);
                        joined.extend_from_slice(&shared);
                        joined
                    }
                };
                joined.extend_from_slice(&payload);
                *last = joined.freeze();
            }
            _ => self.queue.push_back(Outgoing::Data(payload)),
        }
    }

    /// Takes `bytes` off the payload that is the first in the queue. `None`: it is not payload.
    pub(super) fn take_payload(&mut self, bytes: usize) -> Option<Taken> {
        let Some(Outgoing::Data(payload)) = self.queue.front_mut() else {
            return None;
        };
        self.taken += bytes;
        if bytes < payload.len() {
            let (payload, keeps_long) = (payload.split_to(bytes), false);
            return Some(Taken {
                payload,
                keeps_long,
            });
        }
        let payload = mem::take(payload);
        self.queue.pop_front();
        let keeps_long = mem::take(&mut self.taken) > LONG_PIECE && bytes < LONG_PIECE;
        Some(Taken {
            payload,
            keeps_long,
        })
    }

    /// FIN went into the bytes for the transport.
    pub(super) fn fin_written(&mut self) {
        let next = self.send.on(SendInput::FinWritten);
        self.send = next.expect("FIN is written of a half that finishes");
    }

    pub(super) fn recv_window_mut(&mut self) -> &mut RecvWindow {
        &mut self.recv_window
    }

    /// The application reads no more.
    pub(super) fn stop_reading(&mut self, limit: u64) {
        self.discard = Some(limit);
    }

    /// Holds the block of a reply.
    pub(super) fn hold_reply(&mut self, size: usize) {
        self.opening_headers += size;
    }

    /// Holds a block that follows the first one.
    pub(super) fn hold_headers(&mut self, size: usize) {
        self.unread_headers += size;
    }

    /// Returns how much of `size` the application can be done with, and counts it no more.
    pub(super) fn consume_headers(&mut self, size: usize) -> usize {
        let size = size.min(self.unread_headers);
        self.unread_headers -= size;
        size
    }

    /// Returns whether the application takes it up only now.
    pub(super) fn accept(&mut self) -> bool {
        !mem::replace(&mut self.accepted, true)
    }

    pub(super) fn release(&mut self) {
        self.released = true;
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(payload) => write!(f, "Data(<{} bytes>)", payload.len()),
            Self::Headers(block) => f.debug_tuple("Headers").field(block).finish(),
        }
    }
}

/// Pieces of payload that are longer than this, in bytes, are not kept for a last frame that waits
/// for the transport.
const LONG_PIECE: usize = 64 * 1024;

/// Pieces of payload that wait one behind the other have more than this together, in bytes.
const JOINED_LENGTH: usize = 2 * 1024;
