//! The server: its sockets, the files that it reloads, and its shutdown.

mod bind;
mod error;
mod files;

use std::{future::Future, pin::pin, sync::Arc};

#[cfg(feature = "rustls")]
use rustls::pki_types::CertificateDer;
use tokio::{runtime::Handle, task::spawn_blocking, time::sleep};

use self::{
    bind::{Build, load},
    files::{Files, SHORTEST_CHECK},
};
pub use self::{error::StartError, files::Reload};
use crate::{
    access_log::Log,
    advertise,
    application::{Application, Applications, MakeApplication},
    config::{Address, Bind, Config, Endpoint, Transport, countable},
    listener::{Inherited, Listener},
    metrics::{self, Metrics},
    observe::Observers,
    readiness::Readiness,
    room::Room,
    secured::Fingerprint,
    service::Service,
    shutdown::{Drained, Lifecycle},
    tls::{Tls, Watch},
};

/// A server that is ready to run: its sockets are bound and its certificate is loaded.
///
/// Clients can connect from now on. Their connections are served once [`run`](Self::run) is called.
#[derive(Debug)]
pub struct Server {
    config: Config,
    listeners: Vec<Listener>,
    endpoints: Vec<Endpoint>,
    left_out: Vec<Address>,
    metrics: Option<Listener>,
    tls: Option<Arc<Tls>>,
    watch: Option<Watch>,
    log: Option<Arc<Log>>,
    reload: Reload,
    runtimes: Vec<Handle>,
    timers: Option<Handle>,
    readiness: Option<Readiness>,
    #[cfg(feature = "proxy")]
    upstreams: Option<crate::app::Upstreams>,
}

impl Server {
    /// Binds all sockets, and loads the certificate if one of them carries TLS.
    ///
    /// # Errors
    /// [`StartError`] names the address or the file that caused the error. All sockets are closed
    /// then.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        Self::bind_with(config, Inherited::default()).await
    }

    /// Binds all sockets, and also serves sockets that are bound already.
    ///
    /// # Errors
    /// The same as for [`bind`](Self::bind).
    pub async fn bind_with(config: Config, inherited: Inherited) -> Result<Self, StartError> {
        Self::bind_in(Build::THIS, config, inherited).await
    }

    /// Checks a configuration without binding anything: the features that it needs, and the
    /// certificate if an address of [`Config::binds`] carries TLS. A server that binds the same
    /// addresses starts with it if they are free. For sockets of [`Inherited`] that carry TLS, add
    /// such an address.
    ///
    /// # Errors
    /// The same as for [`bind`](Self::bind), except for those of sockets and of the access log.
    pub fn check(config: &Config) -> Result<(), StartError> {
        let is_tls = |bind: &Bind| bind.transport == Transport::Tls;
        Build::THIS.check(config, config.binds.iter().any(is_tls))?;
        if config.binds.iter().any(is_tls) {
            load(&config.certificate)?;
        }
        Ok(())
    }

    /// Returns the sockets that the server listens on: inherited ones first, then those of
    /// [`Config::binds`] in their order.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Returns the addresses that are not [required](Bind::required) and that this machine does not
    /// have.
    #[must_use]
    pub fn left_out(&self) -> &[Address] {
        &self.left_out
    }

    /// Returns the address of the metrics, or `None` without one, in [`Config::metrics`] or of
    /// [`Inherited`].
    #[must_use]
    pub fn metrics(&self) -> Option<&Endpoint> {
        self.metrics.as_ref().map(Listener::endpoint)
    }

    /// Returns the SHA-256 of the certificate, or `None` without a TLS listener, and for
    /// certificates that only rustls knows (`Certificate::Resolver` and `Certificate::Rustls`).
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.tls.as_ref()?.fingerprint()
    }

    /// Returns the certificate, followed by its intermediates. It is empty where
    /// [`fingerprint`](Self::fingerprint) is `None`.
    ///
    /// A client in the same process can trust a self-signed certificate this way:
    ///
    /// ```
    /// # #[cfg(feature = "self-signed")] {
    /// use std::net::SocketAddr;
    ///
    /// use spdy_server::{Bind, Config, Server, rustls::RootCertStore};
    ///
    /// # async fn main_() -> Result<RootCertStore, Box<dyn std::error::Error>> {
    /// let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    /// let config = Config { binds: vec![Bind::tls(loopback)], ..Config::default() };
    /// let server = Server::bind(config).await?;
    /// let mut roots = RootCertStore::empty();
    /// roots.add_parsable_certificates(server.certificates());
    /// # Ok(roots)
    /// # }
    /// # }
    /// ```
    #[cfg(feature = "rustls")]
    #[must_use]
    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.tls
            .as_ref()
            .map_or_else(Vec::new, |tls| tls.certificates())
    }

    /// Returns a handle that asks the running server to reload its files.
    #[must_use]
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// Serves connections on these runtimes instead of the one that [`run`](Self::run) is called
    /// on. Each connection is assigned to the runtime with the fewest connections, and stays there
    /// with its requests.
    ///
    /// Use it with single-threaded runtimes, one for each core. Then no connection moves between
    /// threads, and only connections of its own thread delay it. The runtimes must outlive the
    /// server: a connection that is assigned to a runtime that has ended is dropped.
    #[must_use]
    pub fn spread(mut self, runtimes: impl IntoIterator<Item = Handle>) -> Self {
        self.runtimes = runtimes.into_iter().collect();
        self
    }

    /// Sets a runtime that only watches the deadlines of SPDY sessions: see
    /// [`spdy_tower::Builder::timers`]. It must outlive the server.
    #[must_use]
    pub fn timers(mut self, runtime: Handle) -> Self {
        self.timers = Some(runtime);
        self
    }

    /// Makes `/readyz` return 503 while `check` returns `false`. Without an [address of the
    /// metrics](Self::metrics) this has no effect.
    ///
    /// The check runs when `/readyz` is asked, but only once in a second: until then its last
    /// outcome is used. If it takes longer than a second its future is dropped, and the outcome is
    /// `false`.
    ///
    /// With the same application behind several servers this is dangerous: when it fails, all of
    /// them leave their load balancer at once, which then has nowhere to send requests to.
    ///
    /// ```no_run
    /// use spdy_server::{Config, Server, app::Proxy};
    ///
    /// # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
    /// let (app, upstreams) = Proxy::new("http://127.0.0.1:3000".parse()?).build();
    /// let server = Server::bind(Config::default()).await?.upstreams(upstreams.clone());
    /// let server = server.ready_when(move || {
    ///     let upstreams = upstreams.clone();
    ///     async move { upstreams.accept().await }
    /// });
    /// let _drained = server.run(app, std::future::pending()).await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn ready_when<F, C>(mut self, check: F) -> Self
    where
        F: Fn() -> C + Send + Sync + 'static,
        C: Future<Output = bool> + Send + 'static,
    {
        self.readiness = Some(Readiness::new(check));
        self
    }

    /// Adds the addresses of a reverse proxy to the metrics: `spdy_server_upstream_up` and
    /// `spdy_server_upstream_requests_open`, by address. Without an [address of the
    /// metrics](Self::metrics) this has no effect.
    #[cfg(feature = "proxy")]
    #[must_use]
    pub fn upstreams(mut self, upstreams: crate::app::Upstreams) -> Self {
        self.upstreams = Some(upstreams);
        self
    }

    /// Serves `app` until `shutdown` completes and
    /// [`Timeouts::drain_delay`](crate::Timeouts::drain_delay) has passed, then drains: the server
    /// closes its sockets, waits for open requests, and closes the connections that have not
    /// finished within [`Timeouts::drain`](crate::Timeouts::drain).
    ///
    /// Dropping this future closes all connections at once.
    pub async fn run(self, app: impl Application, shutdown: impl Future<Output = ()>) -> Drained {
        let apps = match Applications::one(app) {
            Applications::One(app) => {
                Applications::One(advertise::advertise(app, self.config.advertise))
            }
            each @ Applications::Each(_) => each,
        };
        self.serve(apps, shutdown).await
    }

    /// Serves each connection with an application of its own, which `make` returns for its
    /// [`ConnectionInfo`](crate::ConnectionInfo). In everything else this is [`run`](Self::run).
    ///
    /// A connection for which `make` returns an error is closed without an answer, and so is one
    /// for which it takes longer than what is left of
    /// [`Timeouts::handshake`](crate::Timeouts::handshake); its future is dropped then. Both count
    /// as failed handshakes in the metrics.
    ///
    /// axum's `into_make_service` can be passed. For `ConnectInfo` no make-service is needed: it is
    /// in the extensions of every request whose client has an address.
    ///
    /// ```no_run
    /// use std::convert::Infallible;
    ///
    /// use axum::{Router, routing::get};
    /// use spdy_server::{Config, ConnectionInfo, Server};
    ///
    /// # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
    /// let make = tower::service_fn(|connection: ConnectionInfo| async move {
    ///     let text = format!("hello over {}", connection.protocol);
    ///     Ok::<_, Infallible>(Router::new().route("/", get(text)))
    /// });
    /// let server = Server::bind(Config::default()).await?;
    /// let _drained = server.run_make_service(make, std::future::pending()).await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run_make_service(
        self,
        make: impl MakeApplication,
        shutdown: impl Future<Output = ()>,
    ) -> Drained {
        let port = self.config.advertise;
        let apps = Applications::each(make, move |app| advertise::advertise(app, port));
        self.serve(apps, shutdown).await
    }

    async fn serve(self, apps: Applications, shutdown: impl Future<Output = ()>) -> Drained {
        let Self {
            config,
            listeners,
            metrics: metrics_listener,
            tls,
            watch,
            log,
            reload,
            runtimes,
            timers,
            readiness,
            #[cfg(feature = "proxy")]
            upstreams,
            ..
        } = self;
        let memory = Arc::default();
        #[cfg_attr(not(feature = "proxy"), allow(unused_mut))]
        let mut metrics = metrics_listener
            .as_ref()
            .and_then(|_| Metrics::new(&config, Arc::clone(&memory), tls.as_ref()));
        #[cfg(feature = "proxy")]
        if let (Some(metrics), Some(upstreams)) = (&mut metrics, upstreams) {
            metrics.add_upstreams(upstreams);
        }
        let metrics = metrics.map(Arc::new);
        let observers = Observers {
            log: log.clone(),
            metrics: metrics.clone(),
            memory,
        };
        // Health checks need a response until the last connection has ended, so this listener ends
        // after the others, unless another process listens on its address.
        let pages = Lifecycle::new();
        let mut troubles_of_pages = Arc::default();
        if let (Some(listener), Some(metrics)) = (metrics_listener, &metrics) {
            let (service, room) = for_pages(metrics, readiness, &config);
            troubles_of_pages = Arc::clone(service.troubles());
            tokio::spawn(listener.run(Arc::new(service), Arc::new(room), pages.lifeline()));
        }

        let lifecycle = Lifecycle::new();
        let room = Arc::new(Room::new(config.max_connections, runtimes));
        let mut service =
            Service::new(apps, tls.clone(), &config, observers).crowd(Arc::clone(room.crowd()));
        let troubles = Arc::clone(service.troubles());
        if let Some(timers) = timers {
            service = service.timers(timers);
        }
        let service = Arc::new(service);
        for listener in listeners {
            tokio::spawn(listener.run(
                Arc::clone(&service),
                Arc::clone(&room),
                lifecycle.lifeline(),
            ));
        }
        drop(service);
        let files = Files {
            tls,
            log: log.clone(),
            metrics: metrics.clone(),
            watch,
            period: config.certificate_check.max(SHORTEST_CHECK),
            overdue: false,
        };
        let mut upkeep = pin!(async {
            tokio::select! {
                never = files.keep_up(&reload) => never,
                never = troubles.tell_ends() => never,
                never = troubles_of_pages.tell_ends() => never,
            }
        });
        tokio::select! {
            () = shutdown => {}
            never = &mut upkeep => match never {},
        }
        if let Some(metrics) = metrics {
            metrics.drain();
        }
        if config.reuse_port {
            pages.begin_to_drain();
        }
        tokio::select! {
            () = sleep(countable(config.timeouts.drain_delay)) => {}
            never = &mut upkeep => match never {},
        }
        let drained = tokio::select! {
            drained = lifecycle.drain(config.timeouts.drain) => drained,
            never = &mut upkeep => match never {},
        };
        troubles.tell_rest();
        troubles_of_pages.tell_rest();
        if let Some(log) = log {
            let _ = spawn_blocking(move || log.finish()).await;
        }
        drained
    }
}

/// Returns what serves the pages of metrics and health.
fn for_pages(
    metrics: &Arc<Metrics>,
    readiness: Option<Readiness>,
    config: &Config,
) -> (Service, Room) {
    let apps = Applications::One(metrics::pages(Arc::clone(metrics), readiness));
    let room = Room::new(MAX_METRICS_CONNECTIONS, Vec::new());
    let service = Service::new(apps, None, &config.for_pages(), Observers::default())
        .crowd(Arc::clone(room.crowd()));
    (service, room)
}

/// Collectors of metrics need few connections. The limit of the configuration is for other clients.
const MAX_METRICS_CONNECTIONS: usize = 64;
