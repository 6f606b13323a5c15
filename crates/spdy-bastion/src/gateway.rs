//! What happens to each request: who sends it, what it asks for, and whether it passes.
//!
//! ```text
//! request ─► origin ─► user ─► target ─┬─ streams ─► rules ─► recording ─► relay
//!                                      └─ plain ───────────────────────► API server
//! ```
//!
//! Only the relay ever asks the API server for an upgrade. So no spelling of a plain request can
//! lead to streams.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{HOST, UPGRADE},
    uri::Authority,
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use rustls::ServerConfig;
use spdy_kube::{Origins, Status};
use tokio::sync::watch;

use crate::{
    Limits,
    audit::{Audit, LONGEST, Line, cut, shortened},
    cut::Cut,
    headers::{asks_to_impersonate, asks_to_upgrade},
    live::Sessions,
    metrics::{Metrics, Reason},
    refusal::{forbidden, refusal},
    refused::Refused,
    rules::Rules,
    session::fields_of,
    swap::Swap,
    target::Target,
    unread,
    upstream::{Body, Upstream},
    users::{Authenticator, Credentials, Identity},
};

/// Everything that requests share.
pub(crate) struct Gateway {
    pub(crate) upstream: Swap<Upstream>,
    /// `None` if connections have no TLS.
    pub(crate) tls: Option<Swap<ServerConfig>>,
    pub(crate) users: Swap<Authenticator>,
    pub(crate) rules: Swap<Rules>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) audit: Audit,
    pub(crate) refused: Refused,
    pub(crate) metrics: Metrics,
    pub(crate) recordings: PathBuf,
    pub(crate) origins: Origins,
    /// The names that `Host` can have, besides loopback. `None` means that it does not matter,
    /// because requests need credentials.
    pub(crate) hosts: Option<Vec<String>>,
    pub(crate) limits: Limits,
}

/// A connection of a client.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) credentials: Credentials,
    /// Cuts the connection. Over HTTP/2 it does nothing: there are no sessions.
    pub(crate) cut: Cut,
    /// True when credentials were refused. Then the connection ends after the response: otherwise a
    /// client without credentials could hold all connections, with a request now and then.
    pub(crate) refused: watch::Sender<bool>,
}

impl Peer {
    pub(crate) fn new(address: SocketAddr, credentials: Credentials) -> Self {
        Self {
            address,
            credentials,
            cut: Cut::new(),
            refused: watch::Sender::new(false),
        }
    }
}

/// A user on a connection.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) user: Identity,
    pub(crate) address: SocketAddr,
    pub(crate) cut: Cut,
}

impl Caller {
    /// Returns the fields of an audit line that say who it is.
    pub(crate) fn fields(&self) -> Line {
        let mut line = Line::new();
        line.insert("user".into(), self.user.name.as_str().into());
        line.insert("groups".into(), self.user.groups.clone().into());
        line.insert("by".into(), self.user.by.name().into());
        line.insert("from".into(), self.address.to_string().into());
        line
    }
}

impl Gateway {
    /// Returns the configuration of TLS for a new connection.
    pub(crate) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.as_ref().map(Swap::get)
    }

    /// Replaces the configuration of TLS. Open connections keep theirs.
    pub(crate) fn set_tls(&self, loaded: Option<Arc<ServerConfig>>) {
        if let (Some(tls), Some(loaded)) = (&self.tls, loaded) {
            tls.set(loaded);
        }
    }

    /// Answers a request.
    pub(crate) async fn answer(
        self: Arc<Self>,
        peer: Arc<Peer>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        match self.judge(&peer, &request).await {
            Ok((caller, Target::Plain)) => self.pass(&caller, request).await,
            Ok((caller, Target::Streams(verb, pod))) => {
                whole(self.stream(caller, verb, pod, request).await)
            }
            Err(refusal) => whole(refusal.into_response()),
        }
    }

    /// Returns who sends a request, and what it asks for.
    async fn judge(
        &self,
        peer: &Peer,
        request: &Request<Incoming>,
    ) -> Result<(Caller, Target), Status> {
        let user = match self.identify(peer, request) {
            Ok(user) => user,
            Err((reason, refusal)) => {
                return Err(self.turn_away(peer, request, reason, refusal).await);
            }
        };
        let caller = Caller {
            user,
            address: peer.address,
            cut: peer.cut.clone(),
        };
        match read(request) {
            Ok(target) => Ok((caller, target)),
            Err(why) => {
                let line = fields_of(&caller, request);
                let denied = self.deny(line, request, Reason::Unknown, why);
                Err(denied.await)
            }
        }
    }

    /// Returns who sends a request, or why it has no user.
    fn identify(
        &self,
        peer: &Peer,
        request: &Request<Incoming>,
    ) -> Result<Identity, (Reason, Status)> {
        let origin = |refusal| (Reason::Origin, refusal);
        self.origins.check(request).map_err(origin)?;
        if !self.is_own_host(request.headers()) {
            let message = "`Host` is not a name of this bastion";
            return Err(origin(forbidden(message)));
        }
        let user = self.users.get().user(&peer.credentials, request.headers());
        user.map_err(|why| {
            peer.refused.send_replace(true);
            let refusal = refusal(StatusCode::UNAUTHORIZED, why.to_string());
            (Reason::Credentials, refusal)
        })
    }

    /// Refuses a request that has no user, with an audit line unless there are too many.
    async fn turn_away<B>(
        &self,
        peer: &Peer,
        request: &Request<B>,
        reason: Reason,
        refusal: Status,
    ) -> Status {
        let why = refusal.to_string();
        tracing::debug!(from = %peer.address, %why, "request has no user");
        // Over HTTP/2 everyone could hold connections with responses that stay unread.
        unread::set_limit(self.limits.head);
        let mut line = Line::new();
        line.insert("from".into(), peer.address.to_string().into());
        describe(&mut line, request, SHORT);
        line.insert("kind".into(), reason.name().into());
        line.insert("reason".into(), why.into());
        self.refused.note(line).await;
        self.refuse(reason, refusal)
    }

    /// Returns whether the host of a request is one of the bastion. A page whose name resolves to
    /// loopback has another one.
    fn is_own_host(&self, headers: &HeaderMap) -> bool {
        let Some(names) = &self.hosts else {
            return true;
        };
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let authority: Option<Authority> = host.and_then(|host| host.parse().ok());
        authority.is_some_and(|authority| {
            let host = authority
                .host()
                .trim_start_matches('[')
                .trim_end_matches(']');
            let address = host.parse::<std::net::IpAddr>();
            host.eq_ignore_ascii_case("localhost")
                || address.is_ok_and(|address| address.is_loopback())
                || names.iter().any(|name| name.eq_ignore_ascii_case(host))
        })
    }

    fn refuse(&self, reason: Reason, refusal: Status) -> Status {
        self.metrics.denied(reason);
        refusal
    }

    /// Denies a request, with an audit line that also has the fields of `line`.
    pub(crate) async fn deny<B>(
        &self,
        mut line: Line,
        request: &Request<B>,
        reason: Reason,
        why: String,
    ) -> Status {
        describe(&mut line, request, LONGEST);
        line.insert("kind".into(), reason.name().into());
        line.insert("reason".into(), why.as_str().into());
        self.audit.note("denied", line).await;
        self.refuse(reason, forbidden(why))
    }
}

/// Adds the method and the path of a request, or the host and port of a tunnel, each of at most
/// `longest` bytes. The query and the user of an authority are left out, because they can have
/// credentials.
fn describe<B>(line: &mut Line, request: &Request<B>, longest: usize) {
    let method = cut(request.method().as_str(), longest);
    line.insert("method".into(), method.into());
    let uri = request.uri();
    let tunnel = uri
        .authority()
        .filter(|_| request.method() == Method::CONNECT);
    let target = match tunnel {
        Some(to) => {
            let port = to.port().map(|port| format!(":{port}"));
            cut(&(to.host().to_owned() + &port.unwrap_or_default()), longest)
        }
        None => cut(uri.path(), longest),
    };
    line.insert("target".into(), target.into());
}

/// The longest text of a client that has no user in an audit line, in bytes.
const SHORT: usize = 256;

/// Returns what a request asks for, or why it is denied.
fn read<B>(request: &Request<B>) -> Result<Target, String> {
    let headers = request.headers();
    if asks_to_impersonate(headers) {
        return Err("users of this bastion cannot act as other users".to_owned());
    }
    if request.method() == Method::CONNECT {
        return Err("this bastion has no tunnels".to_owned());
    }
    let target = Target::of(request.uri().path()).map_err(|denied| denied.to_string())?;
    if target == Target::Plain && asks_to_upgrade(headers) {
        let protocol = headers
            .get(UPGRADE)
            .map(|name| String::from_utf8_lossy(name.as_bytes()));
        let protocol = shortened(&protocol.unwrap_or_default());
        return Err(format!("this path cannot be upgraded to {protocol:?}"));
    }
    Ok(target)
}

/// Returns a response whose body is there.
pub(crate) fn whole(response: Response<String>) -> Response<Body> {
    response.map(|text| {
        let body = Full::new(Bytes::from(text));
        body.map_err(|never| match never {}).boxed_unsync()
    })
}
