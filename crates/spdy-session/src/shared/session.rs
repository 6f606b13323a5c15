//! The orders of a session's handles, and what the driver tells these handles.

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::Arc,
    time::{Duration, Instant},
};

use spdy_frame::{HeaderBlock, Setting, Settings, StreamId};
use tokio::sync::oneshot;

use crate::{
    OpenError,
    proto::{OpenOptions, Outcome, Shutdown},
};

/// The part of a session that does not belong to one stream. `C` is the type of the cells of
/// streams.
#[derive(Debug)]
pub(crate) struct SessionState<C> {
    orders: Orders<C>,
    /// How many [`Session`](crate::Session) handles there are.
    handles: usize,
    /// Whether no stream can be opened any more.
    is_going_away: bool,
    /// The peer's SETTINGS: the latest entry of each id.
    settings: Vec<Setting>,
    /// When this side last kept the peer from sending payload.
    held_up: HeldUp,
    /// How the session ended, once it has.
    outcome: Option<Outcome>,
}

/// The orders of the session's handles since the driver last checked.
#[derive(Debug)]
pub(crate) struct Orders<C> {
    pub(crate) opens: VecDeque<OpenOrder<C>>,
    pub(crate) pings: Vec<oneshot::Sender<Duration>>,
    pub(crate) shutdown: Option<ShutdownOrder>,
}

/// A stream to be opened.
#[derive(Debug)]
pub(crate) struct OpenOrder<C> {
    pub(crate) headers: HeaderBlock,
    pub(crate) how: OpenOptions,
    pub(crate) note: Note,
    pub(crate) answer: oneshot::Sender<Result<Arc<C>, OpenError>>,
}

/// A function that is called with the id of a stream as soon as the stream has one.
pub(crate) struct Note(pub(crate) Box<dyn FnOnce(StreamId) + Send>);

/// The end of the session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShutdownOrder {
    pub(crate) how: Shutdown,
    /// How many items of the ready list had orders before this one.
    pub(crate) ready_before: usize,
}

/// Whether the peer could send payload: the values of
/// [`Connection::holds_up_peer`](crate::proto::Connection::holds_up_peer) over time.
#[derive(Clone, Copy, Debug)]
enum HeldUp {
    Never,
    Until(Instant),
    Now,
}

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Note")
    }
}

impl<C> Orders<C> {
    const fn new() -> Self {
        Self {
            opens: VecDeque::new(),
            pings: Vec::new(),
            shutdown: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.opens.is_empty() && self.pings.is_empty() && self.shutdown.is_none()
    }
}

impl<C> SessionState<C> {
    /// Returns the state of a session with one handle.
    pub(crate) const fn new() -> Self {
        Self {
            orders: Orders::new(),
            handles: 1,
            is_going_away: false,
            settings: Vec::new(),
            held_up: HeldUp::Never,
            outcome: None,
        }
    }

    /// Returns the outcome as an error if the session has ended.
    fn check_running(&self) -> Result<(), Outcome> {
        match &self.outcome {
            Some(outcome) => Err(outcome.clone()),
            None => Ok(()),
        }
    }
}

/// For handles.
impl<C> SessionState<C> {
    /// Orders a stream. Returns the order if the session has ended: the caller drops it without a
    /// lock.
    pub(crate) fn order_open(
        &mut self,
        order: OpenOrder<C>,
    ) -> Result<(), (Outcome, Box<OpenOrder<C>>)> {
        match self.check_running() {
            Ok(()) => self.orders.opens.push_back(order),
            Err(outcome) => return Err((outcome, Box::new(order))),
        }
        Ok(())
    }

    /// The same as [`order_open`](Self::order_open), for a PING.
    pub(crate) fn order_ping(
        &mut self,
        answer: oneshot::Sender<Duration>,
    ) -> Result<(), (Outcome, oneshot::Sender<Duration>)> {
        match self.check_running() {
            Ok(()) => self.orders.pings.push(answer),
            Err(outcome) => return Err((outcome, answer)),
        }
        Ok(())
    }

    /// Orders the end of the session, after the orders of `ready` items. Of two such orders the one
    /// that ends the session sooner counts.
    pub(crate) fn order_shutdown(&mut self, how: Shutdown, ready: usize) -> Result<(), Outcome> {
        self.is_going_away = true;
        self.check_running()?;
        self.orders.shutdown = Some(ShutdownOrder {
            how: match self.orders.shutdown {
                Some(earlier) => earlier.how.sooner(how),
                None => how,
            },
            ready_before: ready,
        });
        Ok(())
    }

    pub(crate) const fn can_open(&self) -> bool {
        !self.is_going_away && self.outcome.is_none()
    }

    pub(crate) fn peer_settings(&self) -> Vec<Setting> {
        self.settings.clone()
    }

    pub(crate) const fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Returns the last moment at which the peer could not send payload, or `now` if it cannot now.
    pub(crate) const fn held_up_until(&self, now: Instant) -> Option<Instant> {
        match self.held_up {
            HeldUp::Never => None,
            HeldUp::Until(moment) => Some(moment),
            HeldUp::Now => Some(now),
        }
    }

    pub(crate) const fn add_handle(&mut self) {
        self.handles += 1;
    }

    pub(crate) const fn drop_handle(&mut self) {
        self.handles -= 1;
    }

    pub(crate) const fn has_handles(&self) -> bool {
        self.handles > 0
    }
}

/// For the driver.
impl<C> SessionState<C> {
    pub(crate) fn has_orders(&self) -> bool {
        !self.orders.is_empty()
    }

    /// Takes the orders, if there are any. Most of the time there are none.
    pub(crate) fn take_orders(&mut self) -> Option<Orders<C>> {
        if self.orders.is_empty() {
            return None;
        }
        Some(mem::replace(&mut self.orders, Orders::new()))
    }

    /// Keeps the entries of the peer's SETTINGS, at most as many ids as one frame may have.
    pub(crate) fn note_settings(&mut self, frame: &Settings) {
        for entry in &frame.entries {
            match self.settings.iter().position(|known| known.id == entry.id) {
                Some(known) => self.settings[known] = *entry,
                None if self.settings.len() < Settings::MAX_ENTRIES => self.settings.push(*entry),
                None => {}
            }
        }
    }

    /// Notes that this side starts or stops keeping the peer from sending payload.
    pub(crate) const fn note_held_up(&mut self, is_held_up: bool, now: Instant) {
        self.held_up = if is_held_up {
            HeldUp::Now
        } else {
            HeldUp::Until(now)
        };
    }

    /// Notes that no stream can be opened any more.
    pub(crate) const fn note_going_away(&mut self) {
        self.is_going_away = true;
    }

    /// Ends the session. Returns the orders that were not carried out. The caller drops them
    /// without a lock, which informs the tasks that wait for an answer.
    pub(crate) fn end(&mut self, outcome: Outcome) -> Orders<C> {
        self.outcome = Some(outcome);
        mem::replace(&mut self.orders, Orders::new())
    }
}
