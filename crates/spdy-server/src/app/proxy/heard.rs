//! A transport to the application that counts the bytes it receives, and fails when a write is
//! stalled.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::{Sleep, sleep},
};

/// The number of bytes that an application has sent on a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Words>);

#[derive(Debug, Default)]
struct Words {
    bytes: AtomicU64,
    begun: Notify,
}

impl Heard {
    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Waits until the reader of the connection has handled the first bytes, which are the SETTINGS
    /// in HTTP/2. Completes once.
    pub(super) async fn begun(&self) {
        self.0.begun.notified().await;
    }
}

/// A transport that counts the bytes read. Its writes fail once the application has taken no byte
/// for some time. Otherwise requests that were given up would keep the connection to an application
/// that has vanished.
#[derive(Debug)]
pub(super) struct Listening<IO> {
    io: IO,
    heard: Heard,
    /// Whether the reader has handled the first bytes, which its next read shows.
    has_begun: bool,
    patience: Duration,
    /// Rings when a write has waited for too long. `None` while the transport takes bytes.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<IO> Listening<IO> {
    pub(super) fn new(io: IO, patience: Duration) -> (Self, Heard) {
        let heard = Heard::default();
        let listening = Self {
            io,
            heard: heard.clone(),
            has_begun: false,
            patience,
            stalled: None,
        };
        (listening, heard)
    }

    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let patience = self.patience;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Listening<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.io).poll_read(cx, buf);
        let bytes = (buf.filled().len() - before) as u64;
        let so_far = self.heard.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        if so_far > 0 && !self.has_begun {
            self.has_begun = true;
            self.heard.0.begun.notify_one();
        }
        outcome
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Listening<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(cx, buf);
        self.watch(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watch(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_flush(cx);
        self.watch(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_shutdown(cx);
        self.watch(cx, outcome)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::Instant,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_application_that_takes_nothing_is_not_written_to_for_ever() {
        let patience = Duration::from_secs(60);
        let (near, mut far) = duplex(1);
        let (mut near, _) = Listening::new(near, patience);
        let begun = Instant::now();
        let taking = tokio::spawn(async move {
            // The time restarts with each byte that is taken.
            for _ in 0..3 {
                sleep(patience / 2).await;
                far.read_u8().await.unwrap();
            }
            far
        });
        let error = near.write_all(&[0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), 3 * patience / 2 + patience);
        drop(taking.await);
    }
}
