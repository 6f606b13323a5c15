//! A transport that is cut when its session has to end.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A transport that fails as soon as a future is ready. The future returns the reason.
///
/// It is polled when the transport is read, which the owner of a session always does.
pub(crate) struct Severed<IO> {
    io: IO,
    over: Option<Pin<Box<dyn Future<Output = String> + Send>>>,
}

impl<IO> Severed<IO> {
    pub(crate) fn new(io: IO, over: impl Future<Output = String> + Send + 'static) -> Self {
        Self {
            io,
            over: Some(Box::pin(over)),
        }
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(over) = &mut self.over {
            let Poll::Ready(why) = over.as_mut().poll(cx) else {
                return Ok(());
            };
            tracing::debug!(why, "connection to the API server is cut");
            self.over = None;
        }
        Err(io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "session was ended",
        ))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Severed<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Severed<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        sync::oneshot,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_waits_is_woken() {
        let (ours, mut theirs) = duplex(64);
        let (order, over) = oneshot::channel();
        let mut severed = Severed::new(ours, async { over.await.unwrap() });
        theirs.write_all(b"a").await.unwrap();
        assert_eq!(severed.read_u8().await.unwrap(), b'a');
        let reading = tokio::spawn(async move {
            let first = severed.read_u8().await.unwrap_err();
            (first.kind(), severed.read_u8().await.unwrap_err().kind())
        });
        tokio::task::yield_now().await;
        order.send("over".to_owned()).unwrap();
        let aborted = io::ErrorKind::ConnectionAborted;
        assert_eq!(reading.await.unwrap(), (aborted, aborted));
    }
}
