//! Joins what one poll of an HTTP/2 connection writes.
//!
//! h2 writes what it has encoded, and flushes it, before each DATA frame of 256 bytes and more. So
//! of many short responses that are ready at once, each would be a record of TLS, a system call and
//! a packet.

use std::{
    io::{self, IoSlice},
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A transport that keeps short writes, and takes a flush for done, until it is
/// [released](Self::poll_release). Clones are the same transport: hyper has one, and the other one
/// is released after each poll of hyper's connection.
#[derive(Debug)]
pub(crate) struct Cork<IO>(Arc<Mutex<Corked<IO>>>);

#[derive(Debug)]
struct Corked<IO> {
    io: IO,
    /// It has no memory while it is empty: most connections rest.
    kept: BytesMut,
    /// Whether the transport has not taken the last write since the last release.
    is_full: bool,
}

impl<IO> Cork<IO> {
    pub(crate) fn new(io: IO) -> Self {
        let kept = BytesMut::new();
        let is_full = false;
        Self(Arc::new(Mutex::new(Corked { io, kept, is_full })))
    }

    fn lock(&self) -> MutexGuard<'_, Corked<IO>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<IO> Clone for Cork<IO> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<IO: AsyncWrite + Unpin> Cork<IO> {
    /// Writes what is kept, and flushes the transport. Call this whenever the connection was
    /// polled: its flushes have done nothing.
    pub(crate) fn poll_release(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let corked = &mut *self.lock();
        let is_full = mem::take(&mut corked.is_full);
        ready!(corked.poll_kept(cx))?;
        // A flush would look as if the transport had taken the write.
        if is_full {
            return Poll::Pending;
        }
        Pin::new(&mut corked.io).poll_flush(cx)
    }

    /// Writes what is kept if hyper has ended the connection without doing so.
    pub(crate) fn poll_last(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_kept(cx)
    }
}

impl<IO: AsyncWrite + Unpin> Corked<IO> {
    /// Writes what is kept.
    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.kept))?;
            self.took(written)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Removes what was written of what is kept. Returns how many bytes were written beyond it.
    fn took(&mut self, written: usize) -> io::Result<usize> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let of_kept = written.min(self.kept.len());
        self.kept.advance(of_kept);
        if self.kept.is_empty() {
            self.kept = BytesMut::new();
        }
        Ok(written - of_kept)
    }

    /// Keeps short writes. Others go to the transport, behind what is kept: of them the first two
    /// slices, and h2 has no more.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if self.kept.len() + length <= MOST {
            if self.kept.is_empty() {
                self.kept.reserve(MOST);
            }
            bufs.iter().for_each(|buf| self.kept.extend_from_slice(buf));
            return Poll::Ready(Ok(length));
        }
        loop {
            let mut all = [
                IoSlice::new(&self.kept),
                IoSlice::new(&[]),
                IoSlice::new(&[]),
            ];
            for (slot, buf) in all[1..].iter_mut().zip(bufs) {
                *slot = IoSlice::new(buf);
            }
            let from = usize::from(self.kept.is_empty());
            let io = Pin::new(&mut self.io);
            let polled = io.poll_write_vectored(cx, &all[from..]);
            self.is_full = polled.is_pending();
            let written = ready!(polled)?;
            match self.took(written)? {
                0 => {}
                taken => return Poll::Ready(Ok(taken)),
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Cork<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Cork<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.lock().poll_write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.lock().poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.lock().io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let corked = &mut *self.lock();
        ready!(corked.poll_kept(cx))?;
        Pin::new(&mut corked.io).poll_shutdown(cx)
    }
}

/// The maximum number of bytes that are kept, which is a record of TLS.
const MOST: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, poll_fn},
        time::Duration,
    };

    use axum::{Router, routing::get};
    use bytes::Bytes;
    use http::Request;
    use http_body_util::{BodyExt, Empty};
    use hyper::client::conn::http2;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split},
        sync::{Barrier, watch},
        task::JoinSet,
        time::{Instant, sleep, timeout},
    };

    use super::*;
    use crate::{auto, config::Timeouts};

    /// A transport that notes the length of each write.
    struct Noting {
        io: DuplexStream,
        writes: Arc<Mutex<Vec<usize>>>,
    }

    impl AsyncRead for Noting {
        crate::pass::pass!(poll_read => io);
    }

    impl AsyncWrite for Noting {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
            self.writes.lock().unwrap().push(written);
            Poll::Ready(Ok(written))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
            self.writes.lock().unwrap().push(written);
            Poll::Ready(Ok(written))
        }

        crate::pass::pass!(is_write_vectored, poll_flush, poll_shutdown => io);
    }

    fn noting(room: usize) -> (Noting, DuplexStream, Arc<Mutex<Vec<usize>>>) {
        let (io, peer) = duplex(room);
        let writes = Arc::<Mutex<Vec<usize>>>::default();
        let noted = Arc::clone(&writes);
        (Noting { io, writes }, peer, noted)
    }

    #[tokio::test]
    async fn short_responses_that_are_ready_at_once_leave_together() {
        const COUNT: usize = 10;
        let (io, peer, writes) = noting(1 << 20);
        let barrier = Arc::new(Barrier::new(COUNT));
        let answer = async move || {
            barrier.wait().await;
            vec![0; 1024]
        };
        let app = Router::new().route("/", get(answer));
        let served = tokio::spawn(auto::Builder::new().serve_connection(io, app));
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(peer))
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        let mut asking = JoinSet::new();
        for _ in 0..COUNT {
            let mut sender = sender.clone();
            let request = Request::get("http://host/").body(Empty::<Bytes>::new());
            asking.spawn(async move {
                let response = sender.send_request(request.unwrap()).await.unwrap();
                response
                    .into_body()
                    .collect()
                    .await
                    .unwrap()
                    .to_bytes()
                    .len()
            });
        }
        assert_eq!(asking.join_all().await, [1024; COUNT]);
        let long = writes
            .lock()
            .unwrap()
            .iter()
            .filter(|length| **length > 1024)
            .count();
        assert_eq!(long, 1, "{writes:?}");
        drop(sender);
        connection.await.unwrap().unwrap();
        _ = served.await;
    }

    /// Writes of many lengths, over a transport that takes a part of each.
    #[tokio::test]
    async fn bytes_stay_in_order() {
        for room in [1, 100, 1 << 14, 1 << 20] {
            let (io, mut peer, writes) = noting(room);
            let cork = Cork::new(io);
            let sent: Vec<u8> = (0..200_000_u32).map(|at| (at / 7) as u8).collect();
            let expected = sent.clone();
            let writing = async move {
                let mut io = cork.clone();
                let mut rest = &sent[..];
                for length in [0, 1, 300, 16_000, 16_384, 16_385, 40_000, 5]
                    .into_iter()
                    .cycle()
                {
                    let (now, later) = rest.split_at(length.min(rest.len()));
                    io.write_all(now).await.unwrap();
                    rest = later;
                    if length == 300 {
                        poll_fn(|cx| cork.poll_release(cx)).await.unwrap();
                        assert!(cork.lock().kept.capacity() == 0);
                    }
                    if rest.is_empty() {
                        break;
                    }
                }
                io.shutdown().await.unwrap();
            };
            let mut read = Vec::new();
            let (whole, ()) = tokio::join!(peer.read_to_end(&mut read), writing);
            whole.unwrap();
            assert!(read == expected, "room of {room}");
            assert!(writes.lock().unwrap().len() > 4);
        }
    }

    const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
        \x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x7f\xff\xff\xff\
        \x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\x00\x00\x00\
        \x00\x00\x00\x04\x01\x00\x00\x00\x00";

    /// A request of GET on stream 1.
    const REQUEST: &[u8] = b"\x00\x00\x06\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x01a";

    /// A CONNECT on stream 3 that has a length, for which hyper ends the connection at once.
    const CONNECT: &[u8] = b"\x00\x00\x0f\x01\x04\x00\x00\x00\x03\
        \x42\x07CONNECT\x41\x01a\x5c\x015";

    const CREDIT: &[u8] = b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x01";

    /// A transport that takes whole writes until it is full, as a socket does.
    struct Whole {
        io: DuplexStream,
        room: usize,
    }

    impl AsyncRead for Whole {
        crate::pass::pass!(poll_read => io);
    }

    impl AsyncWrite for Whole {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(buf)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            if self.room == 0 {
                return Poll::Pending;
            }
            let length = bufs.iter().map(|buf| buf.len()).sum();
            self.room = self.room.saturating_sub(length);
            Poll::Ready(Ok(length))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        crate::pass::pass!(poll_shutdown => io);
    }

    /// Whether the client is silent, or sends something now and then.
    #[tokio::test(start_paused = true)]
    async fn a_transport_that_takes_nothing_ends_its_connection_in_time() {
        for pause in [None, Some(Duration::from_secs(5))] {
            let (client, io) = duplex(65_536);
            let (_unread, mut client) = split(client);
            let app = Router::new().fallback(async || vec![0; 1 << 20]);
            let io = Whole { io, room: 100_000 };
            let serving = tokio::spawn(auto::Builder::new().serve_connection(io, app));
            client.write_all(HELLO).await.unwrap();
            client.write_all(REQUEST).await.unwrap();
            let start = Instant::now();
            let talking = tokio::spawn(async move {
                while let Some(pause) = pause {
                    sleep(pause).await;
                    _ = client.write_all(CREDIT).await;
                }
                pending::<()>().await;
            });
            _ = serving.await.unwrap();
            talking.abort();
            let write = Timeouts::default().write;
            assert!(
                start.elapsed() < write + Duration::from_secs(2),
                "{:?}",
                start.elapsed()
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_leaves_though_hyper_ends_without_a_shutdown() {
        let (mut client, io) = duplex(65_536);
        let (go, gone) = watch::channel(());
        let app = Router::new().fallback(async move || {
            let mut gone = gone.clone();
            gone.changed().await.unwrap();
            "a response"
        });
        let mut serving = Box::pin(auto::Builder::new().serve_connection(io, app));
        client.write_all(HELLO).await.unwrap();
        client.write_all(REQUEST).await.unwrap();
        let second = Duration::from_secs(1);
        timeout(second, &mut serving).await.unwrap_err();
        go.send_replace(());
        // The task of the request has its turn before the connection has.
        sleep(second).await;
        client.write_all(CONNECT).await.unwrap();
        _ = timeout(second, serving).await.expect("hyper goes on");
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert!(
            read.windows(10).any(|bytes| bytes == b"a response"),
            "{read:x?}"
        );
    }

    #[tokio::test]
    async fn what_is_kept_has_a_limit() {
        let (io, _peer, writes) = noting(1 << 20);
        let mut cork = Cork::new(io);
        for _ in 0..MOST {
            cork.write_all(b"a").await.unwrap();
            cork.flush().await.unwrap();
        }
        assert!(writes.lock().unwrap().is_empty());
        assert!(cork.lock().kept.capacity() <= 2 * MOST);
        cork.write_all(b"a").await.unwrap();
        assert_eq!(*writes.lock().unwrap(), [MOST + 1]);
    }
}
