//! RST_STREAM: the peer ends a stream.

use std::time::Instant;

use spdy_frame::{RstStatus, RstStream, StreamId};

use super::{Connection, Handled};
use crate::{
    StreamError,
    proto::{
        guard::Charge,
        streams::{Ending, Stream},
    },
};

impl Connection {
    pub(super) fn on_rst_stream(&mut self, now: Instant, frame: RstStream) -> Handled {
        let id = frame.stream;
        let error = StreamError::from_peer(frame.status);
        if self.streams.contains(id) {
            self.take_back(id);
            self.end_stream(id, Ending::failed(error));
        } else if !self.drop_ready(id, error) {
            // RST_STREAM for an unknown or closed stream has no effect and no answer (protocol.md
            // §5.3).
            return self
                .guard
                .charge(Charge::IdleFrame, &self.config.limits, now);
        }
        self.cancel_pushes_of(id);
        if self.role.is_local(id) {
            return Ok(());
        }
        self.guard
            .charge(Charge::PeerReset, &self.config.limits, now)
    }

    /// Ends the pushes of a request that was reset (protocol.md §10.1).
    fn cancel_pushes_of(&mut self, id: StreamId) {
        let streams = self.streams.iter();
        let of_stream = streams.filter(|stream| stream.associated() == Some(id));
        let ids = of_stream.map(Stream::id);
        let pushes: Vec<StreamId> = ids.filter(|&id| self.role.is_local(id)).collect();
        for push in pushes {
            let error = StreamError::from_peer(RstStatus::CANCEL);
            self.end_stream(push, Ending::reset(RstStatus::CANCEL, error));
        }
    }
}
