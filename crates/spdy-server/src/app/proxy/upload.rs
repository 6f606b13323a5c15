//! The body of a request on its way to the application, and whether it moves.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, http::Method};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout};

use super::{Failure, Patience, fields};

/// A body that tells its [`Progress`].
#[derive(Debug)]
pub(super) struct Upload {
    body: Body,
    /// What has come of it before it was sent.
    first: Option<Frame<Bytes>>,
    /// `None` for bodies that are empty from the beginning.
    moves: Option<Arc<Moves>>,
}

impl Upload {
    /// Takes the body of a request.
    ///
    /// Most requests that have no body say so in their head. SPDY and HTTP/2 allow to say it later, with an empty
    /// frame. A short wait for this keeps such a request the simple one that it is: without a body, and safe to send
    /// again. In whatever way the wait ends, all of the body reaches the application.
    pub(super) async fn begin(method: &Method, body: Body) -> Result<Self, Failure> {
        let mut upload = Self::new(body);
        let is_clear = http_body::Body::is_end_stream(&upload)
            || http_body::Body::size_hint(&upload).lower() > 0
            || matches!(*method, Method::POST | Method::PUT | Method::PATCH);
        if is_clear {
            return Ok(upload);
        }
        match timeout(FIRST_FRAME, first(&mut upload.body)).await {
            Ok(None) => Ok(Self::empty()),
            Ok(Some(Err(error))) => Err(Failure::Body(error.to_string())),
            Ok(Some(Ok(frame))) => {
                upload.first = Some(frame);
                Ok(upload)
            }
            Err(_) => Ok(upload),
        }
    }

    fn new(body: Body) -> Self {
        let moves = (!http_body::Body::is_end_stream(&body)).then(Arc::default);
        Self {
            body,
            first: None,
            moves,
        }
    }

    /// A body without anything in it.
    pub(super) fn empty() -> Self {
        Self::new(Body::empty())
    }

    pub(super) fn progress(&self) -> Progress {
        Progress(self.moves.clone())
    }
}

/// Waits for a frame with something in it.
async fn first(body: &mut Body) -> Option<Result<Frame<Bytes>, axum::Error>> {
    loop {
        let frame = body.frame().await?;
        let is_empty = |frame: &Frame<Bytes>| frame.data_ref().is_some_and(Bytes::is_empty);
        if !frame.as_ref().is_ok_and(is_empty) {
            return Some(frame);
        }
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = match self.first.take() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.body).poll_frame(cx),
        };
        if let (Poll::Ready(_), Some(moves)) = (&frame, &self.moves) {
            moves.note();
        }
        frame.map_ok(|mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                fields::clean_trailers(trailers);
            }
            frame
        })
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.first {
            // The length of a body whose beginning was taken is not known.
            Some(_) => SizeHint::default(),
            None => self.body.size_hint(),
        }
    }
}

/// When a frame of a body has left last.
#[derive(Debug)]
struct Moves {
    since: Instant,
    /// The milliseconds from then to the last frame.
    last: AtomicU64,
}

impl Default for Moves {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            last: AtomicU64::new(0),
        }
    }
}

impl Moves {
    fn note(&self) {
        let after = self.since.elapsed().as_millis();
        self.last.store(after as u64, Ordering::Relaxed);
    }
}

/// Whether a body moves.
#[derive(Clone, Debug)]
pub(super) struct Progress(Option<Arc<Moves>>);

impl Progress {
    /// Waits for an answer as long as there is one within the time, or the body moves within it.
    pub(super) async fn or_silent<T>(
        &self,
        answer: impl Future<Output = T>,
        patience: &mut Patience,
    ) -> Option<T> {
        let mut answer = pin!(answer);
        loop {
            if let Some(answer) = patience.wait(&mut answer).await {
                return Some(answer);
            }
            // Patience that lasts as long again from the last movement may still have some left.
            patience.renew(self.last_move()?);
            if patience.is_spent() {
                return None;
            }
        }
    }

    /// Returns when a frame has left last. `None` for a body that is empty from the beginning.
    pub(super) fn last_move(&self) -> Option<Instant> {
        let moves = self.0.as_ref()?;
        let after = Duration::from_millis(moves.last.load(Ordering::Relaxed));
        Some(moves.since + after)
    }
}

/// How long a request without a length waits to learn whether it has a body.
const FIRST_FRAME: Duration = Duration::from_millis(100);
