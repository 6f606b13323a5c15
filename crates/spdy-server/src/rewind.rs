//! A transport whose first bytes were already read and are read once more.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{pass::pass, socket::Fails};

/// A transport that yields some bytes again before it continues to read.
///
/// Once these bytes are read, reads pass through unchanged. Writes always do.
pub(crate) struct Rewind<IO, O = [u8; 14]> {
    io: IO,
    bytes: O,
    /// The bytes `start..end` are still to be read.
    start: usize,
    end: usize,
}

/// The bytes might be the beginning of a request, so `Debug` does not show them.
impl<IO, O> fmt::Debug for Rewind<IO, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rewind")
            .field("unread", &(self.end - self.start))
            .finish_non_exhaustive()
    }
}

impl<IO, O: AsRef<[u8]>> Rewind<IO, O> {
    /// Puts the first `len` of `bytes` before what `io` yields. `bytes` has at least that length.
    pub(crate) fn new(io: IO, bytes: O, len: usize) -> Self {
        debug_assert!(len <= bytes.as_ref().len(), "more bytes than there are");
        Self {
            io,
            bytes,
            start: 0,
            end: len,
        }
    }
}

impl<IO: Fails, O> Fails for Rewind<IO, O> {
    pass!(Fails => io);
}

impl<IO: AsyncRead + Unpin, O: AsRef<[u8]> + Default + Unpin> AsyncRead for Rewind<IO, O> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.start == self.end {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let len = buf.remaining().min(self.end - self.start);
        buf.put_slice(&self.bytes.as_ref()[self.start..self.start + len]);
        self.start += len;
        if self.start == self.end {
            // If the bytes have their own memory, it is freed.
            (self.bytes, self.start, self.end) = (O::default(), 0, 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin, O: Unpin> AsyncWrite for Rewind<IO, O> {
    pass!(poll_write, poll_write_vectored, is_write_vectored, poll_flush, poll_shutdown => io);
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn bytes_come_again_in_pieces_of_any_size_and_only_once() {
        for piece in 1..8 {
            let mut io = Rewind::new(&b"defgh"[..], *b"abc-", 3);
            let mut seen = Vec::new();
            let mut buf = vec![0; piece];
            loop {
                match io.read(&mut buf).await.unwrap() {
                    0 => break,
                    len => seen.extend_from_slice(&buf[..len]),
                }
            }
            assert_eq!(seen, b"abcdefgh", "in pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn vectored_writes_reach_the_transport_as_they_are() {
        let (ours, mut theirs) = duplex(64);
        let mut io = Rewind::new(ours, [0; 4], 0);
        assert!(io.is_write_vectored());
        let written = io
            .write_vectored(&[IoSlice::new(b"head"), IoSlice::new(b"payload")])
            .await
            .unwrap();
        assert_eq!(written, 11);
        let mut seen = [0; 11];
        theirs.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"headpayload");
    }
}
