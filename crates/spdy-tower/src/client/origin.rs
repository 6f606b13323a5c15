//! What was asked of which origin, so that a push can be judged (protocol.md §10.2).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use http::uri::{Authority, Scheme};
use spdy_frame::StreamId;

/// The origin that a request was sent to.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) scheme: Scheme,
    pub(crate) host: Authority,
}

impl Asked {
    /// Whether both are one origin: scheme, host and port.
    pub(super) fn is_origin(&self, scheme: &Scheme, host: &Authority) -> bool {
        self.scheme == *scheme
            && self.host.host().eq_ignore_ascii_case(host.host())
            && port(scheme, &self.host) == port(scheme, host)
    }
}

fn port(scheme: &Scheme, host: &Authority) -> Option<u16> {
    host.port_u16().or(match scheme.as_str() {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    })
}

/// The requests of a session that may get pushes: those whose response is not dropped and not read to its end.
#[derive(Clone, Debug, Default)]
pub(super) struct Registry(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    streams: HashMap<StreamId, Weak<Asked>>,
    /// The dead ones are swept out when there are so many.
    sweep_at: usize,
}

impl Registry {
    /// What puts a request in when it has its stream. It stays as long as somebody has the [`Asked`].
    pub(super) fn register(
        &self,
        asked: Asked,
    ) -> (impl FnOnce(StreamId) + Send + 'static, Arc<Asked>) {
        let asked = Arc::new(asked);
        let (registry, entry) = (Arc::clone(&self.0), Arc::downgrade(&asked));
        let note = move |id| {
            let mut entries = registry.lock().unwrap_or_else(PoisonError::into_inner);
            entries.add(id, entry);
        };
        (note, asked)
    }

    pub(super) fn get(&self, id: StreamId) -> Option<Arc<Asked>> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.streams.get(&id)?.upgrade()
    }
}

impl Entries {
    fn add(&mut self, id: StreamId, entry: Weak<Asked>) {
        if self.streams.len() >= self.sweep_at {
            self.streams.retain(|_, entry| entry.strong_count() > 0);
            self.sweep_at = 2 * self.streams.len() + MIN_SWEEP;
        }
        self.streams.insert(id, entry);
    }
}

/// Fewer entries are not worth a sweep.
const MIN_SWEEP: usize = 64;
