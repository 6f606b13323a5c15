//! WINDOW_UPDATE: when what was consumed is granted again (protocol.md §13.3).

use std::{mem, time::Instant};

use spdy_frame::{FrameKind, WindowIncrement, WindowTarget, WindowUpdate};

use super::Connection;
use crate::{proto::transmit::Outbound, wire_log};

impl Connection {
    pub(super) fn write_credit(&mut self, now: Instant) {
        self.write_stream_credit(now);
        if self.role.has_session_window() {
            let initial = self.output.session_credit.take();
            let regular = self.recv_window.take_due_credit();
            for increment in initial.into_iter().chain(regular) {
                self.write_window_update(WindowTarget::Session, increment);
            }
            if regular.is_some() {
                self.measure(now, None);
            }
        }
    }

    fn write_stream_credit(&mut self, now: Instant) {
        let mut due = mem::take(&mut self.output.credit_due);
        for id in due.drain(..) {
            let size = self.growth.stream_window();
            let stream = self.streams.get(id);
            if let Some(increment) = stream.and_then(|mut stream| stream.take_credit(size)) {
                self.write_window_update(WindowTarget::Stream(id), increment);
                self.measure(now, Some(id));
            }
        }
        self.output.credit_due = due;
    }

    fn write_window_update(&mut self, target: WindowTarget, increment: WindowIncrement) {
        let frame = WindowUpdate { target, increment };
        wire_log::sent(self.role.side(), frame);
        let transmit = &mut self.output.transmit;
        frame.encode(self.role.version(), transmit.frames());
        transmit.list(Outbound::Other(FrameKind::WindowUpdate));
    }
}
