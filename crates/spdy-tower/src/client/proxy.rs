//! Proxies: which requests go through one, and the tunnels through it.

use std::{fmt, io, sync::Arc};

use http::{
    HeaderValue, Method, Request, Response, Uri,
    header::{HOST, PROXY_AUTHORIZATION},
};

use super::{ConnectorError, Dialed, dial::Transport, origin::Origin};
use crate::upgrade::{ConnectError, switch};

/// A proxy of HTTP: see [`Connector::proxies`](super::Connector::proxies).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proxy {
    pub(super) origin: Origin,
    pub(super) authorization: Option<HeaderValue>,
}

impl Proxy {
    /// A proxy at the scheme, the host and the port of a URI. With `https`, there is TLS to the
    /// proxy too, with the configuration of the connector: a proxy that asks for the certificate of
    /// the client gets it.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::Target`], if the scheme is another one, or if the URI has no host, or a
    /// user name.
    pub fn new(uri: &Uri) -> Result<Self, ConnectorError> {
        Ok(Self {
            origin: Origin::of(uri)?,
            authorization: None,
        })
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
            Ok((_, tunnel)) => Ok(Dialed::new(tunnel)),
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

/// Chooses the proxy of an origin.
#[derive(Clone)]
pub(super) struct Proxies(pub(super) Arc<Choose>);

type Choose = dyn Fn(&Uri) -> Result<Option<Proxy>, ConnectorError> + Send + Sync;

impl Proxies {
    #[cfg(feature = "proxy")]
    pub(super) fn from_env() -> Self {
        let matcher = hyper_util::client::proxy::matcher::Matcher::from_env();
        Self(Arc::new(move |uri| {
            let Some(found) = matcher.intercept(uri) else {
                return Ok(None);
            };
            let proxy = Proxy::new(found.uri())
                .map_err(|_| ConnectorError::Target(super::InvalidTarget::Proxy))?;
            Ok(Some(match found.basic_auth() {
                Some(value) => proxy.authorization(value.clone()),
                None => proxy,
            }))
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
    Forwarded(Arc<Proxy>),
}
