//! Connections of HTTP/2 by the crate h2 itself, for `spdy load`: the layers of a client would be
//! most of its work.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{
    Ping, PingPong,
    client::{Builder, SendRequest},
};
use rustls::{AlertDescription, ClientConfig, Error, pki_types::ServerName};
use spdy_tower::{
    Protocol,
    client::{ConnectorError, Dial, Transport},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

use crate::{counted::Tcp, origin::Origin};

/// Opens a connection within the time that is given, and spawns the task that drives it. The
/// connection ends when all handles are dropped, or when the server no longer answers PINGs.
pub(crate) async fn open(
    tcp: &Tcp,
    tls: &Arc<ClientConfig>,
    origin: &Origin,
    limit: Duration,
) -> Result<SendRequest<Bytes>, ConnectorError> {
    let connecting = async {
        let io = tcp.dial(origin.name(), origin.port).await?;
        if origin.is_tls {
            handshake(secured(io, tls, origin).await?).await
        } else {
            handshake(io).await
        }
    };
    match timeout(limit, connecting).await {
        Ok(opened) => opened,
        Err(_) => {
            let (name, port) = (origin.name(), origin.port);
            let reason = format!("no connection to {name} port {port} within {limit:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, reason).into())
        }
    }
}

/// Makes a TLS connection on which the server has chosen HTTP/2.
async fn secured(
    io: Box<dyn Transport>,
    tls: &Arc<ClientConfig>,
    origin: &Origin,
) -> Result<impl Transport + 'static, ConnectorError> {
    let token = Protocol::Http2.token().as_bytes();
    let mut config = ClientConfig::clone(tls);
    config.alpn_protocols = vec![token.to_vec()];
    let name = ServerName::try_from(origin.name().to_owned()).map_err(io::Error::other)?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, io).await;
    let io = connected.map_err(refused)?;
    match io.get_ref().1.alpn_protocol() {
        Some(chosen) if chosen == token => Ok(io),
        _ => Err(ConnectorError::Protocol),
    }
}

/// Distinguishes a server without HTTP/2 from a server that cannot be reached.
fn refused(error: io::Error) -> ConnectorError {
    match error.get_ref().and_then(|cause| cause.downcast_ref()) {
        Some(Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            ConnectorError::Protocol
        }
        _ => error.into(),
    }
}

async fn handshake<IO>(io: IO) -> Result<SendRequest<Bytes>, ConnectorError>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (requests, mut driver) = Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(io)
        .await
        .map_err(io::Error::other)?;
    let pings = driver.ping_pong();
    tokio::spawn(async move {
        tokio::select! {
            // How a connection ends is reported to its requests.
            _ = driver => {}
            () = until_silent(pings) => {}
        }
    });
    Ok(requests)
}

/// Waits until the server leaves a PING without an answer.
async fn until_silent(pings: Option<PingPong>) {
    let mut pings = pings.expect("it is taken once");
    loop {
        sleep(INTERVAL).await;
        match timeout(PATIENCE, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // Then the driver ends too.
            Ok(Err(_)) => std::future::pending().await,
            Err(_) => return,
        }
    }
}

/// The windows that hyper announces, in bytes. `spdy load` announces the same over SPDY, so that
/// a server is measured under the same conditions over both.
pub(crate) const STREAM_WINDOW: u32 = 2 << 20;
pub(crate) const CONNECTION_WINDOW: u32 = 5 << 20;
/// The time between two PINGs, and the time that the server has for an answer.
const INTERVAL: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(20);
