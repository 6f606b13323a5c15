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
/// [`is_retry_safe`](Self::is_retry_safe) returns whether the server has certainly not acted on it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The request cannot be expressed in SPDY. Nothing was sent, except before
    /// [`InvalidRequest::TrailerTooLong`].
    Request(InvalidRequest),
    /// No stream could be opened. Nothing was sent. Another session may work.
    NotSent(OpenError),
    /// The stream ended before the response arrived. The cause distinguishes a request that was
    /// [not processed](StreamError::NotProcessed), a reset by the server, a timeout, and the end of
    /// the session.
    Stream(StreamError),
    /// The body of the request returned an error, or has another length than `content-length`. The
    /// stream was reset with CANCEL, unless the body was empty: then nothing was sent.
    Body(BoxError),
    /// The head of the response is not HTTP. The stream was reset with PROTOCOL_ERROR.
    Response(InvalidResponse),
}

impl Error {
    /// Returns whether the server has certainly not acted on the request, so that it can be sent
    /// again, whatever its method: nothing of it was sent, or the server reports that it was not
    /// processed. `false` if that is unknown.
    ///
    /// This includes a request that [cannot be sent](Self::Request), which fails again unless it is
    /// changed.
    #[must_use]
    pub const fn is_retry_safe(&self) -> bool {
        match self {
            Self::NotSent(_) => true,
            Self::Request(reason) => !matches!(reason, InvalidRequest::TrailerTooLong),
            Self::Stream(error) => error.is_retry_safe(),
            Self::Body(_) | Self::Response(_) => false,
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

#[cfg(test)]
mod tests {
    use spdy_frame::GoAwayStatus;
    use spdy_session::Timeout;

    use super::*;
    use crate::BodyError;

    fn goaway() -> SessionError {
        SessionError::GoAway {
            last_good: None,
            status: GoAwayStatus::OK,
        }
    }

    fn reset(initiator: Initiator) -> StreamError {
        StreamError::Reset {
            status: RstStatus::CANCEL,
            initiator,
        }
    }

    /// Streams that ended, and whether a timeout ran out, and whether the peer ended them.
    fn ends() -> [(StreamError, bool, bool); 8] {
        let timed_out = SessionError::TimedOut(Timeout::Write);
        [
            (StreamError::NotProcessed, false, true),
            (StreamError::Finished, false, false),
            (reset(Initiator::Remote), false, true),
            (reset(Initiator::Local), false, false),
            (StreamError::TimedOut(Timeout::Blocked), true, false),
            (StreamError::Session(timed_out), true, false),
            (StreamError::Session(goaway()), false, true),
            (StreamError::Session(SessionError::Closed), false, false),
        ]
    }

    #[test]
    fn the_end_of_a_stream_says_whether_it_was_a_timeout_or_the_peer() {
        for (end, is_timeout, is_remote) in ends() {
            let body = BodyError::Stream(end.clone());
            assert_eq!(body.is_timeout(), is_timeout, "{end:?}");
            assert_eq!(body.is_remote(), is_remote, "{end:?}");
            let is_unprocessed = matches!(end, StreamError::NotProcessed);
            let error = Error::Stream(end);
            assert_eq!(error.is_timeout(), is_timeout, "{error:?}");
            assert_eq!(error.is_remote(), is_remote, "{error:?}");
            assert_eq!(error.is_retry_safe(), is_unprocessed, "{error:?}");
            assert!(!error.is_connect(), "{error:?}");
        }
        assert!(BodyError::TimedOut.is_timeout() && !BodyError::TimedOut.is_remote());
        assert!(!BodyError::Trailers.is_timeout() && !BodyError::Trailers.is_remote());
    }

    #[test]
    fn a_request_without_a_stream_is_safe_to_retry() {
        let timed_out = SessionError::TimedOut(Timeout::Write);
        for (error, is_timeout, is_remote) in [
            (OpenError::TooManyStreams, false, false),
            (OpenError::Session(SessionError::Closed), false, false),
            (OpenError::Session(timed_out), true, false),
            (OpenError::Session(goaway()), false, true),
        ] {
            let error = Error::NotSent(error);
            assert!(error.is_retry_safe() && error.is_connect(), "{error:?}");
            assert_eq!(error.is_timeout(), is_timeout, "{error:?}");
            assert_eq!(error.is_remote(), is_remote, "{error:?}");
        }
    }

    #[test]
    fn a_request_of_which_something_was_sent_is_not_safe_to_retry() {
        for (error, is_unsent) in [
            (Error::Request(InvalidRequest::HostMissing), true),
            (Error::Request(InvalidRequest::HeadTooLong), true),
            (Error::Request(InvalidRequest::TrailerTooLong), false),
            (Error::Body("failed".into()), false),
            (Error::Response(InvalidResponse::Status), false),
        ] {
            assert_eq!(error.is_retry_safe(), is_unsent, "{error:?}");
            assert!(!error.is_connect() && !error.is_timeout(), "{error:?}");
            assert!(!error.is_remote(), "{error:?}");
        }
    }
}
