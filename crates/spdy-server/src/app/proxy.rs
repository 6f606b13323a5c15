//! A reverse proxy: requests go to an application that speaks HTTP/1.1, or HTTP/2 without TLS.
//!
//! Bodies stream both ways, with the back-pressure of either side. A client that leaves ends its request at the
//! application, too. Switching protocols (WebSocket and other upgrades) and CONNECT are not proxied: the application
//! sees a request without `upgrade`, and CONNECT is answered with 501.
//!
//! The application is told who asks: `x-forwarded-for`, `x-forwarded-proto`, `x-forwarded-host` and `forwarded`. What
//! the client itself sends under these names is dropped, unless it is [trusted](Proxy::trust_forwarded). `host` stays
//! what the client has sent.

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
use tokio::io::{AsyncRead, AsyncWrite};
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
use crate::info::ConnectionInfo;

/// What a reverse proxy needs to know.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Proxy {
    /// The application.
    pub upstream: Upstream,
    /// Whether to keep what clients say in `x-forwarded-*` and `forwarded`, and to add to it. To be turned on behind
    /// another proxy, and only there. (Off by default.)
    pub trust_forwarded: bool,
    /// How long a request may wait for a connection to the application: for a free place, and for the connection to be
    /// made, both together.
    pub connect_timeout: Duration,
    /// How long the application may be silent, before an answer begins and in the midst of one, while nothing of the
    /// request moves either. The time that the client takes to read an answer does not count, nor that in which the
    /// application waits for more of the request: [`Timeouts::body`](crate::Timeouts::body) is for that. (A router
    /// that something else than this crate serves has to bound it itself.)
    pub answer_timeout: Duration,
    /// How many connections to the application there may be that take requests. Each connection of HTTP/1.1 has one
    /// request at a time, and one of HTTP/2 as many as the application says. More of them wait.
    pub max_connections: usize,
    dial: Option<Dial>,
}

impl Proxy {
    /// A proxy with the default limits.
    #[must_use]
    pub const fn new(upstream: Upstream) -> Self {
        Self {
            upstream,
            trust_forwarded: false,
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(60),
            max_connections: 512,
            dial: None,
        }
    }

    /// Has connections to the application made by `dial`, and not to the address of [`upstream`](Self::upstream).
    ///
    /// Hidden, since it is there for tests of this project: with transports in memory they run on a paused clock.
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

    async fn connect(&self) -> io::Result<Channel> {
        match &self.dial {
            Some(dial) => dial.connect().await,
            None => Ok(Box::new(self.upstream.connect().await?)),
        }
    }
}

/// Passes every request on to an application.
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
    /// Whether the last request has failed. An application that is down is worth one line in the log.
    failing: AtomicBool,
}

async fn forward(State(forwarder): State<Arc<Forwarder>>, request: Request) -> Response {
    if request.method() == Method::CONNECT {
        let text = "This server passes no CONNECT on.\n";
        return (StatusCode::NOT_IMPLEMENTED, text).into_response();
    }
    match forwarder.forward(request).await {
        Ok(response) => {
            if forwarder.failing.swap(false, Ordering::Relaxed) {
                info!("the application answers again");
            }
            response
        }
        Err(failure) => {
            forwarder.note(&failure);
            failure.into_response()
        }
    }
}

/// Announces a body whose length is not known. hyper takes it that some methods have none, and drops it.
fn say_that_there_is(body: &Upload, head: &mut Parts) {
    let has_length = http_body::Body::size_hint(body).exact().is_some()
        || head.headers.contains_key(CONTENT_LENGTH);
    if !has_length {
        let chunked = const { HeaderValue::from_static("chunked") };
        head.headers.insert(TRANSFER_ENCODING, chunked);
    }
}

/// The body of an answer to HEAD. hyper calls it empty; axum would state that as the length of what GET gets.
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
        // The application's protocol is not the client's, and nothing of the client's connection concerns it.
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
