//! Reading what an application does not want of a request, over HTTP/1.1 and HTTP/2.
//!
//! An HTTP/1.1 connection is closed when the body of a request is left unread, and HTTP/2 resets the stream. The client
//! may be sending it still, and might lose what has not come of the answer. So the rest is read and thrown away while
//! the answer is sent, as a SPDY session does it, within limits. Where that does not end the body, the connection
//! [lingers](crate::linger).

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::response::Response;
use bytes::{Buf, Bytes};
use http::{Method, Request, StatusCode, header::EXPECT};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use pin_project_lite::pin_project;
use tokio::{runtime::Handle, time::timeout};
use tower_service::Service;

use crate::linger::Owed;

/// An application that may leave the bodies of its requests unread.
#[derive(Clone, Debug)]
pub(crate) struct Discard<S> {
    app: S,
    /// Of HTTP/1.1, which has one request at a time.
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

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // Such a client does not send the body before it is asked to, which the first poll does.
        let is_coming = !request.headers().contains_key(EXPECT);
        let owed = self.owed.clone();
        if request.body().is_end_stream() {
            pay(&owed);
        }
        let method = request.method().clone();
        let request = request.map(|body| Unread {
            body: Some(body),
            is_coming,
            owed: owed.clone(),
        });
        Discarding {
            future: self.app.call(request),
            method,
            owed,
        }
    }
}

fn pay(owed: &Option<Owed>) {
    if let Some(owed) = owed {
        owed.paid();
    }
}

pin_project! {
    /// An answer under way, after which the connection may belong to somebody else.
    pub(crate) struct Discarding<F> {
        #[pin]
        future: F,
        method: Method,
        owed: Option<Owed>,
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
        Poll::Ready(Ok(response))
    }
}

/// The body of a request. What is left of it when it is dropped is read.
#[derive(Debug)]
pub(crate) struct Unread<B: Body<Data = Bytes> + Send + Unpin + 'static> {
    /// `None` at the end.
    body: Option<B>,
    is_coming: bool,
    owed: Option<Owed>,
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
                self.body = None;
            }
            Poll::Ready(Some(Err(_))) => self.body = None,
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

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Drop for Unread<B> {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else {
            return;
        };
        if body.is_end_stream() {
            return pay(&self.owed);
        }
        // Without a runtime the server is gone.
        if self.is_coming
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(timeout(LONGEST, read(body, self.owed.take())));
        }
    }
}

/// Reads a body to its end, or until it is too much. hyper closes the connection then.
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

/// The bytes of a body that are read and thrown away: as many as
/// [`Limits::discard`](spdy_tower::session::Limits::discard) has for SPDY.
const MOST: usize = 1 << 20;

/// How long the rest of a body is read: as [`Timeouts::discard`](spdy_tower::session::Timeouts::discard) for SPDY.
const LONGEST: Duration = Duration::from_secs(60);
