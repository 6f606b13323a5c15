//! Why a stream or a session ended. The types tell an application whether it can try again.

use std::{fmt, io, sync::Arc};

use spdy_frame::{EncodeError, FrameError, GoAwayStatus, HeaderError, RstStatus, StreamId};

use crate::{Rule, Timeout, proto::ForeignProtocol};

/// The side that ended a stream early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initiator {
    /// The application on this side.
    Local,
    /// This crate, because the peer broke a rule or exceeded a limit.
    Library {
        /// The rule or limit.
        rule: Rule,
    },
    /// The peer.
    Remote,
}

/// Why a session ended early. The outcome of streams that were open is unknown, unless their own
/// error tells it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SessionError {
    /// The transport failed.
    Io(Arc<io::Error>),
    /// The peer closed the transport while streams were open.
    ConnectionLost,
    /// The peer does not speak SPDY, as its first bytes show.
    Foreign(ForeignProtocol),
    /// The peer sent a frame that cannot be accepted.
    Frame(FrameError),
    /// The peer sent a header block that broke the compression context.
    Headers(HeaderError),
    /// The peer broke a rule, and this side sent GOAWAY.
    Violation {
        /// The status in the GOAWAY of this side.
        status: GoAwayStatus,
        /// The rule.
        rule: Rule,
    },
    /// The peer ended the session with an error.
    GoAway {
        /// The highest stream of this side that the peer may have acted on.
        last_good: Option<StreamId>,
        /// The peer's reason.
        status: GoAwayStatus,
    },
    /// A timeout ran out.
    TimedOut(Timeout),
    /// This side shut the session down, or dropped its driver.
    Closed,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(_) => f.write_str("transport failed"),
            Self::ConnectionLost => {
                f.write_str("peer closed the transport while streams were open")
            }
            Self::Foreign(protocol) => write!(f, "peer speaks {protocol} and not SPDY"),
            Self::Frame(_) => f.write_str("peer sent a frame that cannot be accepted"),
            Self::Headers(_) => f.write_str("peer sent a header block that cannot be accepted"),
            Self::Violation { status, rule } => {
                write!(f, "session ended with {status}: {rule}")
            }
            Self::GoAway { status, .. } => write!(f, "peer ended the session with {status}"),
            Self::TimedOut(timeout) => timeout.fmt(f),
            Self::Closed => f.write_str("session was closed on this side"),
        }
    }
}

impl std::error::Error for SessionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(&**error),
            Self::Frame(error) => Some(error),
            Self::Headers(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for SessionError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

/// Why an operation on a stream failed. The stream keeps its first fatal error, and every later
/// operation returns it again.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StreamError {
    /// The peer did not process the stream: it refused the stream, or its GOAWAY names a lower one.
    /// A retry is safe.
    NotProcessed,
    /// The stream was reset.
    Reset {
        /// The status in RST_STREAM.
        status: RstStatus,
        /// The side that reset the stream.
        initiator: Initiator,
    },
    /// The stream was reset because a timeout ran out.
    TimedOut(Timeout),
    /// This side has already finished the stream, so it can send nothing more.
    Finished,
    /// This version of the protocol cannot express the frame.
    Encode(EncodeError),
    /// The session ended. The outcome of the stream is unknown.
    Session(SessionError),
}

impl StreamError {
    /// Returns whether the peer has certainly not acted on the stream.
    #[must_use]
    pub const fn is_retry_safe(&self) -> bool {
        matches!(self, Self::NotProcessed)
    }

    /// Returns the error of a stream that the peer reset.
    pub(crate) fn from_peer(status: RstStatus) -> Self {
        if status == RstStatus::REFUSED_STREAM {
            Self::NotProcessed
        } else {
            Self::Reset {
                status,
                initiator: Initiator::Remote,
            }
        }
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotProcessed => f.write_str("peer did not process the stream"),
            Self::Reset {
                status,
                initiator: Initiator::Remote,
            } => {
                write!(f, "peer reset the stream with {status}")
            }
            Self::Reset {
                status,
                initiator: Initiator::Local,
            } => {
                write!(f, "stream was reset on this side with {status}")
            }
            Self::Reset {
                status,
                initiator: Initiator::Library { rule },
            } => {
                write!(f, "stream was reset with {status}: {rule}")
            }
            Self::TimedOut(timeout) => timeout.fmt(f),
            Self::Finished => f.write_str("this side has finished the stream"),
            Self::Encode(_) => f.write_str("frame cannot be written"),
            Self::Session(_) => f.write_str("session ended, outcome unknown"),
        }
    }
}

impl std::error::Error for StreamError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Encode(error) => Some(error),
            Self::Session(error) => Some(error),
            _ => None,
        }
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match &error {
            StreamError::NotProcessed => io::ErrorKind::ConnectionRefused,
            StreamError::Reset { .. } => io::ErrorKind::ConnectionReset,
            StreamError::TimedOut(_) => io::ErrorKind::TimedOut,
            StreamError::Finished => io::ErrorKind::BrokenPipe,
            StreamError::Encode(_) => io::ErrorKind::InvalidInput,
            StreamError::Session(_) => io::ErrorKind::ConnectionAborted,
        };
        Self::new(kind, error)
    }
}

/// Why a stream could not be opened. Nothing was sent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The streams of this side reach the peer's MAX_CONCURRENT_STREAMS. The async `open` waits
    /// instead of returning this error.
    TooManyStreams,
    /// This side has used all its 2^30 stream ids. Open a new session.
    IdsExhausted,
    /// One of the sides has sent GOAWAY. Open a new session.
    GoingAway,
    /// The stream that the push belongs to is not open, or this side has finished it.
    NoAssociatedStream,
    /// This version of the protocol cannot express the header block.
    Encode(EncodeError),
    /// The session has ended.
    Session(SessionError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooManyStreams => "peer accepts no more streams at once",
            Self::IdsExhausted => "all stream ids of this session are used",
            Self::GoingAway => "session takes no new streams after GOAWAY",
            Self::NoAssociatedStream => "stream that the push belongs to is not open",
            Self::Encode(_) => "header block cannot be written",
            Self::Session(_) => "session has ended",
        })
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Encode(error) => Some(error),
            Self::Session(error) => Some(error),
            _ => None,
        }
    }
}
