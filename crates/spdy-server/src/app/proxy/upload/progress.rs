//! How a body moves, and how long a request waits for its application.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    super::{Failure, Patience},
    Upload,
    loan::{Loan, Stage},
};

/// The time when the last frame of a body was sent.
#[derive(Debug)]
pub(super) struct Moves {
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
    pub(super) fn note<T>(&self, frame: &Poll<T>, is_new: bool) {
        if frame.is_ready() && is_new {
            self.note_move();
        }
        self.awaits_client
            .store(frame.is_pending(), Ordering::Release);
    }

    /// Notes that the application does not wait for the client any more. If it did, its time starts
    /// now.
    pub(super) fn note_end(&self) {
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
pub(in super::super) struct Progress(Option<Arc<Loan>>);

impl Progress {
    pub(super) const fn of(loan: Option<Arc<Loan>>) -> Self {
        Self(loan)
    }

    /// Returns the whole body for another attempt, and takes it from the previous one. Returns
    /// `None` if a part of the body is no longer kept.
    pub(in super::super) fn again(&self) -> Option<Upload> {
        match &self.0 {
            Some(loan) => loan.again(),
            None => Some(Upload::empty()),
        }
    }

    /// Waits until the body of the client fails, and returns the reason.
    pub(in super::super) async fn failed(&self) -> Failure {
        match &self.0 {
            Some(loan) => Failure::Body(loan.failed().await),
            None => std::future::pending().await,
        }
    }

    /// Makes the request one that is never sent again.
    pub(in super::super) fn send_once(&self) {
        if let Some(loan) = &self.0 {
            loan.send_once();
        }
    }

    /// Notes that a response has begun, so the request is not sent again.
    pub(in super::super) fn answered(&self) {
        if let Some(loan) = &self.0 {
            loan.change(Stage::Answered);
        }
    }

    /// Drops the rest of the body. The application receives no more of it, and its stream is reset.
    pub(in super::super) fn take_back(&self) {
        if let Some(loan) = &self.0 {
            loan.change(Stage::Over);
        }
    }

    /// Drops the rest of the body without a notice to the application.
    pub(in super::super) fn park(&self) {
        if let Some(loan) = &self.0 {
            loan.park();
        }
    }

    /// Waits until the connection has dropped the body. Completes once.
    pub(in super::super) async fn dropped(&self) {
        if let Some(loan) = &self.0 {
            loan.dropped().await;
        }
    }

    /// Waits for a response, as long as the application can still give it in time. While the
    /// application waits for the client, the time does not run: the limit on bodies applies then.
    pub(in super::super) async fn or_silent<T>(
        &self,
        answer: impl Future<Output = T>,
        patience: &mut Patience,
    ) -> Option<T> {
        self.wait(answer, patience, Self::silent_since).await
    }

    /// Leaves to later attempts what the silence of the application has left of the time. So all
    /// attempts have the time of one, although the rest of the body moves in each.
    pub(in super::super) fn charge(&self, patience: &mut Patience) {
        if let Some(since) = self.silent_since() {
            patience.renew(since);
        }
        patience.shrink();
    }

    /// Waits as long as the body moves in time, whichever side it waits for.
    pub(in super::super) async fn or_still<T>(
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
    pub(in super::super) fn silent_since(&self) -> Option<Instant> {
        let moves = &self.0.as_ref()?.moves;
        let awaits_client = moves.awaits_client.load(Ordering::Acquire);
        Some(if awaits_client {
            Instant::now()
        } else {
            moves.last()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, pin::Pin, task::Context};

    use axum::body::Body;
    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::BodyExt;
    use tokio::time::{sleep, timeout};

    use super::*;

    /// The body of a client that sends nothing.
    struct Silent;

    impl http_body::Body for Silent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_attempt_waits_for_is_no_excuse_for_the_next() {
        let second = Duration::from_secs(1);
        let mut first = Upload::new(Body::new(Silent), None);
        let progress = first.progress();
        let waited = timeout(second, first.frame()).await;
        assert!(waited.is_err(), "the client sends nothing");
        assert_eq!(progress.silent_since(), Some(Instant::now()));
        let _next = progress.again().unwrap();
        let since = Instant::now();
        // The connection drops the body of the first attempt at any time.
        drop(first);
        sleep(second).await;
        assert_eq!(progress.silent_since(), Some(since));
    }
}
