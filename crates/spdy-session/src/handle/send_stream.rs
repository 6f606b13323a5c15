//! The handles that send.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use spdy_frame::{HeaderBlock, RstStatus, StreamId};

use super::send_room::{Reserved, SendRoom};
use crate::{
    StreamError,
    shared::{budget::SMALL_PIECE, stream_cell::StreamCell},
};

/// The sending half of a stream of the peer that is not answered yet.
///
/// Dropped, it resets the stream with CANCEL.
#[derive(Debug)]
pub struct SendReply(SendHalf);

impl SendReply {
    /// `on_drop` is what the stream is reset with if it is not answered, if at all.
    pub(super) fn new(cell: Arc<StreamCell>, on_drop: Option<RstStatus>) -> Self {
        Self(SendHalf::new(cell, on_drop))
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.0.cell.id
    }

    /// Answers with SYN_REPLY. With `fin`, this side sends nothing more.
    ///
    /// # Errors
    ///
    /// How the stream has ended meanwhile. [`StreamError::Finished`] if it is unidirectional.
    pub fn send_reply(self, headers: HeaderBlock, fin: bool) -> Result<SendStream, StreamError> {
        self.0.cell.send_reply(headers, fin)?;
        Ok(SendStream(self.0))
    }

    /// Answers with SYN_REPLY, the whole payload, and FIN: one order for the driver where the
    /// answer is at hand. The payload does not wait for room in the send queue.
    ///
    /// # Errors
    ///
    /// As [`send_reply`](Self::send_reply).
    pub fn send_reply_with(
        mut self,
        headers: HeaderBlock,
        payload: Bytes,
    ) -> Result<(), StreamError> {
        self.0.cell.reply_in_full(headers, payload)?;
        self.0.is_dropped = true;
        Ok(())
    }

    /// Refuses the stream with REFUSED_STREAM: the peer can safely try again. So nothing must have
    /// been done for it.
    pub fn refuse(self) {
        self.reset(RstStatus::REFUSED_STREAM);
    }

    /// Resets the stream with `status`.
    pub fn reset(self, status: RstStatus) {
        self.0.cell.reset(status);
    }

    /// As [`SendStream::poll_piece`], for what follows the answer.
    ///
    /// # Errors
    ///
    /// How the stream has ended.
    pub fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        held: usize,
        is_modest: bool,
    ) -> Poll<Result<Reserved, StreamError>> {
        self.0.poll_piece(cx, held, is_modest)
    }

    /// Returns a value that tells how long pieces of the payload should be.
    #[must_use]
    pub fn room(&self) -> SendRoom {
        SendRoom::new(Arc::clone(&self.0.cell))
    }

    /// Waits for the stream to end early: by RST_STREAM, by a timeout, with its session.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.0.cell.poll_closed(cx)
    }
}

/// The sending half of a stream.
///
/// Dropped before it is finished, it resets the stream with CANCEL.
#[derive(Debug)]
pub struct SendStream(SendHalf);

impl SendStream {
    pub(super) fn new(cell: Arc<StreamCell>) -> Self {
        Self(SendHalf::new(cell, Some(RstStatus::CANCEL)))
    }

    pub(super) fn cell(&self) -> &Arc<StreamCell> {
        &self.0.cell
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.0.cell.id
    }

    /// Waits for room in the send queue
    /// ([`Limits::stream_send_queue`](crate::Limits::stream_send_queue)). Cancel safe.
    ///
    /// # Errors
    ///
    /// How the stream has ended; [`StreamError::Finished`] if this side has finished it.
    pub async fn ready(&mut self) -> Result<(), StreamError> {
        poll_fn(|cx| self.poll_ready(cx)).await
    }

    /// As [`ready`](Self::ready), for implementations of `Future`.
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready).
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.0.cell.poll_ready(cx)
    }

    /// Waits until the stream may have another piece of payload, of a length that is known only
    /// when the piece is there, as with pieces of a body: the window of the stream is open, the
    /// stream has little queued, and the session has room
    /// ([`Limits::large_send_pieces`](crate::Limits::large_send_pieces)).
    ///
    /// Takes that room, so that no other stream gets it. Keep what this returns until the piece is
    /// queued, or turns out not to be there yet, and no longer. While the stream waits for its
    /// window alone, [`Timeouts::blocked`](crate::Timeouts::blocked) runs. While it waits for other
    /// streams of the session, that timeout runs for those.
    ///
    /// A task that waits for other streams is woken when room is taken in its name. It then asks
    /// again, finishes the stream, or drops the handle: until it does, other streams wait for that
    /// room.
    ///
    /// `held` bytes count as queued. They have to be queued when this is pending. With `is_modest`,
    /// pieces of this stream are never longer than 16 KiB.
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready).
    pub fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        held: usize,
        is_modest: bool,
    ) -> Poll<Result<Reserved, StreamError>> {
        self.0.poll_piece(cx, held, is_modest)
    }

    /// Queues a piece of payload. With `fin` it is the last one. A piece of less than 1 KiB is
    /// copied, and joined with others; longer ones are not copied.
    ///
    /// Wait until the stream is [`ready`](Self::ready) before each piece. The queue takes the piece
    /// in any case, and only the wait keeps the bound of the queue.
    ///
    /// # Errors
    ///
    /// How the stream has ended; [`StreamError::Finished`] if this side has finished it.
    pub fn send_data(&mut self, payload: Bytes, fin: bool) -> Result<(), StreamError> {
        self.0.cell.send_data(payload, fin)
    }

    /// Queues header fields behind everything queued so far: trailers, with `fin`.
    ///
    /// # Errors
    ///
    /// How the stream has ended; [`StreamError::Finished`] if this side has finished it.
    pub fn send_headers(&mut self, headers: HeaderBlock, fin: bool) -> Result<(), StreamError> {
        self.0.cell.send_headers(headers, fin)
    }

    /// Sends FIN behind everything queued so far, and keeps the receiving half as it is. Does not
    /// wait: see [`written`](Self::written).
    ///
    /// # Errors
    ///
    /// How the stream has ended; [`StreamError::Finished`] if this side has finished it already.
    pub fn finish(&mut self) -> Result<(), StreamError> {
        self.0.cell.send_data(Bytes::new(), true)
    }

    /// Waits until everything, with FIN, has been written to the transport. Cancel safe.
    ///
    /// # Errors
    ///
    /// How the stream has ended before that.
    pub async fn written(&mut self) -> Result<(), StreamError> {
        poll_fn(|cx| self.0.cell.poll_written(cx)).await
    }

    /// Ends the stream both ways. What is queued on it is dropped.
    pub fn reset(self, status: RstStatus) {
        self.0.cell.reset(status);
    }

    /// Waits for the stream to end, without reading or writing: by RST_STREAM, by a timeout, with
    /// its session; or in order, once both sides have finished, which is [`StreamError::Finished`].
    /// Bytes that came may still be unread.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.0.cell.poll_closed(cx)
    }

    /// As [`poll_closed`](Self::poll_closed). Cancel safe.
    pub async fn closed(&mut self) -> StreamError {
        poll_fn(|cx| self.poll_closed(cx)).await
    }
}

/// The sending half of a stream, with what happens when it is dropped.
#[derive(Debug)]
struct SendHalf {
    cell: Arc<StreamCell>,
    /// What a stream is reset with that is not finished, if at all.
    on_drop: Option<RstStatus>,
    /// The cell knows already that this half is dropped.
    is_dropped: bool,
}

impl SendHalf {
    fn new(cell: Arc<StreamCell>, on_drop: Option<RstStatus>) -> Self {
        Self {
            cell,
            on_drop,
            is_dropped: false,
        }
    }

    fn poll_piece(
        &self,
        cx: &Context<'_>,
        held: usize,
        is_modest: bool,
    ) -> Poll<Result<Reserved, StreamError>> {
        let length = ready!(self.cell.poll_piece(cx, held, is_modest))?;
        // Nothing is given back of a small piece.
        let cell = (length > SMALL_PIECE).then(|| Arc::clone(&self.cell));
        Poll::Ready(Ok(Reserved::new(cell, length)))
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if !self.is_dropped {
            self.cell.drop_send(self.on_drop);
        }
    }
}
