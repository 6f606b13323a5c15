//! Connections. What is spoken is one of the things that were offered, and is known.

use std::{
    error::Error,
    fmt, io,
    sync::Arc,
    time::{Duration, Instant},
};

use http::Uri;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{AlertDescription, ClientConfig, pki_types::ServerName};
use spdy_frame::Version;
use spdy_tower::{
    Protocol, client,
    session::{Config, Session},
    upgrade,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    counted::{Counted, Wire},
    exchange::Requests,
    failure::{Exit, Failure},
    flags::Reach,
    offer::Offer,
    origin::Origin,
    tls, wire,
};

/// Makes connections.
pub(crate) struct Connector {
    offer: Offer,
    tls: Option<Arc<ClientConfig>>,
    config: Config,
    timeout: Duration,
    verbose: bool,
}

impl Connector {
    /// `has_tls`: whether some URL is one of https. Nobody needs certificates otherwise.
    pub(crate) fn new(offer: Offer, reach: &Reach, has_tls: bool) -> Result<Self, Failure> {
        let mut config = Config::default();
        // A server that has gone without a word is found out.
        config.timeouts.keep_alive = Some(Duration::from_secs(10));
        config.timeouts.linger = LINGER;
        let tls = if has_tls && !reach.plain {
            let mut tls = tls::config(reach.insecure, reach.cacert.as_deref())?;
            let tokens = offer.alpn.iter().map(|offered| offered.token());
            tls.alpn_protocols = tokens.map(|token| token.as_bytes().to_vec()).collect();
            Some(Arc::new(tls))
        } else {
            None
        };
        if reach.verbose {
            wire::show();
        }
        Ok(Self {
            offer,
            tls,
            config,
            timeout: reach.connect_timeout(),
            verbose: reach.verbose,
        })
    }

    /// Sets how much a server may send ahead: for one stream, and for all of a session.
    pub(crate) const fn windows(mut self, stream: u32, session: u32) -> Self {
        self.config.limits.stream_window = stream;
        self.config.limits.session_window = session;
        self
    }

    pub(crate) async fn connect(&self, origin: &Origin) -> Result<Connection, Failure> {
        let failed =
            |error: &dyn Error| Failure::connect(format!("cannot connect to {origin}"), error);
        match timeout(self.timeout, self.begin(origin)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(Refusal::Protocol(reason))) => {
                Err(Failure::new(Exit::Connect, format!("{origin} {reason}")))
            }
            Ok(Err(Refusal::Transport(error))) => Err(failed(&*error)),
            Err(_) => Err(failed(&io::Error::from(io::ErrorKind::TimedOut))),
        }
    }

    async fn begin(&self, origin: &Origin) -> Result<Connection, Refusal> {
        let start = Instant::now();
        let (io, protocol, wire) = self.open(origin).await?;
        if protocol == Protocol::Http1 && self.offer.upgrade {
            let root = Uri::builder().authority(origin.to_string()).scheme("http");
            let root = root.path_and_query("/").build()?;
            return match upgrade::connect(io, upgrade::request(&root)).await {
                Ok((_, io)) => {
                    let spdy = Protocol::Spdy(Version::V3_1);
                    self.note(format_args!("upgraded to {}", spdy.token()));
                    self.speak(Box::new(io), spdy, wire, start).await
                }
                Err(upgrade::ConnectError::Refused(_)) if self.offer.falls_back => {
                    let (io, protocol, wire) = self.open(origin).await?;
                    self.speak(io, protocol, wire, start).await
                }
                Err(upgrade::ConnectError::Refused(answer)) => Err(Refusal::Protocol(format!(
                    "does not upgrade to SPDY/3.1: its answer is {}",
                    answer.status()
                ))),
                Err(error) => Err(error.into()),
            };
        }
        self.speak(io, protocol, wire, start).await
    }

    /// TCP and TLS.
    async fn open(
        &self,
        origin: &Origin,
    ) -> Result<(Box<dyn Transport>, Protocol, Arc<Wire>), Refusal> {
        let socket = TcpStream::connect((origin.name(), origin.port)).await?;
        socket.set_nodelay(true)?;
        let peer = socket.peer_addr()?;
        let wire = Arc::new(Wire::default());
        let io = Counted::new(socket, Arc::clone(&wire));
        let Some(tls) = self.tls.as_ref().filter(|_| origin.is_tls) else {
            let protocol = self.offer.plain;
            self.note(format_args!("connected to {peer}: {}", protocol.token()));
            return Ok((Box::new(io), protocol, wire));
        };
        let name = ServerName::try_from(origin.name().to_owned())?;
        let connector = TlsConnector::from(Arc::clone(tls));
        let io = match connector.connect(name, io).await {
            Ok(io) => io,
            Err(error) if is_no_protocol(&error) => return Err(self.speaks_none()),
            Err(error) => return Err(error.into()),
        };
        let session = io.get_ref().1;
        let Some(protocol) = self.chosen(session.alpn_protocol()) else {
            return Err(self.speaks_none());
        };
        let version = session
            .protocol_version()
            .and_then(|version| version.as_str())
            .unwrap_or("TLS");
        self.note(format_args!(
            "connected to {peer}: {version}, {}",
            protocol.token()
        ));
        Ok((Box::new(io), protocol, wire))
    }

    /// What is spoken after a handshake. HTTP/1.1 is what is spoken where nothing is said.
    fn chosen(&self, alpn: Option<&[u8]>) -> Option<Protocol> {
        let is_offered = |protocol: &Protocol| self.offer.alpn.contains(protocol);
        let chosen = alpn.and_then(Protocol::from_alpn).filter(is_offered);
        chosen.or_else(|| Some(Protocol::Http1).filter(is_offered))
    }

    async fn speak(
        &self,
        io: Box<dyn Transport>,
        protocol: Protocol,
        wire: Arc<Wire>,
        start: Instant,
    ) -> Result<Connection, Refusal> {
        if !matches!(protocol, Protocol::Spdy(_)) {
            self.note(format_args!(
                "{} is spoken and no SPDY: heads are shown instead of frames",
                protocol.token()
            ));
        }
        let (requests, driver) = match protocol {
            Protocol::Spdy(version) => {
                let (requests, driver) = client::handshake(io, version, self.config.clone());
                // Why a session has ended is told to its requests.
                let driver = tokio::spawn(async { drop(driver.await) });
                (Requests::Spdy(requests), driver)
            }
            Protocol::Http2 => {
                let io = TokioIo::new(io);
                let (requests, driver) = http2::handshake(TokioExecutor::new(), io).await?;
                let driver = tokio::spawn(async { drop(driver.await) });
                (Requests::Http2(requests), driver)
            }
            Protocol::Http1 => {
                let (requests, driver) = http1::handshake(TokioIo::new(io)).await?;
                let driver = tokio::spawn(async { drop(driver.await) });
                (Requests::Http1(requests), driver)
            }
        };
        Ok(Connection {
            requests,
            protocol,
            wire,
            took: start.elapsed(),
            driver,
        })
    }

    fn note(&self, text: fmt::Arguments<'_>) {
        if self.verbose {
            wire::note(text);
        }
    }

    fn speaks_none(&self) -> Refusal {
        let offered: Vec<_> = self.offer.alpn.iter().map(|it| it.token()).collect();
        Refusal::Protocol(format!("speaks none of {}", offered.join(", ")))
    }
}

/// Why there is no connection.
enum Refusal {
    Transport(Box<dyn Error + Send + Sync>),
    /// What the server does or does not, said of it.
    Protocol(String),
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Transport(error.into())
    }
}

fn is_no_protocol(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    matches!(
        cause,
        Some(rustls::Error::AlertReceived(
            AlertDescription::NoApplicationProtocol
        ))
    )
}

/// An open connection.
pub(crate) struct Connection {
    pub(crate) requests: Requests,
    pub(crate) protocol: Protocol,
    pub(crate) wire: Arc<Wire>,
    /// How long connecting took.
    pub(crate) took: Duration,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Says good-bye, and does not wait long for the server to do so.
    pub(crate) async fn end(self) {
        drop(self.requests);
        _ = timeout(2 * LINGER, self.driver).await;
    }

    /// The session, if it is one of SPDY.
    pub(crate) const fn session(&self) -> Option<&Session> {
        match &self.requests {
            Requests::Spdy(requests) => Some(requests.session()),
            _ => None,
        }
    }
}

pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// How long the transport is read after our good-bye.
const LINGER: Duration = Duration::from_millis(200);
