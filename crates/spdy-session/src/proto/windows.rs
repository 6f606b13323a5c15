//! Windows: those of the session, and what the windows of all streams have in common.

mod flow;
mod growth;

use spdy_frame::{DEFAULT_WINDOW, MAX_WINDOW, RstStatus, StreamId, WindowIncrement};

pub(crate) use self::flow::{Overflow, RecvWindow, SendWindow};
use self::growth::Growth;
use super::{error::Violation, role::Role, streams::Stream};
use crate::{Rule, config::Limits};

/// The windows of the session, and what the peer has announced about the windows of streams.
#[derive(Debug)]
pub(crate) struct SessionWindows {
    role: Role,
    send: SendWindow,
    recv: RecvWindow,
    /// The first credit, which enlarges the window from the protocol's size to the configured one.
    initial_credit: Option<WindowIncrement>,
    growth: Growth,
    /// Reading pauses at this number of unread bytes. It is `usize::MAX` if the session's window
    /// limits them.
    session_buffer: usize,
    /// In a large window, less room than this keeps the peer from going on.
    min_progress: usize,
    /// The initial size of the peer's windows for streams.
    initial: u32,
    /// The largest INITIAL_WINDOW_SIZE with which no stream's window exceeds 2^31-1.
    most_initial: i64,
    /// Whether the peer has granted window to the session.
    grants_session: bool,
    /// Whether the peer has granted window to a stream.
    grants_streams: bool,
}

/// How much of a piece of payload the windows let out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    pub(crate) size: usize,
    /// Whether the window of the session lets out less than that of the stream.
    pub(crate) is_cut: bool,
}

/// The peer enlarged a window, for which streams may wait.
#[derive(Clone, Copy, Debug)]
#[must_use = "streams may wait for it"]
pub(crate) struct Grown(());

/// The effect of a new INITIAL_WINDOW_SIZE on the streams.
#[derive(Clone, Copy, Debug)]
#[must_use = "streams may wait for it"]
pub(crate) struct Initial {
    /// Set if the window of every stream has grown.
    pub(crate) grown: Option<Grown>,
    /// Whether windows of streams may exceed 2^31-1 now.
    pub(crate) may_overflow: bool,
}

impl SessionWindows {
    pub(crate) fn new(role: Role, limits: &Limits) -> Self {
        let mut recv = RecvWindow::new(DEFAULT_WINDOW);
        let initial_credit = if role.has_session_window() {
            recv.enlarge_to(limits.session_window);
            recv.take_credit(1)
        } else {
            None
        };
        Self {
            role,
            send: SendWindow::default(),
            recv,
            initial_credit,
            growth: Growth::new(limits, role),
            session_buffer: if role.has_session_window() {
                usize::MAX
            } else {
                limits.session_buffer
            },
            min_progress: limits.min_progress,
            initial: DEFAULT_WINDOW,
            most_initial: i64::from(MAX_WINDOW),
            grants_session: false,
            grants_streams: false,
        }
    }

    // --- what the peer sends ---------------------------------------------------------------------

    /// Returns the window for what the peer sends.
    pub(crate) const fn recv(&self) -> &RecvWindow {
        &self.recv
    }

    /// Counts `bytes` of a DATA frame of which `announced` bytes are still to come, these included.
    #[inline]
    pub(crate) fn receive(&mut self, bytes: usize, announced: u64) -> Result<(), Violation> {
        if self.role.has_session_window() && !self.recv.allows(announced) {
            return Err(Violation::session(Rule::SessionWindow));
        }
        self.recv.receive(bytes);
        Ok(())
    }

    /// Counts `bytes` of payload that the application has consumed, or that this side drops.
    #[inline]
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.recv.consume(bytes);
    }

    /// Returns whether unread bytes stop the reading.
    #[inline]
    pub(crate) fn is_overfull(&self) -> bool {
        self.recv.held() >= self.session_buffer
    }

    /// Returns whether unread bytes leave the peer no room to go on.
    #[inline]
    pub(crate) fn lacks_room(&self) -> bool {
        let held = self.recv.held();
        // Most of the time little is held, and this is one comparison.
        held > self.recv.size() as usize / 2 && self.lacks_room_beside(held)
    }

    /// Returns whether this number of unread bytes leaves the peer no room to go on: less than
    /// [`Limits::min_progress`], and less than a sixteenth of the window. With a few bytes of room
    /// a peer sends a few bytes in each round trip, or nothing, because many senders wait for room
    /// for a whole frame.
    #[inline]
    pub(crate) fn lacks_room_beside(&self, unread: usize) -> bool {
        let size = self.recv.size() as usize;
        let least = self.min_progress.min(size / 16).max(1);
        self.role.has_session_window() && size.saturating_sub(unread) < least
    }

    /// Returns whether the window keeps the peer from going on with payload.
    pub(crate) fn holds_up_peer(&self) -> bool {
        self.role.has_session_window() && (self.recv.bytes() <= 0 || self.lacks_room())
    }

    /// Takes the first credit, which enlarges the window to its configured size. Only the first
    /// call returns it.
    pub(crate) fn take_initial_credit(&mut self) -> Option<WindowIncrement> {
        self.initial_credit.take()
    }

    /// Takes the credit of the session, if some is due.
    #[inline]
    pub(crate) fn take_due_credit(&mut self) -> Option<WindowIncrement> {
        if self.role.has_session_window() {
            self.recv.take_due_credit()
        } else {
            None
        }
    }

    /// Takes the credit of a stream whose turn has come.
    pub(crate) fn take_stream_credit(&self, stream: &mut Stream) -> Option<WindowIncrement> {
        stream.take_credit(self.growth.stream_window())
    }

    // --- what the peer grants --------------------------------------------------------------------

    /// Adds what the peer grants to the session.
    pub(crate) fn grow_session(&mut self, increment: WindowIncrement) -> Result<Grown, Violation> {
        let grown = self.send.grow(DEFAULT_WINDOW, increment);
        grown.map_err(|Overflow| Violation::session(Rule::SessionWindowOverflow))?;
        self.grants_session = true;
        Ok(Grown(()))
    }

    /// Notes that the peer grants windows to streams.
    pub(crate) fn note_stream_grant(&mut self) {
        self.grants_streams = true;
    }

    /// Adds what the peer grants to a stream.
    pub(crate) fn grow_stream(
        &mut self,
        stream: &mut Stream,
        increment: WindowIncrement,
    ) -> Result<Grown, Violation> {
        let grown = stream.grow_window(self.initial, increment);
        grown.map_err(|Overflow| overflow(stream.id()))?;
        self.most_initial = self.most_initial.min(stream.send_window().most_initial());
        Ok(Grown(()))
    }

    /// Sets the initial size of the peer's windows for streams. It applies to open streams too
    /// (protocol.md §13.2).
    pub(crate) fn set_initial(&mut self, initial: u32) -> Initial {
        let before = std::mem::replace(&mut self.initial, initial);
        Initial {
            grown: (initial > before).then_some(Grown(())),
            may_overflow: i64::from(initial) > self.most_initial,
        }
    }

    /// Returns the streams whose windows exceed 2^31-1 now. This looks at all streams, but makes
    /// `most_initial` exact again, so the next such look takes another stream that was granted more
    /// than it had sent.
    pub(crate) fn overflown<'a>(
        &mut self,
        streams: impl Iterator<Item = &'a Stream>,
    ) -> Vec<StreamId> {
        let mut overflown = Vec::new();
        self.most_initial = i64::from(MAX_WINDOW);
        for stream in streams.filter(|stream| !stream.is_sent()) {
            let most = stream.send_window().most_initial();
            if i64::from(self.initial) > most {
                overflown.push(stream.id());
            } else {
                self.most_initial = self.most_initial.min(most);
            }
        }
        overflown
    }

    /// Returns whether the peer seems to speak SPDY/3 while this session is SPDY/3.1: the session's
    /// window is used up and was never enlarged, although windows of streams were. In plain text
    /// the two versions look the same.
    pub(crate) fn is_taken_for_another_version(&self) -> bool {
        !self.is_open() && self.grants_streams && !self.grants_session
    }

    // --- what this side sends --------------------------------------------------------------------

    /// Returns whether the session's window lets payload out.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        !self.role.has_session_window() || self.send.available(DEFAULT_WINDOW) > 0
    }

    /// Returns what the window of a stream lets out, in bytes; `usize::MAX` where streams have no
    /// window.
    #[inline]
    pub(crate) fn available(&self, stream: &Stream) -> usize {
        if self.role.has_stream_windows() {
            stream.send_window().available(self.initial)
        } else {
            usize::MAX
        }
    }

    /// Returns how much of `length` bytes of a stream may go out.
    #[inline]
    pub(crate) fn allowance(&self, stream: &Stream, length: usize) -> Allowance {
        let wanted = length.min(self.available(stream));
        let size = if self.role.has_session_window() {
            wanted.min(self.send.available(DEFAULT_WINDOW))
        } else {
            wanted
        };
        let is_cut = size < wanted;
        Allowance { size, is_cut }
    }

    /// Takes bytes that are about to be sent out of both windows.
    #[inline]
    pub(crate) fn spend(&mut self, stream: &mut Stream, bytes: usize) {
        if self.role.has_session_window() {
            self.send.take(bytes);
        }
        if self.role.has_stream_windows() {
            stream.spend_window(bytes);
        }
    }

    /// Puts bytes that will not be sent back into the session's window.
    pub(crate) fn give_back(&mut self, bytes: usize) {
        if self.role.has_session_window() {
            self.send.give_back(bytes);
        }
    }

    /// Returns the windows as this side counts them: how much this side may send, and what the peer
    /// may send.
    pub(crate) fn look<'a>(&'a self, stream: Option<&'a Stream>) -> (i64, &'a RecvWindow) {
        match stream {
            None => (self.send.bytes(DEFAULT_WINDOW), &self.recv),
            Some(stream) => {
                let send = stream.send_window().bytes(self.initial);
                (send, stream.recv_window())
            }
        }
    }
}

/// The window of a stream would exceed its maximum.
pub(crate) fn overflow(id: StreamId) -> Violation {
    let (status, rule) = (RstStatus::FLOW_CONTROL_ERROR, Rule::StreamWindowOverflow);
    Violation::stream(id, status, rule)
}
