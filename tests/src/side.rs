//! One side of a session with its driver. The test is the peer.

use std::{future::Future, time::Duration};

use spdy_frame::{HeaderBlock, Version};
use spdy_session::{Config, Incoming, OpenOptions, Session, SessionError, Stream};
use tokio::{
    io::{DuplexStream, duplex},
    task::JoinHandle,
};

use crate::{
    frames,
    machine::{reply_block, request_block},
    wire::{Received, Wire},
};

/// The capacity of the transport in each direction, in bytes.
pub const PIPE: usize = 64 * 1024;

/// A session and its peer.
#[derive(Debug)]
pub struct Side {
    /// The peer.
    pub peer: Wire<DuplexStream>,
    /// The handle of the session.
    pub session: Session,
    /// The streams of the peer.
    pub incoming: Incoming,
    /// The task of the driver.
    pub driver: JoinHandle<Result<(), SessionError>>,
}

/// Returns a server whose peer is the test.
#[must_use]
pub fn serve(version: Version, config: Config) -> Side {
    serve_over(PIPE, version, config)
}

/// Returns a server whose peer is the test, over a transport that holds `pipe` bytes in each
/// direction.
#[must_use]
pub fn serve_over(pipe: usize, version: Version, config: Config) -> Side {
    let (near, far) = duplex(pipe);
    let (session, incoming, driver) = spdy_session::server(far, version, config);
    Side {
        peer: Wire::new(near, version),
        session,
        incoming,
        driver: tokio::spawn(driver),
    }
}

/// Returns a client whose peer is the test.
#[must_use]
pub fn connect(version: Version, config: Config) -> Side {
    let (near, far) = duplex(PIPE);
    let (session, incoming, driver) = spdy_session::client(far, version, config);
    Side {
        peer: Wire::new(near, version),
        session,
        incoming,
        driver: tokio::spawn(driver),
    }
}

impl Side {
    /// Lets the peer open a stream whose body follows, and replies with headers.
    ///
    /// # Panics
    ///
    /// If that takes more than 20 s, or fails.
    pub async fn upload(&mut self, stream: u32) -> Stream {
        let version = self.session.version();
        self.peer
            .send(frames::syn_stream(version, stream).post("/"))
            .await;
        self.accept().await
    }

    /// Accepts a stream, and replies with headers.
    ///
    /// # Panics
    ///
    /// If that takes more than 20 s, or fails.
    pub async fn accept(&mut self) -> Stream {
        let pending = within(self.incoming.accept())
            .await
            .expect("a stream comes");
        let stream = pending.send_reply(reply_block(self.session.version()));
        let stream = stream.expect("it can be answered");
        let id = stream.id().get();
        self.peer
            .recv_until(|frame| matches!(frame, Received::SynReply { stream, .. } if *stream == id))
            .await;
        stream
    }

    /// Opens a stream. The peer receives it, and does not reply.
    ///
    /// # Panics
    ///
    /// If that takes more than 20 s, or fails.
    pub async fn open(&mut self) -> Stream {
        let stream = within(self.session.open(self.request(), OpenOptions::default()));
        let stream = stream.await.expect("a stream can be opened");
        let id = stream.id().get();
        self.peer
            .recv_until(
                |frame| matches!(frame, Received::SynStream { stream, .. } if *stream == id),
            )
            .await;
        stream
    }

    /// Returns the header block of a request.
    #[must_use]
    pub fn request(&self) -> HeaderBlock {
        request_block(self.session.version())
    }
}

/// Waits for a future, and no longer than 20 s.
///
/// # Panics
///
/// If it is not ready by then.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("it took more than 20 s")
}

/// Lets all tasks run until they wait.
pub async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Returns the bytes of WINDOW_UPDATE frames for a stream, or for the session.
#[must_use]
pub fn granted(stream: u32, frames: &[Received]) -> u32 {
    frames
        .iter()
        .filter_map(|frame| match frame {
            Received::WindowUpdate(update) if update.target.to_field() == stream => {
                Some(update.increment.get())
            }
            _ => None,
        })
        .sum()
}

/// Reads frames until none comes for 50 ms.
pub async fn drain(peer: &mut Wire<DuplexStream>) -> Vec<Received> {
    let mut frames = Vec::new();
    while let Ok(frame) = tokio::time::timeout(Duration::from_millis(50), peer.recv()).await {
        frames.push(frame);
    }
    frames
}
