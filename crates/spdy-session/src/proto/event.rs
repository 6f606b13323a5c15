//! What the peer did, as the application gets to know it.

use std::{fmt, time::Duration};

use bytes::Bytes;
use spdy_frame::{GoAwayStatus, HeaderBlock, Priority, Settings, StreamId};

use crate::{SessionError, StreamError};

/// One thing that happened. A frame becomes at most one event; `fin` travels inside it.
#[non_exhaustive]
pub enum Event {
    /// The peer opened a stream. It counts as waiting until [`accept`](super::Connection::accept).
    Opened(Opened),
    /// The peer answered a stream of ours.
    Replied {
        /// The stream.
        id: StreamId,
        /// The header block of its SYN_REPLY.
        headers: HeaderBlock,
        /// The peer sends nothing more on it.
        fin: bool,
    },
    /// More header fields came: trailers when `fin` is set. They are held until
    /// [`consume_headers`](super::Connection::consume_headers) names them.
    Headers {
        /// The stream.
        id: StreamId,
        /// The header block.
        headers: HeaderBlock,
        /// The peer sends nothing more on the stream.
        fin: bool,
    },
    /// Payload came. Its bytes are owed until [`consume`](super::Connection::consume) names them, also when the
    /// stream is gone.
    Data {
        /// The stream.
        id: StreamId,
        /// The bytes.
        payload: Bytes,
        /// The peer sends nothing more on the stream.
        fin: bool,
    },
    /// Bytes of a stream left its send queue for the transport.
    Sent {
        /// The stream.
        id: StreamId,
        /// How many payload bytes.
        bytes: usize,
        /// Whether FIN is among them: nothing of the stream is queued any more.
        fin: bool,
        /// What the window of the stream lets out then, in bytes; `usize::MAX` where streams have no window.
        window: usize,
    },
    /// The window of a stream is open, after [`await_window`](super::Connection::await_window), or another than before,
    /// after [`await_grant`](super::Connection::await_grant).
    WindowOpen {
        /// The stream.
        id: StreamId,
        /// What the window lets out, in bytes; `usize::MAX` where streams have no window.
        window: usize,
    },
    /// The stream has ended abnormally. Nothing more comes of it.
    ///
    /// With [`Timeout::Unread`](crate::Timeout::Unread) the stream may have ended before, in order or not: the
    /// application has not taken what came. That is to be dropped, and what becomes of it counts for nothing any more.
    Reset {
        /// The stream.
        id: StreamId,
        /// Why.
        error: StreamError,
    },
    /// Our PING was answered.
    Pong {
        /// What [`ping`](super::Connection::ping) gave.
        id: PingId,
        /// How long it took.
        rtt: Duration,
    },
    /// The peer sent SETTINGS, given as they came: with ids that nobody knows, and with the flags that ask for a value
    /// to be kept. What concerns the session is applied already; nothing is ever kept or echoed by it
    /// (protocol.md §14).
    Settings(Settings),
    /// The peer sent GOAWAY: it takes no more streams of ours. Streams above `last_good` get
    /// [`Event::Reset`] of their own.
    GoAway {
        /// The highest of our streams it may have acted on.
        last_good: Option<StreamId>,
        /// Why.
        status: GoAwayStatus,
    },
}

/// Shows everything but payload, of which it tells the length.
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
    /// The peer sends nothing more on it.
    pub fin: bool,
    /// How urgent the peer says it is.
    pub priority: Priority,
    /// The stream that it belongs to; pushes have one.
    pub associated: Option<StreamId>,
    /// Nothing may be answered.
    pub unidirectional: bool,
}

/// The id of a PING of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PingId(pub(crate) u32);

/// Why the machine stopped: an orderly end, or the error.
pub(crate) type Outcome = Result<(), SessionError>;
