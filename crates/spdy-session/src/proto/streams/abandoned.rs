//! Streams of the peer that are answered, and of which nobody reads the rest. What the peer still
//! sends is thrown away (protocol.md §9.6), up to a number of bytes that the stream counts, and for
//! so long in here.

use std::{collections::VecDeque, mem, time::Duration};

use spdy_frame::StreamId;

use crate::proto::clock::Moment;

/// The streams that are abandoned. Each is open, so there are no more than open streams.
#[derive(Debug, Default)]
pub(super) struct Abandoned {
    /// Those that came since the time was last known.
    undated: Vec<StreamId>,
    /// The others, and when they were abandoned: the oldest first. While reading pauses the peer's
    /// FIN cannot be heard.
    dated: VecDeque<(Moment, StreamId)>,
}

impl Abandoned {
    /// Notes a stream that has just become abandoned.
    pub(super) fn note(&mut self, id: StreamId) {
        self.undated.push(id);
    }

    /// Starts the time of the streams that were noted.
    pub(super) fn date(&mut self, moment: Moment) {
        if !self.undated.is_empty() {
            let undated = mem::take(&mut self.undated);
            self.dated
                .extend(undated.into_iter().map(|id| (moment, id)));
        }
    }

    /// Returns when the oldest was abandoned.
    pub(super) fn since(&self) -> Option<Moment> {
        self.dated.front().map(|&(since, _)| since)
    }

    /// Takes the oldest out if it was abandoned so long ago.
    pub(super) fn pop_expired(&mut self, moment: Moment, limit: Duration) -> Option<StreamId> {
        if moment.since(self.since()?) < limit {
            return None;
        }
        self.dated.pop_front().map(|(_, id)| id)
    }

    /// Forgets a stream that is closed.
    pub(super) fn forget(&mut self, id: StreamId) {
        self.undated.retain(|&other| other != id);
        self.dated.retain(|&(_, other)| other != id);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
