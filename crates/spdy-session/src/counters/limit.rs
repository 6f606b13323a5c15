//! The limits and timeouts that are counted when they end something.

use crate::Timeout;

macro_rules! limits {
    ($($(#[$doc:meta])* $limit:ident => $name:literal,)*) => {
        /// A limit or a timeout that was reached, and ended a stream or a session.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Limit {
            $($(#[$doc])* $limit,)*
        }

        impl Limit {
            /// All limits and timeouts.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$limit),*];

            /// Returns the name of the field of [`Limits`](crate::Limits) or
            /// [`Timeouts`](crate::Timeouts).
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$limit => $name,)*
                }
            }
        }
    };
}

limits! {
    /// [`Limits::max_streams`](crate::Limits::max_streams): a stream of the peer was refused.
    MaxStreams => "max_streams",
    /// [`Limits::max_backlog`](crate::Limits::max_backlog): a stream of the peer was refused.
    MaxBacklog => "max_backlog",
    /// [`Limits::stream_window`](field@crate::Limits::stream_window): a stream was reset.
    StreamWindow => "stream_window",
    /// [`Limits::session_window`](field@crate::Limits::session_window): the session ended.
    SessionWindow => "session_window",
    /// The soft limits of [`Limits::headers`](crate::Limits::headers), `max_size` and `max_fields`:
    /// a stream was reset, or delivered with the fields that fitted.
    Headers => "headers",
    /// The hard limit of [`Limits::headers`](crate::Limits::headers): the session ended.
    HeadersMaxInflated => "headers.max_inflated",
    /// [`Limits::max_control_frame`](crate::Limits::max_control_frame): the session ended.
    MaxControlFrame => "max_control_frame",
    /// [`Limits::held_headers`](crate::Limits::held_headers): a stream was refused or reset.
    HeldHeaders => "held_headers",
    /// [`Limits::discard`](crate::Limits::discard): a stream was reset.
    Discard => "discard",
    /// [`Limits::peer_resets`](crate::Limits::peer_resets): the session ended.
    PeerResets => "peer_resets",
    /// [`Limits::local_resets`](crate::Limits::local_resets): the session ended.
    LocalResets => "local_resets",
    /// [`Limits::settings`](crate::Limits::settings): the session ended.
    Settings => "settings",
    /// [`Limits::pings`](crate::Limits::pings): the session ended.
    Pings => "pings",
    /// [`Limits::empty_frames`](crate::Limits::empty_frames): the session ended.
    EmptyFrames => "empty_frames",
    /// [`Limits::idle_frames`](crate::Limits::idle_frames): the session ended.
    IdleFrames => "idle_frames",
    /// [`Timeouts::first_frame`](crate::Timeouts::first_frame): the session ended.
    FirstFrame => "first_frame",
    /// [`Timeouts::frame`](crate::Timeouts::frame): the session ended.
    Frame => "frame",
    /// [`Timeouts::idle`](crate::Timeouts::idle): the session ended in order.
    Idle => "idle",
    /// [`Timeouts::write`](crate::Timeouts::write): the session ended.
    Write => "write",
    /// [`Timeouts::blocked`](crate::Timeouts::blocked): a stream was reset.
    Blocked => "blocked",
    /// [`Timeouts::unread`](crate::Timeouts::unread): a stream was reset.
    Unread => "unread",
    /// The deadline of a graceful [`Shutdown`](crate::Shutdown): the session ended.
    Drain => "drain",
    /// [`Timeouts::keep_alive_reply`](crate::Timeouts::keep_alive_reply): the session ended.
    KeepAliveReply => "keep_alive_reply",
}

impl From<Timeout> for Limit {
    fn from(timeout: Timeout) -> Self {
        match timeout {
            Timeout::FirstFrame => Self::FirstFrame,
            Timeout::Frame => Self::Frame,
            Timeout::Idle => Self::Idle,
            Timeout::Write => Self::Write,
            Timeout::Blocked => Self::Blocked,
            Timeout::Unread => Self::Unread,
            Timeout::Drain => Self::Drain,
            Timeout::KeepAlive => Self::KeepAliveReply,
        }
    }
}
