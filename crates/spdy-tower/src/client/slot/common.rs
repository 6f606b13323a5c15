//! The connection that requests share, and the connections that accept no new requests.

use std::sync::{Arc, Weak};

use tokio::time::Instant;

use super::{
    super::connection::{Connection, Shared},
    place::Line,
    state::Todo,
};

/// The connection for all new requests, and the connections that accept none.
#[derive(Debug, Default)]
pub(super) struct Common {
    current: Option<Arc<Shared>>,
    /// When `current` was last used, or was last seen in use.
    used_at: Option<Instant>,
    /// Open connections that accept no new requests: some end after their responses, and some are
    /// doubted until they answer a PING.
    leaving: Vec<Weak<Line>>,
}

impl Common {
    /// Returns the shared connection for one request, if it accepts requests.
    pub(super) fn take(&mut self, todo: &mut Todo) -> Option<Arc<Shared>> {
        self.retire_if(|shared| !shared.is_open(), todo);
        let shared = self.current.clone()?;
        self.used_at = Some(Instant::now());
        Some(shared)
    }

    pub(super) const fn is_none(&self) -> bool {
        self.current.is_none()
    }

    /// Uses a connection for all requests. If another one is used already, the new one ends.
    pub(super) fn share(&mut self, shared: Arc<Shared>, todo: &mut Todo) {
        self.retire_if(|shared| !shared.is_open(), todo);
        if self.current.is_none() {
            self.current = Some(shared);
        } else {
            self.retire(shared, todo);
        }
    }

    /// Stops using a connection for new requests. Returns whether it was used for them.
    pub(super) fn forget(&mut self, shared: &Arc<Shared>, todo: &mut Todo) -> bool {
        self.retire_if(|current| std::ptr::eq(current, Arc::as_ptr(shared)), todo)
    }

    pub(super) fn forget_unused(&mut self, todo: &mut Todo) {
        self.retire_if(|shared| !shared.line.is_in_use(), todo);
    }

    fn retire_if(&mut self, is_over: impl FnOnce(&Shared) -> bool, todo: &mut Todo) -> bool {
        let over = self.current.take_if(|shared| is_over(shared));
        let was_used = over.is_some();
        if let Some(shared) = over {
            self.retire(shared, todo);
        }
        was_used
    }

    fn retire(&mut self, shared: Arc<Shared>, todo: &mut Todo) {
        shared.line.leave(true);
        self.leaving.retain(|line| line.strong_count() > 0);
        self.leaving.push(Arc::downgrade(&shared.line));
        todo.close(Connection::Shared(shared));
    }

    /// Ends the doubt in a connection. Returns `false` if it was cut meanwhile.
    pub(super) fn trust(&mut self, shared: &Shared) -> bool {
        let line = Arc::as_ptr(&shared.line);
        let found = self.leaving.iter().position(|one| one.as_ptr() == line);
        let found = found.map(|index| self.leaving.swap_remove(index));
        if found.is_some() {
            shared.line.leave(false);
        }
        found.is_some()
    }

    /// Cuts one connection that accepts no new requests and that no request uses, if there is one.
    pub(super) fn cut_unused(&mut self, todo: &mut Todo) {
        let is_unused = |line: &Weak<Line>| line.upgrade().is_some_and(|line| !line.is_in_use());
        if let Some(index) = self.leaving.iter().position(is_unused)
            && let Some(line) = self.leaving.swap_remove(index).upgrade()
        {
            todo.cut(line);
        }
    }

    /// Returns when the connection with this id was last used, if it is the shared one.
    pub(super) fn since(&mut self, id: u64) -> Option<Instant> {
        let shared = self.current.as_ref().filter(|shared| shared.id == id)?;
        let now = Instant::now();
        if shared.line.is_in_use() {
            self.used_at = Some(now);
        }
        Some(*self.used_at.get_or_insert(now))
    }

    pub(super) fn close(&mut self, id: u64, todo: &mut Todo) {
        self.retire_if(|shared| shared.id == id, todo);
    }
}
