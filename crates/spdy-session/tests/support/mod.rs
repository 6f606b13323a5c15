//! Two sessions joined by a transport in memory.

// Each test file uses its own part of this module, and `pub` reaches no further than it.
#![allow(dead_code, unreachable_pub)]

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use spdy_session::{
    Config, HeaderBlock, Incoming, OpenOptions, Session, SessionError, Stream, Version, client,
    server,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, duplex},
    task::JoinHandle,
};

/// One side of a connection.
#[derive(Debug)]
pub struct End {
    pub session: Session,
    pub incoming: Incoming,
    pub driver: JoinHandle<Result<(), SessionError>>,
}

/// A client and a server.
pub fn pair(version: Version) -> (End, End) {
    pair_with(version, Config::default(), Config::default())
}

pub fn pair_with(version: Version, near: Config, far: Config) -> (End, End) {
    let (a, b) = duplex(16 * 1024);
    join(version, near, a, far, b)
}

pub fn join<A, B>(version: Version, near: Config, a: A, far: Config, b: B) -> (End, End)
where
    A: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (session, incoming, driver) = client(a, version, near);
    let near = End {
        session,
        incoming,
        driver: tokio::spawn(driver),
    };
    let (session, incoming, driver) = server(b, version, far);
    let far = End {
        session,
        incoming,
        driver: tokio::spawn(driver),
    };
    (near, far)
}

/// Opens a stream, replies to it, and returns its two ends.
pub async fn stream(near: &End, far: &mut End) -> (Stream, Stream) {
    let mine = within(
        near.session
            .open(HeaderBlock::new(), OpenOptions::default()),
    )
    .await
    .unwrap();
    let theirs = within(far.incoming.accept())
        .await
        .unwrap()
        .send_reply(HeaderBlock::new())
        .unwrap();
    (mine, theirs)
}

pub fn block(fields: &[(&str, &str)]) -> HeaderBlock {
    let mut block = HeaderBlock::new();
    for (name, value) in fields {
        block.append(name, value).unwrap();
    }
    block
}

/// Returns bytes that show their position.
pub fn bytes(length: usize) -> Vec<u8> {
    (0..length)
        .map(|place| (place * 31 + place / 251) as u8)
        .collect()
}

/// Fails the test if it would wait for ever.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("it took more than 20 s")
}

/// Runs a test for each version.
pub async fn in_all_versions<F: Future<Output = ()>>(test: impl Fn(Version) -> F) {
    for version in Version::ALL {
        test(version).await;
    }
}

/// A transport that moves one byte at a time, and pauses before each.
#[derive(Debug)]
pub struct Drip<IO> {
    io: IO,
    read_paused: bool,
    write_paused: bool,
}

impl<IO> Drip<IO> {
    pub fn new(io: IO) -> Self {
        Self {
            io,
            read_paused: false,
            write_paused: false,
        }
    }
}

fn pause(paused: &mut bool, cx: &Context<'_>) -> bool {
    *paused = !*paused;
    if *paused {
        cx.waker().wake_by_ref();
    }
    *paused
}

impl<IO: AsyncRead + Unpin> AsyncRead for Drip<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if pause(&mut this.read_paused, cx) {
            return Poll::Pending;
        }
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        let read = Pin::new(&mut this.io).poll_read(cx, &mut one);
        buf.put_slice(one.filled());
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Drip<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if pause(&mut this.write_paused, cx) {
            return Poll::Pending;
        }
        Pin::new(&mut this.io).poll_write(cx, &buf[..1])
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
