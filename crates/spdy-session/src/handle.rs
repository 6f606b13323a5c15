//! The handles: what an application holds of a session and of its streams.
//!
//! A handle leaves orders in the [shared state](crate::shared), where the driver finds them. Each public type is built
//! from a cell or from the hub, here and nowhere else.

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
