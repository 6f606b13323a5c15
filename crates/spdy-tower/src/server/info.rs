//! What the handler of a request can know of its stream.

use spdy_frame::{Priority, StreamId, Version};
use spdy_session::SendRoom;

use super::pushes::Pushes;

/// Which stream a request came on. Every request has it among its extensions.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StreamInfo {
    /// The version of the session.
    pub version: Version,
    /// The id of the stream: odd, rising within the session, not always by two.
    pub id: StreamId,
    /// How urgent the client says the response is. The session heeds it by itself.
    pub priority: Priority,
    pub(super) pushes: Pushes,
    pub(super) room: SendRoom,
}

impl StreamInfo {
    /// Returns what tells how long the pieces of the response's body should be: for bodies that can
    /// be read in pieces of any length, as files can. A handler that asks for it has to [keep to
    /// it](SendRoom::promise).
    #[must_use]
    pub fn room(&self) -> SendRoom {
        self.room.promise();
        self.room.clone()
    }
}
