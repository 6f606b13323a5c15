//! Makes a connection to an origin: TCP, TLS, and the choice of a protocol.

use std::{error::Error as StdError, fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use http::{Method, StatusCode, Uri};
use hyper::{
    client::conn::{http1, http2},
    rt::Executor,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use spdy_frame::Version;
use spdy_session::Config;
use tokio_rustls::{
    TlsConnector,
    rustls::{self, AlertDescription, ClientConfig, pki_types::ServerName},
};
use tower_service::Service;
use tracing::debug;

use super::{
    connection::{Connection, Http1, Shared},
    danger,
    dial::{ByDial, ByService, Dial, Dialed, Reach, Transport, Watched},
    handshake,
    origin::{InvalidTarget, Origin},
    proxy::{Proxies, Proxy, Route},
    slot::{Line, Place},
    tcp::Tcp,
};
use crate::{
    BoxError, Http1Io, Protocol,
    upgrade::{self, ConnectError, Upgraded},
};

/// How a [`Client`](super::Client) reaches origins.
///
/// For `https`, ALPN offers SPDY/3.1, SPDY/3, SPDY/2, HTTP/2 and HTTP/1.1 in this order, or the
/// list of [`offer`](Self::offer), and the server chooses. For `http`, [`plain`](Self::plain) sets
/// the protocol.
#[derive(Clone, Debug)]
pub struct Connector {
    tls: Arc<ClientConfig>,
    offer: Vec<Protocol>,
    plain: Plain,
    upgrade_over_tls: bool,
    session: Config,
    reach: Arc<dyn Reach>,
    proxies: Option<Proxies>,
    pub(super) timeout: Duration,
    pub(super) request_timeout: Option<Duration>,
    pub(super) max_connections: usize,
    pub(super) max_waiting: usize,
    pub(super) max_idle: usize,
    pub(super) idle_timeout: Duration,
}

/// The protocol without TLS, where nothing is negotiated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Plain {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// Each new connection asks to upgrade to SPDY/3.1, with a GET of `/`. If the server does not
    /// upgrade, a second connection speaks HTTP/1.1.
    Upgrade,
    /// HTTP/2 without negotiation, for servers that are known to support it.
    Http2,
    /// SPDY without negotiation, for servers that are known to support it.
    Spdy(Version),
}

impl Plain {
    /// Returns what a new connection speaks.
    const fn protocol(self) -> Protocol {
        match self {
            Self::Http1 | Self::Upgrade => Protocol::Http1,
            Self::Http2 => Protocol::Http2,
            Self::Spdy(version) => Protocol::Spdy(version),
        }
    }
}

impl Connector {
    /// Creates a connector with this TLS configuration, which also has the certificate of the
    /// client, if there is one. Its ALPN protocols are replaced.
    #[must_use]
    pub fn new(tls: ClientConfig) -> Self {
        let connector = Self {
            tls: Arc::new(tls),
            offer: Vec::new(),
            plain: Plain::default(),
            upgrade_over_tls: false,
            session: Config::default(),
            reach: Arc::new(ByDial(Tcp::default())),
            proxies: None,
            timeout: CONNECT_TIMEOUT,
            request_timeout: None,
            max_connections: MAX_CONNECTIONS,
            max_waiting: MAX_WAITING,
            max_idle: MAX_IDLE,
            idle_timeout: IDLE_TIMEOUT,
        }
        .keep_alive(Some(KEEP_ALIVE));
        connector.offer(&Protocol::ALL)
    }

    /// Sets the protocols that ALPN offers, best first. Only these are spoken over TLS. Default
    /// [`Protocol::ALL`].
    ///
    /// A server without ALPN speaks HTTP/1.1. If that is not offered, or if the server chooses none
    /// of the offered protocols, connecting fails with [`ConnectorError::Protocol`].
    #[must_use]
    pub fn offer(mut self, protocols: &[Protocol]) -> Self {
        self.offer = protocols.to_vec();
        let tokens = protocols.iter().map(|protocol| protocol.token());
        Arc::make_mut(&mut self.tls).alpn_protocols =
            tokens.map(|token| token.as_bytes().to_vec()).collect();
        self
    }

    /// Sets the protocol without TLS. Default [`Plain::Http1`].
    #[must_use]
    pub const fn plain(mut self, plain: Plain) -> Self {
        self.plain = plain;
        self
    }

    /// Sets whether HTTP/1.1 over TLS asks to upgrade to SPDY/3.1 too, as [`Plain::Upgrade`] does
    /// without TLS. Some servers offer SPDY in this way and not by ALPN. Default `false`.
    #[must_use]
    pub const fn upgrade_over_tls(mut self, asks: bool) -> Self {
        self.upgrade_over_tls = asks;
        self
    }

    /// Sets the configuration of SPDY sessions. Pushes are always refused. If the configuration has
    /// no [`keep_alive`](spdy_session::Timeouts::keep_alive), that of the connector is used.
    #[must_use]
    pub fn session(mut self, mut config: Config) -> Self {
        let timeouts = &mut config.timeouts;
        timeouts.keep_alive = timeouts.keep_alive.or(self.session.timeouts.keep_alive);
        config.accept_push = false;
        self.session = config;
        self
    }

    /// Sets how long a server may send nothing before a PING checks that it is alive: always over
    /// SPDY, and while a request is under way over HTTP/2. A server that does not answer within
    /// [`keep_alive_reply`](spdy_session::Timeouts::keep_alive_reply) is given up. Default 20 s;
    /// `None` sends no PING.
    #[must_use]
    pub fn keep_alive(mut self, interval: Option<Duration>) -> Self {
        self.session.timeouts.keep_alive = interval;
        self
    }

    /// Sets how long a request may wait for a connection: for a place among
    /// [`max_connections`](Self::max_connections), and for TCP, TLS and an upgrade. The limit
    /// applies to each request separately, however many wait, and to all its attempts together.
    /// Default 10 s.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how long a request may take, from [`send`](super::Client::send) to the end of the body
    /// of its response. Then it is given up with [`FetchError::TimedOut`](super::FetchError). The
    /// time before the body is read counts too; a tunnel has no such limit. Default `None`, so
    /// that long polls work. A [`RequestTimeout`](super::RequestTimeout) in the extensions of a
    /// request replaces it.
    #[must_use]
    pub const fn request_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Sets how many connections to one origin may exist at once, including those that are being
    /// made. Further requests wait: see [`timeout`](Self::timeout). Default 256; 0 counts as 1.
    #[must_use]
    pub fn max_connections(mut self, count: usize) -> Self {
        self.max_connections = count.max(1);
        self
    }

    /// Sets how many requests to one origin may wait for a connection. Further requests fail
    /// immediately with [`ConnectorError::Waiting`]. Default 1024.
    #[must_use]
    pub const fn max_waiting(mut self, count: usize) -> Self {
        self.max_waiting = count;
        self
    }

    /// Sets how many unused connections of HTTP/1.1 are kept open to one origin. Those that have
    /// been unused longest are closed first. Default 8; more are worth their memory, and that of
    /// the server, if bursts of requests follow each other.
    #[must_use]
    pub const fn max_idle(mut self, count: usize) -> Self {
        self.max_idle = count;
        self
    }

    /// Sets how long an unused connection is kept open. It is closed after one to two times this
    /// duration. Default 60 s; less than 1 ms counts as 1 ms.
    #[must_use]
    pub const fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = if timeout.as_millis() == 0 {
            MIN_IDLE_TIMEOUT
        } else {
            timeout
        };
        self
    }

    /// Sets how a host is found: a function from a host and a port to addresses, the best first.
    /// They are tried as [`connect_any`](super::connect_any) describes, within
    /// [`timeout`](Self::timeout). Replaces [`dial`](Self::dial) and [`service`](Self::service).
    /// The default is the system's resolver.
    ///
    /// ```
    /// # use spdy_tower::client::Connector;
    /// # fn of(connector: Connector) -> Connector {
    /// connector.resolver(async |_host, port| Ok(vec![([127, 0, 0, 1], port).into()]))
    /// # }
    /// ```
    #[must_use]
    pub fn resolver<F, R>(self, resolve: F) -> Self
    where
        F: Fn(String, u16) -> R + Send + Sync + 'static,
        R: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        self.dial(Tcp::new(resolve))
    }

    /// Sets how transports are opened, by host and port. Replaces [`resolver`](Self::resolver) and
    /// [`service`](Self::service). The default is TCP, to the first address of the host that
    /// answers.
    #[must_use]
    pub fn dial(mut self, dial: impl Dial) -> Self {
        self.reach = Arc::new(ByDial(dial));
        self
    }

    /// Sets how transports are opened, by a service that gets a URI with the scheme, the host, the
    /// port and the path `/`. Replaces [`resolver`](Self::resolver) and [`dial`](Self::dial).
    ///
    /// The service returns a transport, or a [`Dialed`], with which it can do TLS itself. Its
    /// future is dropped when [`timeout`](Self::timeout) runs out. Its error becomes
    /// [`ConnectorError::Transport`].
    ///
    /// ```
    /// use http::{Method, StatusCode, Uri};
    /// use spdy_tower::client::Connector;
    /// use tokio::net::UnixStream;
    /// use tower::service_fn;
    ///
    /// # fn of(connector: Connector) -> Connector {
    /// connector.service(service_fn(async |_: Uri| UnixStream::connect("/run/app.sock").await))
    /// # }
    /// ```
    #[must_use]
    pub fn service<S>(mut self, service: S) -> Self
    where
        S: Service<Uri, Response: Into<Dialed>, Error: Into<BoxError>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        self.reach = Arc::new(ByService(service));
        self
    }

    /// Sets which requests go through a proxy: a function from a URI with the scheme, the host and
    /// the port of a request. `None` is no proxy, and so is the default. The environment is not
    /// read: see `proxies_from_env`, with the feature `proxy`.
    ///
    /// A request for an `https` URI goes through a tunnel, for which CONNECT asks over HTTP/1.1. So
    /// the proxy learns the host, and nothing else. A request for an `http` URI is sent to the
    /// proxy itself, unless it is CONNECT or [`plain`](Self::plain) is not HTTP/1.1: then it goes
    /// through a tunnel too. The pool keeps connections through different proxies apart, and the
    /// tunnel counts towards [`timeout`](Self::timeout).
    ///
    /// [`Client::send_through`](super::Client::send_through) ignores this function.
    ///
    /// ```
    /// use spdy_tower::client::{Connector, ConnectorError, Proxy};
    ///
    /// # fn of(connector: Connector) -> Result<Connector, ConnectorError> {
    /// let proxy = Proxy::new(&http::Uri::from_static("http://proxy.test:3128"))?;
    /// let connector = connector.proxies(move |uri| {
    ///     let is_inside = uri.host().is_some_and(|host| host.ends_with(".inside.test"));
    ///     Ok((!is_inside).then(|| proxy.clone()))
    /// });
    /// # Ok(connector)
    /// # }
    /// ```
    #[must_use]
    pub fn proxies<F>(mut self, choose: F) -> Self
    where
        F: Fn(&Uri) -> Result<Option<Proxy>, ConnectorError> + Send + Sync + 'static,
    {
        self.proxies = Some(Proxies(Arc::new(choose)));
        self
    }

    /// Takes the proxies of the environment, as curl does: `HTTPS_PROXY`, `HTTP_PROXY`,
    /// `ALL_PROXY` and `NO_PROXY`, or the same names in lower case. See
    /// [`proxies`](Self::proxies). The variables are read now, and not again.
    ///
    /// A user name and a password in the URI of a proxy are sent to it. A variable that is no URI
    /// is ignored, and all are in a CGI program, whose client could set one. With a SOCKS proxy
    /// requests fail with [`InvalidTarget::Proxy`].
    #[cfg(feature = "proxy")]
    #[must_use]
    pub fn proxies_from_env(mut self) -> Self {
        self.proxies = Some(Proxies::from_env());
        self
    }

    /// Accepts every certificate of a server: of any issuer, for any name, and expired. Then
    /// anyone on the way can read and change what is sent, so this is for tests alone. To trust a
    /// certificate of your own, add it to the roots of the [`ClientConfig`] instead.
    #[must_use]
    pub fn danger_accept_invalid_certs(mut self) -> Self {
        danger::accept_invalid_certs(Arc::make_mut(&mut self.tls));
        self
    }

    /// Returns how long a session may take to answer a PING before it is not trusted with new
    /// requests.
    pub(super) const fn patience(&self) -> Duration {
        self.session.timeouts.keep_alive_reply
    }

    /// Returns where a request for an origin goes.
    pub(super) fn route(
        &self,
        method: &Method,
        mut origin: Origin,
    ) -> Result<Route, ConnectorError> {
        let Some(Proxies(choose)) = &self.proxies else {
            return Ok(Route::Direct(origin));
        };
        let proxy = choose(&origin.uri())?.map(Arc::new);
        let is_simple = !origin.is_tls() && method != Method::CONNECT && self.plain == Plain::Http1;
        match proxy {
            Some(proxy) if is_simple => Ok(Route::Forwarded(proxy)),
            proxy => {
                origin.proxy = proxy;
                Ok(Route::Direct(origin))
            }
        }
    }

    /// Returns whether requests to an origin share connections, if that is known before there is a
    /// connection.
    pub(super) fn is_shared(&self, origin: &Origin) -> Option<bool> {
        match self.plain {
            _ if self.reach.negotiates() => None,
            _ if origin.is_tls() => match self.offer[..] {
                [Protocol::Http1] if !self.upgrade_over_tls => Some(false),
                _ => None,
            },
            Plain::Http1 => Some(false),
            Plain::Http2 | Plain::Spdy(_) => Some(true),
            Plain::Upgrade => None,
        }
    }

    /// Connects to an origin. The connection keeps its place until its transport is closed.
    pub(super) async fn connect(
        &self,
        origin: &Origin,
        place: &Arc<Place>,
    ) -> Result<Connection, ConnectorError> {
        let connecting = async {
            let (mut io, mut protocol) = self.open(origin).await?;
            if protocol == Protocol::Http1 && self.asks_to_upgrade(origin) {
                if let Some(io) = upgraded(io, origin).await? {
                    return Ok(self.spdy(io, Version::V3_1, place));
                }
                // The second connection may reach another server, which chooses another protocol.
                (io, protocol) = self.open(origin).await?;
            }
            match protocol {
                Protocol::Spdy(version) => Ok(self.spdy(io, version, place)),
                Protocol::Http2 => self.http2(io, place).await,
                Protocol::Http1 => self.http1(io, place).await,
            }
        };
        match tokio::time::timeout(self.timeout, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(self.timed_out(origin)),
        }
    }

    pub(super) fn timed_out(&self, origin: &Origin) -> ConnectorError {
        let (name, port, timeout) = (origin.name(), origin.port, self.timeout);
        let through = origin.proxy.as_ref().map_or_else(String::new, |proxy| {
            let (name, port) = (proxy.origin.name(), proxy.origin.port);
            format!(" through the proxy {name} port {port}")
        });
        let reason = format!("no connection to {name} port {port}{through} within {timeout:?}");
        io::Error::new(io::ErrorKind::TimedOut, reason).into()
    }

    fn asks_to_upgrade(&self, origin: &Origin) -> bool {
        if origin.is_tls() {
            self.upgrade_over_tls
        } else {
            self.plain == Plain::Upgrade
        }
    }

    /// Opens a transport, with TLS for an `https` origin. Returns what the server speaks on it.
    async fn open(&self, origin: &Origin) -> Result<Opened, ConnectorError> {
        let name = origin.is_tls().then(|| server_name(origin)).transpose()?;
        let Dialed { io, protocol } = match &origin.proxy {
            Some(proxy) => self.through(proxy, origin).await?,
            None => self.reach.reach(origin).await?,
        };
        match (protocol, name) {
            (Some(protocol), _) => Ok((io, protocol)),
            (None, Some(name)) => self.secured(io, name).await,
            (None, None) => Ok((io, self.plain.protocol())),
        }
    }

    /// Opens a tunnel through a proxy.
    async fn through(&self, proxy: &Proxy, origin: &Origin) -> Result<Dialed, ConnectorError> {
        let Dialed { mut io, protocol } = self.reach.reach(&proxy.origin).await?;
        match protocol {
            Some(Protocol::Http1) => {}
            Some(_) => return Err(ConnectorError::Protocol),
            None if proxy.origin.is_tls() => {
                let mut tls = (*self.tls).clone();
                tls.alpn_protocols = vec![Protocol::Http1.alpn().to_vec()];
                let name = server_name(&proxy.origin)?;
                let secured = TlsConnector::from(Arc::new(tls)).connect(name, io).await;
                io = Box::new(secured.map_err(refused)?);
            }
            None => {}
        }
        proxy.tunnel(io, origin).await
    }

    /// Makes the TLS handshake. Returns the protocol that the server has chosen.
    async fn secured(
        &self,
        io: Box<dyn Transport>,
        name: ServerName<'static>,
    ) -> Result<Opened, ConnectorError> {
        let io = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, io)
            .await
            .map_err(refused)?;
        let tls = io.get_ref().1;
        let protocol = self.chosen(tls.alpn_protocol())?;
        debug!(
            protocol = protocol.token(),
            tls = tls.protocol_version().and_then(|version| version.as_str()),
            "server has chosen"
        );
        Ok((Box::new(io), protocol))
    }

    fn chosen(&self, token: Option<&[u8]>) -> Result<Protocol, ConnectorError> {
        let token = token.unwrap_or(Protocol::Http1.token().as_bytes());
        let is_chosen = |offered: &&Protocol| offered.token().as_bytes() == token;
        let chosen = self.offer.iter().find(is_chosen);
        chosen.copied().ok_or(ConnectorError::Protocol)
    }

    fn spdy<IO: Transport>(
        &self,
        transport: IO,
        version: Version,
        place: &Arc<Place>,
    ) -> Connection {
        // A SPDY session has its own write timeout.
        let transport = Watched::new(transport, place, None);
        let heard = transport.heard();
        let (requests, _, driver) = handshake(transport, version, self.session.clone());
        tokio::spawn(place.outlast(async move {
            if let Err(error) = driver.await {
                debug!(%error, "session ended early");
            }
        }));
        Connection::Shared(Arc::new(Shared::spdy(requests, heard, place)))
    }

    async fn http2(
        &self,
        transport: Box<dyn Transport>,
        place: &Arc<Place>,
    ) -> Result<Connection, ConnectorError> {
        let timeouts = &self.session.timeouts;
        let transport = Watched::new(transport, place, timeouts.write);
        let heard = transport.heard();
        let tasks = Tasks(Arc::clone(place.line()));
        let (requests, driver) = http2::Builder::new(tasks)
            .timer(TokioTimer::new())
            .keep_alive_interval(timeouts.keep_alive.map(countable))
            .keep_alive_timeout(countable(timeouts.keep_alive_reply))
            .handshake(TokioIo::new(transport))
            .await?;
        tokio::spawn(place.outlast(driver));
        Ok(Connection::Shared(Arc::new(Shared::http2(
            requests, heard, place,
        ))))
    }

    async fn http1(
        &self,
        transport: Box<dyn Transport>,
        place: &Arc<Place>,
    ) -> Result<Connection, ConnectorError> {
        let transport = Watched::new(transport, place, self.session.timeouts.write);
        let heard = transport.heard();
        let (requests, driver) = http1::handshake(TokioIo::new(Http1Io::new(transport))).await?;
        // After CONNECT the connection no longer carries HTTP.
        tokio::spawn(place.outlast(driver.with_upgrades()));
        Ok(Connection::Http1(Http1::new(requests, heard, place)))
    }
}

/// A transport, and what is spoken on it.
type Opened = (Box<dyn Transport>, Protocol);

fn server_name(origin: &Origin) -> Result<ServerName<'static>, ConnectorError> {
    ServerName::try_from(origin.name().to_owned())
        .map_err(|_| ConnectorError::Target(InvalidTarget::ServerName))
}

/// Runs the futures that hyper uses for a connection of HTTP/2, including the one with the
/// transport, until the connection is cut.
#[derive(Clone, Debug)]
struct Tasks(Arc<Line>);

impl<F> Executor<F> for Tasks
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        let line = Arc::clone(&self.0);
        tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = task => {}
                () = line.until_cut() => {}
            }
        });
    }
}

/// Asks to upgrade to SPDY/3.1. Returns `None` if the server does not upgrade, and closes the
/// transport.
async fn upgraded(transport: Box<dyn Transport>, origin: &Origin) -> io::Result<Option<Upgraded>> {
    match upgrade::connect(transport, upgrade::request(&origin.uri())).await {
        Ok((_, transport)) => {
            debug!(protocol = Protocol::Spdy(Version::V3_1).token(), "upgraded");
            Ok(Some(transport))
        }
        Err(ConnectError::Refused(answer)) => {
            debug!(status = answer.status().as_u16(), "server does not upgrade");
            Ok(None)
        }
        Err(ConnectError::Transport(error)) => Err(io::Error::other(error)),
    }
}

/// Distinguishes a server that supports no offered protocol from a server that cannot be reached.
fn refused(error: io::Error) -> ConnectorError {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            ConnectorError::Protocol
        }
        _ => error.into(),
    }
}

/// Why there is no connection to an origin. Nothing of the request was sent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectorError {
    /// The URI of the request does not name an origin.
    Target(InvalidTarget),
    /// The host cannot be found or does not answer, TLS or the upgrade failed, or connecting took
    /// longer than [`Connector::timeout`].
    Transport(Arc<io::Error>),
    /// The server supports no protocol that was [offered](Connector::offer).
    Protocol,
    /// The connection does not speak HTTP.
    Http(Arc<hyper::Error>),
    /// The [proxy](Connector::proxies) opened no tunnel. Contains the status of its response, which
    /// is 407 if it wants [authorization](Proxy::authorization).
    Proxy(StatusCode),
    /// All connections that the origin may have were in use for as long as [`Connector::timeout`].
    /// Contains their number.
    Connections(usize),
    /// Too many requests already wait for a connection to the origin: see
    /// [`Connector::max_waiting`]. Contains their number.
    Waiting(usize),
}

impl ConnectorError {
    /// Returns whether the request failed while connecting, which is the case for all errors but
    /// [`Target`](Self::Target).
    #[must_use]
    pub const fn is_connect(&self) -> bool {
        !matches!(self, Self::Target(_))
    }

    /// Returns whether [`Connector::timeout`] or a timeout of the transport ran out.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Transport(error) => error.kind() == io::ErrorKind::TimedOut,
            Self::Http(error) => error.is_timeout(),
            Self::Connections(_) => true,
            Self::Target(_) | Self::Protocol | Self::Proxy(_) | Self::Waiting(_) => false,
        }
    }

    /// Returns whether the server has certainly not acted on the request. This is always so,
    /// because nothing was sent. With an invalid [`Target`](Self::Target) the request fails again
    /// unless it is changed.
    #[must_use]
    pub const fn is_retry_safe(&self) -> bool {
        true
    }

    /// Returns whether the server refused, because it supports none of the offered protocols, or
    /// the proxy.
    #[must_use]
    pub const fn is_remote(&self) -> bool {
        matches!(self, Self::Protocol | Self::Proxy(_))
    }
}

impl From<io::Error> for ConnectorError {
    fn from(error: io::Error) -> Self {
        Self::Transport(Arc::new(error))
    }
}

impl From<hyper::Error> for ConnectorError {
    fn from(error: hyper::Error) -> Self {
        Self::Http(Arc::new(error))
    }
}

impl fmt::Display for ConnectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(reason) => reason.fmt(f),
            Self::Transport(_) => f.write_str("connection to the origin failed"),
            Self::Protocol => f.write_str("no protocol in common with the origin"),
            Self::Http(_) => f.write_str("HTTP handshake with the origin failed"),
            Self::Proxy(status) => write!(f, "proxy refused the tunnel: {status}"),
            Self::Connections(count) => {
                write!(f, "all {count} connections to the origin are in use")
            }
            Self::Waiting(count) => {
                write!(
                    f,
                    "{count} requests wait for a connection to the origin already"
                )
            }
        }
    }
}

impl StdError for ConnectorError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Transport(error) => Some(&**error),
            Self::Http(error) => Some(&**error),
            Self::Target(_)
            | Self::Protocol
            | Self::Proxy(_)
            | Self::Connections(_)
            | Self::Waiting(_) => None,
        }
    }
}

/// Longer than it takes to resend one or two lost SYNs.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// More connections than a considerate application needs, and fewer than a process can usually
/// open.
const MAX_CONNECTIONS: usize = 256;

/// A burst can have more requests than there are connections, but not many more than they can serve
/// in time.
const MAX_WAITING: usize = 1024;

/// As many as a browser keeps for one server, and a few more.
const MAX_IDLE: usize = 8;

/// Servers close idle connections too, mostly after a longer time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection in use is checked this often, which must not be all the time.
const MIN_IDLE_TIMEOUT: Duration = Duration::from_millis(1);

/// Shorter than the time after which routers forget a connection.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A duration that hyper can add to the present time. It does not check for overflow.
fn countable(time: Duration) -> Duration {
    time.min(FAR_OFF)
}

/// Ten years.
const FAR_OFF: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
