//! How an exchange ends without the response it was meant to have.

use std::{any::Any, fmt};

use http::StatusCode;
use spdy_frame::RstStatus;
use spdy_session::StreamError;

use crate::body::Fault;

/// What a service or a body may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why an exchange ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The client has given the stream up, or the session has ended.
    Gone(StreamError),
    /// The body of the request is not what its head announces, or does not come.
    Fault(Fault),
    /// The application panicked, with this.
    Panic(Box<dyn Any + Send>),
    /// The application, or the body of its response, gave an error.
    Application(BoxError),
    /// The response cannot be sent over SPDY.
    Response(Unsendable),
}

impl Failure {
    pub(crate) fn application(error: impl Into<BoxError>) -> Self {
        Self::Application(error.into())
    }

    /// Returns the status of the response that reports the failure, if none was sent yet, and that
    /// of RST_STREAM otherwise; `None` if the client is gone.
    pub(crate) const fn told(&self) -> Option<(StatusCode, RstStatus)> {
        match self {
            Self::Gone(_) => None,
            Self::Fault(Fault::Malformed) => {
                Some((StatusCode::BAD_REQUEST, RstStatus::PROTOCOL_ERROR))
            }
            Self::Fault(Fault::Silent) => Some((StatusCode::REQUEST_TIMEOUT, RstStatus::CANCEL)),
            Self::Panic(_) | Self::Application(_) | Self::Response(_) => {
                Some((StatusCode::INTERNAL_SERVER_ERROR, RstStatus::INTERNAL_ERROR))
            }
        }
    }
}

/// What the application gave that cannot be sent over SPDY.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unsendable {
    Informational,
    Length,
    Field,
    Trailer,
}

impl fmt::Display for Unsendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Informational => "response has an informational status",
            Self::Length => "response body length does not match content-length",
            Self::Field => "response header field is longer than 65535 bytes",
            Self::Trailer => "trailer is longer than 65535 bytes",
        })
    }
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        Self::Gone(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(error) => error.fmt(f),
            Self::Fault(Fault::Malformed) => f.write_str("request body does not match its head"),
            Self::Fault(Fault::Silent) => f.write_str("request body timed out"),
            Self::Panic(_) => f.write_str("application panicked"),
            Self::Application(error) => write!(f, "application failed: {error}"),
            Self::Response(reason) => reason.fmt(f),
        }
    }
}
