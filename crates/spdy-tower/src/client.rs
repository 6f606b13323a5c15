//! The client of HTTP requests over a session: [`handshake`] starts one on an existing transport.
//! With the cargo feature `client` there is also `Client`, which makes its own connections, with
//! TLS and ALPN or without, and uses HTTP/2 or HTTP/1.1 if the server does not support SPDY.
//!
//! ```
//! use http::Request;
//! use http_body_util::{BodyExt, Empty};
//! use spdy_tower::{Version, client, session::Config};
//! use tower::ServiceExt;
//!
//! # async fn fetch(transport: tokio::net::TcpStream) -> Result<(), Box<dyn std::error::Error>> {
//! let (requests, _, driver) = client::handshake(transport, Version::V3_1, Config::default());
//! tokio::spawn(driver);
//!
//! let request = Request::get("https://a.test/").body(Empty::<bytes::Bytes>::new())?;
//! let response = requests.oneshot(request).await?;
//! println!("{}", response.status());
//! let page = response.into_body().collect().await?.to_bytes();
//! # Ok(())
//! # }
//! ```
//!
//! # Requests
//!
//! - The URI has the scheme and the host. Without them, the host is that of the `host` field, and
//!   the scheme is `https`.
//! - Fields of a single HTTP/1.1 connection are left out, several `cookie` lines become one, and
//!   `content-length` is added if the length of the body is known. The method CONNECT opens a
//!   [`Tunnel`](crate::Tunnel).
//! - A [`Priority`] in the extensions of a request is the priority of its stream.
//! - The body is sent while the caller waits for the response and reads it. The bytes wait while
//!   the server grants no window.
//!
//! # Responses
//!
//! - The response future is ready with the head. Dropping it, or the [`Body`] before its end,
//!   resets the stream with CANCEL.
//! - A head that is not valid HTTP is an error, and the stream is reset with PROTOCOL_ERROR.

#[cfg(feature = "client")]
mod anonymous;
#[cfg(feature = "client")]
mod connection;
#[cfg(feature = "client")]
mod connector;
#[cfg(feature = "client")]
mod danger;
#[cfg(feature = "client")]
mod dial;
mod error;
mod exchange;
#[cfg(feature = "client")]
mod fetched;
#[cfg(feature = "client")]
mod lent;
#[cfg(feature = "client")]
mod locked;
#[cfg(feature = "proxy")]
mod no_proxy;
#[cfg(feature = "client")]
mod origin;
#[cfg(feature = "client")]
mod pool;
#[cfg(feature = "client")]
mod proof;
#[cfg(feature = "client")]
mod proxy;
mod push;
#[cfg(feature = "client")]
mod read;
mod registry;
#[cfg(feature = "client")]
mod slot;
#[cfg(feature = "client")]
mod target;
#[cfg(feature = "client")]
mod tcp;

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Method, Request, Response};
use spdy_frame::{Priority, Version};
use spdy_session::{Config, Driver, OpenError, OpenOptions, Session};
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

pub(crate) use self::error::{is_remote, is_timeout};
#[cfg(feature = "proxy")]
pub use self::no_proxy::NoProxy;
#[cfg(feature = "client")]
pub use self::{
    connector::{Connector, ConnectorError, Plain},
    danger::danger_accept_invalid_certs,
    dial::{Dial, Dialed, Dialing, Transport},
    fetched::{FetchError, ResponseBody},
    origin::InvalidTarget,
    pool::{Client, Connected, RequestTimeout},
    proxy::Proxy,
    read::{ReadBody, ReadError},
};
pub use self::{
    error::Error,
    push::{Pushed, Pushes},
};
use self::{exchange::Exchange, registry::Registry};
pub use crate::http::invalid::{InvalidRequest, InvalidResponse};
use crate::{
    Body, BoxError,
    http::{fields, write_request},
};
#[cfg(feature = "connect")]
pub use crate::{lookups::Lookups, race::connect_any};
/// TLS, with the version that [`Connector::new`] takes.
#[cfg(feature = "client")]
pub use tokio_rustls::rustls;

/// Starts a session as its client, and returns the responses that the server pushes.
///
/// Pushes are refused unless [`Config::accept_push`] is set. Then [`Pushes`] ends immediately, and
/// can be dropped.
///
/// Spawn the driver or poll it; nothing happens otherwise. Pass the negotiated version, or the
/// version that the server is known to speak. When all clones of the [`SendRequest`] are dropped,
/// the session ends after the responses under way.
pub fn handshake<IO>(
    transport: IO,
    version: Version,
    config: Config,
) -> (SendRequest, Pushes, Driver<IO>)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let registry = config.accept_push.then(Registry::default);
    let (session, incoming, driver) = spdy_session::client(transport, version, config);
    let pushes = Pushes::new(incoming, version, registry.clone().unwrap_or_default());
    let requests = SendRequest { session, registry };
    (requests, pushes, driver)
}

/// Sends requests over one session. Clones share the session.
///
/// As a [`tower::Service`](tower_service::Service) it is ready while the session accepts requests.
/// If as many streams are open as the server accepts, a request waits in its future, after the
/// requests that were sent before.
#[derive(Clone)]
pub struct SendRequest {
    session: Session,
    /// The requests that were sent, if pushes have to be compared with them.
    registry: Option<Registry>,
}

impl SendRequest {
    /// Sends a request. This call decides the order. The future waits for the head of the response.
    /// Poll it within a tokio runtime, which also sends the body.
    pub fn send<B>(&self, request: Request<B>) -> ResponseFuture
    where
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let exchange = self.begin(request);
        ResponseFuture(Box::pin(async {
            let (error, _) = match exchange {
                Ok(exchange) => match exchange.run().await {
                    Ok(response) => return Ok(response),
                    Err(failed) => failed,
                },
                Err(error) => return Err(error),
            };
            Err(error)
        }))
    }

    /// Returns whether the session accepts requests. This can change at any time. A request that
    /// comes too late fails with [`Error::NotSent`].
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.session.can_open()
    }

    /// Returns the session, for PING and shutdown.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// Opens the stream of a request.
    fn begin<B: http_body::Body>(&self, request: Request<B>) -> Result<Exchange<B>, Error> {
        let version = self.session.version();
        let (head, body) = request.into_parts();
        let priority = head.extensions.get::<Priority>().copied();
        let how = OpenOptions::new()
            .priority(priority.unwrap_or_default())
            .fin(body.is_end_stream() && head.method != Method::CONNECT);
        let (block, asked) = write_request::block(version, &head, body.size_hint().exact())
            .map_err(Error::Request)?;
        let announced = fields::announced(&block);
        if how.fin && announced.is_some_and(|length| length > 0) {
            return Err(Error::Body(exchange::WRONG_LENGTH.into()));
        }
        let (opening, asked) = match &self.registry {
            None => (self.session.open(block, how), None),
            Some(registry) => {
                let (note, asked) = registry.register(asked);
                (self.session.open_noting(block, how, note), Some(asked))
            }
        };
        Ok(Exchange {
            session: self.session.clone(),
            version,
            method: head.method,
            fin: how.fin,
            opening,
            asked,
            body,
            announced,
        })
    }
}

impl<B> Service<Request<B>> for SendRequest
where
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(if self.is_ready() {
            Ok(())
        } else {
            Err(Error::NotSent(OpenError::GoingAway))
        })
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        self.send(request)
    }
}

impl fmt::Debug for SendRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendRequest")
            .field("version", &self.session.version())
            .field("is_ready", &self.is_ready())
            .finish_non_exhaustive()
    }
}

/// Waits for the head of a response: see [`SendRequest::send`].
///
/// Dropping it gives the request up. If the request was not sent yet it is not sent, otherwise its
/// stream is reset with CANCEL.
#[must_use = "a request is given up when this is dropped"]
pub struct ResponseFuture(Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>);

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}
