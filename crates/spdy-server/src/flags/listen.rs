//! The addresses of `--listen` and `--plain`, which can be host names or a port alone.

use std::{
    error::Error,
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    str::FromStr,
};

use spdy_server::{Address, AddressError, Bind, Transport};

/// The addresses that one flag names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    addresses: Vec<Address>,
    /// Whether the machine must have all of them.
    required: bool,
}

impl Listen {
    /// Returns what to listen on.
    pub(super) fn binds(self, transport: Transport) -> impl Iterator<Item = Bind> {
        let required = self.required;
        self.addresses.into_iter().map(move |address| Bind {
            address,
            transport,
            required,
        })
    }

    /// Returns the one address for `--metrics`: the first that the flag names.
    pub(super) fn first(self) -> Address {
        self.addresses
            .into_iter()
            .next()
            .expect("a flag names an address")
    }

    /// Returns whether the machine has none of the addresses.
    pub(crate) fn is_lost(&self, left_out: &[Address]) -> bool {
        self.addresses.iter().all(|it| left_out.contains(it))
    }

    /// Returns what to say if [`is_lost`](Self::is_lost).
    pub(crate) fn no_address(&self) -> String {
        let all: Vec<_> = self.addresses.iter().map(Address::to_string).collect();
        format!(
            "cannot listen on {}: this machine has none of these addresses",
            all.join(" or ")
        )
    }

    fn one(address: Address) -> Self {
        Self {
            addresses: vec![address],
            required: true,
        }
    }

    /// Returns addresses of which the machine might lack some, such as those of IPv6.
    fn several(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let addresses: Vec<_> = addresses.into_iter().map(Address::from).collect();
        Self {
            required: addresses.len() == 1,
            addresses,
        }
    }
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let error = match text.parse() {
            Ok(address) => return Ok(Self::one(address)),
            Err(error) => error,
        };
        let (host, port) = text.rsplit_once(':').ok_or(error)?;
        let port: u16 = port.parse().map_err(|_| error)?;
        if host.is_empty() {
            // Prefer the one that every machine has.
            return Ok(Self::several([
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            ]));
        }
        if host.contains([':', '/', '[', ']']) {
            return Err(error.into());
        }
        let found = (host, port).to_socket_addrs();
        let found: Vec<_> = found.map_err(ListenError::Host)?.collect();
        match found.is_empty() {
            true => Err(ListenError::Host(io::ErrorKind::NotFound.into())),
            false => Ok(Self::several(found)),
        }
    }
}

/// The reason why a text names no address to listen on.
#[derive(Debug)]
pub(crate) enum ListenError {
    Form(AddressError),
    Host(io::Error),
}

impl From<AddressError> for ListenError {
    fn from(error: AddressError) -> Self {
        Self::Form(error)
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(_) => f.write_str(
                "invalid address: use IP:PORT, HOST:PORT, :PORT for all addresses, or unix:/PATH",
            ),
            Self::Host(error) => write!(f, "cannot find the address of the host: {error}"),
        }
    }
}

impl Error for ListenError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<(String, bool)> {
        let binds = text.parse::<Listen>().unwrap().binds(Transport::Plain);
        binds
            .map(|bind| (bind.address.to_string(), bind.required))
            .collect()
    }

    #[test]
    fn a_name_is_lost_if_the_machine_has_none_of_its_addresses() {
        let [a, b, c] = [1, 2, 3].map(|host| SocketAddr::from(([192, 0, 2, host], 443)));
        let listen = Listen::several([a, b]);
        let lost = |left_out: &[SocketAddr]| {
            let left_out: Vec<_> = left_out.iter().copied().map(Address::from).collect();
            listen.is_lost(&left_out)
        };
        assert!(lost(&[c, b, a]));
        assert!(!lost(&[c, b]) && !lost(&[]));
        assert!(
            listen
                .no_address()
                .contains("192.0.2.1:443 or 192.0.2.2:443")
        );
    }

    #[test]
    fn a_port_alone_is_for_all_addresses_and_a_name_for_those_of_its_host() {
        for text in ["127.0.0.1:1", "[::1]:2", "unix:/a"] {
            assert_eq!(shown(text), [(text.to_owned(), true)]);
        }
        let all = [("0.0.0.0:8443".into(), false), ("[::]:8443".into(), false)];
        assert_eq!(shown(":8443"), all);
        let found = shown("localhost:7");
        let is_loopback = |it: &String| it == "127.0.0.1:7" || it == "[::1]:7";
        assert!(
            !found.is_empty() && found.iter().all(|(it, _)| is_loopback(it)),
            "{found:?}"
        );
        for text in [
            "", "8443", ":", ":x", ":65536", "a", "::1:80", "unix:", "/a:1", "[a]:1",
        ] {
            let error = text.parse::<Listen>().unwrap_err();
            assert!(matches!(error, ListenError::Form(_)), "{text}: {error}");
        }
        let error = "no\0host:1".parse::<Listen>().unwrap_err();
        assert!(matches!(error, ListenError::Host(_)), "{error}");
    }
}
