//! GOAWAY: what was sent, what came, and the last stream that reached the application.

use std::mem;

use spdy_frame::StreamId;

/// How far both sides are in saying that they take no more streams (protocol.md §15).
#[derive(Debug, Default)]
pub(crate) struct GoAways {
    /// This side has said so, or need not.
    is_sent: bool,
    /// The peer has said so.
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

    /// A stream of the peer reaches the application.
    pub(crate) fn admitted(&mut self, id: StreamId) {
        self.last_good = Some(id);
    }

    /// Notes that GOAWAY is sent in order. Returns its last-good id, or `None` if one was sent
    /// already.
    pub(crate) fn send(&mut self) -> Option<Option<StreamId>> {
        (!mem::replace(&mut self.is_sent, true)).then_some(self.last_good)
    }

    /// Notes that GOAWAY is sent with an error. Returns its last-good id: the stream last received
    /// (protocol.md §12.1), but nothing above an earlier GOAWAY (§15).
    pub(crate) fn send_error(&mut self, last_received: Option<StreamId>) -> Option<StreamId> {
        match mem::replace(&mut self.is_sent, true) {
            true => self.last_good,
            false => last_received,
        }
    }

    /// Notes that the peer would not read a GOAWAY: it counts as sent.
    pub(crate) fn skip(&mut self) {
        self.is_sent = true;
    }

    /// Notes that one came. Returns whether it is the first.
    pub(crate) fn receive(&mut self) -> bool {
        !mem::replace(&mut self.is_received, true)
    }
}
