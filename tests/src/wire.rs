//! A peer that sends exactly the bytes that a test chooses.
//!
//! [`Wire`] has no protocol logic: it answers, counts and holds back nothing. It writes
//! [`RawFrame`]s and bytes to any transport, and returns each frame that it reads as [`Received`].

use std::{io, time::Duration};

use spdy_frame::Version;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use crate::frames::{RawFrame, StoredBlocks};
pub use crate::received::{Fields, ReadError, Reader, Received};

/// How long [`Wire`] waits for a frame: far longer than any answer takes, so that only a peer that
/// hangs exceeds it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A peer over any transport. Every method panics if it cannot do what its name says, because it is
/// used only in tests.
#[derive(Debug)]
pub struct Wire<IO> {
    io: IO,
    blocks: StoredBlocks,
    reader: Reader,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Wire<IO> {
    /// Returns a peer that has sent nothing.
    #[must_use]
    pub fn new(io: IO, version: Version) -> Self {
        Self {
            io,
            blocks: StoredBlocks::new(version),
            reader: Reader::new(version),
        }
    }

    /// Writes one frame.
    pub async fn send(&mut self, frame: RawFrame) {
        let bytes = frame.bytes(&mut self.blocks);
        self.send_bytes(&bytes).await;
    }

    /// Writes any bytes.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let sent = async {
            self.io.write_all(bytes).await?;
            self.io.flush().await
        };
        timeout(PATIENCE, sent)
            .await
            .expect("the peer does not read")
            .expect("the transport is closed");
    }

    /// Closes this side's direction of the transport.
    pub async fn shutdown(&mut self) {
        self.io.shutdown().await.expect("the transport is closed");
    }

    /// Reads the next frame.
    pub async fn recv(&mut self) -> Received {
        self.recv_or_end()
            .await
            .expect("the peer has closed the transport")
    }

    /// Reads frames up to the first one for which `wanted` returns `true`. The others are dropped.
    pub async fn recv_until(&mut self, mut wanted: impl FnMut(&Received) -> bool) -> Received {
        loop {
            let frame = self.recv().await;
            if wanted(&frame) {
                return frame;
            }
        }
    }

    /// Reads frames until the peer closes the transport.
    pub async fn recv_all(&mut self) -> Vec<Received> {
        let mut frames = Vec::new();
        while let Some(frame) = self.recv_or_end().await {
            frames.push(frame);
        }
        frames
    }

    /// Reads the next frame. Returns `None` if the peer has closed the transport.
    pub async fn recv_or_end(&mut self) -> Option<Received> {
        timeout(PATIENCE, self.next())
            .await
            .expect("the peer neither sends nor closes")
    }

    /// Waits for `time` and panics if a frame arrives or the transport is closed.
    pub async fn expect_silence(&mut self, time: Duration) {
        if let Ok(end) = timeout(time, self.next()).await {
            panic!("there should be silence: {end:?}");
        }
    }

    async fn next(&mut self) -> Option<Received> {
        loop {
            match self.reader.next_frame() {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(error) => panic!("the peer has sent what cannot be read: {error}"),
            }
            match self.io.read_buf(self.reader.buffer()).await {
                Ok(0) => {
                    assert!(
                        !self.reader.is_mid_frame(),
                        "the transport was closed in the middle of a frame"
                    );
                    return None;
                }
                Ok(_) => {}
                Err(error) if is_end(&error) => return None,
                Err(error) => panic!("the transport failed: {error}"),
            }
        }
    }
}

/// Returns whether an error is one of those with which a transport reports that the peer has closed
/// it.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
    )
}

#[cfg(test)]
mod tests {
    use spdy_frame::{RstStatus, RstStream, StreamId};
    use tokio::io::duplex;

    use super::*;
    use crate::frames;

    #[tokio::test(start_paused = true)]
    async fn what_one_wire_sends_another_receives() {
        for version in Version::ALL {
            let (near, far) = duplex(64);
            let mut near = Wire::new(near, version);
            let mut far = Wire::new(far, version);
            let sending = tokio::spawn(async move {
                near.send(frames::syn_stream(version, 1).get("/").fin())
                    .await;
                near.send(
                    frames::syn_stream(version, 3)
                        .unidirectional()
                        .associated(1),
                )
                .await;
                near.send(frames::data(1, vec![7; 1000]).fin()).await;
                near.send(frames::rst_stream(version, 3, RstStatus::CANCEL))
                    .await;
                near.shutdown().await;
            });
            let request = far.recv().await;
            let path = if version == Version::V2 {
                "url"
            } else {
                ":path"
            };
            assert_eq!(request.field(path), Some("/"));
            assert!(
                matches!(
                    request,
                    Received::SynStream {
                        stream: 1,
                        fin: true,
                        ..
                    }
                ),
                "{request:?}"
            );
            assert_eq!(
                far.recv_all().await,
                [
                    Received::SynStream {
                        stream: 3,
                        associated: 1,
                        priority: 0,
                        fin: false,
                        unidirectional: true,
                        fields: vec![],
                    },
                    Received::Data {
                        stream: 1,
                        fin: true,
                        payload: vec![7; 1000].into()
                    },
                    Received::RstStream(RstStream {
                        stream: StreamId::new(3).unwrap(),
                        status: RstStatus::CANCEL,
                    }),
                ]
            );
            sending.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    #[should_panic = "there should be silence"]
    async fn a_wire_without_bytes_has_no_frame() {
        let (near, far) = duplex(64);
        let mut near = Wire::new(near, Version::V3);
        near.send(frames::ping(Version::V3, 1)).await;
        Wire::new(far, Version::V3)
            .expect_silence(Duration::from_secs(5))
            .await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic = "cannot be read"]
    async fn bytes_that_are_no_frame_do_not_pass_unnoticed() {
        let (near, far) = duplex(64);
        let mut near = Wire::new(near, Version::V3);
        near.send(frames::ping(Version::V3, 1).wire_version(1))
            .await;
        Wire::new(far, Version::V3).recv().await;
    }
}
