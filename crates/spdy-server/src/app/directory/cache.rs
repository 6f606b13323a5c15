//! The cache of files and directories, within its limits.

use std::{
    array,
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::task::spawn_blocking;

use super::{
    Directory,
    disk::{Disk, Found, Question},
    entry::Entry,
    root::Below,
};

/// Entries by the questions that they answer. Only existing paths are cached, so that clients
/// cannot fill it with names that do not exist. A path in a question is one that may be served.
#[derive(Debug)]
pub(super) struct Cache {
    disk: Arc<Disk>,
    memory: Mutex<Memory>,
    turns: [tokio::sync::Mutex<()>; TURNS],
    hasher: RandomState,
}

/// The maximum number of questions that the disk is asked at once. The same question is asked by
/// one request at a time, so that many of them need no more memory than one.
const TURNS: usize = 64;

#[derive(Debug, Default)]
struct Memory {
    known: HashMap<Question, Known>,
    bytes: usize,
    open: usize,
    /// The number of times that an entry was used or added. It orders the entries by their last
    /// use.
    uses: u64,
}

#[derive(Debug)]
struct Known {
    found: Found,
    looked: Instant,
    used: u64,
}

impl Cache {
    pub(super) fn new(limits: Directory) -> Self {
        Self {
            disk: Arc::new(Disk::new(limits)),
            memory: Mutex::default(),
            turns: array::from_fn(|_| tokio::sync::Mutex::default()),
            hasher: RandomState::new(),
        }
    }

    /// Checks the names of a path.
    ///
    /// # Errors
    /// The same as for [`Root::below`](super::root::Root::below).
    pub(super) fn below(&self, path: PathBuf) -> io::Result<Below> {
        self.disk.root.below(path)
    }

    /// Returns what the disk has for a question, or had at most [`Directory::trust`] ago. What is
    /// cached is returned at once. Otherwise a thread for blocking work reads the disk, which takes
    /// as long as the disk takes; requests that ask the same wait for it. Cancel safe.
    ///
    /// # Errors
    /// The same as for [`Disk::look`].
    pub(super) async fn ask(&self, question: Question) -> io::Result<Found> {
        let arrived = Instant::now();
        if let Ok(found) = self.recall(&question, arrived) {
            return Ok(found);
        }
        let _turn = self.turns[self.turn(&question)].lock().await;
        let known = match self.recall(&question, arrived) {
            Ok(found) => return Ok(found),
            Err(old) => old.map(|old| old.entry),
        };
        let now = Instant::now();
        let (disk, sought) = (Arc::clone(&self.disk), question.clone());
        let found = spawn_blocking(move || disk.look(&sought, known)).await;
        let found = found.unwrap_or_else(|failed| Err(io::Error::other(failed)));
        match &found {
            Ok(found) => self.memory().keep(question, found, now, &self.disk.limits),
            Err(_) => self.memory().forget(&question),
        }
        found
    }

    /// Lists, which are long, are read one after another.
    fn turn(&self, question: &Question) -> usize {
        match question {
            Question::In(..) => 0,
            Question::At(_) => 1 + self.hasher.hash_one(question) as usize % (TURNS - 1),
        }
    }

    /// Returns what is cached, or as an error what is too old for a request that arrived then.
    fn recall(&self, question: &Question, arrived: Instant) -> Result<Found, Option<Found>> {
        match self.memory().recall(question) {
            Some((found, looked)) if looked + self.trust(&found.entry) > arrived => Ok(found),
            known => Err(known.map(|(found, _)| found)),
        }
    }

    /// Returns how long an entry is used without a check. It is zero for an open file that still
    /// changes: otherwise requests for a growing log would fail half of the time.
    fn trust(&self, entry: &Entry) -> Duration {
        if entry.is_open() && !entry.is_settled {
            Duration::ZERO
        } else {
            self.disk.limits.trust
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// Returns what was found, and when.
    fn recall(&mut self, question: &Question) -> Option<(Found, Instant)> {
        let known = self.known.get_mut(question)?;
        self.uses += 1;
        known.used = self.uses;
        Some((known.found.clone(), known.looked))
    }

    /// Adds what was found just now, in place of what was known.
    fn keep(&mut self, question: Question, found: &Found, looked: Instant, limits: &Directory) {
        self.forget(&question);
        self.forget_old(looked);
        if limits.max_entries == 0 {
            return;
        }
        self.uses += 1;
        self.bytes += found.entry.bytes();
        self.open += usize::from(found.entry.is_open());
        let known = Known {
            found: found.clone(),
            looked,
            used: self.uses,
        };
        self.known.insert(question, known);
        self.make_room(limits);
    }

    fn make_room(&mut self, limits: &Directory) {
        while self.known.len() > limits.max_entries {
            self.forget_one(|_| true);
        }
        while self.bytes > limits.max_bytes {
            self.forget_one(|entry| entry.bytes() > 0);
        }
        while self.open > limits.max_open {
            self.forget_one(Entry::is_open);
        }
    }

    /// Removes the least recently used one of these entries. They are few enough to be searched one
    /// by one.
    fn forget_one(&mut self, may_go: impl Fn(&Entry) -> bool) {
        let all = self.known.iter();
        let all = all.filter(|(_, known)| may_go(&known.found.entry));
        let oldest = all.min_by_key(|(_, known)| known.used);
        if let Some(question) = oldest.map(|(question, _)| question.clone()) {
            self.forget(&question);
        }
    }

    fn forget_old(&mut self, now: Instant) {
        let is_old = |known: &Known| now.duration_since(known.looked) > LONGEST_REST;
        let old = self.known.iter().filter(|(_, known)| is_old(known));
        let old: Vec<_> = old.map(|(question, _)| question.clone()).collect();
        for question in old {
            self.forget(&question);
        }
    }

    fn forget(&mut self, question: &Question) {
        if let Some(known) = self.known.remove(question) {
            self.bytes -= known.found.entry.bytes();
            self.open -= usize::from(known.found.entry.is_open());
        }
    }
}

/// How long an entry without a request is kept.
const LONGEST_REST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{super::list::Order, *};

    /// Creates a directory with this number of files of 100 bytes each. Returns limits for the test
    /// to change.
    fn limits(test: &str, files: usize) -> Directory {
        let path = std::env::temp_dir().join(format!("spdy-server-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        for file in 0..files {
            fs::write(path.join(file.to_string()), [0; 100]).unwrap();
        }
        let mut limits = Directory::new(path);
        limits.trust = Duration::from_secs(60);
        limits
    }

    fn at(cache: &Cache, file: usize) -> Question {
        Question::At(cache.below(file.to_string().into()).unwrap())
    }

    /// Requests the files, and returns which ones are cached then.
    async fn known_after(cache: &Cache, files: &[usize]) -> Vec<usize> {
        for file in files {
            cache.ask(at(cache, *file)).await.unwrap();
        }
        let memory = cache.memory();
        let entries = || memory.known.values().map(|known| &known.found.entry);
        let bytes: usize = entries().map(|entry| entry.bytes()).sum();
        let open = entries().filter(|entry| entry.is_open()).count();
        assert_eq!((memory.bytes, memory.open), (bytes, open));
        (0..10)
            .filter(|file| memory.known.contains_key(&at(cache, *file)))
            .collect()
    }

    fn remove(cache: &Cache) {
        fs::remove_dir_all(&cache.disk.limits.path).unwrap();
    }

    #[tokio::test]
    async fn of_too_many_entries_the_one_that_was_asked_for_longest_ago_gives_way() {
        let mut limits = limits("entries", 5);
        limits.max_entries = 3;
        let cache = Cache::new(limits);
        assert_eq!(known_after(&cache, &[0, 1, 2]).await, [0, 1, 2]);
        assert_eq!(known_after(&cache, &[0, 3]).await, [0, 2, 3]);
        assert_eq!(known_after(&cache, &[4]).await, [0, 3, 4]);
        remove(&cache);
    }

    #[tokio::test]
    async fn of_too_many_bytes_files_give_way_and_directories_stay() {
        let mut limits = limits("bytes", 4);
        limits.max_bytes = 250;
        fs::create_dir_all(limits.path.join("9")).unwrap();
        let cache = Cache::new(limits);
        assert_eq!(known_after(&cache, &[9, 0, 1, 2, 3]).await, [2, 3, 9]);
        assert_eq!(cache.memory().bytes, 200);
        remove(&cache);
    }

    #[tokio::test]
    async fn files_longer_than_max_small_are_open_and_no_more_than_max_open() {
        let mut limits = limits("open", 4);
        (limits.max_small, limits.max_open) = (99, 2);
        let cache = Cache::new(limits);
        assert_eq!(known_after(&cache, &[0, 1, 2, 3]).await, [2, 3]);
        assert_eq!(cache.memory().open, 2);
        assert_eq!(cache.memory().bytes, 0);
        remove(&cache);
    }

    #[tokio::test]
    async fn what_nobody_asks_for_is_forgotten_and_what_is_not_there_was_never_known() {
        let cache = Cache::new(limits("rest", 2));
        assert_eq!(known_after(&cache, &[0, 1]).await, [0, 1]);
        let missing = cache.ask(at(&cache, 2)).await;
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
        let later = Instant::now() + LONGEST_REST;
        cache.memory().forget_old(later - Duration::from_secs(5));
        assert_eq!(cache.memory().known.len(), 2);
        cache.memory().forget_old(later + Duration::from_secs(5));
        assert_eq!(cache.memory().bytes, 0);
        assert!(cache.memory().known.is_empty());
        remove(&cache);
    }

    #[tokio::test]
    async fn a_settled_file_that_has_not_changed_is_not_read_again() {
        let mut limits = limits("settled", 1);
        limits.trust = Duration::ZERO;
        let path = limits.path.join("0");
        let cache = Cache::new(limits);
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(60);
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(long_ago).unwrap();
        let ask = async || cache.ask(at(&cache, 0)).await.unwrap().entry;
        let first = ask().await;
        assert!(Arc::ptr_eq(&first, &ask().await));
        // The file has the same length, and its time of change is set back.
        fs::write(&path, [1; 100]).unwrap();
        file.set_modified(long_ago).unwrap();
        let second = ask().await;
        assert_eq!(cfg!(unix), !Arc::ptr_eq(&first, &second));
        remove(&cache);
    }
    #[tokio::test]
    async fn a_list_that_has_not_changed_is_shared() {
        let mut limits = limits("list", 3);
        limits.trust = Duration::ZERO;
        let cache = Cache::new(limits);
        let root = Question::In(cache.below("./".into()).unwrap(), Order::default());
        let ask = async || cache.ask(root.clone()).await.unwrap().entry;
        let first = ask().await;
        assert!(Arc::ptr_eq(&first, &ask().await));
        let held: usize = cache.memory().bytes;
        assert!(held >= 3 * size_of::<String>(), "{held}");
        fs::write(cache.disk.limits.path.join("0"), "shorter").unwrap();
        assert!(!Arc::ptr_eq(&first, &ask().await));
        remove(&cache);
    }
    #[tokio::test]
    async fn of_many_requests_for_one_file_one_asks_the_disk() {
        let cache = Arc::new(Cache::new(limits("turns", 1)));
        let mut requests = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let cache = Arc::clone(&cache);
            requests.spawn(async move { cache.ask(at(&cache, 0)).await.unwrap().entry });
        }
        let entries = requests.join_all().await;
        assert!(entries.iter().all(|entry| Arc::ptr_eq(entry, &entries[0])));
        remove(&cache);
    }
}
