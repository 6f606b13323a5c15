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
            None => in_time(self.look(question, arrived)).await,
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
mod tests {
    use std::{fs, path::Path, time::SystemTime};

    use tokio::time::sleep;

    use super::{
        super::{
            jobs::{WAIT, tests::begin},
            memory::{LONGEST_REST, MIN_CROWD},
        },
        *,
    };

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

    /// Sets the time of the last change of a file to a minute ago.
    fn make_old(path: &Path) -> (fs::File, SystemTime) {
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(long_ago).unwrap();
        (file, long_ago)
    }

    fn at(cache: &Cache, file: usize) -> Question {
        Question::At(cache.below(file.to_string().into()).unwrap())
    }

    /// Requests the files, and returns which ones are cached then.
    async fn known_after(cache: &Cache, files: &[usize]) -> Vec<usize> {
        for file in files {
            cache.ask(at(cache, *file)).await.unwrap();
        }
        let memory = cache.store.memory();
        let entries = || memory.known.values().map(|known| &known.found.entry);
        let bytes: usize = entries().map(|entry| entry.bytes()).sum();
        let open = entries().filter(|entry| entry.is_open()).count();
        assert_eq!((memory.bytes, memory.open), (bytes, open));
        (0..10)
            .filter(|file| memory.known.contains_key(&at(cache, *file)))
            .collect()
    }

    fn remove(cache: &Cache) {
        fs::remove_dir_all(&cache.store.disk.limits.path).unwrap();
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
        assert_eq!(cache.store.memory().bytes, 200);
        remove(&cache);
    }

    #[tokio::test]
    async fn files_longer_than_max_small_are_open_and_no_more_than_max_open() {
        let mut limits = limits("open", 4);
        (limits.max_small, limits.max_open) = (99, 2);
        let cache = Cache::new(limits);
        assert_eq!(known_after(&cache, &[0, 1, 2, 3]).await, [2, 3]);
        assert_eq!(cache.store.memory().open, 2);
        assert_eq!(cache.store.memory().bytes, 0);
        remove(&cache);
    }

    #[tokio::test]
    async fn what_nobody_asks_for_is_forgotten_and_what_is_not_there_was_never_known() {
        let cache = Cache::new(limits("rest", 2));
        assert_eq!(known_after(&cache, &[0, 1]).await, [0, 1]);
        let missing = cache.ask(at(&cache, 2)).await;
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
        let later = Instant::now() + LONGEST_REST;
        cache
            .store
            .memory()
            .forget_old(later - Duration::from_secs(5));
        assert_eq!(cache.store.memory().known.len(), 2);
        cache
            .store
            .memory()
            .forget_old(later + Duration::from_secs(5));
        assert_eq!(cache.store.memory().bytes, 0);
        assert!(cache.store.memory().known.is_empty());
        remove(&cache);
    }

    #[tokio::test]
    async fn a_settled_file_that_has_not_changed_is_not_read_again() {
        let mut limits = limits("settled", 1);
        limits.trust = Duration::ZERO;
        let path = limits.path.join("0");
        let cache = Cache::new(limits);
        let (file, long_ago) = make_old(&path);
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
        let root = Question::In(cache.below("./".into()).unwrap());
        let ask = async || cache.ask(root.clone()).await.unwrap().entry;
        let first = ask().await;
        assert!(Arc::ptr_eq(&first, &ask().await));
        let held: usize = cache.store.memory().bytes;
        assert!(held >= 3 * size_of::<String>(), "{held}");
        fs::write(cache.store.disk.limits.path.join("0"), "shorter").unwrap();
        assert!(!Arc::ptr_eq(&first, &ask().await));
        remove(&cache);
    }

    #[tokio::test]
    async fn of_many_requests_for_one_file_one_asks_the_disk() {
        // Neither is one asked after another without a cache.
        for max_entries in [1, 0] {
            let mut limits = limits("turns", 1);
            (limits.max_entries, limits.trust) = (max_entries, Duration::ZERO);
            let cache = Cache::new(limits);
            let hung = cache.hang(at(&cache, 0)).await;
            let requests = (0..50).map(|_| Box::pin(cache.ask(at(&cache, 0))));
            let mut requests: Vec<_> = requests.collect();
            for request in &mut requests {
                begin(request).await;
            }
            drop(hung);
            let mut entries = Vec::new();
            for request in requests {
                entries.push(request.await.unwrap().entry);
            }
            assert!(entries.iter().all(|entry| Arc::ptr_eq(entry, &entries[0])));
            remove(&cache);
        }
    }

    #[tokio::test]
    async fn a_job_goes_on_without_its_request_and_its_answer_is_kept() {
        let cache = Cache::new(limits("reset", 1));
        begin(&mut Box::pin(cache.ask(at(&cache, 0)))).await;
        // The next one waits for the job, and takes its answer.
        let place = cache.hang(at(&cache, 0)).await;
        let kept = cache.store.memory().entry(&at(&cache, 0));
        drop(place);
        let found = cache.ask(at(&cache, 0)).await.unwrap().entry;
        assert!(Arc::ptr_eq(&kept.expect("the answer is kept"), &found));
        remove(&cache);
    }

    #[tokio::test(start_paused = true)]
    async fn a_path_that_hangs_is_waited_for_30_s_and_holds_up_no_other() {
        let cache = Cache::new(limits("hangs", 100));
        let hung = cache.hang(at(&cache, 0)).await;
        for other in 1..100 {
            cache.ask(at(&cache, other)).await.unwrap();
        }
        let start = tokio::time::Instant::now();
        let late = tokio::time::timeout(2 * WAIT, cache.ask(at(&cache, 0))).await;
        let late = late.expect("the wait has an end").unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), WAIT.as_secs());
        assert_eq!(cache.places.len(), 1);
        drop(hung);
        cache.ask(at(&cache, 0)).await.unwrap();
        assert_eq!(cache.places.len(), 0);
        remove(&cache);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_gone_leaves_its_place_in_the_queue_to_those_who_ask_the_same() {
        let cache = Cache::new(limits("left", 2));
        let jobs = &cache.store.looks;
        let mut turns = Vec::new();
        for _ in 0..LOOKS {
            turns.push(jobs.turn().await);
        }
        let ask = |file| Box::pin(cache.ask(at(&cache, file)));
        let [mut first, mut same, mut other] = [ask(0), ask(0), ask(1)];
        begin(&mut first).await;
        begin(&mut other).await;
        begin(&mut same).await;
        drop(first);
        drop(turns.pop());
        // The other one, which comes later, does not take its turn meanwhile.
        same.await.unwrap();
        other.await.unwrap();
        remove(&cache);
    }

    #[tokio::test]
    async fn what_leaves_the_cache_is_dropped_after_it_is_unlocked() {
        let mut limits = limits("closed", 2);
        (limits.max_small, limits.max_open) = (99, 1);
        let cache = Cache::new(limits);
        let found = [
            cache.ask(at(&cache, 0)).await,
            cache.ask(at(&cache, 1)).await,
        ];
        let [gone, kept] = found.map(|found| Arc::downgrade(&found.unwrap().entry));
        assert_eq!((gone.strong_count(), kept.strong_count()), (0, 1));
        let removed = cache.store.memory().forget(&at(&cache, 1));
        assert_eq!(kept.strong_count(), 1);
        drop(removed);
        assert_eq!(kept.strong_count(), 0);
        remove(&cache);
    }

    #[tokio::test(start_paused = true)]
    async fn lists_and_paths_wait_for_jobs_of_their_own() {
        let mut limits = limits("kinds", 1);
        limits.trust = Duration::ZERO;
        let cache = Cache::new(limits);
        let list = || Question::In(cache.below("./".into()).unwrap());
        for (jobs, most) in [(&cache.store.looks, LOOKS), (&cache.store.lists, LISTS)] {
            let mut turns = Vec::new();
            for _ in 0..most {
                turns.push(in_time(async { Ok(jobs.turn().await) }).await.unwrap());
            }
            let (path, list) = (cache.ask(at(&cache, 0)).await, cache.ask(list()).await);
            assert_eq!(
                (path.is_err(), list.is_err()),
                (most == LOOKS, most == LISTS)
            );
        }
        remove(&cache);
    }

    #[tokio::test]
    async fn an_entry_that_gave_way_is_found_again_while_it_is_used() {
        for max_entries in [0, 1] {
            let mut limits = limits("gone", 200);
            (limits.max_entries, limits.trust) = (max_entries, Duration::ZERO);
            for file in 0..200 {
                make_old(&limits.path.join(file.to_string()));
            }
            let cache = Cache::new(limits);
            let ask = async |file| cache.ask(at(&cache, file)).await.unwrap().entry;
            let used = ask(0).await;
            for other in 1..200 {
                ask(other).await;
            }
            assert!(Arc::ptr_eq(&used, &ask(0).await));
            assert!(cache.store.memory().gone.entries.len() <= 2 * MIN_CROWD);
            fs::write(cache.store.disk.limits.path.join("0"), "changed").unwrap();
            assert!(!Arc::ptr_eq(&used, &ask(0).await));
            remove(&cache);
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_large_file_that_may_still_change_is_opened_once_for_each_state() {
        let mut limits = limits("future", 1);
        (limits.max_small, limits.trust) = (99, Duration::ZERO);
        let path = limits.path.join("0");
        let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
        let file = fs::File::options().append(true).open(&path).unwrap();
        file.set_modified(tomorrow).unwrap();
        let cache = Cache::new(limits);
        let ask = async || cache.ask(at(&cache, 0)).await.unwrap().entry;
        let first = ask().await;
        assert!(Arc::ptr_eq(&first, &ask().await));
        io::Write::write_all(&mut &file, b"more").unwrap();
        assert_eq!(ask().await.facts.len(), 104);
        // Once it is settled, it is opened as such.
        let (_, _) = make_old(&path);
        assert!(ask().await.is_settled);
        remove(&cache);
    }

    #[tokio::test(start_paused = true)]
    async fn one_large_file_more_than_may_be_open_waits_for_the_end_of_a_response() {
        let mut limits = limits("handles", 3);
        (limits.max_small, limits.max_handles) = (99, 2);
        for file in ["0", "1", "2"] {
            make_old(&limits.path.join(file));
        }
        let cache = Cache::new(limits);
        let ask = async |file| cache.ask(at(&cache, file)).await;
        // What is only cached makes room at once.
        for file in [0, 1, 2] {
            assert!(ask(file).await.unwrap().entry.is_open());
        }
        let used = [ask(0).await.unwrap(), ask(1).await.unwrap()];
        let start = tokio::time::Instant::now();
        assert_eq!(ask(2).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), WAIT.as_secs());
        // Another response with a file that is open needs no room.
        let again = ask(0).await.unwrap();
        assert!(Arc::ptr_eq(&again.entry, &used[0].entry));
        let give_up = async {
            drop(again);
            sleep(WAIT / 2).await;
            drop(used);
        };
        let (third, ()) = tokio::join!(ask(2), give_up);
        assert!(third.unwrap().entry.is_open());
        remove(&cache);
    }

    #[tokio::test(start_paused = true)]
    async fn without_room_in_memory_files_are_read_in_pieces_and_lists_wait() {
        let mut limits = limits("room", 1);
        (limits.compress, limits.trust) = (true, Duration::ZERO);
        (limits.max_small, limits.max_bytes, limits.max_lent) = (200, 10 << 10, 2 << 10);
        let text = limits.path.join("a.txt");
        fs::write(&text, "text ".repeat(2000)).unwrap();
        make_old(&text);
        let cache = Cache::new(limits);
        let list = Question::In(cache.below("./".into()).unwrap());
        let text = Question::At(cache.below("a.txt".into()).unwrap());
        let small = at(&cache, 0);
        let ask = async |question: &Question| cache.ask(question.clone()).await;
        let all = cache.store.disk.shares.bytes(12 << 10).unwrap();
        for _ in 0..2 {
            let (small, text) = (ask(&small).await.unwrap(), ask(&text).await.unwrap());
            let (small, text) = (small.entry, text.entry);
            assert!(small.is_open() && text.is_open() && text.compressed().is_none());
        }
        assert_eq!(
            ask(&list).await.unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        let give_up = async {
            sleep(WAIT / 2).await;
            drop(all);
        };
        let (listed, ()) = tokio::join!(ask(&list), give_up);
        assert!(listed.unwrap().entry.bytes() > 0);
        // All of it is made good.
        assert!(ask(&small).await.unwrap().entry.small().is_some());
        assert!(ask(&text).await.unwrap().entry.compressed().is_some());
        remove(&cache);
    }

    #[tokio::test]
    async fn what_responses_use_has_its_share_until_the_last_one_is_gone() {
        let mut limits = limits("lent", 4);
        (limits.max_bytes, limits.max_lent, limits.trust) = (1, 2047, Duration::ZERO);
        for file in ["0", "1", "2", "3"] {
            make_old(&limits.path.join(file));
        }
        let cache = Cache::new(limits);
        let ask = async |file| cache.ask(at(&cache, file)).await.unwrap().entry;
        let used = [ask(0).await, ask(1).await];
        assert!(used.iter().all(|entry| entry.small().is_some()));
        assert!(ask(2).await.is_open());
        assert!(Arc::ptr_eq(&ask(1).await, &used[1]));
        drop(used);
        for file in [2, 3, 0, 1] {
            assert!(ask(file).await.small().is_some(), "{file}");
        }
        remove(&cache);
    }

    #[tokio::test]
    async fn trust_may_be_of_any_length() {
        let mut limits = limits("trust", 1);
        limits.trust = Duration::MAX;
        let cache = Cache::new(limits);
        let ask = async || cache.ask(at(&cache, 0)).await.unwrap().entry;
        assert!(Arc::ptr_eq(&ask().await, &ask().await));
        remove(&cache);
    }
}
