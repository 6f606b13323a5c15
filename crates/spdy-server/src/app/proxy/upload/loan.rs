//! The body of a request, which the pool lends to one attempt after the other.

use std::{
    collections::VecDeque,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::Notify;

use super::{super::fields, Upload, progress::Moves};

/// A body and its progress. The pool owns it, and lends it to one attempt after the other.
#[derive(Debug)]
pub(super) struct Loan {
    pub(super) moves: Moves,
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
    /// The attempt that has the body.
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
pub(super) enum Stage {
    /// There is no response yet. A failure of the body is not passed on to the application: the
    /// pool gives up the request as a whole, and the connection decides when.
    Asked,
    /// A response has begun. A failure of the body ends the request.
    Answered,
    /// The application receives no more of the body.
    Over,
}

/// What was taken of a body.
type Taken = Option<Result<Frame<Bytes>, axum::Error>>;

/// What is of no use any more. It is dropped while the source is not locked, because it is not
/// ours: its end can do anything.
#[derive(Debug, Default)]
struct Spent {
    _rest: Option<Rest>,
    _error: Option<axum::Error>,
    _sender: Option<Waker>,
}

impl Loan {
    pub(super) fn new(body: Body, first: Option<Frame<Bytes>>) -> Self {
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

    /// Returns the next frame for an attempt, if it still has the body.
    pub(super) fn poll_frame(&self, turn: usize, cx: &mut Context<'_>) -> Poll<Taken> {
        let mut source = self.source();
        if source.turn != turn {
            return Poll::Ready(Some(Err(taken_back())));
        }
        // A repeated frame is no progress: all attempts share the time of one.
        let is_new = source.ahead.is_empty() && matches!(source.rest, Rest::Body(_));
        let (frame, spent) = source.take_frame(cx);
        self.moves.note(&frame, is_new);
        let has_failed = source.failure.is_some();
        drop(source);
        drop(spent);
        if has_failed {
            self.failed.notify_one();
        }
        frame
    }

    /// Returns the whole body for another attempt, and takes it from the previous one. Returns
    /// `None` if a part of the body is no longer kept.
    pub(super) fn again(self: &Arc<Self>) -> Option<Upload> {
        let turn = self.source().rewind()?;
        // What the previous attempt waited for says nothing of the next one.
        self.moves.note_end();
        Some(Upload {
            loan: Some(Arc::clone(self)),
            turn,
            place: None,
        })
    }

    /// Changes to another stage, and drops what that stage does not need.
    pub(super) fn change(&self, stage: Stage) {
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

    /// Drops the rest of the body without a notice to the application.
    pub(super) fn park(&self) {
        let rest = self.source().let_go();
        drop(rest);
    }

    /// Makes the body one that is not sent again.
    pub(super) fn send_once(&self) {
        self.source().sent.forget();
    }

    /// Notes that an attempt has dropped the body.
    pub(super) fn end(&self, turn: usize) {
        if self.source().turn == turn {
            self.moves.note_end();
            self.dropped.notify_one();
        }
    }

    /// Waits until the body of the client fails, and returns the reason.
    pub(super) async fn failed(&self) -> String {
        loop {
            if let Some(reason) = &self.source().failure {
                return reason.clone();
            }
            self.failed.notified().await;
        }
    }

    /// Waits until the connection has dropped the body. Completes once.
    pub(super) async fn dropped(&self) {
        self.dropped.notified().await;
    }

    /// Returns whether all of the body was sent.
    pub(super) fn is_over(&self) -> bool {
        self.source().is_over()
    }

    /// Returns whether an attempt has sent all of the body.
    pub(super) fn is_over_for(&self, turn: usize) -> bool {
        let source = self.source();
        source.turn == turn && source.is_over()
    }

    /// Returns what an attempt has to declare of the length.
    ///
    /// hyper asks for the length before it takes the first frame. A body that is sent again must
    /// declare the same length.
    pub(super) fn size_hint(&self, turn: usize) -> SizeHint {
        let source = self.source();
        if source.turn != turn || source.is_begun {
            return SizeHint::default();
        }
        source.length
    }

    /// A body that panicked is not polled again, because the panic ends the connection that polled
    /// it.
    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    /// Takes the next frame, and notes it.
    fn take_frame(&mut self, cx: &mut Context<'_>) -> (Poll<Taken>, Spent) {
        let mut spent = Spent::default();
        let mut frame = self.poll_frame(cx);
        if let Poll::Ready(taken) = frame {
            self.is_begun = true;
            frame = self.note(taken, &mut spent);
        }
        let sender = frame.is_pending().then(|| cx.waker().clone());
        spent._sender = mem::replace(&mut self.sender, sender);
        (frame, spent)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Taken> {
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
    fn note(&mut self, frame: Taken, spent: &mut Spent) -> Poll<Taken> {
        match frame {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    fields::clean_trailers(trailers);
                    spent._rest = Some(mem::replace(&mut self.rest, Rest::Ended));
                }
                self.sent.keep(&frame);
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) if self.stage == Stage::Asked => {
                self.failure = Some(error.to_string());
                spent._rest = Some(mem::replace(&mut self.rest, Rest::Gone));
                spent._error = Some(error);
                Poll::Pending
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => {
                spent._rest = Some(mem::replace(&mut self.rest, Rest::Ended));
                Poll::Ready(None)
            }
        }
    }

    /// Makes the whole body the rest, and returns the turn of the next attempt. Returns `None` if a
    /// part of the body is no longer kept.
    fn rewind(&mut self) -> Option<usize> {
        if self.sent.is_incomplete || self.failure.is_some() {
            return None;
        }
        let Sent { mut frames, .. } = mem::take(&mut self.sent);
        frames.append(&mut self.ahead);
        self.ahead = frames;
        self.is_begun = false;
        self.turn += 1;
        Some(self.turn)
    }

    /// Takes the rest of the body. The caller must drop it while the source is not locked.
    #[must_use]
    fn let_go(&mut self) -> Rest {
        match self.rest {
            Rest::Ended => Rest::Ended,
            Rest::Body(_) | Rest::Gone => mem::replace(&mut self.rest, Rest::Gone),
        }
    }

    fn is_over(&self) -> bool {
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

pub(super) fn is_empty(frame: &Result<Frame<Bytes>, axum::Error>) -> bool {
    let data = frame.as_ref().ok().and_then(Frame::data_ref);
    data.is_some_and(Bytes::is_empty)
}

/// The maximum number of bytes of a sent body that are kept until the response begins.
const REPEATED: usize = 16 * 1024;
