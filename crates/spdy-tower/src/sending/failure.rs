//! The failures that end an exchange before its response is complete.

use std::{any::Any, fmt};

use http::StatusCode;
use spdy_frame::RstStatus;
use spdy_session::StreamError;

use crate::body::Fault;

/// The error of a service or a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why an exchange ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The client has reset the stream, or the session has ended.
    Gone(StreamError),
    /// The body of the request differs from what its head announces, or does not arrive.
    Fault(Fault),
    /// The application panicked. Contains the payload of the panic.
    Panic(Box<dyn Any + Send>),
    /// The application or the body of its response returned an error.
    Application(BoxError),
    /// SPDY cannot carry the response.
    Response(Unsendable),
}

impl Failure {
    pub(crate) fn application(error: impl Into<BoxError>) -> Self {
        Self::Application(error.into())
    }

    /// Returns two statuses: of the response that reports the failure if none was sent, and of
    /// RST_STREAM otherwise. Returns `None` if the client is gone.
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

/// What SPDY cannot carry.
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
