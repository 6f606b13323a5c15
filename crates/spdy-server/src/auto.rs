//! Serves transports that are not sockets of a [`Server`](crate::Server): in an accept loop of your
//! own, on a pipe in memory, or on a stream of another protocol.
//!
//! [`Builder`] has the shape of hyper-util's `server::conn::auto::Builder`, and adds SPDY.
//!
//! ```
//! use axum::{Router, routing::get};
//! use spdy_server::auto;
//! # type Error = Box<dyn std::error::Error + Send + Sync>;
//! # async fn main_(io: tokio::io::DuplexStream) -> Result<(), Error> {
//! let app = Router::new().route("/", get(|| async { "hello" }));
//! auto::Builder::new().serve_connection(io, app).await
//! # }
//! ```
//!
//! An accept loop with TLS:
//!
//! ```no_run
//! # #[cfg(feature = "rustls")] mod tls {
//! use std::{io, sync::Arc};
//!
//! use axum::Router;
//! use spdy_server::{Protocol, auto, rustls::ServerConfig, tokio_rustls::TlsAcceptor};
//! use tokio::net::TcpListener;
//!
//! async fn serve(listener: TcpListener, mut tls: ServerConfig, app: Router) -> io::Result<()> {
//!     tls.alpn_protocols = Protocol::ALL.map(|it| it.alpn().to_vec()).into();
//!     let tls = TlsAcceptor::from(Arc::new(tls));
//!     let builder = auto::Builder::new();
//!     loop {
//!         let (socket, _) = listener.accept().await?;
//!         let (tls, builder, app) = (tls.clone(), builder.clone(), app.clone());
//!         tokio::spawn(async move {
//!             let io = tls.accept(socket).await?;
//!             builder.serve_tls_connection(io, app).await
//!         });
//!     }
//! }
//! # }
//! ```

use std::{
    any::Any,
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{BoxError, Router};
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest},
    net::TcpStream,
};
#[cfg(feature = "rustls")]
use tokio_rustls::server::TlsStream;

use crate::{
    application::{Application, Applications},
    config::Config,
    connection::Beginning,
    info::ConnectionInfo,
    observe::Observers,
    pass::pass,
    service::Service,
    shutdown::{Lifecycle, Lifeline},
    socket::{self, Fails, Peer, is_ended},
};

/// Serves connections of any protocol, each with a service of its own.
///
/// Cloning a builder is cheap. Every connection can be upgraded: CONNECT, WebSocket and other
/// Upgrades of HTTP/1.1 need no second method.
///
/// A handler finds [`ConnectionInfo`] in the extensions of each request. axum's
/// `ConnectInfo<SocketAddr>` is there if the transport is a [`TcpStream`], or TLS over one, or if
/// the address was passed to [`serve_known_connection`](Self::serve_known_connection).
#[derive(Clone, Debug)]
pub struct Builder(Arc<Service>);

impl Builder {
    /// Creates a builder with the default configuration.
    #[must_use]
    pub fn new() -> Self {
        Self::with_config(&Config::default())
    }

    /// Creates a builder with a configuration. It uses [`Config::timeouts`] (`drain` is up to the
    /// caller), [`Config::spdy`], [`Config::http2`] and [`Config::http1`], and for
    /// [`serve_connection`](Self::serve_connection) also [`Config::plain_version`] and
    /// [`Config::proxy_protocol`] with [`Config::proxy_protocol_from`]. Sockets, certificates,
    /// logs, metrics and limits on all connections are only for a server.
    #[must_use]
    pub fn with_config(config: &Config) -> Self {
        let nothing = Applications::One(Router::new());
        let service = Service::new(nothing, None, config, Observers::default());
        Self(Arc::new(service))
    }

    /// Serves a transport in plain text: the first bytes of the client show whether it uses SPDY,
    /// HTTP/2 or HTTP/1.1.
    ///
    /// With [`Config::proxy_protocol_from`], the header of the PROXY protocol is expected from a
    /// [`TcpStream`] of one of these addresses and from a Unix socket of tokio. Any other
    /// transport, such as one that wraps a socket, has no address that could be compared, and must
    /// not begin with the header.
    ///
    /// The returned future does nothing until it is polled, within a tokio runtime. It fails with
    /// an [`io::Error`] of kind `TimedOut` if the client does not show its protocol within
    /// [`Timeouts::handshake`](crate::Timeouts::handshake), with `InvalidData` if its first bytes
    /// belong to none, with `UnexpectedEof` if it leaves before, and otherwise with the error of
    /// the protocol.
    pub fn serve_connection<IO, A>(&self, io: IO, service: A) -> Connection
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        A: Application,
    {
        let peer = Known::of(&io).map_or(Peer::Unknown, Known::peer);
        self.connection(service, move |service, lifeline| {
            let io = Foreign(io);
            service.plain_connection(io, peer, lifeline)
        })
    }

    /// Serves a TLS connection whose handshake is complete. ALPN has selected the protocol; without
    /// ALPN it is HTTP/1.1.
    ///
    /// Put `Protocol::ALL` into `alpn_protocols` of the `ServerConfig`, as the [example](self)
    /// does: without it, every client uses HTTP/1.1. Set a time limit on the handshake yourself.
    /// Leave `max_early_data_size` at 0: tokio-rustls does not read early data (0-RTT), so requests
    /// in it would be lost.
    /// Client certificates are in the extensions of requests, as
    /// [`PeerCertificates`](crate::PeerCertificates).
    ///
    /// The returned future does nothing until it is polled, within a tokio runtime. It fails with
    /// the error of the protocol.
    #[cfg(feature = "rustls")]
    pub fn serve_tls_connection<IO, A>(&self, mut io: TlsStream<IO>, service: A) -> Connection
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        A: Application,
    {
        let (socket, state) = io.get_mut();
        crate::tls::prepare(state);
        let peer = Known::of(socket).and_then(|io| io.peer().address());
        let client = crate::info::Client::of_tls(state, peer);
        self.connection(service, move |service, lifeline| {
            let io = Foreign(io);
            service.known_connection(io, client, lifeline)
        })
    }

    /// Serves a transport whose protocol, client and encryption the caller knows, such as a TLS
    /// connection of another library.
    ///
    /// ```
    /// use axum::Router;
    /// use spdy_server::{ConnectionInfo, Protocol, Version, auto};
    ///
    /// # fn main_(io: tokio::io::DuplexStream, app: Router) -> auto::Connection {
    /// let info = ConnectionInfo {
    ///     protocol: Protocol::Spdy(Version::V3_1),
    ///     peer: Some(([192, 0, 2, 1], 4711).into()),
    ///     tls: None,
    ///     is_tls_of_proxy: false,
    /// };
    /// auto::Builder::new().serve_known_connection(io, info, app)
    /// # }
    /// ```
    ///
    /// The returned future does nothing until it is polled, within a tokio runtime. It fails with
    /// the error of the protocol.
    pub fn serve_known_connection<IO, A>(
        &self,
        io: IO,
        info: ConnectionInfo,
        service: A,
    ) -> Connection
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        A: Application,
    {
        self.connection(service, move |service, lifeline| {
            let (io, client) = (Foreign(io), info.into());
            service.known_connection(io, client, lifeline)
        })
    }

    fn connection<A: Application>(
        &self,
        app: A,
        begin: impl FnOnce(Arc<Service>, Lifeline) -> Beginning,
    ) -> Connection {
        let lifecycle = Lifecycle::new();
        let service = Arc::new(self.0.with(Applications::one(app)));
        Connection {
            running: Box::pin(begin(service, lifecycle.lifeline()).serve()),
            lifecycle,
        }
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

/// A connection that is being served. This future completes when the connection ends. Dropping it
/// ends the connection and all its requests.
#[must_use = "a connection does nothing unless it is polled"]
pub struct Connection {
    running: Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>,
    lifecycle: Lifecycle,
}

impl Connection {
    /// Accepts no new requests, and ends the connection when the open ones are answered. An idle
    /// connection of HTTP/1.1 is closed after
    /// [`Timeouts::idle_close`](crate::Timeouts::idle_close), and answers a request until then.
    /// Keep polling the future. The caller decides how long to wait. Calling it again has no
    /// effect.
    ///
    /// A client that has not shown its protocol yet has one second from the first poll to do so.
    /// If it does not, the future returns `Ok`.
    pub fn graceful_shutdown(self: Pin<&mut Self>) {
        self.lifecycle.begin_to_drain();
    }
}

impl Future for Connection {
    type Output = Result<(), BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.running.as_mut().poll(cx)
    }
}

/// A transport of the caller.
#[derive(Debug)]
pub(crate) struct Foreign<IO>(pub(crate) IO);

/// Only known types of sockets can report a failure or an end without a read.
impl<IO: 'static> Fails for Foreign<IO> {
    fn failure(&self) -> Option<io::Error> {
        Known::of(&self.0)?.failure()
    }

    fn has_ended(&self) -> bool {
        Known::of(&self.0).is_some_and(|io| io.has_ended())
    }

    fn is_sent(&self) -> bool {
        match Known::of(&self.0) {
            Some(Known::Tcp(io)) => socket::is_sent(io),
            _ => true,
        }
    }

    fn reset_when_dropped(&self) {
        if let Some(Known::Tcp(io)) = Known::of(&self.0) {
            socket::reset_when_dropped(io);
        }
    }
}

/// A socket of tokio, in plain text or below TLS.
#[derive(Clone, Copy)]
enum Known<'a> {
    Tcp(&'a TcpStream),
    #[cfg(unix)]
    Unix(&'a UnixStream),
}

impl<'a> Known<'a> {
    fn of<IO: 'static>(io: &'a IO) -> Option<Self> {
        let io: &dyn Any = io;
        let known = io.downcast_ref::<TcpStream>().map(Self::Tcp);
        #[cfg(feature = "rustls")]
        let known = known.or_else(|| below_tls(io).map(Self::Tcp));
        #[cfg(unix)]
        let known = known.or_else(|| io.downcast_ref::<UnixStream>().map(Self::Unix));
        #[cfg(all(unix, feature = "rustls"))]
        let known = known.or_else(|| below_tls(io).map(Self::Unix));
        known
    }

    fn peer(self) -> Peer {
        match self {
            Self::Tcp(io) => io.peer_addr().map_or(Peer::Unknown, Peer::Tcp),
            #[cfg(unix)]
            Self::Unix(_) => Peer::Unix,
        }
    }

    fn failure(self) -> Option<io::Error> {
        let failure = match self {
            Self::Tcp(io) => io.take_error(),
            #[cfg(unix)]
            Self::Unix(io) => io.take_error(),
        };
        failure.unwrap_or_else(Some)
    }

    fn has_ended(self) -> bool {
        match self {
            Self::Tcp(io) => is_ended(io.ready(Interest::READABLE)),
            #[cfg(unix)]
            Self::Unix(io) => is_ended(io.ready(Interest::READABLE)),
        }
    }
}

#[cfg(feature = "rustls")]
fn below_tls<IO: 'static>(io: &dyn Any) -> Option<&IO> {
    let tls = io.downcast_ref::<TlsStream<IO>>()?;
    Some(tls.get_ref().0)
}

impl<IO: AsyncRead + Unpin> AsyncRead for Foreign<IO> {
    pass!(poll_read => 0);
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Foreign<IO> {
    pass!(poll_write, poll_write_vectored, is_write_vectored, poll_flush, poll_shutdown => 0);
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
