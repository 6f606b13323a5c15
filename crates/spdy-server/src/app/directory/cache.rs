//! The cache of files and directories, within its limits.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    Directory,
    disk::{Disk, Found, Question},
    entry::Entry,
    jobs::{Jobs, in_time},
    memory::{Memory, Removed},
    places::{Answer, Locked, Means, Places, Wait},
    root::Below,
    shares::{Lack, Refusal, Share},
};

/// Entries by the questions that they answer. Only existing paths are cached, so that clients
/// cannot fill it with names that do not exist. A path in a question is one that may be served.
#[derive(Debug)]
pub(super) struct Cache {
    store: Arc<Store>,
    places: Places,
}

/// What a job needs: the disk, and the memory that takes its answer.
#[derive(Debug)]
struct Store {
    disk: Disk,
    memory: Mutex<Memory>,
    looks: Jobs,
    lists: Jobs,
}

/// The maximum number of paths that the disk is asked for at once.
const LOOKS: usize = 64;

/// The maximum number of directories that are read at once for lists, which are long.
const LISTS: usize = 4;

impl Cache {
    pub(super) fn new(limits: Directory) -> Self {
        let store = Store {
            disk: Disk::new(limits),
            memory: Mutex::default(),
            looks: Jobs::new(LOOKS),
            lists: Jobs::new(LISTS),
        };
        Self {
            store: Arc::new(store),
            places: Places::default(),
        }
    }

    /// Checks the names of a path.
    ///
    /// # Errors
    /// The same as for [`Root::below`](super::root::Root::below).
    pub(super) fn below(&self, path: PathBuf) -> io::Result<Below> {
        self.store.disk.root.below(path)
    }

    /// Returns what the disk has for a question, or had at most [`Directory::trust`] ago. What is
    /// cached is returned at once. Otherwise a thread for blocking work reads the disk; requests
    /// that ask the same wait for it. Cancel safe: a job that has begun goes on, and others get its
    /// answer.
    ///
    /// # Errors
    /// The same as for [`Disk::look`], and [`io::ErrorKind::TimedOut`] after
    /// [`WAIT`](super::jobs::WAIT).
    pub(super) async fn ask(&self, question: Question) -> io::Result<Found> {
        let arrived = Instant::now();
        match self.store.recall(&question, arrived) {
            Some(found) => Ok(found),
            // The box keeps the futures of all that ask short.
            None => Box::pin(in_time(self.look(question, arrived))).await,
        }
    }

    async fn look(&self, question: Question, arrived: Instant) -> io::Result<Found> {
        let mut place = self.places.take(question).lock().await;
        if let Some(answer) = place.last()
            && self.store.is_fresh(answer, arrived)
        {
            return answer.found.clone().map_err(io::Error::from);
        }
        loop {
            let store = Arc::clone(&self.store);
            let Means { turn, share } = place.means(|asked| store.wait(asked, None)).await;
            match turn.run(move || store.answer(place, share)).await? {
                Ok(found) => return found,
                Err(unanswered) => place = unanswered,
            }
        }
    }

    /// Keeps others from asking this, as a disk that hangs would.
    #[cfg(test)]
    pub(super) async fn hang(&self, question: Question) -> Locked {
        self.places.take(question).lock().await
    }
}

impl Store {
    /// Begins to wait for what a job needs: what the last one lacked, and a turn.
    fn wait(&self, asked: &Question, lack: Option<Lack>) -> Wait {
        let jobs = match asked {
            Question::At(_) => self.looks.clone(),
            Question::In(_) => self.lists.clone(),
        };
        let shares = self.disk.shares.clone();
        Wait::begin(async move {
            let share = match lack {
                Some(lack) => Some(shares.wait(lack).await),
                None => None,
            };
            let turn = jobs.turn().await;
            Means { turn, share }
        })
    }

    /// Answers those who have a place.
    ///
    /// # Errors
    /// Returns the place if something is missing for the answer. It waits for that then.
    fn answer(&self, mut place: Locked, share: Option<Share>) -> Result<io::Result<Found>, Locked> {
        let looked = Instant::now();
        let found = match self.look(place.question(), looked, share) {
            Ok(found) => Ok(found),
            Err(Refusal::Failed(error)) => Err(error),
            Err(Refusal::Lacks(lack)) => {
                place.wait(self.wait(place.question(), Some(lack)));
                // The wait comes first, so that nothing takes the place in the cache again.
                let _released = self.memory().release_all(lack.of());
                return Err(place);
            }
        };
        place.answer(Answer::new(looked, &found));
        Ok(found)
    }

    /// Asks the disk, and keeps the answer. What that removes from memory is dropped last, since
    /// closing a file can wait for a disk.
    fn look(&self, asked: &Question, now: Instant, share: Option<Share>) -> Result<Found, Refusal> {
        let known = self.memory().entry(asked);
        let found = self.disk.look(asked, known, share);
        let _removed = match &found {
            Ok(found) => self.memory().keep(asked.clone(), found, now, &self.disk),
            Err(Refusal::Failed(_)) => self.memory().forget(asked),
            Err(Refusal::Lacks(_)) => Removed::default(),
        };
        found
    }

    /// Returns what is cached, unless it is too old for a request that arrived then.
    fn recall(&self, question: &Question, arrived: Instant) -> Option<Found> {
        let (found, looked) = self.memory().recall(question)?;
        is_young(looked, self.trust(&found.entry), arrived).then_some(found)
    }

    /// Returns whether an answer is one to a request that arrived then. An error is not trusted.
    fn is_fresh(&self, answer: &Answer, arrived: Instant) -> bool {
        let trust = match &answer.found {
            Ok(found) => self.trust(&found.entry),
            Err(_) => Duration::ZERO,
        };
        is_young(answer.looked, trust, arrived)
    }

    /// Returns how long an entry is used without a check. It is zero for an open file that still
    /// changes: otherwise requests for a growing log would fail half of the time.
    fn trust(&self, entry: &Entry) -> Duration {
        let limits = &self.disk.limits;
        match entry.is_open() && !entry.is_settled || limits.max_entries == 0 {
            true => Duration::ZERO,
            false => limits.trust,
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether what was looked at then is trusted by a request that arrived at a time.
fn is_young(looked: Instant, trust: Duration, arrived: Instant) -> bool {
    looked > arrived || arrived.duration_since(looked) < trust
}

#[cfg(test)]
mod tests;
