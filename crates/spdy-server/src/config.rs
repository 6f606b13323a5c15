//! The configuration of a server.

mod bind;
mod certificate;
mod logs;
mod network;
mod protocols;

use std::{num::NonZeroU16, time::Duration};

use tokio::time::Instant;

pub use self::{
    bind::{Address, AddressError, Bind, Endpoint, SocketFiles, Transport},
    certificate::Certificate,
    logs::{AccessLog, AccessLogFormat, RequestIds},
    network::{Network, NetworkError},
    protocols::{Http1, Http2, Spdy},
};
use crate::negotiate::PlainVersion;

/// The configuration of a [`Server`](crate::Server).
///
/// The default listens for TLS on port 8443 of both loopback addresses, with a self-signed
/// certificate. Features that are off by default cost nothing while they are off.
#[derive(Clone, Debug)]
pub struct Config {
    /// The addresses to listen on. TLS and plaintext listeners can be combined.
    pub binds: Vec<Bind>,
    /// Whether other processes can listen on the same addresses at the same time; the system
    /// distributes the connections among them. Use it for restarts: the new process starts before
    /// the old one stops. (Off by default.)
    pub reuse_port: bool,
    /// The owner and the mode of the files of Unix sockets, also of that of the metrics.
    pub socket_files: SocketFiles,
    /// Whether every connection begins with a PROXY protocol header, version 1 or 2, which contains
    /// the address of the client. Turn it on only behind a proxy that sends the header: otherwise
    /// clients can claim any address. (Off by default.)
    ///
    /// A header of version 2 can also say what a proxy that ends TLS knows of the client:
    /// [`ProxyInfo`](crate::ProxyInfo). On plaintext listeners its ALPN tells SPDY/3 from SPDY/3.1,
    /// and takes precedence over [`plain_version`](Self::plain_version). A header that is
    /// malformed, or longer than 4 KiB, ends the connection.
    pub proxy_protocol: bool,
    /// The addresses of the proxies that send the header. If this is not empty, a connection from
    /// any other TCP address must not begin with the header: it is a client itself. Connections at
    /// Unix sockets must begin with the header. (Empty by default: every connection must.) Of the
    /// transports of [`auto::Builder`](crate::auto::Builder), those without a known address must
    /// not.
    pub proxy_protocol_from: Vec<Network>,
    /// The certificate of the TLS listeners. Without such a listener it is not read.
    pub certificate: Certificate,
    /// How often the server checks the files of the certificate for changes. New connections use
    /// the new certificate. (Every 5 s by default.)
    pub certificate_check: Duration,
    /// The SPDY version that version field 3 means on plaintext listeners. (SPDY/3.1 by default.)
    pub plain_version: PlainVersion,
    /// The port of SPDY over TLS, to be announced in the `Alternate-Protocol` field of HTTP/1
    /// responses.
    pub advertise: Option<NonZeroU16>,
    /// The access log, which has a line for each request.
    pub access_log: Option<AccessLog>,
    /// The form of the lines of the access log.
    pub access_log_format: AccessLogFormat,
    /// Whether each request has an id. (Off by default.)
    pub request_ids: RequestIds,
    /// The address at which the server returns `/metrics`, in the text format of Prometheus, and
    /// the health checks in plain text. Needs the feature `metrics`.
    ///
    /// `/livez` always returns 200. `/readyz` returns 503 as soon as the server is asked to stop,
    /// and while the application is not ready
    /// ([`Server::ready_when`](crate::Server::ready_when)). `/healthz` is another name for it. The
    /// server answers until the last connection has ended; with [`reuse_port`](Self::reuse_port) it
    /// closes this socket as soon as it is asked to stop, so that from then on only the new process
    /// answers.
    pub metrics: Option<Address>,
    /// The maximum number of open connections over all listeners. Further connections wait in the
    /// queue of the system. (16,384 by default.)
    pub max_connections: usize,
    /// The maximum number of bytes that all SPDY sessions hold together. While they hold that many
    /// or more, the server closes new connections at once. Open connections continue, each within
    /// its own bound. (1 GiB by default.)
    pub max_session_memory: usize,
    /// The time limits of clients, in all protocols.
    pub timeouts: Timeouts,
    /// The settings of SPDY.
    pub spdy: Spdy,
    /// The settings of HTTP/2.
    pub http2: Http2,
    /// The settings of HTTP/1.1.
    pub http1: Http1,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            binds: Bind::localhost(),
            reuse_port: false,
            socket_files: SocketFiles::default(),
            proxy_protocol: false,
            proxy_protocol_from: Vec::new(),
            certificate: Certificate::SelfSigned,
            certificate_check: Duration::from_secs(5),
            plain_version: PlainVersion::default(),
            advertise: None,
            access_log: None,
            access_log_format: AccessLogFormat::default(),
            request_ids: RequestIds::default(),
            metrics: None,
            max_connections: DEFAULT_MAX_CONNECTIONS,
            max_session_memory: DEFAULT_MAX_SESSION_MEMORY,
            timeouts: Timeouts::default(),
            spdy: Spdy::default(),
            http2: Http2::default(),
            http1: Http1::default(),
        }
    }
}

impl Config {
    /// Returns the same configuration for the pages of an operator: collectors and checks reach
    /// them without the proxy, and repeat what was lost.
    pub(crate) fn for_pages(&self) -> Self {
        let timeouts = Timeouts {
            idle_close: Duration::ZERO,
            ..self.timeouts
        };
        Self {
            proxy_protocol: false,
            request_ids: RequestIds::Off,
            timeouts,
            ..self.clone()
        }
    }
}

/// The time limits of clients. Without them, silent clients would occupy a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From accepting the connection to the end of the TLS handshake, or to the first bytes in
    /// plain text. (10 s by default.)
    pub handshake: Duration,
    /// How long an HTTP/1 or HTTP/2 connection can be open without a byte in either direction. It
    /// is closed after one to two times this. (SPDY sessions have timeouts of their own.) An HTTP/2
    /// connection without a request for this time is asked to finish within the same time, whatever
    /// else it sends. (180 s by default.)
    pub idle: Duration,
    /// How long a client can take without reading any byte of what it is sent. Then the server ends
    /// the connection over HTTP/1, and the response over HTTP/2 and SPDY, or the connection if its
    /// transport is stalled. For SPDY this is `write` and `blocked` of
    /// [`spdy_tower::session::Timeouts`]. (30 s by default.)
    ///
    /// An HTTP/2 client that reads slowly from some responses has up to ten times as long. Over
    /// TLS, what was encrypted has this time in all to leave: up to 80 KiB at the end of a
    /// response. A client that takes less than 2.7 kB in a second may lose them.
    ///
    /// This and [`idle`](Self::idle) also apply after an Upgrade of HTTP/1.1, such as WebSocket or
    /// a shell of `spdy-kube`. A server of shells whose users can pause the output sets it to
    /// hours. The reverse proxy has a time limit of its own instead.
    pub write: Duration,
    /// How long an application that waits for the body of a request waits for its next byte. Then
    /// the request ends with 408, or with a reset if the response has begun, in every protocol and
    /// however the application handles the error. CONNECT and Upgrade have no body, so they have no
    /// such limit. `None` means no limit. (60 s by default.)
    pub body: Option<Duration>,
    /// How long a SPDY client, or an HTTP/2 client with open requests, can be silent before the
    /// server sends it a PING. If the client does not reply within `keep_alive_reply` of the
    /// settings of its protocol, 20 s by default, the server ends the connection and its requests.
    /// With `None` the server sends no PING, and the requests of a client that has vanished last as
    /// long as their handlers wait. HTTP/1.1 has no PING; `idle` ends those connections. (60 s by
    /// default.)
    pub keep_alive: Option<Duration>,
    /// How long the server goes on as before after it was asked to stop, while `/readyz` and
    /// `/healthz` already return 503. Set it to the time that a load balancer or Kubernetes takes
    /// to notice. (Zero by default.)
    pub drain_delay: Duration,
    /// How long the shutdown waits for open connections before it closes them. It begins after
    /// `drain_delay`. A connection that has switched to another protocol is open until its handler
    /// drops the transport. (30 s by default.)
    pub drain: Duration,
    /// How long an HTTP/1.1 connection can be idle while the server drains, but no longer than half
    /// of `drain`. If it is used within this time, the response announces its end, and the client
    /// knows that the next request needs another connection. A request that a client sends in the
    /// instant in which its idle connection is closed would be lost. (5 s by default.)
    pub idle_close: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(180),
            write: Duration::from_secs(30),
            body: Some(Duration::from_secs(60)),
            keep_alive: Some(Duration::from_secs(60)),
            drain_delay: Duration::ZERO,
            drain: Duration::from_secs(30),
            idle_close: Duration::from_secs(5),
        }
    }
}

/// Far more than the file descriptors that most systems allow, and few enough that idle sessions
/// stay below 1 GiB.
const DEFAULT_MAX_CONNECTIONS: usize = 16_384;

/// What that many idle sessions hold whose peers have large compression windows, and some more for
/// busy ones.
const DEFAULT_MAX_SESSION_MEMORY: usize = 1 << 30;

/// Returns the time that lies this duration in the future.
pub(crate) fn after(time: Duration) -> Instant {
    Instant::now() + countable(time)
}

/// Returns a duration that a clock can count. A longer one becomes ten years.
pub(crate) fn countable(time: Duration) -> Duration {
    time.min(FAR_OFF)
}

/// Ten years.
const FAR_OFF: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
