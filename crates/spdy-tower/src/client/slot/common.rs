//! The connection that requests share, and those that are doubted.

use std::sync::{Arc, Weak};

use tokio::time::Instant;

use super::{super::connection::Shared, place::Line};

/// The connection that all new requests go by, and those that take none.
#[derive(Debug, Default)]
pub(super) struct Common {
    current: Option<Arc<Shared>>,
    /// When that was used last, or known to be in use.
    used_at: Option<Instant>,
    /// Connections that take no new requests until they have shown life, and those that never will.
    doubted: Vec<Weak<Line>>,
}

impl Common {
    /// Returns the connection for one request, if it takes requests.
    pub(super) fn take(&mut self) -> Option<Arc<Shared>> {
        self.current.take_if(|shared| !shared.is_open());
        let shared = self.current.clone()?;
        self.used_at = Some(Instant::now());
        Some(shared)
    }

    pub(super) const fn is_none(&self) -> bool {
        self.current.is_none()
    }

    /// Makes a connection the one that all requests go by. If there is one already, it is not needed.
    pub(super) fn share(&mut self, shared: Arc<Shared>) {
        if !self.current.as_ref().is_some_and(|shared| shared.is_open()) {
            self.current = Some(shared);
        }
    }

    /// Whether it was the one that all requests go by.
    pub(super) fn forget(&mut self, shared: &Arc<Shared>) -> bool {
        let is_same = |current: &mut Arc<Shared>| Arc::ptr_eq(current, shared);
        self.current.take_if(is_same).is_some()
    }

    pub(super) fn forget_unused(&mut self) {
        self.current.take_if(|shared| !shared.line.is_in_use());
    }

    /// Gives a connection no new requests. Returns whether it got them before.
    pub(super) fn doubt(&mut self, shared: &Arc<Shared>) -> bool {
        let is_new = self.forget(shared);
        if is_new {
            self.doubted.retain(|line| line.strong_count() > 0);
            self.doubted.push(Arc::downgrade(&shared.line));
        }
        is_new
    }

    /// Ends the doubt in a connection. Returns false if it was cut meanwhile.
    pub(super) fn trust(&mut self, shared: &Arc<Shared>) -> bool {
        let line = Arc::as_ptr(&shared.line);
        let found = self
            .doubted
            .iter()
            .position(|doubted| doubted.as_ptr() == line);
        found.map(|index| self.doubted.swap_remove(index)).is_some()
    }

    /// Cuts one connection that is doubted, and that no request uses, if there is one.
    pub(super) fn cut_doubted(&mut self) {
        let is_unused = |line: &Weak<Line>| line.upgrade().is_some_and(|line| !line.is_in_use());
        if let Some(index) = self.doubted.iter().position(is_unused)
            && let Some(line) = self.doubted.swap_remove(index).upgrade()
        {
            line.cut();
        }
    }

    /// Since when no request uses the connection of this id, if it is the one that requests go by.
    pub(super) fn since(&mut self, id: u64) -> Option<Instant> {
        let shared = self.current.as_ref().filter(|shared| shared.id == id)?;
        let now = Instant::now();
        if shared.line.is_in_use() {
            self.used_at = Some(now);
        }
        Some(*self.used_at.get_or_insert(now))
    }

    pub(super) fn close(&mut self, id: u64) {
        self.current.take_if(|shared| shared.id == id);
    }
}
