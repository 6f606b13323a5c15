//! The result of a request: the body of its response, or an error.

use std::{
    error::Error as StdError,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use super::{
    ConnectorError, Error,
    connection::{Doubt, Unwanted},
    proof::{Proof, source},
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
    Http1(Incoming),
    Http2(Incoming),
}

/// Returns whether a body that hyper takes for complete was cut short. hyper says the same of every
/// body that is reset with NO_ERROR. A server may send this reset to stop the rest of a request,
/// but only behind the END_STREAM of its response (RFC 9113 section 8.1), which h2 remembers.
fn is_cut(body: &Incoming) -> bool {
    !body.is_end_stream() && body.size_hint().exact() != Some(0)
}

impl ResponseBody {
    pub(super) fn spdy(body: Body, doubt: Doubt) -> Self {
        Self::new(Source::Spdy(body), Unread::Shared(doubt))
    }

    pub(super) fn http2(body: Incoming, doubt: Doubt) -> Self {
        Self::new(Source::Http2(body), Unread::Shared(doubt))
    }

    pub(super) fn http1(body: Incoming, unwanted: Unwanted) -> Self {
        Self::new(Source::Http1(body), Unread::Alone(unwanted))
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

    /// Returns the error of a body whose time is over, although it may have more.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<FetchError> {
        match &mut self.patience {
            Some(patience) if self.unread.is_some() => patience.poll(cx),
            _ => Poll::Pending,
        }
    }

    /// Notes that the server has sent something. After the end there is nothing left to doubt.
    fn note(&mut self) {
        if self.is_end_stream() {
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
        // This is first, because a server can always have more.
        if let Poll::Ready(error) = self.poll_patience(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        let is_unread = self.unread.is_some();
        let frame = ready!(match &mut self.source {
            Source::Spdy(body) => Pin::new(body).poll_frame(cx).map_err(FetchError::Body),
            Source::Http1(body) | Source::Http2(body) => {
                Pin::new(body).poll_frame(cx).map_err(FetchError::HttpBody)
            }
        });
        match (&frame, &self.source) {
            (Some(Ok(_)), _) => self.note(),
            (None, Source::Http2(body)) if is_unread && is_cut(body) => {
                self.end();
                return Poll::Ready(Some(Err(FetchError::CutShort)));
            }
            // The body has ended, or returned an error.
            _ => self.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Spdy(body) => body.is_end_stream(),
            Source::Http1(body) | Source::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            // hyper returns the length that a response to HEAD announces.
            _ if self.is_end_stream() => SizeHint::with_exact(0),
            Source::Spdy(body) => body.size_hint(),
            Source::Http1(body) | Source::Http2(body) => body.size_hint(),
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
    /// The request failed over HTTP/2 or HTTP/1.1.
    Http(hyper::Error),
    /// The body of the response failed over HTTP/2 or HTTP/1.1.
    HttpBody(hyper::Error),
    /// The server broke the body of the response off over HTTP/2, with a reset that pretends that
    /// it is complete.
    CutShort,
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
            Self::Body(_) | Self::HttpBody(_) | Self::CutShort | Self::TimedOut(_) => false,
            Self::Http(error) => Proof::of_http(error) == Some(Proof::Unsent),
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
            Self::Http(error) | Self::HttpBody(error) => error.is_timeout(),
            Self::CutShort => false,
            Self::TimedOut(_) => true,
        }
    }

    /// Returns whether it is proved that no application has looked at the request, so that it can
    /// be sent again, whatever its method. `false` if that is unknown.
    ///
    /// | What happened before the head of the response | SPDY | HTTP/2 | HTTP/1.1 |
    /// |---|---|---|---|
    /// | there was no connection, or it took nothing of the request | yes | yes | yes |
    /// | the request is invalid, and fails again unless it is changed | yes | yes | yes |
    /// | RST_STREAM with REFUSED_STREAM | yes | yes | – |
    /// | GOAWAY that names a lower stream | yes | with NO_ERROR | – |
    /// | RST_STREAM with another status | no | no | – |
    /// | the connection ended, or broke, behind the first byte of the request | no | no | no |
    /// | a time limit ran out after that | no | no | no |
    ///
    /// After the head of the response it is always `false`, also if the server then says that it
    /// has not processed the request: such a server contradicts itself.
    ///
    /// A write proves nothing. If a server has vanished without a word, the system takes the bytes
    /// of a request for it, and only silence follows. No client can tell that from a server that
    /// works on the request. So a request that is not idempotent fails then, as with other clients
    /// of HTTP, although it was not processed. To lose less in this way, close unused connections
    /// earlier ([`Connector::idle_timeout`](super::Connector::idle_timeout)), or let the
    /// application recognize a request that comes twice, and repeat it.
    #[must_use]
    pub fn is_retry_safe(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_retry_safe(),
            Self::Spdy(error) => error.is_retry_safe(),
            Self::Http(error) => Proof::of_http(error).is_some(),
            Self::TimedOut(_) | Self::Body(_) | Self::HttpBody(_) | Self::CutShort => false,
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
            Self::Http(error) | Self::HttpBody(error) => {
                source::<h2::Error>(error).is_some_and(h2::Error::is_remote)
            }
            Self::CutShort => true,
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
            Self::Body(_) | Self::HttpBody(_) | Self::CutShort => {
                f.write_str("response ended early")
            }
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
            Self::Http(error) | Self::HttpBody(error) => error,
            Self::CutShort | Self::TimedOut(_) => return None,
        })
    }
}
