//! What has become of frames that were ready: the transport has taken them, or they are taken back.

use spdy_frame::{RstStatus, StreamId};

use super::Connection;
use crate::{
    Count, StreamError,
    proto::{event::Event, transmit::Outbound},
};

impl Connection {
    /// Counts the frames that the transport has taken since the last call, and tells about streams whose FIN is out.
    /// Returns whether any of them were of streams.
    pub(super) fn note_sent(&mut self) -> bool {
        let mut is_of_stream = false;
        while let Some(mut frame) = self.output.pop_sent() {
            self.tally.one(Count::FramesSent(frame.kind()));
            match frame {
                Outbound::Reset(status) => self.tally.one(Count::ResetsSent(status)),
                Outbound::Ping(id) => self.pings.left(id),
                Outbound::GoAway(status) => self.tally.one(Count::GoAwaysSent(status)),
                _ => {}
            }
            is_of_stream |= frame.stream().is_some();
            if let Some(id) = frame.take_fin() {
                self.events.push_back(Event::Sent {
                    id,
                    octets: 0,
                    fin: true,
                    window: 0,
                });
            }
        }
        is_of_stream
    }

    /// Says RST_STREAM, and nothing of the stream in front of it that can be taken back.
    pub(super) fn tell_reset(&mut self, id: StreamId, status: RstStatus) {
        self.take_back(id);
        self.output.reset(id, status);
        self.streams.remember_reset(id);
    }

    /// A stream that is closed here, and whose end has not begun to leave, is reset before the peer has seen the end:
    /// the rest is taken back. False if there is no such stream.
    pub(super) fn drop_ready(&mut self, id: StreamId, error: StreamError) -> bool {
        let is_closed = !self.streams.contains(id) && self.output.has_fin(id);
        let is_ready = is_closed && self.take_back(id);
        if is_ready {
            self.events.push_back(Event::Reset { id, error });
        }
        is_ready
    }

    /// Takes back what has not begun to leave of a stream that is over, and of the session's window what it took. Gives
    /// whether there was anything.
    pub(super) fn take_back(&mut self, id: StreamId) -> bool {
        let Some(octets) = self.output.take_back(id) else {
            return false;
        };
        self.windows.give_back(octets);
        true
    }
}
