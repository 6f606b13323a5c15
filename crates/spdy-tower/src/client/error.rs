//! The errors of requests over SPDY.

use std::fmt;

use spdy_frame::RstStatus;
use spdy_session::{Initiator, OpenError, SessionError, StreamError};

use crate::{
    BoxError,
    http::{InvalidRequest, InvalidResponse},
};

/// Why a request got no response.
///
/// [`is_retry_safe`](Self::is_retry_safe) returns whether it can be sent again, whatever its
/// method.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The request cannot be expressed in SPDY. Nothing was sent.
    Request(InvalidRequest),
    /// No stream could be opened. Nothing was sent. Another session may work.
    NotSent(OpenError),
    /// The stream ended before the response arrived. The cause distinguishes a request that was
    /// [not processed](StreamError::NotProcessed), a reset by the server, a timeout, and the end of
    /// the session.
    Stream(StreamError),
    /// The body of the request returned an error. The stream was reset with CANCEL.
    Body(BoxError),
    /// The head of the response is not HTTP. The stream was reset with PROTOCOL_ERROR.
    Response(InvalidResponse),
}

impl Error {
    /// Returns whether the server has certainly not acted on the request.
    #[must_use]
    pub const fn is_retry_safe(&self) -> bool {
        match self {
            Self::NotSent(_) => true,
            Self::Stream(error) => error.is_retry_safe(),
            _ => false,
        }
    }

    /// Returns the status with which the server has reset the stream, if it has. REFUSED_STREAM is
    /// not included: see [`StreamError::NotProcessed`].
    #[must_use]
    pub const fn reset_by_peer(&self) -> Option<RstStatus> {
        match self {
            Self::Stream(StreamError::Reset {
                status,
                initiator: Initiator::Remote,
            }) => Some(*status),
            _ => None,
        }
    }

    /// Returns whether a timeout of the session ran out.
    #[must_use]
    pub const fn is_timeout(&self) -> bool {
        match self {
            Self::Stream(error) => is_timeout(error),
            Self::NotSent(error) => matches!(error, OpenError::Session(SessionError::TimedOut(_))),
            Self::Request(_) | Self::Body(_) | Self::Response(_) => false,
        }
    }

    /// Returns whether there was no session on which to send the request:
    /// [`NotSent`](Self::NotSent).
    #[must_use]
    pub const fn is_connect(&self) -> bool {
        matches!(self, Self::NotSent(_))
    }

    /// Returns whether the server ended the request: with RST_STREAM, or with GOAWAY.
    #[must_use]
    pub const fn is_remote(&self) -> bool {
        match self {
            Self::Stream(error) => is_remote(error),
            Self::NotSent(error) => {
                matches!(error, OpenError::Session(SessionError::GoAway { .. }))
            }
            Self::Request(_) | Self::Body(_) | Self::Response(_) => false,
        }
    }
}

/// Returns whether a timeout of the stream or of its session ran out.
pub(crate) const fn is_timeout(error: &StreamError) -> bool {
    matches!(
        error,
        StreamError::TimedOut(_) | StreamError::Session(SessionError::TimedOut(_))
    )
}

/// Returns whether the peer ended the stream: with RST_STREAM, or with GOAWAY.
pub(crate) const fn is_remote(error: &StreamError) -> bool {
    matches!(
        error,
        StreamError::NotProcessed
            | StreamError::Reset {
                initiator: Initiator::Remote,
                ..
            }
            | StreamError::Session(SessionError::GoAway { .. })
    )
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Encode(_) => Self::Request(InvalidRequest::HeadTooLong),
            error => Self::NotSent(error),
        }
    }
}

impl From<StreamError> for Error {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(reason) => write!(f, "invalid request: {reason}"),
            Self::NotSent(_) => f.write_str("request was not sent"),
            Self::Stream(_) => f.write_str("request got no response"),
            Self::Body(_) => f.write_str("request body failed"),
            Self::Response(reason) => write!(f, "invalid response: {reason}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotSent(error) => Some(error),
            Self::Stream(error) => Some(error),
            Self::Body(error) => Some(&**error),
            Self::Request(_) | Self::Response(_) => None,
        }
    }
}
