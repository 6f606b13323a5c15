//! An HTTPS server for SPDY/2, SPDY/3, SPDY/3.1, HTTP/2 and HTTP/1.1: one port, one certificate, one application.
//!
//! *In scope:* sockets, TLS, the choice of protocol by ALPN or by the first octets, limits and timeouts of connections,
//! an end that loses no request, and the program `spdy-server` with its built-in site.
//! *Out of scope:* HTTP over SPDY itself, which is spdy-tower's, and applications, which are axum's.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use spdy_server::{Config, Server, Signals};
//!
//! # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
//! let app = Router::new().route("/", get(|| async { "hello" }));
//! let server = Server::bind(Config::default()).await?;
//! for endpoint in server.endpoints() {
//!     println!("{endpoint}");
//! }
//! let mut signals = Signals::new()?;
//! let _drained = server.run(app, signals.next()).await;
//! # Ok(())
//! # }
//! ```
//!
//! Start from [`Config`] and [`Server`]. A handler learns from the request extension [`ConnectionInfo`] which protocol
//! carried its request. [`app`] holds the applications that the program serves.
//!
//! # How a connection is served
//!
//! ```text
//! listener ──► TLS handshake, ALPN ──┐
//!         └──► first octets ─────────┴──► Protocol ──► spdy-tower or hyper ──► the application
//! ```
//!
//! Each connection is one task. HTTP/2 adds one for each request, as hyper does.

pub mod app;
mod config;
mod idle;
mod listener;
mod negotiate;
mod rewind;
mod serve;
mod shutdown;
mod tls;

use std::{error::Error, fmt, future::Future, io, net::SocketAddr, sync::Arc};

use axum::Router;
use tokio::sync::Semaphore;

pub use spdy_frame::Version;

pub use self::{
    config::{Bind, Certificate, Config, Endpoint, Timeouts, Transport},
    negotiate::{PlainVersion, Protocol, UnknownPlainVersion},
    serve::ConnectionInfo,
    shutdown::{Drained, Signals},
    tls::{CertificateError, Fingerprint, TlsInfo},
};
use self::{listener::Listener, serve::Service, shutdown::Lifecycle, tls::Tls};

/// A server that is ready to run: its sockets are bound and its certificate is loaded.
///
/// Clients may connect from now on; they are answered once [`run`](Self::run) is called.
#[derive(Debug)]
pub struct Server {
    config: Config,
    listeners: Vec<Listener>,
    endpoints: Vec<Endpoint>,
    left_out: Vec<SocketAddr>,
    tls: Option<Tls>,
}

impl Server {
    /// Loads the certificate if a listener needs one, and binds all sockets.
    ///
    /// # Errors
    /// [`StartError`] names the address or the file that stood in the way. Nothing stays bound then.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        let needs_tls = config
            .binds
            .iter()
            .any(|bind| bind.transport == Transport::Tls);
        let tls = needs_tls
            .then(|| Tls::new(&config.certificate))
            .transpose()?;
        let (mut listeners, mut left_out) = (Vec::new(), Vec::new());
        for bind in &config.binds {
            match Listener::bind(*bind).await {
                Ok(listener) => listeners.push(listener),
                Err(error) if !bind.required && is_absent(&error) => left_out.push(bind.address),
                Err(source) => {
                    return Err(StartError::Listen {
                        address: bind.address,
                        source,
                    });
                }
            }
        }
        if listeners.is_empty() {
            return Err(StartError::NoListener);
        }
        let endpoints = listeners.iter().map(Listener::endpoint).collect();
        Ok(Self {
            config,
            listeners,
            endpoints,
            left_out,
            tls,
        })
    }

    /// The sockets that the server listens on, in the order of [`Config::binds`].
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The addresses that were not [required](Bind::required) and that this machine does not have.
    #[must_use]
    pub fn left_out(&self) -> &[SocketAddr] {
        &self.left_out
    }

    /// The SHA-256 of the certificate; `None` without a TLS listener.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.tls.as_ref().map(Tls::fingerprint)
    }

    /// Serves `app` until `shutdown` ends, then drains: the sockets are closed, requests under way are answered, and
    /// whoever has not finished within [`Timeouts::drain`] is cut.
    ///
    /// Dropping this future cuts all connections at once.
    pub async fn run(self, app: Router, shutdown: impl Future<Output = ()>) -> Drained {
        let permits = Arc::new(Semaphore::new(
            self.config.max_connections.min(Semaphore::MAX_PERMITS),
        ));
        let service = Arc::new(Service::new(app, self.tls, &self.config));
        let lifecycle = Lifecycle::new();
        for listener in self.listeners {
            tokio::spawn(listener.run(
                Arc::clone(&service),
                Arc::clone(&permits),
                lifecycle.lifeline(),
            ));
        }
        shutdown.await;
        lifecycle.drain(self.config.timeouts.drain).await
    }
}

/// Why a server did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened on.
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// There is no certificate to serve TLS with.
    Certificate(CertificateError),
    /// [`Config::binds`] is empty, or every address in it was left out.
    NoListener,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { address, .. } => write!(f, "cannot listen on {address}"),
            Self::Certificate(error) => error.fmt(f),
            Self::NoListener => f.write_str("there is no address to listen on"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Listen { source, .. } => Some(source),
            Self::Certificate(error) => error.source(),
            Self::NoListener => None,
        }
    }
}

impl From<CertificateError> for StartError {
    fn from(error: CertificateError) -> Self {
        Self::Certificate(error)
    }
}

/// Whether binding failed because the machine has no such address, or no such family of addresses.
fn is_absent(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = if cfg!(target_os = "linux") { 97 } else { 47 };
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}
