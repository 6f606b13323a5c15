//! What comes of a frame of the peer: one handler for each type.
//!
//! A handler goes through the rules in the order in which the drafts list them, and asks the
//! managers. A broken rule is a [`Violation`], which the handler returns.

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
            // `Frame` has no other kinds; were there more, skipping them is the rule (protocol.md
            // §5.11).
            Frame::Noop | Frame::Credential(_) | Frame::Unknown(_) => {
                self.guard.charge(Charge::IdleFrame, now)
            }
        }
    }

    /// Notes a frame of the peer. What only answers this side keeps no idle session alive.
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
            // The frame counts with its last piece.
            Frame::Data(data) if data.remaining > 0 => return,
            Frame::RstStream(frame) => self.tally.one(Count::ResetsReceived(frame.status)),
            Frame::GoAway(frame) => self.tally.one(Count::GoAwaysReceived(frame.status)),
            _ => {}
        }
        self.tally.one(Count::FramesReceived(frame.kind()));
    }
}
