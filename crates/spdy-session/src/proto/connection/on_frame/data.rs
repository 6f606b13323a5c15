//! DATA. The rules apply in the order of protocol.md §12.3: the session's window, the stream, its
//! state, its window, delivery.

use std::time::Instant;

use spdy_frame::{Data, RstStatus, StreamId, Version};

use super::{Connection, Handled};
use crate::{
    Rule,
    proto::{
        error::Violation,
        event::Event,
        guard::Charge,
        streams::{Ending, Stream},
    },
};

impl Connection {
    pub(super) fn on_data(&mut self, now: Instant, data: Data) -> Handled {
        let bytes = data.payload.len();
        // The rules are applied at the head of the frame, to its whole length.
        let announced = bytes as u64 + u64::from(data.remaining);
        self.windows.receive(bytes, announced)?;
        let is_empty = announced == 0 && !data.fin;
        let fate = match self.streams.get(data.stream) {
            Some(mut stream) => {
                let received = stream.receive(self.role, &data, announced);
                received.map(|()| Fate::of(&stream))
            }
            None => self.judge_stray_data(data.stream),
        };
        match fate {
            Ok(Fate::Deliver { is_closed }) => self.deliver(data, is_closed),
            Ok(Fate::Discard { is_closed }) => {
                self.discard(data.stream, bytes, data.fin, is_closed);
            }
            dropped => {
                // The application will never consume these bytes, so the session's window gets them
                // back at once (protocol.md §13.3).
                self.windows.consume(bytes);
                dropped?;
            }
        }
        if is_empty {
            return self
                .guard
                .charge(Charge::EmptyFrame, &self.config.limits, now);
        }
        Ok(())
    }

    /// Judges DATA for a stream that does not exist. It is not charged, because a peer may have
    /// much of it under way when it receives a reset (protocol.md §12.3, "not before 10 MB").
    fn judge_stray_data(&self, id: StreamId) -> Result<Fate, Violation> {
        if self.is_answered(id) {
            return Ok(Fate::Drop);
        }
        if self.streams.is_never_used(id) {
            let (status, rule) = (RstStatus::INVALID_STREAM, Rule::DataBeforeStream);
            return Err(Violation::stream(id, status, rule));
        }
        // SPDY/2 "Stream close": frames for a stream that was torn down are ignored.
        if self.role.version() == Version::V2 {
            return Ok(Fate::Drop);
        }
        let (status, rule) = (RstStatus::PROTOCOL_ERROR, Rule::DataAfterStream);
        Err(Violation::stream(id, status, rule))
    }

    fn deliver(&mut self, data: Data, is_closed: bool) {
        let (id, payload, fin) = (data.stream, data.payload, data.fin);
        if !payload.is_empty() || fin {
            self.events.push_back(Event::Data { id, payload, fin });
        }
        if is_closed {
            self.end_stream(id, Ending::closed());
        }
    }

    /// Drops bytes of a stream that the application no longer reads.
    fn discard(&mut self, id: StreamId, bytes: usize, fin: bool, is_closed: bool) {
        self.return_bytes(id, bytes);
        self.count_discarded(id, bytes, fin);
        if is_closed {
            self.end_stream(id, Ending::closed());
        }
    }
}

/// What happens to a piece of DATA.
#[derive(Debug)]
enum Fate {
    /// It is delivered to the application.
    Deliver { is_closed: bool },
    /// It is dropped, because the application reads no more.
    Discard { is_closed: bool },
    /// It is dropped, because the stream is gone.
    Drop,
}

impl Fate {
    /// Returns what happens to a piece that `stream` has received.
    fn of(stream: &Stream) -> Self {
        let is_closed = stream.is_closed();
        match stream.is_discarded() {
            true => Self::Discard { is_closed },
            false => Self::Deliver { is_closed },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use bytes::{Buf, BytesMut};
    use spdy_frame::{HeaderBlock, Side};

    use super::*;
    use crate::{config::Config, proto::connection::OpenOptions};

    fn pass(from: &mut Connection, to: &mut Connection, now: Instant) -> usize {
        let (mut wire, out) = (BytesMut::new(), from.poll_transmit(now));
        while out.has_remaining() {
            wire.extend_from_slice(out.chunk());
            out.advance(out.chunk().len());
        }
        let bytes = wire.len();
        to.handle_input(now, &mut wire);
        bytes
    }

    #[test]
    fn a_fin_beyond_the_discard_limit_closes_the_stream_without_a_reset() {
        let now = Instant::now();
        let mut config = Config::default();
        config.limits.discard = 10;
        config.timeouts.discard = Some(Duration::from_secs(5));
        let config = Arc::new(config);
        let end = |side| Connection::new(side, Version::V3_1, Arc::clone(&config), now);
        let (mut client, mut server) = (end(Side::Client), end(Side::Server));
        let opened = client.open(now, HeaderBlock::new(), OpenOptions::default());
        let id = opened.expect("there is no limit yet");
        pass(&mut client, &mut server, now);
        let replied = server.send_reply(id, HeaderBlock::new(), true);
        replied.expect("the stream was opened now");
        server.stop_reading(id);
        pass(&mut server, &mut client, now);
        let sent = client.send_data(id, vec![0; 20].into(), true);
        sent.expect("this half is open");
        pass(&mut client, &mut server, now);
        assert_eq!(server.stats().remote_streams, 0);
        pass(&mut server, &mut client, now);
        let later = now + Duration::from_secs(6);
        server.handle_timeout(later);
        assert_eq!(pass(&mut server, &mut client, later), 0, "nothing is reset");
    }
}
