//! The body of a request or of a response, read from its stream.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use spdy_frame::{HeaderBlock, RstStatus, Version};
use spdy_session::{Received, RecvStream, StreamError};
use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::{
    client,
    http::{Origin, fields},
    patience::Wait,
};

/// The body of a request or of a response, as the peer sends it: bytes as they arrive, then
/// trailers if there are any.
///
/// Nothing is read ahead. Flow-control credit goes back to the peer when frames are taken, so an
/// application that stops reading stops the peer ([protocol.md §13.3]). Header fields that arrive
/// before the last byte are returned with the trailers.
///
/// *Body of a request*: if there is a `content-length`, the bytes are counted. A client that sends
/// fewer or more gets 400, or a reset if the response has begun ([protocol.md §9.6]). Dropping the
/// body tells the session that the application does not read the rest. The rest is then read and
/// thrown away, within [`Limits::discard`](spdy_session::Limits::discard), and the response goes
/// on.
///
/// *Body of a response*: `content-length` is only a hint, as the protocol defines it, and
/// [`size_hint`] returns it. All bytes are returned even if it is wrong, and a body that breaks off
/// is always an error. With HEAD, 204 and 304 there are no bytes, whatever arrives. SPDY/2 has no
/// trailers. Dropping the body before its end resets the stream with CANCEL, which also stops the
/// body of the request.
///
/// After the end and after an error the body returns `None`.
///
/// [`size_hint`]: http_body::Body::size_hint
/// [protocol.md §9.6]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#96-bodies
/// [protocol.md §13.3]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#133-receiver
#[derive(Debug, Default)]
pub struct Body {
    /// `None` if there was no body or its end was reached. The content is boxed because most
    /// requests have no body, and requests are moved several times.
    source: Option<Box<Source>>,
}

#[derive(Debug)]
struct Source {
    stream: RecvStream,
    role: Role,
    /// The value of `content-length`.
    announced: Option<u64>,
    received: u64,
    trailers: Option<HeaderMap>,
    /// The size of the trailers so far: see [`MAX_TRAILERS`].
    trailers_size: usize,
}

/// What kind of body this is, and what it checks.
#[derive(Debug)]
enum Role {
    Request {
        fault: oneshot::Sender<Fault>,
        /// Limits the wait for the peer. `None` means no limit.
        wait: Option<Wait>,
    },
    Response {
        version: Version,
        /// Whether the response has no bytes, whatever arrives.
        is_bodyless: bool,
        /// It exists while the stream may get pushes.
        _asked: Option<Arc<Origin>>,
    },
    /// A pushed response, with all header fields that have arrived.
    Push {
        version: Version,
        fields: Box<HeaderBlock>,
    },
}

/// A fault of the client's body, which the exchange has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The client broke a rule.
    Malformed,
    /// The client sent nothing for too long.
    Silent,
}

/// Receives the fault of a [`Body`]. It can be asked at any time and repeatedly, and always returns
/// a fault that is known.
#[derive(Debug)]
pub(crate) enum FaultNotice {
    /// The body is being read.
    Waiting(oneshot::Receiver<Fault>),
    /// The body has this fault.
    Come(Fault),
    /// There is no body, or it was read to its end or dropped. There can be no fault any more.
    Never,
}

impl FaultNotice {
    /// Is ready with the fault of the body, and never ready if the body has no fault.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        if let Self::Waiting(notice) = self {
            let told = ready!(Pin::new(notice).poll(cx));
            *self = told.map_or(Self::Never, Self::Come);
        }
        match self {
            Self::Come(fault) => Poll::Ready(*fault),
            Self::Waiting(_) | Self::Never => Poll::Pending,
        }
    }

    /// Returns the fault that is known already, if any.
    pub(crate) fn come(&mut self) -> Option<Fault> {
        if let Self::Waiting(notice) = self {
            match notice.try_recv() {
                Ok(fault) => *self = Self::Come(fault),
                Err(TryRecvError::Closed) => *self = Self::Never,
                Err(TryRecvError::Empty) => {}
            }
        }
        match self {
            Self::Come(fault) => Some(*fault),
            Self::Waiting(_) | Self::Never => None,
        }
    }
}

impl Body {
    /// Returns a body that is at its end.
    #[must_use]
    pub const fn empty() -> Self {
        Self { source: None }
    }

    /// Returns the body of a request, whose length is `content-length`. It fails when `wait` is
    /// over.
    pub(crate) fn request(
        stream: RecvStream,
        announced: Option<u64>,
        wait: Option<Wait>,
    ) -> (Self, FaultNotice) {
        let (fault, notice) = oneshot::channel();
        (
            Self::new(stream, announced, Role::Request { fault, wait }),
            FaultNotice::Waiting(notice),
        )
    }

    /// Returns the body of a response with these fields.
    pub(crate) fn response(
        stream: RecvStream,
        version: Version,
        is_bodyless: bool,
        headers: &HeaderMap,
        asked: Option<Arc<Origin>>,
    ) -> Self {
        let role = Role::Response {
            version,
            is_bodyless,
            _asked: asked,
        };
        Self::new(stream, announced(headers), role)
    }

    /// Returns the body of a push with these fields, whose header block may have further parts.
    pub(crate) fn pushed(
        stream: RecvStream,
        version: Version,
        headers: &HeaderMap,
        fields: HeaderBlock,
    ) -> Self {
        let fields = Box::new(fields);
        Self::new(stream, announced(headers), Role::Push { version, fields })
    }

    fn new(stream: RecvStream, announced: Option<u64>, role: Role) -> Self {
        Self {
            source: Some(Box::new(Source {
                stream,
                role,
                announced,
                received: 0,
                trailers: None,
                trailers_size: 0,
            })),
        }
    }

    fn fail(&mut self, error: BodyError) -> BodyError {
        let Some(source) = self.source.take() else {
            return error;
        };
        let source = *source;
        match (source.role, &error) {
            (_, BodyError::Stream(_)) => {}
            // When the response is complete, the exchange is gone and needs no notice.
            (Role::Request { fault, .. }, BodyError::TimedOut) => _ = fault.send(Fault::Silent),
            (Role::Request { fault, .. }, _) => _ = fault.send(Fault::Malformed),
            (Role::Response { .. } | Role::Push { .. }, _) => {
                source.stream.reset(RstStatus::PROTOCOL_ERROR)
            }
        }
        error
    }
}

impl Source {
    /// Returns the next piece. A short body returns an error instead of its last bytes, so that the
    /// application does not take them for a complete body.
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let next = self.stream.poll_next(cx);
            if let Role::Request {
                wait: Some(wait), ..
            } = &mut self.role
                && next.is_ready()
            {
                wait.moved();
            }
            match next {
                Poll::Pending => {
                    return self
                        .poll_silence(cx)
                        .map(|()| Some(Err(BodyError::TimedOut)));
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(BodyError::Stream(error))));
                }
                Poll::Ready(Some(Ok(Received::Data(bytes))))
                    if bytes.is_empty() || self.is_bodyless() => {}
                Poll::Ready(Some(Ok(Received::Data(bytes)))) => {
                    self.received += bytes.len() as u64;
                    self.check_length()?;
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Poll::Ready(Some(Ok(Received::Headers(_)))) if !self.has_trailers() => {}
                Poll::Ready(Some(Ok(Received::Headers(block)))) => {
                    self.check_push(&block)?;
                    self.trailers_size += block.size();
                    if self.trailers_size > MAX_TRAILERS {
                        return Poll::Ready(Some(Err(BodyError::Trailers)));
                    }
                    let trailers = self.trailers.get_or_insert_default();
                    fields::receive_trailers(trailers, &block).map_err(|_| BodyError::Trailers)?;
                }
                Poll::Ready(None) => {
                    self.check_length()?;
                    return Poll::Ready(self.trailers.take().map(Frame::trailers).map(Ok));
                }
            }
        }
    }

    /// Is ready when the client has sent nothing for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let stream = &self.stream;
        match &mut self.role {
            Role::Request {
                wait: Some(wait), ..
            } => wait.poll_over(cx, |now| stream.held_up_until(now)),
            _ => Poll::Pending,
        }
    }

    fn check_length(&self) -> Result<(), BodyError> {
        let (Role::Request { .. }, Some(announced)) = (&self.role, self.announced) else {
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

    const fn is_bodyless(&self) -> bool {
        matches!(
            self.role,
            Role::Response {
                is_bodyless: true,
                ..
            }
        )
    }

    /// In SPDY/2, HEADERS after DATA must be ignored (protocol.md §9.8).
    const fn has_trailers(&self) -> bool {
        match self.role {
            Role::Response {
                version: Version::V2,
                ..
            }
            | Role::Push {
                version: Version::V2,
                ..
            } => self.received == 0,
            _ => true,
        }
    }

    /// A header field of a push must not occur twice (protocol.md §10.3).
    fn check_push(&self, block: &HeaderBlock) -> Result<(), BodyError> {
        match &self.role {
            Role::Push { fields, .. } if fields::repeats(fields, block) => Err(BodyError::Trailers),
            _ => Ok(()),
        }
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

    /// The exact length, while `content-length` is given and not known to be wrong.
    fn size_hint(&self) -> SizeHint {
        let Some(source) = &self.source else {
            return SizeHint::with_exact(0);
        };
        let left = |announced: u64| match source.role {
            Role::Request { .. } => Some(announced.saturating_sub(source.received)),
            Role::Response { .. } | Role::Push { .. } => announced.checked_sub(source.received),
        };
        let is_over = source.is_bodyless() || self.is_end_stream();
        let left = if is_over {
            Some(0)
        } else {
            source.announced.and_then(left)
        };
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Returns the length that a response announces, if it is valid.
fn announced(headers: &HeaderMap) -> Option<u64> {
    fields::content_length(headers).ok().flatten()
}

/// The largest size of the trailers of one body, in all their frames together: the bytes of names
/// and values, and 32 for each field. It equals the default limit of one header block. The session
/// counts only blocks that were not taken.
const MAX_TRAILERS: usize = 128 * 1024;

/// Why a body ended early.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BodyError {
    /// The stream was reset, or its session ended. The cause contains the reason.
    Stream(StreamError),
    /// The client sent another number of bytes than `content-length` announces. The client gets 400
    /// instead of the application's response.
    Length {
        /// The value of `content-length`.
        announced: u64,
        /// The number of bytes that arrived. More may have been on their way.
        received: u64,
    },
    /// The trailers are not valid HTTP header fields, or are fields that must not be trailers, or
    /// are too many. A client gets the response as above, a server a reset with PROTOCOL_ERROR.
    Trailers,
    /// The client sent nothing for longer than
    /// [`Builder::body_timeout`](crate::Builder::body_timeout). It gets 408 instead of the
    /// application's response, or a reset if the response has begun.
    TimedOut,
}

impl BodyError {
    /// Returns whether a time limit ran out: [`TimedOut`](Self::TimedOut), or a timeout of the
    /// session.
    #[must_use]
    pub const fn is_timeout(&self) -> bool {
        match self {
            Self::TimedOut => true,
            Self::Stream(error) => client::is_timeout(error),
            Self::Length { .. } | Self::Trailers => false,
        }
    }

    /// Returns whether the peer ended the body early: with RST_STREAM, or with GOAWAY.
    #[must_use]
    pub const fn is_remote(&self) -> bool {
        match self {
            Self::Stream(error) => client::is_remote(error),
            Self::TimedOut | Self::Length { .. } | Self::Trailers => false,
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(_) => f.write_str("stream failed before the end of the body"),
            Self::Length {
                announced,
                received,
            } => {
                write!(
                    f,
                    "request body has {received} bytes, but content-length is {announced}"
                )
            }
            Self::Trailers => f.write_str("invalid trailers"),
            Self::TimedOut => f.write_str("request body timed out"),
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
