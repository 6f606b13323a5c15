//! How much memory a session reports, and how much its peer can make it hold.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use spdy_frame::{HeaderCompression, HeaderEncoder, Headers, Priority, SynStream};
use spdy_session::{
    Config, HeaderBlock, Incoming, MemoryUse, PendingStream, StreamId, Version, server,
};
use tokio::{
    io::{AsyncWriteExt, DuplexStream, duplex},
    time::sleep,
};

use crate::support::{block, in_all_versions, within};

/// A client of raw frames, and a server that counts what it holds.
struct Raw {
    io: DuplexStream,
    encoder: HeaderEncoder,
    incoming: Incoming,
    memory: Arc<MemoryUse>,
}

impl Raw {
    fn start(version: Version) -> Self {
        let (io, far) = duplex(1 << 20);
        let memory = Arc::<MemoryUse>::default();
        let mut config = Config::default();
        config.memory = Some(Arc::clone(&memory));
        config.timeouts.first_frame = None;
        let (_session, incoming, driver) = server(far, version, config);
        tokio::spawn(driver);
        Self {
            io,
            encoder: HeaderEncoder::new(version, HeaderCompression::Stored),
            incoming,
            memory,
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        within(self.io.write_all(bytes)).await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }

    async fn open(&mut self, id: u32, headers: &HeaderBlock) {
        let frame = SynStream {
            stream: StreamId::new(id).unwrap(),
            associated: None,
            priority: Priority::default(),
            fin: false,
            unidirectional: false,
            block: headers,
        };
        let mut bytes = BytesMut::new();
        self.encoder.encode_syn_stream(&frame, &mut bytes).unwrap();
        self.send(&bytes).await;
    }

    async fn headers(&mut self, id: u32, headers: &HeaderBlock, fin: bool) {
        let frame = Headers {
            stream: StreamId::new(id).unwrap(),
            fin,
            block: headers,
        };
        let mut bytes = BytesMut::new();
        self.encoder.encode_headers(&frame, &mut bytes).unwrap();
        self.send(&bytes).await;
    }

    async fn reset(&mut self, version: Version, id: u8) {
        let minor = if version == Version::V2 { 2 } else { 3 };
        let frame = [0x80, minor, 0, 3, 0, 0, 0, 8, 0, 0, 0, id, 0, 0, 0, 5];
        self.send(&frame).await;
    }

    /// Accepts streams until no more arrive.
    async fn accept_all(&mut self) -> Vec<PendingStream> {
        let mut all = Vec::new();
        let second = Duration::from_secs(1);
        while let Ok(Some(stream)) = tokio::time::timeout(second, self.incoming.accept()).await {
            all.push(stream);
        }
        all
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_not_complete_is_counted() {
    in_all_versions(async |version| {
        let mut raw = Raw::start(version);
        raw.send(&[]).await;
        let before = raw.memory.bytes();
        let minor = if version == Version::V2 { 2 } else { 3 };
        let mut frame = vec![0x80, minor, 0, 1, 0, 3, 0xff, 0];
        frame.resize(200 * 1024, 0);
        raw.send(&frame).await;
        let held = raw.memory.bytes() - before;
        assert!((200 * 1024..512 * 1024).contains(&held), "{held}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn streams_and_blocks_of_streams_that_are_gone_are_counted_until_their_handles_are_dropped() {
    in_all_versions(async |version| {
        let mut raw = Raw::start(version);
        raw.open(1, &block(&[])).await;
        let before = raw.memory.bytes();
        for id in 1..=40 {
            raw.open(2 * id + 1, &block(&[])).await;
        }
        let records = raw.memory.bytes() - before;
        assert!((40 * 1024..100 * 1024).contains(&records), "{records}");
        let long = "v".repeat(30_000);
        for id in 1..=10 {
            raw.headers(2 * id + 1, &block(&[("long", &long)]), false)
                .await;
            raw.reset(version, 2 * id as u8 + 1).await;
        }
        let kept = raw.accept_all().await;
        let held = raw.memory.bytes() - before;
        assert!((300_000..450_000).contains(&held), "{held}");
        drop(kept);
        sleep(Duration::from_secs(1)).await;
        let held = raw.memory.bytes().saturating_sub(before);
        assert!(held < 80 * 1024, "{held}");
    })
    .await;
}

/// Otherwise a peer could leave one long block after the other with an application that takes them
/// slowly.
#[tokio::test(start_paused = true)]
async fn the_blocks_of_streams_that_are_reset_count_until_their_handles_are_dropped() {
    in_all_versions(async |version| {
        let mut raw = Raw::start(version);
        raw.open(1, &block(&[])).await;
        let first = within(raw.incoming.accept()).await.unwrap();
        let before = raw.memory.bytes();
        let (one, other) = ("v".repeat(60_000), "w".repeat(60_000));
        let long = block(&[("one", &one), ("other", &other)]);
        for place in 1..=100 {
            raw.open(2 * place + 1, &long).await;
            raw.reset(version, 2 * place as u8 + 1).await;
        }
        let held = raw.memory.bytes() - before;
        let most = Config::default().limits.held_headers;
        assert!((most / 2..most + 300_000).contains(&held), "{held}");
        let kept = raw.accept_all().await;
        assert_eq!(kept.len(), 8);
        drop(kept);
        raw.open(203, &long).await;
        let next = within(raw.incoming.accept()).await.unwrap();
        assert_eq!(next.id(), StreamId::new(203).unwrap());
        drop(first);
    })
    .await;
}
