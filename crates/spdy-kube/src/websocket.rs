//! WebSocket as Kubernetes uses it, at both ends: which sub-protocols there are, how messages carry channels, and how
//! they carry SPDY.

mod encoding;
mod queue;
mod socket;
mod subprotocol;
mod tunnel;

pub(crate) use self::{
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
/// From v5 on: the channel that is named in the next byte has ended.
pub(crate) const CLOSE: u8 = 255;

/// As in the servers of Kubernetes, in bytes.
pub(crate) const MAX_MESSAGE: usize = 32 << 20;
