//! From an origin to a connection: TCP, TLS, and the choice of a protocol.

use std::{error::Error as StdError, fmt, io, sync::Arc, time::Duration};

use hyper::{
    client::conn::{http1, http2},
    rt::Executor,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use spdy_frame::Version;
use spdy_session::Config;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{self, AlertDescription, ClientConfig, pki_types::ServerName},
};
use tracing::debug;

use super::{
    connection::{Connection, Http1, Shared},
    dial::{Dial, Dialing, Tcp, Transport, Watched},
    handshake,
    origin::{InvalidTarget, Origin},
    slot::{Line, Place},
};
use crate::{
    Protocol,
    upgrade::{self, ConnectError, Upgraded},
};

/// How origins are reached, for a [`Client`](super::Client).
///
/// `https`: ALPN offers SPDY/3.1, SPDY/3, SPDY/2, HTTP/2 and HTTP/1.1, in this order, or what
/// [`offer`](Self::offer) says, and the server chooses. `http`: as [`plain`](Self::plain) says.
#[derive(Clone, Debug)]
pub struct Connector {
    tls: Arc<ClientConfig>,
    offer: Vec<Protocol>,
    plain: Plain,
    upgrade_over_tls: bool,
    session: Config,
    dial: Arc<dyn Dial>,
    pub(super) timeout: Duration,
    pub(super) max_connections: usize,
    pub(super) max_waiting: usize,
    pub(super) idle_timeout: Duration,
}

/// What is spoken without TLS, where nothing is negotiated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Plain {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// Each new connection asks with a GET of `/` to upgrade to SPDY/3.1. A server that does not
    /// gets HTTP/1.1, on a connection more.
    Upgrade,
    /// HTTP/2 at once, for servers that are known to speak it.
    Http2,
    /// SPDY at once, for servers that are known to speak it.
    Spdy(Version),
}

impl Connector {
    /// A connector with this configuration of TLS, whose ALPN protocols are replaced.
    #[must_use]
    pub fn new(tls: ClientConfig) -> Self {
        let connector = Self {
            tls: Arc::new(tls),
            offer: Vec::new(),
            plain: Plain::default(),
            upgrade_over_tls: false,
            session: Config::default(),
            dial: Arc::new(Tcp),
            timeout: CONNECT_TIMEOUT,
            max_connections: MAX_CONNECTIONS,
            max_waiting: MAX_WAITING,
            idle_timeout: IDLE_TIMEOUT,
        }
        .keep_alive(Some(KEEP_ALIVE));
        connector.offer(&Protocol::ALL)
    }

    /// Sets what ALPN offers, the best first, and with it what may be spoken over TLS. Default
    /// [`Protocol::ALL`].
    ///
    /// A server that knows no ALPN speaks HTTP/1.1. Where that is not among the offers, and where
    /// the server chooses none of them, there is no connection: [`ConnectorError::Protocol`].
    #[must_use]
    pub fn offer(mut self, protocols: &[Protocol]) -> Self {
        self.offer = protocols.to_vec();
        let tokens = protocols.iter().map(|protocol| protocol.token());
        Arc::make_mut(&mut self.tls).alpn_protocols =
            tokens.map(|token| token.as_bytes().to_vec()).collect();
        self
    }

    /// Sets what is spoken without TLS. Default [`Plain::Http1`].
    #[must_use]
    pub const fn plain(mut self, plain: Plain) -> Self {
        self.plain = plain;
        self
    }

    /// Sets whether HTTP/1.1 over TLS asks to upgrade to SPDY/3.1, too, as [`Plain::Upgrade`] does
    /// without TLS: for servers that choose SPDY in this way and not by ALPN. Default `false`.
    #[must_use]
    pub const fn upgrade_over_tls(mut self, asks: bool) -> Self {
        self.upgrade_over_tls = asks;
        self
    }

    /// Sets everything about SPDY sessions. Pushes are refused in any case, and a configuration
    /// without a [`keep_alive`](spdy_session::Timeouts::keep_alive) gets that of the connector.
    #[must_use]
    pub fn session(mut self, mut config: Config) -> Self {
        let timeouts = &mut config.timeouts;
        timeouts.keep_alive = timeouts.keep_alive.or(self.session.timeouts.keep_alive);
        config.accept_push = false;
        self.session = config;
        self
    }

    /// Sets after how long without a word from the server it is asked for a sign of life, so that a
    /// server that is gone is noticed: over SPDY always, over HTTP/2 while a request is under way.
    /// One that does not answer within
    /// [`keep_alive_reply`](spdy_session::Timeouts::keep_alive_reply) is given up. Default 20 s;
    /// `None` never asks.
    #[must_use]
    pub fn keep_alive(mut self, interval: Option<Duration>) -> Self {
        self.session.timeouts.keep_alive = interval;
        self
    }

    /// Sets how long a request may wait for a connection that takes it: for a place among
    /// [`max_connections`](Self::max_connections), and until TCP, TLS and an upgrade are through.
    /// The time holds for each request by itself, however many wait, and for all its attempts
    /// together. Default 10 s.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many connections to one origin may be open at once, those that are being made among
    /// them. Requests that find no place wait: see [`timeout`](Self::timeout). Default 256, and
    /// never below 1.
    #[must_use]
    pub fn max_connections(mut self, count: usize) -> Self {
        self.max_connections = count.max(1);
        self
    }

    /// Sets how many requests to one origin may wait for a connection. More fail at once with
    /// [`ConnectorError::Waiting`]. Default 1024.
    #[must_use]
    pub const fn max_waiting(mut self, count: usize) -> Self {
        self.max_waiting = count;
        self
    }

    /// Sets how long a connection that no request uses is kept open: for one or two of these times.
    /// Default 60 s.
    #[must_use]
    pub const fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Sets how transports are opened, in place of TCP connections to the addresses that the
    /// system's resolver returns.
    #[must_use]
    pub fn dial(mut self, dial: impl Dial) -> Self {
        self.dial = Arc::new(dial);
        self
    }

    /// How long a PING may wait for its answer before a session is not trusted with new requests.
    pub(super) const fn patience(&self) -> Duration {
        self.session.timeouts.keep_alive_reply
    }

    /// What connections to an origin speak, where that is known before there is one: whether
    /// requests share them.
    pub(super) fn is_shared(&self, origin: &Origin) -> Option<bool> {
        match self.plain {
            _ if origin.is_tls() => match self.offer[..] {
                [Protocol::Http1] if !self.upgrade_over_tls => Some(false),
                _ => None,
            },
            Plain::Http1 => Some(false),
            Plain::Http2 | Plain::Spdy(_) => Some(true),
            Plain::Upgrade => None,
        }
    }

    /// Connects to an origin. The connection has its place until its transport is closed.
    pub(super) async fn connect(
        &self,
        origin: &Origin,
        place: &Arc<Place>,
    ) -> Result<Connection, ConnectorError> {
        let connecting = async {
            if origin.is_tls() {
                self.connect_tls(origin, place).await
            } else {
                self.connect_plain(origin, place).await
            }
        };
        match tokio::time::timeout(self.timeout, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(self.timed_out(origin)),
        }
    }

    pub(super) fn timed_out(&self, origin: &Origin) -> ConnectorError {
        let (name, port, timeout) = (origin.name(), origin.port, self.timeout);
        let reason = format!("no connection to {name} port {port} within {timeout:?}");
        io::Error::new(io::ErrorKind::TimedOut, reason).into()
    }

    fn transport(&self, origin: &Origin) -> Dialing {
        self.dial.dial(origin.name(), origin.port)
    }

    async fn connect_tls(
        &self,
        origin: &Origin,
        place: &Arc<Place>,
    ) -> Result<Connection, ConnectorError> {
        let name = ServerName::try_from(origin.name().to_owned())
            .map_err(|_| ConnectorError::Target(InvalidTarget::ServerName))?;
        let (transport, protocol) = self.secured(origin, name.clone()).await?;
        match protocol {
            Protocol::Spdy(version) => Ok(self.spdy(transport, version, place)),
            Protocol::Http2 => self.http2(transport, place).await,
            Protocol::Http1 if self.upgrade_over_tls => match upgraded(transport, origin).await? {
                Some(transport) => Ok(self.spdy(transport, Version::V3_1, place)),
                None => {
                    let (transport, _) = self.secured(origin, name).await?;
                    self.http1(transport, place).await
                }
            },
            Protocol::Http1 => self.http1(transport, place).await,
        }
    }

    /// Opens a transport with TLS, over which the server has chosen this protocol.
    async fn secured(
        &self,
        origin: &Origin,
        name: ServerName<'static>,
    ) -> Result<(TlsStream<Box<dyn Transport>>, Protocol), ConnectorError> {
        let transport = self.transport(origin).await?;
        let transport = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, transport)
            .await
            .map_err(refused)?;
        let tls = transport.get_ref().1;
        let protocol = self.chosen(tls.alpn_protocol())?;
        debug!(
            protocol = protocol.token(),
            tls = tls.protocol_version().and_then(|version| version.as_str()),
            "server has chosen"
        );
        Ok((transport, protocol))
    }

    fn chosen(&self, token: Option<&[u8]>) -> Result<Protocol, ConnectorError> {
        let token = token.unwrap_or(Protocol::Http1.token().as_bytes());
        let is_chosen = |offered: &&Protocol| offered.token().as_bytes() == token;
        let chosen = self.offer.iter().find(is_chosen);
        chosen.copied().ok_or(ConnectorError::Protocol)
    }

    async fn connect_plain(
        &self,
        origin: &Origin,
        place: &Arc<Place>,
    ) -> Result<Connection, ConnectorError> {
        let transport = self.transport(origin).await?;
        match self.plain {
            Plain::Http1 => self.http1(transport, place).await,
            Plain::Http2 => self.http2(transport, place).await,
            Plain::Spdy(version) => Ok(self.spdy(transport, version, place)),
            Plain::Upgrade => match upgraded(transport, origin).await? {
                Some(transport) => Ok(self.spdy(transport, Version::V3_1, place)),
                None => self.http1(self.transport(origin).await?, place).await,
            },
        }
    }

    fn spdy<IO>(&self, transport: IO, version: Version, place: &Arc<Place>) -> Connection
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // The session has a write timeout of its own.
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

    async fn http2<IO>(
        &self,
        transport: IO,
        place: &Arc<Place>,
    ) -> Result<Connection, ConnectorError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
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

    async fn http1<IO>(
        &self,
        transport: IO,
        place: &Arc<Place>,
    ) -> Result<Connection, ConnectorError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let transport = Watched::new(transport, place, self.session.timeouts.write);
        let heard = transport.heard();
        let (requests, driver) = http1::handshake(TokioIo::new(transport)).await?;
        // CONNECT leaves HTTP behind.
        tokio::spawn(place.outlast(driver.with_upgrades()));
        Ok(Connection::Http1(Http1::new(requests, heard, place)))
    }
}

/// Runs what hyper has beside a connection of HTTP/2, the transport among it, until the connection
/// is cut.
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

/// Asks to upgrade to SPDY/3.1. `None` if the server does not: the transport is closed then.
async fn upgraded<IO>(transport: IO, origin: &Origin) -> io::Result<Option<Upgraded>>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
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

/// Distinguishes a server that supports no offered protocol from one that cannot be reached.
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
    /// The URI of the request names no origin.
    Target(InvalidTarget),
    /// The host cannot be found or does not answer, TLS or the upgrade failed, or it took longer
    /// than [`Connector::timeout`].
    Transport(Arc<io::Error>),
    /// The server speaks nothing of what was [offered](Connector::offer).
    Protocol,
    /// The connection is no HTTP.
    Http(Arc<hyper::Error>),
    /// All connections that the origin may have, so many, stayed in use for as long as
    /// [`Connector::timeout`].
    Connections(usize),
    /// So many requests wait for a connection to the origin already: see
    /// [`Connector::max_waiting`].
    Waiting(usize),
}

impl ConnectorError {
    /// Returns whether the request failed while connecting: all but [`Target`](Self::Target).
    #[must_use]
    pub const fn is_connect(&self) -> bool {
        !matches!(self, Self::Target(_))
    }

    /// Returns whether [`Connector::timeout`], or a time limit of the transport, ran out.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Transport(error) => error.kind() == io::ErrorKind::TimedOut,
            Self::Http(error) => error.is_timeout(),
            Self::Connections(_) => true,
            Self::Target(_) | Self::Protocol | Self::Waiting(_) => false,
        }
    }

    /// Returns whether the server has certainly not acted on the request. That is so in every case:
    /// nothing of it was sent.
    #[must_use]
    pub const fn is_retry_safe(&self) -> bool {
        true
    }

    /// Returns whether the server refused: it speaks none of the protocols that were offered.
    #[must_use]
    pub const fn is_remote(&self) -> bool {
        matches!(self, Self::Protocol)
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
            Self::Target(_) | Self::Protocol | Self::Connections(_) | Self::Waiting(_) => None,
        }
    }
}

/// Longer than a lost SYN or two take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// More than an application needs that spares its origins, and fewer than a process may have open.
const MAX_CONNECTIONS: usize = 256;

/// A burst may be larger than the connections, and not much larger than they can serve in time.
const MAX_WAITING: usize = 1024;

/// Servers close theirs after some time, mostly a longer one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Below the time after which routers forget a connection.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A time that hyper can add to the present one: it does not check.
fn countable(time: Duration) -> Duration {
    time.min(FAR_OFF)
}

/// Ten years.
const FAR_OFF: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
