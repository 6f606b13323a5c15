//! The task that closes the idle connections above the limit.

use std::sync::{Arc, Weak};

use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

use super::{super::locked::DroppedUnlocked, Slot};

/// Closes the idle connections of a slot above the limit when they are due, until there are no
/// more. If it is dropped before that, for example with its runtime, another one can begin.
#[derive(Debug)]
pub(super) struct Trims {
    slot: Weak<Slot>,
    is_over: bool,
    _dropped: DroppedUnlocked,
}

impl Trims {
    pub(super) fn new(slot: &Arc<Slot>) -> Self {
        Self {
            slot: Arc::downgrade(slot),
            is_over: false,
            _dropped: DroppedUnlocked,
        }
    }

    pub(super) fn spawn(self) {
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(self.run());
        }
    }

    async fn run(mut self) {
        let Some(mut gone) = self.slot.upgrade().map(|slot| slot.gone.subscribe()) else {
            return;
        };
        while let Some(due) = self.next() {
            tokio::select! {
                biased;
                _ = gone.changed() => return,
                () = sleep_until(due) => {}
            }
        }
    }

    /// Closes what is due. Returns when to do so again.
    fn next(&mut self) -> Option<Instant> {
        let slot = self.slot.upgrade()?;
        let due = slot.change(|state, todo| {
            let due = state.resting.trim(slot.connector.max_idle, todo);
            state.is_trimming = due.is_some();
            due
        });
        self.is_over = due.is_none();
        due
    }
}

impl Drop for Trims {
    fn drop(&mut self) {
        if let (false, Some(slot)) = (self.is_over, self.slot.upgrade()) {
            slot.change(|state, _| state.is_trimming = false);
        }
    }
}
