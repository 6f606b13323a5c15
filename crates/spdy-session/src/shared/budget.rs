//! Counts the payload that a session holds until it has left, decides which streams may add to it,
//! and counts the payload of the peer that the application has consumed.
//!
//! A body is asked for its next piece before the length of that piece is known. So the decision
//! depends on what is held already:
//!
//! * A stream that has nothing queued may add one piece. Only a session with little queued reads
//!   ahead.
//! * Pieces above [`SMALL_PIECE`] have their own sum. Each counts whole until its last byte has
//!   left, because the piece keeps its memory until then.
//! * A stream whose pieces fit into its window does not keep them for long. So it may still add to
//!   that sum when streams that might get stuck have to wait.
//! * A stream that is known to add only small pieces waits for no other stream.

use std::{
    convert::Infallible,
    mem,
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
    /// Bytes that were consumed since the driver last checked.
    consumed: AtomicUsize,
    /// Payload bytes of all streams that have not left for the transport.
    queued: AtomicUsize,
    /// How many bytes of a body one stream may queue. It follows what the transport takes, between
    /// `Limits::stream_send_queue` and `Limits::max_stream_send_queue`. Only the driver writes it.
    ahead: AtomicUsize,
    /// The bytes in `queued` that belong to large pieces.
    of_large: AtomicUsize,
    /// Bytes of large pieces that have not left completely, and of large pieces that are being
    /// made.
    large: AtomicUsize,
    /// Bytes of large pieces that are being made, or slightly more.
    claimed: AtomicUsize,
    /// Whether `waiting` is not empty.
    is_awaited: AtomicBool,
    /// The streams that wait for large pieces to leave, each once, in the order of their arrival.
    waiting: Mutex<Vec<Waiter>>,
}

/// A stream that waits for large pieces of others to leave, or whose turn has come and that has not
/// reacted yet.
#[derive(Debug)]
struct Waiter {
    id: StreamId,
    asking: Asking,
    turn: Turn,
}

/// Whether the turn of a waiting stream has come.
#[derive(Debug)]
enum Turn {
    /// Not yet. Its task is woken when it comes.
    Due(Waker),
    /// This room is reserved for its piece, and its task was woken.
    Come(usize),
}

/// The situation of a stream that asks for another piece.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking {
    /// How many of its bytes have not left.
    pub(crate) queued: usize,
    /// How many bytes its window lets out, including the queued ones.
    pub(crate) window: usize,
    /// The length of its last piece; `None` before the first.
    pub(crate) last: Option<usize>,
    /// Whether its pieces are no longer than [`SMALL_PIECE`], or than the room that is passed to
    /// it.
    pub(crate) is_modest: bool,
}

/// Whether a stream may have another piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may. The piece should not be longer than this, which is at least [`LEAST_PIECE`].
    Yes(usize),
    /// It may when some of its queued bytes have left.
    WhenSent,
    /// It may when its window is open.
    WhenWindowOpens,
    /// It may when large pieces of other streams have left.
    WhenOthersHaveSent,
}

impl Budget {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self {
            ahead: AtomicUsize::new(config.limits.stream_send_queue),
            config,
            consumed: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            of_large: AtomicUsize::new(0),
            large: AtomicUsize::new(0),
            claimed: AtomicUsize::new(0),
            is_awaited: AtomicBool::new(false),
            waiting: Mutex::new(Vec::new()),
        }
    }

    /// Returns how many bytes a writer that has `queued` may copy into its send queue now.
    ///
    /// A writer that gets 0 has bytes queued, so it is woken when some of them have left.
    pub(crate) fn of_writer(&self, queued: usize) -> usize {
        let limits = &self.config.limits;
        let min = limits.min_send_queue;
        let limit = if self.queued.load(Ordering::Relaxed) < limits.session_send_queue {
            limits.stream_send_queue.max(min)
        } else {
            min
        };
        limit.saturating_sub(queued)
    }

    /// Returns whether a stream may have a piece whose length is known only when the piece exists.
    pub(crate) fn of_piece(&self, asking: Asking) -> Verdict {
        self.judge(asking, self.large.load(Ordering::SeqCst))
    }

    /// For tests: returns whether a stream may have another piece with a queue that has not grown.
    /// The growth wakes no task, since one that waits for it has bytes queued.
    pub(crate) fn of_piece_without_growth(&self, asking: Asking) -> Verdict {
        if asking.queued >= self.config.limits.stream_send_queue {
            return Verdict::WhenSent;
        }
        self.of_piece(asking)
    }

    /// Reserves room for a piece whose length is known only when the piece exists, and returns how
    /// much. So streams that ask at the same moment get no more than they would one after the
    /// other. The caller [gives the room back](Self::give_back) when the piece exists.
    ///
    /// # Errors
    ///
    /// Returns what the stream has to wait for, if it may have no piece.
    pub(crate) fn claim(&self, asking: Asking) -> Result<usize, Verdict> {
        let length = asking.longest();
        let claimed = self.claim_with(|large| match self.judge(asking, large) {
            Verdict::Yes(_) => Ok(length),
            verdict => Err(verdict),
        });
        claimed.map_err(|verdict| {
            // The pieces that are being made will soon exist or turn out not to.
            let claimed = self.claimed.load(Ordering::SeqCst);
            let large = self.large.load(Ordering::SeqCst).saturating_sub(claimed);
            match self.judge(asking, large) {
                Verdict::Yes(_) => Verdict::WhenOthersHaveSent,
                _ => verdict,
            }
        })
    }

    /// Reserves room for a piece of at most `most` bytes that is made to measure. Returns how long
    /// the piece may be, which is at least [`LEAST_PIECE`] or `most`. The caller [gives the room
    /// back](Self::give_back).
    pub(crate) fn reserve(&self, asking: Asking, most: usize) -> usize {
        let length = self.claim_with(|large| {
            let room = match self.judge(asking, large) {
                Verdict::Yes(room) => room,
                _ => self.least(large),
            };
            Ok::<_, Infallible>(room.min(most))
        });
        let Ok(length) = length;
        length
    }

    /// Adds the result of `length` to the sum, unless it is a small piece.
    fn claim_with<E>(&self, length: impl Fn(usize) -> Result<usize, E>) -> Result<usize, E> {
        let mut large = self.large.load(Ordering::SeqCst);
        loop {
            let length = length(large)?;
            if length <= SMALL_PIECE {
                return Ok(length);
            }
            // This is first, so that the sum never contains more than `claimed` shows.
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

    /// Releases the room that was reserved for a piece. Returns the tasks to be woken.
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
            self.ahead.load(Ordering::Relaxed)
        } else {
            1
        };
        let window = asking.window.saturating_sub(asking.queued);
        if asking.queued >= most_queued || (asking.queued > 0 && window == 0) {
            return Verdict::WhenSent;
        }
        if large < asking.most_large(window, self.small(), limits) {
            let left = limits.large_send_pieces.saturating_sub(large);
            return Verdict::Yes(left.min(window).max(SMALL_PIECE));
        }
        if asking.is_modest && asking.queued == 0 {
            // A modest stream adds only a small piece, which every stream may hold.
            return Verdict::Yes(self.least(large));
        }
        match (asking.queued, window) {
            (1.., _) => Verdict::WhenSent,
            (0, 0) => Verdict::WhenWindowOpens,
            (0, _) => Verdict::WhenOthersHaveSent,
        }
    }

    /// Returns the length of a piece that every stream may have. It is short when the session holds
    /// so much that small pieces of all streams would be too much. It is never 0, because streams
    /// that are stuck must not hold up one whose window is open.
    fn least(&self, large: usize) -> usize {
        let most = self.config.limits.large_send_pieces;
        let held = large.saturating_add(self.small());
        if held < most.saturating_mul(5) / 2 {
            SMALL_PIECE
        } else {
            LEAST_PIECE
        }
    }

    /// Returns how many bytes of small pieces are queued.
    fn small(&self) -> usize {
        let of_large = self.of_large.load(Ordering::SeqCst);
        self.queued.load(Ordering::SeqCst).saturating_sub(of_large)
    }

    /// Notes that the transport has taken `bytes` in a turn, and whether it `takes_all`. Bodies may
    /// queue more while it does, because then most turns are full, and what leaves at once delays
    /// nothing.
    ///
    /// No task is woken. A task that waits for this has bytes queued, and is woken when some of
    /// them have left.
    pub(crate) fn note_turn(&self, bytes: usize, takes_all: bool) {
        let limits = &self.config.limits;
        let (least, most) = (limits.stream_send_queue, limits.max_stream_send_queue);
        let now = self.ahead.load(Ordering::Relaxed);
        let next = match takes_all {
            true if bytes < now => now,
            true => now.saturating_mul(2).min(most).max(least),
            false => least,
        };
        if next != now {
            self.ahead.store(next, Ordering::Relaxed);
        }
    }

    /// Counts consumed bytes, and returns their sum since the driver last checked. It is the sum of
    /// all streams, because many small remainders could add up to the whole window of the session.
    pub(crate) fn consume(&self, bytes: usize) -> usize {
        self.consumed.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    /// Resets the sum of consumed bytes, because the driver checks now.
    pub(crate) fn reset_consumed(&self) {
        self.consumed.store(0, Ordering::Relaxed);
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

    /// Adds a large piece that counts so much, and of which `queued` bytes were added.
    pub(crate) fn add_large(&self, large: usize, queued: usize) {
        self.large.fetch_add(large, Ordering::SeqCst);
        self.of_large.fetch_add(queued, Ordering::SeqCst);
    }

    /// Notes that bytes have left or were dropped, and which large pieces are gone with them.
    /// Returns the tasks to be woken.
    #[must_use = "tasks wait for what was freed"]
    pub(crate) fn free(&self, freed: Freed) -> Vec<Waker> {
        self.queued.fetch_sub(freed.queued, Ordering::SeqCst);
        if freed.of_large > 0 {
            self.of_large.fetch_sub(freed.of_large, Ordering::SeqCst);
        }
        if freed.large > 0 {
            self.large.fetch_sub(freed.large, Ordering::SeqCst);
        }
        self.call_up()
    }

    /// Reserves room for waiting streams, while there is room. Returns their tasks, and those of
    /// streams that have to wait for something else now.
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
                // Without a window a stream waits for others only while their pieces are being
                // made.
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

    /// Registers the task of a stream until large pieces have left. The caller has to ask once more
    /// afterwards.
    ///
    /// When there is room for the stream, the budget reserves it in the name of the stream. So no
    /// more tasks are woken than there is room for. Each woken task [takes](Self::take_turn) its
    /// room or [leaves](Self::leave).
    ///
    /// Returns the task that waited for the stream before, to be dropped without a lock.
    #[must_use = "it is dropped without a lock"]
    pub(crate) fn wait(&self, id: StreamId, asking: Asking, cx: &Context<'_>) -> Option<Waker> {
        let turn = Turn::Due(cx.waker().clone());
        let waiter = Waiter { id, asking, turn };
        let mut waiting = self.waiting();
        let replaced = match waiting.iter_mut().find(|other| other.id == id) {
            // Its turn has come just now.
            Some(other) if !other.is_due() => return waiter.into_task(),
            Some(other) => mem::replace(other, waiter).into_task(),
            None => {
                waiting.push(waiter);
                None
            }
        };
        self.is_awaited.store(true, Ordering::SeqCst);
        replaced
    }

    /// Returns the room that was reserved for a stream while it waited, if its turn has come. Then
    /// the stream no longer waits.
    pub(crate) fn take_turn(&self, id: StreamId) -> Option<usize> {
        let mut waiting = self.waiting();
        let has_come = |it: &Waiter| it.id == id && !it.is_due();
        let position = waiting.iter().position(has_come)?;
        match waiting.remove(position).turn {
            Turn::Come(length) => Some(length),
            Turn::Due(_) => None,
        }
    }

    /// Removes a stream that no longer waits, and gives back its reserved room.
    pub(crate) fn leave(&self, id: StreamId) -> Left {
        let mut waiting = self.waiting();
        let position = waiting.iter().position(|waiter| waiter.id == id);
        let waiter = position.map(|position| waiting.remove(position));
        drop(waiting);
        match waiter.map(|waiter| waiter.turn) {
            Some(Turn::Come(length)) => Left {
                others: self.give_back(length),
                own: None,
            },
            Some(Turn::Due(own)) => Left {
                others: Vec::new(),
                own: Some(own),
            },
            None => Left::default(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiter>> {
        // No code that can panic runs under the lock, so the list of a poisoned lock is valid.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    const fn is_due(&self) -> bool {
        matches!(self.turn, Turn::Due(_))
    }

    fn into_task(self) -> Option<Waker> {
        match self.turn {
            Turn::Due(task) => Some(task),
            Turn::Come(_) => None,
        }
    }
}

/// The tasks that a stream leaves behind when it no longer waits for others.
#[derive(Debug, Default)]
#[must_use = "tasks are woken and dropped without a lock"]
pub(crate) struct Left {
    /// The tasks that can go on now.
    others: Vec<Waker>,
    /// The task of the stream itself.
    own: Option<Waker>,
}

impl Left {
    /// Wakes the tasks that can go on. The caller holds no lock.
    pub(crate) fn wake(self) {
        self.others.into_iter().for_each(Waker::wake);
        drop(self.own);
    }
}

impl Asking {
    /// Returns how long the next piece may be, as far as is known.
    fn longest(&self) -> usize {
        if self.is_modest {
            return SMALL_PIECE;
        }
        self.last.unwrap_or_default().max(USUAL_PIECE)
    }

    /// Returns the sum of large pieces at which the stream has to wait.
    ///
    /// A stream without a window may also have a piece while the sum is small. So it finds out
    /// whether its body has ended, and FIN needs no window. If its piece gets stuck, there is still
    /// room for streams that can send.
    ///
    /// `small` bytes of small pieces are queued. They hold up no stream, but they are a part of
    /// what a session holds, so there is less room for the second half of the sum.
    fn most_large(&self, window: usize, small: usize, limits: &Limits) -> usize {
        let most = limits.large_send_pieces;
        let leaves = |last| last <= SMALL_PIECE || last <= window;
        // A window can be large enough for any piece.
        if self.is_modest || self.last.map_or(window >= most, leaves) {
            most.saturating_mul(2) - small.min(most)
        } else if window == 0 {
            most / 8
        } else {
            most
        }
    }
}

/// Bytes that have left or were dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Freed {
    pub(crate) queued: usize,
    /// The bytes of `queued` that belong to large pieces.
    pub(crate) of_large: usize,
    /// The lengths of large pieces that are gone completely.
    pub(crate) large: usize,
}

/// A piece of payload that is longer than this, in bytes, is large. Every stream may have one that
/// is not.
pub(crate) const SMALL_PIECE: usize = 16 * 1024;

/// A piece that is made to measure may have this many bytes, however much the session holds.
const LEAST_PIECE: usize = 4 * 1024;

/// A piece of unknown length is expected to be at most this long, in bytes.
const USUAL_PIECE: usize = 1 << 20;

#[cfg(test)]
mod tests;
