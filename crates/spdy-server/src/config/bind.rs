//! The addresses that a server listens on.

use std::{
    error::Error,
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

/// The address of a socket: a TCP address or the path of a Unix socket. Written as
/// `127.0.0.1:8443`, `[::1]:8443` or `unix:/run/spdy.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a TCP port. An IPv6 address is for IPv6 alone: for both, listen on
    /// `0.0.0.0` and on `[::]`.
    Tcp(SocketAddr),
    /// The path of a Unix socket. Only available on systems that have Unix sockets.
    Unix(PathBuf),
}

impl Address {
    /// Returns the TCP address, if it is one.
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

/// The error for a text that is not a valid [`Address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressError;

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "invalid address: use IP:PORT, such as 127.0.0.1:8443 or [::1]:8443, or unix:/PATH",
        )
    }
}

impl Error for AddressError {}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The address. With port 0 the system chooses a free port.
    pub address: Address,
    /// The transport of the connections.
    pub transport: Transport,
    /// Whether the server fails to start if the machine does not have this address. Otherwise such
    /// an address is left out. Every other error is returned in both cases.
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

    /// Returns TLS listeners on port 8443 of 127.0.0.1 and, if the machine has it, of ::1.
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

/// The owner and the mode of the files of Unix sockets that a server opens. Users who may write
/// to the file of a socket may connect to it. `None` leaves what the system has chosen: the user
/// and the group of the process, and its umask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketFiles {
    /// The mode, such as `0o660`.
    pub mode: Option<u32>,
    /// The id of the user.
    pub user: Option<u32>,
    /// The id of the group.
    pub group: Option<u32>,
}

/// The transport of the connections of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TLS 1.2 or 1.3. ALPN selects the protocol.
    Tls,
    /// Plain text. The first bytes of the client identify the protocol.
    Plain,
}

/// A socket that the server listens on. Displays as its URL, or as `unix:/PATH` for a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address, with the port that the system chose for port 0.
    pub address: Address,
    /// The transport of the connections.
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

/// The port of HTTPS for servers without the permission to open 443.
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
