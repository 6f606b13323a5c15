//! Everything that waits to be sent, and how it becomes bytes.
//!
//! `connection::fill` decides the order, because it has access to the streams. `control` and
//! `frames` write the frames.

mod control;
mod frames;

use std::{collections::VecDeque, mem};

use bytes::Buf;
use spdy_frame::{HeaderEncoder, StreamId, Version};

use self::control::Control;
use super::{
    role::Role,
    scheduler::{Need, Scheduler},
    streams::{Next, Stream},
    transmit::{DATA_FRAME, Outbound, Transmit},
};
use crate::{
    SessionError,
    config::{Config, Trailers},
    spare::Spare,
};

/// DATA is added until this many bytes are ready, with 16 bytes for the record of each frame. So an
/// answer to PING or a small response waits behind at most this many bytes and a frame.
///
/// A packet of TCP has at most 65,160 bytes on its way through Linux (45 segments of 1,448 bytes,
/// and a few more on the loopback interface). A turn is one packet, also with the heads of four
/// records of TLS. With 64 KiB each turn would be a packet and a rest. With more than one packet in
/// a turn the second has to wait for a timer under congestion control that paces (BBR).
pub(crate) const TURN: usize = 65_000;

/// A turn that has room for less payload than this is full. Without this its last frame could be
/// shorter than its head.
const LEAST_PIECE: usize = 512;

/// All queues towards the peer, and the bytes that are ready to be written.
#[derive(Debug)]
pub(crate) struct Output {
    role: Role,
    encoder: HeaderEncoder,
    /// Whether HEADERS may have FIN.
    fin_on_headers: bool,
    pongs: VecDeque<u32>,
    control: VecDeque<Control>,
    /// How many frames of `control` are replies that the peer caused.
    resets: usize,
    /// How many replies are in `transmit`.
    replies_ready: usize,
    /// Streams to which credit is due.
    credit_due: VecDeque<StreamId>,
    /// Streams whose SYN_STREAM or SYN_REPLY is due, in the order of the calls.
    openings: VecDeque<StreamId>,
    scheduler: Scheduler,
    transmit: Transmit,
    /// Whether the last frame of this turn is cut so that it fits: the transport has taken all of
    /// the turn before. Otherwise a transport that takes little at a time would get frames as short
    /// as what it takes.
    cuts: bool,
    /// How many bytes had left when `take_progress` was last called.
    written: u64,
    /// Why the transport takes nothing more.
    broken: Option<SessionError>,
}

/// The place of a stream in the output.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// Whether the stream is in the scheduler.
    is_scheduled: bool,
    /// How much payload its next frame may have if its turn goes on, because the last one was cut
    /// short. Otherwise 0.
    rest: usize,
}

impl Place {
    /// Notes that the turn of the stream has come.
    #[inline]
    pub(crate) fn begin_turn(&mut self) {
        self.is_scheduled = false;
    }

    /// Returns how much of a payload of this length the next frame may have, if no frame may have
    /// more than `most`.
    pub(crate) fn share(&self, length: usize, most: usize) -> usize {
        let most = if self.rest > 0 { self.rest } else { most };
        length.min(most)
    }

    /// Returns whether the stream is in the scheduler.
    pub(crate) const fn is_scheduled(&self) -> bool {
        self.is_scheduled
    }
}

impl Output {
    pub(crate) fn new(role: Role, config: &Config) -> Self {
        Self {
            role,
            encoder: HeaderEncoder::new(role.version(), config.header_compression),
            fin_on_headers: config.trailers == Trailers::FinOnHeaders
                && role.version() != Version::V2,
            pongs: VecDeque::new(),
            control: VecDeque::new(),
            resets: 0,
            replies_ready: 0,
            credit_due: VecDeque::new(),
            openings: VecDeque::new(),
            scheduler: Scheduler::default(),
            transmit: Transmit::default(),
            cuts: true,
            written: 0,
            broken: None,
        }
    }

    // --- what is to be sent ----------------------------------------------------------------------

    /// Queues credit for a stream.
    pub(crate) fn credit(&mut self, stream: StreamId) {
        self.credit_due.push_back(stream);
    }

    /// Queues the SYN_STREAM or SYN_REPLY of a stream.
    pub(crate) fn opening(&mut self, stream: StreamId) {
        self.openings.push_back(stream);
    }

    /// Adds a stream to the scheduler if it has something to write and waits for nothing.
    #[inline]
    pub(crate) fn schedule(&mut self, stream: &mut Stream) {
        let need = match stream.next() {
            // A stream that waits for its window can still send HEADERS and FIN.
            Some(Next::Data(_)) if stream.wait.is_blocked() => return,
            Some(Next::Data(_)) if self.role.has_session_window() => Need::Window,
            Some(_) => Need::Nothing,
            None => return,
        };
        if stream.place.is_scheduled || stream.has_opening() {
            return;
        }
        stream.place.is_scheduled = true;
        if stream.place.rest > 0 {
            self.scheduler.push_front(stream.id(), stream.priority());
        } else {
            self.scheduler.push(stream.id(), stream.priority(), need);
        }
    }

    // --- questions -------------------------------------------------------------------------------

    /// Returns whether bytes wait for the transport.
    pub(crate) fn is_waiting(&self) -> bool {
        self.transmit.has_remaining()
    }

    /// Returns whether the transport takes nothing more.
    pub(crate) const fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Returns why the transport takes nothing more.
    pub(crate) const fn broken(&self) -> Option<&SessionError> {
        self.broken.as_ref()
    }

    /// Returns whether enough bytes are ready.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.room() < LEAST_PIECE
    }

    /// Returns how much payload the next frame may have, if its stream has this much.
    #[inline]
    pub(crate) fn longest(&self, most: usize) -> usize {
        match self.room() {
            room if self.cuts && room >= LEAST_PIECE => room.min(most),
            // It is the frame that each turn has, or the transport has not taken all.
            _ => most,
        }
    }

    /// Returns how much payload the turn has room for.
    fn room(&self) -> usize {
        TURN.saturating_sub(self.transmit.held() + DATA_FRAME)
    }

    /// Returns whether a stream that has just written would be the next again if it was scheduled.
    pub(crate) fn has_no_other(&self) -> bool {
        !self.has_others() && !self.is_full()
    }

    /// Returns whether another stream than the one that is writing has something to write.
    pub(crate) fn has_others(&self) -> bool {
        !self.scheduler.is_empty()
    }

    pub(crate) fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// Returns how much memory the ready bytes take.
    pub(crate) fn held(&self) -> usize {
        self.transmit.held()
    }

    /// Returns how many bytes have left since the start.
    pub(crate) fn taken(&self) -> u64 {
        self.transmit.taken()
    }

    /// Begins a turn.
    pub(crate) fn begin_turn(&mut self) {
        self.cuts = !self.transmit.has_remaining();
    }

    // --- the next stream -------------------------------------------------------------------------

    /// Takes the next stream to which credit is due.
    pub(crate) fn pop_credit(&mut self) -> Option<StreamId> {
        self.credit_due.pop_front()
    }

    /// Takes the next stream whose SYN_STREAM or SYN_REPLY is due.
    pub(crate) fn pop_opening(&mut self) -> Option<StreamId> {
        self.openings.pop_front()
    }

    /// Takes the stream whose turn it is. If the window of the session is closed (`is_open`), only
    /// streams without payload count.
    #[inline]
    pub(crate) fn pop_stream(&mut self, is_open: bool) -> Option<StreamId> {
        self.scheduler.pop(is_open)
    }

    // --- what was made ready ---------------------------------------------------------------------

    /// Returns the bytes that are ready to be written.
    pub(crate) fn transmit(&mut self) -> &mut Transmit {
        &mut self.transmit
    }

    /// Takes the next frame that has left completely off the list.
    #[inline]
    pub(crate) fn pop_sent(&mut self) -> Option<Outbound> {
        let frame = self.transmit.pop_sent()?;
        if matches!(frame, Outbound::Pong | Outbound::Reset(_)) {
            self.replies_ready -= 1;
        }
        Some(frame)
    }

    /// Returns how many bytes have left since the last call.
    #[inline]
    pub(crate) fn take_progress(&mut self) -> u64 {
        let written = self.transmit.taken();
        written - mem::replace(&mut self.written, written)
    }

    /// Takes back the DATA frames of a stream of which no byte has left. Returns how many bytes of
    /// payload they had, or `None` if there were none.
    pub(crate) fn take_back(&mut self, stream: StreamId) -> Option<usize> {
        self.transmit.take_back(stream)
    }

    /// Returns whether FIN of a stream has not left and its sender wants to know when it does.
    pub(crate) fn has_fin(&self, stream: StreamId) -> bool {
        self.transmit.has_fin(stream)
    }

    /// Cancels the report that the FIN of a stream has left.
    pub(crate) fn forget_fin(&mut self, stream: StreamId) {
        self.transmit.forget_fin(stream);
    }

    /// Returns the streams whose FIN has not left, and cancels their reports.
    pub(crate) fn take_fins(&mut self) -> Vec<StreamId> {
        self.transmit.take_fins()
    }

    // --- what is not to be sent any more ---------------------------------------------------------

    /// Removes a stream that is gone from all queues. So they contain only open streams, whose
    /// number is limited.
    pub(crate) fn forget(&mut self, stream: &Stream) {
        let id = stream.id();
        if stream.has_opening() {
            self.openings.retain(|&other| other != id);
        }
        if stream.place.is_scheduled {
            self.scheduler.remove(id, stream.priority());
        }
        if stream.is_credit_due() {
            self.credit_due.retain(|&other| other != id);
        }
    }

    /// Drops everything that an ended session does not send any more.
    pub(crate) fn stop(&mut self) {
        self.pongs.clear();
        self.openings.clear();
        self.credit_due.clear();
        self.scheduler.clear();
    }

    /// Drops everything, now and from now on, because the transport takes nothing more.
    pub(crate) fn break_off(&mut self, error: SessionError) {
        self.broken = Some(error);
        self.discard_all();
    }

    /// Drops everything, because the transport is gone.
    pub(crate) fn discard_all(&mut self) {
        self.stop();
        self.control.clear();
        self.resets = 0;
        self.replies_ready = 0;
        self.transmit.clear();
    }

    /// Frees memory that is not needed after many streams.
    pub(crate) fn free_spare(&mut self) {
        self.credit_due.free_spare();
        self.openings.free_spare();
        self.scheduler.free_spare();
    }

    /// Frees memory that a session does not need while it is idle or its transport takes nothing.
    pub(crate) fn release(&mut self) {
        self.transmit.release();
        if self.control.is_empty() {
            self.control = VecDeque::new();
        }
        self.pongs.free_spare();
    }
}
