//! The limit on the body of a request.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::{
    body::Body,
    http::{HeaderMap, header::CONTENT_LENGTH},
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::Failure;

/// How many bytes the body of a request can have, and whether one has had more.
pub(super) struct Limit {
    most: Option<u64>,
    is_exceeded: Arc<AtomicBool>,
}

impl Limit {
    pub(super) fn new(most: Option<u64>) -> Self {
        Self {
            most,
            is_exceeded: Arc::default(),
        }
    }

    /// Refuses a body that declares to be too long, and ends one that turns out to be.
    pub(super) fn apply(&self, fields: &HeaderMap, body: Body) -> Result<Body, Failure> {
        let Some(most) = self.most else {
            return Ok(body);
        };
        let declared = fields
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok())
            .unwrap_or(0);
        if http_body::Body::size_hint(&body).lower().max(declared) > most {
            return Err(Failure::TooLong(most));
        }
        if http_body::Body::is_end_stream(&body) {
            return Ok(body);
        }
        Ok(Body::new(Limited {
            body,
            left: most,
            is_exceeded: Arc::clone(&self.is_exceeded),
        }))
    }

    /// Returns the failure of a request, which might be that of its limit.
    pub(super) fn judge(&self, failure: Failure) -> Failure {
        match self.most {
            Some(most) if self.is_exceeded.load(Ordering::Relaxed) => Failure::TooLong(most),
            _ => failure,
        }
    }
}

/// A body that fails with the first byte beyond its limit.
struct Limited {
    body: Body,
    left: u64,
    is_exceeded: Arc<AtomicBool>,
}

impl http_body::Body for Limited {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let bytes = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len) as u64,
            _ => 0,
        };
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => {
                self.is_exceeded.store(true, Ordering::Relaxed);
                return Poll::Ready(Some(Err(axum::Error::new("the body is too long"))));
            }
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
