//! `--proxy` and the variables of the environment: which proxy a request goes through.

use std::env;

use http::{HeaderValue, StatusCode, Uri};
use spdy_tower::client::{ConnectorError, NoProxy, Proxy};

use crate::flags::Via;

/// What `--proxy` says: a proxy, or none at all.
#[derive(Clone, Debug)]
pub(crate) struct Chosen(Option<Proxy>);

impl Chosen {
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let proxy = parse(text).map_err(|_| {
            "must be http://HOST:PORT or https://HOST:PORT, with USER:PASSWORD@ before the host if \
             the proxy wants that; SOCKS is not supported"
        })?;
        Ok(Self(Some(proxy)))
    }
}

/// The proxies of all requests.
#[derive(Debug)]
pub(crate) struct Proxies {
    http: Found,
    https: Found,
    /// The hosts that are reached without a proxy.
    without: NoProxy,
}

/// A variable can have a value that names no proxy. That fails the requests that need it.
type Found = Result<Option<Proxy>, ConnectorError>;

impl Proxies {
    /// Takes the proxies of the flags, or else those of the environment.
    pub(crate) fn new(via: &Via) -> Self {
        // What is not text names no proxy, as any other wrong value.
        Self::of_variables(via, |name| {
            Some(env::var_os(name)?.to_string_lossy().into_owned())
        })
    }

    /// The program of a CGI server gets a field `proxy` of a client as HTTP_PROXY. So, as in curl,
    /// that name counts in lower case only.
    fn of_variables(via: &Via, variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| {
            let values = names.iter().filter_map(|name| variable(name));
            values.into_iter().find(|value| !value.is_empty())
        };
        let [http, https] = match &via.proxy {
            Some(Chosen(proxy)) => [Ok(proxy.clone()), Ok(proxy.clone())],
            None => {
                let named = [
                    first(&["http_proxy"]),
                    first(&["https_proxy", "HTTPS_PROXY"]),
                ];
                let named = named.map(|it| it.or_else(|| first(&["all_proxy", "ALL_PROXY"])));
                named.map(|text| text.map(|text| parse(&text)).transpose())
            }
        };
        let list = via.noproxy.clone();
        let list = list.or_else(|| first(&["no_proxy", "NO_PROXY"]));
        Self {
            http: finished(http, via),
            https: finished(https, via),
            without: NoProxy::new(&list.unwrap_or_default()),
        }
    }

    /// Returns the proxy for a URL.
    pub(crate) fn of(&self, url: &Uri) -> Found {
        match url.scheme_str() {
            _ if self.without.contains(url) => Ok(None),
            Some("https") => self.https.clone(),
            _ => self.http.clone(),
        }
    }

    /// Returns whether there is a proxy with TLS.
    pub(crate) fn have_tls(&self) -> bool {
        let is_tls = |found: &Found| {
            let proxy = found.as_ref().ok().and_then(Option::as_ref);
            proxy.is_some_and(|proxy| proxy.to_string().starts_with("https:"))
        };
        is_tls(&self.http) || is_tls(&self.https)
    }
}

fn finished(found: Found, via: &Via) -> Found {
    let finish = |proxy: Proxy| {
        let proxy = match &via.proxy_user {
            Some(user) => proxy.authorization(HeaderValue::clone(user)),
            None => proxy,
        };
        if via.proxytunnel {
            proxy.always_tunnel()
        } else {
            proxy
        }
    };
    found.map(|proxy| proxy.map(finish))
}

/// Parses a proxy. As in curl the usual port is 1080, or 443 with TLS.
fn parse(text: &str) -> Result<Proxy, ConnectorError> {
    let uri: Option<Uri> = text.parse().ok();
    let authority = uri.as_ref().and_then(Uri::authority);
    let scheme = uri.as_ref().and_then(Uri::scheme_str).unwrap_or("http");
    match authority.filter(|it| it.port().is_none()) {
        Some(authority) if scheme == "http" => Proxy::parse(&format!("http://{authority}:1080")),
        _ => Proxy::parse(text),
    }
}

/// Returns what to do about the answer of a proxy to CONNECT.
pub(crate) fn cure(status: StatusCode) -> &'static str {
    match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => WANTS_USER,
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
            "it does not allow this host and port: ask those who run it, or go without it by \
             --noproxy HOST"
        }
        status if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => {
            "it does not reach this host and port: check them, or go without it by --noproxy HOST"
        }
        _ => "it may be no proxy, or one without tunnels: check --proxy",
    }
}

/// What to do about a proxy that wants to know who asks.
pub(crate) const WANTS_USER: &str = "give the right user and password by --proxy-user";

/// What to do about a variable that names no proxy.
pub(crate) const UNSUPPORTED: &str = "write http://HOST:PORT into http_proxy, HTTPS_PROXY or ALL_PROXY, or use --proxy; SOCKS is \
     not supported";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        via: Via,
    }

    /// Returns the proxy for a URL, as text.
    fn of(flags: &[&str], variables: &[(&str, &str)], url: &str) -> String {
        let via = Words::parse_from([&["spdy"], flags].concat()).via;
        let proxies = Proxies::of_variables(&via, |name| {
            let mut found = variables.iter().filter(|(its, _)| *its == name);
            found.next().map(|(_, value)| (*value).to_owned())
        });
        match proxies.of(&url.parse().unwrap()) {
            Ok(Some(proxy)) => proxy.to_string(),
            Ok(None) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn flags_come_before_variables_and_lower_case_before_upper_case() {
        let (http, https) = ("http://a.test/", "https://a.test:8443/");
        let names = [
            "http_proxy",
            "https_proxy",
            "HTTPS_PROXY",
            "all_proxy",
            "ALL_PROXY",
        ];
        let all = names.map(|name| (name, name));
        for (flags, variables, on_http, on_https) in [
            (&[][..], &[][..], "", ""),
            (&[], &all, "http_proxy", "https_proxy"),
            (&[], &all[2..], "all_proxy", "https_proxy"),
            (&[], &all[4..], "all_proxy", "all_proxy"),
            (&[], &[("HTTP_PROXY", "x")], "", ""),
            (&[], &[("http_proxy", ""), ("ALL_PROXY", "x")], "x", "x"),
            (&["-x", "y"], &all, "y", "y"),
            (&["-x", ""], &all, "", ""),
            (&[], &[("ALL_PROXY", "x"), ("NO_PROXY", "a.test")], "", ""),
            (
                &[],
                &[("ALL_PROXY", "x"), ("NO_PROXY", "a.test:80")],
                "",
                "x",
            ),
            (
                &[],
                &[("ALL_PROXY", "x"), ("no_proxy", "a.test:8443")],
                "x",
                "",
            ),
            (
                &["--noproxy", ""],
                &[("ALL_PROXY", "x"), ("NO_PROXY", "*")],
                "x",
                "x",
            ),
            (&["-x", "y", "--noproxy", "b.test,a.test"], &[], "", ""),
            (&["-x", "y"], &[("NO_PROXY", "a.test")], "", ""),
        ] {
            for (url, expected) in [(http, on_http), (https, on_https)] {
                let expected = match expected {
                    "" => String::new(),
                    host => format!("http://{}:1080", host.to_lowercase()),
                };
                let found = of(flags, variables, url);
                assert_eq!(found, expected, "{flags:?} {variables:?} {url}");
            }
        }
    }

    #[test]
    fn a_proxy_has_the_port_of_curl_and_hides_its_user() {
        for (text, expected) in [
            ("a.test", "http://a.test:1080"),
            ("a.test:8", "http://a.test:8"),
            ("http://me:12@a.test/", "http://a.test:1080"),
            ("me:12@[::1]", "http://[::1]:1080"),
            ("https://a.test", "https://a.test:443"),
        ] {
            assert_eq!(of(&["-x", text], &[], "http://b.test/"), expected, "{text}");
        }
        let socks = [("ALL_PROXY", "socks5://me:secret@a.test")];
        let refused = of(&[], &socks, "http://b.test/");
        assert_eq!(refused, "the proxy is no http:// or https:// URL");
        assert!(Chosen::parse("socks5://a.test").is_err());
    }
}
