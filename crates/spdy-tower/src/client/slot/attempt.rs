//! Connections that are being made.

use std::sync::{Arc, Weak};

use tokio::runtime::Handle;

use super::{
    super::{ConnectorError, connection::Connection},
    Slot,
    place::Place,
    state::Todo,
};

/// A connection that is being made. If it is dropped before it is over, it has failed.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) slot: Weak<Slot>,
    pub(super) place: Arc<Place>,
    pub(super) runtime: Handle,
    pub(super) is_over: bool,
}

impl Attempt {
    pub(super) fn spawn(mut self) {
        let Some(slot) = self.slot.upgrade() else {
            return;
        };
        let (connector, origin) = (Arc::clone(&slot.connector), slot.origin.clone());
        let mut gone = slot.gone.subscribe();
        let runtime = self.runtime.clone();
        drop(slot);
        runtime.spawn(async move {
            tokio::select! {
                biased;
                made = connector.connect(&origin, &self.place) => self.end(made),
                _ = gone.changed() => {}
            }
        });
    }

    fn end(&mut self, made: Result<Connection, ConnectorError>) {
        self.is_over = true;
        let Some(slot) = self.slot.upgrade() else {
            return;
        };
        let mut state = slot.lock();
        state.attempts -= 1;
        let mut todo = Todo::default();
        match made {
            Ok(connection) => state.made(connection, &slot, &mut todo),
            Err(error) => state.failed(self.place.id, &error, &mut todo),
        }
        let settled = state.settle(&slot);
        drop(state);
        todo.run();
        settled.run();
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.is_over {
            let reason = "connecting ended with its runtime";
            self.end(Err(std::io::Error::other(reason).into()));
        }
    }
}
