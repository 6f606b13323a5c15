//! Requests whose clients left before the response.
//!
//! Opening and resetting a stream costs the client nothing and the application much ("rapid
//! reset"). So applications close a connection on which this happens too often: h2 does with 20
//! such streams that it has not handled yet. Many clients share the connection, and a client that
//! comes and goes must not cost the others their responses. So only some requests are reset at
//! once. The others continue until the application has handled them: it responds, or it sends
//! something else a second later.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::http::{Request, Response};
use hyper::{body::Incoming, client::conn::TrySendError};
use tokio::{
    runtime::Handle,
    sync::Semaphore,
    time::{Instant, sleep, sleep_until},
};

use super::{Heard, Lease, Place, Progress, Upload};

type Outcome = Result<Response<Incoming>, TrySendError<Request<Upload>>>;

/// The number of requests that can be reset at once on a connection now.
#[derive(Debug)]
pub(super) struct Leaving(Semaphore);

impl Default for Leaving {
    fn default() -> Self {
        Self(Semaphore::new(RESETS))
    }
}

/// A request that waits for its response. If it is dropped before, it is reset later, and keeps its
/// place until then.
#[derive(Debug)]
pub(super) struct Asking<A: Future<Output = Outcome> + Send + 'static> {
    answer: Option<Pin<Box<A>>>,
    sent: Sent,
    place: Arc<Place>,
    progress: Progress,
}

/// When a request was sent, and how many bytes the application had sent before.
#[derive(Debug)]
struct Sent {
    at: Instant,
    heard: Heard,
    before: u64,
}

impl<A: Future<Output = Outcome> + Send + 'static> Asking<A> {
    pub(super) fn new(answer: Pin<Box<A>>, lease: &Lease, progress: Progress) -> Self {
        Self {
            answer: Some(answer),
            sent: Sent {
                at: Instant::now(),
                heard: lease.heard.clone(),
                before: lease.heard.bytes(),
            },
            place: Arc::clone(&lease.place),
            progress,
        }
    }
}

impl<A: Future<Output = Outcome> + Send + 'static> Future for Asking<A> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let answer = self.answer.as_mut().expect("polled after the answer");
        let outcome = ready!(answer.as_mut().poll(cx));
        self.answer = None;
        Poll::Ready(outcome)
    }
}

impl<A: Future<Output = Outcome> + Send + 'static> Drop for Asking<A> {
    fn drop(&mut self) {
        let Some(answer) = self.answer.take() else {
            return;
        };
        self.progress.park();
        self.place.note_broken();
        self.place.abandon();
        let seen = self.sent.seen();
        let (place, progress) = (Arc::clone(&self.place), self.progress.clone());
        // Without a running runtime, the connection ends as well.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(leave(answer, seen, place, progress));
        }
    }
}

impl Sent {
    /// Returns a future that completes when the application must have handled the request.
    fn seen(&self) -> impl Future<Output = ()> + use<> {
        let (at, before, heard) = (self.at, self.before, self.heard.clone());
        async move {
            sleep_until(at + SECOND).await;
            if heard.bytes() == before {
                sleep_until(at + QUIET).await;
            }
        }
    }
}

/// Resets a request, unless its response arrives first.
async fn leave<A: Future<Output = Outcome>>(
    mut answer: Pin<Box<A>>,
    seen: impl Future<Output = ()>,
    place: Arc<Place>,
    progress: Progress,
) {
    let usage = Arc::clone(&place.usage);
    let at_once = tokio::select! {
        biased;
        _ = &mut answer => None,
        turn = usage.leaving.0.acquire() => turn.ok(),
        () = seen => None,
    };
    drop(answer);
    progress.take_back();
    drop(place);
    if at_once.is_some() {
        sleep(SECOND).await;
    }
}

/// The number of requests that can be reset at once on a connection in each second.
const RESETS: usize = 10;

const SECOND: Duration = Duration::from_secs(1);

/// How long until an application has handled a request although it has sent nothing since: it might
/// have nothing to send.
const QUIET: Duration = Duration::from_secs(5);
