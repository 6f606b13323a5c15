//! The streams of the peer that the application has not accepted yet.
//!
//! The machine limits their number ([`Limits::max_backlog`](crate::Limits::max_backlog)), so the
//! backlog does not.

use std::{
    mem,
    sync::Arc,
    task::{Context, Waker},
};

use spdy_frame::StreamId;

use super::wakers::register;
use crate::{proto::Opened, queue::Queue, spare::Spare};

/// The streams that wait to be accepted, each with its cell.
#[derive(Debug)]
pub(crate) struct Backlog<C> {
    queue: Queue<Waiting<C>>,
    /// The streams that were accepted since the driver last checked.
    accepted: Vec<StreamId>,
    /// The task that waits for a stream.
    waker: Option<Waker>,
    /// Whether the handle that accepts streams exists.
    is_open: bool,
}

/// A stream that waits to be accepted. It is not a handle: dropping it does nothing.
#[derive(Debug)]
#[must_use = "a stream that is not accepted has to be refused"]
pub(crate) struct Waiting<C> {
    pub(crate) opened: Opened,
    pub(crate) cell: Arc<C>,
}

impl<C> Backlog<C> {
    pub(crate) const fn new() -> Self {
        Self {
            queue: Queue::new(),
            accepted: Vec::new(),
            waker: None,
            is_open: true,
        }
    }

    pub(crate) const fn is_open(&self) -> bool {
        self.is_open
    }

    /// Adds a stream. Returns the task to be woken, or the stream if no handle can accept it.
    pub(crate) fn push(&mut self, stream: Waiting<C>) -> Result<Option<Waker>, Waiting<C>> {
        if !self.is_open {
            return Err(stream);
        }
        self.queue.push_back(stream);
        Ok(self.waker.take())
    }

    /// Takes the first stream. It counts as waiting until the driver has checked, which the driver
    /// does before it reads again; that is soon enough.
    pub(crate) fn pop(&mut self) -> Option<Waiting<C>> {
        let stream = self.queue.pop_front()?;
        self.accepted.push(stream.opened.id);
        Some(stream)
    }

    /// Registers the task that waits for the next stream. Returns the one before: see [`register`].
    #[must_use = "it is dropped without a lock"]
    pub(crate) fn register(&mut self, cx: &Context<'_>) -> Option<Waker> {
        register(&mut self.waker, cx)
    }

    /// Swaps the streams that were accepted with `accepted`, which is empty.
    pub(crate) const fn take_accepted(&mut self, accepted: &mut Vec<StreamId>) {
        mem::swap(accepted, &mut self.accepted);
    }

    /// Accepts no more streams, because the handle is dropped. Returns the streams that wait.
    pub(crate) const fn close(&mut self) -> Queue<Waiting<C>> {
        self.is_open = false;
        mem::replace(&mut self.queue, Queue::new())
    }

    /// Empties the backlog at the end of the session. Returns the streams that waited, and the task
    /// to be woken.
    pub(crate) const fn end(&mut self) -> (Queue<Waiting<C>>, Option<Waker>) {
        let queue = mem::replace(&mut self.queue, Queue::new());
        (queue, self.waker.take())
    }

    /// Frees memory that a session at rest does not need.
    pub(crate) fn free_spare(&mut self) {
        self.queue.free_spare();
        self.accepted.free_spare();
    }

    /// For tests: returns whether a task waits although a stream is there.
    pub(crate) const fn has_missed_wake(&self) -> bool {
        !self.queue.is_empty() && self.waker.is_some()
    }
}
