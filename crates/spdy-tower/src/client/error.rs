//! Why there is no response.

use std::fmt;

use spdy_frame::RstStatus;
use spdy_session::{OpenError, Origin, SessionError, StreamError};

use crate::BoxError;

/// Why a request got no response.
///
/// [`is_retry_safe`](Self::is_retry_safe) says whether it may be sent again whatever its method.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The request cannot be written as SPDY: nothing was sent.
    Request(&'static str),
    /// No stream could be opened: nothing was sent. Another session may do.
    NotSent(OpenError),
    /// The stream ended before the response came. The cause tells a request that was
    /// [not processed](StreamError::NotProcessed) from one that the server reset, from a timeout, and from the end of
    /// the session.
    Stream(StreamError),
    /// The body of the request gave an error. The stream was reset with CANCEL.
    Body(BoxError),
    /// The head of the response is not HTTP. The stream was reset with PROTOCOL_ERROR.
    Response(&'static str),
}

impl Error {
    /// Whether the server has certainly not acted on the request.
    #[must_use]
    pub const fn is_retry_safe(&self) -> bool {
        match self {
            Self::NotSent(_) => true,
            Self::Stream(error) => error.is_retry_safe(),
            _ => false,
        }
    }

    /// The status with which the server has reset the stream; `None` if it was not so. REFUSED_STREAM is not among
    /// them: that is [`StreamError::NotProcessed`].
    #[must_use]
    pub const fn reset_by_peer(&self) -> Option<RstStatus> {
        match self {
            Self::Stream(StreamError::Reset {
                status,
                origin: Origin::Remote,
            }) => Some(*status),
            _ => None,
        }
    }

    /// Whether a timeout of the session ran out.
    #[must_use]
    pub const fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::Stream(
                StreamError::TimedOut(_) | StreamError::Session(SessionError::TimedOut(_))
            ) | Self::NotSent(OpenError::Session(SessionError::TimedOut(_)))
        )
    }
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Encode(_) => Self::Request("request head is longer than a frame"),
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
            Self::Request(reason) => write!(f, "request cannot be sent: {reason}"),
            Self::NotSent(_) => f.write_str("request was not sent"),
            Self::Stream(_) => f.write_str("request got no response"),
            Self::Body(_) => f.write_str("request body failed"),
            Self::Response(reason) => write!(f, "response is malformed: {reason}"),
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
