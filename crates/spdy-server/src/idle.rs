//! A transport that fails when no octet has moved for too long.
//!
//! The SPDY session has timeouts of its own. hyper has one for the heads of HTTP/1 requests only, so bodies that stop
//! half-way and silent HTTP/2 connections are ended here.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// A transport whose reads and writes fail with `TimedOut` once it has been idle for one or two periods.
///
/// The clock is read once in a period and not once in a read, hence "one or two".
#[derive(Debug)]
pub(crate) struct Idle<IO> {
    io: IO,
    period: Duration,
    alarm: Pin<Box<Sleep>>,
    /// Whether an octet has moved since the alarm was set.
    moved: bool,
}

impl<IO> Idle<IO> {
    pub(crate) fn new(io: IO, period: Duration) -> Self {
        Self {
            io,
            period,
            alarm: Box::pin(sleep(period)),
            moved: false,
        }
    }

    /// Notes that octets moved when `outcome` says so; otherwise looks at the alarm.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.moved = true;
            return outcome;
        }
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            if !std::mem::take(&mut self.moved) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.alarm.as_mut().reset(Instant::now() + self.period);
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Idle<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_read(cx, buf);
        self.watch(cx, outcome)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Idle<IO> {
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

    // Ending a flush or a shutdown moves no octet by itself: both are asked for on connections at rest.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PERIOD: Duration = Duration::from_secs(180);

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_times_out() {
        let (ours, _theirs) = duplex(64);
        let mut io = Idle::new(ours, PERIOD);
        let start = Instant::now();
        let error = io.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), PERIOD.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn an_octet_now_and_then_keeps_a_connection_open() {
        let (ours, mut theirs) = duplex(64);
        let mut io = Idle::new(ours, PERIOD);
        let peer = tokio::spawn(async move {
            for octet in 0..5 {
                sleep(PERIOD * 9 / 10).await;
                theirs.write_u8(octet).await.unwrap();
            }
            theirs
        });
        for octet in 0..5 {
            assert_eq!(io.read_u8().await.unwrap(), octet);
        }
        peer.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_nothing_times_out_the_writer() {
        let (ours, _theirs) = duplex(4);
        let mut io = Idle::new(ours, PERIOD);
        let error = io.write_all(b"more than it holds").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
