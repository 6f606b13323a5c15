//! Server push: responses to requests that the client has not sent (protocol.md §10).

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
use spdy_frame::{Priority, StreamId, Version};
use spdy_session::{OpenError, OpenOptions, Opening, Session, StreamError};
use tokio::time::timeout;
use tracing::debug;

use super::{
    info::StreamInfo,
    pushes::{Pushes, Taste},
};
use crate::{
    body::FaultNotice,
    http::{Origin, write_push, write_response::Written},
    sending::{Answer, BoxError, Failure, Pump, guarded},
};

/// Pushes responses that belong to one request.
///
/// Only the application starts pushes: few clients profit from them, and some break. A client that
/// refuses a push gets no more pushes in its session.
///
/// ```
/// # use http::{Request, Response, header::CONTENT_TYPE};
/// use spdy_tower::{Body, Pusher};
///
/// async fn page(request: Request<Body>) -> &'static str {
///     if let Some(pusher) = Pusher::of(&request) {
///         let style = Response::builder().header(CONTENT_TYPE, "text/css");
///         let style = style.body("p { color: navy }".to_owned());
///         // If there is no push, the client requests the resource itself.
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
    /// Returns the pusher of a request, or `None` if the request did not arrive over SPDY or its
    /// URI does not name an origin.
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

    /// Pushes `response` as the response to a GET of `path` on the same origin. `path` may have a
    /// query.
    ///
    /// Call this before returning a response that refers to `path`, so that the client learns of
    /// the push before it sends a request. The body is sent in the background with the lowest
    /// priority, and may outlive the request. It is dropped if the client refuses the push or
    /// resets the request, or if the session ends. Trailers are not sent. The body of a session's
    /// first push waits for a round trip, in which the client can refuse the push.
    ///
    /// A push above the client's limit on streams does not wait; it fails.
    ///
    /// # Errors
    ///
    /// [`PushError`]. Nothing was sent then. A result of `Ok` does not mean that the client accepts
    /// the push.
    pub fn push<B>(&self, path: &str, response: Response<B>) -> Result<(), PushError>
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        if self.pushes.taste().refuses.load(Ordering::Relaxed) {
            return Err(PushError::Refused);
        }
        let path = path_of(path)?;
        let (head, body) = response.into_parts();
        let head = self.head(path.as_str(), head, body.size_hint().exact())?;
        let Written { block, announced } = head;
        // Pushes have the lowest priority, so that no requested response waits for a push. The
        // frame has no FIN, even without a body, because deployed clients do not accept it
        // (protocol.md §10.1).
        let how = OpenOptions::new()
            .priority(Priority::LOWEST)
            .unidirectional(true)
            .associated(self.associated);
        let opening = self.pushes.session().open(block, how);
        let (version, session) = (self.version, self.pushes.session().clone());
        let taste = Arc::clone(self.pushes.taste());
        self.pushes.add(Box::pin(async move {
            let mut body = Box::pin(body);
            let pump = Pump::push(&mut body).announcing(announced);
            let sent = send(version, opening, pump, &session, &taste).await;
            if let Err(Unsent::Stream(Failure::Gone(StreamError::NotProcessed))) = &sent {
                taste.refuses.store(true, Ordering::Relaxed);
            }
            // The application's body is dropped, and its error is shown, by its code.
            _ = guarded(move || {
                drop(body);
                if let Err(error) = sent {
                    debug!(%error, "push ended early");
                }
            });
        }))
    }

    fn head(&self, path: &str, head: Parts, size: Option<u64>) -> Result<Written, PushError> {
        write_push::head(self.pushes.form(), &self.origin, path, head, size)
            .ok_or(PushError::Header)
    }
}

/// Why nothing is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PushError {
    /// The client has refused an earlier push of this session.
    Refused,
    /// The path is invalid, or does not start with a slash.
    Path,
    /// SPDY/2 cannot carry a header of more than 65,535 bytes.
    Header,
    /// The session has ended.
    SessionEnded,
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "client has refused an earlier push",
            Self::Path => "invalid path of a push",
            Self::Header => "header field of a push is longer than 65535 bytes",
            Self::SessionEnded => "session has ended",
        })
    }
}

impl Error for PushError {}

async fn send<B>(
    version: Version,
    opening: Opening,
    pump: Pump<B>,
    session: &Session,
    taste: &Taste,
) -> Result<(), Unsent>
where
    B: Body<Error: Into<BoxError>>,
{
    let (_, stream) = opening.await?.split();
    let mut answer = Answer::Begun(stream);
    if !taste.takes.load(Ordering::Relaxed) {
        // The client's refusal arrives before the PONG. Without this wait a small push would have
        // ended by then, and a refusal of an ended stream is not noticed.
        let mut pong = pin!(session.ping());
        let heard = poll_fn(|cx| match answer.poll_closed(cx) {
            Poll::Ready(end) => Poll::Ready(Err(Failure::Gone(end))),
            Poll::Pending => pong.as_mut().poll(cx).map(|_| Ok(())),
        });
        // A client that has closed its writing side cannot answer, but still gets the push that it
        // was promised.
        timeout(TASTING, heard).await.unwrap_or(Ok(()))?;
        taste.takes.store(true, Ordering::Relaxed);
    }
    let mut pump = pin!(pump);
    let sent = poll_fn(|cx| {
        let fault = &mut FaultNotice::Never;
        match pump.as_mut().poll(cx, version, &mut answer, fault) {
            Poll::Pending => answer.poll_closed(cx).map(Failure::Gone).map(Err),
            sent => sent,
        }
    });
    Ok(sent.await?)
}

/// How long a client may take to refuse its first push.
const TASTING: Duration = Duration::from_secs(5);

/// Why a push was not sent completely.
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
