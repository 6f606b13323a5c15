//! Responses that the server pushes (protocol.md §10.2).

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use spdy_frame::{HeaderBlock, RstStatus, StreamId, Version};
use spdy_session::{Incoming, PendingStream, Received, RecvStream};
use tracing::debug;

use super::{Error, registry::Registry};
use crate::{
    Body,
    http::{
        InvalidResponse, fields,
        read_push::{self, Unfit},
        read_response,
    },
};

/// Receives the responses that the server of a session pushes: see [`handshake`](super::handshake).
///
/// Pushes that are not taken wait, up to
/// [`Limits::max_backlog`](spdy_session::Limits::max_backlog). Dropping the value refuses these and
/// all later ones.
#[derive(Debug)]
pub struct Pushes {
    incoming: Incoming,
    version: Version,
    registry: Registry,
}

impl Pushes {
    pub(super) const fn new(incoming: Incoming, version: Version, registry: Registry) -> Self {
        Self {
            incoming,
            version,
            registry,
        }
    }

    /// Waits for the next push. Returns `None` when the session has ended. Cancel safe.
    ///
    /// Two kinds of pushes are not returned. A push that does not name the request it answers is
    /// reset with PROTOCOL_ERROR, and a push of another origin than its associated request with
    /// REFUSED_STREAM.
    pub async fn next(&mut self) -> Option<Pushed> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same as [`next`](Self::next), for implementations of `Future` and `Stream`.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Pushed>> {
        loop {
            let Some(stream) = ready!(self.incoming.poll_accept(cx)) else {
                return Poll::Ready(None);
            };
            if let Some(pushed) = self.judge(stream) {
                return Poll::Ready(Some(pushed));
            }
        }
    }

    /// Accepts a push, or resets it.
    fn judge(&self, stream: PendingStream) -> Option<Pushed> {
        let id = stream.id();
        let asked = stream
            .associated()
            .and_then(|id| Some((id, self.registry.get(id)?)));
        let Some((associated, asked)) = asked else {
            debug!(%id, "push belongs to a request that is over");
            stream.reset(RstStatus::CANCEL);
            return None;
        };
        match read_push::request(self.version, stream.headers(), &asked) {
            Ok(request) => {
                let head = stream.headers().clone();
                let receive = stream.into_recv().ok()?;
                Some(Pushed {
                    request,
                    associated,
                    version: self.version,
                    head,
                    receive,
                })
            }
            Err(Unfit(status, reason)) => {
                debug!(%id, reason, "push is not taken");
                stream.reset(status);
                None
            }
        }
    }
}

/// A response that the server has pushed. Dropping it resets it with CANCEL. Dropping its body
/// before the end does the same.
#[derive(Debug)]
pub struct Pushed {
    request: Request<()>,
    associated: StreamId,
    version: Version,
    head: HeaderBlock,
    receive: RecvStream,
}

impl Pushed {
    /// Returns the request that the push answers: a GET with an absolute URI. It has no other
    /// fields; those of the associated request apply.
    #[must_use]
    pub const fn request(&self) -> &Request<()> {
        &self.request
    }

    /// Returns the stream of the associated request.
    #[must_use]
    pub const fn associated(&self) -> StreamId {
        self.associated
    }

    /// Returns the response. Some servers send its head with the push, others later. Dropping the
    /// future resets the push with CANCEL.
    ///
    /// # Errors
    ///
    /// [`Error::Stream`] if the push ends before its head has arrived, [`Error::Response`] if the
    /// head is malformed.
    pub async fn response(mut self) -> Result<Response<Body>, Error> {
        if !read_push::has_response(self.version, &self.head) {
            match self.receive.next().await.transpose()? {
                Some(Received::Headers(block)) if !fields::repeats(&self.head, &block) => {
                    append(&mut self.head, &block);
                }
                Some(Received::Headers(_)) => {
                    return Err(self.reset(InvalidResponse::RepeatedField));
                }
                Some(Received::Data(_)) | None => {
                    return Err(self.reset(InvalidResponse::StatusMissing));
                }
            }
        }
        match read_response::read(self.version, &self.head, true) {
            Ok(response) => {
                let (receive, headers) = (self.receive, response.headers());
                let body = Body::pushed(receive, self.version, headers, self.head);
                Ok(response.map(|()| body))
            }
            Err(reason) => Err(self.reset(reason)),
        }
    }

    fn reset(self, reason: InvalidResponse) -> Error {
        self.receive.reset(RstStatus::PROTOCOL_ERROR);
        Error::Response(reason)
    }
}

fn append(head: &mut HeaderBlock, later: &HeaderBlock) {
    for field in later.fields() {
        let added = head.append(field.name(), field.value());
        debug_assert!(added.is_ok(), "a field that was decoded can be appended");
    }
}
