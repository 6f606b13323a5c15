//! Responses that the server pushes (protocol.md §10.2).

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
};

use http::{
    Method, Request, Response, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use spdy_frame::{HeaderBlock, RstStatus, StreamId, Version};
use spdy_session::{Incoming, PendingStream, Received, RecvStream};
use tracing::debug;

use super::{
    Error,
    registry::Registry,
    request::{self, Names},
    response,
};
use crate::{
    Body,
    fields::{self, VALUE_SEPARATOR},
    origin::Origin,
};

/// Gives what the server of a session pushes: see [`handshake_with_pushes`](super::handshake_with_pushes).
///
/// Pushes that are not taken wait, up to [`Limits::max_backlog`](spdy_session::Limits::max_backlog). Dropped, it refuses
/// those and all that come.
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

    /// Waits for the next push; `None` when the session has ended. Cancel safe.
    ///
    /// A push that says not what it answers is reset with PROTOCOL_ERROR, and one of another origin than the request
    /// that it belongs to with REFUSED_STREAM: they are not given.
    pub async fn next(&mut self) -> Option<Pushed> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`next`](Self::next), for implementations of `Future` and `Stream`.
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

    /// Takes a push, or resets it.
    fn judge(&self, stream: PendingStream) -> Option<Pushed> {
        let id = stream.id();
        let asked = stream
            .associated()
            .and_then(|id| Some((id, self.registry.get(id)?)));
        let Some((associated, asked)) = asked else {
            debug!(%id, "push belongs to a request that is over");
            stream.refuse(RstStatus::CANCEL);
            return None;
        };
        match promised(self.version, stream.headers(), &asked) {
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
                stream.refuse(status);
                None
            }
        }
    }
}

/// A response that the server has pushed. Dropped, it is reset with CANCEL, and so is its body before its end.
#[derive(Debug)]
pub struct Pushed {
    request: Request<()>,
    associated: StreamId,
    version: Version,
    head: HeaderBlock,
    receive: RecvStream,
}

impl Pushed {
    /// The request that it answers: a GET of a whole URI. Its other fields are those of the request that the push
    /// belongs to, and are not repeated here.
    #[must_use]
    pub const fn request(&self) -> &Request<()> {
        &self.request
    }

    /// The stream of the request that it belongs to.
    #[must_use]
    pub const fn associated(&self) -> StreamId {
        self.associated
    }

    /// The response. It is there at once with servers that send its head with the push; others send it later. Dropping
    /// the future resets the push with CANCEL.
    ///
    /// # Errors
    ///
    /// [`Error::Stream`] if the push ends before its head has come, [`Error::Response`] if that is malformed.
    pub async fn response(mut self) -> Result<Response<Body>, Error> {
        let [status, _] = response::names(self.version);
        if self.head.get(status).is_none() {
            match self.receive.next().await.transpose()? {
                Some(Received::Headers(block)) if !fields::repeats(&self.head, &block) => {
                    append(&mut self.head, &block);
                }
                Some(Received::Headers(_)) => {
                    return Err(self.reset("header of a push is repeated"));
                }
                Some(Received::Data(_)) | None => return Err(self.reset("status is missing")),
            }
        }
        let names = request::names(self.version);
        let is_other = |name: &[u8]| is_identity(&names, name);
        match response::read(self.version, &self.head, is_other) {
            Ok(response) => {
                let (receive, headers) = (self.receive, response.headers());
                let body = Body::pushed(receive, self.version, headers, self.head);
                Ok(response.map(|()| body))
            }
            Err(reason) => Err(self.reset(reason)),
        }
    }

    fn reset(self, reason: &'static str) -> Error {
        self.receive.reset(RstStatus::PROTOCOL_ERROR);
        Error::Response(reason)
    }
}

/// Why a push is not taken, and what the server is told.
struct Unfit(RstStatus, &'static str);

const fn malformed(reason: &'static str) -> Unfit {
    Unfit(RstStatus::PROTOCOL_ERROR, reason)
}

/// The request that a push answers.
fn promised(version: Version, block: &HeaderBlock, asked: &Origin) -> Result<Request<()>, Unfit> {
    let names = request::names(version);
    if block
        .get(names.method)
        .is_some_and(|method| method != b"GET")
    {
        return Err(malformed("method of a push is not GET"));
    }
    let (origin, path) = match version {
        Version::V2 => whole_url(&names, block, asked)?,
        Version::V3 | Version::V3_1 => parts(&names, block)?,
    };
    if !origin.is_same(asked) {
        return Err(Unfit(
            RstStatus::REFUSED_STREAM,
            "push is of another origin",
        ));
    }
    let uri = Uri::builder()
        .scheme(origin.scheme)
        .authority(origin.host)
        .path_and_query(path);
    let mut request = Request::new(());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = uri
        .build()
        .map_err(|_| malformed("URI of a push is none"))?;
    Ok(request)
}

type Target = (Origin, PathAndQuery);

/// SPDY/2: one field. A path alone is of the origin that was asked.
fn whole_url(names: &Names, block: &HeaderBlock, asked: &Origin) -> Result<Target, Unfit> {
    let url = block
        .get(names.target)
        .ok_or(malformed("push has no url"))?;
    let url = Uri::try_from(url)
        .map_err(|_| malformed("url of a push is none"))?
        .into_parts();
    let path = url
        .path_and_query
        .ok_or(malformed("url of a push has no path"))?;
    match (url.scheme, url.authority) {
        (Some(scheme), Some(host)) => Ok((Origin { scheme, host }, path)),
        (None, None) => Ok((asked.clone(), path)),
        _ => Err(malformed("url of a push is none")),
    }
}

/// Since SPDY/3: three fields.
fn parts(names: &Names, block: &HeaderBlock) -> Result<Target, Unfit> {
    let get = |name: &'static str| {
        let value = block
            .get(name)
            .filter(|value| !value.contains(&VALUE_SEPARATOR));
        value.ok_or(malformed("push does not say what it answers"))
    };
    let path = get(names.target)?;
    if !path.starts_with(b"/") {
        return Err(malformed("path of a push is none"));
    }
    let origin = Origin {
        scheme: Scheme::try_from(get(names.scheme)?)
            .map_err(|_| malformed("scheme of a push is none"))?,
        host: Authority::try_from(get(names.host)?)
            .map_err(|_| malformed("host of a push is none"))?,
    };
    let path = PathAndQuery::try_from(path).map_err(|_| malformed("path of a push is none"))?;
    Ok((origin, path))
}

/// Whether a field says what a push answers, and is none of the response.
fn is_identity(names: &Names, name: &[u8]) -> bool {
    [names.method, names.target, names.host, names.scheme]
        .iter()
        .any(|identity| identity.as_bytes() == name)
}

fn append(head: &mut HeaderBlock, later: &HeaderBlock) {
    for field in later.fields() {
        let added = head.append(field.name(), field.value());
        debug_assert!(added.is_ok(), "a field that was decoded can be appended");
    }
}
