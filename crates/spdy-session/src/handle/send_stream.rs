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

/// The sending half of a stream of the peer, without a reply so far.
///
/// Dropping it resets the stream with CANCEL.
#[derive(Debug)]
pub struct SendReply(SendHalf);

impl SendReply {
    /// `on_drop` is the status with which a stream without a reply is reset, if any.
    pub(super) fn new(cell: Arc<StreamCell>, on_drop: Option<RstStatus>) -> Self {
        Self(SendHalf::new(cell, on_drop))
    }

    /// Returns the id of the stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.0.cell.id
    }

    /// Sends SYN_REPLY. With `fin`, this side sends nothing more.
    ///
    /// # Errors
    ///
    /// Returns how the stream has ended meanwhile, or [`StreamError::Finished`] if it is
    /// unidirectional.
    pub fn send_reply(self, headers: HeaderBlock, fin: bool) -> Result<SendStream, StreamError> {
        self.0.cell.send_reply(headers, fin)?;
        Ok(SendStream(self.0))
    }

    /// Sends SYN_REPLY, the whole payload, and FIN, as one order for the driver. The payload does
    /// not wait for room in the send queue.
    ///
    /// # Errors
    ///
    /// The same as [`send_reply`](Self::send_reply).
    pub fn send_reply_with(
        mut self,
        headers: HeaderBlock,
        payload: Bytes,
    ) -> Result<(), StreamError> {
        self.0.cell.reply_in_full(headers, payload)?;
        self.0.is_dropped = true;
        Ok(())
    }

    /// Refuses the stream with REFUSED_STREAM, which tells the peer that nothing was done and that
    /// a retry is safe.
    pub fn refuse(self) {
        self.reset(RstStatus::REFUSED_STREAM);
    }

    /// Resets the stream with `status`.
    pub fn reset(self, status: RstStatus) {
        self.0.cell.reset(status);
    }

    /// The same as [`SendStream::poll_piece`], for payload after the reply.
    ///
    /// # Errors
    ///
    /// Returns how the stream has ended.
    pub fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        held: usize,
        is_modest: bool,
    ) -> Poll<Result<Reserved, StreamError>> {
        self.0.poll_piece(cx, held, is_modest)
    }

    /// Returns the room for the stream's payload, which recommends the length of its pieces.
    #[must_use]
    pub fn room(&self) -> SendRoom {
        SendRoom::new(Arc::clone(&self.0.cell))
    }

    /// Waits until the stream ends early: by RST_STREAM, by a timeout, or with its session.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.0.cell.poll_closed(cx)
    }
}

/// The sending half of a stream.
///
/// Dropping it before it is finished resets the stream with CANCEL.
#[derive(Debug)]
pub struct SendStream(SendHalf);

impl SendStream {
    pub(super) fn new(cell: Arc<StreamCell>) -> Self {
        Self(SendHalf::new(cell, Some(RstStatus::CANCEL)))
    }

    pub(super) fn cell(&self) -> &Arc<StreamCell> {
        &self.0.cell
    }

    /// Returns the id of the stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.0.cell.id
    }

    /// Waits for room in the send queue
    /// ([`Limits::stream_send_queue`](crate::Limits::stream_send_queue)). Cancel safe.
    ///
    /// # Errors
    ///
    /// Returns how the stream has ended, or [`StreamError::Finished`] if this side has finished it.
    pub async fn ready(&mut self) -> Result<(), StreamError> {
        poll_fn(|cx| self.poll_ready(cx)).await
    }

    /// The same as [`ready`](Self::ready), for implementations of `Future`.
    ///
    /// # Errors
    ///
    /// The same as [`ready`](Self::ready).
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.0.cell.poll_ready(cx)
    }

    /// Waits until the stream may have another piece of payload whose length is known only when it
    /// exists, such as a piece of a body. Then the window of the stream is open, the stream has
    /// little queued, and the session has room
    /// ([`Limits::large_send_pieces`](crate::Limits::large_send_pieces)).
    ///
    /// Reserves that room, so that no other stream gets it. Keep the result until the piece is
    /// queued, or is known not to be ready, and no longer. While the stream waits only for its
    /// window, [`Timeouts::blocked`](crate::Timeouts::blocked) runs. While it waits for other
    /// streams of the session, that timeout runs for those.
    ///
    /// A task that waits for other streams is woken when room is reserved in its name. It then has
    /// to ask again, finish the stream, or drop the handle; until it does, other streams wait for
    /// that room.
    ///
    /// `held` bytes count as queued. Queue them if this returns pending. `is_modest` promises that
    /// pieces of this stream are never longer than 16 KiB.
    ///
    /// # Errors
    ///
    /// The same as [`ready`](Self::ready).
    pub fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        held: usize,
        is_modest: bool,
    ) -> Poll<Result<Reserved, StreamError>> {
        self.0.poll_piece(cx, held, is_modest)
    }

    /// Queues a piece of payload, with FIN if `fin` is set. A piece below 1 KiB is copied and
    /// joined with others. A longer one is not copied.
    ///
    /// Wait until the stream is [`ready`](Self::ready) before each piece. The queue takes the piece
    /// in any case, and only this wait limits the queue.
    ///
    /// # Errors
    ///
    /// Returns how the stream has ended, or [`StreamError::Finished`] if this side has finished it.
    pub fn send_data(&mut self, payload: Bytes, fin: bool) -> Result<(), StreamError> {
        self.0.cell.send_data(payload, fin)
    }

    /// Queues header fields behind everything that is queued. With `fin` they are trailers.
    ///
    /// # Errors
    ///
    /// Returns how the stream has ended, or [`StreamError::Finished`] if this side has finished it.
    pub fn send_headers(&mut self, headers: HeaderBlock, fin: bool) -> Result<(), StreamError> {
        self.0.cell.send_headers(headers, fin)
    }

    /// Queues FIN behind everything that is queued. The receiving half does not change. Does not
    /// wait: see [`written`](Self::written).
    ///
    /// # Errors
    ///
    /// Returns how the stream has ended, or [`StreamError::Finished`] if this side has finished it
    /// already.
    pub fn finish(&mut self) -> Result<(), StreamError> {
        self.0.cell.send_data(Bytes::new(), true)
    }

    /// Waits until the transport has taken everything, including FIN. Cancel safe.
    ///
    /// This says nothing about the peer, and a transport can hold what it has taken, as TLS does
    /// with up to 80 KiB. The session flushes it, also after [`Shutdown::Now`](crate::Shutdown),
    /// for as long as [`Timeouts::write`](crate::Timeouts::write) allows. If that fails the stream
    /// gets no error any more, but the session does: its [`Driver`](crate::Driver) ends with `Ok`
    /// only if the transport has passed everything on that was written. Whether the peer has got
    /// it, only an answer can tell, such as that to [`Session::ping`](crate::Session::ping).
    ///
    /// # Errors
    ///
    /// Returns how the stream has ended before that.
    pub async fn written(&mut self) -> Result<(), StreamError> {
        poll_fn(|cx| self.0.cell.poll_written(cx)).await
    }

    /// Resets the stream in both directions. Bytes that are queued on it are dropped.
    pub fn reset(self, status: RstStatus) {
        self.0.cell.reset(status);
    }

    /// Waits until the stream ends, without reading or writing: by RST_STREAM, by a timeout, or
    /// with its session. If it ends in order, because both sides have finished, the result is
    /// [`StreamError::Finished`]. Received bytes may still be unread.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.0.cell.poll_closed(cx)
    }

    /// The same as [`poll_closed`](Self::poll_closed). Cancel safe.
    pub async fn closed(&mut self) -> StreamError {
        poll_fn(|cx| self.poll_closed(cx)).await
    }
}

/// The sending half of a stream, with the status of its drop.
#[derive(Debug)]
struct SendHalf {
    cell: Arc<StreamCell>,
    /// The status with which an unfinished stream is reset, if any.
    on_drop: Option<RstStatus>,
    /// Whether the cell knows already that this half is dropped.
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
        // A small piece reserves no room.
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
