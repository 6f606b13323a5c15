//! A transport that is read in short pieces.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::pass::pass;

/// A transport whose reads return at most 4 KiB.
///
/// hyper reads ahead for each response that a client does not read, and its buffers grow from 8 to
/// 400 KiB while reads fill them. No read of this transport fills a buffer. (hyper's maximum buffer
/// size also limits the head of a response, so it cannot be lower.)
#[derive(Debug)]
pub(super) struct Sips<IO>(pub(super) IO);

impl<IO: AsyncRead + Unpin> AsyncRead for Sips<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() <= SIP {
            return Pin::new(&mut self.0).poll_read(cx, buffer);
        }
        let mut sip = ReadBuf::new(buffer.initialize_unfilled_to(SIP));
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut sip))?;
        let read = sip.filled().len();
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Sips<IO> {
    pass!(poll_write, poll_write_vectored, is_write_vectored, poll_flush, poll_shutdown => 0);
}

/// The maximum number of bytes of one read. It is half of hyper's smallest buffer, so that a copy
/// of what was read takes half the memory of the buffer.
const SIP: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_read_takes_no_more_than_a_sip_and_loses_nothing() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|byte| byte as u8).collect();
        let mut sips = Sips(&bytes[..]);
        let mut all = Vec::new();
        for room in [200_000, 100, SIP, SIP + 1].into_iter().cycle() {
            let mut buffer = BytesMut::with_capacity(room);
            let read = sips.read_buf(&mut buffer).await.unwrap();
            assert!(read <= room.min(SIP));
            all.extend_from_slice(&buffer);
            if read == 0 {
                break;
            }
        }
        assert_eq!(all, bytes);
    }
}
