//! How much payload of its own a session holds until it has left, which streams may add to it, and
//! how much payload of the peer the application is done with.
//!
//! A body is asked for its next piece before the length of that piece is known. So the decision
//! whether to ask depends on what is held already. A stream that has nothing queued may add one
//! piece, and only a session with little queued reads ahead. Pieces above [`SMALL_PIECE`] have a
//! sum of their own. In it each counts whole until its last byte has left, because the piece keeps
//! its memory until then. A stream whose pieces fit into its window leaves nothing behind for long.
//! So it can still add to that sum when streams that might get stuck with what they add must wait.
//! A stream that is known to add small pieces alone waits for no other.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Waker},
};

use spdy_frame::StreamId;

use crate::{
    config::{Config, Limits},
    sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError},
};

/// The sums of one session, and the tasks that wait until they are smaller.
#[derive(Debug)]
pub(crate) struct Budget {
    config: Arc<Config>,
    /// Bytes that were consumed since the driver last looked.
    consumed: AtomicUsize,
    /// Whether a part of a piece was read since the driver last asked. Only a whole piece counts as
    /// consumed. The driver asks when a deadline has come, so `Timeouts::unread` may take twice as
    /// long then.
    is_partly_read: AtomicBool,
    /// Payload bytes of all streams that have not left for the transport.
    queued: AtomicUsize,
    /// Bytes of large pieces of which not all have left, and of those that are being made.
    large: AtomicUsize,
    /// Bytes of large pieces that are being made, or some more.
    claimed: AtomicUsize,
    /// Whether `waiting` is not empty.
    is_awaited: AtomicBool,
    /// The streams that wait for large pieces to leave, each once, in the order in which they came.
    waiting: Mutex<Vec<Waiter>>,
}

/// A stream that waits for large pieces of others to leave, or that may go on and has not told yet whether it does.
#[derive(Debug)]
struct Waiter {
    id: StreamId,
    asking: Asking,
    turn: Turn,
}

/// Whether it is the turn of a stream that has waited.
#[derive(Debug)]
enum Turn {
    /// Not yet: then the task is woken.
    Due(Waker),
    /// The room for its piece is taken, and its task is woken.
    Come(usize),
}

/// What a stream holds and what it may send, when it asks for another piece.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking {
    /// Its bytes that have not left.
    pub(crate) queued: usize,
    /// What its window lets out, those bytes among it.
    pub(crate) window: usize,
    /// The length of its last piece; `None` before the first.
    pub(crate) last: Option<usize>,
    /// Its pieces are no longer than [`SMALL_PIECE`], or than it is told that there is room.
    pub(crate) is_modest: bool,
}

/// Whether a stream may have another piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may. What it adds should not be longer than this, which is never less than [`SMALL_PIECE`].
    Yes(usize),
    /// When some of what it has queued has left.
    WhenSent,
    /// When its window is open.
    WhenWindowOpens,
    /// When large pieces of other streams have left.
    WhenOthersHaveSent,
}

impl Budget {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            consumed: AtomicUsize::new(0),
            is_partly_read: AtomicBool::new(false),
            queued: AtomicUsize::new(0),
            large: AtomicUsize::new(0),
            claimed: AtomicUsize::new(0),
            is_awaited: AtomicBool::new(false),
            waiting: Mutex::new(Vec::new()),
        }
    }

    /// Returns how many bytes a writer that has `queued` may copy into its send queue now.
    ///
    /// A writer that gets 0 has bytes queued, so it hears that some have left and can ask again then.
    pub(crate) fn of_writer(&self, queued: usize) -> usize {
        let limits = &self.config.limits;
        let min = limits.min_send_queue.max(1);
        let limit = if self.queued.load(Ordering::Relaxed) < limits.session_send_queue {
            limits.stream_send_queue.max(min)
        } else {
            min
        };
        limit.saturating_sub(queued)
    }

    /// Returns whether a stream may have a piece whose length is known only when it is there.
    pub(crate) fn of_piece(&self, asking: Asking) -> Verdict {
        self.judge(asking, self.large.load(Ordering::SeqCst))
    }

    /// Takes room for a piece whose length is known only when it is there, and returns how much. So
    /// streams that ask at the same moment get no more than they would one after the other. The
    /// caller [gives the room back](Self::give_back) when the piece is there.
    ///
    /// # Errors
    ///
    /// What the stream has to wait for, if it may have no piece.
    pub(crate) fn claim(&self, asking: Asking) -> Result<usize, Verdict> {
        let length = asking.longest();
        let claimed = self.claim_with(|large| match self.judge(asking, large) {
            Verdict::Yes(_) => Ok(length),
            verdict => Err(verdict),
        });
        claimed.map_err(|verdict| {
            // What is being made is there, or not, in a moment.
            let claimed = self.claimed.load(Ordering::SeqCst);
            let large = self.large.load(Ordering::SeqCst).saturating_sub(claimed);
            match self.judge(asking, large) {
                Verdict::Yes(_) => Verdict::WhenOthersHaveSent,
                _ => verdict,
            }
        })
    }

    /// Takes room for a piece of `most` bytes or less that is made to measure, and returns how long
    /// the piece may be: never less than a small piece. The caller
    /// [gives the room back](Self::give_back).
    pub(crate) fn reserve(&self, asking: Asking, most: usize) -> usize {
        let length = self.claim_with(|large| {
            let room = match self.judge(asking, large) {
                Verdict::Yes(room) => room,
                _ => SMALL_PIECE,
            };
            Ok::<_, Infallible>(room.min(most))
        });
        let Ok(length) = length;
        length
    }

    /// Adds to the sum what `length` makes of it, unless that is no large piece.
    fn claim_with<E>(&self, length: impl Fn(usize) -> Result<usize, E>) -> Result<usize, E> {
        let mut large = self.large.load(Ordering::SeqCst);
        loop {
            let length = length(large)?;
            if length <= SMALL_PIECE {
                return Ok(length);
            }
            // First, so that no more is in the sum than is known to be claimed.
            self.claimed.fetch_add(length, Ordering::SeqCst);
            let (success, failure) = (Ordering::SeqCst, Ordering::SeqCst);
            let sum = large.saturating_add(length);
            match self.large.compare_exchange(large, sum, success, failure) {
                Ok(_) => return Ok(length),
                Err(now) => large = now,
            }
            self.claimed.fetch_sub(length, Ordering::SeqCst);
        }
    }

    /// Takes room back that was taken for a piece. Returns the tasks to be woken.
    #[must_use = "tasks wait for what was freed"]
    pub(crate) fn give_back(&self, length: usize) -> Vec<Waker> {
        if length <= SMALL_PIECE {
            return Vec::new();
        }
        self.large.fetch_sub(length, Ordering::SeqCst);
        self.claimed.fetch_sub(length, Ordering::SeqCst);
        self.call_up()
    }

    fn judge(&self, asking: Asking, large: usize) -> Verdict {
        let limits = &self.config.limits;
        let reads_ahead = self.queued.load(Ordering::Relaxed) < limits.session_send_queue;
        let most_queued = if reads_ahead {
            limits.stream_send_queue.max(1)
        } else {
            1
        };
        let window = asking.window.saturating_sub(asking.queued);
        if asking.queued >= most_queued || (asking.queued > 0 && window == 0) {
            return Verdict::WhenSent;
        }
        if large < asking.most_large(window, limits) {
            let left = limits.large_send_pieces.saturating_sub(large);
            return Verdict::Yes(left.min(window).max(SMALL_PIECE));
        }
        if asking.is_modest && asking.queued == 0 {
            // It keeps to what it is told, so it holds a small piece, as every stream may.
            return Verdict::Yes(SMALL_PIECE);
        }
        match (asking.queued, window) {
            (1.., _) => Verdict::WhenSent,
            (0, 0) => Verdict::WhenWindowOpens,
            (0, _) => Verdict::WhenOthersHaveSent,
        }
    }

    /// Counts bytes that the application is done with, and returns their sum since the driver last
    /// looked. It is the sum of all streams, because many small remainders could add up to the
    /// whole window of the session.
    pub(crate) fn consume(&self, bytes: usize) -> usize {
        self.consumed.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    /// Begins the sum of consumed bytes anew: the driver looks now.
    pub(crate) fn reset_consumed(&self) {
        self.consumed.store(0, Ordering::Relaxed);
    }

    /// Notes that the application has read a part of a piece.
    pub(crate) fn note_partly_read(&self) {
        self.is_partly_read.store(true, Ordering::Relaxed);
    }

    /// Returns whether the application has read a part of a piece since the last call.
    pub(crate) fn take_partly_read(&self) -> bool {
        self.is_partly_read.swap(false, Ordering::Relaxed)
    }

    /// Returns how many bytes of payload are held.
    pub(crate) fn memory(&self) -> usize {
        let claimed = self.claimed.load(Ordering::Relaxed);
        let large = self.large.load(Ordering::Relaxed).saturating_sub(claimed);
        self.queued.load(Ordering::Relaxed).max(large)
    }

    pub(crate) fn add(&self, queued: usize) {
        self.queued.fetch_add(queued, Ordering::Relaxed);
    }

    pub(crate) fn add_large(&self, large: usize) {
        self.large.fetch_add(large, Ordering::SeqCst);
    }

    /// Notes that bytes have left or were dropped, and with the last of them large pieces. Returns the tasks to be woken.
    #[must_use = "tasks wait for what was freed"]
    pub(crate) fn free(&self, freed: Freed) -> Vec<Waker> {
        self.queued.fetch_sub(freed.queued, Ordering::Relaxed);
        if freed.large == 0 {
            return Vec::new();
        }
        self.large.fetch_sub(freed.large, Ordering::SeqCst);
        self.call_up()
    }

    /// Takes room for streams that wait, as far as there is some. Returns their tasks, and those of streams that wait
    /// for something else by now.
    fn call_up(&self) -> Vec<Waker> {
        // A task first sets `is_awaited` and then claims again; this writes the sum and then reads
        // `is_awaited`. One of the two writes is the first in the one order of all `SeqCst`
        // operations. So either this sees that a task waits, or the task sees the new sum.
        if !self.is_awaited.load(Ordering::SeqCst) {
            return Vec::new();
        }
        let mut wakers = Vec::new();
        let mut waiting = self.waiting();
        waiting.retain_mut(|waiter| {
            let Turn::Due(waker) = &waiter.turn else {
                return true;
            };
            match self.claim(waiter.asking) {
                Ok(length) => {
                    wakers.push(waker.clone());
                    waiter.turn = Turn::Come(length);
                    true
                }
                // Without a window it waits for others only while their pieces are being made.
                Err(Verdict::WhenOthersHaveSent) if waiter.asking.window > 0 => true,
                Err(_) => {
                    wakers.push(waker.clone());
                    false
                }
            }
        });
        let is_awaited = waiting.iter().any(Waiter::is_due);
        self.is_awaited.store(is_awaited, Ordering::SeqCst);
        wakers
    }

    /// Registers the task of a stream until large pieces have left. The caller asks once more afterwards.
    ///
    /// When there is room for the stream, the budget takes it in the name of the stream. So as many tasks are woken as
    /// there is room for, and each [takes](Self::take_turn) its room or [leaves](Self::leave).
    pub(crate) fn wait(&self, id: StreamId, asking: Asking, cx: &Context<'_>) {
        let mut waiting = self.waiting();
        let turn = Turn::Due(cx.waker().clone());
        let waiter = Waiter { id, asking, turn };
        match waiting.iter_mut().find(|other| other.id == id) {
            // Its turn has come just now.
            Some(other) if !other.is_due() => return,
            Some(other) => *other = waiter,
            None => waiting.push(waiter),
        }
        self.is_awaited.store(true, Ordering::SeqCst);
    }

    /// Returns the room that was taken for a stream while it waited, if its turn has come. The stream waits no more
    /// then.
    pub(crate) fn take_turn(&self, id: StreamId) -> Option<usize> {
        let mut waiting = self.waiting();
        let has_come = |it: &Waiter| it.id == id && !it.is_due();
        let position = waiting.iter().position(has_come)?;
        match waiting.remove(position).turn {
            Turn::Come(length) => Some(length),
            Turn::Due(_) => None,
        }
    }

    /// Forgets a stream that waits no more, and takes back room that was taken for it. Returns the tasks to be woken.
    #[must_use = "tasks wait for what was freed"]
    pub(crate) fn leave(&self, id: StreamId) -> Vec<Waker> {
        let mut waiting = self.waiting();
        let position = waiting.iter().position(|waiter| waiter.id == id);
        let waiter = position.map(|position| waiting.remove(position));
        drop(waiting);
        match waiter.map(|waiter| waiter.turn) {
            Some(Turn::Come(length)) => self.give_back(length),
            _ => Vec::new(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiter>> {
        // No code that can panic runs under the lock, so a poisoned list is a sound one.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    const fn is_due(&self) -> bool {
        matches!(self.turn, Turn::Due(_))
    }
}

impl Asking {
    /// How long the piece may be that it is asked for, as far as is known.
    fn longest(&self) -> usize {
        if self.is_modest {
            return SMALL_PIECE;
        }
        self.last.unwrap_or_default().max(USUAL_PIECE)
    }

    /// The sum of large pieces at which the stream waits.
    ///
    /// Also a stream without a window may have a piece while there are few: it finds out that its
    /// body has ended, and FIN needs no window. A piece of it that gets stuck leaves room for
    /// streams that may send.
    fn most_large(&self, window: usize, limits: &Limits) -> usize {
        let most = limits.large_send_pieces.max(8);
        let leaves = |last| last <= SMALL_PIECE || last <= window;
        // A window may be wide enough for any piece.
        if self.is_modest || self.last.map_or(window >= most, leaves) {
            most.saturating_mul(2)
        } else if window == 0 {
            most / 8
        } else {
            most
        }
    }
}

/// What has left, or was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Freed {
    pub(crate) queued: usize,
    /// The lengths of large pieces that are gone to the last byte.
    pub(crate) large: usize,
}

/// Longer pieces of payload are large, in bytes. Every stream may have one that is not.
pub(crate) const SMALL_PIECE: usize = 16 * 1024;

/// A piece of unknown length is expected to be no longer than this, in bytes.
const USUAL_PIECE: usize = 1 << 20;

#[cfg(test)]
mod tests {
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
        budget.add_large(large);
        budget.of_piece(asking)
    }

    #[test]
    fn a_piece_should_be_as_long_as_window_and_session_let_it() {
        let most = Limits::default().large_send_pieces;
        assert_eq!(verdict(0, NEW), Verdict::Yes(65_536));
        assert_eq!(verdict(most - 20_000, NEW), Verdict::Yes(20_000));
        assert_eq!(verdict(most - 1, NEW), Verdict::Yes(SMALL_PIECE));
        let narrow = Asking { window: 1, ..NEW };
        assert_eq!(verdict(0, narrow), Verdict::Yes(SMALL_PIECE));
    }

    #[test]
    fn of_a_session_that_holds_much_streams_wait_that_may_get_stuck() {
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
    fn streams_that_are_asked_at_the_same_moment_have_no_more_than_one_after_the_other() {
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
        budget.add_large(claims[0]);
        assert!(budget.give_back(claims[0]).is_empty());
        assert_eq!(claim(wide), Err(Verdict::WhenOthersHaveSent));
        assert_eq!(claim(shut), Err(Verdict::WhenWindowOpens));
        assert_eq!(budget.memory(), USUAL_PIECE);
        assert!(budget.give_back(claims[1]).is_empty());
        assert_eq!(claim(wide), Ok(USUAL_PIECE));
    }

    /// A session in which `number` streams wait for others, in the order of their numbers, and their tasks.
    fn crowd(number: usize, asking: Asking) -> (Budget, Vec<Arc<Task>>) {
        let budget = Budget::new(Arc::default());
        budget.add_large(2 * Limits::default().large_send_pieces);
        let tasks: Vec<Arc<Task>> = (0..number).map(|_| Arc::default()).collect();
        for (number, task) in tasks.iter().enumerate() {
            let waker = Waker::from(Arc::clone(task));
            budget.wait(id(number), asking, &Context::from_waker(&waker));
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
        Freed { queued: 0, large }
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
        budget.add_large(USUAL_PIECE);
        let turn = budget.take_turn(id(1)).unwrap();
        wake(budget.give_back(turn));
        assert_eq!(woken(&tasks), [1, 1, 1, 0, 0]);
        assert_eq!(budget.take_turn(id(1)), None, "it is taken once");
        assert_eq!(budget.take_turn(id(3)), None, "it has not come");
    }

    #[test]
    fn a_stream_that_leaves_passes_its_turn_on() {
        let (budget, tasks) = crowd(3, NEW);
        wake(budget.leave(id(1)));
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
        wake(budget.leave(id(0)));
        assert_eq!(woken(&tasks), [1, 1, 0]);
        wake(budget.leave(id(1)));
        wake(budget.leave(id(2)));
        assert_eq!(budget.claim(NEW), Ok(USUAL_PIECE));
    }

    /// The stream waits for its window, with the timeout of that, once nothing is being made.
    #[test]
    fn a_stream_without_a_window_is_told_when_others_have_made_their_pieces() {
        let budget = Budget::new(Arc::default());
        let claimed = budget.claim(NEW).unwrap();
        let shut = Asking { window: 0, ..NEW };
        assert_eq!(budget.claim(shut), Err(Verdict::WhenOthersHaveSent));
        let task = Arc::new(Task::default());
        let waker = Waker::from(Arc::clone(&task));
        budget.wait(id(0), shut, &Context::from_waker(&waker));
        budget.add_large(claimed);
        wake(budget.give_back(claimed));
        assert_eq!(woken(&[task]), [1]);
        assert_eq!(budget.claim(shut), Err(Verdict::WhenWindowOpens));
        assert!(budget.leave(id(0)).is_empty());
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
        for asking in [modest, shut] {
            assert_eq!(verdict(usize::MAX, asking), Verdict::Yes(SMALL_PIECE));
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
}
