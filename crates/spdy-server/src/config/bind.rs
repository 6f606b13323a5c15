//! Where a server listens.

use std::{
    error::Error,
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

/// The address of a socket: of TCP, or a file in the file system. Written as `127.0.0.1:8443`, `[::1]:8443` or
/// `unix:/run/spdy.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port of TCP.
    Tcp(SocketAddr),
    /// The path of a Unix socket. Only there where the operating system has them.
    Unix(PathBuf),
}

impl Address {
    /// The address of TCP, if it is one.
    #[must_use]
    pub const fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.strip_prefix("unix:") {
            Some("") => Err(AddressError),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| AddressError),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The text is no [`Address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressError;

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address is an IP address with a port, such as 127.0.0.1:8443 or [::1]:8443, or unix:/PATH")
    }
}

impl Error for AddressError {}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The address; with port 0 the system chooses a free port.
    pub address: Address,
    /// What the connections carry.
    pub transport: Transport,
    /// Whether the server refuses to start without it. Otherwise an address that the machine does not have is left
    /// out; every other failure is an error all the same.
    pub required: bool,
}

impl Bind {
    /// Listens for TLS connections on `address`.
    #[must_use]
    pub fn tls(address: impl Into<Address>) -> Self {
        Self {
            address: address.into(),
            transport: Transport::Tls,
            required: true,
        }
    }

    /// Listens for plaintext connections on `address`.
    #[must_use]
    pub fn plain(address: impl Into<Address>) -> Self {
        Self {
            address: address.into(),
            transport: Transport::Plain,
            required: true,
        }
    }

    /// TLS on port 8443 of 127.0.0.1 and, where the machine has it, of ::1.
    #[must_use]
    pub fn localhost() -> Vec<Self> {
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT));
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, DEFAULT_PORT));
        vec![
            Self::tls(v4),
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

/// A socket the server listens on. Displayed as the URL under which it is reached; a Unix socket as `unix:/PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address, with the port that the system chose if it was left to it.
    pub address: Address,
    /// What the connections carry.
    pub transport: Transport,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.address, self.transport) {
            (Address::Tcp(address), Transport::Tls) => write!(f, "https://{address}/"),
            (Address::Tcp(address), Transport::Plain) => write!(f, "http://{address}/"),
            (unix, _) => unix.fmt(f),
        }
    }
}

/// The port of HTTPS for servers that may not open 443.
const DEFAULT_PORT: u16 = 8443;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in ["127.0.0.1:8443", "[::1]:80", "unix:/run/spdy.sock"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(address.tcp().is_none(), text.starts_with("unix"));
        }
        for text in ["", "unix:", "localhost:80", "127.0.0.1", "/run/spdy.sock"] {
            assert_eq!(text.parse::<Address>(), Err(AddressError), "{text}");
        }
    }

    #[test]
    fn endpoints_are_shown_as_urls() {
        let endpoint = |address: &str, transport| {
            let address = address.parse().unwrap();
            Endpoint { address, transport }.to_string()
        };
        assert_eq!(
            endpoint("127.0.0.1:8443", Transport::Tls),
            "https://127.0.0.1:8443/"
        );
        assert_eq!(endpoint("[::1]:80", Transport::Plain), "http://[::1]:80/");
        assert_eq!(endpoint("unix:/a", Transport::Plain), "unix:/a");
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
