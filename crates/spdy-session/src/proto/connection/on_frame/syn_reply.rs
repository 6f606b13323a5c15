//! SYN_REPLY: the reply to a stream of this side.

use std::time::Instant;

use spdy_frame::{CompressedBlock, SynReply};

use super::{Connection, Handled};
use crate::{
    Rule,
    proto::{
        event::Event,
        streams::{Ending, RecvInput},
    },
};

impl Connection {
    pub(super) fn on_syn_reply(
        &mut self,
        now: Instant,
        frame: SynReply<CompressedBlock>,
    ) -> Handled {
        let (id, fin) = (frame.stream, frame.fin);
        let headers = self.inflate(id, frame.block)?;
        let stream = self.streams.get(id);
        let Some(mut stream) = stream.filter(|_| self.role.is_local(id)) else {
            return self.on_stray(now, id, Rule::StrayReply);
        };
        let headers = stream.receive_headers(self.role, RecvInput::Reply, fin, headers)?;
        let size = stream.check_held(self.role, &headers)?;
        stream.hold_reply(size);
        let is_closed = stream.is_closed();
        self.events.push_back(Event::Replied { id, headers, fin });
        if is_closed {
            self.end_stream(id, Ending::closed());
        }
        Ok(())
    }
}
