//! Hosts that are reached without a proxy.

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

/// Hosts that are reached without a proxy: a list as in the variable `NO_PROXY`, for a function of
/// [`Connector::proxies`](super::Connector::proxies).
///
/// Its entries are separated by commas or spaces. Each is a domain, which stands for its subdomains
/// too, an IP address, a network such as `10.0.0.0/8`, or `*` for every host. An entry with a port,
/// such as `a.test:8443` or `[::1]:8443`, is for that port alone. A dot at the end of a domain,
/// in the list or in a URI, is ignored.
///
/// ```
/// use http::Uri;
/// use spdy_tower::client::NoProxy;
///
/// let inside = NoProxy::new("inside.test, 10.0.0.0/8, a.test:8443");
/// assert!(inside.contains(&Uri::from_static("https://www.inside.test/")));
/// assert!(!inside.contains(&Uri::from_static("https://a.test/")));
/// ```
#[derive(Debug)]
pub struct NoProxy {
    /// The entries without a port.
    anywhere: Matcher,
    /// The entries with one.
    by_port: Vec<(u16, Matcher)>,
}

impl NoProxy {
    /// Reads a list. Any other entry matches no host.
    #[must_use]
    pub fn new(list: &str) -> Self {
        let entries = list.split(|letter: char| letter == ',' || letter.is_whitespace());
        let (mut hosts, mut by_port) = (String::new(), Vec::new());
        for (host, port) in entries.map(split) {
            let host = without_dot(host);
            match port {
                Some(port) => by_port.push((port, except(host))),
                None => hosts = [&hosts, ",", host].concat(),
            }
        }
        let anywhere = except(&hosts);
        Self { anywhere, by_port }
    }

    /// Returns whether the host of a URI is in the list, with its port or without.
    #[must_use]
    pub fn contains(&self, uri: &Uri) -> bool {
        let usual = if uri.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        let port = uri.port_u16().unwrap_or(usual);
        let of_port = self.by_port.iter().filter(|(its, _)| *its == port);
        let mut matchers = of_port.map(|(_, matcher)| matcher).chain([&self.anywhere]);
        let host = uri.host().map(without_dot);
        let Some(Ok(bare)) = host.map(|host| format!("http://{host}/").parse()) else {
            return false;
        };
        matchers.any(|matcher| matcher.intercept(&bare).is_none())
    }
}

/// The dot at the end of a domain only says that it is a whole one.
fn without_dot(domain: &str) -> &str {
    domain.strip_suffix('.').unwrap_or(domain)
}

/// Returns a matcher that has a proxy for every host but these.
fn except(hosts: &str) -> Matcher {
    Matcher::builder().all("http://proxy").no(hosts).build()
}

/// Splits the port from a host. An IPv6 address has its port behind brackets.
fn split(entry: &str) -> (&str, Option<u16>) {
    let bracketed = entry.strip_prefix('[').and_then(|it| it.split_once(']'));
    let (host, port) = match (bracketed, entry.split_once(':')) {
        (Some((host, "")), _) => return (host, None),
        (Some((host, port)), _) => (host, port.strip_prefix(':')),
        (None, Some((host, port))) => (host, Some(port)),
        (None, None) => return (entry, None),
    };
    match port.and_then(|port| port.parse().ok()) {
        Some(port) => (host, Some(port)),
        None => (entry, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_domain_an_address_or_a_network_with_a_port_or_without() {
        for (list, uri, expected) in [
            ("a.test", "http://a.test/", true),
            ("a.test", "https://www.A.test:8443/", true),
            (".a.test", "http://a.test/", true),
            ("a.test", "http://nota.test/", false),
            ("b.test,a.test", "http://a.test/", true),
            ("b.test a.test", "http://a.test/", true),
            (" , b.test ,\ta.test", "http://a.test/", true),
            ("*", "http://a.test/", true),
            ("", "http://a.test/", false),
            (",", "http://a.test/", false),
            ("127.0.0.1", "http://127.0.0.1:1/", true),
            ("127.0.0.0/8", "http://127.1.2.3/", true),
            ("127.0.0.0/8", "http://128.0.0.1/", false),
            ("::1", "http://[::1]/", true),
            ("[::1]", "http://[::1]:1/", true),
            ("fe80::/10", "http://[fe80::1]/", true),
            // Dots.
            ("a.test", "http://a.test./", true),
            ("a.test.", "http://www.a.test/", true),
            ("a.test.:8443", "https://a.test.:8443/", true),
            ("a.test.", "http://nota.test./", false),
            ("127.0.0.1.", "http://127.0.0.1/", true),
            (".", "http://a.test/", false),
            // Ports.
            ("a.test:8443", "https://a.test:8443/", true),
            ("a.test:8443", "https://www.a.test:8443/", true),
            ("a.test:8443", "https://a.test/", false),
            ("a.test:443", "https://a.test/", true),
            ("a.test:443", "http://a.test/", false),
            ("a.test:80", "http://a.test/", true),
            ("a.test:1,a.test:2", "http://a.test:2/", true),
            ("a.test:1,b.test", "http://a.test:2/", false),
            ("[::1]:1", "http://[::1]:1/", true),
            ("[::1]:1", "http://[::1]:2/", false),
            ("127.0.0.1:1", "http://127.0.0.1:1/", true),
            ("*:1", "http://a.test:1/", true),
            // No entries at all.
            ("a.test:x", "http://a.test/", false),
            ("a.test:65536", "http://a.test/", false),
            (":80", "http://a.test/", false),
            ("[::1", "http://[::1]/", false),
        ] {
            let uri = uri.parse().unwrap();
            assert_eq!(NoProxy::new(list).contains(&uri), expected, "{list} {uri}");
        }
    }
}
