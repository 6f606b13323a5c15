//! Payload that the application does not take, where it keeps the transport from being read.
//!
//! Without a window of the session all of it counts, also that of streams which have ended. So the
//! stream that goes in the end may be one of those: no reset is due then, but its payload is given up.

use std::{collections::HashMap, hash::BuildHasherDefault, time::Instant};

use spdy_frame::StreamId;

use super::Connection;
use crate::{
    StreamError,
    error::Timeout,
    proto::{event::Event, stream::IdHasher},
};

/// Payload of streams that are gone, of which the application has not consumed all. Each takes as
/// much as its bytes at least, or is a handle of the application.
#[derive(Debug, Default)]
pub(super) struct Untaken(HashMap<StreamId, Rest, BuildHasherDefault<IdHasher>>);

#[derive(Clone, Copy, Debug)]
struct Rest {
    bytes: usize,
    /// They count for nothing any more, though the application may still name them.
    is_given_up: bool,
}

impl Untaken {
    /// A stream is gone, with payload that is not consumed.
    pub(super) fn add(&mut self, id: StreamId, bytes: usize) {
        if bytes > 0 {
            let is_given_up = false;
            self.0.insert(id, Rest { bytes, is_given_up });
        }
    }

    /// The application is done with some. Returns whether they counted.
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

    /// The handles of a stream are dropped: of what was given up nothing more will be heard.
    pub(super) fn close(&mut self, id: StreamId) {
        if self.0.get(&id).is_some_and(|rest| rest.is_given_up) {
            self.0.remove(&id);
        }
    }

    /// Lets the payload of a stream count for nothing. Returns how much that was.
    fn give_up(&mut self, id: StreamId) -> usize {
        match self.0.get_mut(&id) {
            Some(rest) if !rest.is_given_up => {
                rest.is_given_up = true;
                rest.bytes
            }
            _ => 0,
        }
    }

    /// The streams whose payload counts, and how much each has.
    pub(super) fn counted(&self) -> impl Iterator<Item = (StreamId, usize)> {
        let counted = self.0.iter().filter(|(_, rest)| !rest.is_given_up);
        counted.map(|(&id, rest)| (id, rest.bytes))
    }

    /// Gives the memory back that nothing needs.
    pub(super) fn release(&mut self) {
        if self.0.is_empty() {
            self.0 = HashMap::default();
        }
    }
}

impl Connection {
    /// Whether a stream is gone and has payload that counts and is not consumed. It may still be
    /// given up, which is an [`Event::Reset`] of the stream.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_untaken(&self, id: StreamId) -> bool {
        self.untaken.0.get(&id).is_some_and(|it| !it.is_given_up)
    }

    /// Whether bytes of this stream that the application consumes count for anything.
    #[cfg(feature = "tokio")]
    pub(super) fn counts(&self, id: StreamId) -> bool {
        !self.untaken.0.get(&id).is_some_and(|it| it.is_given_up)
    }

    /// Notes the payload of a stream that is gone.
    pub(super) fn note_untaken(&mut self, id: StreamId, bytes: usize) {
        if !self.role.has_session_window() {
            self.untaken.add(id, bytes);
        }
    }

    /// Gives up the payload that has kept the transport from being read for too long.
    pub(super) fn give_up_fullest(&mut self, now: Instant) {
        if let Some(id) = self.fullest() {
            let timeout = Timeout::Unread;
            if self.streams.contains_key(&id) {
                self.time_out_stream(id, timeout);
            } else {
                self.reached(timeout.into());
                let error = StreamError::TimedOut(timeout);
                self.events.push_back(Event::Reset { id, error });
            }
            let bytes = self.untaken.give_up(id);
            self.recv_window.consume(bytes);
        }
        self.clock.unread_since = self.is_overfull().then_some(now);
    }

    /// The stream with the most payload that is in the way. A stream that is full is in the way by
    /// itself, and none that is gone is.
    fn fullest(&self) -> Option<StreamId> {
        let live = self.streams.values();
        let live = live.map(|stream| (stream.id, stream.recv_window.held()));
        let gone = self.untaken.counted().filter(|_| self.overfull == 0);
        let all = live.chain(gone).filter(|&(_, held)| held > 0);
        all.max_by_key(|&(id, held)| (held, id)).map(|(id, _)| id)
    }
}
