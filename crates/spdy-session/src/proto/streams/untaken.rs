//! Unconsumed payload of streams that are gone.
//!
//! All payload that a session holds keeps the peer from sending, including that of ended streams.
//! So the stream that is given up after [`Timeouts::unread`](crate::Timeouts::unread) may be an
//! ended one: it needs no reset, but its payload is given up.

use spdy_frame::StreamId;

use super::{Streams, ids::ById};
use crate::spare::Spare;

/// The streams that are gone and have unconsumed payload. The map is limited: entries that count
/// have unread bytes, and entries that were given up have handles.
#[derive(Debug, Default)]
pub(super) struct Untaken(ById<Rest>);

#[derive(Clone, Copy, Debug)]
struct Rest {
    bytes: usize,
    /// Whether the payload was given up, so that it does not count although the application may
    /// still consume it.
    is_given_up: bool,
}

impl Untaken {
    /// Adds a stream that is gone, if it has unconsumed payload.
    pub(super) fn add(&mut self, id: StreamId, bytes: usize) {
        if bytes > 0 {
            let is_given_up = false;
            self.0.insert(id, Rest { bytes, is_given_up });
        }
    }

    /// Notes that the application has consumed payload. Returns whether the payload counted.
    pub(super) fn take(&mut self, id: StreamId, bytes: usize) -> bool {
        let Some(rest) = self.0.get_mut(&id) else {
            return true;
        };
        let counted = !rest.is_given_up;
        rest.bytes = rest.bytes.saturating_sub(bytes);
        if rest.bytes == 0 {
            self.0.remove(&id);
        }
        counted
    }

    /// Removes a stream that was given up, because without handles its payload is not consumed any
    /// more.
    pub(super) fn close(&mut self, id: StreamId) {
        if self.0.get(&id).is_some_and(|rest| rest.is_given_up) {
            self.0.remove(&id);
        }
    }

    /// Stops counting the payload of a stream. Returns how many bytes that was.
    pub(super) fn give_up(&mut self, id: StreamId) -> usize {
        match self.0.get_mut(&id) {
            Some(rest) if !rest.is_given_up => {
                rest.is_given_up = true;
                rest.bytes
            }
            _ => 0,
        }
    }

    /// Returns whether the payload of a stream was given up and is not consumed.
    #[cfg(feature = "tokio")]
    pub(super) fn is_given_up(&self, id: StreamId) -> bool {
        self.0.get(&id).is_some_and(|rest| rest.is_given_up)
    }

    /// Returns whether a stream has payload that counts.
    #[cfg(feature = "tokio")]
    pub(super) fn has(&self, id: StreamId) -> bool {
        self.0.get(&id).is_some_and(|rest| !rest.is_given_up)
    }

    /// Returns the streams whose payload counts, with the number of bytes.
    pub(super) fn counted(&self) -> impl Iterator<Item = (StreamId, usize)> {
        let counted = self.0.iter().filter(|(_, rest)| !rest.is_given_up);
        counted.map(|(&id, rest)| (id, rest.bytes))
    }

    /// Frees memory that is not needed.
    pub(super) fn free_spare(&mut self) {
        self.0.free_spare();
    }
}

impl Streams {
    /// Notes that the application has consumed payload of a stream that is gone. Returns whether
    /// the payload still counted.
    pub(crate) fn consume_gone(&mut self, id: StreamId, bytes: usize) -> bool {
        self.untaken.take(id, bytes)
    }

    /// Returns whether a stream is gone but has payload that is not consumed.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_untaken(&self, id: StreamId) -> bool {
        self.untaken.has(id)
    }

    /// Returns whether the payload of a stream that is gone was given up. Consuming it has no
    /// effect then.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_given_up(&self, id: StreamId) -> bool {
        self.untaken.is_given_up(id)
    }

    /// Returns the stream whose unread payload most keeps the peer from sending. If single streams
    /// are full, only open streams count.
    pub(crate) fn fullest(&self) -> Option<StreamId> {
        let all = self.in_the_way().filter(|&(_, held)| held > 0);
        all.max_by_key(|&(id, held)| (held, id)).map(|(id, _)| id)
    }

    /// Returns whether no stream has more unread payload in the way than this one.
    pub(crate) fn is_fullest(&self, id: StreamId) -> bool {
        let own = self.in_the_way().find(|&(other, _)| other == id);
        own.is_some_and(|(_, own)| self.in_the_way().all(|(_, held)| held <= own))
    }

    fn in_the_way(&self) -> impl Iterator<Item = (StreamId, usize)> {
        let live = self.iter().map(|it| (it.id(), it.recv_window().held()));
        let gone = self.untaken.counted().filter(|_| !self.is_overfull());
        live.chain(gone)
    }

    /// Stops counting the payload of a stream that is gone. Returns how many bytes that was.
    #[must_use = "it is consumed now"]
    pub(crate) fn give_up(&mut self, id: StreamId) -> usize {
        self.untaken.give_up(id)
    }

    /// Returns how many bytes of all streams are unread, including streams that are gone.
    #[cfg(feature = "tokio")]
    pub(crate) fn unread(&self) -> usize {
        let live = self.iter().map(|it| it.recv_window().held());
        let gone = self.untaken.counted().map(|(_, bytes)| bytes);
        live.chain(gone).sum()
    }
}
