//! From an origin to a connection: TCP, TLS, and the choice of a protocol.

use std::{error::Error as StdError, fmt, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    Uri,
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
    rustls::{ClientConfig, pki_types::ServerName},
};
use tracing::debug;

use super::{SendRequest, handshake};
use crate::{
    BoxError,
    upgrade::{self, ConnectError},
};

/// How origins are reached, for a [`Client`](super::Client).
///
/// `https`: ALPN offers SPDY/3.1, SPDY/3, SPDY/2, HTTP/2 and HTTP/1.1, in this order, and the server chooses. `http`: as
/// [`plain`](Self::plain) says.
#[derive(Clone, Debug)]
pub struct Connector {
    tls: Arc<ClientConfig>,
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
    pub fn new(mut tls: ClientConfig) -> Self {
        tls.alpn_protocols = OFFER.iter().map(|&(name, _)| name.to_vec()).collect();
        Self {
            tls: Arc::new(tls),
            plain: Plain::default(),
            session: Config::default(),
            timeout: CONNECT_TIMEOUT,
        }
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
            .await?;
        let chosen = transport.get_ref().1.alpn_protocol();
        let protocol = OFFER.iter().find(|(name, _)| Some(*name) == chosen);
        match protocol.map_or(Protocol::Http1, |&(_, protocol)| protocol) {
            Protocol::Spdy(version) => Ok(self.spdy(transport, version)),
            Protocol::Http2 => http2(transport).await,
            Protocol::Http1 => http1(transport).await,
        }
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
    tokio::spawn(driver);
    Ok(Connection::Http1(requests))
}

/// A connection that requests can be sent on.
#[derive(Debug)]
pub(super) enum Connection {
    Spdy(SendRequest),
    Http2(http2::SendRequest<RequestBody>),
    Http1(http1::SendRequest<RequestBody>),
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
    pub(super) fn of(uri: &Uri) -> Result<Self, ConnectorError> {
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(ConnectorError::Target("URI has no scheme or no host"));
        };
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

#[derive(Clone, Copy, Debug)]
enum Protocol {
    Spdy(Version),
    Http2,
    Http1,
}

/// Why an origin cannot be reached. Nothing of the request was sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectorError {
    /// The URI of the request leads nowhere.
    Target(&'static str),
    /// The host cannot be found or does not answer, TLS or the upgrade failed, or it took too long.
    Transport(io::Error),
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
            Self::Http(_) => "connection cannot be begun",
        })
    }
}

impl StdError for ConnectorError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Target(_) => None,
            Self::Transport(error) => Some(error),
            Self::Http(error) => Some(error),
        }
    }
}

/// What ALPN offers, the best first.
const OFFER: [(&[u8], Protocol); 5] = [
    (b"spdy/3.1", Protocol::Spdy(Version::V3_1)),
    (b"spdy/3", Protocol::Spdy(Version::V3)),
    (b"spdy/2", Protocol::Spdy(Version::V2)),
    (b"h2", Protocol::Http2),
    (b"http/1.1", Protocol::Http1),
];

/// Longer than a lost SYN or two take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
