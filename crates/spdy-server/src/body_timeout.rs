//! The time limit on a silent peer that has to send the body of a request, for HTTP/1.1 and HTTP/2.
//!
//! spdy-tower has the same for SPDY. There is one rule: the time runs while the application waits
//! for the body. When it is over, the client receives 408, or a reset if a response has begun,
//! however the application handles the error. CONNECT is excluded, because it has a tunnel instead
//! of a body.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{BoxError, body::Body as AxumBody, response::Response};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::{
    sync::oneshot::{self, Receiver, Sender},
    time::{Instant, Sleep, sleep},
};
use tower_service::Service;

/// An application whose request bodies arrive in time or fail.
#[derive(Clone, Debug)]
pub(crate) struct BodyTimeout<S> {
    app: S,
    /// `None` means no limit.
    limit: Option<Duration>,
}

impl<S> BodyTimeout<S> {
    pub(crate) const fn new(app: S, limit: Option<Duration>) -> Self {
        Self { app, limit }
    }
}

impl<S, B> Service<Request<B>> for BodyTimeout<S>
where
    S: Service<Request<TimedBody<B>>, Response = Response, Error = Infallible>,
    B: Body<Data = Bytes>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Timed<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.app.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let has_body = !request.body().is_end_stream() && request.method() != Method::CONNECT;
        let (wait, silence) = match self.limit.filter(|_| has_body) {
            Some(limit) => {
                let (wait, silence) = Wait::new(limit);
                (Some(wait), Some(silence))
            }
            None => (None, None),
        };
        let future = self.app.call(request.map(|body| TimedBody { body, wait }));
        Timed { future, silence }
    }
}

pin_project! {
    /// The body of a request, which fails when the peer is silent for too long.
    pub(crate) struct TimedBody<B> {
        #[pin]
        body: B,
        wait: Option<Wait>,
    }
}

impl<B: Body<Data = Bytes, Error: Into<BoxError>>> Body for TimedBody<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        match this.body.poll_frame(cx) {
            Poll::Ready(frame) => {
                match (&frame, &mut *this.wait) {
                    (Some(Ok(_)), Some(wait)) => wait.since = None,
                    // The body is over, so the wait ends.
                    _ => *this.wait = None,
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                if let Some(wait) = this.wait {
                    ready!(wait.poll_over(cx));
                    let limit = wait.limit;
                    *this.wait = None;
                    return Poll::Ready(Some(Err(SilentPeer { limit }.into())));
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The wait for the next piece of a body. It begins with the first poll that returns pending, and
/// ends with the next piece.
#[derive(Debug)]
struct Wait {
    limit: Duration,
    since: Option<Instant>,
    /// Set to the deadline or to an earlier time.
    alarm: Option<Pin<Box<Sleep>>>,
    /// Sent when the time is over, and dropped when the body does not have to be waited for any
    /// more.
    told: Option<Sender<SilentPeer>>,
}

impl Wait {
    fn new(limit: Duration) -> (Self, Receiver<SilentPeer>) {
        let (told, silence) = oneshot::channel();
        let wait = Self {
            limit,
            since: None,
            alarm: None,
            told: Some(told),
        };
        (wait, silence)
    }

    /// Completes when the peer was silent for too long, and reports this to the response.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let since = *self.since.get_or_insert_with(Instant::now);
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(alarm.as_mut().poll(cx));
        // A piece might have arrived since the alarm was set. A deadline that a clock cannot count
        // never comes.
        if let Some(deadline) = since.checked_add(limit)
            && deadline > Instant::now()
        {
            alarm.as_mut().reset(deadline);
            ready!(alarm.as_mut().poll(cx));
        }
        // If the response is already complete, the channel is closed.
        _ = self.told.take().map(|told| told.send(SilentPeer { limit }));
        Poll::Ready(())
    }
}

pin_project! {
    /// A pending response, which becomes 408 when the peer is silent for too long.
    pub(crate) struct Timed<F> {
        #[pin]
        future: F,
        silence: Option<Receiver<SilentPeer>>,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for Timed<F> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = this.future.poll(cx);
        if poll_silence(this.silence, cx).is_ready() {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
            return Poll::Ready(Ok(response));
        }
        let response = ready!(outcome)?;
        Poll::Ready(Ok(match this.silence.take() {
            None => response,
            silence => response.map(|body| AxumBody::new(TimedAnswer { body, silence })),
        }))
    }
}

/// The body of a response that has begun before the end of the request body. It fails when the peer
/// is silent for too long.
#[derive(Debug)]
struct TimedAnswer {
    body: AxumBody,
    silence: Option<Receiver<SilentPeer>>,
}

impl Body for TimedAnswer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(silence) = poll_silence(&mut self.silence, cx) {
            return Poll::Ready(Some(Err(silence.into())));
        }
        frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Completes when the peer was silent for too long. Drops the channel when that can no longer
/// happen.
fn poll_silence(
    silence: &mut Option<Receiver<SilentPeer>>,
    cx: &mut Context<'_>,
) -> Poll<SilentPeer> {
    let Some(receiver) = silence else {
        return Poll::Pending;
    };
    let told = ready!(Pin::new(receiver).poll(cx));
    *silence = None;
    told.map_or(Poll::Pending, Poll::Ready)
}

/// The error for a client that has sent no byte of a body for too long.
#[derive(Clone, Copy, Debug)]
struct SilentPeer {
    limit: Duration,
}

impl fmt::Display for SilentPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.limit.as_secs_f64();
        write!(
            f,
            "timeout: no byte of the request body arrived for {seconds} s"
        )
    }
}

impl Error for SilentPeer {}
