//! What can be set, with the default of each.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use http::HeaderName;

use crate::Kubeconfig;

/// The configuration of a bastion.
#[derive(Debug)]
#[non_exhaustive]
pub struct Config {
    /// The API server, and the credentials for it.
    pub upstream: Kubeconfig,
    /// The address on which clients are served. The default is `127.0.0.1:6444`.
    pub listen: SocketAddr,
    /// How the connections of clients are protected. The default is a certificate that is made at
    /// start.
    pub security: Security,
    /// How clients prove who they are. By default a token that is made at start, and that
    /// [`Bastion::kubeconfig`](crate::Bastion::kubeconfig) contains.
    pub users: Users,
    /// The file with rules. Without one everything is allowed, and all commands are recorded.
    pub rules: Option<PathBuf>,
    /// The folder for recordings, which is created if it does not exist. The default is
    /// `recordings`.
    pub recordings: PathBuf,
    /// The file to which audit lines are added. `None`, which is the default, is standard output.
    pub audit: Option<PathBuf>,
    /// The socket on which live sessions can be listed and ended. By default there is no socket.
    pub socket: Option<PathBuf>,
    /// The address on which metrics are served over HTTP, at `/metrics`. By default they are not
    /// served.
    pub metrics: Option<SocketAddr>,
    /// Names of the bastion, besides loopback, that a page in a browser may have as its host.
    pub names: Vec<String>,
    /// The limits.
    pub limits: Limits,
}

impl Config {
    /// Creates a configuration with the defaults.
    #[must_use]
    pub fn new(upstream: Kubeconfig) -> Self {
        Self {
            upstream,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 6444)),
            security: Security::SelfSigned,
            users: Users::default(),
            rules: None,
            recordings: "recordings".into(),
            audit: None,
            socket: None,
            metrics: None,
            names: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// How the connections of clients are protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    /// TLS with a certificate that is made at start.
    SelfSigned,
    /// TLS with a certificate from files in PEM. They are loaded again when they change.
    Files {
        /// The certificate and its intermediates.
        chain: PathBuf,
        /// The key, without a passphrase.
        key: PathBuf,
    },
    /// No TLS. The address has to be on loopback.
    Plain,
}

/// How clients prove who they are. Several ways can be used together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// A file in PEM with the authorities of client certificates. `CN` is the name of the user, and
    /// each `O` a group.
    pub authorities: Option<PathBuf>,
    /// A file with a token in each line: `token,user,uid,"group,group"`, as for the API server. The
    /// uid is not used, and the groups can be left out.
    pub tokens: Option<PathBuf>,
    /// A field of requests from a proxy that has authenticated the user.
    pub header: Option<UserHeader>,
}

impl Users {
    /// Returns whether no way is set.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.authorities.is_none() && self.tokens.is_none() && self.header.is_none()
    }
}

/// The fields in which a proxy names the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserHeader {
    /// The field with the name of the user.
    pub user: HeaderName,
    /// The field with a group, which can be repeated.
    pub groups: Option<HeaderName>,
    /// The names (`CN`) of the client certificates of trusted proxies. A connection without TLS is
    /// trusted: only the proxy can be allowed to reach the address.
    pub proxies: Vec<String>,
}

/// The limits of a bastion.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// How many connections of clients are open at most. Others wait. The default is 4096.
    pub connections: usize,
    /// How many sessions with streams there are at most. Others are refused with 429. The default
    /// is 1000.
    pub sessions: usize,
    /// How long a TLS handshake may take. The default is 10 s.
    pub handshake: Duration,
    /// How long the head of a request may take over HTTP/1.1. The default is 30 s. A connection
    /// without a request is closed after the same time, over HTTP/2 too.
    pub head: Duration,
    /// How long a connection to the API server may take. The default is 10 s.
    pub connect: Duration,
    /// How long the API server may take to answer a request for streams, with the time for the
    /// connection: half of it for each of the two transports. Then the client gets 504, or what the
    /// API server has answered for the first one. The default is 60 s. Other requests have no
    /// limit: a program behind the API server can take any time, and a client that goes takes its
    /// request along.
    pub answer: Duration,
    /// How long a client may take nothing of what waits for it: over HTTP/1.1 any byte, also of
    /// streams, and over HTTP/2 a piece of a response. Then the connection ends, or the response.
    /// The default is 4 h, because a person may stop an output for that long.
    pub unread: Duration,
    /// How long clients may take to end at a shutdown, after their sessions were ended with a
    /// message. The default is 10 s.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            sessions: 1000,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(60),
            unread: Duration::from_secs(4 * 60 * 60),
            drain: Duration::from_secs(10),
        }
    }
}
