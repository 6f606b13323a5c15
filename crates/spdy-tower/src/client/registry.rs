//! The requests of a session and their origins, with which pushes are compared (protocol.md §10.2).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use spdy_frame::StreamId;

use crate::http::Origin;

/// The requests of a session that may get pushes: those whose response is not dropped and not read
/// to its end.
#[derive(Clone, Debug, Default)]
pub(super) struct Registry(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    streams: HashMap<StreamId, Weak<Origin>>,
    /// Dead entries are removed at this number of entries.
    sweep_at: usize,
}

impl Registry {
    /// Returns a function that adds the request once it has a stream. The entry stays while the
    /// [`Origin`] exists.
    pub(super) fn register(
        &self,
        asked: Origin,
    ) -> (impl FnOnce(StreamId) + Send + 'static, Arc<Origin>) {
        let asked = Arc::new(asked);
        let (registry, entry) = (Arc::clone(&self.0), Arc::downgrade(&asked));
        let note = move |id| {
            let mut entries = registry.lock().unwrap_or_else(PoisonError::into_inner);
            entries.add(id, entry);
        };
        (note, asked)
    }

    pub(super) fn get(&self, id: StreamId) -> Option<Arc<Origin>> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.streams.get(&id)?.upgrade()
    }
}

impl Entries {
    fn add(&mut self, id: StreamId, entry: Weak<Origin>) {
        if self.streams.len() >= self.sweep_at {
            self.streams.retain(|_, entry| entry.strong_count() > 0);
            self.sweep_at = 2 * self.streams.len() + MIN_SWEEP;
        }
        self.streams.insert(id, entry);
    }
}

/// With fewer entries, removing dead ones is not worth the work.
const MIN_SWEEP: usize = 64;
