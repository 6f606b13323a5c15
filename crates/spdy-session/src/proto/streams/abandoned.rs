//! Streams of the peer that this side has answered completely, and whose rest the application does
//! not read. What the peer still sends is thrown away (protocol.md §9.6), up to a number of bytes,
//! which the stream counts, and for a limited time, which is measured here.

use std::{collections::VecDeque, time::Duration};

use spdy_frame::StreamId;

use crate::proto::clock::Moment;

/// The abandoned streams. Each is open, so there are no more than open streams.
///
/// They are boxed, because most sessions never have any.
#[derive(Debug, Default)]
pub(super) struct Abandoned(Option<Box<Lists>>);

#[derive(Debug, Default)]
struct Lists {
    /// Streams that were abandoned since `date` was last called.
    undated: Vec<StreamId>,
    /// The other streams with the moment at which they were abandoned, oldest first. Their time
    /// stands still while reading pauses, because the peer's FIN cannot arrive then.
    dated: VecDeque<(Moment, StreamId)>,
}

impl Abandoned {
    /// Adds a stream that was abandoned just now.
    pub(super) fn note(&mut self, id: StreamId) {
        self.0.get_or_insert_default().undated.push(id);
    }

    /// Starts the time of the streams that were added.
    pub(super) fn date(&mut self, moment: Moment) {
        if let Some(lists) = &mut self.0 {
            let undated = lists.undated.drain(..).map(|id| (moment, id));
            lists.dated.extend(undated);
        }
    }

    /// Returns when the oldest stream was abandoned.
    pub(super) fn since(&self) -> Option<Moment> {
        self.0.as_ref()?.dated.front().map(|&(since, _)| since)
    }

    /// Removes the oldest stream if it was abandoned at least `limit` ago.
    pub(super) fn pop_expired(&mut self, moment: Moment, limit: Duration) -> Option<StreamId> {
        if moment.since(self.since()?) < limit {
            return None;
        }
        self.0.as_mut()?.dated.pop_front().map(|(_, id)| id)
    }

    /// Removes a stream that is closed.
    pub(super) fn forget(&mut self, id: StreamId) {
        if let Some(lists) = &mut self.0 {
            lists.undated.retain(|&other| other != id);
            lists.dated.retain(|&(_, other)| other != id);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
