//! WINDOW_UPDATE: when what was consumed is granted again (protocol.md §13.3).

use std::{mem, time::Instant};

use spdy_frame::{FrameKind, WindowIncrement, WindowTarget, WindowUpdate};

use super::Connection;
use crate::{
    proto::{state::RecvHalf, transmit::Outbound},
    wire_log,
};

impl Connection {
    /// Octets consumed on a stream after which it gets credit.
    pub(super) fn stream_credit_threshold(&self) -> u32 {
        (self.config.limits.stream_window() / 2).clamp(1, MAX_CREDIT_STEP)
    }

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
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            stream.credit_due = false;
            // After the peer's FIN no stream credit is due (protocol.md §13.3).
            if stream.recv == RecvHalf::Finished {
                continue;
            }
            if stream.recv_window.is_read() {
                stream.recv_window.enlarge_to(self.growth.stream_window());
            }
            if let Some(increment) = stream.recv_window.take_credit(1) {
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

/// A stream gets credit at the latest when so many octets were consumed: Qt stops after 64 KiB whatever window
/// was announced (clients in the field, protocol.md §19).
const MAX_CREDIT_STEP: u32 = 32 * 1024;
