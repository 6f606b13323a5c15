//! Payload that the application does not take, where it keeps the peer from sending.
//!
//! Of what a session holds all counts, also that of streams which have ended. So the stream that
//! goes in the end may be one of those: no reset is due then, but its payload is given up.

use spdy_frame::StreamId;

use super::ids::ById;

/// Payload of streams that are gone, of which the application has not consumed all. Each takes as
/// much as its bytes at least, or is a handle of the application.
#[derive(Debug, Default)]
pub(super) struct Untaken(ById<Rest>);

#[derive(Clone, Copy, Debug)]
struct Rest {
    bytes: usize,
    /// They count for nothing any more, though the application may still name them.
    is_given_up: bool,
}

impl Untaken {
    /// A stream is gone, with payload that is not consumed.
    pub(super) fn add(&mut self, id: StreamId, bytes: usize) {
        if bytes > 0 {
            let is_given_up = false;
            self.0.insert(id, Rest { bytes, is_given_up });
        }
    }

    /// The application is done with some. Returns whether they counted.
    pub(super) fn take(&mut self, id: StreamId, bytes: usize) -> bool {
        let Some(rest) = self.0.get_mut(&id) else {
            return true;
        };
        let counted = !rest.is_given_up;
        rest.bytes = rest.bytes.saturating_sub(bytes);
        if rest.bytes == 0 {
            self.0.remove(&id);
        }
        counted
    }

    /// The handles of a stream are dropped: of what was given up nothing more will be heard.
    pub(super) fn close(&mut self, id: StreamId) {
        if self.0.get(&id).is_some_and(|rest| rest.is_given_up) {
            self.0.remove(&id);
        }
    }

    /// Lets the payload of a stream count for nothing. Returns how much that was.
    pub(super) fn give_up(&mut self, id: StreamId) -> usize {
        match self.0.get_mut(&id) {
            Some(rest) if !rest.is_given_up => {
                rest.is_given_up = true;
                rest.bytes
            }
            _ => 0,
        }
    }

    /// Returns whether the payload of a stream was given up, and may still be named.
    #[cfg(feature = "tokio")]
    pub(super) fn is_given_up(&self, id: StreamId) -> bool {
        self.0.get(&id).is_some_and(|rest| rest.is_given_up)
    }

    /// Returns whether a stream has payload that counts.
    #[cfg(feature = "tokio")]
    pub(super) fn has(&self, id: StreamId) -> bool {
        self.0.get(&id).is_some_and(|rest| !rest.is_given_up)
    }

    /// The streams whose payload counts, and how much each has.
    pub(super) fn counted(&self) -> impl Iterator<Item = (StreamId, usize)> {
        let counted = self.0.iter().filter(|(_, rest)| !rest.is_given_up);
        counted.map(|(&id, rest)| (id, rest.bytes))
    }

    /// Frees the memory that nothing needs.
    pub(super) fn release(&mut self) {
        if self.0.is_empty() {
            self.0 = ById::default();
        }
    }
}
