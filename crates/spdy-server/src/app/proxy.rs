//! A reverse proxy: it passes requests on to an application that supports HTTP/1.1, or HTTP/2
//! without TLS.
//!
//! Bodies stream both ways, with the back-pressure of either side. When a client leaves, its
//! request to the application ends, too. The proxy does not support WebSocket, other upgrades and
//! CONNECT: the application receives a request without `upgrade`, and the proxy answers CONNECT
//! with 501.
//!
//! The proxy describes the client in the fields `x-forwarded-for`, `x-forwarded-proto`,
//! `x-forwarded-host` and `forwarded`. It removes fields of these names that the client itself has
//! sent, unless it [trusts](Proxy::trust_forwarded) them. `host` stays as the client sent it.

mod answer;
mod dial;
mod failure;
mod fields;
mod heard;
mod patience;
mod pool;
mod sips;
mod upload;
mod upstream;

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{
        HeaderValue, Method, StatusCode, Version,
        header::{CONTENT_LENGTH, TRANSFER_ENCODING},
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body::Frame;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep},
};
use tracing::{debug, info, warn};

pub use self::upstream::{Upstream, UpstreamError};
use self::{
    dial::{Channel, Dial},
    failure::Failure,
    fields::Forwarding,
    patience::Patience,
    pool::Pool,
    upload::Upload,
};
use crate::{config::after, info::ConnectionInfo};

/// The configuration of a reverse proxy.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Proxy {
    /// The address of the application.
    pub upstream: Upstream,
    /// Whether to keep the `x-forwarded-*` and `forwarded` fields of clients, and to add to them.
    /// Turn it on only behind another proxy. (Off by default.)
    pub trust_forwarded: bool,
    /// The time limit for getting a connection to the application: for waiting for a free place and
    /// for opening the connection together. An HTTP/2 connection is open when the application has
    /// sent its settings.
    pub connect_timeout: Duration,
    /// How long an application that refuses connections is asked again: it might be starting. It is
    /// a part of [`connect_timeout`](Self::connect_timeout), and at most that. The client gets 502
    /// after it. Zero asks once. (3 s by default.)
    ///
    /// A request whose connection was refused has not been sent, so requests of all methods wait. A
    /// Unix socket whose file is missing counts as one that refuses.
    pub retry_refused: Duration,
    /// How long the application can be silent before and during a response, while no part of the
    /// request body moves either. It does not count the time in which the client has to read more
    /// of the response or send more of the request: [`Timeouts::body`](crate::Timeouts::body)
    /// limits the latter. (If the router is not served by this crate, its server has to limit it.)
    pub answer_timeout: Duration,
    /// The maximum number of connections to the application that are open or being opened. An
    /// HTTP/1.1 connection carries one request at a time, an HTTP/2 connection as many as the
    /// application allows. Further requests wait.
    ///
    /// An HTTP/2 connection that takes no more requests counts until its last response is complete.
    /// It is closed earlier if a request waits and either no client uses the connection any more,
    /// or the application has sent nothing on it, not even the reply to a PING, while a request
    /// waited for all of the [`answer_timeout`](Self::answer_timeout).
    pub max_connections: usize,
    dial: Option<Dial>,
}

impl Proxy {
    /// Returns a proxy with the default limits.
    #[must_use]
    pub const fn new(upstream: Upstream) -> Self {
        Self {
            upstream,
            trust_forwarded: false,
            connect_timeout: Duration::from_secs(5),
            retry_refused: Duration::from_secs(3),
            answer_timeout: Duration::from_secs(60),
            max_connections: 512,
            dial: None,
        }
    }

    /// Opens connections to the application with `dial`, and not to the address of
    /// [`upstream`](Self::upstream).
    ///
    /// This is hidden because only tests of this project need it: with transports in memory they
    /// run on a paused clock.
    #[doc(hidden)]
    #[must_use]
    pub fn connector<F, C, IO>(mut self, dial: F) -> Self
    where
        F: Fn() -> C + Send + Sync + 'static,
        C: Future<Output = io::Result<IO>> + Send + 'static,
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.dial = Some(Dial::new(dial));
        self
    }

    /// Opens a connection. An application that refuses it is asked again.
    async fn connect(&self) -> io::Result<Channel> {
        let until = after(self.retry_refused.min(self.connect_timeout));
        let mut pause = SHORTEST_PAUSE;
        loop {
            match self.try_connect().await {
                Err(error)
                    if self.upstream.is_refusal(&error) && Instant::now() + pause < until =>
                {
                    debug!(%error, ?pause, "the application refuses connections; trying again");
                    sleep(pause).await;
                    pause = LONGEST_PAUSE.min(pause * 2);
                }
                outcome => return outcome,
            }
        }
    }

    async fn try_connect(&self) -> io::Result<Channel> {
        match &self.dial {
            Some(dial) => dial.connect().await,
            None => Ok(Box::new(self.upstream.connect().await?)),
        }
    }
}

/// The pauses between two attempts to connect to an application that refuses connections.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// Returns a router that passes every request on to an application.
pub fn proxy(proxy: Proxy) -> Router {
    let forwarder = Forwarder {
        forwarding: Forwarding::new(&proxy.upstream, proxy.trust_forwarded),
        pool: Pool::new(proxy),
        failing: AtomicBool::new(false),
    };
    Router::new()
        .fallback(forward)
        .with_state(Arc::new(forwarder))
}

struct Forwarder {
    forwarding: Forwarding,
    pool: Pool,
    /// Whether the last request failed. It lets a failing application cause only one line in the
    /// log.
    failing: AtomicBool,
}

async fn forward(State(forwarder): State<Arc<Forwarder>>, request: Request) -> Response {
    if request.method() == Method::CONNECT {
        let text = "This server does not support CONNECT.\n";
        return (StatusCode::NOT_IMPLEMENTED, text).into_response();
    }
    match forwarder.forward(request).await {
        Ok(response) => {
            if forwarder.failing.swap(false, Ordering::Relaxed) {
                info!("the application responds again");
            }
            response
        }
        Err(failure) => {
            forwarder.note(&failure);
            failure.into_response()
        }
    }
}

/// Announces a body of unknown length. hyper assumes that some methods have none, and drops it.
fn say_that_there_is(body: &Upload, head: &mut Parts) {
    let has_length = http_body::Body::size_hint(body).exact().is_some()
        || head.headers.contains_key(CONTENT_LENGTH);
    if !has_length {
        let chunked = const { HeaderValue::from_static("chunked") };
        head.headers.insert(TRANSFER_ENCODING, chunked);
    }
}

/// The body of a response to HEAD. hyper considers it empty, and axum would declare that length as
/// the one of GET.
struct Unsaid;

impl http_body::Body for Unsaid {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }
}

impl Forwarder {
    async fn forward(&self, request: Request) -> Result<Response, Failure> {
        let info = request.extensions().get::<ConnectionInfo>().copied();
        let (mut head, body) = request.into_parts();
        // The protocol of the application is not that of the client, and the connection of the
        // client does not concern it.
        head.extensions.clear();
        head.version = Version::HTTP_11;
        self.forwarding.request(&mut head, info);
        let is_head = head.method == Method::HEAD;
        let body = Upload::begin(&head.method, body).await?;
        if !self.forwarding.is_absolute() {
            say_that_there_is(&body, &mut head);
        }
        let response = self.pool.send(Request::from_parts(head, body)).await?;

        let (mut head, body) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::Switched);
        }
        head.extensions.clear();
        head.version = Version::HTTP_11;
        fields::remove_hop_by_hop(&mut head.headers);
        let body = if is_head {
            Body::new(Unsaid)
        } else {
            Body::new(body)
        };
        Ok(Response::from_parts(head, body))
    }

    fn note(&self, failure: &Failure) {
        let reason = failure.reason();
        if !failure.is_the_applications() {
            debug!(reason, "{failure}");
        } else if self.failing.swap(true, Ordering::Relaxed) {
            debug!(reason, "{failure}");
        } else {
            warn!(reason, "{failure}");
        }
    }
}
