//! Serves connections from the first byte to the last: handshake, choice of protocol, requests.
//!
//! spdy-tower serves SPDY, and hyper serves HTTP/2 and HTTP/1, all with the same application.

mod begin;
mod builders;
mod establish;
#[cfg(test)]
mod tests;

use std::{fmt, io, pin::Pin, sync::Arc, thread};

use axum::Router;
use http::StatusCode;
use hyper::server::conn::http1;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Handle,
};
use tracing::warn;

use self::builders::{http1_builder, spdy_builder};
use crate::{
    application::Applications,
    config::{Config, Http2, Network, Timeouts, Transport, after},
    connection::{Beginning, Connection, Running},
    crowd::Crowd,
    info::Client,
    metrics::{Metrics, Open},
    negotiate::PlainVersion,
    observe::Observers,
    request_id::Source,
    shutdown::Lifeline,
    socket::{Fails, Peer, Socket},
    tls::Tls,
    trouble::Troubles,
};

/// What all connections share: the applications, the settings of the protocols, the certificate.
#[derive(Clone)]
pub(crate) struct Service {
    apps: Applications,
    tls: Option<Arc<Tls>>,
    plain_version: PlainVersion,
    proxy_protocol: bool,
    /// The proxies that send the header; all, if this is empty.
    proxies: Arc<[Network]>,
    timeouts: Timeouts,
    max_session_memory: usize,
    troubles: Arc<Troubles>,
    crowd: Arc<Crowd>,
    observers: Observers,
    ids: Option<Arc<Source>>,
    spdy: spdy_tower::Builder,
    http2: Http2,
    http1: http1::Builder,
    keeps_http1: bool,
}

impl Service {
    pub(crate) fn new(
        apps: Applications,
        tls: Option<Arc<Tls>>,
        config: &Config,
        observers: Observers,
    ) -> Self {
        Self {
            spdy: spdy_builder(&observers, config),
            apps,
            tls,
            plain_version: config.plain_version,
            proxy_protocol: config.proxy_protocol,
            proxies: config.proxy_protocol_from.as_slice().into(),
            timeouts: config.timeouts,
            max_session_memory: config.max_session_memory,
            troubles: Arc::default(),
            crowd: Crowd::new(),
            observers,
            ids: Source::new(config.request_ids),
            http2: config.http2.in_range(),
            http1: http1_builder(config.http1.in_range()),
            keeps_http1: config.http1.keep_alive,
        }
    }

    /// Sets a runtime that watches the deadlines of SPDY sessions.
    pub(crate) fn timers(mut self, runtime: Handle) -> Self {
        self.spdy = self.spdy.timers(runtime);
        self
    }

    /// Sets the connections that leave when the server is full.
    pub(crate) fn crowd(mut self, crowd: Arc<Crowd>) -> Self {
        self.crowd = crowd;
        self
    }

    pub(crate) const fn troubles(&self) -> &Arc<Troubles> {
        &self.troubles
    }

    /// Returns the service for clients without a place: it answers each request with 503.
    pub(crate) fn turning_away(&self) -> Self {
        let busy = async || {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "the server is shutting down\n",
            )
        };
        Self {
            apps: Applications::One(Router::new().fallback(busy)),
            ..self.clone()
        }
    }

    const fn metrics(&self) -> Option<&Arc<Metrics>> {
        self.observers.metrics.as_ref()
    }

    /// Counts a connection that has to wait for others to end. Returns whether to log it.
    pub(crate) fn limit_reached(&self) -> bool {
        if let Some(metrics) = self.metrics() {
            metrics.limit_reached();
        }
        self.troubles.full.begins()
    }

    /// Counts an error of the system. Returns whether to log it.
    pub(crate) fn accept_failed(&self) -> bool {
        self.troubles.accept.begins()
    }

    /// Returns whether SPDY sessions hold their maximum of memory, so that new connections are
    /// refused.
    pub(crate) fn refuses(&self) -> bool {
        let (held, most) = (self.observers.memory.bytes(), self.max_session_memory);
        if held < most {
            return false;
        }
        if let Some(metrics) = self.metrics() {
            metrics.refused();
        }
        if self.troubles.memory.begins() {
            warn!(
                held,
                most, "SPDY sessions hold too much memory; refusing new connections"
            );
        }
        true
    }

    /// Begins an accepted connection.
    pub(crate) fn connection(
        self: Arc<Self>,
        io: Socket,
        peer: Peer,
        transport: Transport,
        mut lifeline: Lifeline,
    ) -> Beginning {
        let counted = self.metrics().map(|metrics| metrics.connection());
        Beginning(Box::pin(async move {
            let _counted = CountedPanic(&self, transport);
            let begun = self.begin(io, peer, transport, &mut lifeline).await;
            self.running(begun, transport, lifeline, counted)
        }))
    }

    /// Returns the same service for other applications.
    pub(crate) fn with(&self, apps: Applications) -> Self {
        Self {
            apps,
            ..self.clone()
        }
    }

    /// Begins the connection of a transport whose protocol is known.
    pub(crate) fn known_connection<IO>(
        self: Arc<Self>,
        io: IO,
        client: Client,
        mut lifeline: Lifeline,
    ) -> Beginning
    where
        IO: AsyncRead + AsyncWrite + Fails + Unpin + Send + 'static,
    {
        Beginning(Box::pin(async move {
            let transport = match client.info.tls {
                Some(_) => Transport::Tls,
                None => Transport::Plain,
            };
            let _counted = CountedPanic(&self, transport);
            let deadline = after(self.timeouts.handshake);
            let begun = self.establish(io, client, deadline, &mut lifeline).await;
            self.running(begun, transport, lifeline, None)
        }))
    }

    /// Begins the connection of a plaintext transport that is not a socket.
    pub(crate) fn plain_connection<IO>(
        self: Arc<Self>,
        io: IO,
        peer: Peer,
        mut lifeline: Lifeline,
    ) -> Beginning
    where
        IO: AsyncRead + AsyncWrite + Fails + Unpin + Send + 'static,
    {
        Beginning(Box::pin(async move {
            let _counted = CountedPanic(&self, Transport::Plain);
            let begun = self.begin_plain(io, peer, &mut lifeline).await;
            self.running(begun, Transport::Plain, lifeline, None)
        }))
    }

    /// Returns what runs from now on.
    fn running(
        &self,
        begun: io::Result<Option<Established>>,
        transport: Transport,
        lifeline: Lifeline,
        counted: Option<Open>,
    ) -> io::Result<Option<Running>> {
        let established = begun.inspect_err(|error| self.handshake_failed(transport, error))?;
        Ok(established.map(|(connection, session)| Running {
            connection,
            lifeline,
            counted: [counted, session],
        }))
    }

    fn handshake_failed(&self, transport: Transport, error: &io::Error) {
        // A client that connects and leaves without sending anything, such as a health check, is
        // not counted as a failure.
        if let Some(metrics) = self.metrics()
            && error.kind() != io::ErrorKind::UnexpectedEof
        {
            metrics.handshake_failed(transport);
        }
    }
}

/// Counts a panic of a certificate resolver or of a make-service as a failed handshake. The panic
/// goes on, and ends the task of the connection.
struct CountedPanic<'a>(&'a Service, Transport);

impl Drop for CountedPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking()
            && let Some(metrics) = self.0.metrics()
        {
            metrics.handshake_failed(self.1);
        }
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("plain_version", &self.plain_version)
            .finish_non_exhaustive()
    }
}

/// A connection that is ready to run, and its count in the metrics.
type Established = (Pin<Box<dyn Connection>>, Option<Open>);
