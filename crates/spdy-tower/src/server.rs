//! Serves HTTP on one connection.

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

/// The configuration for serving connections. One builder can serve any number of them.
#[derive(Clone, Debug)]
pub struct Builder {
    config: Arc<Config>,
    on_malformed: OnMalformed,
    body_timeout: Option<Duration>,
    timers: Option<Handle>,
    adds_date: bool,
}

impl Builder {
    /// Creates a builder with the default configuration of a session.
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

    /// Sets the whole configuration of the session, including its limits and timeouts. With
    /// [`OversizedHeaders::Auto`] a request head over a soft limit is answered with 431, as with
    /// [`OversizedHeaders::Deliver`].
    ///
    /// [`Config::strict`] also makes requests with fields of an HTTP/1.1 connection (`connection`,
    /// `keep-alive`, `proxy-connection`, `transfer-encoding`, `upgrade`) malformed, so they get
    /// 400. Otherwise these fields are dropped.
    #[must_use]
    pub fn config(mut self, mut config: Config) -> Self {
        if config.oversized_headers == OversizedHeaders::Auto {
            config.oversized_headers = OversizedHeaders::Deliver;
        }
        self.config = Arc::new(config);
        self
    }

    /// Sets how long a handler may wait for the next byte of a request's body. Then the request
    /// ends with 408, or with a reset with CANCEL once the response has begun, whatever the handler
    /// does with [`BodyError::TimedOut`](crate::BodyError::TimedOut). `None` sets no limit. Default
    /// 60 s.
    ///
    /// The time runs while the handler polls the body and the peer can send. It stands still while
    /// the session itself stops the peer because other handlers do not read. A handler that does
    /// not poll the body is not ended by this timeout; it is dropped when the peer is gone, which
    /// [`Timeouts::keep_alive`](spdy_session::Timeouts::keep_alive) detects. The limit does not
    /// apply to a [`Tunnel`](crate::Tunnel), which is not a body, or to pushes, which have no
    /// request.
    #[must_use]
    pub const fn body_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.body_timeout = timeout;
        self
    }

    /// Sets a function that is called for each request that is answered without the service because
    /// its head is malformed, for logs and metrics. It runs on the connection's task and must not
    /// block.
    ///
    /// It is not called for a malformed body, because then the service already has the request.
    #[must_use]
    pub fn on_malformed(
        mut self,
        told: impl Fn(&MalformedRequest<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.on_malformed = OnMalformed::new(told);
        self
    }

    /// Lets another runtime watch the deadlines of sessions, as [`Driver::timers`] describes.
    #[must_use]
    pub fn timers(mut self, runtime: Handle) -> Self {
        self.timers = Some(runtime);
        self
    }

    /// Sets whether responses and pushes without the field `date` get one. Default `true`, as HTTP
    /// requires of a server with a clock.
    #[must_use]
    pub const fn auto_date_header(mut self, enabled: bool) -> Self {
        self.adds_date = enabled;
        self
    }

    /// Serves SPDY on a transport. Pass the negotiated version, or the version that the peer is
    /// known to speak.
    ///
    /// Nothing happens until the connection is polled. A handler whose first poll returns the
    /// response is answered on the connection's task. Other handlers get their own tasks.
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
    /// The future that serves a session. Poll it within a tokio runtime; nothing happens otherwise.
    ///
    /// It returns `Ok` when either side has ended the session in order, or when the client closes
    /// the transport while no stream is open.
    ///
    /// Dropping it drops the transport and all running handlers. No task outlives it.
    #[must_use = "a connection does nothing unless it is polled"]
    pub struct Connection<IO, S> {
        #[pin]
        driver: Driver<IO>,
        incoming: Incoming,
        requests: Requests<S>,
    }
}

impl<IO, S> Connection<IO, S> {
    /// Accepts no new requests, and ends when those under way have been answered
    /// ([protocol.md §15]). Keep polling the connection. There is no timeout; the caller decides
    /// how long to wait. Further calls have no effect.
    ///
    /// [protocol.md §15]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#15-goaway-and-shutdown
    pub fn graceful_shutdown(self: Pin<&mut Self>) {
        self.project().requests.shut_down();
    }

    /// Returns whether every request is answered, every byte is written, and the connection only
    /// waits for the client to close its side. `close` and `linger` of
    /// [`Timeouts`](crate::session::Timeouts) limit that wait.
    pub fn is_lingering(&self) -> bool
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        self.driver.is_lingering()
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
        // Requests whose handlers are ready are answered between reading and writing.
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

/// The default limit for the next byte of a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
