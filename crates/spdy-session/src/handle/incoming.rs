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
/// Further ones are refused. Dropping this handle refuses the waiting streams and all later ones.
#[derive(Debug)]
pub struct Incoming {
    hub: Arc<Hub>,
}

impl Incoming {
    /// A session has only one handle of this type.
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// Waits for the next stream. Returns `None` when the session has ended.
    ///
    /// Cancel safe.
    pub async fn accept(&mut self) -> Option<PendingStream> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The same as [`accept`](Self::accept), for implementations of `Future`. Wakes the task of the
    /// latest call.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<PendingStream>> {
        let accepted = self.hub.poll_accept(cx);
        accepted.map(|stream| stream.map(PendingStream::new))
    }

    /// Takes the next stream if one waits. No task is woken when a stream arrives, so use this in
    /// the work that [`Driver::poll_around`](crate::Driver::poll_around) calls in each turn.
    ///
    /// # Errors
    ///
    /// [`TryAcceptError::Empty`] if no stream waits now, and [`TryAcceptError::Closed`] once the
    /// session has ended.
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
    /// No stream waits now. One might still arrive.
    Empty,
    /// The session has ended, so no stream will arrive.
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

/// A stream that the peer has opened, without a reply so far.
///
/// Dropping it refuses it: RST_STREAM with REFUSED_STREAM tells the peer that nothing was done and
/// that a retry is safe.
#[derive(Debug)]
pub struct PendingStream {
    opened: Opened,
    halves: Halves,
}

/// Both halves of a stream, until each has its own handle.
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

    /// Returns the id of the stream.
    #[must_use]
    pub const fn id(&self) -> StreamId {
        self.opened.id
    }

    /// Returns the header block of its SYN_STREAM.
    #[must_use]
    pub const fn headers(&self) -> &HeaderBlock {
        &self.opened.headers
    }

    /// Returns the priority that the peer gave the stream. The session obeys it without the
    /// application.
    #[must_use]
    pub const fn priority(&self) -> Priority {
        self.opened.priority
    }

    /// Returns the stream that this one belongs to. Every push has one.
    #[must_use]
    pub const fn associated(&self) -> Option<StreamId> {
        self.opened.associated
    }

    /// Returns whether the peer accepts no reply.
    #[must_use]
    pub const fn is_unidirectional(&self) -> bool {
        self.opened.unidirectional
    }

    /// Returns whether more can follow the header block: SYN_STREAM had no FIN.
    #[must_use]
    pub const fn has_body(&self) -> bool {
        !self.opened.fin
    }

    /// Sends SYN_REPLY, and returns the stream. Does not wait.
    ///
    /// # Errors
    ///
    /// Returns how the stream has ended meanwhile, or [`StreamError::Finished`] if it is
    /// unidirectional. Then the stream is dropped.
    pub fn send_reply(self, headers: HeaderBlock) -> Result<Stream, StreamError> {
        let (recv, reply) = self.split();
        Ok(Stream::new(recv, reply.send_reply(headers, false)?))
    }

    /// Accepts a unidirectional stream, which needs no reply.
    ///
    /// # Errors
    ///
    /// Returns the stream itself if it needs a reply.
    pub fn into_recv(self) -> Result<RecvStream, Box<Self>> {
        if self.opened.unidirectional {
            Ok(self.split().0)
        } else {
            Err(Box::new(self))
        }
    }

    /// Refuses the stream with REFUSED_STREAM, as dropping it does. A retry by the peer is safe.
    pub fn refuse(self) {
        self.reset(RstStatus::REFUSED_STREAM);
    }

    /// Resets the stream with `status`.
    pub fn reset(self, status: RstStatus) {
        // The first order to reset a stream counts, so this one precedes that of `Drop`.
        self.halves.cell.reset(status);
    }

    /// Splits the stream into its two directions, without a reply so far. After this the peer no
    /// longer learns that nothing was done: dropping the [`SendReply`] resets the stream with
    /// CANCEL, unless the peer accepts no reply anyway.
    #[must_use]
    pub fn split(self) -> (RecvStream, SendReply) {
        let (_, recv, reply) = self.into_parts();
        (recv, reply)
    }

    /// The same as [`split`](Self::split), with the header block.
    #[must_use]
    pub fn into_parts(self) -> (HeaderBlock, RecvStream, SendReply) {
        let Self { opened, halves } = self;
        let cell = halves.accept();
        let recv = RecvStream::new(Arc::clone(&cell), opened.fin);
        let on_drop = (!opened.unidirectional).then_some(RstStatus::CANCEL);
        (opened.headers, recv, SendReply::new(cell, on_drop))
    }
}
