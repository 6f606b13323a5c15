//! Decides which pages in browsers may send requests.

use http::{
    HeaderName, HeaderValue, Request, StatusCode,
    header::{HOST, ORIGIN},
    uri::Authority,
};

use crate::{Status, options::parse_port};

/// Checks the `Origin` of requests. Any page in a browser can open a WebSocket to a server on
/// loopback, and the browser names the origin of the page in `Origin`.
///
/// A request without `Origin` does not come from a browser, and is allowed. Python's client sends
/// an `Origin` that names the server itself. That is allowed if the server is on loopback, or if
/// its name was [added](Self::host). A page whose own host name resolves to loopback is refused,
/// because its `Host` is neither loopback nor added.
///
/// ```
/// use http::Request;
/// use spdy_kube::Origins;
///
/// let origins = Origins::same_host().page("https://dashboard.example");
/// let request = |origin: &str| {
///     let request = Request::get("/").header("host", "127.0.0.1:8001");
///     request.header("origin", origin).body(()).unwrap()
/// };
/// assert!(origins.check(&request("http://127.0.0.1:8001")).is_ok());
/// assert!(origins.check(&request("https://dashboard.example")).is_ok());
/// assert!(origins.check(&request("https://elsewhere.example")).is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    hosts: Vec<String>,
    pages: Vec<String>,
}

impl Origins {
    /// Allows requests without `Origin`, and requests whose `Origin` has the host and port of
    /// `Host`, if that host is `localhost` or a loopback address.
    #[must_use]
    pub const fn same_host() -> Self {
        Self {
            hosts: Vec::new(),
            pages: Vec::new(),
        }
    }

    /// Adds a name or an address of this server, without a port.
    #[must_use]
    pub fn host(mut self, name: impl Into<String>) -> Self {
        self.hosts.push(name.into());
        self
    }

    /// Adds an origin whose pages may send requests with any `Host`, such as
    /// `https://dashboard.example`.
    #[must_use]
    pub fn page(mut self, origin: impl Into<String>) -> Self {
        self.pages.push(origin.into());
        self
    }

    /// Checks a request.
    ///
    /// # Errors
    ///
    /// Returns the Status with code 403 if the request is not allowed. Answer with
    /// [`Status::into_response`].
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), Status> {
        if !request.headers().contains_key(ORIGIN) || self.is_allowed(request) == Some(true) {
            return Ok(());
        }
        let message = "requests of this origin are not allowed";
        Err(Status::failure(StatusCode::FORBIDDEN, "Forbidden", message))
    }

    /// Returns `None` if the fields are not as a browser sends them.
    fn is_allowed<B>(&self, request: &Request<B>) -> Option<bool> {
        let origin = only(request, &ORIGIN)?;
        if self
            .pages
            .iter()
            .any(|page| page.eq_ignore_ascii_case(origin))
        {
            return Some(true);
        }
        let (scheme, origin) = origin.split_once("://")?;
        let default = default_port(scheme)?;
        let (origin, port) = split(origin, default)?;
        let (host, own_port) = split(only(request, &HOST)?, default)?;
        let is_same = host.eq_ignore_ascii_case(&origin) && port == own_port;
        Some(is_same && self.is_own(&host))
    }

    fn is_own(&self, host: &str) -> bool {
        let is_it = |own: &String| own.eq_ignore_ascii_case(host);
        is_loopback(host) || self.hosts.iter().any(is_it)
    }
}

/// Returns the value of a field, if the request has exactly one.
fn only<'a, B>(request: &'a Request<B>, name: &HeaderName) -> Option<&'a str> {
    let mut values = request.headers().get_all(name).iter();
    let value = values.next().map(HeaderValue::to_str)?.ok()?;
    values.next().is_none().then_some(value)
}

/// Returns the default port of an origin's scheme.
fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Splits a host from its port. Returns `None` if there is anything else.
fn split(text: &str, default: u16) -> Option<(String, u16)> {
    let authority: Authority = text.parse().ok()?;
    let host = authority.host();
    let port = match text.strip_prefix(host)? {
        "" => default,
        port => parse_port(port.strip_prefix(':')?)?,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let address: Result<std::net::IpAddr, _> = address.parse();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: &str, origins: &[&str]) -> Request<()> {
        let mut request = Request::get("/").header(HOST, host);
        for origin in origins {
            request = request.header(ORIGIN, *origin);
        }
        request.body(()).unwrap()
    }

    fn is_allowed(host: &str, origin: &str) -> bool {
        let origins = Origins::same_host()
            .host("kube.example")
            .page("https://dashboard.example:8443");
        origins.check(&request(host, &[origin])).is_ok()
    }

    #[test]
    fn the_server_itself_is_allowed() {
        for (host, origin) in [
            ("127.0.0.1:8001", "http://127.0.0.1:8001"),
            ("127.0.0.1:8001", "https://127.0.0.1:8001"),
            ("localhost:8001", "http://LOCALHOST:8001"),
            ("[::1]:8001", "http://[::1]:8001"),
            ("127.0.0.2", "http://127.0.0.2"),
            ("127.0.0.1", "http://127.0.0.1:80"),
            ("127.0.0.1:443", "https://127.0.0.1"),
            ("kube.example:8001", "https://kube.example:8001"),
            ("evil.example", "https://dashboard.example:8443"),
        ] {
            assert!(is_allowed(host, origin), "{host} {origin}");
        }
        assert!(
            Origins::same_host()
                .check(&request("evil.example", &[]))
                .is_ok()
        );
    }

    #[test]
    fn other_pages_are_refused() {
        for (host, origin) in [
            ("127.0.0.1:8001", "http://evil.example"),
            ("127.0.0.1:8001", "http://127.0.0.1:8002"),
            ("127.0.0.1:8001", "http://127.0.0.1"),
            ("127.0.0.1:8001", "http://localhost:8001"),
            ("127.0.0.1:8001", "null"),
            ("127.0.0.1:8001", ""),
            ("127.0.0.1:8001", "127.0.0.1:8001"),
            ("127.0.0.1:8001", "file://127.0.0.1:8001"),
            ("127.0.0.1:8001", "http://127.0.0.1:8001/"),
            ("127.0.0.1:8001", "http://127.0.0.1:8001@evil.example"),
            ("127.0.0.1", "http://127.0.0.1:70000"),
            // A name that resolves to this server.
            ("evil.example:8001", "http://evil.example:8001"),
            ("localhost.evil.example", "http://localhost.evil.example"),
            ("other.example", "https://dashboard.example"),
            ("10.0.0.1:8001", "http://10.0.0.1:8001"),
            ("", "http://127.0.0.1:8001"),
        ] {
            assert!(!is_allowed(host, origin), "{host} {origin}");
        }
    }

    #[test]
    fn two_origins_or_hosts_are_refused() {
        let own = "http://127.0.0.1:8001";
        let twice = request("127.0.0.1:8001", &[own, own]);
        let refusal = Origins::same_host().check(&twice).unwrap_err();
        assert_eq!(refusal.into_response().status(), StatusCode::FORBIDDEN);
        let mut hosts = request("127.0.0.1:8001", &[own]);
        hosts
            .headers_mut()
            .append(HOST, HeaderValue::from_static("evil.example"));
        assert!(Origins::same_host().check(&hosts).is_err());
    }
}
