//! The streaming server of a container runtime.
//!
//! A kubelet asks a container runtime over gRPC for `Exec`, `Attach` or `PortForward`. The runtime
//! answers with a URL, and the kubelet or the API server sends its client there. [`Server`] makes
//! these URLs, and serves them. The gRPC service and the containers belong to the program, which
//! implements [`Runtime`]:
//!
//! ```no_run
//! use std::{io, process::Stdio};
//!
//! use axum::Router;
//! use spdy_kube::{
//!     BoxError, Exit, Io, Streams,
//!     cri::{Attach, Exec, Runtime, Server},
//! };
//! use tokio::net::{TcpListener, TcpStream};
//!
//! struct Processes;
//!
//! impl Runtime for Processes {
//!     type Connection = TcpStream;
//!
//!     async fn exec(&self, exec: Exec, mut io: Io) -> Result<Exit, BoxError> {
//!         let mut child = tokio::process::Command::new(&exec.command[0])
//!             .args(&exec.command[1..])
//!             .stdin(Stdio::piped())
//!             .stdout(Stdio::piped())
//!             .stderr(Stdio::piped())
//!             .kill_on_drop(true)
//!             .spawn()?;
//!         let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
//!         let stderr = child.stderr.take();
//!         Ok(io.run(stdin, stdout, stderr, child.wait()).await?.into())
//!     }
//!
//!     async fn attach(&self, attach: Attach, _io: Io) -> Result<(), BoxError> {
//!         Err(format!("{} has no process to attach to", attach.container).into())
//!     }
//!
//!     async fn port_forward(&self, _sandbox: &str, port: u16) -> Result<TcpStream, BoxError> {
//!         Ok(TcpStream::connect(("127.0.0.1", port)).await?)
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), BoxError> {
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     let server = Server::new(Processes, &format!("http://{}", listener.local_addr()?))?;
//!     // What `Exec` over gRPC does:
//!     let url = server.prepare_exec(Exec {
//!         container: "c0ffee".to_owned(),
//!         command: vec!["date".to_owned()],
//!         streams: Streams { stdout: true, ..Streams::default() },
//!     })?;
//!     println!("{url}");
//!     axum::serve(listener, Router::new().fallback_service(server)).await?;
//!     Ok(())
//! }
//! ```
//!
//! TLS belongs to the listener. Offer only `http/1.1` in ALPN, because HTTP/2 has no upgrade.
//!
//! # What you can rely on
//!
//! - A URL works once, for a minute. An unknown, used or expired one is answered with 404.
//! - A request that CRI forbids gets no URL, and an error that can be matched: [`PrepareError`].
//! - Each session that has begun is reported exactly once, by [`Server::on_end`].
//! - After [`Server::shutdown`] no session is left, and no new one can begin.

mod request;
mod routes;
mod runtime;

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Response, Uri};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use spdy_tower::Http1Io;
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

use self::{request::Prepared, routes::Route};
pub use self::{
    request::{Attach, Exec, PortForward, PrepareError, Request},
    runtime::Runtime,
};
pub use crate::server::{Ended, Over};
use crate::{
    Explained, Status, Tokens,
    server::{Rules, Session, Sessions, shutting_down},
};

/// The streaming server of a container runtime: hands out URLs, and serves them.
///
/// It is a tower service of HTTP requests, so that any server on hyper can run it, for example as
/// `fallback_service` of an axum `Router`. Or call [`answer`](Self::answer).
///
/// It is cheap to clone. Clones share the URLs and the sessions.
pub struct Server<R> {
    runtime: Arc<R>,
    /// Without a slash at the end.
    base: Arc<str>,
    tokens: Arc<Tokens<Prepared>>,
    sessions: Arc<Sessions>,
    streams: crate::Server,
    idle: Option<Duration>,
    counts_pings: bool,
    on_end: OnEnd,
}

type OnEnd = Arc<dyn Fn(&Request, Ended) + Send + Sync>;

impl<R: Runtime> Server<R> {
    /// Creates a server. `base` is the URL at which clients reach it, such as
    /// `https://10.0.0.7:10010`; with a path, the program has to strip that path from requests.
    ///
    /// # Errors
    ///
    /// [`InvalidBase`], unless it is an absolute URL of `http` or `https` without a query.
    pub fn new(runtime: R, base: &str) -> Result<Self, InvalidBase> {
        let uri: Uri = base.parse().map_err(|_| InvalidBase)?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        if !is_http || !has_host(&uri) || uri.query().is_some() || base.contains('#') {
            return Err(InvalidBase);
        }
        Ok(Self {
            runtime: Arc::new(runtime),
            base: base.trim_end_matches('/').into(),
            tokens: Arc::default(),
            sessions: Sessions::new(),
            streams: crate::Server::new(),
            idle: Some(IDLE),
            counts_pings: true,
            on_end: Arc::new(|_, _| {}),
        })
    }

    /// Sets how the streams are served: grace, probes, drain, counters and the configuration of
    /// the sessions. `timeouts.idle` of that configuration has no effect here: see
    /// [`idle`](Self::idle).
    #[must_use]
    pub fn streams(mut self, streams: crate::Server) -> Self {
        self.streams = streams;
        self
    }

    /// Sets how long a URL works, and how many can wait. The default is a minute and
    /// [`MAX_WAITING`](crate::MAX_WAITING). URLs that were handed out before are void.
    #[must_use]
    pub fn waiting(mut self, lifetime: Duration, max_waiting: usize) -> Self {
        self.tokens = Arc::new(Tokens::with_limits(lifetime, max_waiting));
        self
    }

    /// Sets how long a session can be idle. The default is 4 h, as in the servers of Kubernetes,
    /// and `None` means for ever. Then the client gets a failure with the reason `Timeout`, and the
    /// command is dropped.
    #[must_use]
    pub const fn idle(mut self, time: Option<Duration>) -> Self {
        self.idle = time;
        self
    }

    /// Sets whether everything that a client sends is a use of its session, as in the servers of
    /// Kubernetes, which is the default. kubectl sends PINGs, so its sessions are never idle then.
    /// Over WebSocket the answers to PINGs of this server do not count.
    ///
    /// With `false`, only bytes of inputs, outputs and forwarded connections are. With `true`, a
    /// client that sends PINGs and reads nothing is limited by `timeouts.write` of the sessions'
    /// configuration alone, which is 4 h.
    #[must_use]
    pub const fn pings_count(mut self, count: bool) -> Self {
        self.counts_pings = count;
        self
    }

    /// Sets a function that is called once at the end of each session that has begun, with the
    /// request and with what is known of it. A request whose upgrade is refused begins no session.
    ///
    /// It is called in a task of the runtime, so it should return soon.
    #[must_use]
    pub fn on_end(mut self, on_end: impl Fn(&Request, Ended) + Send + Sync + 'static) -> Self {
        self.on_end = Arc::new(on_end);
        self
    }

    /// Returns the URL for an exec.
    ///
    /// # Errors
    ///
    /// [`PrepareError`], if CRI forbids the request, too many URLs wait, or the server is shutting
    /// down.
    pub fn prepare_exec(&self, exec: Exec) -> Result<String, PrepareError> {
        self.prepare(Request::Exec(exec))
    }

    /// Returns the URL for an attach.
    ///
    /// # Errors
    ///
    /// As [`prepare_exec`](Self::prepare_exec).
    pub fn prepare_attach(&self, attach: Attach) -> Result<String, PrepareError> {
        self.prepare(Request::Attach(attach))
    }

    /// Returns the URL for a port-forward.
    ///
    /// # Errors
    ///
    /// As [`prepare_exec`](Self::prepare_exec).
    pub fn prepare_port_forward(&self, forward: PortForward) -> Result<String, PrepareError> {
        self.prepare(Request::PortForward(forward))
    }

    fn prepare(&self, request: Request) -> Result<String, PrepareError> {
        if self.sessions.is_closed() {
            return Err(PrepareError::ShuttingDown);
        }
        let prepared = Prepared::new(request)?;
        let route = Route::of(&prepared.request).name();
        let token = self.tokens.insert(prepared)?;
        Ok(format!("{}/{route}/{token}", self.base))
    }

    /// Answers a request to a URL of this server. Others are answered with 404, and methods other
    /// than GET and POST with 405.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn answer<B>(&self, request: &mut http::Request<B>) -> Response<String> {
        let (route, token) = match routes::find(request.method(), request.uri().path()) {
            Ok(found) => found,
            Err(refusal) => return refusal.into_response(),
        };
        let prepared = self.tokens.take(token);
        match prepared.filter(|prepared| Route::of(&prepared.request) == route) {
            Some(_) if self.sessions.is_closed() => shutting_down().into_response(),
            Some(prepared) => self.serve(request, prepared),
            None => Status::not_found("no such URL, or it was used or has expired").into_response(),
        }
    }

    /// Serves a connection over HTTP/1.1 until it ends. A session goes on in tasks of its own.
    ///
    /// A listener can call it for each connection, instead of an HTTP server around this service. A
    /// head that is too long is answered as [`Explained`] describes. The head of a request, and a
    /// connection without a request, have 30 s. If the future is dropped, the connection ends,
    /// unless a session has begun on it.
    ///
    /// # Errors
    ///
    /// The connection was broken, or the client did not send HTTP/1.1 in time.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime with a timer.
    pub async fn serve_connection<IO>(&self, io: IO) -> hyper::Result<()>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let answer = |mut request| ready(Ok::<_, Infallible>(self.answer(&mut request)));
        let io = TokioIo::new(Http1Io::new(Explained::new(io)));
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(io, service_fn(answer))
            .with_upgrades()
            .await
    }

    fn serve<B>(&self, request: &mut http::Request<B>, prepared: Prepared) -> Response<String> {
        let session = self.session(prepared.request.clone());
        let streams = self.streams.clone().of_session(session);
        let runtime = Arc::clone(&self.runtime);
        match prepared.request {
            Request::Exec(exec) => streams.exec(request, exec.streams, |io| async move {
                runtime.exec(exec, io).await
            }),
            Request::Attach(attach) => streams.attach(request, attach.streams, |io| async move {
                runtime.attach(attach, io).await
            }),
            Request::PortForward(PortForward { sandbox, .. }) => {
                let streams = match prepared.ports {
                    Some(ports) => streams.ports(ports),
                    None => streams,
                };
                let target = Arc::new((runtime, sandbox.clone()));
                streams.port_forward(request, sandbox, move |port| {
                    let target = Arc::clone(&target);
                    async move { target.0.port_forward(&target.1, port).await }
                })
            }
        }
    }

    fn session(&self, request: Request) -> Session {
        let on_end = Arc::clone(&self.on_end);
        Session::new(Rules {
            sessions: Arc::clone(&self.sessions),
            idle: self.idle,
            counts_pings: self.counts_pings,
            on_end: Box::new(move |ended| on_end(&request, ended)),
        })
    }
}

impl<R> Server<R> {
    /// Returns the number of running sessions.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.count()
    }

    /// Ends all sessions, and lets no further one begin: requests for URLs fail, and URLs that were
    /// handed out are answered with 503.
    ///
    /// Each client of a command gets a failure with the message `reason`, and its command is
    /// dropped. So does each client of a forwarded connection, and its connection is dropped; a
    /// session that has no connection at the moment can only be closed. Waits until every session
    /// has ended. After `wait`, breaks off those that are left, whose clients do not read, and
    /// returns how many they were.
    ///
    /// If the future is dropped, the clients get the failure nevertheless, and no session is broken
    /// off.
    /// Further calls wait for the same end, and the first reason stays.
    pub async fn shutdown(&self, reason: impl Into<String>, wait: Duration) -> usize {
        self.sessions.end(Status::unavailable(reason), wait).await
    }
}

impl<R> Clone for Server<R> {
    fn clone(&self) -> Self {
        Self {
            runtime: Arc::clone(&self.runtime),
            base: Arc::clone(&self.base),
            tokens: Arc::clone(&self.tokens),
            sessions: Arc::clone(&self.sessions),
            streams: self.streams.clone(),
            idle: self.idle,
            counts_pings: self.counts_pings,
            on_end: Arc::clone(&self.on_end),
        }
    }
}

impl<R> fmt::Debug for Server<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("base", &self.base)
            .field("tokens", &self.tokens)
            .field("sessions", &self.sessions())
            .finish_non_exhaustive()
    }
}

impl<R: Runtime, B> Service<http::Request<B>> for Server<R> {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        ready(Ok(self.answer(&mut request)))
    }
}

/// Returns whether a URL names a host, and a port that can exist or none.
fn has_host(uri: &Uri) -> bool {
    let authority = uri.authority();
    authority.is_some_and(|authority| {
        let has_port = !authority.as_str().ends_with(authority.host());
        !authority.host().is_empty() && (!has_port || authority.port_u16().is_some())
    })
}

/// The error for a base URL that cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidBase;

impl fmt::Display for InvalidBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base is not an absolute URL of http or https without a query")
    }
}

impl std::error::Error for InvalidBase {}

/// As in the servers of Kubernetes.
const IDLE: Duration = Duration::from_secs(4 * 60 * 60);

/// How long a head may take, and a connection without a request.
const HEAD: Duration = Duration::from_secs(30);
