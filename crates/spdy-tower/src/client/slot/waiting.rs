//! Requests that wait for a connection.

use std::collections::VecDeque;

use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{super::locked::DroppedUnlocked, Answer, Slot};

/// The requests that wait, in the order of their ids.
#[derive(Debug, Default)]
pub(super) struct Waiting(VecDeque<Waiter>);

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) id: u64,
    /// Whether a connection that has served a request before is not acceptable.
    pub(super) wants_fresh: bool,
    pub(super) deadline: Instant,
    /// The runtime on which a connection for this request can be made.
    pub(super) runtime: Handle,
    pub(super) answer: oneshot::Sender<Answer>,
    pub(super) _dropped: DroppedUnlocked,
}

impl Waiting {
    pub(super) fn push(&mut self, waiter: Waiter) {
        self.0.push_back(waiter);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, index: usize) -> Option<&Waiter> {
        self.0.get(index)
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<Waiter> {
        self.0.remove(index)
    }

    pub(super) fn pop(&mut self) -> Option<Waiter> {
        self.0.pop_front()
    }

    /// Takes the first request, if it came before this id.
    pub(super) fn pop_before(&mut self, id: u64) -> Option<Waiter> {
        self.0.front().filter(|waiter| waiter.id < id)?;
        self.0.pop_front()
    }

    pub(super) fn newest(&self) -> Option<&Waiter> {
        self.0.back()
    }

    pub(super) fn has_time(&self) -> bool {
        let now = Instant::now();
        self.0.iter().any(|waiter| waiter.deadline > now)
    }

    fn leave(&mut self, id: u64) -> Option<Waiter> {
        let found = self.0.binary_search_by_key(&id, |waiter| waiter.id);
        found.ok().and_then(|index| self.0.remove(index))
    }
}

/// A request's place among those that wait. Dropping it ends the wait.
pub(super) struct Ticket<'a> {
    pub(super) slot: &'a Slot,
    pub(super) id: u64,
    pub(super) deadline: Instant,
    pub(super) answered: oneshot::Receiver<Answer>,
}

impl Ticket<'_> {
    pub(super) async fn wait(mut self) -> Answer {
        match timeout_at(self.deadline, &mut self.answered).await {
            Ok(answer) => answer.expect("a waiter is answered or leaves"),
            Err(_) => Err(self.slot.late()),
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        // Dropping the waiter wakes the task that waits, so it is not dropped under the lock.
        drop(self.slot.change(|state, _| state.waiting.leave(self.id)));
    }
}
