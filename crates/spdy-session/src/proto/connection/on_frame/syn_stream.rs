//! SYN_STREAM: the peer opens a stream.

use std::time::Instant;

use spdy_frame::{CompressedBlock, RstStatus, Side, StreamId, SynStream};

use super::{Connection, Handled};
use crate::{
    Count, Limit, Rule,
    config::OversizedHeaders,
    proto::{
        connection::Phase,
        error::{Violation, broken_block},
        event::{Event, Opened},
        streams::{Birth, Ending},
    },
};

impl Connection {
    pub(super) fn on_syn_stream(
        &mut self,
        now: Instant,
        frame: SynStream<CompressedBlock>,
    ) -> Handled {
        let id = frame.stream;
        // Every block is inflated, whatever happens to the stream (protocol.md §8.4).
        let headers = self.inflate(id, frame.block)?;
        if self.is_beyond_our_go_away(id) {
            // The stream crossed our GOAWAY. It is ignored, but charged, because its block had to
            // be inflated.
            self.charge_reset(now);
            return Ok(());
        }
        self.streams.note_remote(id)?;
        let headers = headers.map_err(|error| broken_block(id, &error))?;
        if headers.is_truncated() {
            match self.config.oversized_headers {
                OversizedHeaders::Auto | OversizedHeaders::Reset => {
                    return Err(self.role.oversized(id, Rule::OversizedHeaders));
                }
                OversizedHeaders::Deliver => self.reached(Limit::Headers),
            }
        }
        self.check_push(id, frame.associated, frame.unidirectional)?;
        if self.phase != Phase::Open {
            let (status, rule) = (RstStatus::REFUSED_STREAM, Rule::NoNewStreams);
            return Err(Violation::stream(id, status, rule));
        }
        let size = headers.size();
        self.streams.check_room(id, size)?;
        let opened = Opened {
            id,
            headers,
            fin: frame.fin,
            priority: frame.priority,
            associated: frame.associated,
            unidirectional: frame.unidirectional,
        };
        self.admit(opened, size);
        if self.role.side() == Side::Server && id.next().is_none() {
            // The client has used all its ids (protocol.md §11.1). A server without ids only stops
            // pushing.
            self.shutdown_gracefully(now, None);
        }
        Ok(())
    }

    /// Checks the rules for streams that a server opens (protocol.md §10.2). The HTTP layer checks
    /// their origin.
    fn check_push(
        &self,
        id: StreamId,
        associated: Option<StreamId>,
        unidirectional: bool,
    ) -> Handled {
        if self.role.side() == Side::Server {
            return Ok(());
        }
        if unidirectional {
            let is_open = |associated: StreamId| {
                self.role.is_local(associated) && self.streams.contains(associated)
            };
            if !associated.is_some_and(is_open) {
                let (status, rule) = (RstStatus::INVALID_STREAM, Rule::PushWithoutStream);
                return Err(Violation::stream(id, status, rule));
            }
        }
        if !self.config.accept_push {
            return Err(Violation::stream(
                id,
                RstStatus::REFUSED_STREAM,
                Rule::PushNotAccepted,
            ));
        }
        Ok(())
    }

    /// Adds a stream whose header block has this size.
    fn admit(&mut self, opened: Opened, size: usize) {
        let id = opened.id;
        self.go_away.admitted(id);
        let birth = Birth {
            priority: opened.priority,
            associated: opened.associated,
            unidirectional: opened.unidirectional,
            fin: opened.fin,
            window: self.new_window(),
        };
        let is_closed = self.streams.admit(id, birth, size).is_closed();
        self.tally.one(Count::StreamsReceived);
        self.events.push_back(Event::Opened(opened));
        if is_closed {
            self.end_stream(id, Ending::closed());
        }
    }
}
