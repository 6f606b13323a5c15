//! Serves connections from the first byte to the last: handshake, choice of protocol, requests.
//!
//! spdy-tower serves SPDY, and hyper serves HTTP/2 and HTTP/1, all with the same application.

#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    pin::{Pin, pin},
    sync::Arc,
    thread,
    time::Duration,
};

use axum::Router;
use http::StatusCode;
use hyper::server::conn::{http1, http2};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use spdy_tower::Http1Io;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Handle,
    time::{Instant, timeout_at},
};
use tracing::{debug, warn};

use crate::{
    application::Applications,
    body_timeout::BodyTimeout,
    config::{Config, Http1, Http2, Network, Timeouts, Transport, after, countable},
    connection::{self, App, Beginning, Connection, HyperApp, Running},
    crowd::Crowd,
    discard::Discard,
    idle::Idle,
    info::{Client, ConnectionInfo},
    keep::{Ending, Keeping, Kept},
    linger::{Linger, Owed},
    metrics::{Metrics, Open},
    negotiate::{PlainVersion, Protocol, first_bytes},
    observe::{Observed, Observers, Watch},
    proxy_protocol::{self, Said},
    rest::Rest,
    shutdown::Lifeline,
    socket::{Fails, Peer, Socket},
    stall::{self, Answers},
    tls::{Secured, Tls},
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

    /// Determines the protocol. Returns `None` if the server drains before the client has sent
    /// anything, or ends at once.
    ///
    /// Parts that most connections do not have, or that are soon over, are boxes. A connection that
    /// waits for its first bytes would have room for all of them otherwise, several times.
    async fn begin(
        &self,
        mut io: Socket,
        peer: Peer,
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
        let (deadline, first_word) = (after(self.timeouts.handshake), after(FIRST_WORD));
        let header = self.client(&mut io, peer, first_word, lifeline);
        let Some(said) = within(deadline, header).await? else {
            return Ok(None);
        };
        let handshake = Box::pin(handshake(tls, io, first_word, lifeline));
        let Some(secured) = within(deadline, handshake).await? else {
            return Ok(None);
        };
        Box::pin(self.establish_secured(secured, said, deadline, lifeline)).await
    }

    async fn begin_plain<IO>(
        &self,
        mut io: IO,
        peer: Peer,
        lifeline: &mut Lifeline,
    ) -> io::Result<Option<Established>>
    where
        IO: AsyncRead + AsyncWrite + Fails + Unpin + Send + 'static,
    {
        let (deadline, first_word) = (after(self.timeouts.handshake), after(FIRST_WORD));
        let header = self.client(&mut io, peer, first_word, lifeline);
        let Some(said) = within(deadline, header).await? else {
            return Ok(None);
        };
        let plain_version = said.plain_version().unwrap_or(self.plain_version);
        let first = first_bytes(io, plain_version);
        let detection = until_draining(lifeline, first_word, first);
        let Some((protocol, io)) = within(deadline, detection).await? else {
            return Ok(None);
        };
        let client = Client::from(ConnectionInfo {
            protocol,
            peer: peer.address(),
            tls: None,
            is_tls_of_proxy: false,
        });
        self.establish(io, client.said(said), deadline, lifeline)
            .await
    }

    /// Returns what is known of the client: its address, which the PROXY protocol can provide, with
    /// more. Returns `None` as [`begin`](Self::begin) does.
    async fn client<IO: AsyncRead + Unpin>(
        &self,
        io: &mut IO,
        peer: Peer,
        first_word: Instant,
        lifeline: &mut Lifeline,
    ) -> io::Result<Option<Said>> {
        if !self.is_behind_proxy(peer) {
            return Ok(Some(Said::by_itself(peer.address())));
        }
        let header = Box::pin(proxy_protocol::read(io));
        let said = until_draining(lifeline, first_word, header).await?;
        Ok(said.map(|said| said.or(peer.address())))
    }

    /// Returns whether a connection of this peer begins with the header of a proxy. If the proxies
    /// are named, an unknown peer is not taken for one: it could claim any address.
    fn is_behind_proxy(&self, peer: Peer) -> bool {
        let is_proxy = || match peer {
            Peer::Tcp(peer) => self.proxies.iter().any(|it| it.contains(peer.ip())),
            Peer::Unix => true,
            Peer::Unknown => false,
        };
        self.proxy_protocol && (self.proxies.is_empty() || is_proxy())
    }

    #[cfg(not(feature = "rustls"))]
    async fn establish_secured(
        &self,
        secured: Secured<Socket>,
        _: Said,
        _: Instant,
        _: &mut Lifeline,
    ) -> io::Result<Option<Established>> {
        match secured.0 {}
    }

    #[cfg(feature = "rustls")]
    async fn establish_secured(
        &self,
        secured: Secured<Socket>,
        said: Said,
        deadline: Instant,
        lifeline: &mut Lifeline,
    ) -> io::Result<Option<Established>> {
        match secured {
            Secured::Rustls(io) => {
                let client = Client::of_tls(io.get_ref().1, said.peer).said(said);
                self.establish(io, client, deadline, lifeline).await
            }
            #[cfg(feature = "npn")]
            Secured::Npn(io, protocol, tls) => {
                let client = Client::from(ConnectionInfo {
                    protocol,
                    peer: said.peer,
                    tls: Some(tls),
                    is_tls_of_proxy: false,
                });
                self.establish(io, client.said(said), deadline, lifeline)
                    .await
            }
        }
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

    /// Creates the connection of the protocol on the transport. It reads and writes nothing before
    /// it is polled.
    ///
    /// The box has the size of one protocol's connection, and not that of the largest.
    ///
    /// An application that is made for the connection has to be there before the deadline.
    async fn establish<IO>(
        &self,
        io: IO,
        client: Client,
        deadline: Instant,
        lifeline: &mut Lifeline,
    ) -> io::Result<Option<Established>>
    where
        IO: AsyncRead + AsyncWrite + Fails + Unpin + Send + 'static,
    {
        let info = client.info;
        let made = until_cut(lifeline, self.apps.of(info));
        let Some(router) = within(deadline, made).await? else {
            return Ok(None);
        };
        debug!(protocol = %info.protocol, tls = info.tls.map(|tls| tls.version), "connection established");
        let app = App {
            router,
            client,
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
                // The client always owes something: the credit for what it has not read.
                let io = Linger::new(self.idle(io).counted(answers.sent()), Owed::default());
                let builder = http2_builder(answers.clone(), self.http2, self.timeouts);
                let (idle, write) = (self.timeouts.idle, self.timeouts.write);
                let rest = Rest::new(answers.requests(), answers.sent(), idle, write);
                let app = App {
                    answers: Some(answers),
                    ..app
                };
                let connection =
                    builder.serve_connection(TokioIo::new(io), self.timed(app, watch, None));
                Box::pin(connection::Http2 { connection, rest })
            }
            Protocol::Http1 => {
                let owed = Owed::default();
                let keeping = Keeping::new(owed.clone(), Arc::clone(&self.crowd));
                let io = Http1Io::new(Linger::new(self.idle(io), owed.clone()));
                let mut builder = self.http1.clone();
                // Once the server drains, the first response announces that the connection closes.
                builder.keep_alive(self.keeps_http1 && !lifeline.is_draining());
                let kept = Some((owed, keeping.clone()));
                let connection = builder
                    .serve_connection(TokioIo::new(io), self.timed(app, watch.clone(), kept));
                Box::pin(connection::Http1 {
                    connection: connection.with_upgrades(),
                    watch,
                    ending: Ending::new(keeping, self.timeouts.idle_close),
                })
            }
        };
        Ok(Some((connection, open)))
    }

    fn idle<IO>(&self, io: IO) -> Idle<IO> {
        Idle::new(io, self.timeouts.idle, self.timeouts.write)
    }

    /// Returns the application for hyper, with what hyper lacks: a limit on the time of a request
    /// body, and the reading of the part of it that the application has left unread. For HTTP/1.1
    /// it gets what a connection shares with its requests.
    fn timed(
        &self,
        app: App,
        watch: Option<Arc<Watch>>,
        kept: Option<(Owed, Keeping)>,
    ) -> HyperApp {
        let (owed, keeping) = kept.unzip();
        let timed = BodyTimeout::new(app, self.timeouts.body);
        let observed = Observed::new(Discard::new(timed, owed), watch);
        TowerToHyperService::new(Kept::new(observed, keeping))
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

/// Performs the handshake. Returns `None` if the server drains before the client has sent anything,
/// or ends at once.
async fn handshake(
    tls: &Tls,
    io: Socket,
    first_word: Instant,
    lifeline: &mut Lifeline,
) -> io::Result<Option<Secured<Socket>>> {
    let hello = Box::pin(Tls::hello(io));
    match until_draining(lifeline, first_word, hello).await? {
        Some(hello) => until_cut(lifeline, Box::pin(tls.handshake(hello))).await,
        None => Ok(None),
    }
}

/// Waits for the first bytes of the peer. Returns `None` if the server drains first; no request of
/// the peer is lost then.
///
/// A client that has just connected is about to send something, and has until `first_word` to do
/// so: [`FIRST_WORD`] in all, with the header of the PROXY protocol.
async fn until_draining<T>(
    lifeline: &mut Lifeline,
    first_word: Instant,
    beginning: impl Future<Output = io::Result<T>>,
) -> io::Result<Option<T>> {
    let mut beginning = pin!(beginning);
    tokio::select! {
        biased;
        begun = &mut beginning => return begun.map(Some),
        () = lifeline.draining() => {}
    }
    timeout_at(first_word, until_cut(lifeline, beginning))
        .await
        .unwrap_or(Ok(None))
}

/// Waits for a part of the beginning of a connection. Returns `None` if everything must end first.
async fn until_cut<T>(
    lifeline: &mut Lifeline,
    beginning: impl Future<Output = io::Result<T>>,
) -> io::Result<Option<T>> {
    tokio::select! {
        biased;
        begun = beginning => begun.map(Some),
        () = lifeline.cut() => Ok(None),
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

fn spdy_builder(observers: &Observers, config: &Config) -> spdy_tower::Builder {
    let mut session = config.spdy.session(config.timeouts);
    session.memory = Some(Arc::clone(&observers.memory));
    session.counters = observers
        .metrics
        .as_ref()
        .map(|metrics| Arc::clone(metrics.frames()));
    spdy_tower::Builder::new()
        .config(session)
        .body_timeout(config.timeouts.body)
}

fn http2_builder(answers: Answers, http2: Http2, timeouts: Timeouts) -> http2::Builder<Answers> {
    let mut builder = http2::Builder::new(answers);
    builder
        .timer(TokioTimer::new())
        // While requests are open, PING distinguishes a waiting peer from a vanished one, and its
        // replies keep `Idle` from ending the connection.
        .keep_alive_interval(timeouts.keep_alive.map(countable))
        .keep_alive_timeout(http2.keep_alive_reply)
        .max_send_buf_size(stall::SEND_BUFFER)
        .max_concurrent_streams(http2.max_streams)
        .initial_stream_window_size(http2.stream_window)
        .initial_connection_window_size(http2.connection_window)
        .max_frame_size(http2.max_frame)
        .max_pending_accept_reset_streams(http2.max_pending_resets)
        .max_local_error_reset_streams(http2.max_error_resets)
        .max_header_list_size(http2.max_headers);
    builder
}

fn http1_builder(http1: Http1) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(http1.header_timeout)
        .max_buf_size(http1.max_headers);
    if http1.max_fields != Http1::FIELDS_OF_HYPER {
        builder.max_headers(http1.max_fields);
    }
    builder
}

/// How long after its arrival a client can be silent and is still served, although the server
/// drains.
const FIRST_WORD: Duration = Duration::from_secs(1);
