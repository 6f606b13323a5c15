//! Proxies: which requests go through one, and the tunnels through it.

use std::{fmt, io, sync::Arc};

use http::{
    HeaderValue, Method, Request, Response, Uri,
    header::{HOST, PROXY_AUTHORIZATION},
};
#[cfg(feature = "proxy")]
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

use tracing::debug;

#[cfg(feature = "proxy")]
use super::NoProxy;
use super::{ConnectorError, Dialed, dial::Transport, origin::Origin};
use crate::upgrade::{ConnectError, switch};

/// A proxy of HTTP: see [`Connector::proxies`](super::Connector::proxies).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proxy {
    pub(super) origin: Origin,
    pub(super) authorization: Option<HeaderValue>,
    /// Whether requests of HTTP/1.1 in plain text have tunnels too.
    pub(super) always_tunnels: bool,
}

impl Proxy {
    /// A proxy at the scheme, the host and the port of a URI. With `https`, there is TLS to the
    /// proxy too, with the configuration of [`Connector::proxy_tls`](super::Connector::proxy_tls).
    ///
    /// # Errors
    ///
    /// [`ConnectorError::Target`], if the scheme is another one, or if the URI has no host, or a
    /// user name.
    pub fn new(uri: &Uri) -> Result<Self, ConnectorError> {
        Ok(Self {
            origin: Origin::of_proxy(uri)?,
            authorization: None,
            always_tunnels: false,
        })
    }

    /// A proxy as users write it: `[SCHEME://][USER:PASSWORD@]HOST[:PORT]`. Without a scheme it is
    /// `http`. The user and the password, in which `%40` is an `@`, become
    /// [`authorization`](Self::authorization).
    ///
    /// # Errors
    ///
    /// [`InvalidTarget::Proxy`](super::InvalidTarget::Proxy), if the text is something else, or the
    /// scheme another one, such as `socks5`. The error does not contain the text.
    #[cfg(feature = "proxy")]
    pub fn parse(text: &str) -> Result<Self, ConnectorError> {
        let matcher = Matcher::builder().all(text).build();
        let found = matcher.intercept(&Uri::from_static("http://host/"));
        Self::found(&found.ok_or(UNSUPPORTED)?)
    }

    #[cfg(feature = "proxy")]
    fn found(found: &Intercept) -> Result<Self, ConnectorError> {
        let proxy = Self::new(found.uri()).map_err(|_| UNSUPPORTED)?;
        Ok(match found.basic_auth() {
            Some(value) => proxy.authorization(value.clone()),
            None => proxy,
        })
    }

    /// Sends requests of HTTP/1.1 in plain text through a tunnel too, instead of giving them to the
    /// proxy to send on.
    #[must_use]
    pub const fn always_tunnel(mut self) -> Self {
        self.always_tunnels = true;
        self
    }

    /// Sets the `proxy-authorization` field that the proxy gets. It is marked as sensitive.
    #[must_use]
    pub fn authorization(mut self, mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        self.authorization = Some(value);
        self
    }

    /// Asks for a tunnel to an origin.
    pub(super) async fn tunnel(
        &self,
        io: Box<dyn Transport>,
        origin: &Origin,
    ) -> Result<Dialed, ConnectorError> {
        let connect = self.connect(origin);
        let accepts = |response: &Response<_>| response.status().is_success();
        match switch(io, connect, accepts, 0).await {
            Ok((_, tunnel)) => {
                debug!(to = %origin.authority(), "proxy has opened a tunnel");
                Ok(Dialed::new(tunnel))
            }
            Err(ConnectError::Refused(answer)) => Err(ConnectorError::Proxy(answer.status())),
            Err(ConnectError::Transport(error)) => Err(io::Error::other(error).into()),
        }
    }

    fn connect(&self, origin: &Origin) -> Request<()> {
        let authority = origin.authority();
        let host = HeaderValue::from_str(authority.as_str());
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = Uri::from(authority);
        let fields = request.headers_mut();
        fields.insert(HOST, host.expect("an authority is a field value"));
        if let Some(value) = &self.authorization {
            fields.insert(PROXY_AUTHORIZATION, value.clone());
        }
        request
    }
}

/// Writes the scheme, the host and the port, and no user.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.origin.is_tls() {
            "https"
        } else {
            "http"
        };
        write!(f, "{scheme}://{}", self.origin.authority())
    }
}

#[cfg(feature = "proxy")]
const UNSUPPORTED: ConnectorError = ConnectorError::Target(super::InvalidTarget::Proxy);

/// Chooses the proxy of an origin.
#[derive(Clone)]
pub(super) struct Proxies(pub(super) Arc<Choose>);

type Choose = dyn Fn(&Uri) -> Result<Option<Proxy>, ConnectorError> + Send + Sync;

impl Proxies {
    #[cfg(feature = "proxy")]
    pub(super) fn from_env() -> Self {
        Self::of_variables(|name| Some(std::env::var_os(name)?.to_string_lossy().into_owned()))
    }

    #[cfg(feature = "proxy")]
    fn of_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        // A CGI program has this one, and fields of its client in others.
        let is_cgi = variable("REQUEST_METHOD").is_some();
        // As in curl, an empty variable counts as missing.
        let first = |names: [&str; 2]| {
            let mut values = names.into_iter().filter_map(&variable);
            let first = values.find(|value| !value.is_empty() && !is_cgi);
            first.unwrap_or_default()
        };
        let matcher = Matcher::builder()
            .http(first(["HTTP_PROXY", "http_proxy"]))
            .https(first(["HTTPS_PROXY", "https_proxy"]))
            .all(first(["ALL_PROXY", "all_proxy"]))
            .build();
        let without = NoProxy::new(&first(["NO_PROXY", "no_proxy"]));
        Self(Arc::new(move |uri| {
            if without.contains(uri) {
                return Ok(None);
            }
            let found = matcher.intercept(uri);
            found.map(|found| Proxy::found(&found)).transpose()
        }))
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxies")
    }
}

/// Where a request goes.
pub(super) enum Route {
    /// To its origin, perhaps through a tunnel.
    Direct(Origin),
    /// To a proxy, which sends it on.
    Forwarded(Proxy),
}

#[cfg(all(test, feature = "proxy"))]
mod tests {
    use super::*;

    /// Returns the proxy for a URI, as text.
    fn of(variables: &[(&str, &str)], uri: &'static str) -> String {
        let Proxies(choose) = Proxies::of_variables(|name| {
            let mut found = variables.iter().filter(|(its, _)| *its == name);
            found.next().map(|(_, value)| (*value).to_owned())
        });
        let found = choose(&Uri::from_static(uri)).unwrap();
        found.map_or_else(String::new, |proxy| proxy.to_string())
    }

    #[test]
    fn an_empty_variable_hides_no_other_one() {
        let (http, https) = ("http://a.test/", "https://a.test/");
        for (variables, on_http, on_https) in [
            (&[][..], "", ""),
            (&[("HTTPS_PROXY", ""), ("https_proxy", "x")], "", "x"),
            (&[("HTTP_PROXY", ""), ("http_proxy", "x")], "x", ""),
            (&[("ALL_PROXY", ""), ("all_proxy", "x")], "x", "x"),
            (&[("HTTPS_PROXY", ""), ("ALL_PROXY", "x")], "x", "x"),
            (&[("HTTP_PROXY", "x"), ("http_proxy", "y")], "x", ""),
            (&[("ALL_PROXY", "x"), ("no_proxy", "a.test")], "", ""),
            (
                &[("ALL_PROXY", "x"), ("NO_PROXY", ""), ("no_proxy", "*")],
                "",
                "",
            ),
            (&[("ALL_PROXY", "x"), ("REQUEST_METHOD", "")], "", ""),
        ] {
            for (uri, expected) in [(http, on_http), (https, on_https)] {
                let expected = match expected {
                    "" => String::new(),
                    host => format!("http://{host}:80"),
                };
                assert_eq!(of(variables, uri), expected, "{variables:?} {uri}");
            }
        }
    }
}
