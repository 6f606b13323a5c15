//! What goes out, and in which order (protocol.md §17): PING answers, control frames, credit, the openings of
//! streams, then DATA and HEADERS by the scheduler.

use std::{mem, time::Instant};

use bytes::{Buf, Bytes};
use spdy_frame::{
    DEFAULT_WINDOW, Data, EncodeError, FrameKind, Headers, Ping, RstStatus, StreamId, SynReply,
    SynStream, Version,
};

use super::{Connection, Phase, queues::Control};
use crate::{
    Count, StreamError,
    config::Trailers,
    proto::{
        event::Event,
        streams::{Ending, Next, Taken},
        transmit::{Outbound, Transmit},
    },
    wire_log,
};

/// DATA is added while fewer octets than this are ready: so a PING answer or a small response that comes later
/// waits behind at most this much, five frames of the default size.
pub(super) const TRANSMIT_TARGET: usize = 64 * 1024;

impl Connection {
    /// Gives the octets to write, topped up with all that may go out now. Write them with
    /// [`Buf::chunks_vectored`], [`advance`](Buf::advance) by what was written, and call again: the connection
    /// has nothing to send when the result is empty. Ask [`wants_input`](Self::wants_input) again then: that the
    /// peer has taken its replies may have ended a pause of reading.
    pub fn poll_transmit(&mut self, now: Instant) -> &mut Transmit {
        if self.note_sent() {
            // A response that took long to write was no idle time, though nothing came meanwhile.
            self.clock.note_use(now);
        }
        self.note_progress(now);
        self.note_pause(now);
        self.note_unread(now);
        self.close_when_done();
        let before = self.output.transmit.remaining();
        if self.output.transmit.held() < TRANSMIT_TARGET {
            self.fill(now);
            self.close_when_done();
            self.write_control();
        }
        self.streams.date_abandoned(self.clock.reading.at(now));
        if before == 0 && self.output.is_waiting() {
            self.clock.begin_to_write(now);
        }
        self.tally.flush();
        self.streams.debug_check();
        &mut self.output.transmit
    }

    /// Whether octets given by [`poll_transmit`](Self::poll_transmit) have not been taken.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.output.is_waiting()
    }

    /// Gives memory back. Call it when the connection is idle, and when the transport takes nothing more for now.
    pub fn release_buffers(&mut self) {
        self.output.release();
        self.streams.release_memory();
    }

    /// Notes what the transport has taken since the last call.
    fn note_progress(&mut self, now: Instant) {
        let octets = self.output.take_progress();
        if octets == 0 {
            return;
        }
        self.tally.add(Count::OctetsSent, octets);
        self.probes.left_at(self.clock.reading.at(now));
        let least = match self.output.is_waiting() {
            true => self.config.limits.min_progress,
            false => 0,
        };
        if self.clock.written(now, octets, least) {
            // The transport was full, and goes on taking bytes because the peer does.
            self.note_life(now);
        }
    }

    fn fill(&mut self, now: Instant) {
        self.write_control();
        if self.phase == Phase::Closing {
            return;
        }
        self.write_credit(now);
        while let Some(id) = self.output.openings.pop_front() {
            self.write_opening(id);
        }
        // At least one frame, however much the openings took: a flood of them starves nobody.
        while let Some(id) = self.output.scheduler.pop(self.is_session_open()) {
            while self.write_stream(now, id) {}
            if self.output.transmit.held() >= TRANSMIT_TARGET {
                break;
            }
        }
        self.note_stall(now);
    }

    fn write_control(&mut self) {
        let (version, transmit) = (self.role.version(), &mut self.output.transmit);
        self.output.replies_ready += self.output.pongs.len() + mem::take(&mut self.output.resets);
        while let Some(id) = self.output.pongs.pop_front() {
            let frame = Ping { id };
            wire_log::sent(self.role.side(), frame);
            frame.encode(version, transmit.frames());
            transmit.list(Outbound::Pong);
        }
        while let Some(frame) = self.output.control.pop_front() {
            wire_log::sent(self.role.side(), &frame);
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

    // --- streams ----------------------------------------------------------------------------------------

    fn write_opening(&mut self, id: StreamId) {
        let Some(mut stream) = self.streams.get(id) else {
            return;
        };
        let Some(block) = stream.take_opening() else {
            return;
        };
        let fin = stream.ends_here();
        let dst = self.output.transmit.frames();
        let (kind, result) = if self.role.is_local(id) {
            let frame = SynStream {
                stream: id,
                associated: stream.associated(),
                priority: stream.priority(),
                fin,
                unidirectional: stream.is_unidirectional(),
                block: &block,
            };
            wire_log::sent_syn_stream(self.role.side(), &frame);
            (
                FrameKind::SynStream,
                self.deflater.encode_syn_stream(&frame, dst),
            )
        } else {
            let frame = SynReply {
                stream: id,
                fin,
                block: &block,
            };
            wire_log::sent_syn_reply(self.role.side(), &frame);
            (
                FrameKind::SynReply,
                self.deflater.encode_syn_reply(&frame, dst),
            )
        };
        if let Err(error) = result {
            // A stream of ours that was not opened does not exist for the peer.
            let is_known = !self.role.is_local(id);
            return self.abandon(id, error, is_known);
        }
        self.output.transmit.list(Outbound::Block {
            kind,
            stream: id,
            fin,
        });
        if self.output.wrote(self.role, &mut stream, fin) {
            self.end_stream(id, Ending::closed());
        }
    }

    /// Writes one frame of a stream whose turn it is. Returns whether the next turn is its own.
    fn write_stream(&mut self, now: Instant, id: StreamId) -> bool {
        let Some(mut stream) = self.streams.get(id) else {
            return false;
        };
        stream.scheduled = false;
        let priority = stream.priority();
        let fin = match stream.next() {
            Some(Next::Data(length)) => match self.write_data(now, id, length) {
                Some(fin) => fin,
                None => return false,
            },
            Some(Next::Headers) => {
                self.output.scheduler.served(priority);
                match self.write_headers(id) {
                    Ok(fin) => fin,
                    Err(error) => {
                        self.abandon(id, error, true);
                        return false;
                    }
                }
            }
            Some(Next::Fin) => {
                self.output.scheduler.served(priority);
                wire_log::sent_data(self.role.side(), id, 0, true);
                let nothing = Taken {
                    payload: Bytes::new(),
                    keeps_long: false,
                };
                self.output.data(id, true, nothing);
                true
            }
            None => return false,
        };
        let is_alone = self.is_alone();
        let Some(mut stream) = self.streams.get(id) else {
            return false;
        };
        if !fin && is_alone && stream.next().is_some() {
            return true;
        }
        if self.output.wrote(self.role, &mut stream, fin) {
            self.end_stream(id, Ending::closed());
        }
        false
    }

    /// Returns whether a stream that has written would be the next to write if it was scheduled.
    fn is_alone(&self) -> bool {
        self.output.scheduler.is_empty()
            && self.output.transmit.held() < TRANSMIT_TARGET
            && self.is_session_open()
    }

    /// Writes one DATA frame, as large as the windows and the configured size allow. Gives whether FIN was in it;
    /// `None` if the stream's window allows nothing: the stream waits then.
    fn write_data(&mut self, now: Instant, id: StreamId, length: usize) -> Option<bool> {
        let (has_stream_windows, has_session_window) = (
            self.role.has_stream_windows(),
            self.role.has_session_window(),
        );
        let data_frame = self.config.limits.data_frame.clamp(1, MAX_DATA);
        let mut stream = self.streams.get(id)?;
        let mut size = data_frame.min(length);
        if has_stream_windows {
            size = size.min(stream.send_window().available(self.peer.initial_window));
        }
        if size == 0 {
            self.wait_for_window(now, id);
            return None;
        }
        let wanted = size;
        if has_session_window {
            size = size.min(self.send_window.available(DEFAULT_WINDOW));
            self.send_window.take(size);
        }
        if has_stream_windows {
            stream.spend_window(size);
        }
        let piece = stream.take_payload(size)?;
        // What is cut short by the window of the session goes on as soon as that opens, once.
        stream.is_cut = size < wanted && !stream.is_cut;
        if !stream.is_cut {
            self.output.scheduler.served(stream.priority());
        }
        let is_all = !stream.has_queued();
        let least = self.config.limits.min_progress;
        stream.blocked.sent(size, is_all, least);
        if let Some(stall) = &mut self.output.stall {
            // It has waited for as long as before, unless this was all.
            let since = stall.joined(stream.stalled_since);
            stream.stalled_since = (!is_all).then_some(since);
            if stall.is_ended_by(size, least) {
                self.output.stall = None;
            }
        }
        let fin = stream.ends_here();
        let window = if has_stream_windows {
            stream.send_window().available(self.peer.initial_window)
        } else {
            usize::MAX
        };
        wire_log::sent_data(self.role.side(), id, size, fin);
        self.output.data(id, fin, piece);
        self.report_sent(id, size, window);
        Some(fin)
    }

    /// Writes one HEADERS frame. Gives whether FIN was in it.
    fn write_headers(&mut self, id: StreamId) -> Result<bool, EncodeError> {
        let Some(mut stream) = self.streams.get(id) else {
            return Ok(false);
        };
        let Some(block) = stream.take_headers() else {
            return Ok(false);
        };
        let fin = stream.ends_here()
            && self.config.trailers == Trailers::FinOnHeaders
            && self.role.version() != Version::V2;
        let frame = Headers {
            stream: id,
            fin,
            block: &block,
        };
        wire_log::sent_headers(self.role.side(), &frame);
        self.deflater
            .encode_headers(&frame, self.output.transmit.frames())?;
        self.output.transmit.list(Outbound::Block {
            kind: FrameKind::Headers,
            stream: id,
            fin,
        });
        Ok(fin)
    }

    fn report_sent(&mut self, id: StreamId, size: usize, left: usize) {
        if let Some(Event::Sent {
            id: last,
            octets,
            fin: false,
            window,
        }) = self.events.back_mut()
            && *last == id
        {
            *octets += size;
            *window = left;
            return;
        }
        self.events.push_back(Event::Sent {
            id,
            octets: size,
            fin: false,
            window: left,
        });
    }

    /// A header block of the application cannot be written in this version: the stream ends, nothing else. The
    /// peer is told if it knows the stream.
    fn abandon(&mut self, id: StreamId, error: EncodeError, is_known: bool) {
        let peer = is_known.then_some(RstStatus::INTERNAL_ERROR);
        let app = Some(StreamError::Encode(error));
        self.end_stream(id, Ending { peer, app });
    }
}

/// The longest payload of one frame.
const MAX_DATA: usize = (1 << 24) - 1;
