//! An HTTPS server for SPDY/2, SPDY/3, SPDY/3.1, HTTP/2 and HTTP/1.1: one port, one certificate,
//! one application.
//!
//! *In scope:* sockets, TLS, the choice of protocol by ALPN, NPN or the first bytes, limits and
//! timeouts of connections, a graceful shutdown that loses no request, logs and metrics, and the
//! program `spdy-server` with its applications: a reverse proxy, a directory and a built-in site.
//! *Out of scope:* HTTP over SPDY, which is spdy-tower's part, and applications, which are services
//! of tower, such as an axum router.
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
//! Start with [`Config`] and [`Server`]. The request extension [`ConnectionInfo`] tells a handler
//! which protocol carried its request. axum's extractor `ConnectInfo<SocketAddr>` works in all
//! protocols. A client of a Unix socket has no such address, so the extractor rejects its requests.
//! [`app`] contains the applications of the program. [`auto`] serves transports that are not
//! sockets of a server, in an accept loop of your own.
//!
//! The public dependencies are `axum`, `http`, `tokio`, `tower-service`, `spdy-tower` (with
//! `spdy-session` and `spdy-frame`), and with TLS `rustls` and `tokio-rustls`.
//!
//! # How a connection is served
//!
//! ```text
//! listener ──► TLS handshake, ALPN ──┐
//!         └──► first bytes ──────────┴──► Protocol ──► spdy-tower or hyper ──► the application
//! ```
//!
//! Each connection is one task. HTTP/2 adds a task for each request, as hyper does. Tasks run on
//! the runtime that calls [`Server::run`], or each on one of several runtimes: see
//! [`Server::spread`].
//!
//! # For operators
//!
//! Each feature here is a field of [`Config`] or a method of [`Server`], and a flag of the program.
//! A feature that is off costs nothing.
//!
//! - *Sockets.* TCP and Unix sockets, sockets of systemd ([`Inherited`]), ports that two processes
//!   share during a restart ([`Config::reuse_port`]), and the PROXY protocol
//!   ([`Config::proxy_protocol`]).
//! - *Protocols.* [`Config::spdy`], [`Config::http2`] and [`Config::http1`] have the settings of
//!   each protocol, and [`Timeouts`] those of all. As flags they are `--spdy NAME=VALUE` and so on,
//!   and in the file they are tables.
//! - *Certificates* are reloaded when their files change, or when [`Reload`] asks for it. Open
//!   connections are kept. If the new certificate is invalid, the server keeps the old one.
//! - *The access log* ([`Config::access_log`]) has a line for each request, in the combined format
//!   and more, or in JSON ([`AccessLogFormat`]). A mark tells of a response that was cut, of a
//!   request whose body broke off although it was answered, and of a malformed request. Writing a
//!   line never delays a request.
//! - *Ids of requests* ([`Config::request_ids`]) are in both logs, in responses, and in what the
//!   proxy passes on.
//! - *Health.* At the address of the metrics, `/livez` returns 200 as long as the process lives,
//!   and `/readyz` returns 503 as soon as the server is asked to stop. `/healthz` is another name
//!   for `/readyz`. After [`Timeouts::drain_delay`] the listeners are closed. With
//!   [`Server::ready_when`] an application that is not ready makes it 503, too.
//! - *Metrics* ([`Config::metrics`]) for Prometheus. There are connections, sessions, requests by
//!   protocol and class of status, bytes of bodies, failed handshakes, `spdy_server_build_info`,
//!   and the histogram of durations of OpenTelemetry, `http_server_request_duration_seconds`. SPDY
//!   has in addition frames by type, bytes, resets and GOAWAYs by status (each by direction),
//!   limits and timeouts by name; HTTP/2 has the resets and GOAWAYs that the server sends, by code.
//!   All protocols have malformed requests, and requests and responses that were cut. With
//!   [`Server::upstreams`] there are the addresses behind the reverse proxy. On Linux there are the
//!   `process_*` metrics of Prometheus' own clients. The format is Prometheus' text, or OpenMetrics
//!   for a client that prefers it.
//! - *Malformed requests* never reach the application. They are logged, with the mark `refused`,
//!   and counted. Over HTTP/1.1 the line has only the status, because the request could not be
//!   parsed. Over HTTP/2 it has the status and the stream: 431 if its fields are too long, and 400
//!   for the reset of any other. A request whose body contradicts its `content-length` is reset,
//!   too, but the application has seen its head. So it has the line of other requests.
//! - *The reverse proxy* is [`app::proxy`]. Its application can have several addresses:
//!   [`app::Proxy::also`].
//! - *The directory* is [`app::directory`]. No request leads out of it. It caches small files and
//!   metadata within the limits of [`app::Directory`], and notices a change on disk after one
//!   second.
//! - *Threads* belong to the application. The program has one runtime with several threads, or with
//!   `--runtime per-core` one runtime for each thread, among which [`Server::spread`] distributes
//!   the connections.
//!
//! # Features
//!
//! The default features are those of the program. A library needs none of them. With
//! `default-features = false` the server supports only plain text; add the features that you need:
//!
//! - `tls`: TLS listeners, by rustls with ring. Without it or one of the next two, a server with a
//!   TLS listener does not start.
//! - `aws-lc-rs`: the same with aws-lc-rs, whose C code takes longer to compile.
//! - `rustls`: the same with the provider that the application has installed by
//!   `rustls::crypto::CryptoProvider::install_default`. An installed provider also takes precedence
//!   over ring and aws-lc-rs, and of these two ring does.
//! - `self-signed`: [`Certificate::SelfSigned`], created at start by rcgen, with ring. Includes
//!   `tls`.
//! - `metrics`: [`Config::metrics`].
//! - `site`, `directory`, `proxy`: the applications of the module `app`.
//! - `cli` (default): all of these, and the dependencies of the program.
//! - `npn`: Next Protocol Negotiation, by OpenSSL. Needs `tls`. Without it, clients without ALPN
//!   use HTTP/1.1. Such clients are browsers of 2013 and before, and programs with OpenSSL before
//!   1.0.2. With it, the server inspects the first message of each TLS connection. OpenSSL, with
//!   TLS 1.2 alone, answers the clients that offer NPN and no ALPN. rustls answers all other
//!   clients.
//!
//! A feature only adds types and functions. If a [`Config`] asks for something that the build
//! lacks, the server returns an error at start, [`StartError::Feature`], which names the feature.

#![cfg_attr(docsrs, feature(doc_cfg))]
// The example of the README is compiled.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]
#![cfg_attr(not(feature = "npn"), forbid(unsafe_code))]

mod access_log;
mod advertise;
#[cfg(any(feature = "directory", feature = "proxy", feature = "site"))]
pub mod app;
mod application;
pub mod auto;
mod body_timeout;
mod config;
mod connection;
mod cookies;
mod cork;
mod crowd;
mod data_count;
mod discard;
mod host;
mod idle;
mod info;
mod keep;
mod linger;
mod listener;
#[cfg_attr(not(feature = "metrics"), path = "metrics_off.rs")]
mod metrics;
mod negotiate;
mod observe;
mod opened;
mod pass;
mod proxy_protocol;
#[cfg_attr(not(feature = "metrics"), allow(dead_code))]
mod readiness;
mod request_id;
mod rest;
mod rewind;
mod room;
mod secured;
mod server;
mod service;
mod shutdown;
mod socket;
mod stall;
mod switched;
mod tail;
#[cfg_attr(not(feature = "rustls"), path = "tls_off.rs")]
mod tls;
mod trouble;

pub use spdy_frame::Version;

/// The TLS library, whose types are those of `Certificate::Rustls`, `Certificate::Resolver`,
/// [`Server::certificates`] and [`PeerCertificates`].
#[cfg(feature = "rustls")]
pub use rustls;
/// rustls on tokio, whose `TlsStream` [`auto::Builder::serve_tls_connection`] takes.
#[cfg(feature = "rustls")]
pub use tokio_rustls;

#[cfg(feature = "rustls")]
pub use self::tls::{CertificateError, PeerCertificates};
pub use self::{
    application::{Application, MakeApplication},
    config::{
        AccessLog, AccessLogFormat, Address, AddressError, Bind, Certificate, Config, Endpoint,
        Http1, Http2, Network, NetworkError, RequestIds, SocketFiles, Spdy, Timeouts, Transport,
    },
    info::ConnectionInfo,
    listener::Inherited,
    negotiate::{PlainVersion, Protocol, UnknownPlainVersion},
    proxy_protocol::{ProxyCertificate, ProxyInfo, ProxyTls},
    request_id::RequestId,
    secured::{Fingerprint, TlsInfo},
    server::{Reload, Server, StartError},
    shutdown::{Drained, Signals},
};
