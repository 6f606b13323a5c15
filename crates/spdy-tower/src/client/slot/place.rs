//! The places for the connections of an origin, and the control of a connection from outside.

use std::{
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::{sync::Notify, time::sleep_until};

use super::Slot;

/// The place of one connection of an origin. Dropping it frees the place.
#[derive(Debug)]
pub(in super::super) struct Place {
    pub(super) slot: Weak<Slot>,
    pub(super) id: u64,
    pub(super) line: Arc<Line>,
}

impl Place {
    pub(in super::super) const fn id(&self) -> u64 {
        self.id
    }

    pub(in super::super) const fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// Drives a connection until it ends. Closes it if no request has used it for the idle timeout.
    pub(in super::super) fn outlast<D: Future>(
        self: &Arc<Self>,
        driver: D,
    ) -> impl Future<Output = ()> + use<D> {
        let (slot, id, line) = (Weak::clone(&self.slot), self.id, Arc::clone(&self.line));
        async move {
            let mut driver = pin!(driver);
            while let Some(check) = slot.upgrade().map(|slot| slot.next_check(id)) {
                tokio::select! {
                    biased;
                    _ = &mut driver => return,
                    () = line.until_cut() => return,
                    () = sleep_until(check) => {}
                }
            }
            driver.await;
        }
    }
}

/// The state that the requests of a shared connection and the task that drives it have in common.
#[derive(Debug, Default)]
pub(in super::super) struct Line {
    users: AtomicUsize,
    /// Whether the connection accepts no new requests.
    is_leaving: AtomicBool,
    is_cut: AtomicBool,
    cut: Notify,
    unused: Notify,
}

impl Line {
    /// Returns whether a request uses the connection, or has not read its response to the end.
    pub(super) fn is_in_use(&self) -> bool {
        self.users.load(Ordering::SeqCst) > 0
    }

    /// Waits until no request uses the connection.
    pub(in super::super) async fn until_unused(&self) {
        loop {
            let mut unused = pin!(self.unused.notified());
            unused.as_mut().enable();
            if !self.is_in_use() {
                return;
            }
            unused.await;
        }
    }

    pub(super) fn leave(&self, is_leaving: bool) {
        self.is_leaving.store(is_leaving, Ordering::SeqCst);
    }

    /// Closes the transport immediately, without waiting for unwritten bytes.
    pub(in super::super) fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        self.cut.notify_waiters();
    }

    /// Waits until the transport has to be closed.
    pub(in super::super) async fn until_cut(&self) {
        let mut cut = pin!(self.cut.notified());
        cut.as_mut().enable();
        if !self.is_cut.load(Ordering::SeqCst) {
            cut.await;
        }
    }
}

/// One request's use of a connection, until its response has ended. Dropping it ends the use.
#[derive(Debug)]
#[must_use]
pub(in super::super) struct Use(Arc<Line>);

impl Use {
    pub(in super::super) fn new(line: &Arc<Line>) -> Self {
        line.users.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(line))
    }

    /// Ends the use. Returns whether the connection accepts no new requests.
    pub(in super::super) fn end(self) -> bool {
        let line = Arc::clone(&self.0);
        drop(self);
        line.is_leaving.load(Ordering::SeqCst)
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        if self.0.users.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.unused.notify_waiters();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(slot) = self.slot.upgrade() else {
            return;
        };
        slot.change(|state, todo| {
            state.places -= 1;
            state.settle(&slot, todo);
        });
    }
}
