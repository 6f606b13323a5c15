//! The transport of an HTTP/1.1 connection of hyper, for servers and clients.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A transport that wakes its task after each flush that had to wait.
///
/// As long as bytes of one message wait to be written, hyper 1.12 does not poll what has the next
/// one: the service that answers a pipelined request, or the next request of a client. When the
/// bytes are written it polls neither, and returns although nothing will wake the task. This
/// happens only on transports with vectored writes, which all sockets are.
#[derive(Debug)]
pub struct Http1Io<IO> {
    io: IO,
    /// Whether a write has waited since the last flush.
    has_waited: bool,
}

impl<IO> Http1Io<IO> {
    /// Wraps a transport.
    pub const fn new(io: IO) -> Self {
        Self {
            io,
            has_waited: false,
        }
    }

    /// Returns the transport.
    pub const fn get_ref(&self) -> &IO {
        &self.io
    }

    fn watch<T>(&mut self, outcome: Poll<T>) -> Poll<T> {
        self.has_waited |= outcome.is_pending();
        outcome
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Http1Io<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Http1Io<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.watch(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(cx, pieces);
        self.watch(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_flush(cx);
        let outcome = self.watch(outcome);
        if outcome.is_ready() && std::mem::take(&mut self.has_waited) {
            cx.waker().wake_by_ref();
        }
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn the_task_is_woken_once_after_a_flush_that_had_to_wait() {
        let (near, mut far) = duplex(4);
        let mut io = pin!(Http1Io::new(near));
        let woken = Arc::new(Woken::default());
        let waker = Arc::clone(&woken).into();
        let cx = &mut Context::from_waker(&waker);
        let write = |cx: &mut _, io: &mut Pin<&mut Http1Io<_>>| {
            let taken = io.as_mut().poll_write(cx, &[1; 4]);
            taken.map(Result::unwrap)
        };
        assert!(write(cx, &mut io).is_ready());
        assert!(io.as_mut().poll_flush(cx).is_ready());
        assert_eq!(woken.0.load(Ordering::Relaxed), 0, "nothing has waited");

        assert!(write(cx, &mut io).is_pending());
        far.read_exact(&mut [0; 4]).await.unwrap();
        let by_transport = woken.0.load(Ordering::Relaxed);
        assert!(write(cx, &mut io).is_ready());
        for _ in 0..2 {
            assert!(io.as_mut().poll_flush(cx).is_ready());
            assert_eq!(woken.0.load(Ordering::Relaxed), by_transport + 1);
        }
    }
}
