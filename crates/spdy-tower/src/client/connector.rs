//! How connections to origins are made: what can be set, and the way of each request.

mod connecting;
mod error;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http::Uri;
use spdy_frame::Version;
use spdy_session::Config;
use tokio_rustls::rustls::ClientConfig;
use tower_service::Service;

pub use self::error::ConnectorError;
use super::{
    anonymous::anonymous,
    danger::danger_accept_invalid_certs,
    dial::{ByDial, ByService, Dial, Dialed, Reach},
    origin::Origin,
    proxy::{Proxies, Proxy, Route},
    tcp::Tcp,
};
use crate::{BoxError, Protocol};

/// How a [`Client`](super::Client) reaches origins.
///
/// For `https`, ALPN offers SPDY/3.1, SPDY/3, SPDY/2, HTTP/2 and HTTP/1.1 in this order, or the
/// list of [`offer`](Self::offer), and the server chooses. For `http`, [`plain`](Self::plain) sets
/// the protocol.
#[derive(Clone, Debug)]
pub struct Connector {
    tls: Arc<ClientConfig>,
    proxy_tls: Arc<ClientConfig>,
    offer: Vec<Protocol>,
    plain: Plain,
    upgrade_over_tls: bool,
    session: Config,
    reach: Arc<dyn Reach>,
    proxies: Option<Proxies>,
    pub(super) timeout: Duration,
    pub(super) request_timeout: Option<Duration>,
    pub(super) max_connections: usize,
    pub(super) max_waiting: usize,
    pub(super) max_idle: usize,
    pub(super) idle_timeout: Duration,
}

/// The protocol without TLS, where nothing is negotiated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Plain {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// Each new connection asks to upgrade to SPDY/3.1, with a GET of `/`. If the server does not
    /// upgrade, a second connection speaks HTTP/1.1.
    Upgrade,
    /// HTTP/2 without negotiation, for servers that are known to support it.
    Http2,
    /// SPDY without negotiation, for servers that are known to support it.
    Spdy(Version),
}

impl Plain {
    /// Returns what a new connection speaks.
    const fn protocol(self) -> Protocol {
        match self {
            Self::Http1 | Self::Upgrade => Protocol::Http1,
            Self::Http2 => Protocol::Http2,
            Self::Spdy(version) => Protocol::Spdy(version),
        }
    }
}

impl Connector {
    /// Creates a connector with this TLS configuration, which also has the certificate of the
    /// client, if there is one. Its ALPN protocols are replaced. Without that certificate it is for
    /// proxies too, unless [`proxy_tls`](Self::proxy_tls) sets another one.
    #[must_use]
    pub fn new(tls: ClientConfig) -> Self {
        let tls = Arc::new(tls);
        let connector = Self {
            proxy_tls: anonymous(&tls),
            tls,
            offer: Vec::new(),
            plain: Plain::default(),
            upgrade_over_tls: false,
            session: Config::default(),
            reach: Arc::new(ByDial(Tcp::default())),
            proxies: None,
            timeout: CONNECT_TIMEOUT,
            request_timeout: None,
            max_connections: MAX_CONNECTIONS,
            max_waiting: MAX_WAITING,
            max_idle: MAX_IDLE,
            idle_timeout: IDLE_TIMEOUT,
        }
        .keep_alive(Some(KEEP_ALIVE));
        connector.offer(&Protocol::ALL)
    }

    /// Sets the protocols that ALPN offers, best first. Only these are spoken over TLS. Default
    /// [`Protocol::ALL`].
    ///
    /// A server without ALPN speaks HTTP/1.1. If that is not offered, or if the server chooses none
    /// of the offered protocols, connecting fails with [`ConnectorError::Protocol`].
    #[must_use]
    pub fn offer(mut self, protocols: &[Protocol]) -> Self {
        self.offer = protocols.to_vec();
        offer(&mut self.tls, protocols);
        offer(&mut self.proxy_tls, protocols);
        self
    }

    /// Sets the TLS configuration of connections to [proxies](Self::proxies) with `https`: the
    /// certificates of proxies that are trusted, and the certificate of the client for them. Its
    /// ALPN protocols are replaced. The default is the configuration of [`new`](Self::new) without
    /// the certificate of the client, so that a proxy does not learn who that is. And
    /// [`danger_accept_invalid_certs`](Self::danger_accept_invalid_certs) does not change it.
    #[must_use]
    pub fn proxy_tls(mut self, tls: ClientConfig) -> Self {
        self.proxy_tls = Arc::new(tls);
        offer(&mut self.proxy_tls, &self.offer);
        self
    }

    /// Sets the protocol without TLS. Default [`Plain::Http1`].
    #[must_use]
    pub const fn plain(mut self, plain: Plain) -> Self {
        self.plain = plain;
        self
    }

    /// Sets whether HTTP/1.1 over TLS asks to upgrade to SPDY/3.1 too, as [`Plain::Upgrade`] does
    /// without TLS. Some servers offer SPDY in this way and not by ALPN. Default `false`.
    #[must_use]
    pub const fn upgrade_over_tls(mut self, asks: bool) -> Self {
        self.upgrade_over_tls = asks;
        self
    }

    /// Sets the configuration of SPDY sessions. Pushes are always refused. If the configuration has
    /// no [`keep_alive`](spdy_session::Timeouts::keep_alive), that of the connector is used.
    #[must_use]
    pub fn session(mut self, mut config: Config) -> Self {
        let timeouts = &mut config.timeouts;
        timeouts.keep_alive = timeouts.keep_alive.or(self.session.timeouts.keep_alive);
        config.accept_push = false;
        self.session = config;
        self
    }

    /// Sets how long a server may send nothing before a PING checks that it is alive: always over
    /// SPDY, and while a request is under way over HTTP/2. A server that does not answer within
    /// [`keep_alive_reply`](spdy_session::Timeouts::keep_alive_reply) is given up. Default 20 s;
    /// `None` sends no PING.
    #[must_use]
    pub fn keep_alive(mut self, interval: Option<Duration>) -> Self {
        self.session.timeouts.keep_alive = interval;
        self
    }

    /// Sets how long a request may wait for a connection: for a place among
    /// [`max_connections`](Self::max_connections), and for TCP, TLS and an upgrade. The limit
    /// applies to each request separately, however many wait, and to all its attempts together.
    /// Default 10 s.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how long a request may take, from [`send`](super::Client::send) to the end of the body
    /// of its response. Then it is given up with [`FetchError::TimedOut`](super::FetchError). The
    /// time before the body is read counts too; a tunnel has no such limit. Default `None`, so
    /// that long polls work. A [`RequestTimeout`](super::RequestTimeout) in the extensions of a
    /// request replaces it.
    #[must_use]
    pub const fn request_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Sets how many connections to one origin may exist at once, including those that are being
    /// made. Further requests wait: see [`timeout`](Self::timeout). Default 256; 0 counts as 1.
    #[must_use]
    pub fn max_connections(mut self, count: usize) -> Self {
        self.max_connections = count.max(1);
        self
    }

    /// Sets how many requests to one origin may wait for a connection. Further requests fail
    /// immediately with [`ConnectorError::Waiting`]. Default 1024.
    #[must_use]
    pub const fn max_waiting(mut self, count: usize) -> Self {
        self.max_waiting = count;
        self
    }

    /// Sets how many unused connections of HTTP/1.1 are kept open to one origin, for
    /// [`idle_timeout`](Self::idle_timeout). Those above this number are closed after 3 s without a
    /// request, the longest unused first, so that one burst of requests after another finds
    /// connections. There are never more than [`max_connections`](Self::max_connections). 0 closes
    /// each at once. Default 8.
    #[must_use]
    pub const fn max_idle(mut self, count: usize) -> Self {
        self.max_idle = count;
        self
    }

    /// Sets how long an unused connection is kept open. It is closed after one to two times this
    /// duration. Default 60 s; less than 1 ms counts as 1 ms.
    #[must_use]
    pub const fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = if timeout.as_millis() == 0 {
            MIN_IDLE_TIMEOUT
        } else {
            timeout
        };
        self
    }

    /// Sets how a host is found: a function from a host and a port to addresses, the best first.
    /// They are tried as [`connect_any`](super::connect_any) describes, within
    /// [`timeout`](Self::timeout). Replaces [`dial`](Self::dial) and [`service`](Self::service).
    /// The default is the system's resolver, with [`Lookups`](super::Lookups) of this connector.
    ///
    /// ```
    /// # use spdy_tower::client::Connector;
    /// # fn of(connector: Connector) -> Connector {
    /// connector.resolver(async |_host, port| Ok(vec![([127, 0, 0, 1], port).into()]))
    /// # }
    /// ```
    #[must_use]
    pub fn resolver<F, R>(self, resolve: F) -> Self
    where
        F: Fn(String, u16) -> R + Send + Sync + 'static,
        R: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        self.dial(Tcp::new(resolve))
    }

    /// Sets how transports are opened, by host and port. Replaces [`resolver`](Self::resolver) and
    /// [`service`](Self::service). The default is TCP, to the first address of the host that
    /// answers.
    #[must_use]
    pub fn dial(mut self, dial: impl Dial) -> Self {
        self.reach = Arc::new(ByDial(dial));
        self
    }

    /// Sets how transports are opened, by a service that gets a URI with the scheme, the host, the
    /// port and the path `/`. Replaces [`resolver`](Self::resolver) and [`dial`](Self::dial).
    ///
    /// The service returns a transport, or a [`Dialed`], with which it can do TLS itself. Its
    /// future is dropped when [`timeout`](Self::timeout) runs out. Its error becomes
    /// [`ConnectorError::Transport`].
    ///
    /// ```
    /// use http::{Method, StatusCode, Uri};
    /// use spdy_tower::client::Connector;
    /// use tokio::net::UnixStream;
    /// use tower::service_fn;
    ///
    /// # fn of(connector: Connector) -> Connector {
    /// connector.service(service_fn(async |_: Uri| UnixStream::connect("/run/app.sock").await))
    /// # }
    /// ```
    #[must_use]
    pub fn service<S>(mut self, service: S) -> Self
    where
        S: Service<Uri, Response: Into<Dialed>, Error: Into<BoxError>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        self.reach = Arc::new(ByService(service));
        self
    }

    /// Sets which requests go through a proxy: a function from a URI with the scheme, the host and
    /// the port of a request. `None` is no proxy, and so is the default. The environment is not
    /// read: see `proxies_from_env`, with the feature `proxy`.
    ///
    /// A request for an `https` URI goes through a tunnel, for which CONNECT asks over HTTP/1.1. So
    /// the proxy learns the host, and nothing else. A request for an `http` URI is sent to the
    /// proxy itself, unless it is CONNECT, or has a `host` field for another host or port, or
    /// [`plain`](Self::plain) is not HTTP/1.1, or the proxy has
    /// [`always_tunnel`](Proxy::always_tunnel): then it goes through a tunnel too. The pool keeps
    /// connections through different proxies apart, and those to a proxy apart from those to a
    /// server at the same place. The tunnel counts towards [`timeout`](Self::timeout).
    ///
    /// To a proxy with `https` there is TLS with the configuration of
    /// [`proxy_tls`](Self::proxy_tls).
    ///
    /// [`Client::send_through`](super::Client::send_through) ignores this function.
    ///
    /// ```
    /// use spdy_tower::client::{Connector, ConnectorError, Proxy};
    ///
    /// # fn of(connector: Connector) -> Result<Connector, ConnectorError> {
    /// let proxy = Proxy::new(&http::Uri::from_static("http://proxy.test:3128"))?;
    /// let connector = connector.proxies(move |uri| {
    ///     let is_inside = uri.host().is_some_and(|host| host.ends_with(".inside.test"));
    ///     Ok((!is_inside).then(|| proxy.clone()))
    /// });
    /// # Ok(connector)
    /// # }
    /// ```
    #[must_use]
    pub fn proxies<F>(mut self, choose: F) -> Self
    where
        F: Fn(&Uri) -> Result<Option<Proxy>, ConnectorError> + Send + Sync + 'static,
    {
        self.proxies = Some(Proxies(Arc::new(choose)));
        self
    }

    /// Takes the proxies of the environment: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and
    /// `NO_PROXY`, or the same names in lower case. See
    /// [`proxies`](Self::proxies). The variables are read now, and not again.
    ///
    /// A user name and a password in the URI of a proxy are sent to it. A variable that is empty or
    /// no URI is ignored, and all are in a CGI program, whose client could set one. With a SOCKS
    /// proxy requests fail with [`InvalidTarget::Proxy`](super::InvalidTarget::Proxy). [`NoProxy`]
    /// documents `NO_PROXY`. Without a port in its URI a proxy has port 80, or 443.
    ///
    /// [`NoProxy`]: super::NoProxy
    #[cfg(feature = "proxy")]
    #[must_use]
    pub fn proxies_from_env(mut self) -> Self {
        self.proxies = Some(Proxies::from_env());
        self
    }

    /// Accepts every certificate of a server: of any issuer, for any name, and expired. Then
    /// anyone on the way can read and change what is sent, so this is for tests alone. To trust a
    /// certificate of your own, add it to the roots of the [`ClientConfig`] instead. The
    /// certificate of a proxy is still checked: see [`proxy_tls`](Self::proxy_tls).
    #[must_use]
    pub fn danger_accept_invalid_certs(mut self) -> Self {
        danger_accept_invalid_certs(Arc::make_mut(&mut self.tls));
        self
    }

    /// Returns how long a session may take to answer a PING before it is not trusted with new
    /// requests.
    pub(super) const fn patience(&self) -> Duration {
        self.session.timeouts.keep_alive_reply
    }

    /// Returns where a request for an origin goes.
    pub(super) fn route(
        &self,
        origin: Origin,
        needs_tunnel: bool,
    ) -> Result<Route, ConnectorError> {
        let chosen = self
            .proxies
            .as_ref()
            .map(|Proxies(choose)| choose(&origin.uri()));
        let Some(proxy) = chosen.transpose()?.flatten() else {
            return Ok(Route::Direct(origin));
        };
        let is_simple = !origin.is_tls() && !needs_tunnel && self.plain == Plain::Http1;
        if is_simple && !proxy.always_tunnels {
            return Ok(Route::Forwarded(proxy));
        }
        Ok(Route::Direct(origin.behind(proxy)))
    }

    /// Returns whether requests to an origin share connections, if that is known before there is a
    /// connection.
    pub(super) fn is_shared(&self, origin: &Origin) -> Option<bool> {
        match self.plain {
            _ if self.reach.negotiates() => None,
            _ if origin.is_tls() => match self.offer[..] {
                [Protocol::Http1] if !self.upgrade_over_tls => Some(false),
                _ => None,
            },
            Plain::Http1 => Some(false),
            Plain::Http2 | Plain::Spdy(_) => Some(true),
            Plain::Upgrade => None,
        }
    }
}

fn offer(tls: &mut Arc<ClientConfig>, protocols: &[Protocol]) {
    let tokens = protocols.iter().map(|protocol| protocol.alpn().to_vec());
    Arc::make_mut(tls).alpn_protocols = tokens.collect();
}

/// Longer than it takes to resend one or two lost SYNs.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// More connections than a considerate application needs, and fewer than a process can usually
/// open.
const MAX_CONNECTIONS: usize = 256;

/// A burst can have more requests than there are connections, but not many more than they can serve
/// in time.
const MAX_WAITING: usize = 1024;

/// As many as a browser keeps for one server, and a few more.
const MAX_IDLE: usize = 8;

/// Servers close idle connections too, mostly after a longer time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection in use is checked this often, which must not be all the time.
const MIN_IDLE_TIMEOUT: Duration = Duration::from_millis(1);

/// Shorter than the time after which routers forget a connection.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
