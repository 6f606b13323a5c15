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

/// The body that a peer sends, of a request or of a response: bytes as they come, then trailers if
/// there are any.
///
/// Nothing is read ahead. Flow-control credit goes back to the peer as frames are taken, so an
/// application that stops reading stops the peer ([protocol.md §13.3]). Header fields that come
/// while the body is under way are given with the trailers, after the last byte.
///
/// *Of a request*: where there is a `content-length`, the bytes are counted; a client that sends
/// fewer or more gets an answer of 400, or a reset if the answer has begun ([protocol.md §9.6]).
/// Dropping the body tells the session that the rest is not wanted: it is read and dropped
/// within [`Limits::discard`](spdy_session::Limits::discard), and the response is not disturbed.
///
/// *Of a response*: `content-length` is not more than a hint, as the protocol wants it: what
/// [`size_hint`] says. All bytes are given, also where it is wrong; a body that is cut is an error
/// in any case. With HEAD, 204 and 304 there are no bytes, whatever comes. SPDY/2 has no trailers.
/// Dropping the body before its end resets the stream with CANCEL, the rest of the request's body
/// with it.
///
/// After the end and after an error the body gives `None`.
///
/// [`size_hint`]: http_body::Body::size_hint
/// [protocol.md §9.6]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#96-bodies
/// [protocol.md §13.3]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#133-receiver
#[derive(Debug, Default)]
pub struct Body {
    /// `None`: there was no body, or its end was reached. Most requests have none, and are moved
    /// more than once.
    source: Option<Box<Source>>,
}

#[derive(Debug)]
struct Source {
    stream: RecvStream,
    role: Role,
    /// What `content-length` says.
    announced: Option<u64>,
    received: u64,
    trailers: Option<HeaderMap>,
    /// What their blocks count: see [`MAX_TRAILERS`].
    trailers_size: usize,
}

/// What is asked of a body.
#[derive(Debug)]
enum Role {
    Request {
        fault: oneshot::Sender<Fault>,
        /// `None`: the body may take any time.
        wait: Option<Wait>,
    },
    Response {
        version: Version,
        /// There are no bytes to be had.
        is_bodyless: bool,
        /// Kept while the stream may get pushes.
        _asked: Option<Arc<Origin>>,
    },
    /// A response that was not asked for, with all header fields that have come.
    Push {
        version: Version,
        fields: Box<HeaderBlock>,
    },
}

/// What is wrong with the body of the client. The exchange is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The client has broken a rule.
    Malformed,
    /// The client has sent nothing for too long.
    Silent,
}

/// Learns from a [`Body`] that something is wrong with it. It may be asked at any time and any
/// number of times: what is known once stays known.
#[derive(Debug)]
pub(crate) enum FaultNotice {
    /// The body is being read.
    Waiting(oneshot::Receiver<Fault>),
    /// This is wrong with it.
    Come(Fault),
    /// There is no body, or it was read to its end or dropped: no fault can come any more.
    Never,
}

impl FaultNotice {
    /// Waits for the fault; for ever if there will be none.
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

    /// Returns the fault that has come already, if any.
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
    /// A body that ended before it began.
    #[must_use]
    pub const fn empty() -> Self {
        Self { source: None }
    }

    /// Returns the body of a request, whose length `content-length` announces. It fails when `wait`
    /// is over.
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

    /// The body of a response with these fields.
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

    /// The body of a push with these fields of a response, whose header block has come so far.
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
            // When the response is complete, the exchange is gone: it needs no notice.
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
    /// The next piece, with the end judged as soon as it is known: a short body gives an error in
    /// place of its last bytes, so that no application takes them for complete.
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

    /// Ready when the client has sent nothing for too long.
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

    /// A client of SPDY/2 must ignore HEADERS behind DATA (protocol.md §9.8).
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

    /// No header field of a push may come twice (protocol.md §10.3).
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

    /// Exact where `content-length` says something and is not wrong yet.
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

/// What a response says of its length, if that makes sense.
fn announced(headers: &HeaderMap) -> Option<u64> {
    fields::content_length(headers).ok().flatten()
}

/// The most that the trailers of one body count together, of all frames that they come in: bytes of
/// names and values, and 32 for each field. It is what one header block may have by default. The
/// session counts only what was not taken.
const MAX_TRAILERS: usize = 128 * 1024;

/// Why a body ended before its time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BodyError {
    /// The stream was reset, or its session ended. The cause says by whom and why.
    Stream(StreamError),
    /// The client has sent another number of bytes than `content-length` says. It is told so in
    /// place of the application's response.
    Length {
        /// What `content-length` says.
        announced: u64,
        /// The bytes that came; more may have been on their way.
        received: u64,
    },
    /// The trailers are not HTTP header fields, or are such that must not be trailers, or are too
    /// many. A client is told as above, a server by a reset with PROTOCOL_ERROR.
    Trailers,
    /// The client has sent nothing for longer than
    /// [`Builder::body_timeout`](crate::Builder::body_timeout). It gets 408 in place of the
    /// application's response, or a reset if that has begun.
    TimedOut,
}

impl BodyError {
    /// Returns whether a time limit ran out: [`TimedOut`](Self::TimedOut), or one of the session.
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
