//! The information about its stream that a handler can get.

use spdy_frame::{Priority, StreamId, Version};
use spdy_session::SendRoom;

use super::pushes::Pushes;

/// The stream on which a request arrived. Each request has it in its extensions.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StreamInfo {
    /// The version of the session.
    pub version: Version,
    /// The id of the stream: odd, and rising within the session in steps of at least two.
    pub id: StreamId,
    /// The priority that the client gave the stream. The session obeys it without the handler.
    pub priority: Priority,
    pub(super) pushes: Pushes,
    pub(super) room: SendRoom,
}

impl StreamInfo {
    /// Returns the recommended length of the pieces of the response's body, for bodies that can be
    /// read in pieces of any length, such as files. A handler that asks for it has to [keep to
    /// it](SendRoom::promise).
    #[must_use]
    pub fn room(&self) -> SendRoom {
        self.room.promise();
        self.room.clone()
    }
}
