//! Serves a transport that is not a socket of a [`Server`](crate::Server): a pipe in memory, a
//! stream of another protocol, a socket that was accepted elsewhere, or a decrypted TLS connection.
//!
//! ```
//! use axum::{Router, routing::get};
//! use spdy_server::{Config, auto};
//! # type Error = Box<dyn std::error::Error + Send + Sync>;
//! # async fn main_(io: tokio::io::DuplexStream) -> Result<(), Error> {
//! let app = Router::new().route("/", get(|| async { "hello" }));
//! let builder = auto::Builder::new(&Config::default(), app);
//! builder.serve_connection(io).await
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

use crate::{
    config::Config,
    observe::Observers,
    pass::pass,
    service::Service,
    shutdown::Lifecycle,
    socket::{Fails, is_ended},
};

/// Serves transports in the same way as a plaintext listener of a [`Server`](crate::Server): the
/// first bytes of the client show whether it uses SPDY, HTTP/2 or HTTP/1.1.
///
/// It uses [`Config::timeouts`], [`Config::plain_version`] and [`Config::proxy_protocol`] of the
/// configuration. Sockets, certificates, logs and metrics are only for a server. Cloning it is
/// cheap.
#[derive(Clone, Debug)]
pub struct Builder(Arc<Service>);

impl Builder {
    /// Creates a builder for connections to this application.
    #[must_use]
    pub fn new(config: &Config, app: Router) -> Self {
        let service = Service::new(app, None, config, Observers::default());
        Self(Arc::new(service))
    }

    /// Serves a connection. The returned future does nothing until it is polled, within a tokio
    /// runtime.
    pub fn serve_connection<IO>(&self, io: IO) -> Connection
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let lifecycle = Lifecycle::new();
        let (service, lifeline) = (Arc::clone(&self.0), lifecycle.lifeline());
        let running =
            Box::pin(async move { service.plain_connection(Foreign(io), lifeline).await });
        Connection { running, lifecycle }
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
    /// Accepts no new requests, and ends the connection when the open ones are answered. Keep
    /// polling the future. The caller decides how long to wait. Calling it again has no effect.
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
        let io: &dyn Any = &self.0;
        if let Some(io) = io.downcast_ref::<TcpStream>() {
            return io.take_error().unwrap_or_else(Some);
        }
        #[cfg(unix)]
        if let Some(io) = io.downcast_ref::<UnixStream>() {
            return io.take_error().unwrap_or_else(Some);
        }
        None
    }

    fn has_ended(&self) -> bool {
        let io: &dyn Any = &self.0;
        if let Some(io) = io.downcast_ref::<TcpStream>() {
            return is_ended(io.ready(Interest::READABLE));
        }
        #[cfg(unix)]
        if let Some(io) = io.downcast_ref::<UnixStream>() {
            return is_ended(io.ready(Interest::READABLE));
        }
        false
    }
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
