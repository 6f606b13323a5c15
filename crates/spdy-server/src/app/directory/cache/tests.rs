use std::{fs, path::Path, time::SystemTime};

use tokio::time::{sleep, timeout};

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
    let late = timeout(2 * WAIT, cache.ask(at(&cache, 0))).await;
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

#[tokio::test(start_paused = true)]
async fn a_request_that_is_gone_leaves_its_place_among_those_who_wait_for_an_open_file() {
    let mut limits = limits("left-open", 3);
    (limits.max_small, limits.max_handles) = (99, 1);
    let cache = Cache::new(limits);
    let used = cache.ask(at(&cache, 0)).await.unwrap();
    let ask = |file| Box::pin(cache.ask(at(&cache, file)));
    let [mut first, mut other, mut same] = [ask(1), ask(2), ask(1)];
    for request in [&mut first, &mut other, &mut same] {
        timeout(WAIT / 10, request).await.unwrap_err();
    }
    drop((first, used));
    drop(same.await.unwrap());
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

#[tokio::test(start_paused = true)]
async fn what_is_only_cached_makes_room_for_a_list_at_once() {
    let mut limits = limits("cached", 40);
    (limits.max_bytes, limits.max_lent) = (10 << 10, 2 << 10);
    let cache = Cache::new(limits);
    let files: Vec<_> = (0..11).collect();
    assert_eq!(known_after(&cache, &files).await.len(), 10);
    assert!(!cache.store.disk.shares.has_bytes(2 << 10));
    let start = tokio::time::Instant::now();
    let list = Question::In(cache.below("./".into()).unwrap());
    let listed = cache.ask(list).await.unwrap();
    assert!(listed.entry.bytes() > 2 << 10);
    assert_eq!(start.elapsed().as_secs(), 0);
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
