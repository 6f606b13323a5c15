//! A transport that fails when no byte has moved for too long.
//!
//! A SPDY session has timeouts of its own. hyper only has one for the heads of HTTP/1 requests. So
//! this transport ends bodies that stop half-way, silent HTTP/2 connections, and connections of
//! clients that read nothing. hyper also notices neither a reset nor the end of the connection
//! while it does not read, so this transport checks for them.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use crate::{
    config::after, data_count::DataCount, linger::Owed, observe::Watch, pass::pass, socket::Fails,
    stall::Outflow,
};

/// A transport whose reads and writes fail with `TimedOut` once it was idle for one or two periods,
/// or once it has taken no byte of a write for the time `write`.
///
/// It reads the clock once in a period and not for each read. Hence "one or two".
#[derive(Debug)]
pub(crate) struct Idle<IO> {
    io: IO,
    period: Duration,
    alarm: Pin<Box<Sleep>>,
    /// Whether a byte has moved since the alarm was set.
    moved: bool,
    write: Duration,
    /// Rings when the transport has taken no byte for too long. `None` while the transport takes
    /// bytes.
    stalled: Option<Pin<Box<Sleep>>>,
    /// What looks at the frames of HTTP/2 that the transport has taken.
    sent: Option<Sent>,
    /// Whether a read has waited for bytes since the last flush. Then the read reports a failure.
    reading: bool,
    /// Rings when the transport has to be checked for a failure, because no read waits.
    asking: Option<Pin<Box<Sleep>>>,
    /// Since when the peer is known to have ended, and no byte has moved.
    ended: Option<Instant>,
    /// Knows whether the connection has switched to a protocol whose handler has time limits of its
    /// own. Then none of those here applies.
    owed: Option<Owed>,
}

/// What looks at the frames that an HTTP/2 server sends.
#[derive(Debug)]
struct Sent {
    frames: DataCount,
    outflow: Arc<Outflow>,
    /// Records resets, GOAWAY and the streams that the client opens.
    watch: Option<Arc<Watch>>,
}

impl Sent {
    fn pass(&mut self, bytes: &[u8]) {
        let data = self.frames.pass(bytes, |fault| {
            if let Some(watch) = &self.watch {
                watch.told(fault);
            }
        });
        self.outflow.add(data);
    }
}

impl<IO> Idle<IO> {
    pub(crate) fn new(io: IO, period: Duration, write: Duration) -> Self {
        Self {
            io,
            period,
            alarm: Box::pin(sleep(period)),
            moved: false,
            write,
            stalled: None,
            sent: None,
            reading: false,
            asking: None,
            ended: None,
            owed: None,
        }
    }

    /// Leaves the time limits to the handler of another protocol that has some.
    pub(crate) fn until_timed_otherwise(self, owed: Owed) -> Self {
        Self {
            owed: Some(owed),
            ..self
        }
    }

    fn is_timed_otherwise(&self) -> bool {
        self.owed.as_ref().is_some_and(Owed::is_timed_by_handler)
    }

    /// Reports to `outflow` what the transport takes of an HTTP/2 server, and to `watch` what is
    /// read, resets and GOAWAYs.
    pub(crate) fn telling(mut self, outflow: Arc<Outflow>, watch: Option<Arc<Watch>>) -> Self {
        self.sent = Some(Sent {
            frames: DataCount::default(),
            outflow,
            watch,
        });
        self
    }

    fn watch_bytes<'a>(
        &mut self,
        cx: &mut Context<'_>,
        bytes: impl IntoIterator<Item = &'a [u8]>,
        outcome: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.set_unflushed(true);
        if let (Some(sent), Poll::Ready(Ok(length))) = (&mut self.sent, &outcome) {
            let mut left = *length;
            for bytes in bytes {
                let taken = bytes.len().min(left);
                left -= taken;
                sent.pass(&bytes[..taken]);
            }
        }
        let outcome = self.watch_write(cx, outcome);
        self.watch(cx, outcome)
    }

    fn http2_watch(&self) -> Option<&Watch> {
        self.sent.as_ref()?.watch.as_deref()
    }

    fn set_unflushed(&self, is_unflushed: bool) {
        if let Some(sent) = &self.sent {
            sent.outflow.set_unflushed(is_unflushed);
        }
    }

    /// Fails when a write has waited for too long, whatever is read meanwhile. Otherwise a client
    /// that sends PINGs and reads nothing would hold its responses forever.
    fn watch_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() || self.is_timed_otherwise() {
            self.stalled = None;
            return outcome;
        }
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(self.write)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Notes that bytes moved if `outcome` shows it, and polls the alarm otherwise.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.moved = true;
            self.ended = None;
            return outcome;
        }
        ready!(self.poll_idle(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Completes when no byte has moved for too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_timed_otherwise() {
            return Poll::Pending;
        }
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            if !std::mem::take(&mut self.moved) {
                return Poll::Ready(());
            }
            self.alarm.as_mut().reset(after(self.period));
        }
    }
}

impl<IO: Fails> Idle<IO> {
    /// Completes when the transport has failed, or when its peer ended [`ENDED`] ago and no byte
    /// has moved since. Without a read neither is visible otherwise.
    fn poll_failure(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if std::mem::take(&mut self.reading) || self.is_timed_otherwise() {
            return Poll::Pending;
        }
        let alarm = self.asking.get_or_insert_with(|| Box::pin(sleep(ASKED)));
        loop {
            ready!(alarm.as_mut().poll(cx));
            if let Some(failure) = self.io.failure() {
                return Poll::Ready(failure);
            }
            if self.io.has_ended() {
                let since = *self.ended.get_or_insert_with(Instant::now);
                if since.elapsed() >= ENDED {
                    return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
                }
            }
            alarm.as_mut().reset(after(ASKED));
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Idle<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(watch) = self.http2_watch() {
            watch.reads_on();
        }
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.io).poll_read(cx, buf);
        if let Some(watch) = self.http2_watch() {
            watch.read(&buf.filled()[before..]);
        }
        self.reading = outcome.is_pending();
        self.watch(cx, outcome)
    }
}

impl<IO: AsyncWrite + Fails + Unpin> AsyncWrite for Idle<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(cx, buf);
        self.watch_bytes(cx, [buf], outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watch_bytes(cx, bufs.iter().map(|buf| &**buf), outcome)
    }

    pass!(is_write_vectored => io);

    // A completed flush or shutdown moves no byte: hyper also calls them on idle connections. hyper
    // flushes even while it does not read because the application does not take the body. So the
    // alarm is polled here, too.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_flush(cx);
        self.set_unflushed(!matches!(outcome, Poll::Ready(Ok(()))));
        if self.poll_idle(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if let Poll::Ready(failure) = self.poll_failure(cx) {
            return Poll::Ready(Err(failure));
        }
        self.watch_write(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_shutdown(cx);
        self.watch_write(cx, outcome)
    }
}

/// The interval at which a transport without a read is checked for a failure.
const ASKED: Duration = Duration::from_secs(5);

/// How long a peer that has ended has to wait for the application, which has not read all that the
/// peer sent, before it is taken for gone. hyper takes it for gone at once when all has been read.
const ENDED: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, DuplexStream, duplex};

    use super::*;
    use crate::auto::Foreign;

    const PERIOD: Duration = Duration::from_secs(180);
    const WRITE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_times_out() {
        let (ours, _theirs) = duplex(64);
        let mut io = Idle::new(Foreign(ours), PERIOD, WRITE);
        let start = Instant::now();
        let error = io.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), PERIOD.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn an_byte_now_and_then_keeps_a_connection_open() {
        let (ours, mut theirs) = duplex(64);
        let mut io = Idle::new(Foreign(ours), PERIOD, WRITE);
        let peer = tokio::spawn(async move {
            for byte in 0..5 {
                sleep(PERIOD * 9 / 10).await;
                theirs.write_u8(byte).await.unwrap();
            }
            theirs
        });
        for byte in 0..5 {
            assert_eq!(io.read_u8().await.unwrap(), byte);
        }
        peer.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_nothing_times_out_the_writer() {
        let (ours, _theirs) = duplex(4);
        let mut io = Idle::new(Foreign(ours), PERIOD, WRITE);
        let start = Instant::now();
        let error = io.write_all(b"more than it holds").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), WRITE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_nothing_times_out_though_it_writes() {
        let (ours, theirs) = duplex(64);
        let io = Idle::new(Foreign(ours), PERIOD, WRITE);
        let (_unread, mut send) = tokio::io::split(theirs);
        let talking = tokio::spawn(async move {
            while send.write_u8(0).await.is_ok() {
                sleep(PERIOD / 20).await;
            }
        });
        let (mut receive, mut send) = tokio::io::split(io);
        let reading = tokio::spawn(async move { while receive.read_u8().await.is_ok() {} });
        let start = Instant::now();
        send.write_all(&[0; 65]).await.unwrap_err();
        assert_eq!(start.elapsed().as_secs(), WRITE.as_secs());
        talking.abort();
        reading.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_slowly_is_waited_for() {
        let (ours, mut theirs) = duplex(1);
        let mut io = Idle::new(Foreign(ours), PERIOD, WRITE);
        let slow = tokio::spawn(async move {
            for _ in 0..20 {
                sleep(WRITE * 9 / 10).await;
                theirs.read_u8().await.unwrap();
            }
        });
        io.write_all(&[0; 20]).await.unwrap();
        slow.await.unwrap();
    }

    /// TLS does not tell how much of a flush has left.
    #[tokio::test(start_paused = true)]
    async fn a_flush_has_the_time_of_a_write_in_all() {
        let (ours, mut theirs) = duplex(1);
        let mut io = Idle::new(Foreign(BufWriter::new(ours)), PERIOD, WRITE);
        let slow = tokio::spawn(async move {
            while theirs.read_u8().await.is_ok() {
                sleep(WRITE * 9 / 10).await;
            }
        });
        io.write_all(&[0; 20]).await.unwrap();
        let start = Instant::now();
        let error = io.flush().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), WRITE.as_secs());
        slow.abort();
    }

    /// A transport that fails or ends while it is not read, and does not report it by itself.
    struct Failing {
        io: Foreign<DuplexStream>,
        failure: Option<io::ErrorKind>,
    }

    impl Failing {
        fn new(io: DuplexStream, failure: Option<io::ErrorKind>) -> Self {
            let io = Foreign(io);
            Self { io, failure }
        }
    }

    impl Fails for Failing {
        fn failure(&self) -> Option<io::Error> {
            self.failure.map(Into::into)
        }

        fn has_ended(&self) -> bool {
            true
        }

        fn is_sent(&self) -> bool {
            true
        }

        fn reset_when_dropped(&self) {}
    }

    impl AsyncRead for Failing {
        pass!(poll_read => io);
    }

    impl AsyncWrite for Failing {
        pass!(poll_write => io);

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_transport_that_nobody_reads_is_asked_whether_it_has_failed() {
        let (ours, _theirs) = duplex(4);
        let mut io = Idle::new(Failing::new(ours, Some(RESET)), PERIOD, 2 * PERIOD);
        let start = Instant::now();
        let error = io.flush().await.unwrap_err();
        assert_eq!(error.kind(), RESET);
        assert_eq!(start.elapsed(), ASKED);

        // The system reports the failure to a read, without the check.
        let start = Instant::now();
        let error = poll_fn(|cx| {
            let mut buf = [0; 4];
            let read = Pin::new(&mut io).poll_read(cx, &mut ReadBuf::new(&mut buf));
            assert!(!matches!(read, Poll::Ready(Ok(()))));
            Pin::new(&mut io).poll_flush(cx)
        });
        assert_eq!(error.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() + ASKED >= PERIOD);
    }

    const RESET: io::ErrorKind = io::ErrorKind::ConnectionReset;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_has_ended_behind_unread_bytes_is_waited_for_30_s() {
        let (ours, _theirs) = duplex(4);
        let mut io = Idle::new(Failing::new(ours, None), PERIOD, 2 * PERIOD);
        let start = Instant::now();
        let error = io.flush().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(start.elapsed(), ASKED + ENDED);
    }

    /// What it is sent it may still read.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_has_ended_and_is_written_to_is_not_taken_for_gone() {
        let (ours, _theirs) = duplex(100);
        let mut io = Idle::new(Failing::new(ours, None), PERIOD, 2 * PERIOD);
        for _ in 0..10 {
            let end = tokio::time::timeout(ENDED, io.flush()).await;
            assert!(end.is_err(), "{end:?}");
            io.write_u8(7).await.unwrap();
        }
        let start = Instant::now();
        io.flush().await.unwrap_err();
        assert!(start.elapsed() <= ASKED + ENDED);
    }
}
