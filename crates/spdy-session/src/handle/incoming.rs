//! Streams that the peer opens.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use spdy_frame::{HeaderBlock, Priority, RstStatus, StreamId};

use super::{recv_stream::RecvStream, send_stream::SendReply, stream::Stream};
use crate::{
    StreamError,
    proto::Opened,
    shared::{Hub, MayCome, stream_cell::StreamCell},
};

/// Gives the streams that the peer opens, in the order of their ids.
///
/// Streams that are not taken wait, up to [`Limits::max_backlog`](crate::Limits::max_backlog); more are refused.
/// When it is dropped, all are refused, those that wait among them.
#[derive(Debug)]
pub struct Incoming {
    hub: Arc<Hub>,
}

impl Incoming {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// Waits for the next stream; `None` when the session has ended. Cancel safe.
    pub async fn accept(&mut self) -> Option<PendingStream> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// As [`accept`](Self::accept), for implementations of `Future`. The task of the latest call is woken.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<PendingStream>> {
        self.hub.poll_accept(cx)
    }

    /// Takes the next stream if it is there already. Nobody is woken when one comes: this is for the work that
    /// [`Driver::poll_around`](crate::Driver::poll_around) calls again anyway.
    ///
    /// # Errors
    ///
    /// [`TryAcceptError::Empty`] if no stream waits at present, and [`TryAcceptError::Closed`] once the session has ended.
    pub fn try_accept(&mut self) -> Result<PendingStream, TryAcceptError> {
        match self.hub.accept() {
            Ok(stream) => Ok(stream),
            Err(MayCome(true)) => Err(TryAcceptError::Empty),
            Err(MayCome(false)) => Err(TryAcceptError::Closed),
        }
    }
}

/// The same as [`poll_accept`](Incoming::poll_accept).
impl futures_core::Stream for Incoming {
    type Item = PendingStream;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PendingStream>> {
        self.get_mut().poll_accept(cx)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.hub.incoming_dropped();
    }
}

/// Why [`Incoming::try_accept`] returned no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryAcceptError {
    /// No stream waits at present. One might still come.
    Empty,
    /// The session has ended: no stream will come.
    Closed,
}

impl fmt::Display for TryAcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "no stream waits to be accepted",
            Self::Closed => "session has ended",
        })
    }
}

impl std::error::Error for TryAcceptError {}

/// A stream that the peer has opened and that is not answered.
///
/// Dropped, it is refused: RST_STREAM with REFUSED_STREAM, which tells the peer that nothing was done and that it
/// may safely try again.
#[derive(Debug)]
pub struct PendingStream {
    opened: Opened,
    // Before the other half, since of two orders to reset a stream the first one counts.
    reply: SendReply,
    recv: RecvStream,
}

impl PendingStream {
    pub(crate) fn new(cell: &Arc<StreamCell>, opened: Opened) -> Self {
        let recv = RecvStream::new(Arc::clone(cell), opened.fin);
        let reply = SendReply::new(Arc::clone(cell), RstStatus::REFUSED_STREAM);
        Self {
            opened,
            reply,
            recv,
        }
    }

    /// The id of the stream.
    #[must_use]
    pub const fn id(&self) -> StreamId {
        self.opened.id
    }

    /// The header block of its SYN_STREAM.
    #[must_use]
    pub const fn headers(&self) -> &HeaderBlock {
        &self.opened.headers
    }

    /// How urgent the peer says it is. The session heeds it by itself.
    #[must_use]
    pub const fn priority(&self) -> Priority {
        self.opened.priority
    }

    /// The stream that it belongs to; pushes have one.
    #[must_use]
    pub const fn associated(&self) -> Option<StreamId> {
        self.opened.associated
    }

    /// Whether it cannot be answered.
    #[must_use]
    pub const fn is_unidirectional(&self) -> bool {
        self.opened.unidirectional
    }

    /// Whether more may follow the header block: FIN has not come with it.
    #[must_use]
    pub const fn has_body(&self) -> bool {
        !self.opened.fin
    }

    /// Answers with SYN_REPLY.
    ///
    /// # Errors
    ///
    /// If the stream has ended meanwhile; [`StreamError::Finished`] if it is unidirectional.
    pub fn send_reply(self, headers: HeaderBlock) -> Result<Stream, StreamError> {
        let (recv, reply) = self.split();
        Ok(Stream::new(recv, reply.send_reply(headers, false)?))
    }

    /// Takes a unidirectional stream, which needs no answer.
    ///
    /// # Errors
    ///
    /// The stream itself, if it is to be answered.
    pub fn into_recv(self) -> Result<RecvStream, Box<Self>> {
        if self.opened.unidirectional {
            Ok(self.split().0)
        } else {
            Err(Box::new(self))
        }
    }

    /// Refuses the stream with REFUSED_STREAM, as dropping it does: the peer may safely try again.
    pub fn refuse(self) {
        self.reply.refuse();
    }

    /// Resets the stream with `status`.
    pub fn reset(self, status: RstStatus) {
        self.reply.reset(status);
    }

    /// The two directions apart, to be answered later. From now on the peer is not told that nothing was done: a
    /// [`SendReply`] that is dropped resets the stream with CANCEL, unless it cannot be answered anyway.
    #[must_use]
    pub fn split(self) -> (RecvStream, SendReply) {
        let (_, recv, reply) = self.into_parts();
        (recv, reply)
    }

    /// As [`split`](Self::split), with the header block.
    #[must_use]
    pub fn into_parts(self) -> (HeaderBlock, RecvStream, SendReply) {
        let on_drop = (!self.opened.unidirectional).then_some(RstStatus::CANCEL);
        (self.opened.headers, self.recv, self.reply.taken(on_drop))
    }
}
