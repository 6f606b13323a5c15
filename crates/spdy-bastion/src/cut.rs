//! The connection of a client, which is cut when its session has to end and has no other way to,
//! and which ends when the client takes nothing for too long.

use std::{
    future::pending,
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
    time::{Sleep, sleep},
};

/// Cuts a connection. Clones cut the same one.
#[derive(Clone, Debug)]
pub(crate) struct Cut(watch::Sender<bool>);

impl Cut {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Cuts the connection now.
    pub(crate) fn cut(&self) {
        self.0.send_replace(true);
    }

    /// Returns the connection that this cuts. It also ends when its client takes none of the bytes
    /// that wait for it for as long as `limit`.
    pub(crate) fn connection<IO>(&self, io: IO, limit: Duration) -> Connection<IO> {
        let mut cut = self.0.subscribe();
        let over = async move {
            if cut.wait_for(|is_cut| *is_cut).await.is_err() {
                // Every `Cut` is gone.
                pending::<()>().await;
            }
        };
        Connection {
            io,
            over: Some(Box::pin(over)),
            limit,
            unread: None,
            flushed: watch::Sender::new(true),
        }
    }
}

/// A connection that fails as soon as it is cut.
///
/// It notices that when it is read or written, and wakes the task that has done so last. One task
/// owns a connection.
pub(crate) struct Connection<IO> {
    io: IO,
    /// Ready when the connection is cut, and then `None`.
    over: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// How long the client may take nothing.
    limit: Duration,
    /// The end of that time, while the client takes nothing.
    unread: Option<Pin<Box<Sleep>>>,
    /// Whether nothing was written since the last flush.
    flushed: watch::Sender<bool>,
}

impl<IO> Connection<IO> {
    /// Returns whether all that was written has been passed on. TLS takes bytes, up to 80 KiB, that
    /// the socket has no room for.
    pub(crate) fn flushed(&self) -> watch::Receiver<bool> {
        self.flushed.subscribe()
    }

    fn set_flushed(&self, is_flushed: bool) {
        self.flushed
            .send_if_modified(|now| mem::replace(now, is_flushed) != is_flushed);
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(over) = &mut self.over {
            if over.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            self.over = None;
        }
        Err(io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "session was ended",
        ))
    }

    /// Returns what a write has returned, or an error if the client has taken nothing for too long.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.unread = None;
            return written;
        }
        let limit = self.limit;
        let end = self.unread.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(end.as_mut().poll(cx));
        let message = format!("client has read nothing for {} s", limit.as_secs());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Connection<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Connection<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        self.set_flushed(false);
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        self.set_flushed(false);
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let written = Pin::new(&mut self.io).poll_flush(cx);
        self.set_flushed(matches!(written, Poll::Ready(Ok(()))));
        self.watch(cx, written)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let written = Pin::new(&mut self.io).poll_shutdown(cx);
        self.watch(cx, written)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        task::yield_now,
        time::timeout,
    };

    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    const ABORTED: io::ErrorKind = io::ErrorKind::ConnectionAborted;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_waits_is_woken() {
        let (ours, mut theirs) = duplex(64);
        let cut = Cut::new();
        let mut connection = cut.connection(ours, SOON);
        theirs.write_all(b"a").await.unwrap();
        assert_eq!(connection.read_u8().await.unwrap(), b'a');
        let reading = tokio::spawn(async move {
            let first = connection.read_u8().await.unwrap_err();
            (first.kind(), connection.read_u8().await.unwrap_err().kind())
        });
        yield_now().await;
        cut.clone().cut();
        assert_eq!(
            timeout(SOON, reading).await.unwrap().unwrap(),
            (ABORTED, ABORTED)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_that_waits_is_woken() {
        let (ours, _theirs) = duplex(1);
        let cut = Cut::new();
        let mut connection = cut.connection(ours, SOON);
        let writing = tokio::spawn(async move {
            let written = connection.write_all(b"ab").await.unwrap_err();
            (written.kind(), connection.flush().await.unwrap_err().kind())
        });
        yield_now().await;
        cut.cut();
        assert_eq!(
            timeout(SOON, writing).await.unwrap().unwrap(),
            (ABORTED, ABORTED)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_for_the_whole_time_is_cut() {
        let second = Duration::from_secs(1);
        let (ours, mut theirs) = duplex(10);
        let mut connection = Cut::new().connection(ours, 10 * second);
        let writing = tokio::spawn(async move { connection.write_all(&[0; 100]).await });
        for _ in 0..5 {
            sleep(9 * second).await;
            theirs.read_exact(&mut [0; 10]).await.unwrap();
        }
        let begin = tokio::time::Instant::now();
        let written = timeout(SOON, writing).await.expect("it ends");
        assert_eq!(
            written.unwrap().unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        assert_eq!(begin.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_nobody_can_cut_goes_on() {
        let (ours, mut theirs) = duplex(64);
        let mut connection = Cut::new().connection(ours, SOON);
        theirs.write_all(b"a").await.unwrap();
        assert_eq!(connection.read_u8().await.unwrap(), b'a');
    }
}
