//! An HTTP/1.1 connection between two requests: when its end is announced, and when it is closed.
//!
//! A client might send its next request in the instant in which an idle connection is closed, and
//! cannot know then whether the request was read. So the server first says `connection: close` in
//! its next response. It closes a connection without this word only after it was idle for a while.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{
    HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH},
};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower_service::Service;

use crate::{
    config::countable,
    crowd::{Crowd, Member},
    linger::Owed,
};

/// The state that an HTTP/1.1 connection shares with its requests.
#[derive(Clone, Debug)]
pub(crate) struct Keeping(Arc<State>);

#[derive(Debug)]
struct State {
    owed: Owed,
    crowd: Arc<Crowd>,
    /// Whether a request is under way.
    is_answering: AtomicBool,
    /// Whether the next response announces the end of the connection.
    is_ending: AtomicBool,
}

impl Keeping {
    pub(crate) fn new(owed: Owed, crowd: Arc<Crowd>) -> Self {
        Self(Arc::new(State {
            owed,
            crowd,
            is_answering: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
        }))
    }

    /// Returns whether the connection waits for its first or next request, of which no byte has
    /// come.
    fn is_idle(&self) -> bool {
        !self.0.is_answering.load(Ordering::Relaxed) && !self.0.owed.is_owed()
    }

    fn begin(&self) -> Answering {
        self.0.is_answering.store(true, Ordering::Relaxed);
        Answering(self.clone())
    }

    fn announces_end(&self) -> bool {
        self.0.is_ending.load(Ordering::Relaxed) || self.0.crowd.claims_one()
    }
}

/// A request that is under way, until the last byte of its response is handed over.
#[derive(Debug)]
struct Answering(Keeping);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.0.is_answering.store(false, Ordering::Relaxed);
    }
}

/// The end of a connection, as its task sees it.
#[derive(Debug)]
pub(crate) struct Ending {
    keeping: Keeping,
    member: Member,
    /// How long the connection can be idle once the server drains.
    grace: Duration,
    is_draining: bool,
    /// Whether the connection was told to close.
    is_over: bool,
    /// Rings when the connection was idle for that long. `None` while it is not idle.
    rest: Option<Pin<Box<Sleep>>>,
}

impl Ending {
    pub(crate) fn new(keeping: Keeping, grace: Duration) -> Self {
        Self {
            member: keeping.0.crowd.join(),
            keeping,
            grace,
            is_draining: false,
            is_over: false,
            rest: None,
        }
    }

    /// Announces the end with the next response.
    pub(crate) fn drain(&mut self) {
        self.announce();
        self.is_draining = true;
    }

    /// Returns whether every response is written, and only the end of the client is waited for.
    pub(crate) fn is_lingering(&self) -> bool {
        self.keeping.0.owed.is_lingering()
    }

    fn announce(&self) {
        self.keeping.0.is_ending.store(true, Ordering::Relaxed);
    }

    /// Completes when the connection has to be closed although it could not announce its end. Call
    /// it whenever the connection was polled.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_idle = self.keeping.is_idle();
        let must_leave = self.member.poll_leave(is_idle, cx).is_ready();
        if must_leave {
            self.announce();
        }
        if !is_idle || self.is_over {
            self.rest = None;
            return Poll::Pending;
        }
        if !must_leave {
            ready!(self.poll_rest(cx));
        }
        self.is_over = true;
        Poll::Ready(())
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_draining {
            return Poll::Pending;
        }
        let grace = countable(self.grace);
        let rest = self.rest.get_or_insert_with(|| Box::pin(sleep(grace)));
        rest.as_mut().poll(cx)
    }
}

/// An application that hyper calls, whose responses can announce the end of their connection.
#[derive(Clone, Debug)]
pub(crate) struct Kept<S> {
    app: S,
    /// `None` over HTTP/2.
    keeping: Option<Keeping>,
}

impl<S> Kept<S> {
    pub(crate) const fn new(app: S, keeping: Option<Keeping>) -> Self {
        Self { app, keeping }
    }
}

impl<S, B, D> Service<Request<B>> for Kept<S>
where
    S: Service<Request<B>, Response = Response<D>, Error = Infallible>,
    D: Body,
{
    type Response = Response<KeptBody<D>>;
    type Error = Infallible;
    type Future = Keeper<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.app.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Keeper {
            answering: self.keeping.as_ref().map(Keeping::begin),
            is_connect: request.method() == Method::CONNECT,
            is_http10: request.version() == Version::HTTP_10,
            future: self.app.call(request),
        }
    }
}

pin_project! {
    /// The future of a response that can announce the end of its connection.
    pub(crate) struct Keeper<F> {
        #[pin]
        future: F,
        answering: Option<Answering>,
        is_connect: bool,
        is_http10: bool,
    }
}

impl<F, D> Future for Keeper<F>
where
    F: Future<Output = Result<Response<D>, Infallible>>,
    D: Body,
{
    type Output = Result<Response<KeptBody<D>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.future.poll(cx))?;
        let answering = this.answering.take();
        let status = response.status();
        let is_upgrade =
            status == StatusCode::SWITCHING_PROTOCOLS || (*this.is_connect && status.is_success());
        if let Some(Answering(keeping)) = &answering
            && !is_upgrade
            && keeping.announces_end()
        {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        let ends_with_connection = *this.is_http10 && !is_upgrade && !has_length(&response);
        if let Some(Answering(keeping)) = &answering
            && ends_with_connection
        {
            keeping.0.owed.tail().open();
        }
        Poll::Ready(Ok(response.map(|body| KeptBody {
            body,
            answering,
            ends_with_connection,
        })))
    }
}

/// Returns whether a client of HTTP/1.0 knows where the response ends. Otherwise the close of the
/// connection says so.
fn has_length(response: &Response<impl Body>) -> bool {
    response.headers().contains_key(CONTENT_LENGTH) || response.body().size_hint().exact().is_some()
}

pin_project! {
    /// The body of a response. The request is over when it is dropped.
    ///
    /// hyper ends a connection at once when a body fails, with what it has not written. If only the
    /// end of the connection ends the body, the transport makes that a cut, and waits for all
    /// before it. So hyper gets an end, up to which it writes everything.
    pub(crate) struct KeptBody<B> {
        #[pin]
        body: B,
        answering: Option<Answering>,
        // Whether the close of the connection ends this body. hyper may keep the connection all the
        // same, if the body turns out to be empty, and then its next response ends otherwise.
        ends_with_connection: bool,
    }
}

impl<B: Body> Body for KeptBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        if let (Some(Err(_)), Some(Answering(keeping))) = (&frame, this.answering)
            && *this.ends_with_connection
        {
            keeping.0.owed.tail().cut();
            return Poll::Ready(None);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
