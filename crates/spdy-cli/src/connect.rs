//! Connections, opened by spdy-tower's client.
//!
//! The protocol of an open connection is known, and is always one of the protocols in the
//! [`Offer`].

mod cures;
mod requests;

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::client::SendRequest;
use http::Uri;
use rustls::ClientConfig;
use spdy_tower::{
    Protocol,
    client::{self, Client, ConnectorError, Lookups, Plain},
    session::{Config, Session},
};
use tokio::{sync::mpsc, time::timeout};

use self::cures::{again, cured};
pub(crate) use self::{
    cures::reason,
    requests::{Payload, Requests, protocol},
};
use crate::{
    counted::{Tcp, Wire},
    failure::{Exit, Failure},
    flags::{Reach, Via},
    http2,
    offer::Offer,
    origin::Origin,
    proxies::Proxies,
    route::Route,
    tls, wire,
};

/// Opens connections.
pub(crate) struct Connector {
    offer: Offer,
    connector: client::Connector,
    config: Config,
    tls: Arc<ClientConfig>,
    timeout: Duration,
    lookups: Lookups,
    routes: Arc<[Route]>,
    proxies: Option<Arc<Proxies>>,
    verbose: bool,
}

impl Connector {
    /// Creates a connector. Root certificates are loaded only if `has_tls` says that a URL is
    /// https.
    pub(crate) fn new(offer: Offer, reach: &Reach, has_tls: bool) -> Result<Self, Failure> {
        let mut config = Config::default();
        // Keep-alive detects a server that has vanished without closing the connection.
        config.timeouts.keep_alive = Some(Duration::from_secs(10));
        config.timeouts.close = LINGER;
        config.timeouts.linger = LINGER;
        let tls = if has_tls {
            tls::config(reach.trust())?
        } else {
            tls::without_roots()
        };
        if reach.verbose {
            wire::show();
        }
        let plain = match offer.plain {
            Protocol::Spdy(version) => Plain::Spdy(version),
            Protocol::Http2 => Plain::Http2,
            Protocol::Http1 if offer.upgrade => Plain::Upgrade,
            Protocol::Http1 => Plain::Http1,
        };
        let connector = client::Connector::new(tls.clone())
            .offer(&offer.alpn)
            .plain(plain)
            .upgrade_over_tls(offer.upgrade)
            .timeout(reach.connect_timeout);
        Ok(Self {
            offer,
            connector,
            config,
            tls: Arc::new(tls),
            timeout: reach.connect_timeout,
            lookups: Lookups::default(),
            routes: reach.routes(),
            proxies: None,
            verbose: reach.verbose,
        })
    }

    /// Sets the proxies. Without this call there are none. Root certificates for them are loaded
    /// only if there is one with https.
    pub(crate) fn through(mut self, via: &Via) -> Result<Self, Failure> {
        let proxies = Arc::new(Proxies::new(via));
        let tls = if proxies.have_tls() {
            tls::config(via.trust())?
        } else {
            tls::without_roots()
        };
        let chosen = Arc::clone(&proxies);
        let connector = self.connector.proxy_tls(tls);
        self.connector = connector.proxies(move |url| chosen.of(url));
        self.proxies = Some(proxies);
        Ok(self)
    }

    /// Returns whether requests for a URL go through a proxy.
    pub(crate) fn has_proxy(&self, url: &Uri) -> bool {
        let proxies = self.proxies.as_ref();
        proxies.is_some_and(|proxies| matches!(proxies.of(url), Ok(Some(_))))
    }

    /// Sets the receive windows, in bytes, of each stream and of the session.
    pub(crate) const fn windows(mut self, stream: u32, session: u32) -> Self {
        self.config.limits.stream_window = stream;
        self.config.limits.session_window = session;
        self
    }

    /// Opens a new connection. Two calls never share one.
    pub(crate) async fn connect(&self, origin: &Origin) -> Result<Connection, Failure> {
        let start = Instant::now();
        let wire = Arc::new(Wire::default());
        let (open, closed) = mpsc::channel(1);
        let connector = self.connector.clone().session(self.config.clone());
        let client = Client::new(connector.dial(Tcp {
            wire: Arc::clone(&wire),
            open,
            lookups: self.lookups.clone(),
            routes: Arc::clone(&self.routes),
            verbose: self.verbose,
        }));
        let requests = self.requests(client, &wire);
        let connected = requests.client.connect(&origin.uri()).await;
        let connected = connected.map_err(|error| self.failure(origin, &requests, &error))?;
        let protocol = connected.protocol();
        let is_spdy = matches!(protocol, Protocol::Spdy(_));
        if self.offer.upgrade && !self.offer.falls_back && !is_spdy {
            let cure = self.offer.cure;
            let message = format!("{origin} does not upgrade to SPDY/3.1: {cure}");
            return Err(Failure::new(Exit::Connect, message));
        }
        Ok(Connection {
            session: connected.session().cloned(),
            requests,
            http2: None,
            protocol,
            wire,
            took: start.elapsed(),
            closed,
        })
    }

    /// Opens a new connection whose requests need not go through [`Requests`]. If HTTP/2 is offered
    /// it is the only protocol.
    pub(crate) async fn connect_directly(&self, origin: &Origin) -> Result<Connection, Failure> {
        // With `verbose`, `Requests` shows the heads.
        if self.offer.plain != Protocol::Http2 || self.verbose {
            return self.connect(origin).await;
        }
        let start = Instant::now();
        let wire = Arc::new(Wire::default());
        let (open, closed) = mpsc::channel(1);
        let tcp = Tcp {
            wire: Arc::clone(&wire),
            open,
            lookups: self.lookups.clone(),
            routes: Arc::clone(&self.routes),
            verbose: false,
        };
        let opened = http2::open(&tcp, &self.tls, origin, self.timeout).await;
        let protocol = Protocol::Http2;
        let client = Client::new(self.connector.clone().dial(tcp));
        let requests = self.requests(client, &wire);
        let http2 = opened.map_err(|error| self.failure(origin, &requests, &error))?;
        Ok(Connection {
            requests,
            session: None,
            http2: Some(http2),
            protocol,
            wire,
            took: start.elapsed(),
            closed,
        })
    }

    fn requests(&self, client: Client, wire: &Arc<Wire>) -> Requests {
        Requests {
            client,
            wire: Arc::clone(wire),
            proxies: self.proxies.clone(),
            plain: self.offer.plain,
            is_spdy_alone: self.offer.is_spdy_alone,
            verbose: self.verbose,
        }
    }

    fn failure(&self, origin: &Origin, requests: &Requests, error: &ConnectorError) -> Failure {
        if let ConnectorError::Protocol = error {
            let offered: Vec<_> = self.offer.alpn.iter().map(|it| it.token()).collect();
            let (offered, cure) = (offered.join(", "), self.offer.cure);
            let message = format!("{origin} does not support {offered}: {cure}");
            return Failure::new(Exit::Connect, message);
        }
        let url = origin.uri();
        let through = match requests.proxy(&url) {
            Some(proxy) => format!(" through the proxy {proxy}"),
            None => String::new(),
        };
        let cannot = format!("cannot connect to {origin}{through}");
        if let Some(foreign) = requests.foreign(&url) {
            return Failure::new(Exit::Connect, format!("{cannot}: {foreign}"));
        }
        let cause: &(dyn Error + 'static) = match error {
            ConnectorError::Transport(error) => &**error,
            error => error,
        };
        let message = format!("{cannot}: {}", cured(cause));
        Failure::new(Exit::Connect, message).again(again(error))
    }
}

/// An open connection.
pub(crate) struct Connection {
    pub(crate) requests: Requests,
    /// The session, if the protocol is SPDY.
    pub(crate) session: Option<Session>,
    /// The connection itself, if [`Connector::connect_directly`] has opened it and the protocol is
    /// HTTP/2.
    pub(crate) http2: Option<SendRequest<Bytes>>,
    pub(crate) protocol: Protocol,
    pub(crate) wire: Arc<Wire>,
    /// The time that it took to connect.
    pub(crate) took: Duration,
    /// Ends when the transport is closed.
    closed: mpsc::Receiver<()>,
}

impl Connection {
    /// Closes the connection, and waits a short time for the server to close its side.
    pub(crate) async fn end(mut self) {
        drop((self.requests, self.session, self.http2));
        _ = timeout(2 * LINGER, self.closed.recv()).await;
    }
}

/// How long the session reads the transport after it has closed its own side.
const LINGER: Duration = Duration::from_millis(200);
