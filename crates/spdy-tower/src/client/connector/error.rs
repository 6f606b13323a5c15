//! The errors of connecting.

use std::{error::Error as StdError, fmt, io, sync::Arc};

use http::StatusCode;

use super::super::InvalidTarget;
#[cfg(doc)]
use super::{super::Proxy, Connector};

/// Why there is no connection to an origin. Nothing of the request was sent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectorError {
    /// The URI of the request does not name an origin.
    Target(InvalidTarget),
    /// The host cannot be found or does not answer, TLS or the upgrade failed, or connecting took
    /// longer than [`Connector::timeout`].
    Transport(Arc<io::Error>),
    /// The server supports no protocol that was [offered](Connector::offer).
    Protocol,
    /// The connection does not speak HTTP.
    Http(Arc<hyper::Error>),
    /// The [proxy](Connector::proxies) opened no tunnel. Contains the status of its response, which
    /// is 407 if it wants [authorization](Proxy::authorization).
    Proxy(StatusCode),
    /// TLS with the [proxy](Connector::proxies) failed, for which [`Connector::proxy_tls`] is the
    /// configuration.
    ProxyTls(Arc<io::Error>),
    /// All connections that the origin may have were in use for as long as [`Connector::timeout`].
    /// Contains their number.
    Connections(usize),
    /// Too many requests already wait for a connection to the origin: see
    /// [`Connector::max_waiting`]. Contains their number.
    Waiting(usize),
}

impl ConnectorError {
    /// Returns whether the request failed while connecting, which is the case for all errors but
    /// [`Target`](Self::Target).
    #[must_use]
    pub const fn is_connect(&self) -> bool {
        !matches!(self, Self::Target(_))
    }

    /// Returns whether [`Connector::timeout`] or a timeout of the transport ran out.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Transport(error) | Self::ProxyTls(error) => {
                error.kind() == io::ErrorKind::TimedOut
            }
            Self::Http(error) => error.is_timeout(),
            Self::Connections(_) => true,
            Self::Target(_) | Self::Protocol | Self::Proxy(_) | Self::Waiting(_) => false,
        }
    }

    /// Returns whether the server has certainly not acted on the request. This is always so,
    /// because nothing was sent. With an invalid [`Target`](Self::Target) the request fails again
    /// unless it is changed.
    #[must_use]
    pub const fn is_retry_safe(&self) -> bool {
        true
    }

    /// Returns whether the server refused, because it supports none of the offered protocols, or
    /// the proxy.
    #[must_use]
    pub const fn is_remote(&self) -> bool {
        matches!(self, Self::Protocol | Self::Proxy(_))
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
            Self::Proxy(status) => write!(f, "proxy refused the tunnel: {status}"),
            Self::ProxyTls(_) => f.write_str("TLS with the proxy failed"),
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
            Self::Transport(error) | Self::ProxyTls(error) => Some(&**error),
            Self::Http(error) => Some(&**error),
            Self::Target(_)
            | Self::Protocol
            | Self::Proxy(_)
            | Self::Connections(_)
            | Self::Waiting(_) => None,
        }
    }
}
