//! The result of a request: the body of its response, or an error.

use std::{
    error::Error as StdError,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::{
    ConnectorError, Error,
    connection::{Doubt, Unwanted, is_unprocessed, is_unsent, source},
};
use crate::{Body, BodyError};

/// The body of a response over any protocol.
///
/// Dropping it before its end closes a connection of HTTP/1.1, and resets the stream of any other
/// protocol.
#[derive(Debug)]
pub struct ResponseBody {
    source: Source,
    /// `None` at the end.
    unread: Option<Unread>,
    /// How long the whole request may take.
    patience: Option<Patience>,
}

/// A time limit of a request.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Duration,
    over: Pin<Box<Sleep>>,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Self {
        let over = Box::pin(sleep(limit));
        Self { limit, over }
    }

    /// Waits for a future, until the time is over.
    pub(super) async fn wait<F: Future>(&mut self, future: F) -> Result<F::Output, FetchError> {
        tokio::select! {
            biased;
            output = future => Ok(output),
            () = &mut self.over => Err(FetchError::TimedOut(self.limit)),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<FetchError> {
        ready!(self.over.as_mut().poll(cx));
        Poll::Ready(FetchError::TimedOut(self.limit))
    }
}

/// What happens to the connection if the rest of a body is not read.
#[derive(Debug)]
enum Unread {
    /// The connection has other requests too.
    Shared(Doubt),
    Alone(Unwanted),
}

impl Unread {
    fn end(self) {
        match self {
            Self::Shared(doubt) => doubt.dispel(),
            Self::Alone(unwanted) => unwanted.not(),
        }
    }
}

#[derive(Debug)]
enum Source {
    Spdy(Body),
    Http(hyper::body::Incoming),
}

impl ResponseBody {
    pub(super) fn spdy(body: Body, doubt: Doubt) -> Self {
        Self::new(Source::Spdy(body), Unread::Shared(doubt))
    }

    pub(super) fn http2(body: hyper::body::Incoming, doubt: Doubt) -> Self {
        Self::new(Source::Http(body), Unread::Shared(doubt))
    }

    pub(super) fn http1(body: hyper::body::Incoming, unwanted: Unwanted) -> Self {
        Self::new(Source::Http(body), Unread::Alone(unwanted))
    }

    fn new(source: Source, unread: Unread) -> Self {
        let unread = Some(unread);
        let mut body = Self {
            source,
            unread,
            patience: None,
        };
        body.note();
        body
    }

    /// Limits the time until the end of the body.
    pub(super) fn within(mut self, patience: Patience) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Notes that the server has sent something. After the end there is nothing left to doubt.
    fn note(&mut self) {
        if http_body::Body::is_end_stream(self) {
            self.end();
        } else if let Some(Unread::Shared(doubt)) = &mut self.unread {
            doubt.note();
        }
    }

    fn end(&mut self) {
        if let Some(unread) = self.unread.take() {
            unread.end();
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = FetchError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, FetchError>>> {
        let frame = match &mut self.source {
            Source::Spdy(body) => Pin::new(body).poll_frame(cx).map_err(FetchError::Body),
            Source::Http(body) => Pin::new(body).poll_frame(cx).map_err(FetchError::Http),
        };
        match &frame {
            Poll::Ready(Some(Ok(_))) => self.note(),
            // The body has ended, or returned an error.
            Poll::Ready(_) => self.end(),
            Poll::Pending => {
                if let Some(patience) = &mut self.patience {
                    return patience.poll(cx).map(|error| Some(Err(error)));
                }
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Spdy(body) => body.is_end_stream(),
            Source::Http(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Spdy(body) => body.size_hint(),
            Source::Http(body) => body.size_hint(),
        }
    }
}

/// Why a request of a [`Client`](super::Client) got no response, or only a part of it.
#[derive(Debug)]
#[non_exhaustive]
pub enum FetchError {
    /// There is no connection.
    Connect(ConnectorError),
    /// The request failed over SPDY.
    Spdy(Error),
    /// The body of the response failed over SPDY.
    Body(BodyError),
    /// The request or the body of its response failed over HTTP/2 or HTTP/1.1.
    Http(hyper::Error),
    /// The request took longer than its time, which is contained: see
    /// [`Connector::request_timeout`](super::Connector::request_timeout).
    TimedOut(Duration),
}

impl FetchError {
    /// Returns whether there was no connection on which to send the request, or none that took any
    /// of it.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_connect(),
            Self::Spdy(error) => error.is_connect(),
            Self::Body(_) | Self::TimedOut(_) => false,
            Self::Http(error) => is_unsent(error),
        }
    }

    /// Returns whether a time limit ran out: that of connecting, of the request, or a timeout of
    /// the connection.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_timeout(),
            Self::Spdy(error) => error.is_timeout(),
            Self::Body(error) => error.is_timeout(),
            Self::Http(error) => error.is_timeout(),
            Self::TimedOut(_) => true,
        }
    }

    /// Returns whether the server has certainly not acted on the request, so that it can be sent
    /// again, whatever its method: nothing of it was sent, or the server reports that it was not
    /// processed. `false` if that is unknown.
    ///
    /// This includes a request that is invalid, which fails again unless it is changed.
    #[must_use]
    pub fn is_retry_safe(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_retry_safe(),
            Self::Spdy(error) => error.is_retry_safe(),
            // The server may have the request, or has started to send its response.
            Self::TimedOut(_) | Self::Body(_) => false,
            Self::Http(error) => is_unprocessed(error),
        }
    }

    /// Returns whether the server ended the request: with RST_STREAM or GOAWAY, or because it
    /// supports none of the offered protocols.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_remote(),
            Self::Spdy(error) => error.is_remote(),
            Self::Body(error) => error.is_remote(),
            Self::Http(error) => source::<h2::Error>(error).is_some_and(h2::Error::is_remote),
            Self::TimedOut(_) => false,
        }
    }
}

impl From<ConnectorError> for FetchError {
    fn from(error: ConnectorError) -> Self {
        Self::Connect(error)
    }
}

impl From<Error> for FetchError {
    fn from(error: Error) -> Self {
        Self::Spdy(error)
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(_) => f.write_str("request was not sent"),
            Self::Body(_) => f.write_str("response ended early"),
            Self::Spdy(_) | Self::Http(_) => f.write_str("request failed"),
            Self::TimedOut(limit) => write!(f, "request took longer than {limit:?}"),
        }
    }
}

impl StdError for FetchError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(match self {
            Self::Connect(error) => error,
            Self::Spdy(error) => error,
            Self::Body(error) => error,
            Self::Http(error) => error,
            Self::TimedOut(_) => return None,
        })
    }
}
