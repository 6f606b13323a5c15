//! Serving HTTP on one connection.

mod answer;
mod exchange;
mod failure;
mod pump;

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Method, Request, Response};
use pin_project_lite::pin_project;
use spdy_frame::{Priority, RstStatus, StreamId, Version};
use spdy_session::{
    Config, Driver, Incoming, Limits, OversizedHeaders, PendingStream, Session, SessionError,
    Shutdown, Timeouts,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
};
use tower::Service;
use tracing::debug;

use self::exchange::Exchange;
pub(crate) use self::{answer::Answer, failure::Failure, pump::Pump};
use crate::{
    Body,
    fields::ConnectionFields,
    malformed::{MalformedRequest, OnMalformed},
    push::Pushes,
    request::{Head, Heads},
    tunnel::TunnelDue,
};

/// What a service may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What can be served: every cloneable [`tower::Service`] from `http::Request<Body>` to `http::Response`,
/// `axum::Router` among them. There is nothing to implement, it holds by itself.
///
/// Each request gets a clone of the service and waits for its readiness alone.
pub trait HttpService:
    Service<
        Request<Body>,
        Response = Response<Self::ResponseBody>,
        Error: Into<BoxError>,
        Future: Send,
    > + Clone
    + Send
    + 'static
{
    /// The body of the service's responses.
    type ResponseBody: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static;
}

impl<S, B> HttpService for S
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type ResponseBody = B;
}

/// Which stream a request came on. Every request has it among its extensions.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StreamInfo {
    /// The version of the session.
    pub version: Version,
    /// The id of the stream: odd, rising within the session, not always by two.
    pub id: StreamId,
    /// How urgent the client says the response is. The session heeds it by itself.
    pub priority: Priority,
    pub(crate) pushes: Pushes,
}

/// How connections are served. One builder can serve any number of them.
#[derive(Clone, Debug)]
pub struct Builder {
    config: Arc<Config>,
    on_malformed: OnMalformed,
}

impl Builder {
    /// A builder with the default configuration of a session.
    #[must_use]
    pub fn new() -> Self {
        Self {
            config: Arc::default(),
            on_malformed: OnMalformed::default(),
        }
        .config(Config::default())
    }

    /// Sets everything about the session, bounds and times included. Only
    /// [`Config::oversized_headers`] stays what it is: a request head over a soft limit is answered with 431.
    ///
    /// [`Config::strict`] also makes requests with the fields of an HTTP/1.1 connection (`connection`,
    /// `keep-alive`, `proxy-connection`, `transfer-encoding`, `upgrade`) malformed: 400. Otherwise they are
    /// dropped.
    #[must_use]
    pub fn config(mut self, mut config: Config) -> Self {
        config.oversized_headers = OversizedHeaders::Deliver;
        self.config = Arc::new(config);
        self
    }

    /// Sets the bounds on sizes and counts.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        Arc::make_mut(&mut self.config).limits = limits;
        self
    }

    /// Sets the bounds on time.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        Arc::make_mut(&mut self.config).timeouts = timeouts;
        self
    }

    /// Has `told` called for each request that is answered without the service, since its head is not one of HTTP: for
    /// logs and metrics. It runs on the connection's task and must not wait.
    ///
    /// The body of a request is not looked at here: when that is malformed, the service has the request already.
    #[must_use]
    pub fn on_malformed(
        mut self,
        told: impl Fn(&MalformedRequest<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.on_malformed = OnMalformed::new(told);
        self
    }

    /// Serves SPDY on a transport. The version is what was negotiated, or what the operator knows of the peer.
    ///
    /// Nothing happens until the connection is polled. Handlers that have their response ready when they are
    /// polled first are answered on the connection's own task, others get tasks of their own.
    pub fn serve_connection<IO, S>(&self, io: IO, version: Version, service: S) -> Connection<IO, S>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
        S: HttpService,
    {
        let (session, incoming, driver) =
            spdy_session::server(io, version, Arc::clone(&self.config));
        let connection_fields = if self.config.strict {
            ConnectionFields::Refuse
        } else {
            ConnectionFields::Drop
        };
        let requests = Requests {
            pushes: Pushes::new(session.clone()),
            session,
            service,
            heads: Heads::new(version, connection_fields),
            on_malformed: self.on_malformed.clone(),
            tasks: JoinSet::new(),
        };
        Connection {
            driver,
            incoming,
            requests,
        }
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

pin_project! {
    /// A session that is served. It is a future, and has to be polled for anything to happen; within a tokio
    /// runtime.
    ///
    /// It ends with `Ok` when the session has ended in order, by either side: also when the client just closes the
    /// transport with no stream open.
    ///
    /// Dropping it drops the transport and every handler that is under way: no task outlives it.
    #[must_use = "a connection does nothing unless it is polled"]
    pub struct Connection<IO, S> {
        #[pin]
        driver: Driver<IO>,
        incoming: Incoming,
        requests: Requests<S>,
    }
}

impl<IO, S> Connection<IO, S> {
    /// Takes no new requests, and ends when those that are under way have been answered (protocol.md §15).
    /// Keep polling; how long to wait is the caller's to decide. Calling it again changes nothing.
    pub fn graceful_shutdown(self: Pin<&mut Self>) {
        self.project()
            .requests
            .session
            .shutdown(Shutdown::Graceful { deadline: None });
    }
}

impl<IO, S> Future for Connection<IO, S>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    S: HttpService,
{
    type Output = Result<(), SessionError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (incoming, requests) = (this.incoming, this.requests);
        // Requests that are answered at once are answered between reading and writing.
        this.driver
            .get_mut()
            .poll_around(cx, |cx| requests.begin(incoming, cx))
    }
}

impl<IO, S> fmt::Debug for Connection<IO, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("requests", &self.requests)
            .finish_non_exhaustive()
    }
}

/// What all requests of a session share, and the tasks of those that take their time.
struct Requests<S> {
    session: Session,
    pushes: Pushes,
    service: S,
    heads: Heads,
    on_malformed: OnMalformed,
    tasks: JoinSet<()>,
}

impl<S: HttpService> Requests<S> {
    /// Begins the requests that have come, and the pushes that handlers have asked for. Says whether there may be
    /// more: only so many are begun at once.
    fn begin(&mut self, incoming: &mut Incoming, cx: &mut Context<'_>) -> bool {
        while let Poll::Ready(Some(_)) = self.tasks.poll_join_next(cx) {}
        let more = self.begin_requests(incoming, cx);
        for push in self.pushes.take() {
            self.tasks.spawn(push);
        }
        more
    }

    fn begin_requests(&mut self, incoming: &mut Incoming, cx: &mut Context<'_>) -> bool {
        // Where requests are answered at once, one place in memory serves them all.
        let mut place: Option<Pin<Box<Exchange<S>>>> = None;
        for _ in 0..REQUESTS_PER_TURN {
            let Ok(stream) = incoming.try_accept() else {
                return false;
            };
            let Some(exchange) = self.exchange(stream) else {
                continue;
            };
            let mut exchange = match place.take() {
                None => Box::pin(exchange),
                Some(mut place) => {
                    place.set(exchange);
                    place
                }
            };
            match exchange.as_mut().poll(cx) {
                Poll::Ready(()) => place = Some(exchange),
                Poll::Pending => {
                    self.tasks.spawn(exchange);
                }
            }
        }
        true
    }

    /// Makes a request of a stream. What is no request is answered here: `None`.
    fn exchange(&mut self, stream: PendingStream) -> Option<Exchange<S>> {
        let (id, version) = (stream.id(), self.session.version());
        if stream.is_unidirectional() || stream.associated().is_some() {
            debug!(%id, "stream of a client is no request");
            stream.refuse(RstStatus::PROTOCOL_ERROR);
            return None;
        }
        let head = self.heads.read(stream.headers(), stream.has_body());
        if let Err(malformed) = head {
            debug!(%id, %malformed, "request is malformed");
            self.on_malformed.tell(&stream, version, malformed);
        }
        let (has_body, priority) = (stream.has_body(), stream.priority());
        let (receive, reply) = stream.split();
        let mut answer = Answer::Due(reply);
        let Head {
            request,
            content_length,
        } = match head {
            Ok(head) => head,
            Err(malformed) => {
                answer.fail(version, malformed.status(), RstStatus::PROTOCOL_ERROR);
                return None;
            }
        };
        let mut request = request.map(|()| Body::empty());
        let (mut fault, mut tunnel) = (None, None);
        if request.method() == Method::CONNECT {
            tunnel = Some(TunnelDue::offer(receive, request.extensions_mut()));
        } else if has_body {
            let (body, notice) = Body::request(receive, content_length);
            *request.body_mut() = body;
            fault = Some(notice);
        }
        request.extensions_mut().insert(StreamInfo {
            version,
            id,
            priority,
            pushes: self.pushes.clone(),
        });
        Some(Exchange::new(
            self.service.clone(),
            request,
            answer,
            version,
            fault,
            tunnel,
        ))
    }
}

impl<S> fmt::Debug for Requests<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests")
            .field("tasks", &self.tasks.len())
            .finish_non_exhaustive()
    }
}

/// Requests that are begun before the session reads and writes again, and other tasks get their turn.
const REQUESTS_PER_TURN: usize = 32;
