//! Reads the part of a request body that an application does not want, over HTTP/1.1 and HTTP/2.
//!
//! If the body of a request is left unread, hyper closes an HTTP/1.1 connection and resets an
//! HTTP/2 stream. A client that is still sending could then lose the rest of the response. So the
//! rest of the body is read and discarded while the response is sent, within limits, as a SPDY
//! session does it. If the body is longer than that, the connection [lingers](crate::linger).
//!
//! For the same reason the failure of an HTTP/2 response waits for the end of its request: see
//! [`Failing`].

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{body::Body as AxumBody, response::Response};
use bytes::{Buf, Bytes};
use http::{Method, Request, StatusCode, header::EXPECT};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use pin_project_lite::pin_project;
use tokio::{
    runtime::Handle,
    sync::oneshot::{self, Receiver, Sender},
    time::{Sleep, sleep, timeout},
};
use tower_service::Service;

use crate::linger::Owed;

/// An application that might leave the bodies of its requests unread.
#[derive(Clone, Debug)]
pub(crate) struct Discard<S> {
    app: S,
    /// The state of an HTTP/1.1 connection, which has one request at a time.
    owed: Option<Owed>,
}

impl<S> Discard<S> {
    pub(crate) const fn new(app: S, owed: Option<Owed>) -> Self {
        Self { app, owed }
    }
}

impl<S, B> Service<Request<B>> for Discard<S>
where
    S: Service<Request<Unread<B>>, Response = Response, Error = Infallible>,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Discarding<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.app.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // A client with this field sends the body only after the first poll, which asks for it.
        let is_coming = !request.headers().contains_key(EXPECT);
        let owed = self.owed.clone();
        let is_over = request.body().is_end_stream();
        if let Some(owed) = &owed {
            // The start of this request might have arrived with the end of the one before it.
            match is_over {
                true => owed.paid(),
                false => owed.came(),
            }
            if request.extensions().get::<OnUpgrade>().is_some() {
                request.extensions_mut().insert(owed.clone());
            }
        }
        let (over, end) = (!is_over && owed.is_none()).then(oneshot::channel).unzip();
        let method = request.method().clone();
        let request = request.map(|body| Unread {
            body: Some(body),
            is_coming,
            owed: owed.clone(),
            over,
        });
        Discarding {
            future: self.app.call(request),
            method,
            owed,
            end,
        }
    }
}

fn pay(owed: &Option<Owed>) {
    if let Some(owed) = owed {
        owed.paid();
    }
}

pin_project! {
    /// A pending response, after which the connection might be upgraded.
    pub(crate) struct Discarding<F> {
        #[pin]
        future: F,
        method: Method,
        owed: Option<Owed>,
        // Closed at the end of an HTTP/2 request that has a body.
        end: Option<Receiver<Infallible>>,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for Discarding<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let response = ready!(this.future.poll(cx))?;
        let status = response.status();
        let is_tunnel = *this.method == Method::CONNECT && status.is_success();
        if let Some(owed) = this.owed
            && (is_tunnel || status == StatusCode::SWITCHING_PROTOCOLS)
        {
            owed.upgraded();
        }
        Poll::Ready(Ok(match this.end.take() {
            Some(end) => response.map(|body| AxumBody::new(Failing::new(body, end))),
            None => response,
        }))
    }
}

/// The body of a request. When it is dropped, its rest is read.
#[derive(Debug)]
pub(crate) struct Unread<B: Body<Data = Bytes> + Send + Unpin + 'static> {
    /// `None` at the end.
    body: Option<B>,
    is_coming: bool,
    owed: Option<Owed>,
    /// Dropped at the end.
    over: Option<Sender<Infallible>>,
}

impl<B: Body<Data = Bytes> + Send + Unpin> Body for Unread<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.is_coming = true;
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(body).poll_frame(cx);
        match frame {
            Poll::Ready(None) => {
                pay(&self.owed);
                self.end();
            }
            Poll::Ready(Some(Err(_))) => self.end(),
            _ => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let none = SizeHint::with_exact(0);
        self.body.as_ref().map_or(none, Body::size_hint)
    }
}

impl<B: Body<Data = Bytes> + Send + Unpin> Unread<B> {
    fn end(&mut self) {
        self.body = None;
        self.over = None;
    }
}

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Drop for Unread<B> {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else {
            return;
        };
        if body.is_end_stream() {
            return pay(&self.owed);
        }
        // Without a runtime, the server has ended.
        if self.is_coming
            && let Ok(runtime) = Handle::try_current()
        {
            let rest = read(body, self.owed.take());
            let over = self.over.take();
            runtime.spawn(async move {
                _ = timeout(LONGEST, rest).await;
                drop(over);
            });
        }
    }
}

/// Reads a body to its end or to the limit. At the limit hyper closes the connection.
async fn read<B: Body<Data = Bytes>>(body: B, owed: Option<Owed>) {
    let (mut body, mut left) = (pin!(body), MOST);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return;
        };
        let length = frame.data_ref().map_or(0, Buf::remaining);
        let Some(rest) = left.checked_sub(length) else {
            return;
        };
        left = rest;
    }
    pay(&owed);
}

/// The body of an HTTP/2 response. If it fails while the client is still sending the request, the
/// failure waits for the end of the request.
///
/// hyper resets the stream of a response that fails. h2 remembers 50 such streams, each for a
/// second, and takes trailers on a stream that it has forgotten for an error of the connection. All
/// requests of the connection would fail, although the client knew nothing of the reset when it
/// sent the trailers.
struct Failing {
    /// `None` once it has failed.
    body: Option<AxumBody>,
    end: Receiver<Infallible>,
    /// The failure, and the time at which it waits no longer.
    failure: Option<(axum::Error, Pin<Box<Sleep>>)>,
}

impl Failing {
    const fn new(body: AxumBody, end: Receiver<Infallible>) -> Self {
        Self {
            body: Some(body),
            end,
            failure: None,
        }
    }
}

impl Body for Failing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if let Some(body) = &mut this.body {
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Err(error)) => {
                    // It might own the body of the request.
                    this.body = None;
                    this.failure = Some((error, Box::pin(sleep(FAILURE))));
                }
                frame => return Poll::Ready(frame),
            }
        }
        if let Some((_, alarm)) = &mut this.failure
            && Pin::new(&mut this.end).poll(cx).is_pending()
        {
            ready!(alarm.as_mut().poll(cx));
        }
        Poll::Ready(this.failure.take().map(|(error, _)| Err(error)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.body.as_ref();
        body.map_or_else(SizeHint::default, Body::size_hint)
    }
}

/// How long the failure of a response waits for the end of the request. Trailers that are under way
/// arrive within it.
const FAILURE: Duration = Duration::from_secs(1);

/// The maximum number of bytes of a body that are read and discarded: that of
/// [`Limits::discard`](spdy_tower::session::Limits::discard) for SPDY.
const MOST: usize = 1 << 20;

/// How long the rest of a body is read, as in
/// [`Timeouts::discard`](spdy_tower::session::Timeouts::discard) for SPDY.
const LONGEST: Duration = Duration::from_secs(60);
