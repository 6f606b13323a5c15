//! The body of a request on its way to the application, and whether it moves.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
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
        if let Some(moves) = &self.moves {
            moves.note(&frame);
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

impl Drop for Upload {
    /// The application wants no more of it.
    fn drop(&mut self) {
        if let Some(moves) = &self.moves {
            moves.note_end();
        }
    }
}

/// When a frame of a body has left last.
#[derive(Debug)]
struct Moves {
    since: Instant,
    /// The milliseconds from then to the last frame.
    last: AtomicU64,
    /// Whether the application wants more than the client has sent.
    awaits_client: AtomicBool,
}

impl Default for Moves {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            last: AtomicU64::new(0),
            awaits_client: AtomicBool::new(false),
        }
    }
}

impl Moves {
    fn note<T>(&self, frame: &Poll<T>) {
        if frame.is_ready() {
            self.note_move();
        }
        self.awaits_client
            .store(frame.is_pending(), Ordering::Release);
    }

    /// Notes that the client is not waited for any more. If it was, the application's time begins now.
    fn note_end(&self) {
        if self.awaits_client.load(Ordering::Relaxed) {
            self.note_move();
            self.awaits_client.store(false, Ordering::Release);
        }
    }

    fn note_move(&self) {
        let after = self.since.elapsed().as_millis();
        self.last.store(after as u64, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.since + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

/// Whether a body moves.
#[derive(Clone, Debug)]
pub(super) struct Progress(Option<Arc<Moves>>);

impl Progress {
    /// Waits for an answer as long as there is one within the time in which the application could give it. While it
    /// waits for the client there is none: the limit on bodies bounds that.
    pub(super) async fn or_silent<T>(
        &self,
        answer: impl Future<Output = T>,
        patience: &mut Patience,
    ) -> Option<T> {
        self.wait(answer, patience, Self::silent_since).await
    }

    /// Waits as long as the body moves within the time, whichever side it waits for.
    pub(super) async fn or_still<T>(
        &self,
        outcome: impl Future<Output = T>,
        patience: &mut Patience,
    ) -> Option<T> {
        let last_move = |progress: &Self| progress.0.as_ref().map(|moves| moves.last());
        self.wait(outcome, patience, last_move).await
    }

    async fn wait<T>(
        &self,
        outcome: impl Future<Output = T>,
        patience: &mut Patience,
        since: impl Fn(&Self) -> Option<Instant>,
    ) -> Option<T> {
        let mut outcome = pin!(outcome);
        loop {
            if let Some(outcome) = patience.wait(&mut outcome).await {
                return Some(outcome);
            }
            // Patience that lasts as long again from the last movement may still have some left.
            patience.renew(since(self)?);
            if patience.is_spent() {
                return None;
            }
        }
    }

    /// Returns since when the application can be silent: since a frame has left last, or from now on while it waits
    /// for the client. `None` for a body that is empty from the beginning.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        let moves = self.0.as_ref()?;
        let awaits_client = moves.awaits_client.load(Ordering::Acquire);
        Some(if awaits_client {
            Instant::now()
        } else {
            moves.last()
        })
    }
}

/// How long a request without a length waits to learn whether it has a body.
const FIRST_FRAME: Duration = Duration::from_millis(100);
