//! The timeouts that can end a stream or a session.

use std::fmt;

/// The timeout that ran out, one of [`Timeouts`](crate::Timeouts).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Timeout {
    /// [`first_frame`](crate::Timeouts::first_frame).
    FirstFrame,
    /// [`frame`](crate::Timeouts::frame).
    Frame,
    /// [`idle`](crate::Timeouts::idle). No error contains it, because an idle session ends in
    /// order.
    Idle,
    /// [`write`](crate::Timeouts::write).
    Write,
    /// [`blocked`](crate::Timeouts::blocked).
    Blocked,
    /// [`unread`](crate::Timeouts::unread).
    Unread,
    /// The deadline of a graceful shutdown.
    Drain,
    /// [`keep_alive_reply`](crate::Timeouts::keep_alive_reply).
    KeepAlive,
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FirstFrame => "no frame came in time",
            Self::Frame => "a frame was not completed in time",
            Self::Idle => "the session was idle for too long",
            Self::Write => "the peer did not read for too long",
            Self::Blocked => "the peer granted no window for too long",
            Self::Unread => "received bytes were not consumed for too long",
            Self::Drain => "streams did not finish before the deadline of the shutdown",
            Self::KeepAlive => "a keep-alive PING was not answered in time",
        })
    }
}
