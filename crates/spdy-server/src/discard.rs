//! Reading what an application does not want of a request, over HTTP/1.1 and HTTP/2.
//!
//! An HTTP/1.1 connection is closed when the body of a request is left unread. The client may be sending it still, gets
//! a reset of TCP for that, and loses what has not come of the answer. HTTP/2 resets the stream. So the rest is read and thrown away while the
//! answer is sent, as a SPDY session does it, within limits.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::{Request, header::EXPECT};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::{runtime::Handle, time::timeout};
use tower_service::Service;

/// An application that may leave the bodies of its requests unread.
#[derive(Clone, Debug)]
pub(crate) struct Discard<S>(pub(crate) S);

impl<S, B> Service<Request<B>> for Discard<S>
where
    S: Service<Request<Unread<B>>>,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        // Such a client does not send the body before it is asked to, which the first poll does.
        let is_coming = !request.headers().contains_key(EXPECT);
        self.0.call(request.map(|body| Unread {
            body: Some(body),
            is_coming,
        }))
    }
}

/// The body of a request. What is left of it when it is dropped is read.
#[derive(Debug)]
pub(crate) struct Unread<B: Body<Data = Bytes> + Send + Unpin + 'static> {
    /// `None` at the end.
    body: Option<B>,
    is_coming: bool,
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
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
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
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else {
            return;
        };
        // Without a runtime the server is gone.
        if self.is_coming
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(timeout(LONGEST, read(body)));
        }
    }
}

/// Reads a body to its end, or until it is too much. hyper closes the connection then.
async fn read<B: Body<Data = Bytes>>(body: B) {
    let (mut body, mut left) = (pin!(body), MOST);
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Buf::remaining);
        let Some(rest) = left.checked_sub(length) else {
            return;
        };
        left = rest;
    }
}

/// The bytes of a body that are read and thrown away: as many as
/// [`Limits::discard`](spdy_tower::session::Limits::discard) has for SPDY.
const MOST: usize = 1 << 20;

/// How long the rest of a body is read: as [`Timeouts::discard`](spdy_tower::session::Timeouts::discard) for SPDY.
const LONGEST: Duration = Duration::from_secs(60);
