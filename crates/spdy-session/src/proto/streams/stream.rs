//! One stream: its two halves, its windows, and what waits to be sent on it.
//!
//! Only [`StreamRef`](super::StreamRef) calls the methods that affect the counts of all streams,
//! because it updates these counts.

use std::{fmt, mem};

use bytes::{Bytes, BytesMut};
use spdy_frame::{Data, HeaderBlock, HeaderError, Priority, RstStatus, StreamId, WindowIncrement};

use super::halves::{RecvHalf, RecvInput, Refused, SendHalf, SendInput, Unfit};
use crate::{
    Rule,
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

/// The state of a stream that is not closed.
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
    /// The header block of the SYN_STREAM or SYN_REPLY of this side, until it is written.
    opening: Option<HeaderBlock>,
    /// What is sent after the opening frame.
    queue: Queue<Outgoing>,
    /// How many bytes were taken off the first piece of payload in `queue`.
    taken: usize,
    /// Only the output uses this.
    pub(crate) place: Place,
    /// Only the waits for windows use this.
    pub(crate) wait: StreamWait,
    /// Whether a WINDOW_UPDATE is due.
    credit_due: bool,
    /// How many bytes the application may still drop unread; `None` while it reads.
    discard: Option<u64>,
    /// The size of the header block that opened the stream, or of its reply.
    opening_headers: usize,
    /// The size of later header blocks that the application has not taken.
    unread_headers: usize,
    /// Whether the application has accepted the stream. Streams of this side always are.
    accepted: bool,
    /// Whether the application has dropped its handles.
    released: bool,
}

/// The properties with which a stream begins, whichever side opens it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birth {
    pub(crate) priority: Priority,
    pub(crate) associated: Option<StreamId>,
    pub(crate) unidirectional: bool,
    /// Whether nothing follows the header block.
    pub(crate) fin: bool,
    pub(crate) window: RecvWindow,
}

/// One item in the send queue of a stream.
pub(crate) enum Outgoing {
    Data(Bytes),
    Headers(HeaderBlock),
}

/// Payload that was taken off a send queue.
pub(crate) struct Taken {
    pub(crate) payload: Bytes,
    /// Whether this is the end of a long piece, and keeps all of it in memory.
    pub(crate) keeps_long: bool,
}

/// What a stream writes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Payload. The next piece has this number of bytes.
    Data(usize),
    Headers,
    /// Only FIN.
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

    /// Returns whether FIN of this side is among the bytes for the transport.
    #[inline]
    pub(crate) fn is_sent(&self) -> bool {
        self.send == SendHalf::Finished
    }

    /// Returns whether the application can still queue something.
    pub(crate) const fn is_open_to_send(&self) -> bool {
        self.send.is_open()
    }

    /// Returns whether the peer expects DATA: it has the opening frame, and no FIN.
    pub(crate) fn is_open_for_data(&self) -> bool {
        let is_open = matches!(self.send, SendHalf::Open | SendHalf::Finishing);
        is_open && !self.has_opening()
    }

    /// Returns whether SYN_STREAM or SYN_REPLY of this side is due and not written.
    #[inline]
    pub(crate) const fn has_opening(&self) -> bool {
        self.opening.is_some()
    }

    /// Returns whether the application reads no more of the stream.
    pub(crate) const fn is_discarded(&self) -> bool {
        self.discard.is_some()
    }

    /// Returns whether this side has finished the stream and the application reads no more of it.
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

    /// Returns what the stream writes after the opening frame.
    #[inline]
    pub(crate) fn next(&self) -> Option<Next> {
        match self.queue.front() {
            Some(Outgoing::Data(payload)) => Some(Next::Data(payload.len())),
            Some(Outgoing::Headers(_)) => Some(Next::Headers),
            None => (self.send == SendHalf::Finishing).then_some(Next::Fin),
        }
    }

    /// Returns what the stream needs for its next frame.
    #[inline]
    pub(crate) fn need(&self) -> Need {
        match self.queue.front() {
            Some(Outgoing::Data(_)) => Need::Window,
            Some(Outgoing::Headers(_)) | None => Need::Nothing,
        }
    }

    /// Returns whether the frame that was taken last gets FIN: nothing is queued behind it.
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

    /// Checks a piece of a DATA frame of which `announced` bytes are still to come, these included.
    /// Moves the receiving half on if the piece is allowed.
    #[inline]
    pub(super) fn receive_data(
        &mut self,
        role: Role,
        data: &Data,
        announced: u64,
    ) -> Result<(), Violation> {
        if data.compressed {
            let (status, rule) = (RstStatus::PROTOCOL_ERROR, Rule::CompressedData);
            return Err(Violation::stream(self.id, status, rule));
        }
        let next = self.judge(role, RecvInput::Data, data.fin)?;
        if role.has_stream_windows() && !self.recv_window.allows(announced) {
            let (status, rule) = (RstStatus::FLOW_CONTROL_ERROR, Rule::StreamWindow);
            return Err(Violation::stream(self.id, status, rule));
        }
        self.recv = next;
        Ok(())
    }

    /// Checks a header block. Moves the receiving half on if the block is allowed.
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
            Unfit::Stream(status, rule) => Violation::stream(self.id, status, rule),
            Unfit::Session(rule) => Violation::session(rule),
        })
    }

    /// Counts dropped bytes: payload, or the size of header blocks. Returns whether they are within
    /// the limit.
    #[must_use]
    pub(crate) fn discard(&mut self, amount: usize) -> bool {
        let (left, amount) = (self.discard.unwrap_or(0), amount as u64);
        self.discard = Some(left.saturating_sub(amount));
        amount <= left
    }

    /// Returns whether at least `step` bytes of credit are due. It returns `true` once, until the
    /// credit is taken. After the peer's FIN no credit is due (protocol.md §13.3).
    #[inline]
    pub(super) fn note_credit(&mut self, step: u32) -> bool {
        let is_due = self.recv_window.returnable() >= step && !self.is_received();
        is_due && !mem::replace(&mut self.credit_due, true)
    }

    /// Takes the credit that is due. If the application keeps up, it also enlarges the window to
    /// `size`.
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

    /// Adds the increment of a WINDOW_UPDATE. `initial` is the initial size of the peer's windows.
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

    /// Takes the header block at the front of the queue.
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

    /// Queues an item, or only FIN. If no reply was sent, an empty one goes first.
    pub(super) fn queue(&mut self, item: Option<Outgoing>, fin: bool) -> Result<(), Refused> {
        let before = self.send;
        self.send = before.on(SendInput::Queue { fin })?;
        if before == SendHalf::Unreplied {
            // SYN_REPLY must precede DATA (protocol.md §6).
            self.opening = Some(HeaderBlock::new());
        }
        match item {
            Some(Outgoing::Data(payload)) => self.queue_data(payload),
            Some(headers) => self.queue.push_back(headers),
            None => {}
        }
        Ok(())
    }

    /// Queues payload. Small pieces are joined, because the records of many small pieces would take
    /// more memory than the payload, and only the payload is limited.
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

    /// Takes `bytes` off the payload at the front of the queue. Returns `None` if the front is not
    /// payload.
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

    /// Notes that FIN is among the bytes for the transport.
    pub(super) fn fin_written(&mut self) {
        let next = self.send.on(SendInput::FinWritten);
        self.send = next.expect("FIN is written of a half that finishes");
    }

    pub(super) fn recv_window_mut(&mut self) -> &mut RecvWindow {
        &mut self.recv_window
    }

    /// Notes that the application reads no more.
    pub(super) fn stop_reading(&mut self, limit: u64) {
        self.discard = Some(limit);
    }

    /// Counts the block of a reply.
    pub(super) fn hold_reply(&mut self, size: usize) {
        self.opening_headers += size;
    }

    /// Counts a block after the first one.
    pub(super) fn hold_headers(&mut self, size: usize) {
        self.unread_headers += size;
    }

    /// Stops counting consumed header blocks, and returns their size, which is at most what
    /// counted.
    pub(super) fn consume_headers(&mut self, size: usize) -> usize {
        let size = size.min(self.unread_headers);
        self.unread_headers -= size;
        size
    }

    /// Notes that the application has accepted the stream. Returns whether it had not before.
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

/// A last frame that waits for the transport does not keep a piece in memory that is longer than
/// this, in bytes.
const LONG_PIECE: usize = 64 * 1024;

/// Adjacent pieces of queued payload have more than this together, in bytes. This concerns pieces
/// that are queued in different turns: those of one turn are joined by the handles.
const JOINED_LENGTH: usize = 2 * 1024;
