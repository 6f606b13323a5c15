//! The body of a request on its way to the application, and whether it moves.

use std::{
    collections::VecDeque,
    future::Future,
    mem,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use axum::{body::Body, http::Method};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{Failure, Patience, fields, pool::Place};

/// A body that tells its [`Progress`], and of which its connection has the use for as long as it is let.
#[derive(Debug)]
pub(super) struct Upload {
    /// `None` for bodies that are empty from the beginning.
    loan: Option<Arc<Loan>>,
    /// Which attempt to send the request has the body.
    turn: usize,
    /// The place at the application that the request has until its body is no longer sent.
    place: Option<Arc<Place>>,
}

/// A body, and how it moves. The pool keeps it, and lends it to one attempt after the other.
#[derive(Debug)]
struct Loan {
    moves: Moves,
    source: Mutex<Source>,
    /// Tells the task that waits for an answer that the body has failed.
    failed: Notify,
    /// Tells the task that waits for it that the connection has dropped the body.
    dropped: Notify,
}

/// What is left of a body, and what has gone.
#[derive(Debug)]
struct Source {
    rest: Rest,
    /// What was known of the length of the whole body.
    length: SizeHint,
    /// Whether the attempt has taken something.
    is_begun: bool,
    /// What comes before the rest of the body.
    ahead: VecDeque<Frame<Bytes>>,
    /// What has gone, as long as all of it is here.
    sent: Sent,
    turn: usize,
    stage: Stage,
    failure: Option<String>,
    /// The task that sends the body, while it waits for more.
    sender: Option<Waker>,
}

/// What has not been taken of a body.
#[derive(Debug)]
enum Rest {
    Body(Body),
    /// Nothing.
    Ended,
    /// It has failed, or nobody wants it.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// There is no answer yet. A body that fails says nothing to the application: the request is given up as a whole,
    /// and its connection decides when.
    Asked,
    /// An answer has begun. A body that fails ends the request.
    Answered,
    /// The application gets no more of it.
    Over,
}

impl Upload {
    /// Takes the body of a request.
    ///
    /// Most requests that have no body say so in their head. SPDY and HTTP/2 allow to say it later, with an empty
    /// frame. A short wait for this keeps such a request the simple one that it is: without a body, and safe to send
    /// again. In whatever way the wait ends, all of the body reaches the application.
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

    /// A body without anything in it.
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

    /// What there is of the body, while it is this attempt's.
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
                    // The length of a body whose beginning was taken is not known.
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

    /// A body that panicked is not polled again: the panic ends the connection that polled it.
    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes to another stage, and lets go of what is not wanted there.
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
            Rest::Body(body) => http_body::Body::poll_frame(Pin::new(body), cx),
            Rest::Ended => Poll::Ready(None),
            Rest::Gone => Poll::Pending,
        }
    }

    /// Notes what was taken, and returns what the application gets of it.
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

    /// Takes what is left of the body. To be dropped where the source is not locked.
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

/// The frames of a body that have gone, as long as they are few bytes: the application may say that it has looked at
/// nothing of the request.
#[derive(Debug, Default)]
struct Sent {
    frames: VecDeque<Frame<Bytes>>,
    bytes: usize,
    is_incomplete: bool,
}

impl Sent {
    /// Keeps a copy: a piece may be a part of something much larger.
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

/// What a connection is told that sends a body no longer. hyper resets the stream by it.
fn taken_back() -> axum::Error {
    axum::Error::new(h2::Error::from(h2::Reason::CANCEL))
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
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(loan) = &self.loan else {
            return Poll::Ready(None);
        };
        let Some(mut source) = self.source() else {
            return Poll::Ready(Some(Err(taken_back())));
        };
        // What goes again moves nothing: all attempts together have the time of one.
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

    fn is_end_stream(&self) -> bool {
        self.loan.is_none() || self.source().is_some_and(|source| source.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if self.loan.is_none() {
            return SizeHint::with_exact(0);
        }
        // hyper asks before it takes the first frame. A body that is sent again has to look as it did then.
        let source = self.source().filter(|source| !source.is_begun);
        source.map_or_else(SizeHint::default, |source| source.length)
    }
}

impl Drop for Upload {
    /// The application wants no more of it.
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
    fn note<T>(&self, frame: &Poll<T>, is_new: bool) {
        if frame.is_ready() && is_new {
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
pub(super) struct Progress(Option<Arc<Loan>>);

impl Progress {
    /// Returns the whole body for another attempt, and takes it from the one before. `None` if too much of it is gone.
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

    /// Waits until the client's body fails, and returns why.
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

    /// The request is not sent again, whatever comes.
    pub(super) fn send_once(&self) {
        if let Some(loan) = &self.0 {
            loan.source().sent.forget();
        }
    }

    /// An answer has begun: the request is not sent again.
    pub(super) fn answered(&self) {
        if let Some(loan) = &self.0 {
            loan.change(Stage::Answered);
        }
    }

    /// Lets go of what is left of the body. The application gets no more of it, and is told so.
    pub(super) fn take_back(&self) {
        if let Some(loan) = &self.0 {
            loan.change(Stage::Over);
        }
    }

    /// Lets go of what is left of the body, and tells the application nothing.
    pub(super) fn park(&self) {
        if let Some(loan) = &self.0 {
            let rest = loan.source().let_go();
            drop(rest);
        }
    }

    /// Waits until the connection has dropped the body. It ends once.
    pub(super) async fn dropped(&self) {
        if let Some(loan) = &self.0 {
            loan.dropped.notified().await;
        }
    }

    /// Whether all of the body is gone.
    pub(super) fn is_over(&self) -> bool {
        let is_over = |loan: &Arc<Loan>| loan.source().is_end_stream();
        self.0.as_ref().is_none_or(is_over)
    }

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
        let moves = &self.0.as_ref()?.moves;
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

/// How many bytes of a body that have gone are kept until the answer begins.
const REPEATED: usize = 16 * 1024;
