//! Keeps a write to OpenSSL unchanged until OpenSSL has taken it.
//!
//! After *pending*, a caller of [`AsyncWrite`] can continue with other bytes, or with the same
//! bytes at another address, because nothing was taken. `SSL_write` is different: it encrypts a
//! record before it finds that the socket is full, and must be called with the same bytes again
//! until that record is sent; see the warnings of
//! [SSL_write(3)](https://docs.openssl.org/3.0/man3/SSL_write/). HTTP/1.1 moves its buffer, and a
//! SPDY session takes DATA back when its stream is reset. So this transport copies the bytes of one
//! record to a buffer that does not change, and reports them as written.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_openssl::SslStream;

use crate::{pass::pass, socket::Fails};

/// A transport that repeats a pending write with the same bytes.
#[derive(Debug)]
pub(crate) struct Records<IO> {
    io: IO,
    /// The bytes of one record. Empty, and without memory, unless the transport was full.
    record: Vec<u8>,
    /// The number of these bytes that the transport has taken.
    taken: usize,
}

impl<IO> Records<IO> {
    pub(super) const fn new(io: IO) -> Self {
        Self {
            io,
            record: Vec::new(),
            taken: 0,
        }
    }
}

impl<IO: Fails> Fails for Records<SslStream<IO>> {
    pass!(Fails => io.get_ref());
}

impl<IO: AsyncWrite + Unpin> Records<IO> {
    /// Writes the rest of the record. After *pending*, the same slice is written again.
    fn poll_record(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken < self.record.len() {
            let rest = &self.record[self.taken..];
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => self.taken += taken,
            }
        }
        self.record = Vec::new();
        self.taken = 0;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Records<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_record(cx))?;
        let length = slices.iter().map(|slice| slice.len()).sum::<usize>();
        self.record.reserve_exact(length.min(RECORD));
        for slice in slices {
            let room = RECORD - self.record.len();
            self.record
                .extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let written = self.record.len();
        // The record is kept and counts as written, even if the transport is full: `poll_flush` and
        // the next write wait for it.
        match self.poll_record(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(written)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_record(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_record(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Records<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

/// The maximum size of a TLS record. OpenSSL takes all of it or nothing.
const RECORD: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;

    use super::*;

    /// A transport like `SSL_write`: after *pending* it takes the bytes of the first call, whatever
    /// the next call passes.
    #[derive(Default)]
    struct Strict {
        room: usize,
        begun: Option<Vec<u8>>,
        out: Vec<u8>,
    }

    impl AsyncWrite for Strict {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if let Some(begun) = &self.begun {
                assert!(bytes.starts_with(begun), "bad write retry");
            }
            if self.room == 0 {
                self.begun = Some(bytes.to_vec());
                return Poll::Pending;
            }
            self.room -= 1;
            self.begun = None;
            self.out.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_write_that_was_begun_is_repeated_although_the_caller_has_changed_its_mind() {
        let mut io = Records::new(Strict::default());
        assert_eq!(io.write(b"taken and kept").await.unwrap(), 14);
        let waiting =
            poll_fn(|cx| Poll::Ready(Pin::new(&mut io).poll_write(cx, b"withdrawn"))).await;
        assert!(waiting.is_pending());
        io.io.room = 2;
        io.write_all(b", then another").await.unwrap();
        io.flush().await.unwrap();
        assert_eq!(io.io.out, b"taken and kept, then another");
        assert_eq!(io.record.capacity(), 0);
    }

    #[tokio::test]
    async fn slices_become_one_record_of_no_more_than_its_size() {
        let mut io = Records::new(Strict {
            room: 1,
            ..Strict::default()
        });
        let slices = [IoSlice::new(&[1; 10]), IoSlice::new(&[2; RECORD])];
        let written = io.write_vectored(&slices).await.unwrap();
        assert_eq!(written, RECORD);
        assert_eq!(io.io.out, [&[1; 10][..], &[2; RECORD - 10]].concat());
    }

    #[tokio::test]
    async fn flush_and_shutdown_wait_for_the_record() {
        let mut io = Records::new(Strict::default());
        _ = io.write(b"all of it").await.unwrap();
        for shutdown in [false, true] {
            let waits = poll_fn(|cx| {
                let io = Pin::new(&mut io);
                Poll::Ready(match shutdown {
                    false => io.poll_flush(cx).is_pending(),
                    true => io.poll_shutdown(cx).is_pending(),
                })
            });
            assert!(waits.await);
        }
        io.io.room = 1;
        io.shutdown().await.unwrap();
        assert_eq!(io.io.out, b"all of it");
    }
}
