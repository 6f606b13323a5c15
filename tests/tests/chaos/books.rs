//! What is written down about requests and connections, at both ends.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// What has happened so far. Clones are the same books.
#[derive(Clone, Debug)]
pub(crate) struct Books {
    begun: Instant,
    entries: Arc<Mutex<Entries>>,
}

#[derive(Debug, Default)]
pub(crate) struct Entries {
    pub(crate) requests: HashMap<u64, Request>,
    /// Connections that are open or being made.
    pub(crate) open: usize,
    pub(crate) most: usize,
    pub(crate) made: usize,
    story: Vec<(Duration, String)>,
}

/// What the origin knows of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// When it came, each time.
    pub(crate) came: Vec<Instant>,
    /// When its last answer was begun, and whether the connection is sound all the time.
    pub(crate) answered: Option<(Instant, Arc<AtomicBool>)>,
}

impl Request {
    /// When the origin began to answer, if nothing has kept the answer from its asker.
    pub(crate) fn sound_answer(&self) -> Option<Instant> {
        let (at, is_sound) = self.answered.as_ref()?;
        is_sound.load(Ordering::Relaxed).then_some(*at)
    }
}

impl Books {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            entries: Arc::default(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn request(&self, id: u64) -> Request {
        self.lock().requests.get(&id).cloned().unwrap_or_default()
    }

    /// Notes what a reader of a failure wants to know.
    pub(crate) fn tell(&self, what: impl fmt::Display) {
        let at = self.begun.elapsed();
        self.lock().story.push((at, what.to_string()));
    }

    /// Prints what was noted.
    pub(crate) fn print(&self) {
        for (at, what) in &self.lock().story {
            eprintln!("{:>9.3} s  {what}", at.as_secs_f64());
        }
    }

    pub(crate) fn came(&self, id: u64) {
        let mut entries = self.lock();
        let request = entries.requests.entry(id).or_default();
        request.came.push(Instant::now());
    }

    pub(crate) fn answered(&self, id: u64, is_sound: &Arc<AtomicBool>) {
        let mut entries = self.lock();
        let request = entries.requests.entry(id).or_default();
        request.answered = Some((Instant::now(), Arc::clone(is_sound)));
    }
}

/// One connection, counted from the moment when it is begun until its transport is closed.
#[derive(Debug)]
pub(crate) struct Counted(Books);

impl Counted {
    pub(crate) fn new(books: &Books) -> Self {
        let mut entries = books.lock();
        entries.open += 1;
        entries.made += 1;
        entries.most = entries.most.max(entries.open);
        drop(entries);
        Self(books.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.lock().open -= 1;
    }
}
