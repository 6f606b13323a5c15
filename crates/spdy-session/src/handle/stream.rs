//! A stream with both of its halves.

use std::sync::Arc;

use spdy_frame::{HeaderBlock, RstStatus, StreamId};

use super::{recv_stream::RecvStream, send_stream::SendStream};
use crate::{StreamError, shared::stream_cell::StreamCell};

/// A stream that is open in both directions. It is [`AsyncRead`](tokio::io::AsyncRead) and
/// [`AsyncWrite`](tokio::io::AsyncWrite).
///
/// Reading ends with 0 bytes only after the peer's FIN. Any other end of the stream is an error,
/// which is returned after everything that arrived before it. Writing takes as many bytes as the
/// send queue has room for ([`Limits::stream_send_queue`](crate::Limits::stream_send_queue)).
/// `shutdown` sends FIN and waits until it is written to the transport.
///
/// Dropping it before it is finished resets the stream with CANCEL.
#[derive(Debug)]
pub struct Stream {
    // Both halves together reset the stream with CANCEL, in whichever order they are dropped.
    pub(super) recv: RecvStream,
    pub(super) send: SendStream,
}

impl Stream {
    pub(super) fn new(recv: RecvStream, send: SendStream) -> Self {
        Self { recv, send }
    }

    /// Returns the handles of a stream that this side has opened.
    pub(super) fn opened(cell: Arc<StreamCell>) -> Self {
        Self {
            send: SendStream::new(Arc::clone(&cell)),
            recv: RecvStream::new(cell, false),
        }
    }

    /// Returns the id of the stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.send.id()
    }

    /// Waits for the peer's SYN_REPLY, and returns its header block. Only the first call returns
    /// it.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// Returns how the stream has ended before that. Returns [`StreamError::Finished`] if there is
    /// nothing to wait for: the header block was returned already, the peer opened the stream, or
    /// the peer cannot send on it.
    pub async fn response_headers(&mut self) -> Result<HeaderBlock, StreamError> {
        self.recv.response_headers().await
    }

    /// Waits for the next HEADERS of the peer, including trailers, as [`RecvStream::next_headers`]
    /// does.
    ///
    /// # Errors
    ///
    /// Returns how the stream has ended, unless it ended in order.
    pub async fn next_headers(&mut self) -> Result<Option<HeaderBlock>, StreamError> {
        self.recv.next_headers().await
    }

    /// The same as [`SendStream::send_headers`].
    ///
    /// # Errors
    ///
    /// The same as [`SendStream::send_headers`].
    pub fn send_headers(&mut self, headers: HeaderBlock, fin: bool) -> Result<(), StreamError> {
        self.send.send_headers(headers, fin)
    }

    /// Resets the stream in both directions. Bytes that are queued on it are dropped.
    pub fn reset(self, status: RstStatus) {
        self.send.reset(status);
    }

    /// The same as [`SendStream::closed`].
    pub async fn closed(&mut self) -> StreamError {
        self.send.closed().await
    }

    /// Splits the stream into its two directions, which separate tasks can use.
    #[must_use]
    pub fn split(self) -> (RecvStream, SendStream) {
        (self.recv, self.send)
    }
}
