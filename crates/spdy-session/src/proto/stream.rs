//! One stream's record, and the store of all of them.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    hash::{BuildHasherDefault, Hasher},
    mem,
};

use bytes::{Bytes, BytesMut};
use spdy_frame::{HeaderBlock, Priority, StreamId};

use super::{
    flow::{RecvWindow, SendWindow},
    reading_time::Moment,
    scheduler::Need,
    state::{RecvHalf, SendHalf},
    wait::Wait,
};
use crate::queue::Queue;

/// All that is known of a stream that is not closed.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) priority: Priority,
    pub(crate) associated: Option<StreamId>,
    pub(crate) unidirectional: bool,
    pub(crate) send: SendHalf,
    pub(crate) recv: RecvHalf,
    pub(crate) send_window: SendWindow,
    pub(crate) recv_window: RecvWindow,
    /// The block of our SYN_STREAM or SYN_REPLY until it is written.
    pub(crate) opening: Option<HeaderBlock>,
    /// What follows the opening.
    pub(crate) queue: Queue<Outgoing>,
    /// How much was taken off the piece of payload that is the first in `queue`.
    pub(crate) taken: usize,
    /// Whether the stream stands in the scheduler.
    pub(crate) scheduled: bool,
    /// Its last frame was cut short by the window of the session, and its turn goes on.
    pub(crate) is_cut: bool,
    /// How long it has payload, or an application that waits to make some, that its window does not let out.
    pub(crate) blocked: Wait,
    /// Whether the application waits until the window is open, to send more.
    pub(crate) window_awaited: bool,
    /// Since when it waits for the window of the session, unless that is as long as the session does.
    pub(crate) stalled_since: Option<Moment>,
    /// Whether a WINDOW_UPDATE is due.
    pub(crate) credit_due: bool,
    /// What the application may still drop unread; `None` while it reads.
    pub(crate) discard: Option<u64>,
    /// The size of the header block that opened it, or of that of its reply.
    pub(crate) header_octets: usize,
    /// The size of later ones that the application has not taken.
    pub(crate) unread_headers: usize,
    /// Whether the application has taken it up; streams of ours always are.
    pub(crate) accepted: bool,
    /// Whether the application has dropped its handles.
    pub(crate) released: bool,
}

/// One thing in a stream's send queue.
pub(crate) enum Outgoing {
    Data(Bytes),
    Headers(HeaderBlock),
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(payload) => write!(f, "Data(<{} bytes>)", payload.len()),
            Self::Headers(block) => f.debug_tuple("Headers").field(block).finish(),
        }
    }
}

/// Payload that was taken off a queue.
pub(crate) struct Taken {
    pub(crate) payload: Bytes,
    /// It is the last of a long piece, all of which it keeps in memory.
    pub(crate) keeps_long: bool,
}

impl Stream {
    /// Whether both halves are finished.
    pub(crate) fn is_closed(&self) -> bool {
        self.send == SendHalf::Finished && self.recv == RecvHalf::Finished
    }

    /// Whether the peer sends nothing more.
    pub(crate) fn is_received(&self) -> bool {
        self.recv == RecvHalf::Finished
    }

    /// Puts payload behind what is queued. Small pieces are joined: else the bookkeeping of many that wait would
    /// exceed the payload, which alone is bounded.
    pub(crate) fn queue_data(&mut self, payload: Bytes) {
        match self.queue.back_mut() {
            Some(Outgoing::Data(last)) if last.len() + payload.len() <= JOINED_LENGTH => {
                let mut joined = match mem::take(last).try_into_mut() {
                    Ok(joined) => joined,
                    Err(shared) => {
                        let mut joined = BytesMut::with_capacity(JOINED_LENGTH);
                        joined.extend_from_slice(&shared);
                        joined
                    }
                };
                joined.extend_from_slice(&payload);
                *last = joined.freeze();
            }
            _ => self.queue.push_back(Outgoing::Data(payload)),
        }
    }

    /// What is needed for what it writes next.
    pub(crate) fn need(&self) -> Need {
        match self.queue.front() {
            Some(Outgoing::Data(_)) => Need::Window,
            Some(Outgoing::Headers(_)) | None => Need::Nothing,
        }
    }

    /// Takes `octets` off the payload that is the first in the queue. `None`: it is not payload.
    pub(crate) fn take_payload(&mut self, octets: usize) -> Option<Taken> {
        let Some(Outgoing::Data(payload)) = self.queue.front_mut() else {
            return None;
        };
        self.taken += octets;
        if octets < payload.len() {
            let (payload, keeps_long) = (payload.split_to(octets), false);
            return Some(Taken {
                payload,
                keeps_long,
            });
        }
        let payload = mem::take(payload);
        self.queue.pop_front();
        let keeps_long = mem::take(&mut self.taken) > LONG_PIECE && octets < LONG_PIECE;
        Some(Taken {
            payload,
            keeps_long,
        })
    }

    /// Whether the peer expects DATA: it has the opening frame, and not FIN.
    pub(crate) fn is_open_for_data(&self) -> bool {
        let is_open = matches!(self.send, SendHalf::Open | SendHalf::Finishing);
        is_open && self.opening.is_none()
    }

    /// Whether there is something to write after the opening.
    pub(crate) fn has_output(&self) -> bool {
        !self.queue.is_empty() || self.send == SendHalf::Finishing
    }
}

/// The open streams by id. Each is a box, since the places of streams that are gone stay.
pub(crate) type Streams = ById<Box<Stream>>;

/// Something of each of some streams.
pub(crate) type ById<T> = HashMap<StreamId, T, BuildHasherDefault<IdHasher>>;

/// Some streams by id.
pub(crate) type StreamIds = HashSet<StreamId, BuildHasherDefault<IdHasher>>;

/// Spreads stream ids. A peer may choose ids to collide, but only as many as it may have open at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, octets: &[u8]) {
        for &octet in octets {
            self.write_u32(octet.into());
        }
    }

    fn write_u32(&mut self, value: u32) {
        // The golden ratio in 64 bits: neighbouring ids land far apart, in the top bits too.
        self.0 = (self.0 ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Pieces of payload that are longer than this, in bytes, are not kept for a last frame that waits for the transport.
const LONG_PIECE: usize = 64 * 1024;

/// Pieces of payload that wait one behind the other have more than this together, in octets.
const JOINED_LENGTH: usize = 2 * 1024;
