//! PING: a PING of the peer, or the answer to one of this side.

use std::time::Instant;

use spdy_frame::Ping;

use super::{Connection, Handled};
use crate::proto::{event::Event, guard::Charge, pings::Purpose};

impl Connection {
    pub(super) fn on_ping(&mut self, now: Instant, frame: Ping) -> Handled {
        self.guard.charge(Charge::Ping, &self.config.limits, now)?;
        if self.role.side().peer().owns(frame.id) {
            self.output.pong(frame.id);
        } else {
            self.on_pong(now, frame.id);
        }
        Ok(())
    }

    /// Handles an answer. An answer to no PING is ignored (protocol.md §16).
    fn on_pong(&mut self, now: Instant, id: u32) {
        let Some(purpose) = self.pings.purpose(id) else {
            return;
        };
        self.pings.answered(purpose);
        match purpose {
            // From now on the peer must obey the SETTINGS of this side (protocol.md §13.3).
            Purpose::Settings | Purpose::KeepAlive => {}
            Purpose::Path => self.windows.ping_answered(now),
            Purpose::User(id, sent) => {
                let rtt = now.saturating_duration_since(sent);
                self.events.push_back(Event::Pong { id, rtt });
            }
        }
    }
}
