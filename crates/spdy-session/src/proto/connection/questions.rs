//! Questions about a connection, which change nothing.

#[cfg(feature = "tokio")]
use std::sync::Arc;

#[cfg(feature = "tokio")]
use spdy_frame::StreamId;
use spdy_frame::{Side, Version, WindowTarget};

use super::{Connection, Phase};
use crate::{
    config::{Config, STREAM_RECORD},
    proto::{event::Outcome, streams::Stream, waits},
};

impl Connection {
    /// Returns whether the transport should be read now.
    ///
    /// It should not be read while the peer leaves too many replies unread, or while the
    /// application leaves too many bytes unread that no window limits. In these cases a pause of
    /// reading is the only back-pressure.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        self.phase != Phase::Closing
            && !self.inbound.is_ended()
            && self.output.replies() < self.config.limits.max_queued_replies
            && !self.is_overfull()
    }

    /// Returns how much memory the connection holds, in bytes: the peer's compression window,
    /// received bytes that are not consumed, bytes that are ready to be written, and the records of
    /// streams, including those that are gone but have handles. Payload that is queued to be sent
    /// does not count.
    #[must_use]
    pub fn memory(&self) -> usize {
        let records = self.streams.records() * STREAM_RECORD;
        let received = self.windows.recv().held() + self.streams.held_headers() + records;
        self.inbound.memory() + received + self.output.held()
    }

    /// Returns whether this side keeps the peer from sending payload, because the application has
    /// not consumed what came: the transport is not read, or the session's receive window has no
    /// room to go on. Meanwhile the silence of a peer proves nothing.
    #[must_use]
    pub fn holds_up_peer(&self) -> bool {
        !self.inbound.is_ended() && (!self.wants_input() || self.windows.holds_up_peer())
    }

    /// Returns how close the connection is to its end.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Returns why the connection ended or will end: `Ok` for an orderly end.
    pub const fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Returns whether the transport takes no more bytes.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_broken(&self) -> bool {
        self.output.is_broken()
    }

    /// Returns how many received bytes are not consumed.
    #[cfg(feature = "tokio")]
    pub(crate) fn unread(&self) -> usize {
        self.windows.recv().held()
    }

    /// Returns whether the session was ended before its streams had.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_cut(&self) -> bool {
        self.clock.is_cut()
    }

    /// Returns whether the transport holds the end of a stream that was reported as written.
    #[cfg(feature = "tokio")]
    pub(crate) const fn holds_end(&self) -> bool {
        self.held.has_end()
    }

    /// Returns whether an end was reported as written since the transport last held nothing.
    #[cfg(feature = "tokio")]
    pub(crate) const fn has_taken_end(&self) -> bool {
        self.held.has_taken_end()
    }

    /// Returns the negotiated version.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.role.version()
    }

    /// Returns the role of this side.
    #[must_use]
    pub const fn side(&self) -> Side {
        self.role.side()
    }

    /// Returns the configuration, with each value in its range.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the configuration for what belongs to the same session.
    #[cfg(feature = "tokio")]
    pub(crate) fn shared_config(&self) -> Arc<Config> {
        Arc::clone(&self.config)
    }

    /// Returns whether a stream is gone but has payload that is not consumed. The session may still
    /// give this payload up, with an [`Event::Reset`](crate::proto::Event::Reset) of the stream.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_untaken(&self, id: StreamId) -> bool {
        self.streams.is_untaken(id)
    }

    /// Returns counts of everything that is alive. A leak becomes visible here.
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

    /// Returns the windows of the session or of an open stream, as this side counts them. Lost
    /// credit becomes visible here.
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
            receive: receive.bytes(),
            unread: receive.held(),
            returnable: receive.returnable(),
        })
    }

    // --- inside ----------------------------------------------------------------------------------

    /// Returns whether a stream has payload that a window does not let out, or an application that
    /// waits for a window before it sends more.
    pub(super) fn is_waiting_for_window(&self, stream: &Stream) -> bool {
        stream.wait.is_blocked() || waits::is_stalled(stream, self.windows.is_open())
    }

    /// Returns whether unread bytes keep the peer from going on with payload on any stream: they
    /// stop the reading of the transport, or they leave no room in the window of the session.
    pub(super) fn is_unread_in_the_way(&self) -> bool {
        self.is_overfull() || (self.windows.lacks_room() && !self.inbound.is_ended())
    }

    /// Returns whether unread bytes stop the reading of the transport.
    pub(super) fn is_overfull(&self) -> bool {
        self.streams.is_overfull() || self.windows.is_overfull()
    }
}

/// The counts of everything that is alive in a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Streams that this side opened and that are not closed.
    pub local_streams: usize,
    /// Streams that the peer opened and that are not closed.
    pub remote_streams: usize,
    /// Streams of the peer that the application has not accepted.
    pub backlog: usize,
    /// Streams of the peer that it reset, made fail, or closed before they were accepted, and whose
    /// handles still exist. They count towards its MAX_CONCURRENT_STREAMS.
    pub cancelled: usize,
    /// Received bytes that are not consumed.
    pub unread: usize,
    /// Payload bytes that are queued and not ready to be written.
    pub unsent: usize,
    /// The size of the header blocks that are held for open streams: the blocks that opened them,
    /// and later blocks that the application has not taken.
    pub held_headers: usize,
}

/// The result of [`Connection::windows`]. `receive`, `unread` and `returnable` together always
/// equal `size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Windows {
    /// The size of the receive window: the configured size, or what it has grown to.
    pub size: u32,
    /// How many bytes this side may send. Negative if the peer has made its window smaller.
    pub send: i64,
    /// How many bytes the peer may send.
    pub receive: i64,
    /// How many bytes the peer has sent and the application has not consumed.
    pub unread: usize,
    /// How many bytes were consumed and are not granted again.
    pub returnable: u32,
}
