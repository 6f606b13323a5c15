//! What a handler can learn about the connection of a request.

use std::net::SocketAddr;

#[cfg(doc)]
use axum::extract::ConnectInfo;

#[cfg(feature = "rustls")]
use crate::tls::PeerCertificates;
use crate::{negotiate::Protocol, secured::TlsInfo};

/// The connection of a request, in the extensions of every request.
///
/// If the address of the client is known, the extensions also contain axum's [`ConnectInfo`]. If
/// the client has presented a certificate, they contain `PeerCertificates`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The protocol that carries the request.
    pub protocol: Protocol,
    /// The address of the client: of the other end, or what the PROXY protocol says. `None` at a
    /// Unix socket.
    pub peer: Option<SocketAddr>,
    /// What the TLS handshake has agreed on; `None` in plain text.
    pub tls: Option<TlsInfo>,
}

/// What every request of a connection carries.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) info: ConnectionInfo,
    #[cfg(feature = "rustls")]
    pub(crate) certificates: Option<PeerCertificates>,
}

impl From<ConnectionInfo> for Client {
    fn from(info: ConnectionInfo) -> Self {
        Self {
            info,
            #[cfg(feature = "rustls")]
            certificates: None,
        }
    }
}

#[cfg(feature = "rustls")]
impl Client {
    /// Returns what a completed handshake says of the client.
    pub(crate) fn of_tls(
        connection: &rustls::server::ServerConnection,
        peer: Option<SocketAddr>,
    ) -> Self {
        Self {
            info: ConnectionInfo {
                protocol: crate::tls::selected(connection),
                peer,
                tls: Some(TlsInfo::new(connection)),
            },
            certificates: PeerCertificates::new(connection),
        }
    }
}
