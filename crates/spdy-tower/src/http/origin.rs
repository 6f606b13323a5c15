//! The origin of requests and pushes.

use http::uri::{Authority, Scheme};

/// A scheme, and a host with its port unless that is the default port.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    pub(crate) host: Authority,
}

impl Origin {
    /// Returns whether both are the same origin: scheme, host and port.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.scheme == other.scheme
            && self.host.host().eq_ignore_ascii_case(other.host.host())
            && self.port() == other.port()
    }

    fn port(&self) -> Option<u16> {
        self.host.port_u16().or(match self.scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        })
    }
}
