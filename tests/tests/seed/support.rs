//! One side of a session over the driver, with a peer that says what a test wants.

use std::{future::Future, time::Duration};

use spdy_frame::{HeaderBlock, Version};
use spdy_session::{Config, Incoming, Open, Session, SessionError, Stream};
use spdy_tests::{
    frames,
    machine::{reply_block, request_block},
    wire::{Received, Wire},
};
use tokio::{
    io::{DuplexStream, duplex},
    task::JoinHandle,
};

/// What the transport holds in each direction, in bytes.
pub(crate) const PIPE: usize = 64 * 1024;

/// A session and its peer.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) peer: Wire<DuplexStream>,
    pub(crate) session: Session,
    pub(crate) incoming: Incoming,
    pub(crate) driver: JoinHandle<Result<(), SessionError>>,
}

/// A server whose peer is the test.
pub(crate) fn serve(version: Version, config: Config) -> Side {
    let (near, far) = duplex(PIPE);
    let (session, incoming, driver) = spdy_session::server(far, version, config);
    Side {
        peer: Wire::new(near, version),
        session,
        incoming,
        driver: tokio::spawn(driver),
    }
}

/// A client whose peer is the test.
pub(crate) fn connect(version: Version, config: Config) -> Side {
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
    /// Has the peer open a stream with a body to come, and answers it with headers.
    pub(crate) async fn upload(&mut self, stream: u32) -> Stream {
        let version = self.session.version();
        self.peer
            .send(frames::syn_stream(version, stream).post("/"))
            .await;
        self.accept().await
    }

    /// Accepts a stream and answers it with headers.
    pub(crate) async fn accept(&mut self) -> Stream {
        let pending = within(self.incoming.accept())
            .await
            .expect("a stream comes");
        let stream = pending.reply(reply_block(self.session.version()));
        let stream = stream.expect("it can be answered");
        let id = stream.id().get();
        self.peer
            .recv_until(|frame| matches!(frame, Received::SynReply { stream, .. } if *stream == id))
            .await;
        stream
    }

    /// Opens a stream, which the peer sees and does not answer.
    pub(crate) async fn open(&mut self) -> Stream {
        let stream = within(self.session.open(self.request(), Open::default()));
        let stream = stream.await.expect("a stream can be opened");
        let id = stream.id().get();
        self.peer
            .recv_until(
                |frame| matches!(frame, Received::SynStream { stream, .. } if *stream == id),
            )
            .await;
        stream
    }

    /// The header block of a request.
    pub(crate) fn request(&self) -> HeaderBlock {
        request_block(self.session.version())
    }
}

/// No test waits for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("it took more than 20 s")
}

/// Lets everything go on that can.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// The bytes of WINDOW_UPDATE frames for a stream, or for the session.
pub(crate) fn granted(stream: u32, frames: &[Received]) -> u32 {
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

/// Reads frames until there is silence.
pub(crate) async fn drain(peer: &mut Wire<DuplexStream>) -> Vec<Received> {
    let mut frames = Vec::new();
    while let Ok(frame) = tokio::time::timeout(Duration::from_millis(50), peer.recv()).await {
        frames.push(frame);
    }
    frames
}
