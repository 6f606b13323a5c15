//! WebSocket as Kubernetes uses it, for both sides: the sub-protocols, how messages carry channels,
//! and how they carry SPDY.

mod counters;
mod encoding;
mod queue;
mod socket;
mod subprotocol;
mod tunnel;

pub use self::counters::{WebSocketCount, WebSocketCounters};
pub(crate) use self::{
    counters::Tally,
    encoding::Encoding,
    queue::{PIECE, QUEUE, Queue, queue},
    socket::socket,
    subprotocol::Subprotocol,
    tunnel::Tunnel,
};

/// The channel of a command's input.
pub(crate) const STDIN: u8 = 0;
/// The channel of a command's output.
pub(crate) const STDOUT: u8 = 1;
/// The channel of a command's errors.
pub(crate) const STDERR: u8 = 2;
/// The channel of the outcome.
pub(crate) const ERROR: u8 = 3;
/// The channel of the sizes of a terminal.
pub(crate) const RESIZE: u8 = 4;
/// Since v5: ends the channel that the next byte names.
pub(crate) const CLOSE: u8 = 255;

/// The largest message, in bytes, as in the servers of Kubernetes.
pub(crate) const MAX_MESSAGE: usize = 32 << 20;
