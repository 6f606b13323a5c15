//! The handles of a stream.

pub(crate) mod cell;
mod io;

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use spdy_frame::{HeaderBlock, RstStatus, StreamId};

pub use self::cell::Received;
use self::cell::StreamCell;
use crate::{StreamError, room::SMALL_PIECE};

/// A stream, open both ways. It is [`AsyncRead`](tokio::io::AsyncRead) and [`AsyncWrite`](tokio::io::AsyncWrite).
///
/// Reading ends with 0 octets only after the peer's FIN: whatever else ends the stream is an error, after all that
/// came before it has been read. Writing takes octets as the send queue has room
/// ([`Limits::stream_send_queue`](crate::Limits::stream_send_queue)); `shutdown` sends FIN and waits until it
/// is written to the transport.
///
/// Dropped before it is finished, it is reset with CANCEL.
#[derive(Debug)]
pub struct Stream {
    recv: RecvStream,
    send: SendStream,
}

impl Stream {
    pub(crate) fn new(recv: RecvStream, send: SendStream) -> Self {
        Self { recv, send }
    }

    /// The handles of a stream that this side has opened.
    pub(crate) fn opened(cell: Arc<StreamCell>) -> Self {
        let send = SendHalf::new(Arc::clone(&cell), RstStatus::CANCEL);
        Self {
            recv: RecvStream::new(cell, false),
            send: SendStream(send),
        }
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.send.id()
    }

    /// Waits for the peer's SYN_REPLY and gives its header block, once. Cancel safe.
    ///
    /// # Errors
    ///
    /// How the stream has ended before that. [`StreamError::Finished`] if there is nothing to wait for: it was
    /// given already, the peer opened the stream, or may not answer.
    pub async fn response_headers(&mut self) -> Result<HeaderBlock, StreamError> {
        self.recv.response_headers().await
    }

    /// As [`RecvStream::next_headers`]: waits for the next HEADERS of the peer, trailers among them.
    ///
    /// # Errors
    ///
    /// How the stream has ended, unless in order.
    pub async fn next_headers(&mut self) -> Result<Option<HeaderBlock>, StreamError> {
        self.recv.next_headers().await
    }

    /// As [`SendStream::send_headers`].
    ///
    /// # Errors
    ///
    /// As [`SendStream::send_headers`].
    pub fn send_headers(&mut self, headers: HeaderBlock, fin: bool) -> Result<(), StreamError> {
        self.send.send_headers(headers, fin)
    }

    /// Ends the stream both ways. What is queued on it is dropped.
    pub fn reset(self, status: RstStatus) {
        self.send.reset(status);
    }

    /// As [`SendStream::closed`].
    pub async fn closed(&mut self) -> StreamError {
        self.send.closed().await
    }

    /// The two directions apart, each for a task of its own.
    #[must_use]
    pub fn split(self) -> (RecvStream, SendStream) {
        (self.recv, self.send)
    }
}

/// The receiving half of a stream.
///
/// Dropped before the peer's FIN was read: a stream of this side is reset with CANCEL, and so is one that cannot be
/// answered; of other streams of the peer the rest is read and thrown away, up to [`Limits::discard`](crate::Limits::discard) and
/// [`Timeouts::discard`](crate::Timeouts::discard), since clients take a reset for a
/// failure of the whole request (protocol.md §9.6).
pub struct RecvStream {
    cell: Arc<StreamCell>,
    /// What is left of a piece that is being read octet by octet.
    current: Bytes,
    /// The length of that piece: its credit goes back when all of it was read.
    unreported: usize,
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
    fn report(&mut self) {
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

/// The sending half of a stream of the peer that is not answered yet.
///
/// Dropped, it resets the stream with CANCEL.
#[derive(Debug)]
pub struct SendReply(SendHalf);

impl SendReply {
    pub(crate) fn new(cell: Arc<StreamCell>, on_drop: RstStatus) -> Self {
        Self(SendHalf::new(cell, on_drop))
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.0.cell.id
    }

    /// Answers with SYN_REPLY. With `fin` that is all this side sends.
    ///
    /// # Errors
    ///
    /// If the stream has ended meanwhile; [`StreamError::Finished`] if it is unidirectional.
    pub fn send_reply(self, headers: HeaderBlock, fin: bool) -> Result<SendStream, StreamError> {
        self.0.cell.send_reply(headers, fin)?;
        Ok(SendStream(self.0))
    }

    /// Answers with SYN_REPLY, all the payload there is, and FIN: one order for the driver where the answer is at hand.
    /// How much it is does not wait for room in the send queue.
    ///
    /// # Errors
    ///
    /// As [`reply`](Self::send_reply).
    pub fn send_reply_with(
        mut self,
        headers: HeaderBlock,
        payload: Bytes,
    ) -> Result<(), StreamError> {
        self.0.cell.reply_in_full(headers, payload)?;
        self.0.gone = true;
        Ok(())
    }

    /// Refuses the stream with REFUSED_STREAM: the peer may safely try again. So nothing must have been done for it.
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

    /// Returns what tells how long pieces of the payload should be.
    #[must_use]
    pub fn room(&self) -> SendRoom {
        SendRoom(Arc::clone(&self.0.cell))
    }

    /// Waits for the stream to end before its time: by RST_STREAM, by a timeout, with its session.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.0.cell.poll_closed(cx)
    }

    pub(crate) fn taken(mut self, on_drop: Option<RstStatus>) -> Self {
        self.0.on_drop = on_drop;
        self
    }
}

/// The sending half of a stream.
///
/// Dropped before it is finished, it resets the stream with CANCEL.
#[derive(Debug)]
pub struct SendStream(SendHalf);

impl SendStream {
    /// The id.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.0.cell.id
    }

    /// Waits for room in the send queue ([`Limits::stream_send_queue`](crate::Limits::stream_send_queue)). Cancel
    /// safe.
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

    /// Waits until the stream may be given another piece of payload whose length is known only when it is there, as a
    /// body gives them: its window is open, it has little queued, and the session has room
    /// ([`Limits::large_send_pieces`](crate::Limits::large_send_pieces)). Takes that room, so that no other stream is given
    /// it: keep what this returns until the piece is queued, or is not there yet, and no longer. While it waits for its window alone, [`Timeouts::blocked`](crate::Timeouts::blocked) runs. While it waits for
    /// other streams of the session, it runs for those.
    ///
    /// `held` bytes count as queued; they have to be queued when this is pending. `is_modest`: pieces of this stream
    /// are never longer than 16 KiB.
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

    /// Queues a piece of payload; with `fin` it is the last one. It is not copied unless it is short (less than 1 KiB):
    /// such pieces are joined. Wait until the stream is
    /// [`ready`](Self::ready) before each piece: the queue takes it in any case, and its bound is kept by waiting.
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

    /// Sends FIN behind everything queued so far, and keeps the receiving half as it is. Does not wait: see
    /// [`written`](Self::written).
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

    /// Waits for the stream to end, without reading or writing: by RST_STREAM, by a timeout, with its session; or in
    /// order, once both sides have finished, which is [`StreamError::Finished`]. Octets that came may still be unread.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.0.cell.poll_closed(cx)
    }

    /// As [`poll_closed`](Self::poll_closed). Cancel safe.
    pub async fn closed(&mut self) -> StreamError {
        poll_fn(|cx| self.poll_closed(cx)).await
    }
}

/// How long the pieces of a stream's payload should be, for bodies that can be read in pieces of any length.
#[derive(Clone)]
pub struct SendRoom(Arc<StreamCell>);

impl SendRoom {
    /// Promises that from now on no piece is longer than there is room for. Such a stream may go on when streams whose
    /// pieces have any length wait.
    pub fn promise(&self) {
        self.0.promise_room();
    }

    /// Takes room for the next piece, of `most` bytes or less: as many as the window of the stream lets out and the
    /// session has room for ([`Limits::large_send_pieces`](crate::Limits::large_send_pieces)), and never less than
    /// 16 KiB unless `most` is. Drop it when the piece is handed over.
    pub fn reserve(&self, most: usize) -> Reserved {
        let length = self.0.reserve(most);
        let cell = Some(Arc::clone(&self.0));
        Reserved { cell, length }
    }
}

/// The room for a piece that is being made, until it is dropped.
#[must_use = "without it other streams take the room"]
pub struct Reserved {
    cell: Option<Arc<StreamCell>>,
    length: usize,
}

impl Reserved {
    /// Returns how long the piece may be, in bytes.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(cell) = &self.cell {
            cell.give_back(self.length);
        }
    }
}

impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reserved").field(&self.length).finish()
    }
}

impl fmt::Debug for SendRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SendRoom").field(&self.0.id).finish()
    }
}

/// What happens when the sending half of a stream is dropped.
#[derive(Debug)]
struct SendHalf {
    cell: Arc<StreamCell>,
    on_drop: Option<RstStatus>,
    /// The cell knows already that this half is dropped.
    gone: bool,
}

impl SendHalf {
    fn new(cell: Arc<StreamCell>, on_drop: RstStatus) -> Self {
        Self {
            cell,
            on_drop: Some(on_drop),
            gone: false,
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
        Poll::Ready(Ok(Reserved { cell, length }))
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if !self.gone {
            self.cell.drop_send(self.on_drop);
        }
    }
}
