//! Serving HTTP on one connection.

mod exchange;
mod info;
mod malformed;
mod push;
mod pushes;
mod requests;
mod service;

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use spdy_frame::Version;
use spdy_session::{Config, Driver, Incoming, OversizedHeaders, SessionError};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Handle,
};

pub use self::{
    info::StreamInfo,
    malformed::MalformedRequest,
    push::{PushError, Pusher},
    service::HttpService,
};
use self::{malformed::OnMalformed, requests::Requests};
use crate::{
    http::{ConnectionFields, Heads, ResponseForm},
    patience::Patience,
};

/// How connections are served. One builder can serve any number of them.
#[derive(Clone, Debug)]
pub struct Builder {
    config: Arc<Config>,
    on_malformed: OnMalformed,
    body_timeout: Option<Duration>,
    timers: Option<Handle>,
    adds_date: bool,
}

impl Builder {
    /// A builder with the default configuration of a session.
    #[must_use]
    pub fn new() -> Self {
        Self {
            config: Arc::default(),
            on_malformed: OnMalformed::default(),
            body_timeout: Some(BODY_TIMEOUT),
            timers: None,
            adds_date: true,
        }
        .config(Config::default())
    }

    /// Sets everything about the session, bounds and times included. Only
    /// [`Config::oversized_headers`] stays what it is: a request head over a soft limit is answered
    /// with 431.
    ///
    /// [`Config::strict`] also makes requests with the fields of an HTTP/1.1 connection
    /// (`connection`, `keep-alive`, `proxy-connection`, `transfer-encoding`, `upgrade`) malformed:
    /// 400. Otherwise they are dropped.
    #[must_use]
    pub fn config(mut self, mut config: Config) -> Self {
        config.oversized_headers = OversizedHeaders::Deliver;
        self.config = Arc::new(config);
        self
    }

    /// Sets how long a handler that waits for the body of its request waits for the next byte of
    /// it. Then the request ends with 408, or is reset with CANCEL once the response has begun,
    /// whatever the handler makes of [`BodyError::TimedOut`](crate::BodyError::TimedOut). `None`
    /// waits for ever. Default 60 s.
    ///
    /// The time runs while the body is polled and the peer could send: not while the session itself
    /// holds up the peer, since other handlers have not read what came. A handler that does not ask
    /// for the body is not ended by it; the end of the peer ends it, which
    /// [`Timeouts::keep_alive`](spdy_session::Timeouts::keep_alive) finds out about. What follows
    /// CONNECT is a [`Tunnel`](crate::Tunnel) and no body, and pushes have no request: neither has
    /// this limit.
    #[must_use]
    pub const fn body_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.body_timeout = timeout;
        self
    }

    /// Has `told` called for each request that is answered without the service, since its head is
    /// not one of HTTP: for logs and metrics. It runs on the connection's task and must not wait.
    ///
    /// The body of a request is not looked at here: when that is malformed, the service has the
    /// request already.
    #[must_use]
    pub fn on_malformed(
        mut self,
        told: impl Fn(&MalformedRequest<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.on_malformed = OnMalformed::new(told);
        self
    }

    /// Has the deadlines of sessions watched by a runtime that does nothing else, as
    /// [`Driver::timers`] says.
    #[must_use]
    pub fn timers(mut self, runtime: Handle) -> Self {
        self.timers = Some(runtime);
        self
    }

    /// Sets whether responses, and pushes, without the field `date` get one. They do by default, as
    /// HTTP wants it of a server that has a clock.
    #[must_use]
    pub const fn auto_date_header(mut self, enabled: bool) -> Self {
        self.adds_date = enabled;
        self
    }

    /// Serves SPDY on a transport. The version is what was negotiated, or what the operator knows
    /// of the peer.
    ///
    /// Nothing happens until the connection is polled. Handlers that have their response ready when
    /// they are polled first are answered on the connection's own task, others get tasks of their
    /// own.
    pub fn serve_connection<IO, S>(&self, io: IO, version: Version, service: S) -> Connection<IO, S>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
        S: HttpService,
    {
        let (session, incoming, driver) =
            spdy_session::server(io, version, Arc::clone(&self.config));
        let driver = match &self.timers {
            Some(runtime) => driver.timers(runtime.clone()),
            None => driver,
        };
        let connection_fields = if self.config.strict {
            ConnectionFields::Refuse
        } else {
            ConnectionFields::Drop
        };
        let heads = Heads::new(version, connection_fields);
        let patience = Patience {
            limit: self.body_timeout,
            timers: self.timers.clone(),
        };
        let form = ResponseForm {
            version,
            adds_date: self.adds_date,
        };
        let on_malformed = self.on_malformed.clone();
        let requests = Requests::new(session, service, heads, form, on_malformed, patience);
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
    /// A session that is served. It is a future, and has to be polled for anything to happen;
    /// within a tokio runtime.
    ///
    /// It ends with `Ok` when the session has ended in order, by either side: also when the client
    /// just closes the transport with no stream open.
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
    /// Takes no new requests, and ends when those that are under way have been answered
    /// ([protocol.md §15]). Keep polling; how long to wait is the caller's to decide. Calling it
    /// again changes nothing.
    ///
    /// [protocol.md §15]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#15-goaway-and-shutdown
    pub fn graceful_shutdown(self: Pin<&mut Self>) {
        self.project().requests.shut_down();
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

/// How long a handler waits for the next byte of a body, unless it is set.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
