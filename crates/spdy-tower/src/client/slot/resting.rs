//! Idle connections of HTTP/1.1.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    super::connection::{Connection, Http1},
    state::Todo,
};

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

    /// Takes the connection that has been idle for the shortest time, and gives up those that have
    /// ended.
    pub(super) fn take(&mut self, todo: &mut Todo) -> Option<Http1> {
        while let Some(Rests { connection, .. }) = self.0.pop() {
            if !connection.is_closed() {
                return Some(connection);
            }
            todo.close(Connection::Http1(connection));
        }
        None
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Closes the connection that has been idle longest. Returns whether there was one.
    pub(super) fn close_oldest(&mut self, todo: &mut Todo) -> bool {
        let is_one = !self.is_empty();
        self.close_first(usize::from(is_one), todo);
        is_one
    }

    /// Closes the connections above `most` that have been idle for [`SURPLUS`], or for any time if
    /// `most` is 0. Returns when the next one is due.
    pub(super) fn trim(&mut self, most: usize, todo: &mut Todo) -> Option<Instant> {
        let surplus = self.0.len().saturating_sub(most);
        let patience = if most == 0 { Duration::ZERO } else { SURPLUS };
        let now = Instant::now();
        let over = self.0[..surplus].iter();
        let due = over.take_while(|rests| rests.since + patience <= now);
        let due = due.count();
        self.close_first(due, todo);
        (due < surplus).then(|| self.0[0].since + patience)
    }

    pub(super) fn close_all(&mut self, todo: &mut Todo) {
        self.close_first(self.0.len(), todo);
    }

    fn close_first(&mut self, count: usize, todo: &mut Todo) {
        for Rests { connection, .. } in self.0.drain(..count) {
            todo.close(Connection::Http1(connection));
        }
    }

    pub(super) fn close(&mut self, id: u64, todo: &mut Todo) {
        let found = self.0.iter().position(|rests| rests.connection.id == id);
        if let Some(index) = found {
            todo.close(Connection::Http1(self.0.remove(index).connection));
        }
    }

    pub(super) fn since(&self, id: u64) -> Option<Instant> {
        let rests = self.0.iter().find(|rests| rests.connection.id == id)?;
        Some(rests.since)
    }
}

/// How long idle connections above the limit are kept. One burst of requests that follows another
/// finds the connections of the first.
const SURPLUS: Duration = Duration::from_secs(3);
