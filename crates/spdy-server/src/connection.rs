//! The connection of each protocol, and the application as a connection calls it.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    BoxError, Router,
    extract::ConnectInfo,
    response::{IntoResponse, Response},
    routing::future::RouteFuture,
};
use bytes::Bytes;
use http::{Method, Request, StatusCode, Version};
use http_body::Body;
use hyper::server::conn::{http1, http2};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use crate::{
    application,
    body_timeout::BodyTimeout,
    cookies,
    cork::Cork,
    discard::Discard,
    host,
    info::Client,
    keep::{Ending, Kept},
    metrics::Open,
    observe::{Called, Observed, Watch},
    request_id::Identified,
    rest::{Over, Rest},
    shutdown::Lifeline,
    stall::Answers,
    switched::Leash,
};

/// A connection whose protocol is not known yet, or whose handshake is not over.
///
/// It is a box of its own, so that a connection which rests has no room for what is long over. An
/// `async fn` would keep its arguments to its end, and so would each one that calls it.
pub(crate) struct Beginning(pub(crate) Pin<Box<Begin>>);

/// Returns `None` if the server drains before the client has sent anything, or ends at once.
type Begin = dyn Future<Output = io::Result<Option<Running>>> + Send;

/// A connection of a known protocol.
pub(crate) struct Running {
    pub(crate) connection: Pin<Box<dyn Connection>>,
    pub(crate) lifeline: Lifeline,
    /// Its counts in the metrics.
    pub(crate) counted: [Option<Open>; 2],
}

impl Beginning {
    /// Serves the connection to its end. Asks it to finish when the server drains, and drops it
    /// when the server ends at once.
    pub(crate) async fn serve(self) -> Result<(), BoxError> {
        // Only what is bound here stays until the end.
        let Some(Running {
            mut connection,
            mut lifeline,
            counted: _counted,
        }) = self.0.await?
        else {
            return Ok(());
        };
        tokio::select! {
            biased;
            ended = poll_fn(|cx| connection.as_mut().poll_end(cx)) => return ended,
            () = lifeline.draining() => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            biased;
            ended = poll_fn(|cx| connection.as_mut().poll_end(cx)) => return ended,
            () = lifeline.last_call() => {}
        }
        connection.as_mut().last_call();
        tokio::select! {
            biased;
            ended = poll_fn(|cx| connection.as_mut().poll_end(cx)) => return ended,
            () = lifeline.cut() => {}
        }
        if connection.is_lingering() {
            lifeline.note_unclosed();
        }
        Ok(())
    }
}

/// The operations of a connection of any protocol.
pub(crate) trait Connection: Send {
    /// Drives the connection until it has ended.
    fn poll_end(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>>;

    /// Accepts no new requests, and ends the connection when the open ones are answered.
    fn graceful_shutdown(self: Pin<&mut Self>);

    /// Ends the connection if it is only kept in case that its client sends another request.
    fn last_call(self: Pin<&mut Self>) {}

    /// Returns whether the connection has finished: everything is written, and only the end of the
    /// client is waited for.
    fn is_lingering(&self) -> bool;
}

impl<IO> Connection for spdy_tower::Connection<IO, SpdyApp>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn poll_end(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.poll(cx).map_err(Into::into)
    }

    fn graceful_shutdown(self: Pin<&mut Self>) {
        Self::graceful_shutdown(self);
    }

    fn is_lingering(&self) -> bool {
        Self::is_lingering(self)
    }
}

pin_project! {
    /// An HTTP/2 connection, which is asked to finish when it has no requests for too long, and is
    /// dropped if it does not.
    pub(crate) struct Http2<IO> {
        #[pin]
        pub(crate) connection: http2::Connection<TokioIo<Cork<IO>>, HyperApp, Answers>,
        // The transport of the connection.
        pub(crate) cork: Cork<IO>,
        pub(crate) rest: Rest,
        pub(crate) watch: Option<Arc<Watch>>,
    }
}

impl<IO> Connection for Http2<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn poll_end(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let mut this = self.project();
        loop {
            let polled = this.connection.as_mut().poll(cx);
            let released = match polled.is_pending() {
                true => this.cork.poll_release(cx),
                // hyper has not always shut the transport down.
                false => this.cork.poll_last(cx),
            };
            if let Some(watch) = this.watch {
                watch.settle(this.rest.is_flushed());
            }
            if let Poll::Ready(end) = polled {
                return Poll::Ready(end.map_err(Into::into));
            }
            if let Poll::Ready(Err(error)) = released {
                return Poll::Ready(Err(error.into()));
            }
            match ready!(this.rest.poll_over(cx)) {
                Over::Rest => this.connection.as_mut().graceful_shutdown(),
                Over::Mute => {
                    debug!("the client has everything and answers nothing; closing the connection");
                    return Poll::Ready(Ok(()));
                }
                Over::Stuck => {
                    debug!(
                        "the client does not read the ends of its responses; closing the connection"
                    );
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut).into()));
                }
            }
        }
    }

    fn graceful_shutdown(self: Pin<&mut Self>) {
        let this = self.project();
        this.connection.graceful_shutdown();
        this.rest.drain();
    }

    fn is_lingering(&self) -> bool {
        self.rest.is_lingering()
    }
}

pin_project! {
    /// An HTTP/1.1 connection. If it switches to another protocol, it lasts as long as its
    /// transport.
    pub(crate) struct Http1<IO> {
        // `None` once HTTP is over.
        #[pin]
        connection: Option<http1::UpgradeableConnection<TokioIo<IO>, HyperApp>>,
        watch: Option<Arc<Watch>>,
        // `None` once HTTP is over: the connection gives way to no other then.
        ending: Option<Ending>,
        leash: Leash,
    }
}

impl<IO> Http1<IO> {
    pub(crate) const fn new(
        connection: http1::UpgradeableConnection<TokioIo<IO>, HyperApp>,
        watch: Option<Arc<Watch>>,
        ending: Ending,
        leash: Leash,
    ) -> Self {
        Self {
            connection: Some(connection),
            watch,
            ending: Some(ending),
            leash,
        }
    }
}

impl<IO> Connection for Http1<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn poll_end(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let mut this = self.project();
        if let Some(mut connection) = this.connection.as_mut().as_pin_mut()
            && let Some(ending) = this.ending
        {
            let end = loop {
                if let Poll::Ready(end) = connection.as_mut().poll(cx) {
                    break end;
                }
                ready!(ending.poll_over(cx));
                connection.as_mut().graceful_shutdown();
            };
            if let (Err(error), Some(watch)) = (&end, this.watch)
                && let Some(status) = refusal(error)
            {
                watch.refused(status, None);
            }
            // It owns the transport unless a handler does.
            this.connection.set(None);
            *this.ending = None;
            end?;
        }
        let owed = &this.leash.0;
        match owed.switched() {
            Some(switched) => switched.poll_over(cx).map(Ok),
            None if owed.tail().is_cut() => Poll::Ready(Err(CUT_SHORT.into())),
            None => Poll::Ready(Ok(())),
        }
    }

    fn graceful_shutdown(self: Pin<&mut Self>) {
        if let Some(ending) = self.project().ending {
            ending.drain();
        }
    }

    fn last_call(self: Pin<&mut Self>) {
        if let Some(connection) = self.project().connection.as_pin_mut() {
            connection.graceful_shutdown();
        }
    }

    fn is_lingering(&self) -> bool {
        self.ending.as_ref().is_some_and(Ending::is_lingering)
    }
}

/// The error of a connection that was to end a response.
const CUT_SHORT: &str = "the body of a response to HTTP/1.0 has failed, which has no length";

/// Returns the status with which hyper answered a request that it could not parse. hyper ends the
/// connection with this error.
fn refusal(error: &hyper::Error) -> Option<StatusCode> {
    if !error.is_parse() || error.is_parse_version_h2() {
        return None;
    }
    // The error has no other property that tells the two apart.
    Some(match error.is_parse_too_large() {
        true if error.to_string() == "URI too long" => StatusCode::URI_TOO_LONG,
        true => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        false => StatusCode::BAD_REQUEST,
    })
}

/// The application as spdy-tower calls it.
pub(crate) type SpdyApp = Identified<Observed<App>>;

/// The application as hyper calls it.
pub(crate) type HyperApp =
    Called<TowerToHyperService<Kept<Identified<Observed<Discard<BodyTimeout<App>>>>>>>;

/// The application as a connection of any protocol calls it. Every request carries the
/// `ConnectionInfo` of the connection, has an unambiguous host, and its cookies in one field. No
/// response has a false length.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) router: Router,
    pub(crate) client: Client,
    /// What the responses of an HTTP/2 connection share.
    pub(crate) answers: Option<Answers>,
}

impl<B> tower_service::Service<Request<B>> for App
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        tower_service::Service::<Request<B>>::poll_ready(&mut self.router, cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Answering {
        let method = request.method().clone();
        let called = match host::ambiguity(&request) {
            Some(reason) => Err(Unanswered::Ambiguous(reason)),
            None => {
                if request.version() == Version::HTTP_2 {
                    cookies::join(request.headers_mut());
                }
                let extensions = request.extensions_mut();
                extensions.insert(self.client.info);
                if let Some(peer) = self.client.info.peer {
                    extensions.insert(ConnectInfo(peer));
                }
                #[cfg(feature = "rustls")]
                if let Some(certificates) = &self.client.certificates {
                    extensions.insert(certificates.clone());
                }
                if let Some(proxy) = &self.client.proxy {
                    extensions.insert(Arc::clone(proxy));
                }
                guarded(|| self.router.call(request))
            }
        };
        let answers = self.answers.clone();
        Answering {
            method,
            called,
            answers,
        }
    }
}

/// The future of the response of the application, if the request has reached it.
pub(crate) struct Answering {
    method: Method,
    called: Result<RouteFuture<Infallible>, Unanswered>,
    answers: Option<Answers>,
}

/// The reason why the application does not answer a request.
#[derive(Clone, Copy)]
enum Unanswered {
    /// The request was rejected.
    Ambiguous(&'static str),
    Panic,
}

impl IntoResponse for Unanswered {
    fn into_response(self) -> Response {
        match self {
            Self::Ambiguous(reason) => {
                (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response()
            }
            Self::Panic => application::failure(),
        }
    }
}

/// Calls the application. After a panic its part is not called again, so no code sees the state
/// that the panic has left. hyper would end all requests of an HTTP/1.1 connection, and the
/// exchange would be recorded as one whose client has left.
fn guarded<T>(application: impl FnOnce() -> T) -> Result<T, Unanswered> {
    catch_unwind(AssertUnwindSafe(application)).map_err(|_| Unanswered::Panic)
}

impl Future for Answering {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = match &mut self.called {
            Ok(called) => match guarded(|| Pin::new(called).poll(cx)) {
                Ok(polled) => ready!(polled)?,
                Err(panic) => panic.into_response(),
            },
            Err(reason) => reason.into_response(),
        };
        let status = response.status();
        spdy_tower::remove_false_length(&self.method, status, response.headers_mut());
        // hyper would send the body over HTTP/2.
        if spdy_tower::is_bodyless(&self.method, status) {
            *response.body_mut() = axum::body::Body::empty();
        }
        Poll::Ready(Ok(match &self.answers {
            Some(answers) => response.map(|body| answers.watch(body)),
            None => response,
        }))
    }
}
