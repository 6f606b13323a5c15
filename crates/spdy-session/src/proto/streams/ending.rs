//! How streams end, and what is kept of them.

use spdy_frame::{RstStatus, StreamId};

use super::{Books, Streams, stream::Stream};
use crate::{StreamError, error::Initiator};

/// How a stream ends.
#[derive(Debug)]
pub(crate) struct Ending {
    /// The status for RST_STREAM, which is sent unless the peer does not know the stream. `None`
    /// sends nothing.
    pub(crate) peer: Option<RstStatus>,
    /// The error for the application. `None` reports nothing, because both halves are finished.
    pub(crate) app: Option<StreamError>,
}

/// A stream that has ended. It can still be in queues, and its last frames might not have left.
#[derive(Debug)]
#[must_use = "a stream that has ended leaves the queues"]
pub(crate) struct Ended(pub(crate) Box<Stream>);

impl Ending {
    /// Returns the ending of a stream whose halves are both finished.
    pub(crate) const fn closed() -> Self {
        Self {
            peer: None,
            app: None,
        }
    }

    /// Returns the ending of a stream whose end the peer already knows.
    pub(crate) const fn failed(error: StreamError) -> Self {
        Self {
            peer: None,
            app: Some(error),
        }
    }

    /// Returns the ending of a stream that is reported to both sides.
    pub(crate) const fn reset(status: RstStatus, error: StreamError) -> Self {
        Self {
            peer: Some(status),
            app: Some(error),
        }
    }
}

impl Streams {
    /// Removes a stream from the map and from all counts.
    pub(crate) fn end(&mut self, id: StreamId, ending: &Ending) -> Option<Ended> {
        let stream = self.open.remove(&id)?;
        self.count_out(&stream);
        self.keep_headers(&stream);
        if self.keeps_place(&stream, ending) {
            self.cancelled.insert(id);
        }
        Some(self.books.close(stream))
    }

    /// Removes all streams and all that is held of them, because the session is over.
    pub(crate) fn end_all(&mut self) -> Vec<Ended> {
        let streams = self.open.drain().map(|(_, stream)| stream);
        let streams: Vec<Box<Stream>> = streams.collect();
        for stream in &streams {
            self.count_out(stream);
        }
        self.books.abandoned.clear();
        let ended = streams.into_iter();
        ended.map(|stream| self.books.close(stream)).collect()
    }

    fn count_out(&mut self, stream: &Stream) {
        if self.role.is_local(stream.id()) {
            self.local -= 1;
        } else {
            self.remote -= 1;
            self.books.backlog -= usize::from(!stream.is_accepted());
        }
        let held = stream.opening_headers() + stream.unread_headers();
        self.books.headers.let_go(held);
        self.untaken.add(stream.id(), stream.recv_window().held());
    }

    /// Keeps header blocks of an ended stream until the application drops its handles. Otherwise
    /// one stream after the other could leave blocks behind. The block that opened a stream of the
    /// peer stays too, because the application might not have read it yet. The first block of
    /// a stream of this side does not: the application decides how many streams it opens.
    fn keep_headers(&mut self, stream: &Stream) {
        if stream.is_released() {
            return;
        }
        let opening = match self.role.is_local(stream.id()) {
            true => 0,
            false => stream.opening_headers(),
        };
        let unread = stream.unread_headers();
        self.books.headers.keep(stream.id(), opening + unread);
    }

    /// Returns whether an ended stream of the peer keeps its place until its handles are dropped.
    ///
    /// The application goes on working for the stream until it has noticed the end. Without this
    /// rule a peer that makes streams fail would get more than its share of the application's work,
    /// and `max_backlog` would not limit streams that close before they are accepted.
    fn keeps_place(&self, stream: &Stream, ending: &Ending) -> bool {
        let is_unnoticed = match &ending.app {
            Some(error) => is_of_peer(error),
            None => !stream.is_accepted(),
        };
        is_unnoticed
            && !self.role.is_local(stream.id())
            && !stream.is_released()
            && self.cancelled.len() < self.most_remote
    }
}

impl Books {
    /// Removes an open stream from these counts.
    fn close(&mut self, stream: Box<Stream>) -> Ended {
        self.unsent -= stream.queued_bytes();
        let is_full = stream.recv_window().held() >= self.stream_buffer;
        self.overfull -= usize::from(is_full);
        if stream.is_discarded() {
            self.abandoned.forget(stream.id());
        }
        Ended(stream)
    }
}

/// Returns whether the peer ended the stream, by RST_STREAM or by a fault. An application that has
/// reset a stream itself knows that it is gone.
fn is_of_peer(error: &StreamError) -> bool {
    match error {
        StreamError::NotProcessed | StreamError::TimedOut(_) => true,
        StreamError::Reset { initiator, .. } => *initiator != Initiator::Local,
        _ => false,
    }
}
