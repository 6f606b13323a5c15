//! What can be seen of a connection: how much is alive, and the windows.

use spdy_frame::{Frame, StreamId, WindowTarget};

use super::Connection;
use crate::Count;

impl Connection {
    pub(super) fn count_received(&mut self, frame: &Frame) {
        match frame {
            // The frame counts with its last piece.
            Frame::Data(data) if data.remaining > 0 => return,
            Frame::RstStream(frame) => self.tally.one(Count::ResetsReceived(frame.status)),
            Frame::GoAway(frame) => self.tally.one(Count::GoAwaysReceived(frame.status)),
            _ => {}
        }
        self.tally.one(Count::FramesReceived(frame.kind()));
    }

    /// Whether a stream is gone and has payload that counts and is not consumed. It may still be given up, which is an
    /// [`Event::Reset`](crate::proto::Event::Reset) of the stream.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_untaken(&self, id: StreamId) -> bool {
        self.streams.is_untaken(id)
    }

    /// Counts of what is alive: leaks become visible here.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counts = self.streams.counts();
        Stats {
            local_streams: counts.local,
            remote_streams: counts.remote,
            backlog: counts.backlog,
            cancelled: self.streams.cancelled().len(),
            unread: self.windows.recv().held(),
            unsent: counts.unsent,
            held_headers: counts.held_headers,
        }
    }

    /// The windows of the session or of an open stream, as this side counts them: lost credit becomes visible here.
    #[must_use]
    pub fn windows(&self, target: WindowTarget) -> Option<Windows> {
        let stream = match target {
            WindowTarget::Session => None,
            WindowTarget::Stream(id) => Some(self.streams.peek(id)?),
        };
        let (send, receive) = self.windows.look(stream);
        Some(Windows {
            size: receive.size(),
            send,
            receive: receive.octets(),
            unread: receive.held(),
            returnable: receive.returnable(),
        })
    }
}

/// What is alive in a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Streams that this side opened and that are not closed.
    pub local_streams: usize,
    /// Streams that the peer opened and that are not closed.
    pub remote_streams: usize,
    /// Streams of the peer that wait to be accepted.
    pub backlog: usize,
    /// Streams of the peer whose handles still exist, and which it reset, made fail, or closed before they were
    /// accepted. They count as open for its MAX_CONCURRENT_STREAMS.
    pub cancelled: usize,
    /// Octets received and not consumed.
    pub unread: usize,
    /// Payload octets queued and not yet handed to the transport.
    pub unsent: usize,
    /// The size of the header blocks held of open streams: those that opened them, and later ones that were not taken.
    pub held_headers: usize,
}

/// What [`Connection::windows`] gives. `receive`, `unread` and `returnable` together are always `size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Windows {
    /// The receiving window: what was configured, or what it has grown to.
    pub size: u32,
    /// What this side may send. Negative when the peer has made its window smaller.
    pub send: i64,
    /// What the peer may send.
    pub receive: i64,
    /// What the peer has sent and nobody has consumed.
    pub unread: usize,
    /// What was consumed and is not granted again.
    pub returnable: u32,
}
