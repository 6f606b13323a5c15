//! The body of a request, which the pool lends to one attempt after the other.

use std::{
    collections::VecDeque,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use axum::{body::Body, http::HeaderMap};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::Notify;

use super::{super::fields, Upload, progress::Moves};

/// A body and its progress. The pool owns it, and lends it to one attempt after the other.
///
/// The body is not ours: its code can do anything, such as drop the request. So it is polled and
/// dropped while the source is not locked.
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
    /// An attempt polls the body, and brings it back.
    Polled,
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

/// What an attempt can do when it wants a frame.
enum Step {
    Done(Poll<Taken>),
    Ask(Body),
}

/// What is of no use any more. It is dropped while the source is not locked.
#[derive(Debug, Default)]
struct Spent {
    _rest: Option<Rest>,
    _error: Option<axum::Error>,
    _sender: Option<Waker>,
    _sent: Sent,
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
                rest: Rest::of(body),
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
        let mut spent = Spent::default();
        let mut source = self.source();
        if source.turn != turn {
            return Poll::Ready(Some(Err(taken_back())));
        }
        let step = source.step(cx, &mut spent);
        if let Step::Done(frame) = &step {
            // A repeated frame is no progress: all attempts share the time of one.
            self.moves.note(frame, false);
        }
        drop(source);
        drop(spent);
        match step {
            Step::Done(frame) => frame,
            Step::Ask(body) => self.ask(body, turn, cx),
        }
    }

    /// Polls the body for an attempt, and brings it back.
    fn ask(&self, body: Body, turn: usize, cx: &mut Context<'_>) -> Poll<Taken> {
        let mut asked = Asked {
            loan: self,
            body: Some(body),
        };
        let taken = asked.poll(cx);
        let rest = asked.rest(&taken);
        let failure = reason(&taken);
        let mut spent = Spent::default();
        let mut source = self.source();
        spent._rest = source.bring_back(rest);
        let mut waits = None;
        let frame = if source.turn == turn {
            let frame = source.note(taken, failure, cx, &mut spent);
            self.moves.note(&frame, true);
            frame
        } else {
            source.keep_for_next(taken, failure, &mut spent);
            waits = source.sender.take();
            Poll::Ready(Some(Err(taken_back())))
        };
        let has_failed = source.failure.is_some();
        drop(source);
        drop(spent);
        if let Some(next) = waits {
            next.wake();
        }
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
        let sent = source.sent.forget();
        let (mut rest, mut sender) = (None, None);
        if stage == Stage::Answered && source.failure.is_none() {
            source.stage = stage;
        } else {
            source.stage = Stage::Over;
            rest = Some(source.let_go());
            sender = source.sender.take();
        }
        drop(source);
        drop((sent, rest));
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
        let sent = self.source().sent.forget();
        drop(sent);
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

    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body that is polled. If it panics, it has failed.
struct Asked<'a> {
    loan: &'a Loan,
    body: Option<Body>,
}

impl Asked<'_> {
    /// Returns the next frame that is not empty. Applications count empty DATA frames, and close a
    /// connection that has a hundred.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Taken> {
        let body = self.body.as_mut().expect("the body was not brought back");
        let mut body = Pin::new(body);
        loop {
            let mut frame = ready!(http_body::Body::poll_frame(body.as_mut(), cx));
            if frame.as_ref().is_some_and(is_empty) {
                continue;
            }
            if let Some(Ok(frame)) = &mut frame
                && let Some(trailers) = frame.trailers_mut()
            {
                fields::clean_trailers(trailers);
            }
            return Poll::Ready(frame);
        }
    }

    /// Returns the rest of the body after what was taken.
    fn rest(&mut self, frame: &Poll<Taken>) -> Rest {
        let body = self.body.as_ref().expect("the body was not brought back");
        let is_over = match frame {
            Poll::Ready(Some(Ok(frame))) => {
                frame.is_trailers() || http_body::Body::is_end_stream(body)
            }
            Poll::Ready(None) => true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => false,
        };
        let body = self.body.take();
        match body {
            Some(body) if !is_over => Rest::Body(body),
            over => {
                drop(over);
                Rest::Ended
            }
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if self.body.is_some() {
            let mut source = self.loan.source();
            source.rest = Rest::Gone;
            source.failure = Some("reading the body panicked".into());
            drop(source);
            self.loan.failed.notify_one();
        }
    }
}

impl Rest {
    /// Returns the rest of a body of which something was taken, or nothing.
    fn of(body: Body) -> Self {
        if http_body::Body::is_end_stream(&body) {
            Self::Ended
        } else {
            Self::Body(body)
        }
    }
}

impl Source {
    /// Takes a frame that is there, or the body, which then has to be asked for one.
    fn step(&mut self, cx: &Context<'_>, spent: &mut Spent) -> Step {
        if self.stage == Stage::Over {
            return Step::Done(Poll::Ready(Some(Err(taken_back()))));
        }
        if let Some(frame) = self.ahead.pop_front() {
            return Step::Done(self.note(Poll::Ready(Some(Ok(frame))), None, cx, spent));
        }
        match mem::replace(&mut self.rest, Rest::Polled) {
            Rest::Body(body) => Step::Ask(body),
            rest => {
                let frame = match rest {
                    Rest::Ended => Poll::Ready(None),
                    _ => Poll::Pending,
                };
                self.rest = rest;
                Step::Done(self.note(frame, None, cx, spent))
            }
        }
    }

    /// Takes the rest of the body back. Returns it if it is not wanted any more.
    fn bring_back(&mut self, rest: Rest) -> Option<Rest> {
        if matches!(self.rest, Rest::Polled) {
            self.rest = rest;
            return None;
        }
        Some(rest)
    }

    /// Notes what was taken, and returns what the application receives of it.
    fn note(
        &mut self,
        mut frame: Poll<Taken>,
        failure: Option<String>,
        cx: &Context<'_>,
        spent: &mut Spent,
    ) -> Poll<Taken> {
        match frame {
            Poll::Ready(Some(Err(error))) if self.stage == Stage::Asked => {
                self.fail(failure, error, spent);
                frame = Poll::Pending;
            }
            Poll::Ready(taken) => {
                self.is_begun = true;
                if let Some(Ok(frame)) = &taken {
                    spent._sent = self.sent.keep(frame);
                }
                spent._sender = self.sender.take();
                return Poll::Ready(taken);
            }
            Poll::Pending => {}
        }
        if self.stage == Stage::Over {
            return Poll::Ready(Some(Err(taken_back())));
        }
        spent._sender = self.sender.replace(cx.waker().clone());
        frame
    }

    /// Notes what an attempt has taken that no longer has the body.
    fn keep_for_next(&mut self, frame: Poll<Taken>, failure: Option<String>, spent: &mut Spent) {
        match frame {
            Poll::Ready(Some(Ok(frame))) => self.ahead.push_back(frame),
            Poll::Ready(Some(Err(error))) => self.fail(failure, error, spent),
            Poll::Ready(None) | Poll::Pending => {}
        }
    }

    fn fail(&mut self, failure: Option<String>, error: axum::Error, spent: &mut Spent) {
        self.failure = failure;
        spent._rest = Some(mem::replace(&mut self.rest, Rest::Gone));
        spent._error = Some(error);
    }

    /// Makes the whole body the rest, and returns the turn of the next attempt. Returns `None` if a
    /// part of the body is no longer kept.
    fn rewind(&mut self) -> Option<usize> {
        if self.sent.is_incomplete || self.failure.is_some() {
            return None;
        }
        let sent = mem::take(&mut self.sent);
        let mut ahead: VecDeque<_> = sent.into_frames().collect();
        ahead.append(&mut self.ahead);
        self.ahead = ahead;
        self.is_begun = false;
        self.turn += 1;
        Some(self.turn)
    }

    /// Takes the rest of the body. The caller must drop it while the source is not locked.
    #[must_use]
    fn let_go(&mut self) -> Rest {
        match self.rest {
            Rest::Ended => Rest::Ended,
            Rest::Body(_) | Rest::Polled | Rest::Gone => mem::replace(&mut self.rest, Rest::Gone),
        }
    }

    fn is_over(&self) -> bool {
        self.ahead.is_empty() && matches!(self.rest, Rest::Ended)
    }
}

/// The part of a body that has been sent, as long as it is few bytes. It is kept because the
/// application can report that it has not processed the request.
#[derive(Debug, Default)]
struct Sent {
    /// The payload of all frames together: a client chooses how many they are.
    data: Vec<u8>,
    trailers: Option<HeaderMap>,
    is_incomplete: bool,
}

impl Sent {
    /// Keeps a copy of a frame, because a piece might be a slice of a much larger buffer. Returns
    /// what is kept no longer.
    #[must_use]
    fn keep(&mut self, frame: &Frame<Bytes>) -> Self {
        let data = frame.data_ref().map_or(&[][..], |data| data);
        if self.is_incomplete || self.data.len() + data.len() > REPEATED {
            return self.forget();
        }
        self.data.extend_from_slice(data);
        if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
        Self::default()
    }

    /// Keeps nothing from now on. Returns what was kept.
    #[must_use]
    fn forget(&mut self) -> Self {
        let nothing = Self {
            is_incomplete: true,
            ..Self::default()
        };
        mem::replace(self, nothing)
    }

    /// Returns the frames to send again.
    fn into_frames(self) -> impl Iterator<Item = Frame<Bytes>> {
        let data = (!self.data.is_empty()).then(|| Frame::data(self.data.into()));
        data.into_iter()
            .chain(self.trailers.into_iter().map(Frame::trailers))
    }
}

/// Returns the error for a connection that must stop sending a body. hyper resets the stream with
/// it.
fn taken_back() -> axum::Error {
    axum::Error::new(h2::Error::from(h2::Reason::CANCEL))
}

/// Returns why a body has failed.
fn reason(taken: &Poll<Taken>) -> Option<String> {
    match taken {
        Poll::Ready(Some(Err(error))) => Some(error.to_string()),
        Poll::Ready(_) | Poll::Pending => None,
    }
}

pub(super) fn is_empty(frame: &Result<Frame<Bytes>, axum::Error>) -> bool {
    let data = frame.as_ref().ok().and_then(Frame::data_ref);
    data.is_some_and(Bytes::is_empty)
}

/// The maximum number of bytes of a sent body that are kept until the response begins.
const REPEATED: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            OnceLock,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
    };

    use axum::http::header::ETAG;

    use super::{super::Progress, *};

    /// A body of two pieces that does something when it is polled, and when it is dropped.
    struct Acts<F: FnMut(usize) + Send>(usize, F);

    impl<F: FnMut(usize) + Send + Unpin> http_body::Body for Acts<F> {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0 += 1;
            let polls = self.0;
            self.1(polls);
            Poll::Ready((polls < 3).then(|| Ok(Frame::data(Bytes::from(vec![polls as u8])))))
        }
    }

    impl<F: FnMut(usize) + Send> Drop for Acts<F> {
        fn drop(&mut self) {
            self.1(0);
        }
    }

    /// Returns an upload whose body does this with its own progress, when it is polled for each
    /// piece, and when it is dropped.
    fn acting(act: impl Fn(&Progress, usize) + Send + Sync + Unpin + 'static) -> Upload {
        let own = Arc::new(OnceLock::<Progress>::new());
        let known = Arc::clone(&own);
        let body = Acts(0, move |polls| {
            if let Some(progress) = known.get() {
                act(progress, polls);
            }
        });
        let upload = Upload::new(Body::new(body), None);
        own.set(upload.progress()).unwrap();
        upload
    }

    fn next(upload: &mut Upload) -> Poll<Option<Result<u8, String>>> {
        let mut cx = Context::from_waker(Waker::noop());
        let frame = http_body::Body::poll_frame(Pin::new(upload), &mut cx);
        frame.map(|frame| {
            let piece = |frame: Frame<super::super::Piece>| frame.into_data().unwrap().data[0];
            Some(frame?.map(piece).map_err(|error| error.to_string()))
        })
    }

    #[test]
    fn a_body_may_use_its_own_request_when_it_is_polled_or_dropped() {
        let dropped = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&dropped);
        let mut upload = acting(move |progress, polls| {
            progress.silent_since();
            match polls {
                0 => _ = count.fetch_add(1, Relaxed),
                2 => progress.take_back(),
                _ => {}
            }
        });
        assert_eq!(next(&mut upload), Poll::Ready(Some(Ok(1))));
        assert_eq!(next(&mut upload), Poll::Ready(Some(Ok(2))));
        assert_eq!(dropped.load(Relaxed), 1);
        assert!(matches!(next(&mut upload), Poll::Ready(Some(Err(_)))));
    }

    #[test]
    fn what_an_attempt_takes_that_has_lost_the_body_goes_to_the_next() {
        let second = Arc::new(Mutex::new(None));
        let begun = Arc::clone(&second);
        let mut first = acting(move |progress, polls| {
            if polls == 2 {
                let mut next_attempt = progress.again().unwrap();
                assert_eq!(next(&mut next_attempt), Poll::Ready(Some(Ok(1))));
                assert_eq!(next(&mut next_attempt), Poll::Pending);
                *begun.lock().unwrap() = Some(next_attempt);
            }
        });
        assert_eq!(next(&mut first), Poll::Ready(Some(Ok(1))));
        assert!(matches!(next(&mut first), Poll::Ready(Some(Err(_)))));
        let mut second = second.lock().unwrap().take().unwrap();
        assert_eq!(next(&mut second), Poll::Ready(Some(Ok(2))));
        assert_eq!(next(&mut second), Poll::Ready(None));
    }

    #[test]
    fn a_body_that_panics_has_failed() {
        let mut upload = acting(|_, polls| assert_eq!(polls, 0, "on purpose: the body panics"));
        let progress = upload.progress();
        let polled = std::panic::AssertUnwindSafe(|| next(&mut upload));
        std::panic::catch_unwind(polled).unwrap_err();
        assert_eq!(next(&mut upload), Poll::Pending);
        assert!(progress.again().is_none());
    }

    /// A body of pieces of one byte, and trailers.
    struct Crumbs(usize);

    impl http_body::Body for Crumbs {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let Some(left) = self.0.checked_sub(1) else {
                return Poll::Ready(None);
            };
            self.0 = left;
            Poll::Ready(Some(Ok(match left {
                0 => Frame::trailers(HeaderMap::from_iter([(ETAG, "x".parse().unwrap())])),
                _ => Frame::data(Bytes::from(vec![left as u8])),
            })))
        }
    }

    /// Returns the length of the body, the number of its pieces, and whether trailers follow.
    fn read(upload: &mut Upload) -> (usize, usize, bool) {
        let mut cx = Context::from_waker(Waker::noop());
        let (mut length, mut pieces) = (0, 0);
        loop {
            match http_body::Body::poll_frame(Pin::new(upload), &mut cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => (length, pieces) = (length + data.data.len(), pieces + 1),
                    Err(_) => return (length, pieces, true),
                },
                Poll::Ready(None) => return (length, pieces, false),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_is_kept_to_be_sent_again_is_bytes_and_not_as_many_pieces_as_the_client_likes() {
        let mut first = Upload::new(Body::new(Crumbs(REPEATED + 1)), None);
        assert_eq!(read(&mut first), (REPEATED, REPEATED, true));
        let progress = first.progress();
        for _ in 0..2 {
            let mut again = progress.again().unwrap();
            assert_eq!(read(&mut again), (REPEATED, 1, true));
        }
        let mut longer = Upload::new(Body::new(Crumbs(REPEATED + 2)), None);
        assert_eq!(read(&mut longer), (REPEATED + 1, REPEATED + 1, true));
        assert!(longer.progress().again().is_none());
    }
}
