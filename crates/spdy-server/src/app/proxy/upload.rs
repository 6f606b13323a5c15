//! The body of a request on its way to the application, and whether it moves.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::timeout;

use super::Failure;

/// A body that tells its [`Progress`].
#[derive(Debug)]
pub(super) struct Upload {
    body: Body,
    /// `None` for bodies that are empty from the beginning.
    frames: Option<Arc<AtomicUsize>>,
}

impl Upload {
    pub(super) fn new(body: Body) -> (Self, Progress) {
        let frames = (!http_body::Body::is_end_stream(&body)).then(Arc::default);
        let progress = Progress(frames.clone());
        (Self { body, frames }, progress)
    }

    /// A body without anything in it.
    pub(super) fn empty() -> Self {
        Self::new(Body::empty()).0
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(frames) = &self.frames {
            frames.fetch_add(1, Ordering::Relaxed);
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

/// How much of a body has left.
#[derive(Debug)]
pub(super) struct Progress(Option<Arc<AtomicUsize>>);

impl Progress {
    /// Waits for an answer as long as there is one within `limit`, or the body moves within it.
    pub(super) async fn or_silent<T>(
        &self,
        answer: impl Future<Output = Result<T, Failure>>,
        limit: Duration,
    ) -> Result<T, Failure> {
        let mut answer = pin!(answer);
        loop {
            let before = self.frames();
            match timeout(limit, &mut answer).await {
                Ok(answer) => return answer,
                Err(_) if self.frames() != before => {}
                Err(_) => return Err(Failure::Silent),
            }
        }
    }

    fn frames(&self) -> usize {
        self.0
            .as_ref()
            .map_or(0, |frames| frames.load(Ordering::Relaxed))
    }
}
