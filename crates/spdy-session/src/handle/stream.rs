//! A stream with both of its halves.

use std::sync::Arc;

use spdy_frame::{HeaderBlock, RstStatus, StreamId};

use super::{recv_stream::RecvStream, send_stream::SendStream};
use crate::{StreamError, shared::stream_cell::StreamCell};

/// A stream, open both ways. It is [`AsyncRead`](tokio::io::AsyncRead) and
/// [`AsyncWrite`](tokio::io::AsyncWrite).
///
/// Reading ends with 0 bytes only after the FIN of the peer. Any other end of the stream is an
/// error, after everything that came before it has been read. Writing takes bytes as the send queue
/// has room ([`Limits::stream_send_queue`](crate::Limits::stream_send_queue)). `shutdown` sends FIN
/// and waits until it is written to the transport.
///
/// Dropped before it is finished, the stream is reset with CANCEL.
#[derive(Debug)]
pub struct Stream {
    // Dropped in either order, both halves together reset the stream with CANCEL.
    pub(super) recv: RecvStream,
    pub(super) send: SendStream,
}

impl Stream {
    pub(super) fn new(recv: RecvStream, send: SendStream) -> Self {
        Self { recv, send }
    }

    /// The handles of a stream that this side has opened.
    pub(super) fn opened(cell: Arc<StreamCell>) -> Self {
        Self {
            send: SendStream::new(Arc::clone(&cell)),
            recv: RecvStream::new(cell, false),
        }
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.send.id()
    }

    /// Waits for the SYN_REPLY of the peer and returns its header block, once.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// How the stream has ended before that. [`StreamError::Finished`] if there is nothing to wait
    /// for: the header block was returned already, the peer opened the stream, or the peer cannot
    /// send on it.
    pub async fn response_headers(&mut self) -> Result<HeaderBlock, StreamError> {
        self.recv.response_headers().await
    }

    /// As [`RecvStream::next_headers`]: waits for the next HEADERS of the peer, trailers among
    /// them.
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

    /// Returns the two directions, each for a task of its own.
    #[must_use]
    pub fn split(self) -> (RecvStream, SendStream) {
        (self.recv, self.send)
    }
}
