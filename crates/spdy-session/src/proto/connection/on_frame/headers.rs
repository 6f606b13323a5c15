//! HEADERS: further header fields, and trailers.

use std::time::Instant;

use spdy_frame::{CompressedBlock, Headers};

use super::{Connection, Handled};
use crate::{
    Rule,
    proto::{
        event::Event,
        guard::Charge,
        streams::{Ending, RecvInput},
    },
};

impl Connection {
    pub(super) fn on_headers(&mut self, now: Instant, frame: Headers<CompressedBlock>) -> Handled {
        let (id, fin) = (frame.stream, frame.fin);
        let headers = self.inflate(id, frame.block)?;
        let Some(mut stream) = self.streams.get(id) else {
            return self.on_stray(now, id, Rule::StrayHeaders);
        };
        let headers = stream.receive_headers(self.role, RecvInput::Headers, fin, headers)?;
        if headers.is_empty() && !fin {
            return self
                .guard
                .charge(Charge::EmptyFrame, &self.config.limits, now);
        }
        let size = stream.check_held(self.role, &headers)?;
        if stream.is_discarded() && !fin {
            self.count_discarded(id, size, fin);
            return Ok(());
        }
        stream.hold_headers(size);
        let is_closed = stream.is_closed();
        self.events.push_back(Event::Headers { id, headers, fin });
        if is_closed {
            self.end_stream(id, Ending::closed());
        }
        Ok(())
    }
}
