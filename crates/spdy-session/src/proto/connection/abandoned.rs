//! Streams of the peer that are answered, and of which nobody reads the rest. What the peer still sends is thrown away
//! (protocol.md §9.6), up to a number of bytes in `data`, and for so long in here.

use std::{collections::VecDeque, mem, time::Instant};

use spdy_frame::{RstStatus, StreamId};

use super::Connection;
use crate::{
    Limit, StreamError,
    error::Origin,
    proto::{reading_time::Moment, state::SendHalf, stream::Stream},
};

/// The streams that are abandoned. Each is open, so there are no more than open streams.
#[derive(Debug, Default)]
pub(super) struct Abandoned {
    /// Those that came since the time was last known.
    undated: Vec<StreamId>,
    /// The others, and when they were abandoned: the oldest first. While reading pauses the peer's FIN cannot be heard.
    dated: VecDeque<(Moment, StreamId)>,
}

impl Abandoned {
    /// Returns when the oldest was abandoned.
    pub(super) fn since(&self) -> Option<Moment> {
        self.dated.front().map(|&(since, _)| since)
    }

    /// Forgets a stream that is closed.
    pub(super) fn forget(&mut self, stream: &Stream) {
        if stream.discard.is_some() {
            self.undated.retain(|&id| id != stream.id);
            self.dated.retain(|&(_, id)| id != stream.id);
        }
    }
}

impl Connection {
    /// Notes a stream that has just become abandoned: by our FIN, or by the application.
    pub(super) fn note_abandoned(&mut self, id: StreamId) {
        let is_abandoned =
            |stream: &Stream| stream.discard.is_some() && stream.send == SendHalf::Finished;
        if self
            .streams
            .get(&id)
            .is_some_and(|stream| is_abandoned(stream))
        {
            self.abandoned.undated.push(id);
        }
    }

    /// Starts the time of the streams that were noted.
    pub(super) fn date_abandoned(&mut self, now: Instant) {
        if !self.abandoned.undated.is_empty() {
            let undated = mem::take(&mut self.abandoned.undated);
            let now = self.clock.reading.at(now);
            self.abandoned
                .dated
                .extend(undated.into_iter().map(|id| (now, id)));
        }
    }

    /// Resets the streams that the peer has not finished in time.
    pub(super) fn reset_abandoned(&mut self, now: Instant) {
        let Some(limit) = self.config.timeouts.discard else {
            return;
        };
        let now = self.clock.reading.at(now);
        while let Some(&(since, id)) = self.abandoned.dated.front()
            && now.since(since) >= limit
        {
            // It is taken out first, so that this ends whatever becomes of the stream.
            self.abandoned.dated.pop_front();
            self.reached(Limit::Discard);
            let (status, origin) = (RstStatus::CANCEL, Origin::Local);
            self.reset_with(id, status, StreamError::Reset { status, origin });
        }
    }
}
