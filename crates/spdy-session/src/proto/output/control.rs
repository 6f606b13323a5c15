//! Control frames without a header block: those that wait, and how they become bytes.

use std::{fmt, mem};

use spdy_frame::{
    Data, FrameKind, GoAway, GoAwayStatus, Ping, RstStatus, RstStream, Setting, Settings, StreamId,
};

use super::Output;
use crate::{proto::transmit::Outbound, wire_log};

/// A control frame without a header block.
#[derive(Debug)]
pub(super) enum Control {
    Reset(RstStream),
    Ping(Ping),
    GoAway(GoAway),
    Settings(Settings),
    /// An empty DATA frame, which has no effect.
    Empty(StreamId),
}

impl Output {
    pub(crate) fn reset(&mut self, stream: StreamId, status: RstStatus) {
        self.resets += 1;
        self.control
            .push_back(Control::Reset(RstStream { stream, status }));
    }

    pub(crate) fn ping(&mut self, id: u32) {
        self.control.push_back(Control::Ping(Ping { id }));
    }

    /// Queues an empty DATA frame. It leaves before any later frame of the stream, also before its
    /// end or reset.
    pub(crate) fn empty_data(&mut self, stream: StreamId) {
        self.control.push_back(Control::Empty(stream));
    }

    pub(crate) fn pong(&mut self, id: u32) {
        self.pongs.push_back(id);
    }

    pub(crate) fn settings(&mut self, entries: Vec<Setting>) {
        self.control.push_back(Control::Settings(Settings {
            clear: false,
            entries,
        }));
    }

    pub(crate) fn go_away(&mut self, last_good: Option<StreamId>, status: GoAwayStatus) {
        self.control
            .push_back(Control::GoAway(GoAway { last_good, status }));
    }

    /// Returns whether control frames wait to become bytes.
    pub(crate) fn has_control(&self) -> bool {
        !self.control.is_empty()
    }

    /// Returns how many frames that the peer caused wait to be sent, including those that the
    /// transport has not taken.
    #[inline]
    pub(crate) fn replies(&self) -> usize {
        self.pongs.len() + self.resets + self.replies_ready
    }

    /// Returns whether frames wait that are written before those of streams.
    #[cfg(feature = "tokio")]
    pub(crate) fn has_replies_to_write(&self) -> bool {
        self.has_control() || !self.pongs.is_empty()
    }

    pub(crate) fn write_control(&mut self) {
        let (side, version) = (self.role.side(), self.role.version());
        let transmit = &mut self.transmit;
        self.replies_ready += self.pongs.len() + mem::take(&mut self.resets);
        while let Some(id) = self.pongs.pop_front() {
            let frame = Ping { id };
            wire_log::sent(side, frame);
            frame.encode(version, transmit.frames());
            transmit.list(Outbound::Pong);
        }
        while let Some(frame) = self.control.pop_front() {
            wire_log::sent(side, &frame);
            let dst = transmit.frames();
            let frame = match frame {
                Control::Reset(frame) => {
                    frame.encode(version, dst);
                    Outbound::Reset(frame.status)
                }
                Control::Ping(frame) => {
                    frame.encode(version, dst);
                    Outbound::Ping(frame.id)
                }
                Control::GoAway(frame) => {
                    frame.encode(version, dst);
                    Outbound::GoAway(frame.status)
                }
                Control::Settings(frame) => {
                    frame.encode(version, dst);
                    Outbound::Other(FrameKind::Settings)
                }
                Control::Empty(stream) => {
                    Data::encode_head(stream, false, 0, dst);
                    Outbound::Data { stream, fin: false }
                }
            };
            transmit.list(frame);
        }
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(frame) => frame.fmt(f),
            Self::Ping(frame) => frame.fmt(f),
            Self::GoAway(frame) => frame.fmt(f),
            Self::Settings(frame) => frame.fmt(f),
            Self::Empty(stream) => write!(f, "DATA stream={stream} fin=false length=0"),
        }
    }
}
