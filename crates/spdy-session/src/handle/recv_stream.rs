//! The handle that receives.

use std::{
    fmt,
    future::poll_fn,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::{Buf, Bytes};
use spdy_frame::{HeaderBlock, RstStatus, StreamId};
use tokio::io::ReadBuf;

use crate::{
    StreamError,
    shared::stream_cell::{Received, StreamCell},
};

/// The receiving half of a stream.
///
/// What happens when it is dropped before the FIN of the peer was read depends on the stream. One
/// that this side has opened is reset with CANCEL, and so is one that cannot be answered. Of other
/// streams of the peer the rest is read and thrown away, up to
/// [`Limits::discard`](crate::Limits::discard) and [`Timeouts::discard`](crate::Timeouts::discard),
/// because clients take a reset for a failure of the whole request (protocol.md §9.6).
pub struct RecvStream {
    cell: Arc<StreamCell>,
    /// What is left of a piece that is being read in parts.
    current: Bytes,
    /// The length of that piece: its credit goes back when all of it was read.
    unreported: usize,
    /// Nothing was to come from the start, so the driver needs not hear of the drop.
    is_idle: bool,
}

impl RecvStream {
    /// `is_idle`: the peer had finished when it opened the stream.
    pub(super) fn new(cell: Arc<StreamCell>, is_idle: bool) -> Self {
        Self {
            cell,
            current: Bytes::new(),
            unreported: 0,
            is_idle,
        }
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.cell.id
    }

    /// As [`Stream::response_headers`](crate::Stream::response_headers).
    ///
    /// # Errors
    ///
    /// As [`Stream::response_headers`](crate::Stream::response_headers).
    pub async fn response_headers(&mut self) -> Result<HeaderBlock, StreamError> {
        poll_fn(|cx| self.poll_response_headers(cx)).await
    }

    /// As [`response_headers`](Self::response_headers), for implementations of `Future`.
    ///
    /// # Errors
    ///
    /// As [`Stream::response_headers`](crate::Stream::response_headers).
    pub fn poll_response_headers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<HeaderBlock, StreamError>> {
        self.cell.poll_response_headers(cx)
    }

    /// Waits for what comes next. Returns a piece of payload, which may be a frame, a part of one
    /// or several short ones; or header fields; or `None` after FIN.
    ///
    /// A piece keeps at most three times its own length of memory. Its flow-control credit goes
    /// back to the peer when it is taken (protocol.md §13.3). What came before an abnormal end is
    /// returned first, then the error, at every call.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// How the stream has ended, unless in order.
    pub async fn next(&mut self) -> Option<Result<Received, StreamError>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`next`](Self::next), for implementations of `Future`.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Received, StreamError>>> {
        if !self.current.is_empty() {
            let rest = mem::take(&mut self.current);
            self.report();
            return Poll::Ready(Some(Ok(Received::Data(rest))));
        }
        self.cell.poll_next(cx, true)
    }

    /// Waits for the next header block that came after the first one, also from behind payload that
    /// was not read. Returns `None` if none will come any more.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// How the stream has ended, unless in order.
    pub async fn next_headers(&mut self) -> Result<Option<HeaderBlock>, StreamError> {
        poll_fn(|cx| self.cell.poll_headers(cx)).await.transpose()
    }

    /// Ends the stream both ways, for a reader that finds what came to be wrong.
    pub fn reset(self, status: RstStatus) {
        self.cell.reset(status);
    }

    /// Whether the FIN of the peer has come and everything before it was taken.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.current.is_empty() && self.cell.is_drained()
    }

    /// Returns the last moment at which this side kept the peer from sending payload, on any
    /// stream: the transport was not read, or the session's receive window was used up, because the
    /// application had not taken what came. It is `now` if that is so at present, and `None` if it
    /// never was.
    ///
    /// It is for deadlines of a body: a peer that is held up is not silent. The window of this
    /// stream alone does not count; it is open when everything that came was taken.
    #[must_use]
    pub fn held_up_until(&self, now: Instant) -> Option<Instant> {
        self.cell.held_up_until(now)
    }

    /// Copies payload into `buf`, nothing after FIN. Header blocks in between are dropped.
    pub(super) fn poll_copy(
        &mut self,
        cx: &Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), StreamError>> {
        while self.current.is_empty() {
            match ready!(self.cell.poll_next(cx, false)).transpose()? {
                Some(Received::Data(piece)) => {
                    self.unreported = piece.len();
                    self.current = piece;
                }
                Some(Received::Headers(_)) => {}
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = buf.remaining().min(self.current.len());
        buf.put_slice(&self.current[..length]);
        self.current.advance(length);
        if self.current.is_empty() {
            self.report();
        } else {
            self.cell.note_partly_read();
        }
        Poll::Ready(Ok(()))
    }

    /// Returns the credit of the current piece.
    fn report(&mut self) {
        self.cell.consume(mem::take(&mut self.unreported));
    }
}

/// The same as the method [`poll_next`](RecvStream::poll_next). After an error it returns that
/// error at every call, and never `None`.
impl futures_core::Stream for RecvStream {
    type Item = Result<Received, StreamError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_next(cx)
    }
}

impl fmt::Debug for RecvStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvStream")
            .field("cell", &self.cell)
            .field("current", &self.current.len())
            .finish_non_exhaustive()
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        if !self.is_idle {
            self.cell.drop_recv(self.unreported);
        }
    }
}
