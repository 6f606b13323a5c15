//! The end of a connection of hyper whose client is still sending.
//!
//! If a socket is closed while bytes are unread or still arriving, the system sends a TCP reset,
//! and the client loses the part of the response that it has not received. So this transport first
//! closes its sending side, and then reads and discards what the client sends, within limits.
//!
//! Over HTTP/1.1 it only waits for a client that still has bytes of a request to send. A client of
//! HTTP/2 sends WINDOW_UPDATE until it has read everything, so it is always waited for.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::coop::has_budget_remaining,
    time::{Instant, Sleep, sleep},
};

use crate::{pass::pass, switched::Switched, tail::Tail};

/// The state that a connection, its transport and its requests share: whether the client still has
/// bytes to send, whether only its close is waited for, and whether the connection still speaks
/// HTTP.
///
/// A request of HTTP/1.1 that can switch to another protocol has it among its extensions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owed(Arc<Told>);

#[derive(Debug, Default)]
struct Told {
    /// Whether bytes have arrived that do not belong to a completely read request.
    is_owed: AtomicBool,
    /// There once the connection has switched to another protocol. Most connections never do.
    switched: OnceLock<Box<Switched>>,
    /// Whether the handler of the other protocol has time limits of its own.
    is_timed: AtomicBool,
    /// Whether everything is written, and our side is closed.
    is_closed: AtomicBool,
    tail: Tail,
}

impl Owed {
    /// Notes that bytes have arrived that do not belong to a completely read request.
    pub(crate) fn came(&self) {
        self.0.is_owed.store(true, Ordering::Relaxed);
    }

    /// Notes that a request was read completely.
    pub(crate) fn paid(&self) {
        self.0.is_owed.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_owed(&self) -> bool {
        self.0.is_owed.load(Ordering::Relaxed)
    }

    /// Returns whether everything is written, and only the end of the client is waited for.
    pub(crate) fn is_lingering(&self) -> bool {
        self.0.is_closed.load(Ordering::Relaxed)
    }

    /// Notes that the connection has switched to another protocol, whose handler reads to the end.
    pub(crate) fn upgraded(&self) {
        self.0.switched.get_or_init(Box::default);
    }

    /// Returns what transport and task tell each other once the connection has switched to another
    /// protocol.
    pub(crate) fn switched(&self) -> Option<&Switched> {
        self.0.switched.get().map(|switched| &**switched)
    }

    /// Returns the state of the end of bytes that only the close of the transport ends.
    pub(crate) fn tail(&self) -> &Tail {
        &self.0.tail
    }

    /// Notes that the handler of another protocol, if the connection switches to it, ends a
    /// connection that is idle or stalled.
    #[cfg(feature = "proxy")]
    pub(crate) fn timed_by_handler(&self) {
        self.0.is_timed.store(true, Ordering::Relaxed);
    }

    /// Returns whether the transport has to leave all time limits to a handler.
    pub(crate) fn is_timed_by_handler(&self) -> bool {
        self.0.is_timed.load(Ordering::Relaxed) && self.switched().is_some()
    }
}

/// A transport whose close waits for the client to finish sending.
#[derive(Debug)]
pub(crate) struct Linger<IO> {
    io: IO,
    owed: Owed,
    closing: Option<Closing>,
}

/// The wait for the end of the client, once our side is closed.
#[derive(Debug)]
struct Closing {
    until: Instant,
    silence: Pin<Box<Sleep>>,
    bytes: usize,
}

impl<IO> Linger<IO> {
    pub(crate) fn new(io: IO, owed: Owed) -> Self {
        Self {
            io,
            owed,
            closing: None,
        }
    }
}

impl Closing {
    fn new() -> Self {
        Self {
            until: Instant::now() + LONGEST,
            silence: Box::pin(sleep(SILENCE)),
            bytes: MOST,
        }
    }

    /// Counts the bytes that have arrived. Returns false if they are too many or take too long.
    fn goes_on(&mut self, bytes: usize) -> bool {
        let now = Instant::now();
        self.bytes = self.bytes.saturating_sub(bytes);
        self.silence.as_mut().reset(self.until.min(now + SILENCE));
        self.bytes > 0 && now < self.until
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Linger<IO> {
    /// Reads until the client has closed its side, or a limit is reached.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let closing = self.closing.get_or_insert_with(Closing::new);
        loop {
            let mut space = [0; 4096];
            let mut rest = ReadBuf::new(&mut space);
            match Pin::new(&mut self.io).poll_read(cx, &mut rest) {
                Poll::Ready(Ok(())) if !rest.filled().is_empty() => {
                    self.owed.came();
                    if !closing.goes_on(rest.filled().len()) {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {
                    // A task that has had its turn does not know what has arrived. The alarm has
                    // it polled again.
                    let may_owe = !has_budget_remaining() || self.owed.is_owed();
                    return match may_owe {
                        true => closing.silence.as_mut().poll(cx),
                        false => Poll::Ready(()),
                    };
                }
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Linger<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.owed.came();
        }
        outcome
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<IO> {
    pass!(poll_write, poll_write_vectored, is_write_vectored, poll_flush => io);

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_none() {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.owed.0.is_closed.store(true, Ordering::Relaxed);
        }
        if self.owed.switched().is_none() && !self.owed.tail().is_cut() {
            ready!(self.poll_rest(cx));
        }
        Poll::Ready(Ok(()))
    }
}

/// The maximum number of bytes that are read and discarded at the end.
const MOST: usize = 1 << 20;

/// The maximum time without a byte of the client.
const SILENCE: Duration = Duration::from_secs(5);

/// The maximum time that the end takes.
const LONGEST: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, poll_fn},
        pin::pin,
    };

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        task::{coop::consume_budget, unconstrained},
        time::timeout,
    };

    use super::*;

    /// Returns a transport over which the start of a request has arrived, and the end of the
    /// client.
    async fn begun() -> (Linger<DuplexStream>, Owed, DuplexStream) {
        let (ours, mut theirs) = duplex(64 * 1024);
        let owed = Owed::default();
        let mut io = Linger::new(ours, owed.clone());
        theirs.write_u8(b'P').await.unwrap();
        io.read_u8().await.unwrap();
        (io, owed, theirs)
    }

    async fn seconds(mut io: Linger<DuplexStream>) -> f64 {
        let start = Instant::now();
        io.shutdown().await.unwrap();
        start.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_owes_something_is_waited_for_a_moment() {
        let (io, _owed, _theirs) = begun().await;
        assert_eq!(seconds(io).await, SILENCE.as_secs_f64());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_lingers_once_its_side_is_closed() {
        let (mut io, owed, _theirs) = begun().await;
        io.write_all(b"all").await.unwrap();
        assert!(!owed.is_lingering());
        let closing = timeout(SILENCE / 2, io.shutdown()).await;
        assert!(closing.is_err() && owed.is_lingering());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_owes_nothing_is_not_waited_for() {
        let (io, owed, _theirs) = begun().await;
        owed.paid();
        assert_eq!(seconds(io).await, 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_has_had_its_turn_looks_again() {
        let (mut io, owed, mut theirs) = begun().await;
        owed.paid();
        theirs
            .write_all(b"the start of another request")
            .await
            .unwrap();
        let start = Instant::now();
        let mut has_turn = true;
        poll_fn(|cx| {
            while has_turn && has_budget_remaining() {
                let _ = pin!(consume_budget()).poll(cx);
            }
            has_turn = false;
            Pin::new(&mut io).poll_shutdown(cx)
        })
        .await
        .unwrap();
        assert_eq!(start.elapsed(), SILENCE);
    }

    /// A transport that is not one of tokio, and knows nothing of turns.
    struct Plain(DuplexStream);

    impl AsyncRead for Plain {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            pin!(unconstrained(poll_fn(|cx| {
                Pin::new(&mut self.0).poll_read(cx, buf)
            })))
            .poll(cx)
        }
    }

    impl AsyncWrite for Plain {
        pass!(poll_write, poll_flush => 0);

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_has_had_its_turn_looks_again_at_any_transport() {
        let (ours, _theirs) = duplex(64);
        let mut io = Linger::new(Plain(ours), Owed::default());
        let start = Instant::now();
        let mut has_turn = true;
        let closing = poll_fn(|cx| {
            while has_turn && has_budget_remaining() {
                let _ = pin!(consume_budget()).poll(cx);
            }
            has_turn = false;
            Pin::new(&mut io).poll_shutdown(cx)
        });
        timeout(LONGEST, closing).await.unwrap().unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_ends_is_not_waited_for() {
        let (io, _owed, theirs) = begun().await;
        drop(theirs);
        assert_eq!(seconds(io).await, 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_http_is_left_to_its_reader() {
        let (mut io, owed, mut theirs) = begun().await;
        owed.upgraded();
        theirs.write_all(b"still read").await.unwrap();
        io.shutdown().await.unwrap();
        let mut rest = [0; 10];
        io.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"still read");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_without_end_is_read_for_so_many_bytes() {
        let (io, _owed, mut theirs) = begun().await;
        let sending = tokio::spawn(async move {
            let (mut sent, piece) = (0, [0; 4096]);
            while theirs.write_all(&piece).await.is_ok() {
                sent += piece.len();
            }
            sent
        });
        assert_eq!(seconds(io).await, 0.0);
        let sent = sending.await.unwrap();
        assert!((MOST..=MOST + 128 * 1024).contains(&sent), "{sent}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_dribbles_is_read_for_so_long() {
        let (io, _owed, mut theirs) = begun().await;
        let sending = tokio::spawn(async move {
            while theirs.write_u8(0).await.is_ok() {
                sleep(SILENCE / 2).await;
            }
        });
        assert_eq!(seconds(io).await, LONGEST.as_secs_f64());
        sending.await.unwrap();
    }
}
