//! What a handler can learn about the connection of a request.

use std::{net::SocketAddr, sync::Arc};

#[cfg(doc)]
use axum::extract::ConnectInfo;

#[cfg(feature = "rustls")]
use crate::tls::PeerCertificates;
use crate::{
    negotiate::Protocol,
    proxy_protocol::{ProxyInfo, Said},
    secured::TlsInfo,
};

/// The connection of a request, in the extensions of every request.
///
/// If the address of the client is known, the extensions also contain axum's [`ConnectInfo`]. If
/// the client has presented a certificate, they contain `PeerCertificates`. Behind a proxy that
/// describes its clients they contain `Arc<`[`ProxyInfo`]`>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The protocol that carries the request.
    pub protocol: Protocol,
    /// The address of the client: of the other end, or what the PROXY protocol says. `None` at a
    /// Unix socket.
    pub peer: Option<SocketAddr>,
    /// What the TLS handshake has agreed on; `None` in plain text.
    pub tls: Option<TlsInfo>,
    /// Whether a proxy has ended the TLS of the client, as a header of the PROXY protocol says.
    /// [`ProxyInfo`] has more about it.
    pub is_tls_of_proxy: bool,
}

impl ConnectionInfo {
    /// Returns whether the client uses TLS, up to this server or up to the proxy in front of it.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.tls.is_some() || self.is_tls_of_proxy
    }
}

/// What every request of a connection carries.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) info: ConnectionInfo,
    #[cfg(feature = "rustls")]
    pub(crate) certificates: Option<PeerCertificates>,
    pub(crate) proxy: Option<Arc<ProxyInfo>>,
}

impl From<ConnectionInfo> for Client {
    fn from(info: ConnectionInfo) -> Self {
        Self {
            info,
            #[cfg(feature = "rustls")]
            certificates: None,
            proxy: None,
        }
    }
}

impl Client {
    /// Adds what the header of the PROXY protocol says.
    pub(crate) fn said(mut self, said: Said) -> Self {
        self.info.peer = said.peer;
        self.info.is_tls_of_proxy = said.is_tls();
        self.proxy = said.info;
        self
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
                is_tls_of_proxy: false,
            },
            certificates: PeerCertificates::new(connection),
            proxy: None,
        }
    }
}
