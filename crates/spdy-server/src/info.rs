//! What a request's connection is like.

use std::net::SocketAddr;

#[cfg(doc)]
use axum::extract::ConnectInfo;

use crate::{negotiate::Protocol, secured::TlsInfo};

/// What a request's connection is like. The application finds it in the extensions of every request.
///
/// Beside it is axum's [`ConnectInfo`] with the address of the client, as long as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The protocol that carries the request.
    pub protocol: Protocol,
    /// The address of the client: of the other end, or what the PROXY protocol says. `None` at a Unix socket.
    pub peer: Option<SocketAddr>,
    /// What the TLS handshake has agreed on; `None` in plain text.
    pub tls: Option<TlsInfo>,
}
