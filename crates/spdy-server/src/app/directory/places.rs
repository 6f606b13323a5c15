//! The requests that wait for an answer of the disk. One job at a time asks for each question, and
//! its answer is that of all requests which arrived before it began.

use std::{
    collections::HashMap,
    fmt,
    future::{Future, ready},
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use tokio::sync::OwnedMutexGuard;

use super::{
    disk::{Found, Question},
    jobs::Turn,
    shares::Share,
};

/// The questions that are asked now. Each has a lock, which the job for it holds, or the request
/// that waits for the job.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<Question, Asked>>>);

#[derive(Debug, Default)]
struct Asked {
    shared: Shared,
    places: usize,
}

type Shared = Arc<tokio::sync::Mutex<Handed>>;

/// What those who ask the same hand to each other.
#[derive(Debug, Default)]
struct Handed {
    last: Option<Answer>,
    /// A request that is gone leaves its place in the queue to the others.
    wait: Option<Wait>,
}

/// The wait for what a job needs.
pub(super) struct Wait(Pin<Box<dyn Future<Output = Means> + Send>>);

/// What a job needs.
#[derive(Debug)]
pub(super) struct Means {
    pub(super) turn: Turn,
    /// What the last job lacked.
    pub(super) share: Option<Share>,
}

impl Wait {
    /// Takes a place in the queue, without waiting.
    pub(super) fn begin(wait: impl Future<Output = Means> + Send + 'static) -> Self {
        let mut wait: Pin<Box<dyn Future<Output = Means> + Send>> = Box::pin(wait);
        let mut cx = Context::from_waker(Waker::noop());
        match wait.as_mut().poll(&mut cx) {
            Poll::Ready(means) => Self(Box::pin(ready(means))),
            Poll::Pending => Self(wait),
        }
    }
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait").finish_non_exhaustive()
    }
}

/// What the disk has answered, and when it was asked.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) looked: Instant,
    pub(super) found: Result<Found, io::ErrorKind>,
}

impl Answer {
    pub(super) fn new(looked: Instant, found: &io::Result<Found>) -> Self {
        let found = match found {
            Ok(found) => Ok(found.clone()),
            Err(error) => Err(error.kind()),
        };
        Self { looked, found }
    }
}

impl Places {
    /// Takes a place among those who ask this. The question is forgotten with the last of them.
    pub(super) fn take(&self, question: Question) -> Place {
        let mut all = self.all();
        let asked = all.entry(question.clone()).or_default();
        asked.places += 1;
        Place {
            all: self.clone(),
            question,
            shared: Arc::clone(&asked.shared),
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Question, Asked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all().len()
    }
}

/// A place of a request, or of the job that it has begun.
#[derive(Debug)]
pub(super) struct Place {
    all: Places,
    question: Question,
    shared: Shared,
}

impl Place {
    /// Waits until no job for the question is under way, and keeps others from beginning one.
    /// Cancel safe.
    pub(super) async fn lock(self) -> Locked {
        let handed = Arc::clone(&self.shared).lock_owned().await;
        let place = self;
        Locked { handed, place }
    }
}

/// A place whose turn it is.
#[derive(Debug)]
pub(super) struct Locked {
    handed: OwnedMutexGuard<Handed>,
    place: Place,
}

impl Locked {
    pub(super) const fn question(&self) -> &Question {
        &self.place.question
    }

    /// Returns the answer to those who asked before.
    pub(super) fn last(&self) -> Option<&Answer> {
        self.handed.last.as_ref()
    }

    /// Waits for what a job needs: in the place that is there, or in a new one. Cancel safe: the
    /// next one who asks the same goes on waiting.
    pub(super) async fn means(&mut self, new: impl FnOnce(&Question) -> Wait) -> Means {
        let new = || new(&self.place.question);
        let wait = self.handed.wait.get_or_insert_with(new);
        let means = wait.0.as_mut().await;
        self.handed.wait = None;
        means
    }

    /// Waits for more before the next job. The last answer is forgotten, since it holds what it
    /// found.
    pub(super) fn wait(&mut self, wait: Wait) {
        *self.handed = Handed {
            last: None,
            wait: Some(wait),
        };
    }

    /// Answers those who wait, and lets the next one ask if that is not enough.
    pub(super) fn answer(mut self, answer: Answer) {
        self.handed.last = Some(answer);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.all.all();
        if let Some(asked) = all.get_mut(&self.question) {
            asked.places -= 1;
            if asked.places == 0 {
                all.remove(&self.question);
            }
        }
    }
}
