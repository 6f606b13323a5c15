//! All that waits to go out, and how it becomes bytes.
//!
//! The order in which it does is that of `connection::fill`, which has the streams at hand.

use std::{collections::VecDeque, fmt, mem};

use bytes::{Buf, Bytes};
use spdy_frame::{
    Data, EncodeError, FrameKind, GoAway, GoAwayStatus, HeaderEncoder, Headers, Ping, RstStatus,
    RstStream, Setting, Settings, StreamId, SynReply, SynStream, Version, WindowIncrement,
    WindowTarget, WindowUpdate,
};

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

/// DATA is added while fewer bytes than this are ready: so a PING answer or a small response that
/// comes later waits behind at most this much, five frames of the default size.
const TRANSMIT_TARGET: usize = 64 * 1024;

/// All queues towards the peer, and what is ready to be written.
#[derive(Debug)]
pub(crate) struct Output {
    role: Role,
    encoder: HeaderEncoder,
    /// Whether FIN may stand on HEADERS.
    fin_on_headers: bool,
    pongs: VecDeque<u32>,
    control: VecDeque<Control>,
    /// How many of `control` are replies that the peer caused.
    resets: usize,
    /// How many replies are in `transmit`.
    replies_ready: usize,
    /// Streams to which credit is due.
    credit_due: VecDeque<StreamId>,
    /// Streams whose SYN_STREAM or SYN_REPLY is due, in the order of the calls.
    openings: VecDeque<StreamId>,
    scheduler: Scheduler,
    transmit: Transmit,
    /// Bytes written from the start until `transmit` was last looked at.
    written: u64,
}

/// Where a stream stands in the output.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// It stands in the scheduler.
    is_scheduled: bool,
    /// Its last frame was cut short by the window of the session, and its turn goes on.
    is_cut: bool,
}

impl Place {
    /// The turn of the stream has come.
    #[inline]
    pub(crate) fn begin_turn(&mut self) {
        self.is_scheduled = false;
    }

    /// Returns whether the stream stands in the scheduler.
    pub(crate) const fn is_scheduled(&self) -> bool {
        self.is_scheduled
    }
}

/// A control frame without a header block.
#[derive(Debug)]
enum Control {
    Reset(RstStream),
    Ping(Ping),
    GoAway(GoAway),
    Settings(Settings),
    /// DATA that says nothing.
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

    /// Nothing of the stream that is written later, its end or a reset, comes before this.
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

    /// A stream is to get credit.
    pub(crate) fn credit(&mut self, stream: StreamId) {
        self.credit_due.push_back(stream);
    }

    /// SYN_STREAM or SYN_REPLY of a stream is due.
    pub(crate) fn opening(&mut self, stream: StreamId) {
        self.openings.push_back(stream);
    }

    /// Puts a stream into the scheduler if it has something to write and is not waiting for
    /// anything.
    #[inline]
    pub(crate) fn schedule(&mut self, stream: &mut Stream) {
        let need = match stream.next() {
            // A stream that waits for its window may still say HEADERS and FIN.
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

    // --- questions -------------------------------------------------------------------------------

    /// Returns whether bytes wait for the transport.
    pub(crate) fn is_waiting(&self) -> bool {
        self.transmit.has_remaining()
    }

    /// Returns whether enough is ready.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.transmit.held() >= TRANSMIT_TARGET
    }

    /// Returns whether control frames wait to become bytes.
    pub(crate) fn has_control(&self) -> bool {
        !self.control.is_empty()
    }

    /// Returns how many frames wait that the peer caused, those that the transport has not taken
    /// among them.
    #[inline]
    pub(crate) fn replies(&self) -> usize {
        self.pongs.len() + self.resets + self.replies_ready
    }

    /// Returns whether a stream that has written would be the next to write if it was scheduled.
    pub(crate) fn has_no_other(&self) -> bool {
        self.scheduler.is_empty() && !self.is_full()
    }

    pub(crate) fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// Returns how much memory is taken by what is ready.
    pub(crate) fn held(&self) -> usize {
        self.transmit.held()
    }

    /// Returns how many bytes have left since the start.
    pub(crate) fn taken(&self) -> u64 {
        self.transmit.taken()
    }

    // --- what becomes bytes now ------------------------------------------------------------------

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

    /// Returns the next stream to which credit is due.
    pub(crate) fn pop_credit(&mut self) -> Option<StreamId> {
        self.credit_due.pop_front()
    }

    pub(crate) fn write_window_update(&mut self, target: WindowTarget, increment: WindowIncrement) {
        let frame = WindowUpdate { target, increment };
        wire_log::sent(self.role.side(), frame);
        frame.encode(self.role.version(), self.transmit.frames());
        self.transmit.list(Outbound::Other(FrameKind::WindowUpdate));
    }

    /// Returns the next stream whose SYN_STREAM or SYN_REPLY is due.
    pub(crate) fn pop_opening(&mut self) -> Option<StreamId> {
        self.openings.pop_front()
    }

    /// Writes SYN_STREAM or SYN_REPLY, if one is due. Returns whether FIN was on it.
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

    /// Takes the stream whose turn it is, of those without payload if the window of the session is
    /// shut.
    #[inline]
    pub(crate) fn pop_stream(&mut self, is_open: bool) -> Option<StreamId> {
        self.scheduler.pop(is_open)
    }

    /// Writes one DATA frame; it was `cut` if the window of the session let no more out. Returns
    /// whether FIN was on it.
    #[inline]
    pub(crate) fn write_data(&mut self, stream: &mut Stream, piece: Taken, cut: bool) -> bool {
        // What is cut short by the window of the session goes on as soon as that opens, once.
        stream.place.is_cut = cut && !stream.place.is_cut;
        if !stream.place.is_cut {
            self.scheduler.served(stream.priority());
        }
        let fin = stream.ends_here();
        self.data(stream.id(), fin, piece);
        fin
    }

    /// Writes one HEADERS frame. Returns whether FIN was on it.
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

    /// Returns what is ready to be written.
    pub(crate) fn transmit(&mut self) -> &mut Transmit {
        &mut self.transmit
    }

    /// Takes the next frame off the list that has left whole.
    #[inline]
    pub(crate) fn pop_sent(&mut self) -> Option<Outbound> {
        let frame = self.transmit.pop_sent()?;
        if matches!(frame, Outbound::Pong | Outbound::Reset(_)) {
            self.replies_ready -= 1;
        }
        Some(frame)
    }

    /// Returns how many bytes were written since the last look.
    #[inline]
    pub(crate) fn take_progress(&mut self) -> u64 {
        let written = self.transmit.taken();
        written - mem::replace(&mut self.written, written)
    }

    /// Takes DATA of a stream back of which no byte has left. Returns how many bytes of payload it
    /// was, if there was any.
    pub(crate) fn take_back(&mut self, stream: StreamId) -> Option<usize> {
        self.transmit.take_back(stream)
    }

    /// Returns whether FIN of a stream has not left, and is to be told of.
    pub(crate) fn has_fin(&self, stream: StreamId) -> bool {
        self.transmit.has_fin(stream)
    }

    /// Does not tell any more when the FIN of a stream has left.
    pub(crate) fn forget_fin(&mut self, stream: StreamId) {
        self.transmit.forget_fin(stream);
    }

    /// Returns the streams whose FIN has not left, and does not tell any more when it has.
    pub(crate) fn take_fins(&mut self) -> Vec<StreamId> {
        self.transmit.take_fins()
    }

    // --- what is not to be sent any more ---------------------------------------------------------

    /// Takes a stream that is gone out of all queues: so they hold live streams only, which are
    /// bounded.
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

    /// Drops all that an ended session does not send any more.
    pub(crate) fn stop(&mut self) {
        self.pongs.clear();
        self.openings.clear();
        self.credit_due.clear();
        self.scheduler.clear();
    }

    /// Drops everything: the transport is gone.
    pub(crate) fn discard_all(&mut self) {
        self.stop();
        self.control.clear();
        self.resets = 0;
        self.replies_ready = 0;
        self.transmit.clear();
    }

    /// Frees the memory that a session does not need while it is idle, or while its transport takes
    /// nothing.
    pub(crate) fn release(&mut self) {
        self.transmit.release();
        if self.control.is_empty() {
            self.control = VecDeque::new();
        }
    }

    /// Returns whether anything waits that is written before the streams.
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
