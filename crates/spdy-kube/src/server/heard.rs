//! The transport of a client, on which it is noticed that the client says something.

use super::{
    counted::{Count, Counted},
    session::Session,
};
use crate::websocket::{Tally, WebSocketCount};

/// The transport of a client.
pub(super) type Heard<IO> = Counted<IO, Client>;

/// What counts the bytes of a client.
#[derive(Debug)]
pub(super) struct Client {
    session: Session,
    /// Counts nothing if the client uses SPDY.
    tally: Tally,
}

impl Client {
    pub(super) fn over_spdy(session: &Session) -> Self {
        Self {
            session: session.clone(),
            tally: Tally::default(),
        }
    }

    pub(super) fn over_websocket(session: &Session, tally: &Tally) -> Self {
        tally.add(WebSocketCount::Begun, 1);
        Self {
            session: session.clone(),
            tally: tally.clone(),
        }
    }
}

impl Count for Client {
    fn read(&self, bytes: usize) {
        self.session.heard();
        self.tally.add(WebSocketCount::BytesReceived, bytes);
    }

    fn written(&self, bytes: usize) {
        self.tally.add(WebSocketCount::BytesSent, bytes);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.tally.add(WebSocketCount::Ended, 1);
    }
}
