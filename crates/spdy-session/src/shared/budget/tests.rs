//! What streams are granted, and which tasks are woken.

use super::*;

const NEW: Asking = Asking {
    queued: 0,
    window: 65_536,
    last: None,
    is_modest: false,
};

/// Asks a session that holds `large` bytes in large pieces.
fn verdict(large: usize, asking: Asking) -> Verdict {
    let budget = Budget::new(Arc::default());
    budget.add_large(large, 0);
    budget.of_piece(asking)
}

#[test]
fn the_recommended_length_follows_the_window_and_the_session() {
    let most = Limits::default().large_send_pieces;
    assert_eq!(verdict(0, NEW), Verdict::Yes(65_536));
    assert_eq!(verdict(most - 20_000, NEW), Verdict::Yes(20_000));
    assert_eq!(verdict(most - 1, NEW), Verdict::Yes(SMALL_PIECE));
    let narrow = Asking { window: 1, ..NEW };
    assert_eq!(verdict(0, narrow), Verdict::Yes(SMALL_PIECE));
}

#[test]
fn only_streams_that_might_get_stuck_wait_in_a_session_that_holds_much() {
    let most = Limits::default().large_send_pieces;
    let others = Verdict::WhenOthersHaveSent;
    assert_eq!(verdict(most, NEW), others);
    let piece = |last| Asking {
        last: Some(last),
        ..NEW
    };
    assert_eq!(verdict(most, piece(65_537)), others);
    let wide = Asking {
        window: most,
        ..NEW
    };
    let modest = Asking {
        is_modest: true,
        ..NEW
    };
    for leaves in [piece(65_536), piece(1), wide] {
        assert_eq!(verdict(most, leaves), Verdict::Yes(SMALL_PIECE));
        assert_eq!(verdict(2 * most, leaves), others);
    }
    assert_eq!(verdict(most, modest), Verdict::Yes(SMALL_PIECE));
}

#[test]
fn simultaneous_claims_get_no_more_than_claims_in_sequence() {
    let budget = Budget::new(Arc::default());
    let wide = Asking {
        window: usize::MAX,
        ..NEW
    };
    let claim = |asking| budget.claim(asking);
    let claims: Vec<usize> = std::iter::from_fn(|| claim(wide).ok()).take(9).collect();
    assert_eq!(claims, [USUAL_PIECE; 3]);
    // A body may have ended, which needs no window: it is not the window that is waited for.
    let shut = Asking { window: 0, ..NEW };
    assert_eq!(claim(shut), Err(Verdict::WhenOthersHaveSent));
    assert_eq!(budget.memory(), 0);
    budget.add_large(claims[0], 0);
    assert!(budget.give_back(claims[0]).is_empty());
    assert_eq!(claim(wide), Err(Verdict::WhenOthersHaveSent));
    assert_eq!(claim(shut), Err(Verdict::WhenWindowOpens));
    assert_eq!(budget.memory(), USUAL_PIECE);
    assert!(budget.give_back(claims[1]).is_empty());
    assert_eq!(claim(wide), Ok(USUAL_PIECE));
}

/// A session in which `number` streams wait for others, in the order of their numbers, and their
/// tasks.
fn crowd(number: usize, asking: Asking) -> (Budget, Vec<Arc<Task>>) {
    let budget = Budget::new(Arc::default());
    budget.add_large(2 * Limits::default().large_send_pieces, 0);
    let tasks: Vec<Arc<Task>> = (0..number).map(|_| Arc::default()).collect();
    for (number, task) in tasks.iter().enumerate() {
        let waker = Waker::from(Arc::clone(task));
        _ = budget.wait(id(number), asking, &Context::from_waker(&waker));
        assert!(budget.claim(asking).is_err());
    }
    (budget, tasks)
}

fn id(number: usize) -> StreamId {
    StreamId::new(2 * number as u32 + 1).unwrap()
}

#[derive(Default)]
struct Task(AtomicUsize);

impl std::task::Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn woken(tasks: &[Arc<Task>]) -> Vec<usize> {
    let count = |task: &Arc<Task>| task.0.load(Ordering::Relaxed);
    tasks.iter().map(count).collect()
}

fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

fn sent(large: usize) -> Freed {
    Freed {
        large,
        ..Freed::default()
    }
}

#[test]
fn as_many_tasks_are_woken_as_there_is_room_for() {
    let most = Limits::default().large_send_pieces;
    let (budget, tasks) = crowd(5, NEW);
    wake(budget.free(sent(most)));
    assert_eq!(woken(&tasks), [0; 5], "there is no room below the sum");
    wake(budget.free(sent(1)));
    assert_eq!(woken(&tasks), [1, 0, 0, 0, 0], "the first has a mebibyte");
    wake(budget.free(sent(most - 1)));
    assert_eq!(woken(&tasks), [1, 1, 0, 0, 0]);
    assert_eq!(budget.claim(NEW), Err(Verdict::WhenOthersHaveSent));
    // The first has nothing to send, and the second a piece.
    let turn = budget.take_turn(id(0)).unwrap();
    wake(budget.give_back(turn));
    assert_eq!(woken(&tasks), [1, 1, 1, 0, 0]);
    budget.add_large(USUAL_PIECE, 0);
    let turn = budget.take_turn(id(1)).unwrap();
    wake(budget.give_back(turn));
    assert_eq!(woken(&tasks), [1, 1, 1, 0, 0]);
    assert_eq!(budget.take_turn(id(1)), None, "it is taken once");
    assert_eq!(budget.take_turn(id(3)), None, "it has not come");
}

#[test]
fn small_pieces_that_are_stuck_leave_less_room_for_large_ones() {
    let most = Limits::default().large_send_pieces;
    let budget = Budget::new(Arc::default());
    let leaves = Asking {
        last: Some(1),
        ..NEW
    };
    budget.add_large(most, most);
    budget.add(most + 16_384 * 100);
    assert_eq!(budget.claim(leaves), Err(Verdict::WhenOthersHaveSent));
    let task = Arc::new(Task::default());
    let waker = Waker::from(Arc::clone(&task));
    _ = budget.wait(id(0), leaves, &Context::from_waker(&waker));
    let small = |queued| Freed {
        queued,
        ..Freed::default()
    };
    let stuck = 16_384 * 100 - most;
    wake(budget.free(small(stuck)));
    assert_eq!(woken(&[Arc::clone(&task)]), [0]);
    wake(budget.free(small(1)));
    assert_eq!(woken(&[task]), [1]);
    // Without large ones they hold up no stream.
    let budget = Budget::new(Arc::default());
    budget.add(usize::MAX / 2);
    assert_eq!(budget.claim(leaves), Ok(USUAL_PIECE));
    assert_eq!(budget.claim(NEW), Ok(USUAL_PIECE));
}

#[test]
fn a_stream_that_leaves_passes_its_turn_on() {
    let (budget, tasks) = crowd(3, NEW);
    budget.leave(id(1)).wake();
    wake(budget.free(sent(2 * Limits::default().large_send_pieces)));
    assert_eq!(
        woken(&tasks),
        [1, 0, 1],
        "both have budget, one after the other"
    );
    let (budget, tasks) = crowd(
        3,
        Asking {
            last: Some(2 << 20),
            ..NEW
        },
    );
    wake(budget.free(sent(2 * Limits::default().large_send_pieces)));
    assert_eq!(woken(&tasks), [1, 0, 0]);
    budget.leave(id(0)).wake();
    assert_eq!(woken(&tasks), [1, 1, 0]);
    budget.leave(id(1)).wake();
    budget.leave(id(2)).wake();
    assert_eq!(budget.claim(NEW), Ok(USUAL_PIECE));
}

/// The stream waits for its window, with the timeout of that, once nothing is being made.
#[test]
fn a_stream_without_a_window_is_woken_when_claims_of_others_end() {
    let budget = Budget::new(Arc::default());
    let claimed = budget.claim(NEW).unwrap();
    let shut = Asking { window: 0, ..NEW };
    assert_eq!(budget.claim(shut), Err(Verdict::WhenOthersHaveSent));
    let task = Arc::new(Task::default());
    let waker = Waker::from(Arc::clone(&task));
    _ = budget.wait(id(0), shut, &Context::from_waker(&waker));
    budget.add_large(claimed, 0);
    wake(budget.give_back(claimed));
    assert_eq!(woken(&[task]), [1]);
    assert_eq!(budget.claim(shut), Err(Verdict::WhenWindowOpens));
    assert!(budget.leave(id(0)).others.is_empty());
}

#[test]
fn a_stream_that_adds_small_pieces_is_held_up_by_no_other() {
    let modest = Asking {
        is_modest: true,
        ..NEW
    };
    let shut = Asking {
        window: 0,
        ..modest
    };
    let much = Limits::default().large_send_pieces * 5 / 2;
    for asking in [modest, shut] {
        assert_eq!(verdict(much - 1, asking), Verdict::Yes(SMALL_PIECE));
        assert_eq!(verdict(much, asking), Verdict::Yes(LEAST_PIECE));
        assert_eq!(verdict(usize::MAX, asking), Verdict::Yes(LEAST_PIECE));
        let queued = Asking {
            queued: 1,
            ..asking
        };
        assert_eq!(verdict(usize::MAX, queued), Verdict::WhenSent);
    }
}

#[test]
fn a_stream_without_a_window_finds_the_end_of_its_body_while_little_is_held() {
    let most = Limits::default().large_send_pieces;
    let shut = Asking { window: 0, ..NEW };
    assert_eq!(verdict(most / 8 - 1, shut), Verdict::Yes(SMALL_PIECE));
    assert_eq!(verdict(most / 8, shut), Verdict::WhenWindowOpens);
    // What leaves the others room for a chunk of a mebibyte.
    assert!(most / 8 - 1 + (1 << 20) < most);
}

#[test]
fn a_stream_that_has_queued_something_reads_ahead_when_the_session_holds_little() {
    let limits = Limits::default();
    let queued = Asking { queued: 1, ..NEW };
    assert_eq!(verdict(0, queued), Verdict::Yes(65_535));
    let full = Asking {
        queued: limits.stream_send_queue,
        window: usize::MAX,
        ..NEW
    };
    assert_eq!(verdict(0, full), Verdict::WhenSent);
    let used = Asking {
        queued: 65_536,
        ..NEW
    };
    assert_eq!(verdict(0, used), Verdict::WhenSent);
    let budget = Budget::new(Arc::default());
    budget.add(limits.session_send_queue);
    assert_eq!(budget.of_piece(queued), Verdict::WhenSent);
    assert_eq!(budget.of_piece(NEW), Verdict::Yes(65_536));
}

/// Returns whether a stream with this number of queued bytes may have another piece of its body.
fn may_add(budget: &Budget, queued: usize) -> bool {
    let asking = Asking {
        queued,
        window: 1 << 20,
        ..NEW
    };
    matches!(budget.of_piece(asking), Verdict::Yes(_))
}

/// Returns how many bytes of a body a stream may queue.
fn ahead(budget: &Budget) -> usize {
    let lengths = [16_384, 65_536, 131_072, 262_144, 524_288];
    let length = lengths.into_iter().find(|&it| !may_add(budget, it));
    let length = length.expect("there is a limit");
    assert!(may_add(budget, length - 1));
    length
}

#[test]
fn a_body_may_queue_more_while_the_transport_takes_all() {
    let budget = Budget::new(Arc::default());
    assert_eq!(ahead(&budget), 65_536);
    budget.note_turn(65_535, true);
    assert_eq!(ahead(&budget), 65_536, "the turn had less");
    for most in [131_072, 262_144, 262_144] {
        budget.note_turn(most, true);
        assert_eq!(ahead(&budget), most);
    }
    budget.note_turn(0, true);
    assert_eq!(ahead(&budget), 262_144, "nothing was left to take");
    assert_eq!(budget.of_writer(65_536), 0, "a writer copies");
    budget.add(Limits::default().session_send_queue);
    assert!(!may_add(&budget, 1), "the session holds enough");
}

#[test]
fn a_body_may_queue_no_more_as_soon_as_the_transport_takes_less() {
    let budget = Budget::new(Arc::default());
    budget.note_turn(100_000, true);
    budget.note_turn(200_000, true);
    assert_eq!(ahead(&budget), 262_144);
    budget.note_turn(1 << 20, false);
    assert_eq!(ahead(&budget), 65_536);
}

#[test]
fn a_send_queue_without_a_larger_maximum_is_fixed() {
    for max in [0, 65_536] {
        let mut config = Config::default();
        config.limits.max_stream_send_queue = max;
        let budget = Budget::new(Arc::new(config));
        budget.note_turn(1 << 20, true);
        assert_eq!(ahead(&budget), 65_536);
    }
}
