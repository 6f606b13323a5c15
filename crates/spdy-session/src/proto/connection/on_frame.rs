//! The handlers of the peer's frames, one for each type.
//!
//! A handler checks the rules in the order in which the drafts list them, and calls the managers.
//! If a rule is broken, the handler returns a [`Violation`].

mod data;
mod go_away;
mod headers;
mod ping;
mod rst_stream;
mod settings;
mod shared;
mod syn_reply;
mod syn_stream;
mod window_update;

use std::time::Instant;

use spdy_frame::Frame;

use super::Connection;
use crate::{
    Count,
    proto::{error::Violation, guard::Charge, pings::Purpose},
};

type Handled = Result<(), Violation>;

impl Connection {
    /// Handles a frame.
    pub(super) fn on_frame(&mut self, now: Instant, frame: Frame) -> Handled {
        self.note_frame(now, &frame);
        self.count_received(&frame);
        if self.inbound.note_frame() {
            self.streams.set_most_local(usize::MAX);
        }
        match frame {
            Frame::Data(data) => self.on_data(now, data),
            Frame::SynStream(frame) => self.on_syn_stream(now, frame),
            Frame::SynReply(frame) => self.on_syn_reply(now, frame),
            Frame::RstStream(frame) => self.on_rst_stream(now, frame),
            Frame::Settings(frame) => self.on_settings(now, frame),
            Frame::Ping(frame) => self.on_ping(now, frame),
            Frame::GoAway(frame) => self.on_go_away(now, frame),
            Frame::Headers(frame) => self.on_headers(now, frame),
            Frame::WindowUpdate(frame) => self.on_window_update(now, frame),
            // Frames of unknown types are skipped (protocol.md §5.11).
            Frame::Noop | Frame::Credential(_) | Frame::Unknown(_) => {
                self.guard
                    .charge(Charge::IdleFrame, &self.config.limits, now)
            }
        }
    }

    /// Notes that the peer is alive. A frame that only answers this side does not count as use of
    /// the session.
    fn note_frame(&mut self, now: Instant, frame: &Frame) {
        let ping = match frame {
            Frame::Ping(ping) => Some(ping.id),
            _ => None,
        };
        let purpose = ping.and_then(|id| self.pings.purpose(id));
        if purpose == Some(Purpose::Path) {
            return;
        }
        self.clock.note_frame();
        if purpose != Some(Purpose::KeepAlive) {
            self.clock.note_use(now);
        }
        self.note_life(now);
    }

    fn count_received(&mut self, frame: &Frame) {
        match frame {
            // A DATA frame counts with its last piece.
            Frame::Data(data) if data.remaining > 0 => return,
            Frame::RstStream(frame) => self.tally.one(Count::ResetsReceived(frame.status)),
            Frame::GoAway(frame) => self.tally.one(Count::GoAwaysReceived(frame.status)),
            _ => {}
        }
        self.tally.one(Count::FramesReceived(frame.kind()));
    }
}
