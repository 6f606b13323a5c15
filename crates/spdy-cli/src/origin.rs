//! URLs and their origins.

use std::fmt;

use http::{Uri, uri::PathAndQuery};

/// Scheme, host and port of a server. Requests to the same origin share a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) is_tls: bool,
    host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// Returns the host without the brackets of an IPv6 address.
    pub(crate) fn name(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Returns the URL of the root of this origin.
    pub(crate) fn uri(&self) -> Uri {
        let scheme = if self.is_tls { "https" } else { "http" };
        let root = format!("{scheme}://{self}/");
        root.parse().expect("the host and the port come from a URL")
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// An absolute http or https URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) uri: Uri,
    pub(crate) origin: Origin,
}

impl Url {
    /// Parses a URL of the command line. The fragment is left out: clients do not send it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.split('#').next().unwrap_or_default();
        if !text.contains("://") && text.contains('@') {
            return Err(SCHEME.into());
        }
        if !text.contains("://") {
            return Err(format!("{SCHEME}: try https://{text} or http://{text}"));
        }
        let uri: Uri = text.parse().map_err(|_| invalid(text))?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(SCHEME.into()),
        };
        let authority = uri.authority().ok_or("missing host in URL")?;
        if authority.as_str().contains('@') {
            return Err("the URL must not contain a user name: use --user".into());
        }
        let host = authority.host();
        if matches!(host, "" | "[]") {
            return Err(INVALID.into());
        }
        let port = match authority.as_str().strip_prefix(host) {
            None | Some("" | ":") if is_tls => 443,
            None | Some("" | ":") => 80,
            // The `http` crate takes any other text for no port.
            Some(_) => authority.port_u16().ok_or("invalid port in URL")?,
        };
        let origin = Origin {
            is_tls,
            host: host.to_ascii_lowercase(),
            port,
        };
        let url = Self { uri, origin };
        // A query without a path is not part of any request.
        match url.uri.path_and_query().map(PathAndQuery::as_str) {
            Some(target) if target.starts_with('?') => url
                .with_target(&format!("/{target}"))
                .ok_or_else(|| INVALID.into()),
            _ => Ok(url),
        }
    }

    /// Returns the URL of a file in this directory. The query stays. The bytes of the name are
    /// encoded, which need not be text.
    pub(crate) fn join(&self, name: &[u8]) -> Self {
        let path = format!("{}{}", self.uri.path(), percent_encoded(name));
        let query = self.uri.query().map(|query| format!("?{query}"));
        let joined = self.with_target(&(path + &query.unwrap_or_default()));
        joined.expect("the name is encoded")
    }

    /// Returns the URL with more of a query, or `None` if that cannot be part of one.
    pub(crate) fn and_query(&self, more: &str) -> Option<Self> {
        let path = self.uri.path();
        match self.uri.query() {
            _ if more.contains('#') => None,
            None | Some("") => self.with_target(&format!("{path}?{more}")),
            Some(query) => self.with_target(&format!("{path}?{query}&{more}")),
        }
    }

    /// Returns the URL with another path and query, or `None` if they are not encoded.
    fn with_target(&self, target: &str) -> Option<Self> {
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = Some(target.parse().ok()?);
        let uri = Uri::from_parts(parts).expect("the other parts come from a valid URL");
        let origin = self.origin.clone();
        Some(Self { uri, origin })
    }

    /// Returns the URL of the same resource, host and port without TLS.
    pub(crate) fn in_plain_text(&self) -> Self {
        let mut origin = self.origin.clone();
        origin.is_tls = false;
        let mut parts = origin.uri().into_parts();
        parts.path_and_query = self.uri.path_and_query().cloned();
        let uri = Uri::from_parts(parts).expect("the parts come from valid URLs");
        Self { uri, origin }
    }
}

const SCHEME: &str = "the URL must begin with http:// or https://";
const INVALID: &str = "the URL must have a host, and its path must have no spaces: write %20";

/// Returns what is wrong with a text that is no URI.
fn invalid(text: &str) -> &'static str {
    let host = text.split_once("://").map_or("", |(_, rest)| rest);
    let host = host.split(['/', '?']).next().unwrap_or_default();
    if host.is_ascii() {
        return INVALID;
    }
    "the host must be ASCII: write an international name in its form that begins with xn--"
}

/// Replaces the user and the password of a URL.
pub(crate) fn without_user(url: &str) -> String {
    let start = match url.find("://") {
        _ if url.starts_with("//") => 2,
        found => found.map_or(0, |colon| colon + 3),
    };
    let (scheme, rest) = url.split_at(start);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rfind('@') {
        Some(at) => format!("{scheme}***{}", &rest[at..]),
        None => url.to_owned(),
    }
}

/// Encodes everything but letters, digits and the four signs that are never encoded.
pub(crate) fn percent_encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        match byte {
            b'-' | b'.' | b'_' | b'~' => text.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => text.push(byte.into()),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_an_origin_or_is_refused() {
        for (text, name, shown) in [
            ("https://A.test/x#y", "a.test", "a.test:443"),
            ("http://a.test", "a.test", "a.test:80"),
            ("http://a.test:/", "a.test", "a.test:80"),
            ("https://[::1]:8443/", "::1", "[::1]:8443"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(url.origin.name(), name);
            assert_eq!(url.origin.to_string(), shown);
        }
        let url = Url::parse("http://a.test?x").unwrap();
        assert_eq!(url.uri.path_and_query().unwrap().as_str(), "/?x");
        let url = Url::parse("https://a.test/x?y").unwrap().in_plain_text();
        assert_eq!(url.to_string(), "http://a.test:443/x?y");
        assert!(!url.origin.is_tls);
        for text in [
            "a.test",
            "/x",
            "ftp://a.test/",
            "https://u:p@a.test/",
            "https://a.test:65536/",
            "https://[::1]:x/",
            "http://:80/",
            "http://[]/",
            "http://b\u{fc}cher.test/",
            "",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
        let refused = Url::parse("http://b\u{fc}cher.test/").unwrap_err();
        assert!(refused.contains("xn--"), "{refused}");
    }

    #[test]
    fn a_user_is_replaced_and_nothing_else() {
        for (url, expected) in [
            ("http://u:p@a.test/x@y", "http://***@a.test/x@y"),
            ("http://u@p@a.test?x", "http://***@a.test?x"),
            ("//u:p@a.test", "//***@a.test"),
            ("//a.test/x://u:p@b", "//a.test/x://u:p@b"),
            ("http://a.test/x@y", "http://a.test/x@y"),
            ("/x?a://b@c", "/x?a://***@c"),
        ] {
            assert_eq!(without_user(url), expected);
        }
    }

    #[test]
    fn a_file_in_a_directory_has_its_name_encoded() {
        let url = Url::parse("http://a.test/up/?q")
            .unwrap()
            .join("a b?\u{fc}.c".as_bytes());
        assert_eq!(url.to_string(), "http://a.test/up/a%20b%3F%C3%BC.c?q");
    }
}
