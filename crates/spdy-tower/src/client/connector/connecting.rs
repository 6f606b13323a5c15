//! Makes a connection to an origin: TCP, a proxy, TLS, and the choice of a protocol.

use std::{io, sync::Arc, time::Duration};

use hyper::{
    client::conn::{http1, http2},
    rt::Executor,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use spdy_frame::Version;
use tokio_rustls::{
    TlsConnector,
    rustls::{self, AlertDescription, pki_types::ServerName},
};
use tracing::debug;

use super::{
    super::{
        connection::{Connection, Http1, Shared},
        dial::{Dialed, Transport, Watched},
        handshake,
        origin::{InvalidTarget, Origin},
        proxy::Proxy,
        slot::{Line, Place},
    },
    Connector, ConnectorError, Plain,
};
use crate::{
    Http1Io, Protocol,
    upgrade::{self, ConnectError, Upgraded},
};

impl Connector {
    /// Connects to an origin. The connection keeps its place until its transport is closed.
    pub(in crate::client) async fn connect(
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

    pub(in crate::client) fn timed_out(&self, origin: &Origin) -> ConnectorError {
        let (name, port, timeout) = (origin.name(), origin.port, self.timeout);
        let through = origin.tunnel().map_or_else(String::new, |proxy| {
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
        let Dialed { io, protocol } = match origin.tunnel() {
            Some(proxy) => self.through(proxy, origin).await?,
            None => self.reach.reach(origin).await?,
        };
        match (protocol, name) {
            (Some(protocol), _) => Ok((io, protocol)),
            (None, Some(name)) => self.secured(io, name, origin.is_proxy()).await,
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
                let mut tls = (*self.proxy_tls).clone();
                tls.alpn_protocols = vec![Protocol::Http1.alpn().to_vec()];
                let name = server_name(&proxy.origin)?;
                let secured = TlsConnector::from(Arc::new(tls)).connect(name, io).await;
                io = Box::new(secured.map_err(|error| refused(error, true))?);
            }
            None => {}
        }
        proxy.tunnel(io, origin).await
    }

    /// Makes the TLS handshake. Returns the protocol that the server or the proxy has chosen.
    async fn secured(
        &self,
        io: Box<dyn Transport>,
        name: ServerName<'static>,
        is_proxy: bool,
    ) -> Result<Opened, ConnectorError> {
        let tls = if is_proxy { &self.proxy_tls } else { &self.tls };
        let io = TlsConnector::from(Arc::clone(tls))
            .connect(name, io)
            .await
            .map_err(|error| refused(error, is_proxy))?;
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
    match upgrade::connect_at_once(transport, upgrade::request(&origin.uri())).await {
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

/// Distinguishes a server that supports no offered protocol from a server that cannot be reached,
/// and both from a proxy.
fn refused(error: io::Error, is_proxy: bool) -> ConnectorError {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        _ if is_proxy => ConnectorError::ProxyTls(Arc::new(error)),
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            ConnectorError::Protocol
        }
        _ => error.into(),
    }
}

/// A duration that hyper can add to the present time. It does not check for overflow.
fn countable(time: Duration) -> Duration {
    time.min(FAR_OFF)
}

/// Ten years.
const FAR_OFF: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
