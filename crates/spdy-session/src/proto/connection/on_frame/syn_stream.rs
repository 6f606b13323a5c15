//! SYN_STREAM: a stream of the peer, rule by rule.

use std::time::Instant;

use spdy_frame::{CompressedBlock, HeaderBlock, RstStatus, Side, StreamId, SynStream};

use super::{Connection, Handled};
use crate::{
    Count, Limit,
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
        // Every block is inflated, whatever becomes of the stream (protocol.md §8.4).
        let headers = self.inflate(id, frame.block)?;
        if self.is_beyond_our_go_away(id) {
            // A few have crossed our GOAWAY; more of them only have their blocks inflated.
            self.charge_reset(now);
            return Ok(());
        }
        self.streams.note_remote(id)?;
        let headers = headers.map_err(|error| broken_block(id, &error))?;
        if headers.is_truncated() {
            match self.config.oversized_headers {
                OversizedHeaders::Reset => {
                    return Err(self.role.oversized(id).beyond(Limit::Headers));
                }
                OversizedHeaders::Deliver => self.reached(Limit::Headers),
            }
        }
        self.check_push(id, frame.associated, frame.unidirectional)?;
        if self.phase != Phase::Open {
            let reason = "session takes no new streams";
            return Err(Violation::stream(id, RstStatus::REFUSED_STREAM, reason));
        }
        self.streams.check_room(id, headers.size())?;
        self.admit(SynStream {
            stream: id,
            associated: frame.associated,
            priority: frame.priority,
            fin: frame.fin,
            unidirectional: frame.unidirectional,
            block: headers,
        });
        if self.role.side() == Side::Server && id.next().is_none() {
            // The client's ids are used up (protocol.md §11.1). Pushes simply stop.
            self.shutdown_gracefully(now, None);
        }
        Ok(())
    }

    /// The rules for streams of a server (protocol.md §10.2); identity and origin are the HTTP
    /// layer's to judge.
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
                let reason = "push belongs to no open stream";
                return Err(Violation::stream(id, RstStatus::INVALID_STREAM, reason));
            }
        }
        if !self.config.accept_push {
            return Err(Violation::stream(
                id,
                RstStatus::REFUSED_STREAM,
                "pushes are not accepted",
            ));
        }
        Ok(())
    }

    fn admit(&mut self, frame: SynStream<HeaderBlock>) {
        let SynStream {
            stream: id,
            associated,
            priority,
            fin,
            unidirectional,
            block: headers,
        } = frame;
        self.go_away.admitted(id);
        let birth = Birth {
            priority,
            associated,
            unidirectional,
            fin,
            window: self.new_window(),
        };
        let is_closed = self.streams.admit(id, birth, headers.size()).is_closed();
        self.tally.one(Count::StreamsReceived);
        self.events.push_back(Event::Opened(Opened {
            id,
            headers,
            fin,
            priority,
            associated,
            unidirectional,
        }));
        if is_closed {
            self.end_stream(id, Ending::closed());
        }
    }
}
