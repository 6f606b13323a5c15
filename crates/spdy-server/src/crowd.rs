//! HTTP/1.1 connections that leave when the server is full and others wait for a place.
//!
//! Those that were idle longest are closed. If none was idle for a moment, the next response
//! announces the end of its connection.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

/// The HTTP/1.1 connections of a server.
#[derive(Debug)]
pub(crate) struct Crowd {
    begun: Instant,
    guests: Mutex<Guests>,
    /// Whether a connection waits for a place, and no other was idle for long enough.
    is_wanted: AtomicBool,
}

#[derive(Debug, Default)]
struct Guests {
    next: u64,
    all: HashMap<u64, Guest>,
    /// When no connection was idle.
    in_vain: Option<Instant>,
}

#[derive(Debug)]
struct Guest {
    idle: Arc<AtomicU64>,
    leave: oneshot::Sender<()>,
}

impl Crowd {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            guests: Mutex::default(),
            is_wanted: AtomicBool::new(false),
        })
    }

    /// Adds a connection, for as long as the result is held.
    pub(crate) fn join(self: &Arc<Self>) -> Member {
        let (leave, told) = oneshot::channel();
        let idle = Arc::<AtomicU64>::default();
        let mut guests = self.lock();
        let id = guests.next;
        guests.next += 1;
        let guest = Guest {
            idle: Arc::clone(&idle),
            leave,
        };
        guests.all.insert(id, guest);
        drop(guests);
        Member {
            crowd: Arc::clone(self),
            id,
            idle,
            told,
            must_leave: false,
        }
    }

    /// Asks connections to leave, so that another one gets a place.
    pub(crate) fn make_way(&self) {
        let mut guests = self.lock();
        let now = Instant::now();
        if guests.in_vain.is_none_or(|then| then + PAUSE <= now)
            && guests.close_idle(self.tick(now))
        {
            return;
        }
        guests.in_vain.get_or_insert(now);
        self.is_wanted.store(true, Ordering::Relaxed);
    }

    /// Notes that the connection which waited has got its place.
    pub(crate) fn is_seated(&self) {
        self.is_wanted.store(false, Ordering::Relaxed);
    }

    /// Returns whether the connection of a response has to leave after it. Only one connection
    /// leaves for each that waits.
    pub(crate) fn claims_one(&self) -> bool {
        self.is_wanted.load(Ordering::Relaxed) && self.is_wanted.swap(false, Ordering::Relaxed)
    }

    /// Returns a time as milliseconds, which are never 0.
    fn tick(&self, now: Instant) -> u64 {
        u64::try_from((now - self.begun).as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn lock(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guests {
    /// Closes those that were idle longest: several at once, because looking at all takes time.
    /// Returns whether there was one.
    fn close_idle(&mut self, now: u64) -> bool {
        self.in_vain = None;
        let is_idle = |since: u64| since != BUSY && since.saturating_add(REST) <= now;
        let mut idle: Vec<_> = self
            .all
            .iter()
            .map(|(id, guest)| (guest.idle.load(Ordering::Relaxed), *id))
            .filter(|(since, _)| is_idle(*since))
            .collect();
        let number = (self.all.len() / 8).clamp(1, MOST).min(idle.len());
        if number == 0 {
            return false;
        }
        idle.select_nth_unstable(number - 1);
        for (_, id) in &idle[..number] {
            if let Some(guest) = self.all.remove(id) {
                // Without a receiver the connection has just ended.
                _ = guest.leave.send(());
            }
        }
        true
    }
}

/// The place of a connection in the crowd.
#[derive(Debug)]
pub(crate) struct Member {
    crowd: Arc<Crowd>,
    id: u64,
    /// Since when the connection is idle, in milliseconds of the crowd, or [`BUSY`].
    idle: Arc<AtomicU64>,
    told: oneshot::Receiver<()>,
    must_leave: bool,
}

impl Member {
    /// Notes whether the connection is idle. Completes when it has to leave.
    pub(crate) fn poll_leave(&mut self, is_idle: bool, cx: &mut Context<'_>) -> Poll<()> {
        let was_idle = self.idle.load(Ordering::Relaxed) != BUSY;
        if is_idle != was_idle {
            let since = match is_idle {
                true => self.crowd.tick(Instant::now()),
                false => BUSY,
            };
            self.idle.store(since, Ordering::Relaxed);
        }
        // The sender is dropped only with this member.
        self.must_leave = self.must_leave || Pin::new(&mut self.told).poll(cx).is_ready();
        match self.must_leave {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.crowd.lock().all.remove(&self.id);
    }
}

/// The time at which a connection became idle, while it is not idle.
const BUSY: u64 = 0;

/// How many milliseconds a connection must have been idle before it is closed without notice. Its
/// client might be about to send a request.
const REST: u64 = 1000;

/// The maximum number of idle connections that are closed at once.
const MOST: usize = 32;

/// How long no idle connection is looked for after there was none.
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::time::sleep;

    use super::*;

    fn leaves(member: &mut Member, is_idle: bool) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        member.poll_leave(is_idle, &mut cx).is_ready()
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_was_idle_longest_leaves() {
        let crowd = Crowd::new();
        let mut members: Vec<_> = (0..5).map(|_| crowd.join()).collect();
        for member in &mut members[1..4] {
            assert!(!leaves(member, true));
            sleep(Duration::from_millis(10)).await;
        }
        // It takes a request, and is idle again.
        assert!(!leaves(&mut members[1], false));
        assert!(!leaves(&mut members[1], true));
        sleep(Duration::from_millis(REST)).await;
        crowd.make_way();
        let mut gone: Vec<_> = members.iter_mut().map(|it| leaves(it, true)).collect();
        assert_eq!(gone, [false, false, true, false, false]);
        assert!(!crowd.claims_one());
        drop(members.remove(3));
        crowd.make_way();
        gone = members.iter_mut().map(|it| leaves(it, true)).collect();
        assert_eq!(gone, [false, true, true, false]);
        drop(members);
        assert!(crowd.lock().all.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn if_none_is_idle_one_response_announces_the_end_of_its_connection() {
        let crowd = Crowd::new();
        let mut member = crowd.join();
        assert!(!crowd.claims_one());
        crowd.make_way();
        assert!(crowd.claims_one());
        assert!(!crowd.claims_one());
        crowd.make_way();
        crowd.is_seated();
        assert!(!crowd.claims_one());
        assert!(!leaves(&mut member, true));
        sleep(Duration::from_millis(REST)).await;
        crowd.make_way();
        assert!(leaves(&mut member, true));
    }
}
