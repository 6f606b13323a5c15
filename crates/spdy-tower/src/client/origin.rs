//! The target of a request: scheme, host and port.

use std::{fmt, sync::Arc};

use http::{
    HeaderValue, Method, Uri,
    uri::{Authority, Scheme},
};

use super::{ConnectorError, Proxy};

/// The target of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    scheme: Scheme,
    host: String,
    pub(super) port: u16,
    way: Way,
}

/// What is at the other end of the connections to an origin. Those of one kind are never used as
/// those of another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Way {
    /// The origin itself.
    Direct,
    /// The origin itself, through a tunnel of this proxy.
    Tunnel(Arc<Proxy>),
    /// A proxy.
    Proxy,
}

impl Origin {
    /// Returns the origin of a request. CONNECT to a host and a port goes to that host, with TLS if
    /// the port is 443.
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
            return Err(ConnectorError::Target(InvalidTarget::NotAbsolute));
        };
        Self::new(scheme, authority)
    }

    /// Returns the origin of a proxy.
    pub(super) fn of_proxy(uri: &Uri) -> Result<Self, ConnectorError> {
        let way = Way::Proxy;
        Self::of(uri).map(|origin| Self { way, ..origin })
    }

    fn new(scheme: &Scheme, authority: &Authority) -> Result<Self, ConnectorError> {
        without_user(authority)?;
        let usual = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return Err(ConnectorError::Target(InvalidTarget::Scheme)),
        };
        Ok(Self {
            scheme: scheme.clone(),
            host: authority.host().to_ascii_lowercase(),
            port: port(authority, usual)?,
            way: Way::Direct,
        })
    }

    /// Makes it an origin behind a tunnel.
    pub(super) fn behind(mut self, proxy: Proxy) -> Self {
        self.way = Way::Tunnel(Arc::new(proxy));
        self
    }

    /// Returns whether it is that of a proxy.
    pub(super) fn is_proxy(&self) -> bool {
        self.way == Way::Proxy
    }

    /// Returns the proxy whose tunnel leads to it.
    pub(super) fn tunnel(&self) -> Option<&Proxy> {
        match &self.way {
            Way::Tunnel(proxy) => Some(proxy),
            Way::Direct | Way::Proxy => None,
        }
    }

    /// Returns whether a `host` field names the same host and port as this origin.
    pub(super) fn has_name(&self, host: &HeaderValue) -> bool {
        let authority = Authority::try_from(host.as_bytes()).ok();
        let named = authority.and_then(|it| Self::new(&self.scheme, &it).ok());
        named.is_some_and(|it| it.host == self.host && it.port == self.port)
    }

    pub(super) fn is_tls(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// Returns the host without the brackets of an IPv6 address.
    pub(super) fn name(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Returns the host and the port, also if it is the usual one.
    pub(super) fn authority(&self) -> Authority {
        let authority = Authority::try_from(format!("{}:{}", self.host, self.port));
        authority.expect("host and port are taken from an authority")
    }

    pub(super) fn uri(&self) -> Uri {
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority());
        uri.path_and_query("/")
            .build()
            .expect("all parts are there")
    }
}

/// Rejects a user name and a password. HTTP/1.1 and HTTP/2 would send them with the host.
pub(super) fn without_user(authority: &Authority) -> Result<(), ConnectorError> {
    if authority.as_str().contains('@') {
        return Err(ConnectorError::Target(InvalidTarget::UserInfo));
    }
    Ok(())
}

/// Returns the port of an authority without a user. The `http` crate takes a port that is not a
/// number of 16 bits for none.
fn port(authority: &Authority, usual: u16) -> Result<u16, ConnectorError> {
    let behind_host = authority.as_str().strip_prefix(authority.host());
    match behind_host.and_then(|port| port.strip_prefix(':')) {
        None | Some("") => Ok(usual),
        Some(_) => authority
            .port_u16()
            .ok_or(ConnectorError::Target(InvalidTarget::Port)),
    }
}

/// Why a URI does not name an origin that a client can connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvalidTarget {
    /// The text is not a URI.
    Uri,
    /// The URI has no scheme or no host.
    NotAbsolute,
    /// The scheme is neither `http` nor `https`.
    Scheme,
    /// The URI has a user name or a password. These belong in `authorization`, or for a proxy in
    /// `proxy-authorization`.
    UserInfo,
    /// The port is not a number below 65,536.
    Port,
    /// The host is neither a DNS name nor an IP address, which TLS requires.
    ServerName,
    /// The text that names a proxy is not the URL of one that speaks HTTP. It may be SOCKS.
    Proxy,
}

impl fmt::Display for InvalidTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uri => "invalid request URI",
            Self::NotAbsolute => "request URI is not absolute",
            Self::Scheme => "unsupported scheme in request URI",
            Self::UserInfo => "request URI contains user information",
            Self::Port => "invalid port in request URI",
            Self::ServerName => "the server name is not a valid DNS name",
            Self::Proxy => "the proxy is no http:// or https:// URL",
        })
    }
}

impl std::error::Error for InvalidTarget {}
