//! What can be asked of a connection.

#[cfg(feature = "tokio")]
use spdy_frame::StreamId;
use spdy_frame::{Side, Version, WindowTarget};

use super::{Connection, Phase};
use crate::{
    config::{Config, STREAM_RECORD},
    proto::{event::Outcome, streams::Stream, waits},
};

impl Connection {
    /// Whether the transport should be read now. It should not while the peer leaves replies
    /// unread, or while the application leaves bytes unread that no window bounds: this is the only
    /// back-pressure then.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        self.phase != Phase::Closing
            && !self.inbound.is_ended()
            && self.output.replies() < self.config.limits.max_queued_replies.max(1)
            && !self.is_overfull()
    }

    /// Returns how many bytes the connection holds: the peer's compression window, what was
    /// received and not consumed, what is ready to be written, and the records of streams, also of
    /// those that are gone and whose handles exist. What is queued to be sent is known where it is
    /// queued.
    #[must_use]
    pub fn memory(&self) -> usize {
        let records = self.streams.records() * STREAM_RECORD;
        let received = self.windows.recv().held() + self.streams.held_headers() + records;
        self.inbound.memory() + received + self.output.held()
    }

    /// Whether this side keeps the peer from sending payload: the transport is not read, or the
    /// session's receive window is used up, since the application has not taken what came. A peer
    /// that is silent then is not to blame.
    #[must_use]
    pub fn holds_up_peer(&self) -> bool {
        !self.inbound.is_ended() && (!self.wants_input() || self.windows.is_used_up())
    }

    /// How far the connection is on its way to its end.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Why the connection ended, or will: `Ok` for an orderly end.
    pub const fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// The negotiated version.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.role.version()
    }

    /// The role of this side.
    #[must_use]
    pub const fn side(&self) -> Side {
        self.role.side()
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether a stream is gone and has payload that counts and is not consumed. It may still be
    /// given up, which is an [`Event::Reset`](crate::proto::Event::Reset) of the stream.
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

    /// The windows of the session or of an open stream, as this side counts them: lost credit
    /// becomes visible here.
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

    // --- inside ----------------------------------------------------------------------------------

    /// Whether a stream has payload that a window does not let out, or an application that waits to
    /// make some.
    pub(super) fn is_waiting_for_window(&self, stream: &Stream) -> bool {
        stream.wait.is_blocked() || waits::is_stalled(stream, self.windows.is_open())
    }

    /// Whether unread bytes keep the peer from sending payload of any stream: the transport is not
    /// read for their sake, or they are all that the window of the session lets in.
    pub(super) fn is_unread_in_the_way(&self) -> bool {
        self.is_overfull() || (self.windows.is_all_unread() && !self.inbound.is_ended())
    }

    /// Whether unread bytes forbid reading the transport.
    pub(super) fn is_overfull(&self) -> bool {
        self.streams.is_overfull() || self.windows.is_overfull()
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
    /// Streams of the peer whose handles still exist, and which it reset, made fail, or closed
    /// before they were accepted. They count as open for its MAX_CONCURRENT_STREAMS.
    pub cancelled: usize,
    /// Bytes received and not consumed.
    pub unread: usize,
    /// Payload bytes queued and not yet handed to the transport.
    pub unsent: usize,
    /// The size of the header blocks held of open streams: those that opened them, and later ones
    /// that were not taken.
    pub held_headers: usize,
}

/// What [`Connection::windows`] gives. `receive`, `unread` and `returnable` together are always
/// `size`.
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
