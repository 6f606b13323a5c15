//! A client for any origin: which connection a request goes by, and how often it is sent.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, Uri, header::HOST, request::Parts, uri::PathAndQuery,
};
use spdy_session::Session;
use tokio::time::Instant;
use tower_service::Service;
use tracing::debug;

use super::{
    Connector, ConnectorError, FetchError, ResponseBody,
    connection::Outcome,
    lent::{Lender, RequestBody},
    origin::Origin,
    slot::Slot,
};
use crate::{BoxError, Protocol};

/// Sends requests to any origin over SPDY, HTTP/2 or HTTP/1.1, whatever the server speaks.
///
/// There is one session for each origin, which is shared as long as it takes streams; HTTP/1.1 has
/// as many connections as requests under way, within [`Connector::max_connections`]. Requests never
/// queue behind the connecting of another one: each fails within its own [`Connector::timeout`],
/// and each response is given as it comes. Where it is not known yet whether an origin takes
/// requests side by side, the first connection tells, and the others wait for it.
///
/// A request that was certainly not processed is sent again, on another connection where need be,
/// three times in all. An idempotent one is sent once more, on a new connection, if its connection
/// had served before and ended without a byte of the answer. Nothing else is sent twice, and
/// nothing of which a part of the body was taken.
///
/// A session on which a request is given up or times out, without a word from the server since it
/// was sent, gets no new requests until it has answered a PING; they get another one meanwhile.
///
/// There is no bound on the time that a response takes: long polls are as good as others. A caller
/// that wants one drops the future, and so gives the request up at once.
///
/// A response has the [`Protocol`] that it came by among its extensions. A request of the method
/// CONNECT is a [`Tunnel`](crate::Tunnel) if its response came over SPDY, and else one that
/// [`hyper::upgrade::on`] gives.
///
/// Clones share the connections. When all are dropped, the sessions end after the responses under
/// way. Requests need a tokio runtime.
///
/// ```no_run
/// use bytes::Bytes;
/// use http_body_util::{BodyExt, Empty};
/// use spdy_tower::client::{Client, Connector};
/// use tokio_rustls::rustls::{ClientConfig, RootCertStore};
///
/// # async fn fetch(roots: RootCertStore) -> Result<(), Box<dyn std::error::Error>> {
/// let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
/// let client = Client::new(Connector::new(tls));
/// let request = http::Request::get("https://a.test/").body(Empty::<Bytes>::new())?;
/// let response = client.send(request).await?;
/// let page = response.into_body().collect().await?.to_bytes();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    connector: Arc<Connector>,
    origins: Mutex<HashMap<Origin, Arc<Slot>>>,
}

impl Client {
    /// A client without a connection.
    #[must_use]
    pub fn new(connector: Connector) -> Self {
        Self {
            shared: Arc::new(Shared {
                connector: Arc::new(connector),
                origins: Mutex::default(),
            }),
        }
    }

    /// Sends a request, whose URI is absolute, and waits for the head of the response.
    ///
    /// The URI of CONNECT may be a host and a port alone. The request goes to that host itself, by
    /// TLS if the port is 443; to ask another one, see [`send_through`](Self::send_through).
    ///
    /// Dropping the future gives the request up.
    ///
    /// # Errors
    ///
    /// [`FetchError`].
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<ResponseBody>, FetchError>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let origin = Origin::asked(request.method(), request.uri())?;
        self.send_to(origin, false, request).await
    }

    /// Opens a connection to the origin of a URI ahead of its requests, unless there is one that
    /// takes requests, and returns what it speaks. Requests that follow go by this connection while
    /// it lasts.
    ///
    /// Cancel safe: a connection that is being made is there for the next request.
    ///
    /// # Errors
    ///
    /// [`ConnectorError`], within [`Connector::timeout`].
    pub async fn connect(&self, uri: &Uri) -> Result<Connected, ConnectorError> {
        let slot = self.shared.slot(Origin::of(uri)?);
        let lease = slot
            .connection(false, self.shared.connector.timeout)
            .await?;
        Ok(Connected {
            protocol: lease.protocol(),
            session: lease.session().cloned(),
        })
    }

    /// Sends a request to a proxy, of which the scheme, the host and the port count, whatever the
    /// request's own URI says. With CONNECT the proxy is asked for a tunnel to where that URI
    /// leads.
    ///
    /// Dropping the future gives the request up.
    ///
    /// # Errors
    ///
    /// [`FetchError`].
    pub async fn send_through<B>(
        &self,
        proxy: &Uri,
        request: Request<B>,
    ) -> Result<Response<ResponseBody>, FetchError>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        self.send_to(Origin::of(proxy)?, true, request).await
    }

    async fn send_to<B>(
        &self,
        origin: Origin,
        is_proxy: bool,
        request: Request<B>,
    ) -> Result<Response<ResponseBody>, FetchError>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let (mut head, body) = request.into_parts();
        if head.method == Method::CONNECT {
            keep_authority(&mut head);
        }
        let slot = self.shared.slot(origin);
        let mut attempts = Attempts::new(&head.method, body);
        let mut patience = self.shared.connector.timeout;
        loop {
            let asked = Instant::now();
            let lease = slot.connection(attempts.is_again(), patience).await?;
            patience = patience.saturating_sub(asked.elapsed());
            let protocol = lease.protocol();
            let mut request = Request::from_parts(head.clone(), attempts.body());
            if protocol == Protocol::Http1 {
                for_http1(&mut request, is_proxy);
            }
            match lease.send(request).await {
                Ok(mut response) => {
                    response.extensions_mut().insert(protocol);
                    return Ok(response);
                }
                Err(failed) if attempts.may_go_on(failed.outcome) => {
                    debug!(error = %failed.error, "request is sent again");
                }
                Err(failed) => return Err(failed.error),
            }
        }
    }
}

/// What the connection to an origin speaks: see [`Client::connect`].
#[derive(Clone, Debug)]
pub struct Connected {
    protocol: Protocol,
    session: Option<Session>,
}

impl Connected {
    /// The protocol.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The session, for PING and for streams of its own; `None` unless SPDY is spoken. The
    /// connection stays open while this handle, or a clone of it, is held.
    #[must_use]
    pub const fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }
}

impl<B> Service<Request<B>> for Client
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = FetchError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, FetchError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), FetchError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let client = self.clone();
        Box::pin(async move { client.send(request).await })
    }
}

impl Shared {
    fn slot(&self, origin: Origin) -> Arc<Slot> {
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        if origins.len() >= MAX_ORIGINS && !origins.contains_key(&origin) {
            // One that a request has in hand is about to be used.
            origins.retain(|_, slot| !slot.is_idle_now() || Arc::strong_count(slot) > 1);
        }
        let slot = origins
            .entry(origin)
            .or_insert_with_key(|origin| Slot::new(origin.clone(), Arc::clone(&self.connector)));
        Arc::clone(slot)
    }
}

/// How often a request is sent. This is the one place that decides it:
///
/// - what the server has certainly not processed, three times at most, whatever the method;
/// - what it may have processed once. An idempotent request once more, on a connection of its own,
///   if the first was one that had served before and ended without a byte of an answer;
/// - never what has a body of which something was taken.
#[derive(Debug)]
struct Attempts {
    is_idempotent: bool,
    lender: Lender,
    next: Option<RequestBody>,
    count: usize,
    /// The server may have acted on one of them.
    is_lost: bool,
}

impl Attempts {
    fn new<B>(method: &Method, body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let lender = Lender::new(body);
        Self {
            is_idempotent: method.is_idempotent(),
            next: lender.lend(),
            lender,
            count: 0,
            is_lost: false,
        }
    }

    fn is_again(&self) -> bool {
        self.count > 0
    }

    /// The body for the next attempt.
    fn body(&mut self) -> RequestBody {
        self.count += 1;
        self.next.take().expect("an attempt begins with a body")
    }

    /// Returns whether there may be another attempt after one that ended so.
    fn may_go_on(&mut self, outcome: Outcome) -> bool {
        let is_allowed = match outcome {
            Outcome::Unsent | Outcome::Refused => self.count < ATTEMPTS,
            Outcome::Lost => self.is_idempotent && !std::mem::replace(&mut self.is_lost, true),
            Outcome::Final => false,
        };
        if is_allowed {
            self.next = self.lender.lend();
        }
        self.next.is_some()
    }
}

/// HTTP/1.1 has the host in a field, and only the path in the request line, but for a proxy.
fn for_http1(request: &mut Request<RequestBody>, is_proxy: bool) {
    put_host(request);
    if request.method() != Method::CONNECT && !is_proxy {
        let target = request.uri().path_and_query().map(PathAndQuery::as_str);
        *request.uri_mut() = target
            .and_then(|target| Uri::try_from(target).ok())
            .unwrap_or_default();
    }
    *request.version_mut() = http::Version::HTTP_11;
}

/// The target of CONNECT is host and port, and nothing else.
fn keep_authority(head: &mut Parts) {
    let mut parts = http::uri::Parts::default();
    parts.authority = head.uri.authority().cloned();
    head.uri = Uri::from_parts(parts).unwrap_or_default();
}

fn put_host(request: &mut Request<RequestBody>) {
    if request.headers().contains_key(HOST) {
        return;
    }
    let host = request.uri().authority();
    if let Some(Ok(host)) = host.map(|host| HeaderValue::from_str(host.as_str())) {
        request.headers_mut().insert(HOST, host);
    }
}

/// How often a request is sent at most, while it is certain that no server has acted on it.
const ATTEMPTS: usize = 3;

/// Above so many origins the connections of those that are not in use are given up.
const MAX_ORIGINS: usize = 64;
