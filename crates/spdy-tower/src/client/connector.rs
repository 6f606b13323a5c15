//! From an origin to a connection: TCP, TLS, and the choice of a protocol.

use std::{error::Error as StdError, fmt, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    Method, Uri,
    uri::{Authority, Scheme},
};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use spdy_frame::Version;
use spdy_session::Config;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{self, AlertDescription, ClientConfig, pki_types::ServerName},
};
use tracing::debug;

use super::{SendRequest, handshake};
use crate::{
    BoxError, Protocol,
    upgrade::{self, ConnectError},
};

/// How origins are reached, for a [`Client`](super::Client).
///
/// `https`: ALPN offers SPDY/3.1, SPDY/3, SPDY/2, HTTP/2 and HTTP/1.1, in this order, or what [`offer`](Self::offer)
/// says, and the server chooses. `http`: as [`plain`](Self::plain) says.
#[derive(Clone, Debug)]
pub struct Connector {
    tls: Arc<ClientConfig>,
    offer: Vec<Protocol>,
    plain: Plain,
    session: Config,
    timeout: Duration,
}

/// What is spoken without TLS, where nothing is negotiated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plain {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// Each new connection asks with a GET of `/` to upgrade to SPDY/3.1. A server that does not gets HTTP/1.1, on a
    /// connection more.
    Upgrade,
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
            session: Config::default(),
            timeout: CONNECT_TIMEOUT,
        };
        connector.offer(&Protocol::ALL)
    }

    /// Sets what ALPN offers, the best first, and with it what may be spoken over TLS. Default [`Protocol::ALL`].
    ///
    /// A server that knows no ALPN speaks HTTP/1.1. Where that is not among the offers, and where the server chooses
    /// none of them, there is no connection: [`ConnectorError::Protocol`].
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

    /// Sets everything about SPDY sessions. Pushes are refused all the same.
    #[must_use]
    pub fn session(mut self, config: Config) -> Self {
        self.session = config;
        self
    }

    /// Sets how long connecting may take until requests can be sent. Default 10 s.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Connects to an origin.
    pub(super) async fn connect(&self, origin: &Origin) -> Result<Connection, ConnectorError> {
        let connecting = async {
            if origin.scheme == Scheme::HTTPS {
                self.connect_tls(origin).await
            } else {
                self.connect_plain(origin).await
            }
        };
        match tokio::time::timeout(self.timeout, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(ConnectorError::Transport(io::ErrorKind::TimedOut.into())),
        }
    }

    async fn connect_tls(&self, origin: &Origin) -> Result<Connection, ConnectorError> {
        let name = ServerName::try_from(origin.name().to_owned())
            .map_err(|_| ConnectorError::Target("host is no name for TLS"))?;
        let transport = origin.connect().await?;
        let transport = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, transport)
            .await
            .map_err(refused)?;
        match self.chosen(transport.get_ref().1.alpn_protocol())? {
            Protocol::Spdy(version) => Ok(self.spdy(transport, version)),
            Protocol::Http2 => http2(transport).await,
            Protocol::Http1 => http1(transport).await,
        }
    }

    fn chosen(&self, token: Option<&[u8]>) -> Result<Protocol, ConnectorError> {
        let token = token.unwrap_or(Protocol::Http1.token().as_bytes());
        let is_chosen = |offered: &&Protocol| offered.token().as_bytes() == token;
        let chosen = self.offer.iter().find(is_chosen);
        chosen.copied().ok_or(ConnectorError::Protocol)
    }

    async fn connect_plain(&self, origin: &Origin) -> Result<Connection, ConnectorError> {
        let transport = origin.connect().await?;
        match self.plain {
            Plain::Http1 => http1(transport).await,
            Plain::Spdy(version) => Ok(self.spdy(transport, version)),
            Plain::Upgrade => {
                match upgrade::connect(transport, upgrade::request(&origin.uri())).await {
                    Ok((_, transport)) => Ok(self.spdy(transport, Version::V3_1)),
                    Err(ConnectError::Refused(_)) => http1(origin.connect().await?).await,
                    Err(ConnectError::Transport(error)) => Err(io::Error::other(error).into()),
                }
            }
        }
    }

    fn spdy<IO>(&self, transport: IO, version: Version) -> Connection
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (requests, driver) = handshake(transport, version, self.session.clone());
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                debug!(%error, "session ended early");
            }
        });
        Connection::Spdy(requests)
    }
}

async fn http2<IO>(transport: IO) -> Result<Connection, ConnectorError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (requests, driver) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(transport)).await?;
    tokio::spawn(driver);
    Ok(Connection::Http2(requests))
}

async fn http1<IO>(transport: IO) -> Result<Connection, ConnectorError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (requests, driver) = http1::handshake(TokioIo::new(transport)).await?;
    // CONNECT leaves HTTP behind.
    tokio::spawn(driver.with_upgrades());
    Ok(Connection::Http1(requests))
}

/// A connection that requests can be sent on.
#[derive(Debug)]
pub(super) enum Connection {
    Spdy(SendRequest),
    Http2(http2::SendRequest<RequestBody>),
    Http1(http1::SendRequest<RequestBody>),
}

impl Connection {
    pub(super) fn protocol(&self) -> Protocol {
        match self {
            Self::Spdy(requests) => Protocol::Spdy(requests.session().version()),
            Self::Http2(_) => Protocol::Http2,
            Self::Http1(_) => Protocol::Http1,
        }
    }
}

/// A request body whose type does not matter any more.
pub(super) type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    scheme: Scheme,
    host: String,
    port: u16,
}

impl Origin {
    /// The origin that a request is for. CONNECT to a host and a port alone goes to that host, by TLS at port 443.
    pub(super) fn asked(method: &Method, uri: &Uri) -> Result<Self, ConnectorError> {
        match (uri.scheme(), uri.authority()) {
            (None, Some(authority)) if method == Method::CONNECT => {
                let is_tls = authority.port_u16() == Some(443);
                let scheme = if is_tls { Scheme::HTTPS } else { Scheme::HTTP };
                Self::new(&scheme, authority)
            }
            _ => Self::of(uri),
        }
    }

    pub(super) fn of(uri: &Uri) -> Result<Self, ConnectorError> {
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(ConnectorError::Target("URI has no scheme or no host"));
        };
        Self::new(scheme, authority)
    }

    fn new(scheme: &Scheme, authority: &Authority) -> Result<Self, ConnectorError> {
        let usual = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return Err(ConnectorError::Target("scheme is neither http nor https")),
        };
        Ok(Self {
            scheme: scheme.clone(),
            host: authority.host().to_ascii_lowercase(),
            port: authority.port_u16().unwrap_or(usual),
        })
    }

    /// The host without the brackets of an IPv6 address.
    fn name(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    fn uri(&self) -> Uri {
        let authority = Authority::try_from(format!("{}:{}", self.host, self.port));
        let authority = authority.expect("host and port are taken from an authority");
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(authority);
        uri.path_and_query("/")
            .build()
            .expect("all parts are there")
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let transport = TcpStream::connect((self.name(), self.port)).await?;
        transport.set_nodelay(true)?;
        Ok(transport)
    }
}

/// Tells a server that speaks nothing of what was offered from one that cannot be reached.
fn refused(error: io::Error) -> ConnectorError {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            ConnectorError::Protocol
        }
        _ => ConnectorError::Transport(error),
    }
}

/// Why an origin cannot be reached. Nothing of the request was sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectorError {
    /// The URI of the request leads nowhere.
    Target(&'static str),
    /// The host cannot be found or does not answer, TLS or the upgrade failed, or it took too long.
    Transport(io::Error),
    /// The server speaks nothing of what was [offered](Connector::offer).
    Protocol,
    /// The connection is no HTTP.
    Http(hyper::Error),
}

impl From<io::Error> for ConnectorError {
    fn from(error: io::Error) -> Self {
        Self::Transport(error)
    }
}

impl From<hyper::Error> for ConnectorError {
    fn from(error: hyper::Error) -> Self {
        Self::Http(error)
    }
}

impl fmt::Display for ConnectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Target(reason) => reason,
            Self::Transport(_) => "origin cannot be reached",
            Self::Protocol => "origin speaks none of the protocols that were offered",
            Self::Http(_) => "connection cannot be begun",
        })
    }
}

impl StdError for ConnectorError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Target(_) | Self::Protocol => None,
            Self::Transport(error) => Some(error),
            Self::Http(error) => Some(error),
        }
    }
}

/// Longer than a lost SYN or two take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
