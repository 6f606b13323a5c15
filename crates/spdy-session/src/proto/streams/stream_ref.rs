//! A stream that is looked up once, and the counts that change with it.

use std::ops::{Deref, DerefMut};

use spdy_frame::{Data, HeaderBlock};

use super::{
    Books,
    halves::Refused,
    held_headers::held_size,
    stream::{Outgoing, Stream, Taken},
};
use crate::{
    Limit, StreamError,
    proto::{error::Violation, role::Role},
};

/// A stream that is not closed, looked up once.
#[derive(Debug)]
pub(crate) struct StreamRef<'a> {
    pub(super) stream: &'a mut Stream,
    pub(super) books: &'a mut Books,
}

/// What follows from bytes that are consumed.
#[derive(Clone, Copy, Debug)]
#[must_use = "credit that is due is queued"]
pub(crate) struct Consumed {
    /// The stream is to get credit. It says so once.
    pub(crate) credit_due: bool,
}

/// What follows from what an application has queued.
#[derive(Clone, Copy, Debug)]
#[must_use = "an opening that is due is queued"]
pub(crate) struct Queued {
    /// SYN_REPLY is due first.
    pub(crate) opening_due: bool,
}

impl StreamRef<'_> {
    /// The application takes the stream up.
    pub(crate) fn accept(&mut self) {
        self.books.backlog -= usize::from(self.stream.accept());
    }

    /// The application replies.
    pub(crate) fn send_reply(
        &mut self,
        headers: HeaderBlock,
        fin: bool,
    ) -> Result<(), StreamError> {
        self.stream.send_reply(headers, fin)?;
        self.accept();
        Ok(())
    }

    /// The application queues something behind what is queued already, or FIN alone.
    #[inline]
    pub(crate) fn queue(
        &mut self,
        item: Option<Outgoing>,
        fin: bool,
    ) -> Result<Queued, StreamError> {
        let had_opening = self.stream.has_opening();
        let bytes = match &item {
            Some(Outgoing::Data(payload)) => payload.len(),
            _ => 0,
        };
        self.stream.queue(item, fin)?;
        self.books.unsent += bytes;
        self.accept();
        Ok(Queued {
            opening_due: !had_opening && self.stream.has_opening(),
        })
    }

    /// Takes `bytes` off the payload that is the first in the queue. `None`: it is not payload.
    #[inline]
    pub(crate) fn take_payload(&mut self, bytes: usize) -> Option<Taken> {
        let taken = self.stream.take_payload(bytes)?;
        self.books.unsent -= bytes;
        Some(taken)
    }

    /// FIN went into the bytes for the transport.
    pub(crate) fn fin_written(&mut self) {
        self.stream.fin_written();
        self.note_abandoned();
    }

    /// The application reads no more: the rest is dropped as it comes, up to so many bytes.
    pub(crate) fn stop_reading(&mut self, limit: u64) {
        if !self.stream.is_discarded() {
            self.stream.stop_reading(limit);
            self.note_abandoned();
        }
    }

    fn note_abandoned(&mut self) {
        if self.stream.is_abandoned() {
            self.books.abandoned.note(self.stream.id());
        }
    }

    /// Takes in a piece of a DATA frame that has `announced` bytes from there on.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        role: Role,
        data: &Data,
        announced: u64,
    ) -> Result<(), Violation> {
        self.stream.receive_data(role, data, announced)?;
        let bytes = data.payload.len();
        self.count_unread(|stream| stream.recv_window_mut().receive(bytes));
        Ok(())
    }

    /// The application is done with `bytes` of payload.
    #[inline]
    pub(crate) fn consume(&mut self, bytes: usize) -> Consumed {
        self.count_unread(|stream| stream.recv_window_mut().consume(bytes));
        let credit_due = self.stream.note_credit(self.books.credit_step);
        Consumed { credit_due }
    }

    #[inline]
    fn count_unread(&mut self, change: impl FnOnce(&mut Stream)) {
        let buffer = self.books.stream_buffer;
        let was_full = self.stream.recv_window().held() >= buffer;
        change(self.stream);
        let is_full = self.stream.recv_window().held() >= buffer;
        if was_full != is_full {
            self.books.overfull += usize::from(is_full);
            self.books.overfull -= usize::from(was_full);
        }
    }

    /// Holds the header block of a reply.
    pub(crate) fn hold_reply(&mut self, size: usize) {
        self.stream.hold_reply(size);
        self.books.headers.hold(size);
    }

    /// Holds a header block that follows the first one.
    pub(crate) fn hold_headers(&mut self, size: usize) {
        self.stream.hold_headers(size);
        self.books.headers.hold(size);
    }

    /// Judges the size of a header block that the stream received. Returns what it counts.
    pub(crate) fn check_held(&self, role: Role, headers: &HeaderBlock) -> Result<usize, Violation> {
        let size = held_size(headers);
        let too_large = |limit| Err(role.oversized(self.stream.id()).beyond(limit));
        if headers.is_truncated() {
            return too_large(Limit::Headers);
        }
        if !self.books.headers.has_room(size) {
            return too_large(Limit::HeldHeaders);
        }
        Ok(size)
    }
}

impl Deref for StreamRef<'_> {
    type Target = Stream;

    #[inline]
    fn deref(&self) -> &Stream {
        self.stream
    }
}

impl DerefMut for StreamRef<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Stream {
        self.stream
    }
}

impl From<Refused> for StreamError {
    fn from(_: Refused) -> Self {
        Self::Finished
    }
}
