//! DATA, in the order of protocol.md §12.3: the session's window, the stream, its state, its window, delivery.

use std::time::Instant;

use spdy_frame::{Data, RstStatus, StreamId, Version};

use super::{Connection, streams::unfit_violation};
use crate::{
    Limit, StreamError,
    error::Origin,
    proto::{
        error::Violation,
        event::Event,
        guard::Charge,
        state::{RecvHalf, RecvInput},
    },
};

impl Connection {
    pub(super) fn on_data(&mut self, now: Instant, data: Data) -> Result<(), Violation> {
        let octets = data.payload.len();
        // The whole frame is judged at its head, before its payload is there.
        let announced = octets as u64 + u64::from(data.remaining);
        if self.role.has_session_window() && !self.recv_window.allows(announced) {
            let violation = Violation::session("DATA exceeds the session window");
            return Err(violation.beyond(Limit::SessionWindow));
        }
        self.recv_window.receive(octets);
        let is_empty = announced == 0 && !data.fin;
        match self.judge_data(&data, announced) {
            Ok(Fate::Deliver(next)) => self.deliver(data, next),
            dropped => {
                // Nobody will consume these octets: the session gets them back at once (protocol.md §13.3).
                self.recv_window.consume(octets);
                dropped?;
            }
        }
        if is_empty {
            return self.guard.charge(Charge::EmptyFrame, now);
        }
        Ok(())
    }

    fn judge_data(&self, data: &Data, announced: u64) -> Result<Fate, Violation> {
        let id = data.stream;
        let Some(stream) = self.streams.get(&id) else {
            return self.judge_stray_data(id);
        };
        if data.compressed {
            let reason = "DATA has the flag COMPRESS";
            return Err(Violation::stream(id, RstStatus::PROTOCOL_ERROR, reason));
        }
        let next = stream
            .recv
            .on(self.role.version(), RecvInput::Data, data.fin)
            .map_err(|unfit| unfit_violation(id, unfit))?;
        if self.role.has_stream_windows() && !stream.recv_window.allows(announced) {
            let reason = "DATA exceeds the stream window";
            let violation = Violation::stream(id, RstStatus::FLOW_CONTROL_ERROR, reason);
            return Err(violation.beyond(Limit::StreamWindow));
        }
        Ok(Fate::Deliver(next))
    }

    /// DATA for streams that are gone is not charged: a peer may have much of it under way when it hears of a
    /// reset (protocol.md §12.3, "not before 10 MB").
    fn judge_stray_data(&self, id: StreamId) -> Result<Fate, Violation> {
        if self.is_answered(id) {
            return Ok(Fate::Drop);
        }
        if self.is_never_used(id) {
            let reason = "DATA came for a stream that was never opened";
            return Err(Violation::stream(id, RstStatus::INVALID_STREAM, reason));
        }
        // SPDY/2 "Stream close": what comes for a stream that was torn down is ignored.
        if self.role.version() == Version::V2 {
            return Ok(Fate::Drop);
        }
        let reason = "DATA came for a closed stream";
        Err(Violation::stream(id, RstStatus::PROTOCOL_ERROR, reason))
    }

    fn deliver(&mut self, data: Data, next: RecvHalf) {
        let (id, octets, fin) = (data.stream, data.payload.len(), data.fin);
        let (watches_buffer, buffer) = (!self.role.has_stream_windows(), self.stream_buffer());
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.recv = next;
        let was_full = stream.recv_window.held() >= buffer;
        stream.recv_window.receive(octets);
        if watches_buffer && !was_full && stream.recv_window.held() >= buffer {
            self.overfull += 1;
        }
        if stream.discard.is_some() {
            self.discard(id, octets, fin);
        } else if octets > 0 || fin {
            let payload = data.payload;
            self.events.push_back(Event::Data { id, payload, fin });
        }
        self.forget_if_closed(id);
    }

    /// Drops octets of a stream that the application has lost interest in.
    fn discard(&mut self, id: StreamId, octets: usize, fin: bool) {
        self.consume(id, octets);
        self.count_discarded(id, octets, fin);
    }

    /// Counts octets that are dropped, payload or what header blocks count.
    pub(super) fn count_discarded(&mut self, id: StreamId, octets: usize, fin: bool) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.discard = stream
            .discard
            .and_then(|left| left.checked_sub(octets as u64));
        if stream.discard.is_none() && !fin {
            self.reached(Limit::Discard);
            let error = StreamError::Reset {
                status: RstStatus::CANCEL,
                origin: Origin::Local,
            };
            self.reset_with(id, RstStatus::CANCEL, error);
        }
    }
}

/// What becomes of a piece of DATA.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// The stream takes it, and its receiving half is in this state then.
    Deliver(RecvHalf),
    Drop,
}
