//! A stream of bytes that is cut into messages at any place.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::{Error, Message};

/// The bytes in the binary messages of a WebSocket, as a transport. Each write is a message.
/// Shutting down the writing side closes the WebSocket.
pub(crate) struct Tunnel<S> {
    messages: S,
    /// The rest of the message that is being read.
    current: Bytes,
}

impl<S> Tunnel<S> {
    pub(crate) fn new(messages: S) -> Self {
        Self {
            messages,
            current: Bytes::new(),
        }
    }
}

impl<S> AsyncRead for Tunnel<S>
where
    S: Stream<Item = Result<Message, Error>> + Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            match ready!(Pin::new(&mut self.messages).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.current = bytes,
                // Dropping it would leave a gap that the session could not notice.
                Some(Ok(Message::Text(text))) => self.current = text.into(),
                // The library answers PINGs.
                Some(Ok(_)) => {}
                Some(Err(Error::ConnectionClosed)) | None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let bytes = buffer.remaining().min(self.current.len());
        buffer.put_slice(&self.current[..bytes]);
        self.current.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl<S> AsyncWrite for Tunnel<S>
where
    S: Sink<Message, Error = Error> + Unpin,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    /// Writes all slices as one message, so that a frame's head and payload stay together.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        if length == 0 {
            return Poll::Ready(Ok(0));
        }
        let mut messages = Pin::new(&mut self.messages);
        ready!(messages.as_mut().poll_ready(cx)).map_err(io::Error::other)?;
        let mut message = BytesMut::with_capacity(length.min(MAX_WRITE));
        for slice in slices {
            let room = MAX_WRITE - message.len();
            message.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let written = message.len();
        let message = Message::Binary(message.freeze());
        messages.start_send(message).map_err(io::Error::other)?;
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.messages).poll_flush(cx);
        flushed.map_err(io::Error::other)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.messages).poll_close(cx);
        closed.map_err(io::Error::other)
    }
}

/// The longest message of this side, in bytes.
const MAX_WRITE: usize = 64 * 1024;
