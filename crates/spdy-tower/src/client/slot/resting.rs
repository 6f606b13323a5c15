//! Idle connections of HTTP/1.1.

use tokio::time::Instant;

use super::super::connection::Http1;

/// The idle connections, longest idle first.
#[derive(Debug, Default)]
pub(super) struct Resting(Vec<Rests>);

#[derive(Debug)]
struct Rests {
    connection: Http1,
    since: Instant,
}

impl Resting {
    pub(super) fn push(&mut self, connection: Http1) {
        let since = Instant::now();
        self.0.push(Rests { connection, since });
    }

    /// Takes the connection that has been idle for the shortest time, and drops those that have
    /// ended.
    pub(super) fn take(&mut self) -> Option<Http1> {
        std::iter::from_fn(|| self.0.pop())
            .map(|rests| rests.connection)
            .find(|connection| !connection.is_closed())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Closes the connection that has been idle longest. Returns whether there was one.
    pub(super) fn close_oldest(&mut self) -> bool {
        let is_one = !self.is_empty();
        if is_one {
            self.0.remove(0);
        }
        is_one
    }

    /// Closes the connections that have been idle longest, if there are too many.
    pub(super) fn trim(&mut self) {
        let spare = self.0.len().saturating_sub(MAX_RESTING);
        self.0.drain(..spare);
    }

    pub(super) fn close(&mut self, id: u64) {
        self.0.retain(|rests| rests.connection.id != id);
    }

    pub(super) fn close_all(&mut self) {
        self.0.clear();
    }

    pub(super) fn since(&self, id: u64) -> Option<Instant> {
        let rests = self.0.iter().find(|rests| rests.connection.id == id)?;
        Some(rests.since)
    }
}

/// How many idle connections of HTTP/1.1 are kept for one origin.
const MAX_RESTING: usize = 8;
