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
/// Dropping it before the peer's FIN was read depends on the stream. A stream that this side has
/// opened is reset with CANCEL, and so is one on which this side cannot send. The rest of any other
/// stream of the peer is read and thrown away, up to [`Limits::discard`](crate::Limits::discard)
/// and [`Timeouts::discard`](crate::Timeouts::discard), because clients take a reset for a failure
/// of the whole request ([protocol.md §9.6]).
///
/// [protocol.md §9.6]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#96-bodies
pub struct RecvStream {
    cell: Arc<StreamCell>,
    /// The rest of a piece that is being read in parts.
    current: Bytes,
    /// The length of that piece. Its credit goes back when the piece was read completely.
    unreported: usize,
    /// Whether the peer had finished from the start, so that the driver need not learn of the drop.
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

    /// Returns the id of the stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.cell.id
    }

    /// The same as [`Stream::response_headers`](crate::Stream::response_headers).
    ///
    /// # Errors
    ///
    /// The same as [`Stream::response_headers`](crate::Stream::response_headers).
    pub async fn response_headers(&mut self) -> Result<HeaderBlock, StreamError> {
        poll_fn(|cx| self.poll_response_headers(cx)).await
    }

    /// The same as [`response_headers`](Self::response_headers), for implementations of `Future`.
    ///
    /// # Errors
    ///
    /// The same as [`Stream::response_headers`](crate::Stream::response_headers).
    pub fn poll_response_headers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<HeaderBlock, StreamError>> {
        self.cell.poll_response_headers(cx)
    }

    /// Waits for the next piece of payload or the next header block. A piece may be a frame, a part
    /// of one, or several short ones. Returns `None` after FIN.
    ///
    /// A piece keeps at most three times its own length of memory. Its flow-control credit goes
    /// back to the peer when this method returns it ([protocol.md §13.3]). If the stream ends
    /// early, everything that arrived before is returned first, and then the error, at each call.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// Returns how the stream has ended, unless it ended in order.
    ///
    /// [protocol.md §13.3]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#133-receiver
    pub async fn next(&mut self) -> Option<Result<Received, StreamError>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same as [`next`](Self::next), for implementations of `Future`.
    ///
    /// # Errors
    ///
    /// The same as [`next`](Self::next).
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

    /// Waits for the next header block after the first one, even behind payload that was not read.
    /// Returns `None` if no further one can arrive.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// Returns how the stream has ended, unless it ended in order.
    pub async fn next_headers(&mut self) -> Result<Option<HeaderBlock>, StreamError> {
        poll_fn(|cx| self.cell.poll_headers(cx)).await.transpose()
    }

    /// Resets the stream, for a reader that finds its content wrong.
    pub fn reset(self, status: RstStatus) {
        self.cell.reset(status);
    }

    /// Returns whether the peer's FIN has arrived and everything before it was taken.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.current.is_empty() && self.cell.is_drained()
    }

    /// Returns the last moment at which this side kept the peer from sending payload on any stream,
    /// because the application had not taken what arrived: the transport was not read, or the
    /// session's receive window was used up. Returns `now` if that is so now, and `None` if it
    /// never was.
    ///
    /// Use it for the deadline of a body, because a peer that cannot send is not silent. The window
    /// of this stream alone does not count; it is open when everything that arrived was taken.
    #[must_use]
    pub fn held_up_until(&self, now: Instant) -> Option<Instant> {
        self.cell.held_up_until(now)
    }

    /// Copies payload into `buf`, or nothing after FIN. Header blocks between payload are dropped.
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

    /// Returns the credit of the current piece to the peer.
    fn report(&mut self) {
        self.cell.consume(mem::take(&mut self.unreported));
    }
}

/// The same as the method [`poll_next`](RecvStream::poll_next). After an error it returns this
/// error at each call, and never `None`.
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
