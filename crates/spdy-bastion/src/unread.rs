//! Ends responses over HTTP/2 that the client does not read.
//!
//! A client can keep the window of a response closed and answer every PING. hyper waits for the
//! window without a limit, and keeps the response of the API server. A body knows whether its
//! client reads: [`Pieces`](crate::pieces::Pieces) returns a piece when the one before has left.

use std::{
    future::pending,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

tokio::task_local! {
    /// The response of the request that a task serves.
    static RESPONSE: Unread;
}

/// What a task and the body of its response share.
#[derive(Clone, Debug)]
struct Unread(Arc<State>);

#[derive(Debug)]
struct State {
    /// Since when the last piece of the response has not left. `None` means that all pieces have.
    since: Mutex<Option<Instant>>,
    limit: watch::Sender<Duration>,
}

/// Notes what the body of a response has returned. A response over HTTP/1.1 is not watched in this
/// way, because a client that does not read it keeps the transport from taking bytes.
pub(crate) fn note<T>(polled: &Poll<Option<T>>) {
    let since = matches!(polled, Poll::Ready(Some(_))).then(Instant::now);
    _ = RESPONSE.try_with(|response| response.set(since));
}

/// Returns whether the current task serves a request whose response is watched.
pub(crate) fn is_watched() -> bool {
    RESPONSE.try_with(|_| ()).is_ok()
}

/// Sets how long the client can leave the response of the current task unread.
pub(crate) fn set_limit(limit: Duration) {
    _ = RESPONSE.try_with(|response| response.0.limit.send_replace(limit));
}

impl Unread {
    fn new(limit: Duration) -> Self {
        Self(Arc::new(State {
            since: Mutex::default(),
            limit: watch::Sender::new(limit),
        }))
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn since(&self) -> Option<Instant> {
        *self.0.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the client has not read a piece for too long.
    async fn for_long(&self) {
        let mut limits = self.0.limit.subscribe();
        loop {
            let limit = *limits.borrow_and_update();
            let begin = self.since().unwrap_or_else(Instant::now);
            let passed = async {
                match begin.checked_add(limit) {
                    Some(due) => sleep_until(due).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = passed => {}
                _ = limits.changed() => continue,
            }
            if self.since().is_some_and(|since| since.elapsed() >= limit) {
                return;
            }
        }
    }
}

/// Runs the tasks that hyper has for the requests of a connection. Each ends when its client has
/// read nothing for too long, which resets the stream of the request, and drops the response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tasks {
    pub(crate) limit: Duration,
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, request: F) {
        let response = Unread::new(self.limit);
        let watched = response.clone();
        tokio::spawn(RESPONSE.scope(response, async move {
            tokio::select! {
                _ = request => {}
                () = watched.for_long() => {
                    tracing::debug!("client does not read a response, which is reset");
                }
            }
        }));
    }
}
