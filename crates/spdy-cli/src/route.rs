//! Other addresses for hosts: `--resolve` and `--connect-to`.

/// Where the connections to an origin go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The host and the port of the origin. `None` means any.
    from: (Option<String>, Option<u16>),
    /// The host and the port to connect to. `None` means that of the origin.
    to: (Option<String>, Option<u16>),
}

impl Route {
    /// Parses HOST:PORT:ADDRESS.
    pub(crate) fn resolve(text: &str) -> Result<Self, &'static str> {
        let message = "must have the form HOST:PORT:ADDRESS, for example a.test:443:127.0.0.1";
        let parse = || {
            let (host, rest) = host(text)?;
            let (number, address) = rest.split_once(':')?;
            let bare = address
                .strip_prefix('[')
                .and_then(|it| it.strip_suffix(']'));
            let address = bare.unwrap_or(address);
            let address: std::net::IpAddr = address.parse().ok()?;
            Some(Self {
                from: (host.filter(|host| host != "*"), port(number)?),
                to: (Some(address.to_string()), None),
            })
        };
        parse().ok_or(message)
    }

    /// Parses HOST:PORT:HOST:PORT, in which each part can be empty.
    pub(crate) fn connect_to(text: &str) -> Result<Self, &'static str> {
        let message = "must have the form HOST:PORT:HOST:PORT, for example a.test:443:b.test:8443";
        let parse = || {
            let (from, rest) = host(text)?;
            let (number, rest) = rest.split_once(':')?;
            let (to, rest) = host(rest)?;
            Some(Self {
                from: (from, port(number)?),
                to: (to, port(rest)?),
            })
        };
        parse().ok_or(message)
    }

    /// Returns the host and the port to connect to, if the route is for this origin.
    pub(crate) fn of<'a>(&'a self, host: &'a str, port: u16) -> Option<(&'a str, u16)> {
        let (from_host, from_port) = &self.from;
        let is_for = from_host.as_ref().is_none_or(|from| from == host)
            && from_port.is_none_or(|from| from == port);
        let (to_host, to_port) = &self.to;
        is_for.then(|| (to_host.as_deref().unwrap_or(host), to_port.unwrap_or(port)))
    }
}

/// Splits a host, without the brackets of an IPv6 address, from what follows the colon.
fn host(text: &str) -> Option<(Option<String>, &str)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(text) => text.split_once("]:")?,
        None => text.split_once(':')?,
    };
    let host = (!host.is_empty()).then(|| host.to_ascii_lowercase());
    Some((host, rest))
}

/// Parses a port, which is `Some(None)` if it is empty.
fn port(text: &str) -> Option<Option<u16>> {
    if text.is_empty() {
        return Some(None);
    }
    text.parse().ok().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_for_its_host_and_port() {
        let of = |route: &Route, host, port| {
            let to = route.of(host, port);
            to.map(|(host, port)| format!("{host} {port}"))
        };
        let route = Route::resolve("A.test:443:[::1]").unwrap();
        assert_eq!(of(&route, "a.test", 443).as_deref(), Some("::1 443"));
        assert_eq!(of(&route, "a.test", 80), None);
        let route = Route::resolve("*:443:127.0.0.1").unwrap();
        assert_eq!(of(&route, "b.test", 443).as_deref(), Some("127.0.0.1 443"));
        let route = Route::connect_to("[::1]:443:b.test:8443").unwrap();
        assert_eq!(of(&route, "::1", 443).as_deref(), Some("b.test 8443"));
        let route = Route::connect_to("::b.test:").unwrap();
        assert_eq!(of(&route, "c.test", 1).as_deref(), Some("b.test 1"));
        for text in ["", "a", "a:443", "a:443:b.test", "a:x:::1", "a:443:[::1"] {
            assert!(Route::resolve(text).is_err(), "{text}");
        }
        for text in ["", "a:1", "a:1:b", "a:1:b:x", "a:65536:b:1"] {
            assert!(Route::connect_to(text).is_err(), "{text}");
        }
    }
}
