//! Server push: responses that a client has not asked for yet (protocol.md §10).

use std::{
    error::Error,
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use http::{Request, Response, Uri, response::Parts, uri::PathAndQuery};
use http_body::Body;
use spdy_frame::{HeaderBlock, Priority, StreamId, Version};
use spdy_session::{OpenError, OpenOptions, Opening, Session, StreamError};
use tokio::time::timeout;
use tracing::debug;

use super::{
    info::StreamInfo,
    pushes::{Pushes, Taste},
};
use crate::{
    http::{Origin, write_push},
    sending::{Answer, BoxError, Failure, Pump},
};

/// Pushes responses that belong to one request.
///
/// Nothing is pushed unless the application does it with this: few clients gain by it, and some
/// break. A client that refuses a push gets no more of them in its session.
///
/// ```
/// # use http::{Request, Response, header::CONTENT_TYPE};
/// use spdy_tower::{Body, Pusher};
///
/// async fn page(request: Request<Body>) -> &'static str {
///     if let Some(pusher) = Pusher::of(&request) {
///         let style = Response::builder().header(CONTENT_TYPE, "text/css");
///         let style = style.body("p { color: navy }".to_owned());
///         // A push that is not made is no loss: the client asks for the resource by itself.
///         _ = pusher.push("/style.css", style.unwrap());
///     }
///     "<link rel=stylesheet href=/style.css><p>Hello"
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Pusher {
    pushes: Pushes,
    version: Version,
    associated: StreamId,
    origin: Origin,
}

impl Pusher {
    /// The pusher of a request; `None` if it did not come over SPDY, or its URI names no origin.
    #[must_use]
    pub fn of<B>(request: &Request<B>) -> Option<Self> {
        let info = request.extensions().get::<StreamInfo>()?;
        let (scheme, host) = (request.uri().scheme()?, request.uri().authority()?);
        Some(Self {
            pushes: info.pushes.clone(),
            version: info.version,
            associated: info.id,
            origin: Origin {
                scheme: scheme.clone(),
                host: host.clone(),
            },
        })
    }

    /// Pushes `response` as the answer to a GET of `path`, which may have a query, from the same
    /// origin.
    ///
    /// It has to be called before the response that refers to `path` is given: the client learns of
    /// the push before it can ask. The body is sent in the background, with the lowest priority,
    /// and may outlive the request. When the client refuses it, resets the request, or the session
    /// ends, it is dropped. Trailers of a push are not sent. Before the body of the first push a
    /// round trip is waited for, in which the client may refuse it.
    ///
    /// The client's limit on streams is not waited for: a push above it is not made.
    ///
    /// # Errors
    ///
    /// [`PushError`]; nothing was sent then. That the client takes the push is not known yet when
    /// this returns.
    pub fn push<B>(&self, path: &str, response: Response<B>) -> Result<(), PushError>
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        if self.pushes.taste().refuses.load(Ordering::Relaxed) {
            return Err(PushError::Refused);
        }
        let path = path_of(path)?;
        let (head, body) = response.into_parts();
        let block = self.block(path.as_str(), head, body.size_hint().exact())?;
        let how = OpenOptions {
            // No response that the client did ask for waits for one that it did not.
            priority: Priority::LOWEST,
            // Not with FIN, even without a body: clients in the field do not take it (protocol.md
            // §10.1).
            fin: false,
            unidirectional: true,
            associated: Some(self.associated),
        };
        let opening = self.pushes.session().open(block, how);
        let (version, session) = (self.version, self.pushes.session().clone());
        let taste = Arc::clone(self.pushes.taste());
        self.pushes.add(Box::pin(async move {
            if let Err(error) = send(version, opening, body, &session, &taste).await {
                debug!(%error, "push ended early");
                if let Unsent::Stream(Failure::Gone(StreamError::NotProcessed)) = error {
                    taste.refuses.store(true, Ordering::Relaxed);
                }
            }
        }));
        Ok(())
    }

    fn block(&self, path: &str, head: Parts, size: Option<u64>) -> Result<HeaderBlock, PushError> {
        write_push::block(self.pushes.form(), &self.origin, path, head, size)
            .ok_or(PushError::Header)
    }
}

/// Why nothing is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PushError {
    /// The client has refused an earlier push of this session.
    Refused,
    /// The path is invalid, or does not begin with a slash.
    Path,
    /// SPDY/2 cannot carry a header of more than 65,535 bytes.
    Header,
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "client has refused an earlier push",
            Self::Path => "invalid path of a push",
            Self::Header => "header field of a push is longer than 65535 bytes",
        })
    }
}

impl Error for PushError {}

async fn send<B>(
    version: Version,
    opening: Opening,
    body: B,
    session: &Session,
    taste: &Taste,
) -> Result<(), Unsent>
where
    B: Body<Error: Into<BoxError>>,
{
    let (_, stream) = opening.await?.split();
    let mut answer = Answer::Begun(stream);
    if !taste.takes.load(Ordering::Relaxed) {
        // What the client says of the push comes before the PONG. A small push would be over by
        // then, and the refusal of a stream that is over is not noticed.
        let mut pong = pin!(session.ping());
        let heard = poll_fn(|cx| match answer.poll_closed(cx) {
            Poll::Ready(end) => Poll::Ready(Err(Failure::Gone(end))),
            Poll::Pending => pong.as_mut().poll(cx).map(|_| Ok(())),
        });
        // A client that has closed its writing side can answer nothing, and is owed what was
        // promised all the same.
        timeout(TASTING, heard).await.unwrap_or(Ok(()))?;
        taste.takes.store(true, Ordering::Relaxed);
    }
    let mut pump = pin!(Pump::push(body));
    let sent = poll_fn(|cx| match pump.as_mut().poll(cx, version, &mut answer) {
        Poll::Pending => answer.poll_closed(cx).map(Failure::Gone).map(Err),
        sent => sent,
    });
    Ok(sent.await?)
}

/// How long a client may take to refuse its first push.
const TASTING: Duration = Duration::from_secs(5);

/// Why a push was not sent to its end.
#[derive(Debug)]
enum Unsent {
    Open(OpenError),
    Stream(Failure),
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => error.fmt(f),
            Self::Stream(failure) => failure.fmt(f),
        }
    }
}

impl From<OpenError> for Unsent {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl From<Failure> for Unsent {
    fn from(failure: Failure) -> Self {
        Self::Stream(failure)
    }
}

fn path_of(path: &str) -> Result<PathAndQuery, PushError> {
    let uri: Uri = path.parse().map_err(|_| PushError::Path)?;
    let is_path = path.starts_with('/') && uri.authority().is_none();
    uri.into_parts()
        .path_and_query
        .filter(|_| is_path)
        .ok_or(PushError::Path)
}
