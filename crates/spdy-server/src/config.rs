//! What a server needs to know before it starts.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use crate::negotiate::PlainVersion;

/// The configuration of a [`Server`](crate::Server).
///
/// Its default listens for TLS on port 8443 of both loopback addresses, with a self-signed certificate.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen. Several sockets of both kinds may stand side by side.
    pub binds: Vec<Bind>,
    /// What TLS listeners show to clients. Read only when there is one.
    pub certificate: Certificate,
    /// What version field 3 of SPDY stands for on plaintext listeners.
    pub plain_version: PlainVersion,
    /// How many connections may be open at once, over all listeners. More of them wait in the system's queue.
    pub max_connections: usize,
    /// How long peers may take.
    pub timeouts: Timeouts,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            binds: Bind::localhost(),
            certificate: Certificate::SelfSigned,
            plain_version: PlainVersion::default(),
            max_connections: DEFAULT_MAX_CONNECTIONS,
            timeouts: Timeouts::default(),
        }
    }
}

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The address; with port 0 the system chooses a free port.
    pub address: SocketAddr,
    /// What the connections carry.
    pub transport: Transport,
    /// Whether the server refuses to start without it. Otherwise an address that the machine does not have is left
    /// out; every other failure is an error all the same.
    pub required: bool,
}

impl Bind {
    /// Listens for TLS connections on `address`.
    #[must_use]
    pub const fn tls(address: SocketAddr) -> Self {
        Self {
            address,
            transport: Transport::Tls,
            required: true,
        }
    }

    /// Listens for plaintext connections on `address`.
    #[must_use]
    pub const fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            transport: Transport::Plain,
            required: true,
        }
    }

    /// TLS on port 8443 of 127.0.0.1 and, where the machine has it, of ::1.
    #[must_use]
    pub fn localhost() -> Vec<Self> {
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, DEFAULT_PORT));
        vec![
            Self::tls(SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT))),
            Self {
                required: false,
                ..Self::tls(v6)
            },
        ]
    }
}

/// What the connections of a listener carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TLS 1.2 or 1.3; the protocol is chosen by ALPN.
    Tls,
    /// Plain text; the protocol is told by the first octets.
    Plain,
}

/// Where a certificate and its key come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Certificate {
    /// Made at start for `localhost`, `127.0.0.1` and `::1`, and gone with the process.
    #[default]
    SelfSigned,
    /// Read from PEM files at start.
    Files {
        /// The certificate, followed by its intermediates if any.
        chain: PathBuf,
        /// The private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
        key: PathBuf,
    },
}

/// How long peers may take. A server without such limits is held by whoever connects and says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the accepted connection to the end of the TLS handshake, or to the first octets in plain text.
    pub handshake: Duration,
    /// How long an HTTP/1 or HTTP/2 connection may rest without an octet in either direction. It ends after one to
    /// two times this. (SPDY sessions have timeouts of their own.)
    pub idle: Duration,
    /// From the request to end to the moment when connections that still work are cut.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(180),
            drain: Duration::from_secs(30),
        }
    }
}

/// A socket the server listens on. Displayed as the URL under which it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address, with the port that the system chose if it was left to it.
    pub address: SocketAddr,
    /// What the connections carry.
    pub transport: Transport,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.transport {
            Transport::Tls => "https",
            Transport::Plain => "http",
        };
        write!(f, "{scheme}://{}/", self.address)
    }
}

/// The port of HTTPS for servers that may not open 443.
const DEFAULT_PORT: u16 = 8443;

/// Far more than the file descriptors most systems allow, and few enough that idle sessions stay below 1 GiB.
const DEFAULT_MAX_CONNECTIONS: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_shown_as_urls() {
        let tls = Endpoint {
            address: "127.0.0.1:8443".parse().unwrap(),
            transport: Transport::Tls,
        };
        let plain = Endpoint {
            address: "[::1]:80".parse().unwrap(),
            transport: Transport::Plain,
        };
        assert_eq!(tls.to_string(), "https://127.0.0.1:8443/");
        assert_eq!(plain.to_string(), "http://[::1]:80/");
    }

    #[test]
    fn only_the_second_of_the_two_loopback_addresses_may_be_missing() {
        let shown: Vec<_> = Bind::localhost()
            .iter()
            .map(|bind| (bind.address.to_string(), bind.transport, bind.required))
            .collect();
        assert_eq!(
            shown,
            [
                ("127.0.0.1:8443".into(), Transport::Tls, true),
                ("[::1]:8443".into(), Transport::Tls, false)
            ]
        );
    }
}
