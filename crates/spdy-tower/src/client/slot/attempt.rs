//! Connections that are being made.

use std::sync::{Arc, Weak};

use tokio::runtime::Handle;

use super::{
    super::{ConnectorError, connection::Connection, locked::DroppedUnlocked},
    Slot,
    place::Place,
};

/// A connection that is being made. If it is dropped before it is over, it has failed.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) slot: Weak<Slot>,
    pub(super) place: Arc<Place>,
    pub(super) runtime: Handle,
    pub(super) is_over: bool,
    pub(super) _dropped: DroppedUnlocked,
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
        let id = self.place.id;
        match made {
            Ok(connection) => slot.change(|state, todo| {
                state.attempts -= 1;
                state.made(connection, &slot, todo);
                state.settle(&slot, todo);
            }),
            Err(error) => slot.change(|state, todo| {
                state.attempts -= 1;
                state.failed(id, &error, todo);
                state.settle(&slot, todo);
            }),
        }
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
