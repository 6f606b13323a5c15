//! What a connection at rest has to hear of at once, of all that an application does without asking
//! for anything.

use super::Connection;

/// Which of the news that may wait are worth waking a driver for. Derived from the connection
/// whenever the driver gives up its turn: so no order has to know what may depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heeds {
    /// Bytes that are consumed, of all streams together.
    pub(crate) consumed: usize,
    /// That the last handle of a stream is dropped.
    pub(crate) releases: bool,
}

impl Connection {
    pub(crate) fn heeds(&self) -> Heeds {
        Heeds {
            consumed: self.heeded_bytes(),
            // Such a stream keeps its place, and the session from being idle.
            releases: self.streams.cancelled().len() > 0,
        }
    }

    /// The peer need not hear of a few bytes, since it has window enough: unless they are what
    /// keeps it waiting.
    fn heeded_bytes(&self) -> usize {
        if self.is_overfull() {
            // Any of them may end the pause of reading.
            return 1;
        }
        let limits = &self.config.limits;
        let stream = (limits.stream_window as usize).min(limits.stream_buffer) / 4;
        let step = stream.min(MAX_STEP);
        match self.windows.recv().due_after() {
            // The streams that are not read may hold nearly all of the session's window.
            Some(due) if self.role.has_session_window() => step.min(due),
            _ => step,
        }
    }
}

/// The driver hears of consumed bytes at the latest when there are so many.
const MAX_STEP: usize = 32 * 1024;
