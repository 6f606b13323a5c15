//! The handle that receives.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use spdy_frame::{HeaderBlock, RstStatus, StreamId};

use crate::{
    StreamError,
    shared::stream_cell::{Received, StreamCell},
};

/// The receiving half of a stream.
///
/// Dropped before the peer's FIN was read: a stream of this side is reset with CANCEL, and so is one that cannot be
/// answered; of other streams of the peer the rest is read and thrown away, up to [`Limits::discard`](crate::Limits::discard) and
/// [`Timeouts::discard`](crate::Timeouts::discard), since clients take a reset for a
/// failure of the whole request (protocol.md §9.6).
pub struct RecvStream {
    pub(super) cell: Arc<StreamCell>,
    /// What is left of a piece that is being read octet by octet.
    pub(super) current: Bytes,
    /// The length of that piece: its credit goes back when all of it was read.
    pub(super) unreported: usize,
    /// Nothing was to come from the start, so nobody waits to hear that the handle is dropped.
    idle: bool,
}

impl RecvStream {
    /// `idle`: the peer had finished when it opened the stream.
    pub(crate) fn new(cell: Arc<StreamCell>, idle: bool) -> Self {
        Self {
            cell,
            idle,
            current: Bytes::new(),
            unreported: 0,
        }
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.cell.id
    }

    /// As [`Stream::response_headers`].
    ///
    /// # Errors
    ///
    /// As [`Stream::response_headers`].
    pub async fn response_headers(&mut self) -> Result<HeaderBlock, StreamError> {
        poll_fn(|cx| self.poll_response_headers(cx)).await
    }

    /// As [`response_headers`](Self::response_headers), for implementations of `Future`.
    ///
    /// # Errors
    ///
    /// As [`Stream::response_headers`].
    pub fn poll_response_headers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<HeaderBlock, StreamError>> {
        self.cell.poll_response_headers(cx)
    }

    /// Waits for what comes next: a piece of payload, which may be a frame, a part of one or several short ones; or header
    /// fields; `None` after FIN. It keeps at most three times its own length of memory. Flow-control credit goes back to the peer with each piece that is taken (protocol.md §13.3). Cancel safe.
    ///
    /// What came before an abnormal end is given first, then the error, again and again.
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
            let rest = std::mem::take(&mut self.current);
            self.report();
            return Poll::Ready(Some(Ok(Received::Data(rest))));
        }
        self.cell.poll_next(cx, true)
    }

    /// Waits for the next header block that came after the first one, also from behind payload that was not read;
    /// `None` if none will come any more. Cancel safe.
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

    /// Whether the peer's FIN has come and everything before it was taken.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.current.is_empty() && self.cell.is_drained()
    }

    /// Returns the last moment at which this side kept the peer from sending payload, on any stream: the transport was
    /// not read, or the session's receive window was used up, since the application had not taken what came. It is
    /// `now` if that is so at present, and `None` if it never was.
    ///
    /// For deadlines of a body: a peer that is held up is not silent. The window of this stream alone is not asked
    /// about; it is open when everything that came was taken.
    #[must_use]
    pub fn held_up_until(&self, now: Instant) -> Option<Instant> {
        self.cell.held_up_until(now)
    }

    /// Gives the credit of the current piece back.
    pub(super) fn report(&mut self) {
        self.cell.consumed(std::mem::take(&mut self.unreported));
    }
}

/// The same as the method [`poll_next`](RecvStream::poll_next). After an error it returns that error again and again, and
/// never `None`.
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
        if !self.idle {
            self.cell.drop_recv(self.unreported);
        }
    }
}
