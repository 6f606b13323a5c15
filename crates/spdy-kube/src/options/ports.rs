//! The ports of a port-forward over WebSocket without SPDY.

use std::{fmt, ops::Deref};

use super::pairs;

/// The ports in the query of a request for port-forward over WebSocket: `ports` at an API server,
/// `port` at a kubelet.
///
/// If a client uses SPDY, directly or tunnelled through WebSocket, its streams name the ports, and
/// its query does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports(Vec<u16>);

impl Ports {
    /// The largest number of ports of a connection. Each has two channels, and the text form has
    /// characters for at most 80 channels.
    pub const MAX: usize = 32;

    /// Creates a list from ports that were agreed on elsewhere.
    ///
    /// # Errors
    ///
    /// [`InvalidPorts`] if there are none or too many, or one is 0.
    pub fn new(ports: impl IntoIterator<Item = u16>) -> Result<Self, InvalidPorts> {
        let mut taken = Vec::new();
        for port in ports {
            if port == 0 {
                return Err(InvalidPorts::NotAPort(port.to_string()));
            }
            if taken.len() == Self::MAX {
                return Err(InvalidPorts::TooMany);
            }
            taken.push(port);
        }
        match taken.is_empty() {
            true => Err(InvalidPorts::Missing),
            false => Ok(Self(taken)),
        }
    }

    /// Parses a query with form-encoded values, as
    /// [`Options::from_query`](super::Options::from_query) does. A parameter may be repeated, and a
    /// value may be a list with commas.
    ///
    /// # Errors
    ///
    /// [`InvalidPorts`]. Answer with 400.
    pub fn from_query(query: &str) -> Result<Self, InvalidPorts> {
        let mut ports = Vec::new();
        for (name, value) in pairs(query) {
            if name != "ports" && name != "port" {
                continue;
            }
            for text in value.split(',') {
                if ports.len() == Self::MAX {
                    return Err(InvalidPorts::TooMany);
                }
                let port = parse_port(text);
                ports.push(port.ok_or_else(|| InvalidPorts::NotAPort(text.to_owned()))?);
            }
        }
        Self::new(ports)
    }

    /// Returns the query that asks an API server for these ports.
    #[must_use]
    pub fn to_query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for port in &self.0 {
            query.append_pair("ports", &port.to_string());
        }
        query.finish()
    }
}

impl Deref for Ports {
    type Target = [u16];

    fn deref(&self) -> &[u16] {
        &self.0
    }
}

/// Parses a port as Go does: digits, from 1 to 65535.
pub(crate) fn parse_port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| *port > 0);
    port.filter(|_| is_number)
}

/// Why the ports of a request cannot be forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidPorts {
    /// The query names no port.
    Missing,
    /// A value is not a number from 1 to 65535.
    NotAPort(String),
    /// There are more than [`Ports::MAX`].
    TooMany,
}

impl fmt::Display for InvalidPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("query parameter \"ports\" is required"),
            Self::NotAPort(text) => write!(f, "unable to parse {text:?} as a port"),
            Self::TooMany => write!(f, "more than {} ports", Ports::MAX),
        }
    }
}

impl std::error::Error for InvalidPorts {}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Vec<u16>, InvalidPorts> {
        Ports::from_query(query).map(|ports| ports.0)
    }

    #[test]
    fn ports_are_read_in_every_form() {
        assert_eq!(read("ports=8080"), Ok(vec![8080]));
        assert_eq!(read("ports=8080&ports=9090"), Ok(vec![8080, 9090]));
        assert_eq!(read("ports=8080,9090&x=1"), Ok(vec![8080, 9090]));
        assert_eq!(read("port=80%2C81&port=80"), Ok(vec![80, 81, 80]));
        assert_eq!(read("ports=1;x&ports=65535"), Ok(vec![65535]));
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for missing in ["", "port", "x=80", "ports=80;"] {
            let expected = match missing {
                "port" => InvalidPorts::NotAPort(String::new()),
                _ => InvalidPorts::Missing,
            };
            assert_eq!(read(missing), Err(expected), "{missing}");
        }
        for wrong in [
            "0", "65536", "-1", "+80", "%2B80", "http", "", "80,", "80%20", "8e1",
        ] {
            let refused = read(&format!("ports=1&ports={wrong}"));
            assert!(matches!(refused, Err(InvalidPorts::NotAPort(_))), "{wrong}");
        }
        assert_eq!(Ports::new([]), Err(InvalidPorts::Missing));
        assert_eq!(
            Ports::new([80, 0]),
            Err(InvalidPorts::NotAPort("0".to_owned()))
        );
    }

    #[test]
    fn there_are_at_most_32_ports() {
        let list = |count: usize| vec!["80"; count].join(",");
        let most = format!("ports={}", list(Ports::MAX));
        assert_eq!(read(&most).map(|ports| ports.len()), Ok(Ports::MAX));
        assert_eq!(read(&format!("{most},80")), Err(InvalidPorts::TooMany));
        assert_eq!(read(&format!("{most}&port=x")), Err(InvalidPorts::TooMany));
        assert_eq!(Ports::new([80; Ports::MAX + 1]), Err(InvalidPorts::TooMany));
    }

    #[test]
    fn a_query_that_is_written_is_read_again() {
        let ports = Ports::new([1, 80, 65535]).unwrap();
        assert_eq!(Ports::from_query(&ports.to_query()), Ok(ports));
    }
}
