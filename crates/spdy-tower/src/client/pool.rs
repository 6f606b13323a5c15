//! A client for any origin. It decides which connection a request uses, and how often it is sent.

use std::{
    collections::HashMap,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, Uri, header::PROXY_AUTHORIZATION, request::Parts};
use http_body_util::Empty;
use spdy_session::Session;
use tokio::time::Instant;
use tower_service::Service;
use tracing::debug;

use super::{
    Connector, ConnectorError, FetchError, InvalidTarget, ResponseBody,
    connection::Outcome,
    fetched::Patience,
    lent::{Lender, RequestBody},
    locked::Locked,
    origin::Origin,
    proxy::Route,
    slot::Slot,
    target,
};
use crate::{BoxError, Protocol};

/// Sends requests to any origin over SPDY, HTTP/2 or HTTP/1.1, as the server supports them.
///
/// An origin with SPDY or HTTP/2 has one connection, which requests share while it accepts streams.
/// An origin with HTTP/1.1 has one connection for each request under way, up to
/// [`Connector::max_connections`]. A request never waits for the connection attempt of another one
/// to time out: each has its own [`Connector::timeout`]. While it is unknown whether the requests
/// of an origin can share a connection, one connection is made, and the other requests wait for it.
///
/// A request that was certainly not processed is sent again, if necessary on another connection, up
/// to three times in all. An idempotent request is sent once more on a new connection, if its
/// connection had served requests before and ended without a byte of the response. Nothing else is
/// sent twice, and a request of whose body a part was taken is not sent again.
///
/// If a request is given up or times out while the server sends nothing, its connection gets no new
/// requests until a SPDY server has answered a PING, or an HTTP/2 server has sent anything. New
/// requests use another connection meanwhile, or wait if [`Connector::max_connections`] allows no
/// other. While requests are under way, [`Connector::keep_alive`] makes a server send something if
/// it lives, and ends the connection otherwise.
///
/// The time of a response is not limited, so that long polls work, unless
/// [`Connector::request_timeout`] or a [`RequestTimeout`] does it. Dropping the future gives the
/// request up immediately.
///
/// The extensions of a response contain the [`Protocol`] over which it arrived. The response to
/// CONNECT has a [`Tunnel`](crate::Tunnel) if it arrived over SPDY; otherwise
/// [`hyper::upgrade::on`] returns the connection.
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
    origins: Locked<HashMap<Origin, Arc<Slot>>>,
}

impl Client {
    /// Creates a client without connections.
    #[must_use]
    pub fn new(connector: Connector) -> Self {
        Self {
            shared: Arc::new(Shared {
                connector: Arc::new(connector),
                origins: Locked::default(),
            }),
        }
    }

    /// Sends a GET without fields, as [`send`](Self::send) does. [`ReadBody`](super::ReadBody)
    /// reads the body of the response.
    ///
    /// # Errors
    ///
    /// [`FetchError`]. A text that is no URI is [`InvalidTarget::Uri`].
    pub async fn get<U>(&self, uri: U) -> Result<Response<ResponseBody>, FetchError>
    where
        U: TryInto<Uri>,
    {
        let Ok(uri) = uri.try_into() else {
            return Err(ConnectorError::Target(InvalidTarget::Uri).into());
        };
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri;
        self.send(request).await
    }

    /// Sends a request with an absolute URI, and waits for the head of the response.
    ///
    /// The URI of CONNECT may consist of a host and a port. The request goes to that host itself,
    /// with TLS if the port is 443. To send it to another host, use
    /// [`send_through`](Self::send_through).
    ///
    /// A `host` field replaces the host of the URI in what the server gets, in every protocol. It
    /// never changes where the request goes. So with a [proxy](Connector::proxies) and a `host`
    /// field for another host or port than those of the URI, the request always goes through a
    /// tunnel: a proxy that sends a request on knows one host alone. With CONNECT the field is
    /// ignored.
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
        let (origin, request) = self.shared.routed(request)?;
        self.send_to(origin, request).await
    }

    /// Opens a connection to the origin of a URI before its first request, or to the
    /// [proxy](Connector::proxies) that sends its requests on, unless a connection accepts
    /// requests. Returns what it speaks. Later requests use this connection while it lasts.
    ///
    /// Cancel safe: a connection that is being made goes to the next request.
    ///
    /// # Errors
    ///
    /// [`ConnectorError`], within [`Connector::timeout`].
    pub async fn connect(&self, uri: &Uri) -> Result<Connected, ConnectorError> {
        let origin = Origin::of(uri)?;
        let slot = match self.shared.connector.route(origin, false)? {
            Route::Direct(origin) => self.shared.slot(origin),
            Route::Forwarded(proxy) => self.shared.slot(proxy.origin),
        };
        let lease = slot
            .connection(false, self.shared.connector.timeout)
            .await?;
        Ok(Connected {
            protocol: lease.protocol(),
            session: lease.session().cloned(),
        })
    }

    /// Sends a request to a proxy. The scheme, the host and the port of `proxy` count, whatever the
    /// URI of the request is. CONNECT asks the proxy for a tunnel to the host of that URI.
    ///
    /// Where the proxy sends the request on is in the URI alone, in every protocol. A `host` field
    /// is replaced by the host of the URI, as the proxy would do it (RFC 9112, section 3.2.2).
    ///
    /// Dropping the future gives the request up.
    ///
    /// # Errors
    ///
    /// [`FetchError`]. A URI of the request without a scheme or a host, or for CONNECT without a
    /// host, is [`InvalidTarget::NotAbsolute`].
    pub async fn send_through<B>(
        &self,
        proxy: &Uri,
        request: Request<B>,
    ) -> Result<Response<ResponseBody>, FetchError>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        target::check(&request)?;
        self.send_to(Origin::of_proxy(proxy)?, request).await
    }

    async fn send_to<B>(
        &self,
        origin: Origin,
        request: Request<B>,
    ) -> Result<Response<ResponseBody>, FetchError>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let own = request.extensions().get().map(|RequestTimeout(own)| *own);
        let limit = own.or(self.shared.connector.request_timeout);
        // It is long, and each place that takes it would have room for it.
        let mut attempt = pin!(self.attempt(origin, request));
        let Some(limit) = limit else {
            return attempt.await;
        };
        let mut patience = Patience::new(limit);
        let response = patience.wait(attempt.as_mut());
        Ok(response.await??.map(|body| body.within(patience)))
    }

    fn attempt<B>(
        &self,
        origin: Origin,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<ResponseBody>, FetchError>>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let (mut head, body) = request.into_parts();
        let to_proxy = origin.is_proxy();
        target::settle(&mut head, to_proxy);
        let mut attempts = Attempts::new(&head.method, body);
        let slot = self.shared.slot(origin);
        let mut patience = self.shared.connector.timeout;
        async move {
            loop {
                let asked = Instant::now();
                let lease = slot.connection(attempts.is_again(), patience).await?;
                patience = patience.saturating_sub(asked.elapsed());
                let protocol = lease.protocol();
                let response = lease.send(attempts.request(&head, protocol, to_proxy));
                match response.await {
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
}

/// How long a request may take, in its extensions: see [`Connector::request_timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestTimeout(pub Duration);

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

    /// The session, for PING and for separate streams. `None` unless the connection speaks SPDY.
    /// The connection stays open while this handle or a clone of it exists, unless a request needs
    /// its place: see [`Connector::max_connections`].
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
    /// Returns where a request goes first, which may be a proxy, and the request for it.
    fn routed<B>(&self, mut request: Request<B>) -> Result<(Origin, Request<B>), ConnectorError> {
        let origin = Origin::asked(request.method(), request.uri())?;
        let needs_tunnel = target::needs_tunnel(&request, &origin);
        match self.connector.route(origin, needs_tunnel)? {
            Route::Direct(origin) => Ok((origin, request)),
            Route::Forwarded(proxy) => {
                if let Some(value) = proxy.authorization {
                    request.headers_mut().insert(PROXY_AUTHORIZATION, value);
                }
                Ok((proxy.origin, request))
            }
        }
    }

    fn slot(&self, origin: Origin) -> Arc<Slot> {
        let found = self.origins.with(|origins| origins.get(&origin).cloned());
        if let Some(slot) = found {
            return slot;
        }
        self.make_room();
        self.origins.with(|origins| {
            let slot = origins.entry(origin).or_insert_with_key(|origin| {
                Slot::new(origin.clone(), Arc::clone(&self.connector))
            });
            Arc::clone(slot)
        })
    }

    /// If there are too many origins, closes the connections that no request uses, and forgets the
    /// origins without connections.
    fn make_room(&self) {
        let mut slots = self.origins.with(|origins| {
            if origins.len() < MAX_ORIGINS {
                return Vec::new();
            }
            origins.values().cloned().collect()
        });
        slots.retain(|slot| slot.close_unused());
        // The slots are dropped when the lock is released, in `slots`.
        self.origins.with(|origins| {
            for slot in &slots {
                let is_there = |found: &Arc<Slot>| Arc::ptr_eq(found, slot);
                // One owner is the map, and one is `slots`. A slot that a request holds is about to
                // be used.
                if origins.get(slot.origin()).is_some_and(is_there) && Arc::strong_count(slot) == 2
                {
                    origins.remove(slot.origin());
                }
            }
        });
    }
}

/// How often a request is sent. Only this type decides it:
///
/// - a request that the server has certainly not processed: up to three times, whatever its method;
/// - an idempotent request that the server may have processed: once more, on a new connection, if
///   the first connection had served requests before and ended without a byte of the response;
/// - a request of whose body something was taken: never again.
#[derive(Debug)]
struct Attempts {
    is_idempotent: bool,
    lender: Lender,
    next: Option<RequestBody>,
    count: usize,
    /// The server may have acted on one of the attempts.
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

    /// Returns the request for the next attempt.
    fn request(
        &mut self,
        head: &Parts,
        protocol: Protocol,
        to_proxy: bool,
    ) -> Request<RequestBody> {
        self.count += 1;
        let body = self.next.take().expect("an attempt begins with a body");
        let mut request = Request::from_parts(head.clone(), body);
        if protocol == Protocol::Http1 {
            target::for_http1(&mut request, to_proxy);
        }
        request
    }

    /// Returns whether there may be another attempt after one that ended in this way.
    fn may_go_on(&mut self, outcome: Outcome) -> bool {
        let is_allowed = match outcome {
            Outcome::Unprocessed(_) => self.count < ATTEMPTS,
            Outcome::Lost => self.is_idempotent && !std::mem::replace(&mut self.is_lost, true),
            Outcome::Final => false,
        };
        if is_allowed {
            self.next = self.lender.lend();
        }
        self.next.is_some()
    }
}

/// How often a request is sent at most, while it is certain that no server has acted on it.
const ATTEMPTS: usize = 3;

/// With more origins than this, the connections of unused origins are closed.
const MAX_ORIGINS: usize = 64;
