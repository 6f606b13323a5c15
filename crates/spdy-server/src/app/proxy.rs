//! A reverse proxy: it passes requests on to an application that supports HTTP/1.1 or HTTP/2, in
//! plain text or over TLS.
//!
//! Bodies stream both ways, with the back-pressure of either side. When a client leaves, its
//! request to the application ends, too.
//!
//! A client of HTTP/1.1 and an application that supports it can switch to WebSocket, or to any
//! other protocol that is not HTTP again. Then bytes pass both ways, until both sides have ended,
//! the client has left, or [`Proxy::upgrade_timeout`] is over. If one side breaks off, the other
//! one gets what came before, and then a TCP reset (over TLS no close_notify either). Over a Unix
//! socket, which has no reset, it gets an end.
//!
//! A request that names several protocols, HTTP/2 (`h2c`) or TLS, or has a body, reaches the
//! application without `upgrade`. If the application supports HTTP/2 alone (`h2://`, `h2s://`), a
//! request to switch is answered with 501. SPDY and HTTP/2 have no `upgrade`, and the proxy
//! supports neither the extended CONNECT of HTTP/2 nor CONNECT, which it answers with 501.
//!
//! The proxy describes the client in the fields `x-forwarded-for`, `x-forwarded-proto`,
//! `x-forwarded-host` and `forwarded`. It removes fields of these names that the client itself has
//! sent, unless it [trusts](Proxy::trust_forwarded) them. `host` stays as the client sent it.

mod answer;
mod choice;
mod dial;
mod failure;
mod fields;
mod heard;
mod limit;
mod patience;
mod pool;
#[cfg(feature = "rustls")]
mod secure;
mod shortage;
mod sips;
mod target;
mod tunnel;
mod upgrade;
mod upload;
mod upstream;
mod upstreams;

use std::{
    convert::Infallible,
    io, mem,
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

use self::{
    answer::Answer,
    choice::{Choice, Turn},
    dial::Dial,
    failure::Failure,
    fields::Forwarding,
    heard::Heard,
    limit::Limit,
    patience::Patience,
    pool::Pool,
    target::Target,
    upgrade::Asked,
    upload::Upload,
};
pub use self::{
    upstream::{Upstream, UpstreamError},
    upstreams::{Upstreams, UpstreamsError},
};
use crate::{
    info::ConnectionInfo,
    request_id::{RequestId, X_REQUEST_ID},
};

/// The configuration of a reverse proxy for one application, at one address or several.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Proxy {
    /// The addresses of the application: one or more, each once, in one protocol.
    upstreams: Vec<Upstream>,
    /// Whether to keep the `x-forwarded-*` and `forwarded` fields of clients, and to add to them.
    /// Turn it on only behind another proxy. (Off by default.)
    pub trust_forwarded: bool,
    /// The time limit for getting a connection to the application: for waiting for a free place and
    /// for opening the connection together, at all addresses. An HTTP/2 connection is open when the
    /// application has sent its settings.
    ///
    /// Of several addresses each has an equal part of this time to open a connection, but at least
    /// a second. Then the request goes on to the next address. (5 s by default.)
    pub connect_timeout: Duration,
    /// How long an application that refuses connections at one of its addresses is asked again: it
    /// might be starting. It is a part of [`connect_timeout`](Self::connect_timeout), and at most
    /// that. The client gets 502 after it. Zero asks each address once. (3 s by default.)
    ///
    /// A request whose connection was refused has not been sent, so requests of all methods wait. A
    /// Unix socket whose file is missing, or whose queue is full, counts as one that refuses.
    pub retry_refused: Duration,
    /// The number of connects to an address that fail one after another until the address is left
    /// out for [`down_for`](Self::down_for). Zero leaves none out. (3 by default.)
    ///
    /// A connect fails if it is refused, if it ends with any other error, also in the handshake of
    /// TLS, and if the connection is not open in its part of
    /// [`connect_timeout`](Self::connect_timeout). One that is given up before, because its client
    /// leaves, has failed if half of that time is over. Nothing else counts: neither a response
    /// such as 503, nor a connection that breaks, nor a connect that is given up because its
    /// request has a place at another address, nor one for which this machine has no descriptor,
    /// port or memory left: the request is then answered with 503, unless another address can be
    /// reached. One connect that succeeds ends the row.
    pub down_after: u32,
    /// How long an address is left out. Then one request tries it, on a new connection or on one
    /// that is open still. If it connects or is answered, the address is back. If its connect
    /// fails, the address is left out for this time again. If it ends before either, the next
    /// request tries. (10 s by default.)
    ///
    /// No request fails because addresses are left out: where no other can be reached, or has a
    /// place in its part of [`connect_timeout`](Self::connect_timeout), they are tried, by one
    /// request after another at each address.
    pub down_for: Duration,
    /// How long the application can be silent before and during a response, while no part of the
    /// request body moves either. It does not count the time in which the client has to read more
    /// of the response or send more of the request: [`Timeouts::body`](crate::Timeouts::body)
    /// limits the latter. (If the router is not served by this crate, its server has to limit it.)
    /// (60 s by default.)
    pub answer_timeout: Duration,
    /// The maximum number of connections to each address that are open or being opened. An
    /// HTTP/1.1 connection carries one request at a time, an HTTP/2 connection as many as the
    /// application allows. Further requests wait. (512 by default.) [`Upstreams::accept`] opens one
    /// more to each address for a moment.
    ///
    /// An HTTP/2 connection that takes no more requests counts until its last response is complete.
    /// It is closed earlier if a request waits and either no client uses the connection any more,
    /// or the application has sent nothing on it, not even the reply to a PING, while a request
    /// waited for all of the [`answer_timeout`](Self::answer_timeout).
    pub max_connections: usize,
    /// How long nothing can move after a client and the application have switched to another
    /// protocol, such as WebSocket: no byte in either direction, or none into a side that has to
    /// read. Then both connections are closed. The timeouts of the server that limit silent and
    /// stalled connections do not apply. (1 h by default.)
    ///
    /// Once the application has ended its direction, a client that is silent for 60 s is not waited
    /// for.
    pub upgrade_timeout: Duration,
    /// The maximum number of bytes in the body of a request. A longer one is answered with 413: at
    /// once if its length is declared, and otherwise when it has become too long. If the response
    /// has begun by then, both are broken off. `None` means no limit. (`None` by default.)
    pub max_body: Option<u64>,
    /// The certificates that applications at `https://` and `h2s://` can have, and the certificate
    /// of the proxy, if applications ask for one. Without this no connection to such an address can
    /// be opened. (`None` by default.)
    ///
    /// The proxy sets the ALPN protocols: `http/1.1` for `https://` and `h2` for `h2s://`. All
    /// connections for requests share the sessions that can be resumed. The certificate has to name
    /// the host of the address. The handshake is a part of
    /// [`connect_timeout`](Self::connect_timeout).
    #[cfg(feature = "rustls")]
    pub tls: Option<Arc<rustls::ClientConfig>>,
    dial: Option<Dial>,
}

impl Proxy {
    /// Returns a proxy with the default limits, for an application at one address.
    #[must_use]
    pub fn new(upstream: Upstream) -> Self {
        Self {
            upstreams: vec![upstream],
            trust_forwarded: false,
            connect_timeout: Duration::from_secs(5),
            retry_refused: Duration::from_secs(3),
            down_after: 3,
            down_for: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(60),
            max_connections: 512,
            upgrade_timeout: Duration::from_secs(60 * 60),
            max_body: None,
            #[cfg(feature = "rustls")]
            tls: None,
            dial: None,
        }
    }

    /// Adds an address of the same application. Each request goes to the address with the fewest
    /// requests, and to each in turn if several have equally few.
    ///
    /// A host whose name has several addresses is one address here: each connection goes to the
    /// first that answers.
    ///
    /// ```
    /// use spdy_server::app::{Proxy, proxy};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let application = Proxy::new("http://10.0.0.1:8080".parse()?)
    ///     .also("http://10.0.0.2:8080".parse()?)?;
    /// let app = proxy(application);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the address is there already, or if it has another protocol than the others: `http://`,
    /// `https://` and `unix:` are one, `h2://` is another, and `h2s://` is the third.
    pub fn also(mut self, upstream: Upstream) -> Result<Self, UpstreamsError> {
        UpstreamsError::check(&self.upstreams, &upstream)?;
        self.upstreams.push(upstream);
        Ok(self)
    }

    /// Returns the addresses of the application, of which there is at least one.
    #[must_use]
    pub fn upstreams(&self) -> &[Upstream] {
        &self.upstreams
    }

    fn is_http2(&self) -> bool {
        self.upstreams[0].is_http2()
    }

    /// Returns a router that passes every request on to the application, and the state of its
    /// addresses. Use [`proxy`] if you need only the router.
    #[cfg_attr(not(feature = "rustls"), expect(unused_mut))]
    pub fn build(mut self) -> (Router, Upstreams) {
        #[cfg(feature = "rustls")]
        if let Some(tls) = &mut self.tls {
            secure::offer(tls, self.upstreams[0].is_http2());
        }
        let forwarding = Forwarding::new(&self.upstreams[0], self.trust_forwarded);
        let (upgrade_timeout, max_body) = (self.upgrade_timeout, self.max_body);
        let pool = Arc::new(Pool::new(self));
        let forwarder = Forwarder {
            forwarding,
            upgrade_timeout,
            max_body,
            pool: Arc::clone(&pool),
            failing: AtomicBool::new(false),
        };
        let router = Router::new()
            .fallback(forward)
            .with_state(Arc::new(forwarder));
        (router, Upstreams::of(pool))
    }

    /// Opens connections to the application with `dial`, and not to the address of its
    /// [`upstreams`](Self::upstreams).
    ///
    /// This is hidden because only tests of this project need it: with transports in memory they
    /// run on a paused clock.
    #[doc(hidden)]
    #[must_use]
    pub fn connector<F, C, IO>(self, dial: F) -> Self
    where
        F: Fn() -> C + Send + Sync + 'static,
        C: Future<Output = io::Result<IO>> + Send + 'static,
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.connectors(move |_| dial())
    }

    /// The same as [`connector`](Self::connector), for several addresses.
    #[doc(hidden)]
    #[must_use]
    pub fn connectors<F, C, IO>(mut self, dial: F) -> Self
    where
        F: Fn(&Upstream) -> C + Send + Sync + 'static,
        C: Future<Output = io::Result<IO>> + Send + 'static,
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.dial = Some(Dial::new(dial));
        self
    }
}

/// Returns a router that passes every request on to an application.
pub fn proxy(proxy: Proxy) -> Router {
    proxy.build().0
}

struct Forwarder {
    forwarding: Forwarding,
    upgrade_timeout: Duration,
    max_body: Option<u64>,
    pool: Arc<Pool>,
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

/// Prepares a response for the client.
fn onward(response: Response<Answer>, is_head: bool) -> Response {
    let (mut head, body) = response.into_parts();
    head.extensions.clear();
    head.version = Version::HTTP_11;
    fields::remove_hop_by_hop(&mut head.headers);
    let body = match is_head {
        true => Body::new(Unsaid),
        false => Body::new(body),
    };
    Response::from_parts(head, body)
}

impl Forwarder {
    async fn forward(&self, mut request: Request) -> Result<Response, Failure> {
        let limit = Limit::new(self.max_body);
        let asked = self.prepare(&mut request, &limit)?;
        let is_head = request.method() == Method::HEAD;
        let sent = self.send(request).await;
        let response = sent.map_err(|failure| limit.judge(failure))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let asked = asked.ok_or(Failure::Switched)?;
            return asked.switch(response, self.upgrade_timeout);
        }
        Ok(onward(response, is_head))
    }

    /// Converts a request to the form that the application needs. Returns what it asks to switch
    /// to.
    fn prepare(&self, request: &mut Request, limit: &Limit) -> Result<Option<Box<Asked>>, Failure> {
        let (mut head, body) = mem::take(request).into_parts();
        let info = head.extensions.get::<ConnectionInfo>().copied();
        let id = head.extensions.get::<RequestId>().cloned();
        let is_empty = http_body::Body::is_end_stream(&body);
        let asked = is_empty.then(|| Asked::take(&mut head)).flatten();
        if asked.is_some() && self.forwarding.is_absolute() {
            return Err(Failure::NeverSwitches);
        }
        // The protocol of the application is not that of the client, and the connection of the
        // client does not concern it.
        head.extensions.clear();
        head.version = Version::HTTP_11;
        self.forwarding.request(&mut head, info);
        if let Some(id) = id {
            // The client might have named the field in `connection`.
            head.headers.insert(X_REQUEST_ID, id.into_value());
        }
        if let Some(asked) = &asked {
            asked.ask(&mut head.headers);
        }
        let body = limit.apply(&head.headers, body)?;
        *request = Request::from_parts(head, body);
        Ok(asked.map(Box::new))
    }

    async fn send(&self, request: Request) -> Result<Response<Answer>, Failure> {
        let (mut head, body) = request.into_parts();
        let body = Upload::begin(&head.method, body).await?;
        if !self.forwarding.is_absolute() {
            say_that_there_is(&body, &mut head);
        }
        self.pool.send(Request::from_parts(head, body)).await
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
