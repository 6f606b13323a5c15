//! An HTTPS server for SPDY/2, SPDY/3, SPDY/3.1, HTTP/2 and HTTP/1.1: one port, one certificate, one application.
//!
//! *In scope:* sockets, TLS, the choice of protocol by ALPN, NPN or by the first octets, limits and timeouts of
//! connections, an end that loses no request, logs and metrics, and the program `spdy-server` with its applications: a
//! reverse proxy, a directory, a built-in site.
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
//! carried its request. axum's extractor `ConnectInfo<SocketAddr>` works in all protocols; a client at a Unix socket has
//! no such address, and the extractor refuses its request. [`app`] holds the applications that the program serves.
//! [`auto`] serves transports that are no sockets of a server.
//!
//! # How a connection is served
//!
//! ```text
//! listener ──► TLS handshake, ALPN ──┐
//!         └──► first octets ─────────┴──► Protocol ──► spdy-tower or hyper ──► the application
//! ```
//!
//! Each connection is one task. HTTP/2 adds one for each request, as hyper does. Tasks run on the runtime that
//! [`Server::run`] is called in, or each on one of several: [`Server::spread`].
//!
//! # For operators
//!
//! Everything here is a field of [`Config`] and a flag of the program. What is off costs a request nothing.
//!
//! - *Sockets.* TCP and Unix sockets, those of systemd ([`Inherited`]), ports that two processes share while one takes
//!   over from the other ([`Config::reuse_port`]), the PROXY protocol ([`Config::proxy_protocol`]).
//! - *Certificates* are read again when their files change, or when [`Reload`] asks for it. Connections that are open
//!   stay; a certificate that cannot be used changes nothing.
//! - *The access log* ([`Config::access_log`]) has a line for each request: the combined format, then protocol, stream,
//!   seconds, octets of the request's body, and `cut` for an answer that was begun and not handed over whole. It never
//!   holds up a request.
//! - *Metrics* ([`Config::metrics`]) for Prometheus, and `/healthz`, which is 503 once the server drains: connections,
//!   sessions, requests by protocol and class of status, octets of bodies, failed handshakes, a histogram of durations;
//!   of SPDY also frames by type, octets, resets and GOAWAYs by status, each by direction, limits and timeouts that were
//!   reached by name, and malformed requests.
//! - *Malformed requests* never reach the application. Over SPDY and HTTP/1.1 they are logged and counted all the same;
//!   of HTTP/1.1 the line has the status alone, since nobody can say what was asked for. Those over HTTP/2 are not: h2
//!   answers them by itself and tells nobody.
//! - *The reverse proxy* is [`app::proxy`].
//! - *The directory* is [`app::directory`]. It remembers small files and what is known of others, within the limits of
//!   [`app::Directory`]; what has changed on the disk is seen after a second.
//! - *Threads* are the application's. The program has one runtime with several of them, or with `--runtime per-core` one
//!   runtime for each, between which [`Server::spread`] shares out the connections.
//!
//! # Features
//!
//! A library needs none of the defaults, which are what the program needs. `default-features = false` leaves a server of
//! plain text; add what is wanted:
//!
//! - `tls`: TLS listeners, by rustls with ring. Without it a server with a TLS listener does not start.
//! - `self-signed`: [`Certificate::SelfSigned`], made at start by rcgen. Needs `tls`.
//! - `metrics`: [`Config::metrics`].
//! - `site`, `directory`, `proxy`: the applications of the module `app`.
//! - `cli` (default): all of these, and what the program needs beyond the library.
//! - `npn`: Next Protocol Negotiation, by OpenSSL. Needs `tls`. Without it a client that knows no ALPN gets HTTP/1.1.
//!   Those are browsers of 2013 and before, and programs with OpenSSL before 1.0.2. With it, the first message of each TLS
//!   connection is looked at, and rustls answers all clients but those that offer NPN and no ALPN. The handshake of these
//!   is OpenSSL's, in TLS 1.2; older versions of TLS are not spoken.
//!
//! A feature adds types and functions and changes none. What a [`Config`] asks for that a build is without is an error
//! at start, [`StartError::Feature`], which names the feature.

#![cfg_attr(docsrs, feature(doc_cfg))]
// The example of the page is compiled.
#![cfg_attr(doctest, doc = include_str!("../README.md"))]
#![cfg_attr(not(feature = "npn"), forbid(unsafe_code))]

mod access_log;
mod advertise;
#[cfg(any(feature = "directory", feature = "proxy", feature = "site"))]
pub mod app;
pub mod auto;
mod body_timeout;
mod config;
mod connection;
mod discard;
mod host;
mod idle;
mod info;
mod linger;
mod listener;
#[cfg_attr(not(feature = "metrics"), path = "metrics_off.rs")]
mod metrics;
mod negotiate;
mod observe;
mod proxy_protocol;
mod rest;
mod rewind;
mod room;
mod secured;
mod server;
mod service;
mod shutdown;
mod socket;
mod stall;
#[cfg_attr(not(feature = "tls"), path = "tls_off.rs")]
mod tls;

pub use spdy_frame::Version;

#[cfg(feature = "tls")]
pub use self::tls::CertificateError;
pub use self::{
    config::{
        AccessLog, Address, AddressError, Bind, Certificate, Config, Endpoint, Timeouts, Transport,
    },
    info::ConnectionInfo,
    listener::Inherited,
    negotiate::{PlainVersion, Protocol, UnknownPlainVersion},
    secured::{Fingerprint, TlsInfo},
    server::{Reload, Server, StartError},
    shutdown::{Drained, Signals},
};
