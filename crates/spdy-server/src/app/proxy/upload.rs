//! The body of a request on its way to the application, and its progress.

use std::{
    collections::VecDeque,
    future::Future,
    mem,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use axum::{body::Body, http::Method};
use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{Failure, Patience, fields, pool::Place};

/// A body that reports its [`Progress`]. A connection can send it until the pool takes it back.
#[derive(Debug)]
pub(super) struct Upload {
    /// `None` for bodies that are empty from the beginning.
    loan: Option<Arc<Loan>>,
    /// The attempt that has the body.
    turn: usize,
    /// The place at the application, which the request keeps until all of its body is sent, or is
    /// not wanted any more.
    place: Option<Arc<Place>>,
}

/// A body and its progress. The pool owns it, and lends it to one attempt after the other.
#[derive(Debug)]
struct Loan {
    moves: Moves,
    source: Mutex<Source>,
    /// Wakes the task that waits for a response when the body has failed.
    failed: Notify,
    /// Wakes the task that waits until the connection has dropped the body.
    dropped: Notify,
}

/// The rest of a body, and what has been sent of it.
#[derive(Debug)]
struct Source {
    rest: Rest,
    /// What was known about the length of the whole body.
    length: SizeHint,
    /// Whether the attempt has taken a frame.
    is_begun: bool,
    /// The frames that come before the rest of the body.
    ahead: VecDeque<Frame<Bytes>>,
    /// The frames that have been sent, as long as all of them are kept.
    sent: Sent,
    turn: usize,
    stage: Stage,
    failure: Option<String>,
    /// The task that sends the body, while it waits for more.
    sender: Option<Waker>,
}

/// The part of a body that has not been taken.
#[derive(Debug)]
enum Rest {
    Body(Body),
    /// The body has ended.
    Ended,
    /// The body has failed, or is not wanted any more.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// There is no response yet. A failure of the body is not passed on to the application: the
    /// pool gives up the request as a whole, and the connection decides when.
    Asked,
    /// A response has begun. A failure of the body ends the request.
    Answered,
    /// The application receives no more of the body.
    Over,
}

impl Upload {
    /// Takes the body of a request.
    ///
    /// The head of most requests without a body declares that. In SPDY and HTTP/2, an empty frame
    /// can declare it later. A short wait for that frame keeps such a request simple: it has no
    /// body, and is safe to send again. Whatever the result of the wait, all of the body reaches
    /// the application.
    pub(super) async fn begin(method: &Method, mut body: Body) -> Result<Self, Failure> {
        let is_clear = http_body::Body::is_end_stream(&body)
            || http_body::Body::size_hint(&body).lower() > 0
            || matches!(*method, Method::POST | Method::PUT | Method::PATCH);
        if is_clear {
            return Ok(Self::new(body, None));
        }
        match timeout(FIRST_FRAME, first(&mut body)).await {
            Ok(None) => Ok(Self::empty()),
            Ok(Some(Err(error))) => Err(Failure::Body(error.to_string())),
            Ok(Some(Ok(frame))) => Ok(Self::new(body, Some(frame))),
            Err(_) => Ok(Self::new(body, None)),
        }
    }

    fn new(body: Body, first: Option<Frame<Bytes>>) -> Self {
        let is_empty = first.is_none() && http_body::Body::is_end_stream(&body);
        Self {
            loan: (!is_empty).then(|| Arc::new(Loan::new(body, first))),
            turn: 0,
            place: None,
        }
    }

    /// Returns an empty body.
    pub(super) const fn empty() -> Self {
        Self {
            loan: None,
            turn: 0,
            place: None,
        }
    }

    pub(super) fn progress(&self) -> Progress {
        Progress(self.loan.clone())
    }

    /// Keeps a place for as long as the body is sent.
    pub(super) fn hold(&mut self, place: &Arc<Place>) {
        self.place = self.loan.is_some().then(|| Arc::clone(place));
    }

    /// Returns the source of the body, if this attempt still has the body.
    fn source(&self) -> Option<MutexGuard<'_, Source>> {
        let source = self.loan.as_ref()?.source();
        (source.turn == self.turn).then_some(source)
    }
}

impl Loan {
    fn new(body: Body, first: Option<Frame<Bytes>>) -> Self {
        Self {
            moves: Moves::default(),
            source: Mutex::new(Source {
                length: match first {
                    // The length of a partly sent body is unknown.
                    Some(_) => SizeHint::default(),
                    None => http_body::Body::size_hint(&body),
                },
                is_begun: false,
                rest: Rest::Body(body),
                ahead: first.into_iter().collect(),
                sent: Sent::default(),
                turn: 0,
                stage: Stage::Asked,
                failure: None,
                sender: None,
            }),
            failed: Notify::new(),
            dropped: Notify::new(),
        }
    }

    /// A body that panicked is not polled again, because the panic ends the connection that polled
    /// it.
    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes to another stage, and drops what that stage does not need.
    fn change(&self, stage: Stage) {
        let mut source = self.source();
        source.sent.forget();
        if stage == Stage::Answered && source.failure.is_none() {
            source.stage = stage;
            return;
        }
        source.stage = Stage::Over;
        let rest = source.let_go();
        let sender = source.sender.take();
        drop(source);
        drop(rest);
        if let Some(sender) = sender {
            sender.wake();
        }
    }
}

impl Source {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.stage == Stage::Over {
            return Poll::Ready(Some(Err(taken_back())));
        }
        if let Some(frame) = self.ahead.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        match &mut self.rest {
            // Applications count empty DATA frames, and close a connection that has a hundred.
            Rest::Body(body) => loop {
                let frame = ready!(http_body::Body::poll_frame(Pin::new(&mut *body), cx));
                if !frame.as_ref().is_some_and(is_empty) {
                    break Poll::Ready(frame);
                }
            },
            Rest::Ended => Poll::Ready(None),
            Rest::Gone => Poll::Pending,
        }
    }

    /// Notes what was taken, and returns what the application receives of it.
    fn note(
        &mut self,
        frame: Option<Result<Frame<Bytes>, axum::Error>>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match frame {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    fields::clean_trailers(trailers);
                    self.rest = Rest::Ended;
                }
                self.sent.keep(&frame);
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) if self.stage == Stage::Asked => {
                self.failure = Some(error.to_string());
                self.rest = Rest::Gone;
                Poll::Pending
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => {
                self.rest = Rest::Ended;
                Poll::Ready(None)
            }
        }
    }

    /// Takes the rest of the body. The caller must drop it while the source is not locked.
    #[must_use]
    fn let_go(&mut self) -> Rest {
        match self.rest {
            Rest::Ended => Rest::Ended,
            Rest::Body(_) | Rest::Gone => mem::replace(&mut self.rest, Rest::Gone),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty()
            && match &self.rest {
                Rest::Body(body) => http_body::Body::is_end_stream(body),
                Rest::Ended => true,
                Rest::Gone => false,
            }
    }
}

/// The frames of a body that have been sent, as long as they are few bytes. They are kept because
/// the application can report that it has not processed the request.
#[derive(Debug, Default)]
struct Sent {
    frames: VecDeque<Frame<Bytes>>,
    bytes: usize,
    is_incomplete: bool,
}

impl Sent {
    /// Keeps a copy of a frame, because a piece might be a slice of a much larger buffer.
    fn keep(&mut self, frame: &Frame<Bytes>) {
        if self.is_incomplete {
            return;
        }
        self.bytes += frame.data_ref().map_or(0, Bytes::len);
        if self.bytes > REPEATED {
            return self.forget();
        }
        let data = frame.data_ref().map(|data| Bytes::copy_from_slice(data));
        let trailers = || frame.trailers_ref().cloned().map(Frame::trailers);
        self.frames.extend(data.map(Frame::data).or_else(trailers));
    }

    fn forget(&mut self) {
        self.frames = VecDeque::new();
        self.is_incomplete = true;
    }
}

/// Returns the error for a connection that must stop sending a body. hyper resets the stream with
/// it.
fn taken_back() -> axum::Error {
    axum::Error::new(h2::Error::from(h2::Reason::CANCEL))
}

/// Returns the first frame that is not empty.
async fn first(body: &mut Body) -> Option<Result<Frame<Bytes>, axum::Error>> {
    loop {
        let frame = body.frame().await?;
        if !is_empty(&frame) {
            return Some(frame);
        }
    }
}

fn is_empty(frame: &Result<Frame<Bytes>, axum::Error>) -> bool {
    let data = frame.as_ref().ok().and_then(Frame::data_ref);
    data.is_some_and(Bytes::is_empty)
}

/// A piece of a body. It keeps the place of its request until the connection has sent it.
#[derive(Debug)]
pub(super) struct Piece {
    data: Bytes,
    _place: Option<Arc<Place>>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
    }
}

impl http_body::Body for Upload {
    type Data = Piece;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, axum::Error>>> {
        let piece = |data| Piece {
            data,
            _place: self.place.clone(),
        };
        let frame = self.poll_data(cx);
        frame.map_ok(|frame| frame.map_data(piece))
    }

    fn is_end_stream(&self) -> bool {
        self.loan.is_none() || self.source().is_some_and(|source| source.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if self.loan.is_none() {
            return SizeHint::with_exact(0);
        }
        // hyper asks for the length before it takes the first frame. A body that is sent again must
        // declare the same length.
        let source = self.source().filter(|source| !source.is_begun);
        source.map_or_else(SizeHint::default, |source| source.length)
    }
}

impl Upload {
    fn poll_data(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(loan) = &self.loan else {
            return Poll::Ready(None);
        };
        let Some(mut source) = self.source() else {
            return Poll::Ready(Some(Err(taken_back())));
        };
        // A repeated frame is no progress: all attempts share the time of one.
        let is_new = source.ahead.is_empty() && matches!(source.rest, Rest::Body(_));
        let mut frame = source.poll_frame(cx);
        if let Poll::Ready(taken) = frame {
            source.is_begun = true;
            frame = source.note(taken);
        }
        if source.failure.is_some() {
            loan.failed.notify_one();
        }
        source.sender = frame.is_pending().then(|| cx.waker().clone());
        loan.moves.note(&frame, is_new);
        frame
    }
}

impl Drop for Upload {
    /// The application does not read the rest.
    fn drop(&mut self) {
        let Some(loan) = &self.loan else {
            return;
        };
        let is_cut = !loan.source().is_end_stream();
        if let Some(place) = self.place.as_ref().filter(|_| is_cut) {
            place.note_broken();
        }
        if self.source().is_some() {
            loan.moves.note_end();
            loan.dropped.notify_one();
        }
    }
}

/// The time when the last frame of a body was sent.
#[derive(Debug)]
struct Moves {
    since: Instant,
    /// The milliseconds from `since` to the last frame.
    last: AtomicU64,
    /// Whether the application waits for more than the client has sent.
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
    fn note<T>(&self, frame: &Poll<T>, is_new: bool) {
        if frame.is_ready() && is_new {
            self.note_move();
        }
        self.awaits_client
            .store(frame.is_pending(), Ordering::Release);
    }

    /// Notes that the application does not wait for the client any more. If it did, its time starts
    /// now.
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

/// The progress of a body.
#[derive(Clone, Debug)]
pub(super) struct Progress(Option<Arc<Loan>>);

impl Progress {
    /// Returns the whole body for another attempt, and takes it from the previous one. Returns
    /// `None` if a part of the body is no longer kept.
    pub(super) fn again(&self) -> Option<Upload> {
        let Some(loan) = &self.0 else {
            return Some(Upload::empty());
        };
        let mut source = loan.source();
        if source.sent.is_incomplete || source.failure.is_some() {
            return None;
        }
        let Sent { mut frames, .. } = mem::take(&mut source.sent);
        frames.append(&mut source.ahead);
        source.ahead = frames;
        source.is_begun = false;
        source.turn += 1;
        Some(Upload {
            loan: Some(Arc::clone(loan)),
            turn: source.turn,
            place: None,
        })
    }

    /// Waits until the body of the client fails, and returns the reason.
    pub(super) async fn failed(&self) -> Failure {
        let Some(loan) = &self.0 else {
            return std::future::pending().await;
        };
        loop {
            if let Some(reason) = &loan.source().failure {
                return Failure::Body(reason.clone());
            }
            loan.failed.notified().await;
        }
    }

    /// Makes the request one that is never sent again.
    pub(super) fn send_once(&self) {
        if let Some(loan) = &self.0 {
            loan.source().sent.forget();
        }
    }

    /// Notes that a response has begun, so the request is not sent again.
    pub(super) fn answered(&self) {
        if let Some(loan) = &self.0 {
            loan.change(Stage::Answered);
        }
    }

    /// Drops the rest of the body. The application receives no more of it, and its stream is reset.
    pub(super) fn take_back(&self) {
        if let Some(loan) = &self.0 {
            loan.change(Stage::Over);
        }
    }

    /// Drops the rest of the body without a notice to the application.
    pub(super) fn park(&self) {
        if let Some(loan) = &self.0 {
            let rest = loan.source().let_go();
            drop(rest);
        }
    }

    /// Waits until the connection has dropped the body. Completes once.
    pub(super) async fn dropped(&self) {
        if let Some(loan) = &self.0 {
            loan.dropped.notified().await;
        }
    }

    /// Waits for a response, as long as the application can still give it in time. While the
    /// application waits for the client, the time does not run: the limit on bodies applies then.
    pub(super) async fn or_silent<T>(
        &self,
        answer: impl Future<Output = T>,
        patience: &mut Patience,
    ) -> Option<T> {
        self.wait(answer, patience, Self::silent_since).await
    }

    /// Leaves to later attempts what the silence of the application has left of the time. So all
    /// attempts have the time of one, although the rest of the body moves in each.
    pub(super) fn charge(&self, patience: &mut Patience) {
        if let Some(since) = self.silent_since() {
            patience.renew(since);
        }
        patience.shrink();
    }

    /// Waits as long as the body moves in time, whichever side it waits for.
    pub(super) async fn or_still<T>(
        &self,
        outcome: impl Future<Output = T>,
        patience: &mut Patience,
    ) -> Option<T> {
        let last_move = |progress: &Self| progress.0.as_ref().map(|loan| loan.moves.last());
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
            // If the time restarts at the last movement, some of it might still be left.
            patience.renew(since(self)?);
            if patience.is_spent() {
                return None;
            }
        }
    }

    /// Returns the time since when the application has been silent: since the last frame was sent,
    /// or from now on while it waits for the client. Returns `None` for a body that is empty from
    /// the beginning.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        let moves = &self.0.as_ref()?.moves;
        let awaits_client = moves.awaits_client.load(Ordering::Acquire);
        Some(if awaits_client {
            Instant::now()
        } else {
            moves.last()
        })
    }
}

/// How long a request without a length waits for the frame that shows whether it has a body.
const FIRST_FRAME: Duration = Duration::from_millis(100);

/// The maximum number of bytes of a sent body that are kept until the response begins.
const REPEATED: usize = 16 * 1024;
