//! A client that requests much and reads little.

use std::{net::SocketAddr, time::Duration};

use spdy_server::Version;
use spdy_tests::{
    frames::{self, RawFrame, StoredBlocks},
    wire::{Reader, Received},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

/// The ways not to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Streams have this window, and the session a large one. The client reads the transport.
    Window(u32),
    /// Windows have the initial size of the protocol, and never grow.
    NoUpdates,
    /// Windows are open, and the client does not read the transport.
    Unread,
}

impl Way {
    pub(crate) const MOST: [Self; 3] = [Self::Window(1), Self::Window((1 << 20) - 1), Self::Unread];

    pub(crate) const ALL: [Self; 6] = [
        Self::Window(0),
        Self::Window(1),
        Self::Window(65_536),
        // All but the last byte of a chunk of 1 MiB.
        Self::Window((1 << 20) - 1),
        Self::NoUpdates,
        Self::Unread,
    ];
}

pub(crate) struct Peer {
    version: Version,
    io: TcpStream,
    blocks: StoredBlocks,
    reader: Reader,
}

impl Peer {
    pub(crate) async fn connect(address: SocketAddr, version: Version) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // This keeps the number of unread bytes in the system low.
        socket.set_recv_buffer_size(8192).unwrap();
        Self {
            version,
            io: socket.connect(address).await.unwrap(),
            blocks: StoredBlocks::new(version),
            reader: Reader::new(version),
        }
    }

    /// Opens a stream for each path.
    pub(crate) async fn ask(&mut self, paths: &[String], way: Way) {
        let window = match way {
            Way::Window(window) => Some(window),
            Way::NoUpdates => None,
            Way::Unread => Some(1 << 30),
        };
        if self.version != Version::V2
            && let Some(window) = window
        {
            self.send(frames::settings(self.version, &[(7, window)]))
                .await;
            if self.version == Version::V3_1 {
                self.send(frames::window_update(self.version, 0, 1 << 30))
                    .await;
            }
        }
        for (number, path) in paths.iter().enumerate() {
            let stream = 2 * number as u32 + 1;
            self.send(frames::syn_stream(self.version, stream).get(path))
                .await;
        }
    }

    /// Waits until all heads have arrived and then nothing more. A client that does not read waits
    /// for the same time.
    pub(crate) async fn wait(&mut self, heads: usize, way: Way) {
        if way == Way::Unread {
            return sleep(Duration::from_millis(500)).await;
        }
        let mut seen = 0;
        while let Ok(read) = timeout(
            if seen < heads { LONG } else { QUIET },
            self.io.read_buf(self.reader.buffer()),
        )
        .await
        {
            assert!(read.unwrap() > 0, "the session goes on");
            while let Some(frame) = self.reader.next_frame().unwrap() {
                match frame {
                    Received::SynReply { .. } => seen += 1,
                    Received::RstStream(reset) => panic!("a response is cut short: {reset:?}"),
                    Received::Ping(ping) => self.send(frames::ping(self.version, ping.id)).await,
                    _ => {}
                }
            }
        }
        assert_eq!(seen, heads, "every request is answered");
    }

    /// Closes the connection without a notice.
    pub(crate) fn end(self) {
        self.io.set_zero_linger().unwrap();
    }

    async fn send(&mut self, frame: RawFrame) {
        let bytes = frame.bytes(&mut self.blocks);
        self.io.write_all(&bytes).await.unwrap();
    }
}

/// A bound that only a hanging server exceeds, even on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// After this time without a byte, nothing more arrives. A server that is too busy to send in this
/// time holds less.
const QUIET: Duration = Duration::from_millis(250);
