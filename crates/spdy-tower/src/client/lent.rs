//! The body of a request that may have to be sent more than once.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};

use crate::BoxError;

/// Keeps the body of a request, and lends it to one attempt after the other, until an attempt has
/// taken a frame from it.
///
/// The body is not ours: its code can do anything, such as drop the request. So it is polled and
/// dropped while it is not locked.
#[derive(Debug)]
pub(super) struct Lender {
    /// `None` if it is empty, which can be sent any number of times.
    shared: Option<Arc<Mutex<Shared>>>,
}

struct Shared {
    /// `None` while an attempt polls the body, and after it has panicked.
    body: Option<Whole>,
    /// What was taken for an attempt that had no longer the body.
    early: Option<Taken>,
    /// A frame, the end, or an error was taken, or the body has panicked.
    is_begun: bool,
    /// What the body has said of its length before it was begun, or else of what is left.
    length: SizeHint,
    has_ended: bool,
    /// The attempt that has the body.
    turn: usize,
    /// The task of that attempt, if it waits until an earlier one brings the body back.
    waits: Option<Waker>,
}

type Whole = UnsyncBoxBody<Bytes, BoxError>;
type Taken = Option<Result<Frame<Bytes>, BoxError>>;

impl Lender {
    pub(super) fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        if body.is_end_stream() {
            return Self { shared: None };
        }
        let shared = Shared {
            length: body.size_hint(),
            body: Some(body.map_err(Into::into).boxed_unsync()),
            early: None,
            is_begun: false,
            has_ended: false,
            turn: 0,
            waits: None,
        };
        Self {
            shared: Some(Arc::new(Mutex::new(shared))),
        }
    }

    /// Lends the whole body, and takes it back from the attempt before. Returns `None` if a frame
    /// of it was taken.
    pub(super) fn lend(&self) -> Option<RequestBody> {
        let Some(shared) = &self.shared else {
            return Some(RequestBody(None));
        };
        let mut body = lock(shared);
        if body.is_begun {
            return None;
        }
        body.turn += 1;
        Some(RequestBody(Some((Arc::clone(shared), body.turn))))
    }
}

/// A body that is lent: see [`Lender`].
#[derive(Debug)]
pub(super) struct RequestBody(Option<(Arc<Mutex<Shared>>, usize)>);

impl RequestBody {
    /// The body, while this attempt has it.
    fn body(&self) -> Option<MutexGuard<'_, Shared>> {
        let (shared, turn) = self.0.as_ref()?;
        Some(lock(shared)).filter(|shared| shared.turn == *turn)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some((shared, turn)) = &self.0 else {
            return Poll::Ready(None);
        };
        let Some(mut found) = self.body() else {
            return Poll::Ready(Some(Err(lent_again())));
        };
        if let Some(taken) = found.early.take() {
            found.is_begun = true;
            found.length = SizeHint::default();
            return Poll::Ready(taken);
        }
        let Some(body) = found.body.take() else {
            let earlier = found.waits.replace(cx.waker().clone());
            drop(found);
            drop(earlier);
            return Poll::Pending;
        };
        drop(found);
        let body = Some(body);
        Asked { shared, body }.poll(*turn, cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
            || self
                .body()
                .is_some_and(|shared| shared.has_ended && shared.early.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        if self.0.is_none() {
            return SizeHint::with_exact(0);
        }
        let length = self.body().map(|shared| shared.length);
        length.unwrap_or_default()
    }
}

/// A body that an attempt polls. If it panics, it is not lent again, and an attempt that has it
/// already gets an error.
struct Asked<'a> {
    shared: &'a Mutex<Shared>,
    body: Option<Whole>,
}

impl Asked<'_> {
    /// Polls the body for an attempt, and brings it back.
    fn poll(mut self, turn: usize, cx: &mut Context<'_>) -> Poll<Taken> {
        let body = self.body.as_mut().expect("the body was taken");
        let frame = Pin::new(&mut *body).poll_frame(cx);
        let (length, has_ended) = (body.size_hint(), body.is_end_stream());
        let body = self.body.take();
        let mut shared = lock(self.shared);
        shared.body = body;
        shared.has_ended = has_ended;
        if shared.turn == turn {
            if frame.is_ready() {
                shared.is_begun = true;
                shared.length = length;
            }
            return frame;
        }
        if let Poll::Ready(taken) = frame {
            shared.early = Some(taken);
        }
        let waits = shared.waits.take();
        drop(shared);
        wake(waits);
        Poll::Ready(Some(Err(lent_again())))
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if self.body.is_some() {
            let mut shared = lock(self.shared);
            shared.is_begun = true;
            shared.early = Some(Some(Err("the body of the request panicked".into())));
            let waits = shared.waits.take();
            drop(shared);
            wake(waits);
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn lent_again() -> BoxError {
    "request is sent on another connection".into()
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("is_begun", &self.is_begun)
            .field("turn", &self.turn)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use http_body_util::{Empty, Full};

    use super::*;

    fn poll(body: &mut RequestBody) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        pin!(body).poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_body_is_lent_until_a_frame_is_taken() {
        let lender = Lender::new(Full::new(Bytes::from_static(b"whole")));
        let mut first = lender.lend().unwrap();
        let mut second = lender.lend().unwrap();
        assert_eq!(second.size_hint().exact(), Some(5));
        assert!(matches!(poll(&mut first), Poll::Ready(Some(Err(_)))));
        let Poll::Ready(Some(Ok(frame))) = poll(&mut second) else {
            panic!("the last borrower has the body")
        };
        assert_eq!(frame.into_data().unwrap(), "whole");
        assert!(lender.lend().is_none());
    }

    /// A body that panics when it is polled.
    struct Panics;

    impl Body for Panics {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            panic!("on purpose: the body panics");
        }
    }

    #[test]
    fn a_body_that_has_panicked_is_not_lent_again() {
        let lender = Lender::new(Panics);
        let mut first = lender.lend().unwrap();
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| poll(&mut first))).unwrap_err();
        assert!(lender.lend().is_none());
    }

    /// A body of two bytes, each of them a frame. When it is polled, the lender lends it again, and
    /// the next attempt polls it too.
    struct Lends {
        lender: Arc<Mutex<Option<Lender>>>,
        next: Arc<Mutex<Option<RequestBody>>>,
        bytes: usize,
    }

    impl Body for Lends {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            if let Some(lender) = self.lender.lock().unwrap().take() {
                let mut next = lender.lend().unwrap();
                assert!(poll(&mut next).is_pending());
                assert_eq!(next.size_hint().exact(), Some(2));
                *self.next.lock().unwrap() = Some(next);
            }
            let is_over = self.bytes == 0;
            self.bytes = self.bytes.saturating_sub(1);
            let frame = || Ok(Frame::data(Bytes::from_static(b"1")));
            Poll::Ready((!is_over).then(frame))
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.bytes as u64)
        }
    }

    #[test]
    fn what_an_attempt_takes_while_the_body_is_lent_again_goes_to_the_next() {
        let (kept, next) = (Arc::default(), Arc::default());
        let lender = Lender::new(Lends {
            lender: Arc::clone(&kept),
            next: Arc::clone(&next),
            bytes: 2,
        });
        let mut first = lender.lend().unwrap();
        *kept.lock().unwrap() = Some(lender);
        assert!(matches!(poll(&mut first), Poll::Ready(Some(Err(_)))));
        let mut next = next.lock().unwrap().take().unwrap();
        for _ in 0..2 {
            assert!(matches!(poll(&mut next), Poll::Ready(Some(Ok(_)))));
        }
        assert!(matches!(poll(&mut next), Poll::Ready(None)));
    }

    #[test]
    fn an_empty_body_is_lent_any_number_of_times() {
        let lender = Lender::new(Empty::<Bytes>::new());
        for _ in 0..3 {
            let mut body = lender.lend().unwrap();
            assert!(body.is_end_stream());
            assert!(matches!(poll(&mut body), Poll::Ready(None)));
        }
    }
}
