//! GOAWAY: the frames of both sides, and the last stream that reached the application.

use std::mem;

use spdy_frame::StreamId;

/// The GOAWAY frames that were sent and received (protocol.md §15).
#[derive(Debug, Default)]
pub(crate) struct GoAways {
    /// Whether this side has sent GOAWAY, or need not send it.
    is_sent: bool,
    /// Whether the peer has sent GOAWAY.
    is_received: bool,
    /// The highest stream of the peer that reached the application.
    last_good: Option<StreamId>,
}

impl GoAways {
    pub(crate) const fn is_sent(&self) -> bool {
        self.is_sent
    }

    pub(crate) const fn is_received(&self) -> bool {
        self.is_received
    }

    /// Notes that a stream of the peer reaches the application.
    pub(crate) fn admitted(&mut self, id: StreamId) {
        self.last_good = Some(id);
    }

    /// Notes that GOAWAY is sent for an orderly end. Returns its last-good id, or `None` if this
    /// side has sent GOAWAY already.
    pub(crate) fn send(&mut self) -> Option<Option<StreamId>> {
        (!mem::replace(&mut self.is_sent, true)).then_some(self.last_good)
    }

    /// Notes that GOAWAY is sent with an error. Returns its last-good id: the stream that was
    /// received last (protocol.md §12.1), but no higher id than an earlier GOAWAY had (§15).
    pub(crate) fn send_error(&mut self, last_received: Option<StreamId>) -> Option<StreamId> {
        match mem::replace(&mut self.is_sent, true) {
            true => self.last_good,
            false => last_received,
        }
    }

    /// Counts GOAWAY as sent, because the peer would not read it.
    pub(crate) fn skip(&mut self) {
        self.is_sent = true;
    }

    /// Notes that the peer sent GOAWAY. Returns whether it is the first.
    pub(crate) fn receive(&mut self) -> bool {
        !mem::replace(&mut self.is_received, true)
    }
}
