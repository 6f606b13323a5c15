//! What a handler can learn about the connection of a request.

use std::net::SocketAddr;

#[cfg(doc)]
use axum::extract::ConnectInfo;

use crate::{negotiate::Protocol, secured::TlsInfo};

/// The connection of a request, in the extensions of every request.
///
/// If the address of the client is known, the extensions also contain axum's [`ConnectInfo`].
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
