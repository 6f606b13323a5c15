//! GOAWAY: the peer accepts no more streams.

use std::time::Instant;

use spdy_frame::{GoAway, GoAwayStatus, StreamId};

use super::{Connection, Handled};
use crate::{
    SessionError, StreamError,
    proto::{
        event::Event,
        guard::Charge,
        streams::{Ending, Stream},
    },
};

impl Connection {
    /// Handles GOAWAY. A further GOAWAY may lower the last-good id. It is charged, because each
    /// GOAWAY looks at all streams.
    pub(super) fn on_go_away(&mut self, now: Instant, frame: GoAway) -> Handled {
        if !self.go_away.receive() {
            self.guard
                .charge(Charge::IdleFrame, &self.config.limits, now)?;
        }
        self.note_go_away(&frame);
        Ok(())
    }

    fn note_go_away(&mut self, frame: &GoAway) {
        if frame.status != GoAwayStatus::OK {
            self.outcome = Err(SessionError::GoAway {
                last_good: frame.last_good,
                status: frame.status,
            });
        }
        self.events.push_back(Event::GoAway {
            last_good: frame.last_good,
            status: frame.status,
        });
        // The peer has not processed streams above last-good, so a retry elsewhere is safe
        // (protocol.md §15).
        let is_lost = |id: &StreamId| self.role.is_local(*id) && Some(*id) > frame.last_good;
        let ids = self.streams.iter().map(Stream::id);
        let lost: Vec<StreamId> = ids.filter(is_lost).collect();
        for id in lost {
            self.end_stream(id, Ending::failed(StreamError::NotProcessed));
        }
    }
}
