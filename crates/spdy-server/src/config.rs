//! What a server needs to know before it starts.

mod bind;

use std::{num::NonZeroU16, path::PathBuf, time::Duration};

use tokio::time::Instant;

pub use self::bind::{Address, AddressError, Bind, Endpoint, Transport};
use crate::negotiate::PlainVersion;

/// The configuration of a [`Server`](crate::Server).
///
/// Its default listens for TLS on port 8443 of both loopback addresses, with a self-signed certificate. Everything that
/// is off by default costs nothing while it is off.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen. Several sockets of both kinds may stand side by side.
    pub binds: Vec<Bind>,
    /// Whether other processes may listen on the same addresses at the same time, each served a share of the
    /// connections. For restarts: the new process starts before the old one ends. (Off by default.)
    pub reuse_port: bool,
    /// Whether every connection begins with a header of the PROXY protocol, version 1 or 2, which says who the client
    /// is. To be turned on behind a proxy that sends it, and only there: clients could claim to be anybody. (Off by
    /// default.)
    pub proxy_protocol: bool,
    /// What TLS listeners show to clients. Read only when there is one.
    pub certificate: Certificate,
    /// How often the files of the certificate are looked at. When they have changed, connections from then on see the
    /// new certificate.
    pub certificate_check: Duration,
    /// What version field 3 of SPDY stands for on plaintext listeners.
    pub plain_version: PlainVersion,
    /// The port to name in an `Alternate-Protocol` field of HTTP/1 responses: where SPDY is spoken over TLS.
    pub advertise: Option<NonZeroU16>,
    /// Where to write a line for each request.
    pub access_log: Option<AccessLog>,
    /// Where to answer `/metrics` in the text format of Prometheus, and `/healthz`. In plain text. Needs the feature
    /// `metrics`.
    pub metrics: Option<Address>,
    /// How many connections may be open at once, over all listeners. More of them wait in the system's queue.
    pub max_connections: usize,
    /// How many bytes all SPDY sessions may hold together. While they hold as many or more, new connections are closed
    /// at once: those that are there go on, each within its own bound.
    pub max_session_memory: usize,
    /// How long peers may take.
    pub timeouts: Timeouts,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            binds: Bind::localhost(),
            reuse_port: false,
            proxy_protocol: false,
            certificate: Certificate::SelfSigned,
            certificate_check: Duration::from_secs(5),
            plain_version: PlainVersion::default(),
            advertise: None,
            access_log: None,
            metrics: None,
            max_connections: DEFAULT_MAX_CONNECTIONS,
            max_session_memory: DEFAULT_MAX_SESSION_MEMORY,
            timeouts: Timeouts::default(),
        }
    }
}

impl Config {
    /// The same for listeners that clients reach directly.
    pub(crate) fn without_proxy(&self) -> Self {
        Self {
            proxy_protocol: false,
            ..self.clone()
        }
    }
}

/// Where a certificate and its key come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Certificate {
    /// Made at start for `localhost`, `127.0.0.1` and `::1`, and gone with the process. Needs the feature `self-signed`.
    #[default]
    SelfSigned,
    /// Read from PEM files at start, and again when they have changed.
    Files {
        /// The certificate, followed by its intermediates if any.
        chain: PathBuf,
        /// The private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
        key: PathBuf,
    },
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// To standard output.
    Stdout,
    /// To the end of a file, which is made if there is none.
    File(PathBuf),
}

/// How long peers may take. A server without such limits is held by whoever connects and says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the accepted connection to the end of the TLS handshake, or to the first octets in plain text.
    pub handshake: Duration,
    /// How long an HTTP/1 or HTTP/2 connection may rest without an octet in either direction. It ends after one to
    /// two times this. (SPDY sessions have timeouts of their own.) An HTTP/2 connection that has had no request
    /// for so long is asked to finish, in the same time, whatever else comes.
    pub idle: Duration,
    /// How long a client may take nothing of what it is sent. Over HTTP/1 the connection ends then, over HTTP/2 and SPDY
    /// the answer, or the connection when its transport takes nothing: it is the `write` and the `blocked` of
    /// [`spdy_tower::session::Timeouts`]. (30 s by default.)
    ///
    /// An HTTP/2 client that takes a little of some answer is waited for, up to ten times as long.
    ///
    /// It holds for what follows an Upgrade of HTTP/1.1, too, such as WebSocket or a shell of `spdy-kube`, and so does
    /// [`idle`](Self::idle). A server of shells whose users may hold up the output sets it to hours.
    pub write: Duration,
    /// How long an application that waits for the body of a request waits for the next byte of it. Then the request
    /// ends with 408, or with a reset once its answer has begun: in every protocol, whatever the application makes of
    /// it. What follows CONNECT or Upgrade is no body and has no such limit. `None` waits for ever. (60 s by default.)
    pub body: Option<Duration>,
    /// A SPDY client, or an HTTP/2 client with open requests, that has said nothing for so long is asked for a sign of
    /// life by PING. Without an answer within 20 s it is gone, and its requests end. `None` never asks: then requests
    /// of a client that vanishes are kept for as long as their handlers wait. HTTP/1.1 has no such question; `idle`
    /// ends those connections. (60 s by default.)
    pub keep_alive: Option<Duration>,
    /// From the request to end to the moment when connections that still work are cut.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(180),
            write: Duration::from_secs(30),
            body: Some(Duration::from_secs(60)),
            keep_alive: Some(Duration::from_secs(60)),
            drain: Duration::from_secs(30),
        }
    }
}

/// Far more than the file descriptors most systems allow, and few enough that idle sessions stay below 1 GiB.
const DEFAULT_MAX_CONNECTIONS: usize = 16_384;

/// What as many sessions at rest hold whose peers have large compression windows, and some for those that work.
const DEFAULT_MAX_SESSION_MEMORY: usize = 1 << 30;

/// The moment after this time from now on.
pub(crate) fn after(time: Duration) -> Instant {
    Instant::now() + countable(time)
}

/// A time that a clock can count. What is set may be longer: then it is far off.
pub(crate) fn countable(time: Duration) -> Duration {
    time.min(FAR_OFF)
}

/// Ten years.
const FAR_OFF: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
