//! The body of a request, read from its stream.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use spdy_session::{Received, RecvStream, StreamError};
use tokio::sync::oneshot;

use crate::fields;

/// The body of a request: octets as they come, then trailers if there are any.
///
/// Nothing is read ahead. Flow-control credit goes back to the client as frames are taken, so an application that
/// stops reading stops the client (protocol.md §13.3). Where the request has a `content-length`, the octets are
/// counted; a client that sends fewer or more gets an answer of 400, or a reset if the answer has begun
/// (protocol.md §9.6).
///
/// Header fields that come while the body is under way are given with the trailers, after the last octet.
///
/// Dropping the body tells the session that nobody wants the rest: it is read and thrown away within
/// [`Limits::discard`](spdy_session::Limits::discard), and the response is not disturbed.
///
/// After the end and after an error the body gives `None`.
#[derive(Debug, Default)]
pub struct Body {
    /// `None`: there was no body, or its end was reached.
    source: Option<Source>,
}

#[derive(Debug)]
struct Source {
    stream: RecvStream,
    announced: Option<u64>,
    received: u64,
    trailers: Option<HeaderMap>,
    fault: oneshot::Sender<Fault>,
}

/// Tells the exchange that the client has broken a rule with its body.
#[derive(Debug)]
pub(crate) struct Fault;

impl Body {
    /// A body that ended before it began.
    #[must_use]
    pub const fn empty() -> Self {
        Self { source: None }
    }

    /// A body of so many octets as `content-length` announces.
    pub(crate) fn new(
        stream: RecvStream,
        announced: Option<u64>,
    ) -> (Self, oneshot::Receiver<Fault>) {
        let (fault, notice) = oneshot::channel();
        let source = Source {
            stream,
            announced,
            received: 0,
            trailers: None,
            fault,
        };
        (
            Self {
                source: Some(source),
            },
            notice,
        )
    }

    fn fail(&mut self, error: BodyError) -> BodyError {
        if let Some(source) = self.source.take()
            && !matches!(error, BodyError::Stream(_))
        {
            // Nobody listens when the response is complete: then there is nothing left to say.
            _ = source.fault.send(Fault);
        }
        error
    }
}

impl Source {
    /// The next piece, with the end judged as soon as it is known: a short body gives an error in place of its
    /// last octets, so that no application takes them for complete.
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match ready!(self.stream.poll_next(cx))
                .transpose()
                .map_err(BodyError::Stream)?
            {
                Some(Received::Data(octets)) if octets.is_empty() => {}
                Some(Received::Data(octets)) => {
                    self.received += octets.len() as u64;
                    self.check_length()?;
                    return Poll::Ready(Some(Ok(Frame::data(octets))));
                }
                Some(Received::Headers(block)) => {
                    let trailers = self.trailers.get_or_insert_default();
                    fields::receive_trailers(trailers, &block).map_err(|_| BodyError::Trailers)?;
                }
                None => {
                    self.check_length()?;
                    return Poll::Ready(self.trailers.take().map(Frame::trailers).map(Ok));
                }
            }
        }
    }

    fn check_length(&self) -> Result<(), BodyError> {
        let Some(announced) = self.announced else {
            return Ok(());
        };
        let received = self.received;
        if received > announced || (received < announced && self.stream.is_finished()) {
            return Err(BodyError::Length {
                announced,
                received,
            });
        }
        Ok(())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(source) = &mut self.source else {
            return Poll::Ready(None);
        };
        let frame = ready!(source.poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                if frame.is_trailers() {
                    self.source = None;
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(self.fail(error))),
            None => {
                self.source = None;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.source.as_ref().is_none_or(|source| {
            source.stream.is_finished()
                && source.trailers.is_none()
                && source.check_length().is_ok()
        })
    }

    fn size_hint(&self) -> SizeHint {
        let Some(source) = &self.source else {
            return SizeHint::with_exact(0);
        };
        match source.announced {
            Some(announced) => SizeHint::with_exact(announced.saturating_sub(source.received)),
            None => SizeHint::default(),
        }
    }
}

/// Why a body ended before its time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BodyError {
    /// The stream was reset, or its session ended. The cause says by whom and why.
    Stream(StreamError),
    /// The client has sent another number of octets than `content-length` says. It is told so in place of the
    /// application's response.
    Length {
        /// What `content-length` says.
        announced: u64,
        /// The octets that came; more may have been on their way.
        received: u64,
    },
    /// The trailers are not HTTP header fields, or are such that must not be trailers. The client is told as above.
    Trailers,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(_) => f.write_str("stream of the request failed"),
            Self::Length {
                announced,
                received,
            } => {
                write!(
                    f,
                    "request body has {received} octets, content-length says {announced}"
                )
            }
            Self::Trailers => f.write_str("trailers of the request are malformed"),
        }
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Stream(error) => Some(error),
            _ => None,
        }
    }
}
