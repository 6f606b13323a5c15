//! The handles: what an application holds of a session and of its streams.
//!
//! A handle leaves orders in the [shared state](crate::shared), where the driver finds them. The
//! public types are built from cells and from the hub here, and nowhere else. What `Drop` does is
//! written out: each handle that is dropped makes one call, and a type that stands for both halves
//! of a stream does not rely on the order of its fields.

mod incoming;
mod io;
mod recv_stream;
mod send_room;
mod send_stream;
mod session;
mod stream;

pub use self::{
    incoming::{Incoming, PendingStream, TryAcceptError},
    recv_stream::RecvStream,
    send_room::{Reserved, SendRoom},
    send_stream::{SendReply, SendStream},
    session::{Opening, Session},
    stream::Stream,
};
