//! The body of a request that may have to be sent more than once.

use std::{
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};

use crate::BoxError;

/// Keeps the body of a request, and lends it to one attempt after the other, until an attempt has
/// taken a frame from it.
#[derive(Debug)]
pub(super) struct Lender {
    /// `None` if it is empty, which can be sent any number of times.
    shared: Option<Arc<Mutex<Shared>>>,
}

struct Shared {
    body: UnsyncBoxBody<Bytes, BoxError>,
    /// A frame, the end, or an error was taken, or the body has panicked.
    is_begun: bool,
    /// The attempt that has the body.
    turn: usize,
}

impl Lender {
    pub(super) fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        if body.is_end_stream() {
            return Self { shared: None };
        }
        let shared = Shared {
            body: body.map_err(Into::into).boxed_unsync(),
            is_begun: false,
            turn: 0,
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
        if self.0.is_none() {
            return Poll::Ready(None);
        }
        let Some(mut shared) = self.body() else {
            return Poll::Ready(Some(Err("request is sent on another connection".into())));
        };
        // It stays begun if the body panics, so that it is not polled again.
        let was_begun = mem::replace(&mut shared.is_begun, true);
        let frame = Pin::new(&mut shared.body).poll_frame(cx);
        shared.is_begun = was_begun || frame.is_ready();
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
            || self
                .body()
                .is_some_and(|shared| shared.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if self.0.is_none() {
            return SizeHint::with_exact(0);
        }
        let hint = self.body().map(|shared| shared.body.size_hint());
        hint.unwrap_or_default()
    }
}

/// A body that panicked is not lent again. The panic went to the attempt that polled it.
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
        pin!(body).poll_frame(&mut Context::from_waker(std::task::Waker::noop()))
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
