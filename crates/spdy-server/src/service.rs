//! One connection from the first octet to the last: handshake, choice of protocol, requests.
//!
//! SPDY goes to spdy-tower, HTTP/2 and HTTP/1 to hyper, all with the same application.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{BoxError, Router};
use http::StatusCode;
use hyper::server::conn::{http1, http2};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Handle,
    time::{Instant, timeout_at},
};
use tracing::{debug, info, warn};

use crate::{
    body_timeout::BodyTimeout,
    config::{Config, Timeouts, Transport, after, countable},
    connection::{App, Connection, Http1, Http2, HyperApp, run},
    discard::Discard,
    idle::Idle,
    info::ConnectionInfo,
    linger::{Linger, Owed},
    metrics::{Metrics, Open},
    negotiate::{PlainVersion, Protocol, first_octets},
    observe::{Observed, Observers, Watch},
    proxy_protocol,
    rest::Rest,
    shutdown::Lifeline,
    socket::{Fails, Socket},
    stall::{self, Answers},
    tls::{Secured, Tls},
};

/// What all connections share: the application, the protocols' settings, the certificate.
#[derive(Clone)]
pub(crate) struct Service {
    app: Router,
    tls: Option<Arc<Tls>>,
    plain_version: PlainVersion,
    proxy_protocol: bool,
    timeouts: Timeouts,
    max_session_memory: usize,
    /// Connections are refused.
    is_full: Arc<AtomicBool>,
    observers: Observers,
    spdy: spdy_tower::Builder,
    http1: http1::Builder,
}

impl Service {
    pub(crate) fn new(
        app: Router,
        tls: Option<Arc<Tls>>,
        config: &Config,
        observers: Observers,
    ) -> Self {
        Self {
            spdy: spdy_builder(&observers, config.timeouts),
            app,
            tls,
            plain_version: config.plain_version,
            proxy_protocol: config.proxy_protocol,
            timeouts: config.timeouts,
            max_session_memory: config.max_session_memory,
            is_full: Arc::default(),
            observers,
            http1: http1_builder(),
        }
    }

    /// Has the deadlines of SPDY sessions watched by another runtime.
    pub(crate) fn timers(mut self, runtime: Handle) -> Self {
        self.spdy = self.spdy.timers(runtime);
        self
    }

    /// Returns the same for clients that there is no place for: each request is answered with 503.
    pub(crate) fn turning_away(&self) -> Self {
        let busy = async || (StatusCode::SERVICE_UNAVAILABLE, "the server is ending\n");
        Self {
            app: Router::new().fallback(busy),
            ..self.clone()
        }
    }

    const fn metrics(&self) -> Option<&Arc<Metrics>> {
        self.observers.metrics.as_ref()
    }

    /// Notes that a connection has to wait for others to end.
    pub(crate) fn limit_reached(&self) {
        if let Some(metrics) = self.metrics() {
            metrics.limit_reached();
        }
    }

    /// Whether SPDY sessions hold as much as they may, so that no other connection is served. The log has a line when
    /// that begins, and one when it ends: sessions end, and what they hold is taken or sent.
    pub(crate) fn refuses(&self) -> bool {
        let (held, most) = (self.observers.memory.bytes(), self.max_session_memory);
        let is_full = held >= most;
        match (self.is_full.swap(is_full, Ordering::Relaxed), is_full) {
            (false, true) => warn!(
                held,
                most, "SPDY sessions hold too much memory; new connections are refused"
            ),
            (true, false) => info!(
                held,
                most, "SPDY sessions hold less memory; new connections are served again"
            ),
            _ => {}
        }
        if is_full && let Some(metrics) = self.metrics() {
            metrics.refused();
        }
        is_full
    }

    /// Serves a connection that was just accepted, until it ends or the server does.
    pub(crate) async fn connection(
        &self,
        io: Socket,
        peer: Option<SocketAddr>,
        transport: Transport,
        mut lifeline: Lifeline,
    ) -> Result<(), BoxError> {
        let _open = self.metrics().map(|metrics| metrics.connection());
        // Boxed, so that the memory a handshake needs is free again when the connection comes to rest.
        let begun = Box::pin(self.begin(io, peer, transport, &mut lifeline)).await;
        self.go_on(begun, transport, lifeline).await
    }

    /// Does the same on a transport that is no socket, and in plain text.
    pub(crate) async fn plain_connection<IO>(
        &self,
        io: IO,
        mut lifeline: Lifeline,
    ) -> Result<(), BoxError>
    where
        IO: AsyncRead + AsyncWrite + Fails + Unpin + Send + 'static,
    {
        let begun = Box::pin(self.begin_plain(io, None, &mut lifeline)).await;
        self.go_on(begun, Transport::Plain, lifeline).await
    }

    async fn go_on(
        &self,
        begun: io::Result<Option<Established>>,
        transport: Transport,
        lifeline: Lifeline,
    ) -> Result<(), BoxError> {
        match begun {
            Ok(Some((connection, _open))) => run(connection, lifeline).await,
            Ok(None) => Ok(()),
            Err(error) => {
                self.handshake_failed(transport, &error);
                Err(error.into())
            }
        }
    }

    /// Finds out which protocol is spoken. `None`: the server drains, and the client had not said anything yet.
    async fn begin(
        &self,
        mut io: Socket,
        peer: Option<SocketAddr>,
        transport: Transport,
        lifeline: &mut Lifeline,
    ) -> io::Result<Option<Established>> {
        let tls = match (transport, &self.tls) {
            (Transport::Plain, _) => return self.begin_plain(io, peer, lifeline).await,
            (Transport::Tls, Some(tls)) => tls,
            (Transport::Tls, None) => {
                unreachable!("a server with a TLS listener has a certificate")
            }
        };
        let deadline = after(self.timeouts.handshake);
        let Some(peer) = self.client(&mut io, peer, deadline, lifeline).await? else {
            return Ok(None);
        };
        let secured = within(deadline, handshake(tls, io, lifeline)).await?;
        Ok(secured.map(|secured| self.establish_secured(secured, peer, lifeline)))
    }

    async fn begin_plain<IO>(
        &self,
        mut io: IO,
        peer: Option<SocketAddr>,
        lifeline: &mut Lifeline,
    ) -> io::Result<Option<Established>>
    where
        IO: AsyncRead + AsyncWrite + Fails + Unpin + Send + 'static,
    {
        let deadline = after(self.timeouts.handshake);
        let Some(peer) = self.client(&mut io, peer, deadline, lifeline).await? else {
            return Ok(None);
        };
        let detection = until_draining(lifeline, first_octets(io, self.plain_version));
        let Some((protocol, io)) = within(deadline, detection).await? else {
            return Ok(None);
        };
        let info = ConnectionInfo {
            protocol,
            peer,
            tls: None,
        };
        Ok(Some(self.establish(io, info, lifeline)))
    }

    /// Finds out who the client is, if anybody says so. `None` as for [`begin`](Self::begin).
    async fn client<IO: AsyncRead + Unpin>(
        &self,
        io: &mut IO,
        peer: Option<SocketAddr>,
        deadline: Instant,
        lifeline: &mut Lifeline,
    ) -> io::Result<Option<Option<SocketAddr>>> {
        if !self.proxy_protocol {
            return Ok(Some(peer));
        }
        let header = until_draining(lifeline, proxy_protocol::read(io));
        let said = within(deadline, header).await?;
        Ok(said.map(|said| said.or(peer)))
    }

    #[cfg(not(feature = "tls"))]
    fn establish_secured(
        &self,
        secured: Secured<Socket>,
        _: Option<SocketAddr>,
        _: &Lifeline,
    ) -> Established {
        match secured.0 {}
    }

    #[cfg(feature = "tls")]
    fn establish_secured(
        &self,
        secured: Secured<Socket>,
        peer: Option<SocketAddr>,
        lifeline: &Lifeline,
    ) -> Established {
        let info = |protocol, tls| ConnectionInfo {
            protocol,
            peer,
            tls: Some(tls),
        };
        match secured {
            Secured::Rustls(io) => {
                let state = io.get_ref().1;
                let info = info(
                    crate::tls::selected(state),
                    crate::secured::TlsInfo::new(state),
                );
                self.establish(io, info, lifeline)
            }
            #[cfg(feature = "npn")]
            Secured::Npn(io, protocol, tls) => self.establish(io, info(protocol, tls), lifeline),
        }
    }

    fn handshake_failed(&self, transport: Transport, error: &io::Error) {
        // Who connects and leaves without a word, as health checks do, has not failed.
        if let Some(metrics) = self.metrics()
            && error.kind() != io::ErrorKind::UnexpectedEof
        {
            metrics.handshake_failed(transport);
        }
    }

    /// Puts the protocol on the transport. Nothing is read or written before the connection is polled.
    ///
    /// The box has the size of one protocol's connection. As part of an `async fn` each would take the room of the
    /// largest, several times over.
    fn establish<IO>(&self, io: IO, info: ConnectionInfo, lifeline: &Lifeline) -> Established
    where
        IO: AsyncRead + AsyncWrite + Fails + Unpin + Send + 'static,
    {
        debug!(protocol = %info.protocol, tls = info.tls.map(|tls| tls.version), "connection established");
        let app = App {
            router: self.app.clone(),
            info,
            answers: None,
        };
        let open = self.metrics().map(|metrics| metrics.session(info.protocol));
        let watch = self.observers.watch(info);
        let connection: Pin<Box<dyn Connection>> = match info.protocol {
            Protocol::Spdy(version) => {
                let spdy = self.observers.look_at_malformed(&self.spdy, info);
                Box::pin(spdy.serve_connection(io, version, Observed::new(app, watch)))
            }
            Protocol::Http2 => {
                let answers = Answers::new(self.timeouts.write);
                let io = self.idle(io).counted(answers.written());
                let builder = http2_builder(answers.clone(), self.timeouts);
                let (idle, write) = (self.timeouts.idle, self.timeouts.write);
                let rest = Rest::new(answers.requests(), answers.written(), idle, write);
                let app = App {
                    answers: Some(answers),
                    ..app
                };
                let connection =
                    builder.serve_connection(TokioIo::new(io), self.timed(app, watch, None));
                Box::pin(Http2 { connection, rest })
            }
            Protocol::Http1 => {
                let owed = Owed::default();
                let io = TokioIo::new(Linger::new(self.idle(io), owed.clone()));
                let mut builder = self.http1.clone();
                // Once the server drains the first answer says that there will be no other.
                builder.keep_alive(!lifeline.is_draining());
                let connection =
                    builder.serve_connection(io, self.timed(app, watch.clone(), Some(owed)));
                Box::pin(Http1 {
                    connection: connection.with_upgrades(),
                    watch,
                })
            }
        };
        (connection, open)
    }

    fn idle<IO>(&self, io: IO) -> Idle<IO> {
        Idle::new(io, self.timeouts.idle, self.timeouts.write)
    }

    /// The application for hyper, which has no limit on the time that the body of a request takes, and leaves what is not
    /// read of it in the way of the answer.
    fn timed(&self, app: App, watch: Option<Arc<Watch>>, owed: Option<Owed>) -> HyperApp {
        let timed = BodyTimeout::new(app, self.timeouts.body);
        TowerToHyperService::new(Observed::new(Discard::new(timed, owed), watch))
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("plain_version", &self.plain_version)
            .finish_non_exhaustive()
    }
}

/// A connection that is ready to run, and its place in the metrics.
type Established = (Pin<Box<dyn Connection>>, Option<Open>);

/// Shakes hands. `None`: the server drains, and the client had not said anything yet.
async fn handshake(
    tls: &Tls,
    io: Socket,
    lifeline: &mut Lifeline,
) -> io::Result<Option<Secured<Socket>>> {
    match until_draining(lifeline, Tls::hello(io)).await? {
        Some(hello) => tls.handshake(hello).await.map(Some),
        None => Ok(None),
    }
}

/// Waits for the peer to begin. `None`: the server drains first, so that no request of this peer will be lost.
///
/// Who has only just connected is about to say something, and gets the time for it.
async fn until_draining<T>(
    lifeline: &mut Lifeline,
    beginning: impl Future<Output = io::Result<T>>,
) -> io::Result<Option<T>> {
    let arrived = Instant::now();
    let mut beginning = pin!(beginning);
    tokio::select! {
        biased;
        begun = &mut beginning => return begun.map(Some),
        () = lifeline.draining() => {}
    }
    match timeout_at(arrived + FIRST_WORD, beginning).await {
        Ok(begun) => begun.map(Some),
        Err(_) => Ok(None),
    }
}

async fn within<T>(
    deadline: Instant,
    beginning: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout_at(deadline, beginning)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn spdy_builder(observers: &Observers, timeouts: Timeouts) -> spdy_tower::Builder {
    let mut config = spdy_tower::session::Config::default();
    config.timeouts.write = Some(timeouts.write);
    config.timeouts.blocked = Some(timeouts.write);
    config.timeouts.keep_alive = timeouts.keep_alive;
    config.memory = Some(Arc::clone(&observers.memory));
    config.counters = observers
        .metrics
        .as_ref()
        .map(|metrics| Arc::clone(metrics.frames()));
    spdy_tower::Builder::new()
        .config(config)
        .body_timeout(timeouts.body)
}

fn http2_builder(answers: Answers, timeouts: Timeouts) -> http2::Builder<Answers> {
    let mut builder = http2::Builder::new(answers);
    builder
        .timer(TokioTimer::new())
        // While requests are open this tells a peer that waits from one that is gone, and keeps `Idle` quiet.
        .keep_alive_interval(timeouts.keep_alive.map(countable))
        .max_send_buf_size(stall::SEND_BUFFER)
        .max_header_list_size(MAX_HEADERS as u32);
    builder
}

fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEADERS);
    builder
}

/// How long after its arrival a client may be silent and is served all the same, though the server drains.
const FIRST_WORD: Duration = Duration::from_secs(1);

/// How long an HTTP/1 client may take for a request's head; also how long it may rest between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The octets of header fields accepted in one request, as for SPDY.
const MAX_HEADERS: usize = 128 * 1024;
