//! The silent changes of the application that a resting driver must react to at once.

use super::Connection;

/// Which changes a resting driver must be woken for, among those that could wait: consumed bytes
/// and dropped handles. The driver computes this from the connection each time before it rests. So
/// a handle that makes such a change need not know what depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heeds {
    /// The driver wants to be woken when this number of bytes is consumed, of all streams together.
    pub(crate) consumed: usize,
    /// Whether the driver wants to be woken when the last handle of a stream is dropped.
    pub(crate) releases: bool,
}

impl Connection {
    pub(crate) fn heeds(&self) -> Heeds {
        Heeds {
            consumed: self.heeded_bytes(),
            // A cancelled stream keeps its place until then, and keeps the session from being idle.
            releases: self.streams.cancelled().len() > 0,
        }
    }

    /// Returns how many consumed bytes are worth waking the driver. A few bytes can wait while the
    /// peer has enough window, but not if they are what the peer waits for.
    fn heeded_bytes(&self) -> usize {
        if self.is_overfull() {
            // Any consumed byte may end the pause of reading.
            return 1;
        }
        let limits = &self.config.limits;
        let stream = (limits.stream_window as usize).min(limits.stream_buffer) / 4;
        let step = stream.min(MAX_STEP);
        match self.windows.recv().due_after() {
            // Streams that are not read may hold nearly all of the session's window.
            Some(due) if self.role.has_session_window() => step.min(due),
            _ => step,
        }
    }
}

/// The largest value of [`Heeds::consumed`].
const MAX_STEP: usize = 32 * 1024;
