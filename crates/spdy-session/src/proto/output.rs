//! Everything that waits to be sent, and how it becomes bytes.
//!
//! `connection::fill` decides the order, because it has access to the streams.

mod aside;

use std::{collections::VecDeque, fmt, mem};

use bytes::{Buf, Bytes};
use spdy_frame::{
    Data, EncodeError, FrameKind, GoAway, GoAwayStatus, HeaderEncoder, Headers, Ping, RstStatus,
    RstStream, Setting, Settings, StreamId, SynReply, SynStream, Version, WindowIncrement,
    WindowTarget, WindowUpdate,
};

use self::aside::Aside;
use super::{
    role::Role,
    scheduler::{Need, Scheduler},
    streams::{Next, Stream, Taken},
    transmit::{Outbound, Transmit},
};
use crate::{
    config::{Config, Trailers},
    wire_log,
};

/// DATA is added while fewer bytes than this are ready. So an answer to PING or a small response
/// waits behind at most this many bytes, which is five frames of the default size.
const TRANSMIT_TARGET: usize = 64 * 1024;

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
    /// Frames of a stream that writes alone are added while fewer bytes than this are ready: larger
    /// writes cost fewer system calls.
    turn: usize,
    /// How many such frames the last call added.
    extended: usize,
    /// What the transport has not taken of such frames. So nothing that comes later waits behind
    /// more than [`TRANSMIT_TARGET`].
    aside: Aside,
    /// How many bytes had left when `take_progress` was last called.
    written: u64,
}

/// The place of a stream in the output.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// Whether the stream is in the scheduler.
    is_scheduled: bool,
    /// Whether the window of the session cut its last frame short, so that its turn goes on.
    is_cut: bool,
    /// Whether payload of the stream was set aside.
    has_aside: bool,
}

impl Place {
    /// Notes that the turn of the stream has come.
    #[inline]
    pub(crate) fn begin_turn(&mut self) {
        self.is_scheduled = false;
    }

    /// Returns whether the stream is in the scheduler.
    pub(crate) const fn is_scheduled(&self) -> bool {
        self.is_scheduled
    }

    /// Returns whether payload was set aside that needs no window any more.
    pub(crate) const fn has_aside(&self) -> bool {
        self.has_aside
    }
}

/// A control frame without a header block.
#[derive(Debug)]
enum Control {
    Reset(RstStream),
    Ping(Ping),
    GoAway(GoAway),
    Settings(Settings),
    /// An empty DATA frame, which has no effect.
    Empty(StreamId),
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
            turn: TRANSMIT_TARGET,
            extended: 0,
            aside: Aside::default(),
            written: 0,
        }
    }

    // --- what is to be sent ----------------------------------------------------------------------

    pub(crate) fn reset(&mut self, stream: StreamId, status: RstStatus) {
        self.resets += 1;
        self.control
            .push_back(Control::Reset(RstStream { stream, status }));
    }

    pub(crate) fn ping(&mut self, id: u32) {
        self.control.push_back(Control::Ping(Ping { id }));
    }

    /// Queues an empty DATA frame. It leaves before any later frame of the stream, also before its
    /// end or reset.
    pub(crate) fn empty_data(&mut self, stream: StreamId) {
        self.control.push_back(Control::Empty(stream));
    }

    pub(crate) fn pong(&mut self, id: u32) {
        self.pongs.push_back(id);
    }

    pub(crate) fn settings(&mut self, entries: Vec<Setting>) {
        self.control.push_back(Control::Settings(Settings {
            clear: false,
            entries,
        }));
    }

    pub(crate) fn go_away(&mut self, last_good: Option<StreamId>, status: GoAwayStatus) {
        self.control
            .push_back(Control::GoAway(GoAway { last_good, status }));
    }

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
        if stream.place.has_aside {
            return self.schedule_aside(stream);
        }
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
        if stream.place.is_cut {
            self.scheduler.push_front(stream.id(), stream.priority());
        } else {
            self.scheduler.push(stream.id(), stream.priority(), need);
        }
    }

    /// Adds a stream to the scheduler whose payload was set aside, which needs no window any more.
    /// A stream that is in it for this payload keeps its place: otherwise a transport that takes
    /// little at a time, or an application that queues little at a time, would move the stream
    /// behind all others again and again.
    #[cold]
    pub(crate) fn schedule_aside(&mut self, stream: &mut Stream) {
        let had_aside = mem::replace(&mut stream.place.has_aside, true);
        if stream.place.is_scheduled {
            if had_aside {
                return;
            }
            self.scheduler.remove(stream.id(), stream.priority());
        }
        stream.place.is_scheduled = true;
        self.scheduler
            .push(stream.id(), stream.priority(), Need::Nothing);
    }

    // --- questions -------------------------------------------------------------------------------

    /// Returns whether bytes wait for the transport.
    pub(crate) fn is_waiting(&self) -> bool {
        self.transmit.has_remaining()
    }

    /// Returns whether enough bytes are ready.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.transmit.held() >= TRANSMIT_TARGET
    }

    /// Returns whether control frames wait to become bytes.
    pub(crate) fn has_control(&self) -> bool {
        !self.control.is_empty()
    }

    /// Returns how many frames that the peer caused wait to be sent, including those that the
    /// transport has not taken.
    #[inline]
    pub(crate) fn replies(&self) -> usize {
        self.pongs.len() + self.resets + self.replies_ready
    }

    /// Returns whether a stream that has just written would be the next again if it was scheduled.
    pub(crate) fn has_no_other(&self) -> bool {
        self.scheduler.is_empty() && !self.is_full()
    }

    /// Notes that a stream goes on beyond what is enough, with a frame that can be set aside.
    pub(crate) fn extend(&mut self) {
        self.extended += 1;
    }

    /// Returns whether a stream that has just written may go on beyond what is enough.
    pub(crate) fn may_extend(&self) -> bool {
        self.turn > TRANSMIT_TARGET
            && self.transmit.held() < self.turn
            && self.scheduler.is_empty()
            && self.aside.is_empty()
    }

    pub(crate) fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// Returns how much memory the ready bytes take.
    pub(crate) fn held(&self) -> usize {
        self.transmit.held() + self.aside.bytes()
    }

    /// Returns how many bytes have left since the start.
    pub(crate) fn taken(&self) -> u64 {
        self.transmit.taken()
    }

    // --- frames to bytes -------------------------------------------------------------------------

    /// Begins to make bytes ready.
    pub(crate) fn begin_turn(&mut self) {
        self.extended = 0;
    }

    pub(crate) fn write_control(&mut self) {
        let (side, version) = (self.role.side(), self.role.version());
        let transmit = &mut self.transmit;
        self.replies_ready += self.pongs.len() + mem::take(&mut self.resets);
        while let Some(id) = self.pongs.pop_front() {
            let frame = Ping { id };
            wire_log::sent(side, frame);
            frame.encode(version, transmit.frames());
            transmit.list(Outbound::Pong);
        }
        while let Some(frame) = self.control.pop_front() {
            wire_log::sent(side, &frame);
            let dst = transmit.frames();
            let frame = match frame {
                Control::Reset(frame) => {
                    frame.encode(version, dst);
                    Outbound::Reset(frame.status)
                }
                Control::Ping(frame) => {
                    frame.encode(version, dst);
                    Outbound::Ping(frame.id)
                }
                Control::GoAway(frame) => {
                    frame.encode(version, dst);
                    Outbound::GoAway(frame.status)
                }
                Control::Settings(frame) => {
                    frame.encode(version, dst);
                    Outbound::Other(FrameKind::Settings)
                }
                Control::Empty(stream) => {
                    Data::encode_head(stream, false, 0, dst);
                    Outbound::Data { stream, fin: false }
                }
            };
            transmit.list(frame);
        }
    }

    /// Takes the next stream to which credit is due.
    pub(crate) fn pop_credit(&mut self) -> Option<StreamId> {
        self.credit_due.pop_front()
    }

    pub(crate) fn write_window_update(&mut self, target: WindowTarget, increment: WindowIncrement) {
        let frame = WindowUpdate { target, increment };
        wire_log::sent(self.role.side(), frame);
        frame.encode(self.role.version(), self.transmit.frames());
        self.transmit.list(Outbound::Other(FrameKind::WindowUpdate));
    }

    /// Takes the next stream whose SYN_STREAM or SYN_REPLY is due.
    pub(crate) fn pop_opening(&mut self) -> Option<StreamId> {
        self.openings.pop_front()
    }

    /// Writes SYN_STREAM or SYN_REPLY, if one is due. Returns whether it has FIN.
    pub(crate) fn write_opening(&mut self, stream: &mut Stream) -> Result<bool, EncodeError> {
        let Some(block) = stream.take_opening() else {
            return Ok(false);
        };
        let (id, fin) = (stream.id(), stream.ends_here());
        let dst = self.transmit.frames();
        let kind = if self.role.is_local(id) {
            let frame = SynStream {
                stream: id,
                associated: stream.associated(),
                priority: stream.priority(),
                fin,
                unidirectional: stream.is_unidirectional(),
                block: &block,
            };
            wire_log::sent_syn_stream(self.role.side(), &frame);
            self.encoder.encode_syn_stream(&frame, dst)?;
            FrameKind::SynStream
        } else {
            let frame = SynReply {
                stream: id,
                fin,
                block: &block,
            };
            wire_log::sent_syn_reply(self.role.side(), &frame);
            self.encoder.encode_syn_reply(&frame, dst)?;
            FrameKind::SynReply
        };
        self.transmit.list(Outbound::Block {
            kind,
            stream: id,
            fin,
        });
        Ok(fin)
    }

    /// Takes the stream whose turn it is. If the window of the session is closed (`is_open`), only
    /// streams without payload count.
    #[inline]
    pub(crate) fn pop_stream(&mut self, is_open: bool) -> Option<StreamId> {
        self.scheduler.pop(is_open)
    }

    /// Writes one DATA frame. `cut` says whether the window of the session cut it short. Returns
    /// whether it has FIN.
    #[inline]
    pub(crate) fn write_data(&mut self, stream: &mut Stream, piece: Taken, cut: bool) -> bool {
        // A stream whose frame was cut short goes on as soon as the window opens, but only once.
        stream.place.is_cut = cut && !stream.place.is_cut;
        if !stream.place.is_cut {
            self.scheduler.served(stream.priority());
        }
        let fin = stream.ends_here();
        self.data(stream.id(), fin, piece);
        fin
    }

    /// Makes a payload of a stream ready again that was set aside. Returns whether there was one.
    pub(crate) fn write_aside(&mut self, stream: &mut Stream) -> bool {
        if !stream.place.has_aside {
            return false;
        }
        let payload = self.aside.pop();
        stream.place.has_aside = !self.aside.is_empty();
        let Some(payload) = payload else {
            return false;
        };
        self.scheduler.served(stream.priority());
        let (stream, fin) = (stream.id(), false);
        Data::encode_head(stream, fin, payload.len() as u32, self.transmit.frames());
        self.transmit.push_payload(payload);
        self.transmit.list(Outbound::Data { stream, fin });
        true
    }

    /// Writes one HEADERS frame. Returns whether it has FIN.
    pub(crate) fn write_headers(&mut self, stream: &mut Stream) -> Result<bool, EncodeError> {
        self.scheduler.served(stream.priority());
        let Some(block) = stream.take_headers() else {
            return Ok(false);
        };
        let frame = Headers {
            stream: stream.id(),
            fin: stream.ends_here() && self.fin_on_headers,
            block: &block,
        };
        wire_log::sent_headers(self.role.side(), &frame);
        self.encoder
            .encode_headers(&frame, self.transmit.frames())?;
        self.transmit.list(Outbound::Block {
            kind: FrameKind::Headers,
            stream: frame.stream,
            fin: frame.fin,
        });
        Ok(frame.fin)
    }

    /// Writes an empty DATA frame with FIN.
    pub(crate) fn write_fin(&mut self, stream: &Stream) {
        self.scheduler.served(stream.priority());
        let nothing = Taken {
            payload: Bytes::new(),
            keeps_long: false,
        };
        self.data(stream.id(), true, nothing);
    }

    #[inline]
    fn data(&mut self, stream: StreamId, fin: bool, piece: Taken) {
        let Taken {
            payload,
            keeps_long,
        } = piece;
        wire_log::sent_data(self.role.side(), stream, payload.len(), fin);
        Data::encode_head(stream, fin, payload.len() as u32, self.transmit.frames());
        self.transmit.push_payload(payload);
        if keeps_long {
            self.transmit.note_long();
        }
        self.transmit.list(Outbound::Data { stream, fin });
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
        let ready = self.transmit.take_back(stream);
        match self.aside.drop_of(stream) {
            0 => ready,
            aside => Some(aside + ready.unwrap_or_default()),
        }
    }

    /// Sets up to how many bytes are made ready while the transport takes all.
    #[cfg(feature = "tokio")]
    pub(crate) fn set_turn(&mut self, bytes: usize) {
        self.turn = bytes.min(crate::config::MAX_TURN);
    }

    /// Sets aside what the transport has not taken, beyond what is enough. Returns the stream that
    /// has to be scheduled for it.
    fn set_aside(&mut self) -> Option<StreamId> {
        // All of these frames belong to one stream. The one frame that each turn writes, however
        // full it is, stays: otherwise its stream would be starved.
        while self.extended > 0
            && let Some((stream, payload)) = self
                .transmit
                .take_last(TRANSMIT_TARGET, self.aside.stream())
        {
            self.extended -= 1;
            self.aside.push_front(stream, payload);
        }
        self.aside.stream()
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
    ///
    /// Returns how many bytes were set aside, for the window of the session.
    pub(crate) fn forget(&mut self, stream: &Stream) -> usize {
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
        self.aside.drop_of(id)
    }

    /// Drops everything that an ended session does not send any more.
    pub(crate) fn stop(&mut self) {
        self.pongs.clear();
        self.openings.clear();
        self.credit_due.clear();
        self.scheduler.clear();
        self.aside = Aside::default();
    }

    /// Drops everything, because the transport is gone.
    pub(crate) fn discard_all(&mut self) {
        self.stop();
        self.control.clear();
        self.resets = 0;
        self.replies_ready = 0;
        self.transmit.clear();
    }

    /// Frees memory that a session does not need while it is idle or its transport takes nothing.
    ///
    /// Returns a stream that has to be scheduled.
    pub(crate) fn release(&mut self) -> Option<StreamId> {
        self.transmit.release();
        if self.control.is_empty() {
            self.control = VecDeque::new();
        }
        self.set_aside()
    }

    /// Returns whether payload is set aside.
    pub(crate) fn has_aside(&self) -> bool {
        !self.aside.is_empty()
    }

    /// Returns whether frames wait that are written before those of streams.
    #[cfg(feature = "tokio")]
    pub(crate) fn has_replies_to_write(&self) -> bool {
        self.has_control() || !self.pongs.is_empty()
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(frame) => frame.fmt(f),
            Self::Ping(frame) => frame.fmt(f),
            Self::GoAway(frame) => frame.fmt(f),
            Self::Settings(frame) => frame.fmt(f),
            Self::Empty(stream) => write!(f, "DATA stream={stream} fin=false length=0"),
        }
    }
}
