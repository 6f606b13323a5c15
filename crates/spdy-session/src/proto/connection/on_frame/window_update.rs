//! WINDOW_UPDATE: the peer enlarges a window.

use std::time::Instant;

use spdy_frame::{StreamId, WindowIncrement, WindowTarget, WindowUpdate};

use super::{Connection, Handled};
use crate::proto::streams::Stream;

impl Connection {
    pub(super) fn on_window_update(&mut self, now: Instant, frame: WindowUpdate) -> Handled {
        match frame.target {
            WindowTarget::Session if self.role.has_session_window() => {
                let grown = self.windows.grow_session(frame.increment)?;
                self.note_grant(now, grown);
            }
            WindowTarget::Stream(id) if self.role.has_stream_windows() => {
                self.windows.note_stream_grant();
                self.grow_stream(now, id, frame.increment)?;
            }
            // SPDY/3 has no session window, and without flow control no window is in force.
            WindowTarget::Session | WindowTarget::Stream(_) => {}
        }
        Ok(())
    }

    fn grow_stream(&mut self, now: Instant, id: StreamId, increment: WindowIncrement) -> Handled {
        let stream = self.streams.get(id);
        let Some(mut stream) = stream.filter(|stream| !stream.is_sent()) else {
            return Ok(());
        };
        let grow = |stream: &mut Stream| self.windows.grow_stream(stream, increment);
        let grown = self.waits.regrade(&mut stream, grow)?;
        self.note_grant(now, grown);
        self.window_grew(now, id, true);
        Ok(())
    }
}
