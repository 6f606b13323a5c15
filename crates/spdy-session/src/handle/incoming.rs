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
    shared::{
        backlog::Waiting,
        stream_cell::{Hub, StreamCell},
    },
};

/// Accepts the streams that the peer opens, in the order of their ids.
///
/// Streams that are not accepted wait, up to [`Limits::max_backlog`](crate::Limits::max_backlog).
/// More are refused. When this handle is dropped, the streams that wait are refused, and all that
/// come later.
#[derive(Debug)]
pub struct Incoming {
    hub: Arc<Hub>,
}

impl Incoming {
    /// The only handle of its kind of a session.
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// Waits for the next stream. Returns `None` when the session has ended.
    ///
    /// Cancel safe.
    pub async fn accept(&mut self) -> Option<PendingStream> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// As [`accept`](Self::accept), for implementations of `Future`. The task of the latest call is
    /// woken.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<PendingStream>> {
        let accepted = self.hub.poll_accept(cx);
        accepted.map(|stream| stream.map(PendingStream::new))
    }

    /// Takes the next stream if it is there already. No task is woken when a stream comes: this is
    /// for the work that [`Driver::poll_around`](crate::Driver::poll_around) calls again anyway.
    ///
    /// # Errors
    ///
    /// [`TryAcceptError::Empty`] if no stream waits at present, and [`TryAcceptError::Closed`] once
    /// the session has ended.
    pub fn try_accept(&mut self) -> Result<PendingStream, TryAcceptError> {
        match self.hub.accept() {
            Ok(stream) => Ok(PendingStream::new(stream)),
            Err(None) => Err(TryAcceptError::Empty),
            Err(Some(_)) => Err(TryAcceptError::Closed),
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
        let mut waiting = self.hub.incoming_dropped();
        while let Some(Waiting { cell, .. }) = waiting.pop_front() {
            cell.abandon(RstStatus::REFUSED_STREAM);
        }
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
/// Dropped, it is refused: RST_STREAM with REFUSED_STREAM, which tells the peer that nothing was
/// done and that it can safely try again.
#[derive(Debug)]
pub struct PendingStream {
    opened: Opened,
    halves: Halves,
}

/// Both halves of a stream, until each has a handle of its own.
#[derive(Debug)]
struct Halves {
    cell: Arc<StreamCell>,
    is_accepted: bool,
}

impl Halves {
    fn accept(mut self) -> Arc<StreamCell> {
        self.is_accepted = true;
        Arc::clone(&self.cell)
    }
}

impl Drop for Halves {
    fn drop(&mut self) {
        if !self.is_accepted {
            self.cell.abandon(RstStatus::REFUSED_STREAM);
        }
    }
}

impl PendingStream {
    fn new(stream: Waiting<StreamCell>) -> Self {
        Self {
            opened: stream.opened,
            halves: Halves {
                cell: stream.cell,
                is_accepted: false,
            },
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

    /// The priority that the peer has given the stream. The session obeys it without being asked.
    #[must_use]
    pub const fn priority(&self) -> Priority {
        self.opened.priority
    }

    /// The stream that this one belongs to. Pushes have one.
    #[must_use]
    pub const fn associated(&self) -> Option<StreamId> {
        self.opened.associated
    }

    /// Whether the stream cannot be answered.
    #[must_use]
    pub const fn is_unidirectional(&self) -> bool {
        self.opened.unidirectional
    }

    /// Whether more can follow the header block: FIN has not come with it.
    #[must_use]
    pub const fn has_body(&self) -> bool {
        !self.opened.fin
    }

    /// Answers with SYN_REPLY. Does not wait.
    ///
    /// # Errors
    ///
    /// How the stream has ended meanwhile. [`StreamError::Finished`] if it is unidirectional. The
    /// stream is dropped then.
    pub fn send_reply(self, headers: HeaderBlock) -> Result<Stream, StreamError> {
        let (recv, reply) = self.split();
        Ok(Stream::new(recv, reply.send_reply(headers, false)?))
    }

    /// Takes a unidirectional stream, which needs no answer.
    ///
    /// # Errors
    ///
    /// The stream itself, if it has to be answered.
    pub fn into_recv(self) -> Result<RecvStream, Box<Self>> {
        if self.opened.unidirectional {
            Ok(self.split().0)
        } else {
            Err(Box::new(self))
        }
    }

    /// Refuses the stream with REFUSED_STREAM, as dropping it does: the peer can safely try again.
    pub fn refuse(self) {
        self.reset(RstStatus::REFUSED_STREAM);
    }

    /// Resets the stream with `status`.
    pub fn reset(self, status: RstStatus) {
        // The first order to reset a stream counts, so this comes before the one of `Drop`.
        self.halves.cell.reset(status);
    }

    /// Returns the two directions, to be answered later. From now on the peer is not told that
    /// nothing was done: a [`SendReply`] that is dropped resets the stream with CANCEL, unless the
    /// stream cannot be answered anyway.
    #[must_use]
    pub fn split(self) -> (RecvStream, SendReply) {
        let (_, recv, reply) = self.into_parts();
        (recv, reply)
    }

    /// As [`split`](Self::split), with the header block.
    #[must_use]
    pub fn into_parts(self) -> (HeaderBlock, RecvStream, SendReply) {
        let Self { opened, halves } = self;
        let cell = halves.accept();
        let recv = RecvStream::new(Arc::clone(&cell), opened.fin);
        let on_drop = (!opened.unidirectional).then_some(RstStatus::CANCEL);
        (opened.headers, recv, SendReply::new(cell, on_drop))
    }
}
