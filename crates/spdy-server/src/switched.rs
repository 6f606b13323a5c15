//! An HTTP/1.1 connection that has switched to another protocol, such as WebSocket.
//!
//! hyper gives the transport to the handler of the request, and its own connection is over. The
//! task of the connection waits for the end of the transport nevertheless. So the connection keeps
//! its place among [`Config::max_connections`](crate::Config::max_connections), a shutdown waits
//! for it, and at the end of that time its transport fails.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{linger::Owed, pass::pass};

/// What the transport and the task of such a connection tell each other.
#[derive(Debug, Default)]
pub(crate) struct Switched(Mutex<Ends>);

#[derive(Debug, Default)]
struct Ends {
    /// Whether the transport was dropped.
    is_over: bool,
    /// Whether the transport has to fail.
    is_cut: bool,
    task: Option<Waker>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Switched {
    /// Completes when the handler has dropped the transport.
    pub(crate) fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        let mut ends = self.lock();
        if ends.is_over {
            return Poll::Ready(());
        }
        ends.task = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Completes when the transport has to fail.
    fn poll_cut(
        &self,
        cx: &Context<'_>,
        waker: impl Fn(&mut Ends) -> &mut Option<Waker>,
    ) -> Poll<()> {
        let mut ends = self.lock();
        if ends.is_cut {
            return Poll::Ready(());
        }
        *waker(&mut ends) = Some(cx.waker().clone());
        Poll::Pending
    }

    fn over(&self) {
        let mut ends = self.lock();
        ends.is_over = true;
        let task = ends.task.take();
        drop(ends);
        task.into_iter().for_each(Waker::wake);
    }

    fn cut(&self) {
        let mut ends = self.lock();
        ends.is_cut = true;
        let wakers = [ends.reader.take(), ends.writer.take()];
        drop(ends);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The side of the task. When it is dropped, the transport fails.
#[derive(Debug)]
pub(crate) struct Leash(pub(crate) Owed);

impl Drop for Leash {
    fn drop(&mut self) {
        if let Some(switched) = self.0.switched() {
            switched.cut();
        }
    }
}

/// The side of the transport, which can be cut once the connection has switched.
#[derive(Debug)]
pub(crate) struct Leashed<IO> {
    io: IO,
    owed: Owed,
}

impl<IO> Leashed<IO> {
    pub(crate) const fn new(io: IO, owed: Owed) -> Self {
        Self { io, owed }
    }

    fn read_cut(&self, cx: &Context<'_>) -> io::Result<()> {
        self.unless_cut(cx, |ends| &mut ends.reader)
    }

    fn write_cut(&self, cx: &Context<'_>) -> io::Result<()> {
        self.unless_cut(cx, |ends| &mut ends.writer)
    }

    fn unless_cut(
        &self,
        cx: &Context<'_>,
        waker: impl Fn(&mut Ends) -> &mut Option<Waker>,
    ) -> io::Result<()> {
        match self.owed.switched() {
            Some(switched) if switched.poll_cut(cx, waker).is_ready() => {
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            _ => Ok(()),
        }
    }
}

impl<IO> Drop for Leashed<IO> {
    fn drop(&mut self) {
        if let Some(switched) = self.owed.switched() {
            switched.over();
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Leashed<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.read_cut(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Leashed<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write_cut(cx)?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write_cut(cx)?;
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    pass!(is_write_vectored => io);

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_cut(cx)?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_cut(cx)?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex, split},
        time::timeout,
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn both_halves_fail_when_the_task_of_the_connection_is_dropped() {
        let (near, _far) = duplex(1);
        let owed = Owed::default();
        let (mut reads, mut writes) = split(Leashed::new(near, owed.clone()));
        let leash = Leash(owed.clone());
        owed.upgraded();
        let reading = tokio::spawn(async move { reads.read_u8().await });
        let writing = tokio::spawn(async move { writes.write_all(&[0; 2]).await });
        assert!(
            timeout(LONG, poll_fn(|cx| owed.switched().unwrap().poll_over(cx)))
                .await
                .is_err()
        );
        drop(leash);
        let error = timeout(LONG, reading).await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        let error = timeout(LONG, writing).await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        // Both halves are dropped.
        timeout(LONG, poll_fn(|cx| owed.switched().unwrap().poll_over(cx)))
            .await
            .unwrap();
    }
}
