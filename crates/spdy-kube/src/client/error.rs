//! The errors of a client.

use std::{error::Error, fmt, io};

use bytes::Bytes;
use http::{Response, StatusCode};
use spdy_session::{OpenError, StreamError};
use spdy_tower::upgrade::ConnectError;

use crate::{Status, StatusError, printable::Printable};

/// Why there are no streams, or no outcome.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// The server refused to upgrade, or the transport failed before that. If the server was asked
    /// for two transports, this is its first refusal.
    Connect(ConnectError),
    /// The server chose no protocol, or one that was not offered, or answered another WebSocket
    /// key.
    Protocol,
    /// A stream was refused, or the session was lost.
    Stream(io::Error),
    /// The server did not answer a request within the time that
    /// [`Client::timeout`](super::Client::timeout) sets, or a stream within 30 s.
    NoAnswer,
    /// The outcome is malformed.
    Status(StatusError),
}

impl ClientError {
    /// Returns the HTTP status of the response, if the server refused the request.
    #[must_use]
    pub fn http_status(&self) -> Option<StatusCode> {
        self.refused().map(Response::status)
    }

    /// Returns the Status in the body of a refusal, if the body is one.
    #[must_use]
    pub fn refusal(&self) -> Option<Status> {
        Status::from_json(self.refused()?.body()).ok()
    }

    fn refused(&self) -> Option<&Response<Bytes>> {
        match self {
            Self::Connect(ConnectError::Refused(response)) => Some(response),
            _ => None,
        }
    }
}

impl From<ConnectError> for ClientError {
    fn from(error: ConnectError) -> Self {
        Self::Connect(error)
    }
}

impl From<StreamError> for ClientError {
    fn from(error: StreamError) -> Self {
        Self::Stream(error.into())
    }
}

impl From<OpenError> for ClientError {
    fn from(error: OpenError) -> Self {
        Self::Stream(io::Error::new(io::ErrorKind::ConnectionAborted, error))
    }
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::Stream(error)
    }
}

/// Control characters of the server's message are escaped.
impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The server's message is what the user needs.
            Self::Connect(ConnectError::Refused(response)) => {
                write!(f, "server does not upgrade: {}: ", response.status())?;
                match self.refusal() {
                    Some(status) => Printable(status).fmt(f),
                    None => Printable(String::from_utf8_lossy(response.body()).trim()).fmt(f),
                }
            }
            Self::Connect(_) => f.write_str("connection to the server failed"),
            Self::Protocol => f.write_str("server has chosen a protocol that was not offered"),
            Self::Stream(_) => f.write_str("stream of the session failed"),
            Self::NoAnswer => f.write_str("server does not answer in time"),
            Self::Status(error) => error.fmt(f),
        }
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Connect(error) => Some(error),
            Self::Stream(error) => Some(error),
            _ => None,
        }
    }
}
