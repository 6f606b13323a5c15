//! A bastion as a whole: it starts, runs, and shuts down.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use spdy_kube::Origins;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use crate::{
    Config, Error, Security,
    audit::Audit,
    control::Control,
    gateway::Gateway,
    kubeconfig::for_clients,
    listener::Listener,
    live::Sessions,
    metrics::Metrics,
    metrics_page,
    refused::Refused,
    reload::{self, Made, Watches},
    swap::Swap,
    tls,
    upstream::Upstream,
};

/// A running bastion.
///
/// Dropping it ends everything at once. [`shutdown`](Self::shutdown) tells clients why.
#[derive(Debug)]
pub struct Bastion {
    address: SocketAddr,
    metrics: Option<SocketAddr>,
    kubeconfig: String,
    sessions: Arc<Sessions>,
    refused: Refused,
    stop: watch::Sender<bool>,
    drain: Duration,
    serving: JoinHandle<JoinSet<()>>,
    /// What runs beside: the socket, the metrics, and the look at files.
    beside: JoinSet<()>,
}

impl Bastion {
    /// Starts a bastion on the tokio runtime of the caller.
    ///
    /// # Errors
    ///
    /// A file is missing or not valid, an address cannot be used, or the configuration has no TLS
    /// on an address that is not on loopback.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub async fn start(config: Config) -> Result<Self, Error> {
        if config.security == Security::Plain && !config.listen.ip().is_loopback() {
            let text = format!(
                "without TLS the address has to be on loopback: {}",
                config.listen
            );
            return Err(Error::new(text));
        }
        let (socket, address) = bind(config.listen).await?;
        let made = Made::new(&config, address)?;
        let watches = Watches::new(&config);
        let kubeconfig = kubeconfig(&config, &made, address);
        create_folder(&config.recordings)?;
        let gateway = Arc::new(gateway(&config, &made)?);
        let sessions = Arc::clone(&gateway.sessions);
        let refused = gateway.refused.clone();

        let mut beside = JoinSet::new();
        if let Some(path) = &config.socket {
            beside.spawn(Control::bind(path)?.run(Arc::clone(&sessions)));
        }
        let metrics = match config.metrics {
            Some(address) => {
                let (socket, address) = bind(address).await?;
                beside.spawn(metrics_page::run(socket, gateway.metrics.clone()));
                Some(address)
            }
            None => None,
        };
        let stop = watch::Sender::new(false);
        let listener = Listener {
            gateway: Arc::clone(&gateway),
            stop: stop.subscribe(),
        };
        let serving = tokio::spawn(listener.run(socket));
        let drain = config.limits.drain;
        beside.spawn(reload::run(config, made, watches, gateway));
        Ok(Self {
            address,
            metrics,
            kubeconfig,
            sessions,
            refused,
            stop,
            drain,
            serving,
            beside,
        })
    }

    /// Returns the address on which clients are served.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address on which metrics are served.
    #[must_use]
    pub const fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Returns a kubeconfig for clients. It contains the token of the owner, if one was made at
    /// start. Users with other credentials have to add theirs.
    #[must_use]
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// Shuts the bastion down. The clients of live sessions get `why` as a failure, and no more
    /// sessions begin. Returns when all sessions and connections have ended, or the time to drain
    /// ([`Limits::drain`](crate::Limits::drain)) is over.
    pub async fn shutdown(mut self, why: &str) {
        self.stop.send_replace(true);
        self.sessions.close(why);
        let ended = async {
            self.sessions.all_ended().await;
            if let Ok(mut connections) = (&mut self.serving).await {
                while connections.join_next().await.is_some() {}
            }
        };
        if timeout(self.drain, ended).await.is_err() {
            tracing::warn!("connections are cut, because they have not ended in time");
            self.sessions.cut();
            // Their audit lines are written.
            _ = timeout(CUT, self.sessions.all_ended()).await;
        }
        _ = timeout(CUT, self.refused.finish()).await;
    }
}

impl Drop for Bastion {
    fn drop(&mut self) {
        self.sessions.cut();
        self.serving.abort();
        self.beside.abort_all();
    }
}

/// How long sessions whose connections are cut may take to end.
const CUT: Duration = Duration::from_secs(5);

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let bound = async {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok((socket, address))
    };
    let failed =
        |error: std::io::Error| Error::because(format!("cannot listen on {address}"), error);
    bound.await.map_err(failed)
}

fn gateway(config: &Config, made: &Made) -> Result<Gateway, Error> {
    let is_open = config.users.is_empty() && config.security == Security::Plain;
    let origins = config
        .names
        .iter()
        .fold(Origins::same_host(), |origins, name| origins.host(name));
    let audit = Audit::open(config.audit.as_deref())?;
    Ok(Gateway {
        upstream: Swap::new(Upstream::new(&config.upstream, config.limits.connect)?),
        tls: tls::load(config, made.certificate.as_ref())?.map(Swap::from),
        users: Swap::new(made.users(config)?),
        rules: Swap::new(Made::rules(config)?),
        sessions: Sessions::new(config.limits.sessions),
        refused: Refused::new(audit.clone()),
        audit,
        metrics: Metrics::new(),
        recordings: config.recordings.clone(),
        origins,
        hosts: is_open.then(|| config.names.clone()),
        limits: config.limits.clone(),
    })
}

fn kubeconfig(config: &Config, made: &Made, address: SocketAddr) -> String {
    let scheme = match config.security {
        Security::Plain => "http",
        _ => "https",
    };
    let pem = made.certificate.as_ref().map(|made| made.pem.as_str());
    // A client cannot connect to an address that stands for all addresses.
    let host = match config.names.first() {
        Some(name) => name.clone(),
        None if address.ip().is_unspecified() => "localhost".to_owned(),
        None if address.is_ipv6() => format!("[{}]", address.ip()),
        None => address.ip().to_string(),
    };
    let url = format!("{scheme}://{host}:{}", address.port());
    for_clients(&url, pem, made.token.as_deref())
}

/// Creates the folder for recordings, which only its owner can read.
fn create_folder(path: &Path) -> Result<(), Error> {
    let created = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    created.map_err(|error| Error::because(format!("cannot create {}", path.display()), error))?;
    let mode = fs::metadata(path).map(|folder| folder.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o077 != 0) {
        tracing::warn!(folder = %path.display(), "other users can look at the folder of recordings");
    }
    Ok(())
}
