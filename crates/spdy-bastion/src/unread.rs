//! Ends responses over HTTP/2 that the client does not read.
//!
//! A client can keep the window of a response closed and answer every PING. hyper waits for the
//! window without a limit, and keeps the response of the API server. It asks a body for its next
//! piece when the client has read most of the last one, so a body knows whether its client reads.

use std::{
    future::pending,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

tokio::task_local! {
    /// The response of the request that a task serves.
    static RESPONSE: Unread;
}

/// Since when the client of a response has not read the last piece. `None` means that it has read
/// all pieces.
#[derive(Clone, Debug, Default)]
struct Unread(Arc<Mutex<Option<Instant>>>);

/// Notes what the body of a response has returned. A response over HTTP/1.1 is not watched in this
/// way, because a client that does not read it keeps the transport from taking bytes.
pub(crate) fn note<T>(polled: &Poll<Option<T>>) {
    let since = matches!(polled, Poll::Ready(Some(_))).then(Instant::now);
    _ = RESPONSE.try_with(|response| response.set(since));
}

impl Unread {
    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the client has not read a piece for so long.
    async fn for_long(&self, limit: Duration) {
        loop {
            let begin = self.since().unwrap_or_else(Instant::now);
            match begin.checked_add(limit) {
                Some(due) => sleep_until(due).await,
                None => pending().await,
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
        let (limit, response) = (self.limit, Unread::default());
        let watched = response.clone();
        tokio::spawn(RESPONSE.scope(response, async move {
            tokio::select! {
                _ = request => {}
                () = watched.for_long(limit) => {
                    tracing::debug!("client does not read a response, which is reset");
                }
            }
        }));
    }
}
