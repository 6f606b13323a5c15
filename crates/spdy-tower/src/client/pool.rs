//! A client for any origin, with the connections that it has open.

use std::{
    collections::HashMap,
    error::Error as StdError,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, Uri, header::HOST, request::Parts, uri::PathAndQuery,
};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::client::conn::{TrySendError, http1, http2};
use tower::Service;

use super::{
    Error, SendRequest,
    connector::{Connection, Connector, ConnectorError, Origin, RequestBody},
};
use crate::{Body, BodyError, BoxError, Protocol};

/// Sends requests to any origin over SPDY, HTTP/2 or HTTP/1.1, whatever the server speaks.
///
/// There is one session for each origin, which is shared as long as it takes streams; HTTP/1.1 has as many connections
/// as requests under way. A request that was certainly not processed is sent again, on another connection where need
/// be, a few times in all; nothing else is.
///
/// A response has the [`Protocol`] that it came by among its extensions. A request of the method CONNECT
/// is a [`Tunnel`](crate::Tunnel) if its response came over SPDY, and else one that [`hyper::upgrade::on`] gives.
///
/// Clones share the connections. When all are dropped, the sessions end after the responses under way. Requests need a
/// tokio runtime.
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
    connector: Connector,
    origins: Mutex<HashMap<Origin, Arc<Slot>>>,
}

impl Client {
    /// A client without a connection.
    #[must_use]
    pub fn new(connector: Connector) -> Self {
        Self {
            shared: Arc::new(Shared {
                connector,
                origins: Mutex::default(),
            }),
        }
    }

    /// Sends a request, whose URI is absolute, and waits for the head of the response.
    ///
    /// The URI of CONNECT may be a host and a port alone. The request goes to that host itself, by TLS if the port is
    /// 443; to ask another one, see [`send_through`](Self::send_through).
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

    /// Sends a request to a proxy, of which the scheme, the host and the port count, whatever the request's own URI says.
    /// With CONNECT the proxy is asked for a tunnel to where that URI leads.
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
        let mut body = body.map_err(Into::into).boxed_unsync();
        let mut attempts = 1;
        loop {
            let connection = slot.connection(&self.shared.connector).await?;
            let protocol = connection.protocol();
            let mut request = Request::from_parts(head.clone(), body);
            if protocol == Protocol::Http1 {
                for_http1(&mut request, is_proxy);
            }
            match slot.send(connection, request).await {
                Ok(mut response) => {
                    response.extensions_mut().insert(protocol);
                    return Ok(response);
                }
                Err((_, Some(unused))) if attempts < ATTEMPTS => body = unused,
                Err((error, _)) => return Err(error),
            }
            attempts += 1;
        }
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
            // Those that are in use come back when they are asked for.
            origins.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        let slot = origins.entry(origin).or_insert_with_key(|origin| {
            Arc::new(Slot {
                origin: origin.clone(),
                connections: tokio::sync::Mutex::default(),
            })
        });
        Arc::clone(slot)
    }
}

/// What is open to one origin. The lock is held while a connection is made, so that those who wait share it.
#[derive(Debug)]
struct Slot {
    origin: Origin,
    connections: tokio::sync::Mutex<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    spdy: Option<SendRequest>,
    http2: Option<http2::SendRequest<RequestBody>>,
    /// Those whose last request has its response, or soon will.
    http1: Vec<http1::SendRequest<RequestBody>>,
}

impl Slot {
    /// A connection that takes a request: an open one, or a new one.
    async fn connection(&self, connector: &Connector) -> Result<Connection, ConnectorError> {
        let mut connections = self.connections.lock().await;
        if let Some(connection) = connections.take() {
            return Ok(connection);
        }
        let connection = connector.connect(&self.origin).await?;
        match &connection {
            Connection::Spdy(requests) => connections.spdy = Some(requests.clone()),
            Connection::Http2(requests) => connections.http2 = Some(requests.clone()),
            Connection::Http1(_) => {}
        }
        Ok(connection)
    }

    /// Sends a request. The error comes with its body if it may be sent again.
    async fn send(
        &self,
        connection: Connection,
        request: Request<RequestBody>,
    ) -> Result<Response<ResponseBody>, (FetchError, Option<RequestBody>)> {
        match connection {
            Connection::Spdy(requests) => {
                let exchange = match requests.begin(request) {
                    Ok(exchange) => exchange,
                    Err(error) => return Err((error.into(), None)),
                };
                match exchange.run().await {
                    Ok(response) => Ok(response.map(ResponseBody::spdy)),
                    Err((error, body)) => {
                        let body = body.filter(|_| error.is_retry_safe());
                        if let Error::NotSent(_) = error {
                            self.forget(&requests).await;
                        }
                        Err((error.into(), body))
                    }
                }
            }
            Connection::Http2(mut requests) => sent(requests.try_send_request(request).await),
            Connection::Http1(mut requests) => {
                let response = requests.try_send_request(request).await;
                self.connections.lock().await.keep(requests);
                sent(response)
            }
        }
    }

    /// A session that takes no stream takes none for ever. It may know that before its handle does.
    async fn forget(&self, session: &SendRequest) {
        let mut connections = self.connections.lock().await;
        connections.spdy.take_if(|open| open.is_same(session));
    }
}

impl Connections {
    fn take(&mut self) -> Option<Connection> {
        if let Some(requests) = self.spdy.take_if(|requests| !requests.is_ready()) {
            drop(requests);
        }
        if let Some(requests) = &self.spdy {
            return Some(Connection::Spdy(requests.clone()));
        }
        _ = self.http2.take_if(|requests| requests.is_closed());
        if let Some(requests) = &self.http2 {
            return Some(Connection::Http2(requests.clone()));
        }
        self.http1.retain(|requests| !requests.is_closed());
        let ready = self.http1.iter().position(http1::SendRequest::is_ready)?;
        Some(Connection::Http1(self.http1.swap_remove(ready)))
    }

    fn keep(&mut self, requests: http1::SendRequest<RequestBody>) {
        if !requests.is_closed() && self.http1.len() < MAX_IDLE {
            self.http1.push(requests);
        }
    }
}

fn sent(
    response: Result<Response<hyper::body::Incoming>, TrySendError<Request<RequestBody>>>,
) -> Result<Response<ResponseBody>, (FetchError, Option<RequestBody>)> {
    match response {
        Ok(response) => Ok(response.map(ResponseBody::http)),
        Err(mut error) => {
            let body = error.take_message().map(Request::into_body);
            Err((FetchError::Http(error.into_error()), body))
        }
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

/// The body of a response, whatever protocol it came by.
#[derive(Debug)]
pub struct ResponseBody(Source);

#[derive(Debug)]
enum Source {
    Spdy(Body),
    Http(hyper::body::Incoming),
}

impl ResponseBody {
    const fn spdy(body: Body) -> Self {
        Self(Source::Spdy(body))
    }

    const fn http(body: hyper::body::Incoming) -> Self {
        Self(Source::Http(body))
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = FetchError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, FetchError>>> {
        match &mut self.0 {
            Source::Spdy(body) => Pin::new(body).poll_frame(cx).map_err(FetchError::Body),
            Source::Http(body) => Pin::new(body).poll_frame(cx).map_err(FetchError::Http),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Spdy(body) => body.is_end_stream(),
            Source::Http(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Spdy(body) => body.size_hint(),
            Source::Http(body) => body.size_hint(),
        }
    }
}

/// Why a request of a [`Client`] got no response, or not all of it.
#[derive(Debug)]
#[non_exhaustive]
pub enum FetchError {
    /// There is no connection.
    Connect(ConnectorError),
    /// The request failed over SPDY.
    Spdy(Error),
    /// The body of the response failed over SPDY.
    Body(BodyError),
    /// The request or the body of its response failed over HTTP/2 or HTTP/1.1.
    Http(hyper::Error),
}

impl From<ConnectorError> for FetchError {
    fn from(error: ConnectorError) -> Self {
        Self::Connect(error)
    }
}

impl From<Error> for FetchError {
    fn from(error: Error) -> Self {
        Self::Spdy(error)
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect(_) => "request could not be sent",
            Self::Body(_) => "response ended early",
            Self::Spdy(_) | Self::Http(_) => "request failed",
        })
    }
}

impl StdError for FetchError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(match self {
            Self::Connect(error) => error,
            Self::Spdy(error) => error,
            Self::Body(error) => error,
            Self::Http(error) => error,
        })
    }
}

/// How often a request is sent at most, while it is certain that nobody has acted on it.
const ATTEMPTS: usize = 3;

/// Above so many origins the connections of those that are not in use are given up.
const MAX_ORIGINS: usize = 64;

/// Connections of HTTP/1.1 that are kept for one origin.
const MAX_IDLE: usize = 8;
