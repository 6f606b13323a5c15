//! The use of a connection by its requests.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    super::{Cut, Turn},
    Shared,
    leaving::Leaving,
};

/// The use of a connection, from the first request to the end of its transport.
#[derive(Debug)]
pub(super) struct Usage {
    counts: Mutex<Counts>,
    /// The maximum number of requests, which the application has announced.
    places: AtomicUsize,
    pub(super) leaving: Leaving,
    /// The number of requests that ended early.
    broken: AtomicUsize,
    /// Requests use the connection only if no other can be had.
    is_spare: AtomicBool,
    /// The application has not said a word for as long as a request can wait.
    is_doubted: AtomicBool,
    /// A stream can end only with the connection.
    is_stranded: AtomicBool,
    cut: Cut,
}

#[derive(Debug)]
struct Counts {
    requests: usize,
    /// Those of `requests` whose clients have left.
    abandoned: usize,
    /// When the last request ended.
    since: Instant,
}

impl Usage {
    pub(super) fn new(cut: Cut) -> Self {
        Self {
            counts: Mutex::new(Counts {
                requests: 0,
                abandoned: 0,
                since: Instant::now(),
            }),
            places: AtomicUsize::new(0),
            leaving: Leaving::default(),
            broken: AtomicUsize::new(0),
            is_spare: AtomicBool::new(false),
            is_doubted: AtomicBool::new(false),
            is_stranded: AtomicBool::new(false),
            cut,
        }
    }

    /// Takes a place if one is free.
    pub(super) fn take_place(&self) -> bool {
        let mut counts = self.get();
        let is_free = counts.requests < self.places.load(Ordering::Relaxed);
        counts.requests += usize::from(is_free);
        is_free
    }

    fn end(&self, is_abandoned: bool) {
        let mut counts = self.get();
        counts.requests -= 1;
        counts.abandoned -= usize::from(is_abandoned);
        counts.since = Instant::now();
    }

    /// Returns whether there is a request whose client has not left.
    pub(super) fn is_in_use(&self) -> bool {
        let counts = self.get();
        counts.requests > counts.abandoned
    }

    pub(super) fn is_idle(&self) -> bool {
        self.get().requests == 0
    }

    /// Sets the number of places. Returns whether it has grown. (An application that accepts no
    /// requests for a while counts as one place.)
    pub(super) fn set_places(&self, places: usize) -> bool {
        let places = places.max(1);
        self.places.swap(places, Ordering::Relaxed) < places
    }

    /// Has requests use other connections, if there are any.
    pub(super) fn make_spare(&self) {
        self.is_spare.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_spare(&self) -> bool {
        self.is_spare.load(Ordering::Relaxed)
    }

    pub(super) fn doubt(&self) {
        self.is_doubted.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_doubted(&self) -> bool {
        self.is_doubted.load(Ordering::Relaxed)
    }

    /// Closes the connection at once. Returns whether it was open.
    pub(super) fn cut(&self) -> bool {
        self.cut.cut()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.cut.is_over()
    }

    /// Closes a connection with a stranded stream once no client uses it.
    fn cut_if_stranded(&self) {
        if self.is_stranded.load(Ordering::Relaxed) && !self.is_in_use() {
            self.cut();
        }
    }

    /// Returns when the connection will have been idle for too long. A connection in use will be
    /// idle later.
    pub(super) fn rests_until(&self) -> Instant {
        let counts = self.get();
        let is_idle = counts.requests == 0;
        let since = if is_idle {
            counts.since
        } else {
            Instant::now()
        };
        since + MAX_REST
    }

    fn get(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The use of a connection by one request. Dropping it frees the place, and ends the turn of the
/// request.
#[derive(Debug)]
pub(in super::super::super) struct Place {
    pub(super) usage: Arc<Usage>,
    pub(super) pool: Arc<Shared>,
    pub(super) turn: Turn,
    is_abandoned: AtomicBool,
}

impl Place {
    pub(super) const fn new(usage: Arc<Usage>, pool: Arc<Shared>, turn: Turn) -> Self {
        Self {
            usage,
            pool,
            turn,
            is_abandoned: AtomicBool::new(false),
        }
    }

    /// Notes that the request ends early: its client has left, or the application has not read all
    /// of it.
    ///
    /// Applications close a connection with too many such requests. h2 counts the frames for
    /// streams that it has forgotten, and ends the connection after a thousand; others count
    /// resets. So a connection with [`MAX_BROKEN`] of them takes no more requests while there can
    /// be another one, and its open requests continue.
    pub(in super::super::super) fn note_broken(&self) {
        if self.usage.broken.fetch_add(1, Ordering::Relaxed) + 1 == MAX_BROKEN {
            self.pool.spare(&self.usage);
        }
    }

    /// Notes that the client has left.
    pub(super) fn abandon(&self) {
        if !self.is_abandoned.swap(true, Ordering::Relaxed) {
            self.usage.get().abandoned += 1;
            self.usage.cut_if_stranded();
            self.pool.freed.notify_one();
        }
    }

    /// Notes that the stream will not end while its connection is open.
    pub(super) fn strand(&self) {
        self.pool.retire(&self.usage);
        // From now on no request takes a place.
        self.usage.is_stranded.store(true, Ordering::Relaxed);
        self.abandon();
        self.usage.cut_if_stranded();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.usage.end(*self.is_abandoned.get_mut());
        if self.usage.is_spare() {
            self.pool.retire_idle(&self.usage);
        }
        self.usage.cut_if_stranded();
        self.pool.freed.notify_one();
    }
}

/// How long a connection can be idle.
const MAX_REST: Duration = Duration::from_secs(30);

/// The maximum number of requests that can end early on a connection before others are preferred.
const MAX_BROKEN: usize = 100;
