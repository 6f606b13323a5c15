//! The events that the application receives: what the peer did.

use std::{fmt, time::Duration};

use bytes::Bytes;
use spdy_frame::{GoAwayStatus, HeaderBlock, Priority, Settings, StreamId};

use crate::{SessionError, StreamError};

/// One event. A frame causes at most one event of its stream; `fin` is part of it.
#[non_exhaustive]
pub enum Event {
    /// The peer opened a stream. It counts towards
    /// [`Limits::max_backlog`](crate::Limits::max_backlog) until
    /// [`accept`](super::Connection::accept) is called.
    Opened(Opened),
    /// The peer replied to a stream that this side opened.
    Replied {
        /// The stream.
        id: StreamId,
        /// The header block of its SYN_REPLY.
        headers: HeaderBlock,
        /// Whether this was the last frame of the peer on the stream.
        fin: bool,
    },
    /// The peer sent further header fields; they are trailers if `fin` is set. They count towards
    /// [`Limits::held_headers`](crate::Limits::held_headers) until
    /// [`consume_headers`](super::Connection::consume_headers) is called for them.
    Headers {
        /// The stream.
        id: StreamId,
        /// The header block.
        headers: HeaderBlock,
        /// Whether this was the last frame of the peer on the stream.
        fin: bool,
    },
    /// The peer sent payload. The application owes its bytes to the flow control windows until it
    /// calls [`consume`](super::Connection::consume) for them, even if the stream is gone.
    Data {
        /// The stream.
        id: StreamId,
        /// The bytes.
        payload: Bytes,
        /// Whether this was the last frame of the peer on the stream.
        fin: bool,
    },
    /// Bytes of a stream left its send queue for the transport.
    Sent {
        /// The stream.
        id: StreamId,
        /// The number of payload bytes.
        bytes: usize,
        /// Whether FIN is among them, so that nothing of the stream is queued any more.
        fin: bool,
        /// How many bytes the window of the stream lets out now; `usize::MAX` if streams have no
        /// window.
        window: usize,
    },
    /// After [`await_window`](super::Connection::await_window): the window of the stream is open.
    /// After [`await_grant`](super::Connection::await_grant): the window of the stream has changed.
    WindowOpen {
        /// The stream.
        id: StreamId,
        /// How many bytes the window lets out now; `usize::MAX` if streams have no window.
        window: usize,
    },
    /// The stream has ended early. No more events of it follow.
    ///
    /// With [`Timeout::Unread`](crate::Timeout::Unread) the stream may have ended before, in order
    /// or not, while the application had not taken all its payload. The application should drop
    /// this payload; it need not call `consume` for it.
    Reset {
        /// The stream.
        id: StreamId,
        /// The reason.
        error: StreamError,
    },
    /// The peer answered a PING of this side.
    Pong {
        /// The id that [`ping`](super::Connection::ping) returned.
        id: PingId,
        /// The time from the PING to its answer.
        rtt: Duration,
    },
    /// The peer sent SETTINGS. The event has all entries as they came, including unknown ids and
    /// the flags that ask this side to store a value. The session has already applied the values
    /// that concern it, and it never stores or echoes a value ([protocol.md §14]).
    ///
    /// [protocol.md §14]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#14-settings-semantics
    Settings(Settings),
    /// The peer sent GOAWAY, so it accepts no more streams. Each stream of this side above
    /// `last_good` also gets an [`Event::Reset`].
    GoAway {
        /// The highest stream of this side that the peer may have acted on.
        last_good: Option<StreamId>,
        /// The peer's reason.
        status: GoAwayStatus,
    },
}

/// Shows everything except payload, of which it shows the length.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_stream =
            |f: &mut fmt::Formatter<'_>, name, id, what, value: &dyn fmt::Debug, fin| {
                f.debug_struct(name)
                    .field("id", id)
                    .field(what, value)
                    .field("fin", fin)
                    .finish()
            };
        match self {
            Self::Opened(opened) => opened.fmt(f),
            Self::Replied { id, headers, fin } => {
                of_stream(f, "Replied", id, "headers", headers, fin)
            }
            Self::Headers { id, headers, fin } => {
                of_stream(f, "Headers", id, "headers", headers, fin)
            }
            Self::Data { id, payload, fin } => {
                of_stream(f, "Data", id, "bytes", &payload.len(), fin)
            }
            Self::Sent { id, bytes, fin, .. } => of_stream(f, "Sent", id, "bytes", bytes, fin),
            Self::WindowOpen { id, window } => f
                .debug_struct("WindowOpen")
                .field("id", id)
                .field("window", window)
                .finish(),
            Self::Reset { id, error } => f
                .debug_struct("Reset")
                .field("id", id)
                .field("error", error)
                .finish(),
            Self::Pong { id, rtt } => f
                .debug_struct("Pong")
                .field("id", id)
                .field("rtt", rtt)
                .finish(),
            Self::Settings(settings) => settings.fmt(f),
            Self::GoAway { last_good, status } => f
                .debug_struct("GoAway")
                .field("last_good", last_good)
                .field("status", status)
                .finish(),
        }
    }
}

/// A stream that the peer opened.
#[derive(Debug)]
pub struct Opened {
    /// The stream.
    pub id: StreamId,
    /// The header block of its SYN_STREAM.
    pub headers: HeaderBlock,
    /// Whether the peer finished the stream with this frame.
    pub fin: bool,
    /// The priority that the peer gave the stream.
    pub priority: Priority,
    /// The stream that this one belongs to. Every push has one.
    pub associated: Option<StreamId>,
    /// Whether the peer accepts no reply.
    pub unidirectional: bool,
}

/// The id of a PING that this side sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PingId(pub(crate) u32);

/// Why the machine stopped: `Ok` for an orderly end, or the error.
pub(crate) type Outcome = Result<(), SessionError>;
