//! A stream that was looked up, and the counts that change with it.

use std::ops::{Deref, DerefMut};

use spdy_frame::{Data, HeaderBlock};

use super::{
    Books,
    halves::Refused,
    held_headers::held_size,
    stream::{Outgoing, Stream, Taken},
};
use crate::{
    Rule, StreamError,
    proto::{error::Violation, role::Role},
};

/// A stream that is not closed, with access to the counts of all streams.
#[derive(Debug)]
pub(crate) struct StreamRef<'a> {
    pub(super) stream: &'a mut Stream,
    pub(super) books: &'a mut Books,
}

/// The consequence of consumed bytes.
#[derive(Clone, Copy, Debug)]
#[must_use = "credit that is due is queued"]
pub(crate) struct Consumed {
    /// Whether credit of the stream has become due. Set only once for the same credit.
    pub(crate) credit_due: bool,
}

/// The consequence of a queued item.
#[derive(Clone, Copy, Debug)]
#[must_use = "an opening that is due is queued"]
pub(crate) struct Queued {
    /// Whether SYN_REPLY has to be written first.
    pub(crate) opening_due: bool,
}

impl StreamRef<'_> {
    /// Notes that the application has accepted the stream.
    pub(crate) fn accept(&mut self) {
        self.books.backlog -= usize::from(self.stream.accept());
    }

    /// Queues the reply of the application.
    pub(crate) fn send_reply(
        &mut self,
        headers: HeaderBlock,
        fin: bool,
    ) -> Result<(), StreamError> {
        self.stream.send_reply(headers, fin)?;
        self.accept();
        Ok(())
    }

    /// Queues an item of the application, or only FIN, behind everything that is queued.
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

    /// Takes `bytes` off the payload at the front of the queue. Returns `None` if the front is not
    /// payload.
    #[inline]
    pub(crate) fn take_payload(&mut self, bytes: usize) -> Option<Taken> {
        let taken = self.stream.take_payload(bytes)?;
        self.books.unsent -= bytes;
        Some(taken)
    }

    /// Notes that FIN is among the bytes for the transport.
    pub(crate) fn fin_written(&mut self) {
        self.stream.fin_written();
        self.note_abandoned();
    }

    /// Notes that the application reads no more. The rest is dropped as it arrives, up to `limit`
    /// bytes.
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

    /// Receives a piece of a DATA frame of which `announced` bytes are still to come, these
    /// included.
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

    /// Notes that the application has consumed `bytes` of payload.
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

    /// Counts the header block of a reply.
    pub(crate) fn hold_reply(&mut self, size: usize) {
        self.stream.hold_reply(size);
        self.books.headers.hold(size);
    }

    /// Counts a header block after the first one.
    pub(crate) fn hold_headers(&mut self, size: usize) {
        self.stream.hold_headers(size);
        self.books.headers.hold(size);
    }

    /// Returns the size that a received header block counts, or an error if it is too large.
    pub(crate) fn check_held(&self, role: Role, headers: &HeaderBlock) -> Result<usize, Violation> {
        let size = held_size(headers);
        let too_large = |rule| Err(role.oversized(self.stream.id(), rule));
        if headers.is_truncated() {
            return too_large(Rule::OversizedHeaders);
        }
        if !self.books.headers.has_room(size) {
            return too_large(Rule::HeldHeaders);
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
