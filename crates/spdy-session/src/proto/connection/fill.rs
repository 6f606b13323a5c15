//! The order of output (protocol.md §17): answers to PING, control frames, credit, the openings of
//! streams, then DATA and HEADERS by the scheduler.

use std::{collections::VecDeque, time::Instant};

use spdy_frame::{EncodeError, RstStatus, StreamId, WindowTarget};

use super::{Connection, Phase};
use crate::{
    Count, StreamError,
    proto::{
        event::Event,
        streams::{Ending, Next, StreamRef},
        transmit::Transmit,
        waits::Waits,
    },
    spare::Spare,
};

impl Connection {
    /// Returns the bytes to write, after adding everything that may go out now.
    ///
    /// Write them with [`Buf::chunks_vectored`](bytes::Buf::chunks_vectored), call
    /// [`advance`](bytes::Buf::advance) with the number of bytes that were written, and call this
    /// method again. If the result is empty, the connection has nothing to send. Then check
    /// [`wants_input`](Self::wants_input) again, because sending replies can end a pause of
    /// reading.
    pub fn poll_transmit(&mut self, now: Instant) -> &mut Transmit {
        if self.note_sent() {
            // A session that takes long to write a response is not idle, even if no frame arrives
            // meanwhile.
            self.clock.note_use(now);
        }
        self.note_progress(now);
        self.note_pause(now);
        self.note_unread(now);
        self.close_when_done();
        let was_waiting = self.output.is_waiting();
        if self.output.is_broken() {
            self.close_when_received();
            self.output.discard_all();
        } else if !self.output.is_full() {
            self.fill(now);
            self.close_when_done();
            self.output.write_control();
        }
        self.streams.date_abandoned(self.clock.at(now));
        if !was_waiting && self.output.is_waiting() {
            self.clock.begin_to_write(now);
        }
        if self.phase == Phase::Closing {
            self.clock.note_over(now);
        }
        self.tally.flush();
        self.streams.debug_check();
        self.output.transmit()
    }

    /// Returns whether the transport has not taken all bytes of
    /// [`poll_transmit`](Self::poll_transmit).
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.output.is_waiting()
    }

    /// Frees memory. Call it when the connection is idle, and when the transport takes no more
    /// bytes for now.
    pub fn release_buffers(&mut self) {
        self.output.release();
        if self.streams.free_spare() {
            self.output.free_spare();
        }
        self.events.free_spare();
        self.pings.free_spare();
    }

    /// Notes what the transport has taken since the last call.
    fn note_progress(&mut self, now: Instant) {
        let bytes = self.output.take_progress();
        if bytes == 0 {
            return;
        }
        self.tally.add(Count::BytesSent, bytes);
        self.pings.left_at(self.clock.at(now));
        let least = match self.output.is_waiting() {
            true => self.config.limits.min_progress,
            false => 0,
        };
        if self.clock.written(now, bytes, least) {
            // The transport was full and takes bytes again, so the peer is alive.
            self.note_life(now);
        }
    }

    fn fill(&mut self, now: Instant) {
        self.output.begin_turn();
        self.output.write_control();
        if self.phase == Phase::Closing {
            return;
        }
        self.write_credit(now);
        while let Some(id) = self.output.pop_opening() {
            self.write_opening(id);
        }
        // Writes at least one frame, however much the openings took, so a flood of them delays no
        // stream for ever.
        while let Some(id) = self.output.pop_stream(self.windows.is_open()) {
            while self.write_stream(now, id) {}
            if self.output.is_full() {
                break;
            }
        }
        self.note_stall(now);
    }

    // --- credit ----------------------------------------------------------------------------------

    /// Writes WINDOW_UPDATEs for consumed bytes (protocol.md §13.3).
    fn write_credit(&mut self, now: Instant) {
        while let Some(id) = self.output.pop_credit() {
            let stream = self.streams.get(id);
            let increment = stream.and_then(|mut it| self.windows.take_stream_credit(&mut it));
            if let Some(increment) = increment {
                let target = WindowTarget::Stream(id);
                self.output.write_window_update(target, increment);
                self.measure(now, Some(id));
            }
        }
        let initial = self.windows.take_initial_credit();
        let regular = self.windows.take_due_credit();
        for increment in initial.into_iter().chain(regular) {
            self.output
                .write_window_update(WindowTarget::Session, increment);
        }
        if regular.is_some() {
            self.measure(now, None);
        }
    }

    /// Ends the measurement that is under way, or begins one if a window might limit the peer.
    /// Called after credit was granted to the stream, or to the session if `credited` is `None`.
    fn measure(&mut self, now: Instant, credited: Option<StreamId>) {
        if let Some(id) = self.windows.measured_stream() {
            let stream = self.streams.peek(id);
            self.windows.end_measurement(now, stream);
        } else if self.phase == Phase::Open && self.windows.may_measure(now) {
            let stream = match credited {
                Some(id) => self.streams.peek(id),
                None => self.streams.busiest(),
            };
            let begins = |it| self.windows.begin_measurement(now, it, credited.is_some());
            if stream.is_some_and(begins) {
                self.output.ping(self.pings.ask_path());
            }
        }
    }

    // --- streams ---------------------------------------------------------------------------------

    fn write_opening(&mut self, id: StreamId) {
        let Some(mut stream) = self.streams.get(id) else {
            return;
        };
        match self.output.write_opening(&mut stream) {
            Ok(false) => self.output.schedule(&mut stream),
            Ok(true) => {
                if finish(&mut self.waits, &mut stream) {
                    self.end_stream(id, Ending::closed());
                }
            }
            // A stream of this side that was not opened does not exist for the peer.
            Err(error) => self.abandon(id, error, !self.role.is_local(id)),
        }
    }

    /// Writes one frame of a stream. Returns whether the stream should write the next frame too.
    fn write_stream(&mut self, now: Instant, id: StreamId) -> bool {
        let Some(mut stream) = self.streams.get(id) else {
            return false;
        };
        stream.place.begin_turn();
        let fin = match stream.next() {
            Some(Next::Data(length)) => {
                let most = self.config.limits.data_frame;
                let share = stream.place.share(length, most);
                let allowed = self.windows.allowance(&stream, share);
                if allowed.size == 0 {
                    debug_assert!(!allowed.is_cut, "the window of the session is open");
                    self.wait_for_window(now, id);
                    return false;
                }
                let size = self.output.longest(allowed.size);
                let Some(piece) = stream.take_payload(size) else {
                    return false;
                };
                self.windows.spend(&mut stream, size);
                let is_all = !stream.has_queued();
                self.waits.sent(&mut stream, size, is_all);
                let rest = match allowed.size - size {
                    0 if allowed.is_cut => most,
                    // The turn is full. A stream that is alone needs no place in the next one.
                    1.. if self.output.has_others() => share - size,
                    _ => 0,
                };
                let fin = self.output.write_data(&mut stream, piece, rest);
                let window = self.windows.available(&stream);
                report_sent(&mut self.events, id, size, window);
                fin
            }
            Some(Next::Headers) => match self.output.write_headers(&mut stream) {
                Ok(fin) => fin,
                Err(error) => {
                    self.abandon(id, error, true);
                    return false;
                }
            },
            Some(Next::Fin) => {
                self.output.write_fin(&stream);
                true
            }
            None => return false,
        };
        if !fin {
            let is_open = self.windows.is_open();
            if is_open && self.output.has_no_other() && stream.next().is_some() {
                return true;
            }
            self.output.schedule(&mut stream);
        } else if finish(&mut self.waits, &mut stream) {
            self.end_stream(id, Ending::closed());
        }
        false
    }

    /// Ends a stream whose header block cannot be written in this version. Nothing else ends. The
    /// peer gets RST_STREAM if it knows the stream.
    fn abandon(&mut self, id: StreamId, error: EncodeError, is_known: bool) {
        let peer = is_known.then_some(RstStatus::INTERNAL_ERROR);
        let app = Some(StreamError::Encode(error));
        self.end_stream(id, Ending { peer, app });
    }

    // --- streams that wait for a window ----------------------------------------------------------

    /// Handles a stream that has payload and whose window is used up.
    fn wait_for_window(&mut self, now: Instant, id: StreamId) {
        if self.inbound.is_ended() {
            return self.lose_stream(id); // No peer is left to grant anything.
        }
        let moment = self.clock.at(now);
        if let Some(mut stream) = self.streams.get(id) {
            self.waits.begin(&mut stream, moment);
        }
    }

    /// Notes whether streams wait for the window of the session, and when they began to.
    fn note_stall(&mut self, now: Instant) {
        if self.windows.is_open() || !self.output.scheduler().has_payload() {
            self.waits.end_stall();
            return;
        }
        if self.inbound.is_ended() {
            return self.lose_stalled();
        }
        let moment = self.clock.at(now);
        self.waits.note_stall(self.output.scheduler(), moment);
        self.join_stall(now);
        if self.waits.check().is_none() {
            // The streams that were watched are gone, or the window was open when they were
            // checked.
            self.waits.watch_all(self.streams.iter(), false);
        }
    }

    /// Ends the streams that wait for the window of the session, because no WINDOW_UPDATE can come
    /// any more.
    fn lose_stalled(&mut self) {
        let stalled: Vec<StreamId> = self.output.scheduler().payload().collect();
        for id in stalled {
            self.lose_stream(id);
        }
    }
}

/// Notes that FIN of a stream is written. Returns whether the stream is closed.
#[must_use]
fn finish(waits: &mut Waits, stream: &mut StreamRef<'_>) -> bool {
    waits.finished(stream);
    stream.fin_written();
    stream.is_closed()
}

/// Reports payload that is on its way. Consecutive frames of one stream become one event.
fn report_sent(events: &mut VecDeque<Event>, id: StreamId, size: usize, left: usize) {
    if let Some(Event::Sent {
        id: last,
        bytes,
        fin: false,
        window,
    }) = events.back_mut()
        && *last == id
    {
        *bytes += size;
        *window = left;
        return;
    }
    events.push_back(Event::Sent {
        id,
        bytes: size,
        fin: false,
        window: left,
    });
}

#[cfg(test)]
mod tests;
