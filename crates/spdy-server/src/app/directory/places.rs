//! The requests that wait for an answer of the disk. One job at a time asks for each question, and
//! its answer is that of all requests which arrived before it began.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::OwnedMutexGuard;

use super::disk::{Found, Question};

/// The questions that are asked now. Each has a lock, which the job for it holds, and under the
/// lock the last answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<Question, Asked>>>);

#[derive(Debug, Default)]
struct Asked {
    shared: Shared,
    places: usize,
}

type Shared = Arc<tokio::sync::Mutex<Option<Answer>>>;

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
        let last = Arc::clone(&self.shared).lock_owned().await;
        Locked { last, place: self }
    }
}

/// A place whose turn it is.
#[derive(Debug)]
pub(super) struct Locked {
    last: OwnedMutexGuard<Option<Answer>>,
    place: Place,
}

impl Locked {
    pub(super) const fn question(&self) -> &Question {
        &self.place.question
    }

    /// Returns the answer to those who asked before.
    pub(super) fn last(&self) -> Option<&Answer> {
        self.last.as_ref()
    }

    /// Answers those who wait, and lets the next one ask if that is not enough.
    pub(super) fn answer(mut self, answer: Answer) {
        *self.last = Some(answer);
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
