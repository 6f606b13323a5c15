//! Header blocks: rows 1, 2, 3 and 11.

use std::time::Duration;

use flate2::{Compress, Compression, FlushCompress};
use spdy_frame::{RstStatus, Version};
use spdy_session::{Rule, SessionError};
use spdy_tests::{
    effort,
    frames::{self, StoredBlocks},
    wire::Received,
};

use super::{Handler, Served, is_goaway, is_reset};

/// Compresses as a peer does that means harm: zeros, as many as are asked for.
struct Bomb(Compress);

impl Bomb {
    fn new() -> Self {
        Self(Compress::new(Compression::best(), false))
    }

    /// A header block that goes on where the last one ended.
    fn block(&mut self, bytes: usize) -> Vec<u8> {
        let zeros = vec![0; bytes.min(1 << 20)];
        let mut out = Vec::with_capacity(bytes / 500 + 1000);
        let mut left = bytes;
        while left > 0 {
            let length = left.min(zeros.len());
            let flush = if left == length {
                FlushCompress::Sync
            } else {
                FlushCompress::None
            };
            self.0
                .compress_vec(&zeros[..length], &mut out, flush)
                .unwrap();
            left -= length;
        }
        out
    }
}

#[tokio::test(start_paused = true)]
async fn s01_a_block_above_the_hard_limit_ends_the_session() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        let mut block = StoredBlocks::new(version).compress(&[]);
        block.extend(Bomb::new().block((1 << 20) + 4096));
        assert!(block.len() < 8192);
        let frame = frames::syn_stream(version, 1).compressed_block(block);
        served.send(frame).await;
        let frames = served.peer.recv_all().await;
        assert!(is_goaway(frames.last().unwrap()), "{frames:?}");
        assert!(matches!(served.error().await, SessionError::Headers(_)));
    }
}

/// How long the session works to see that a bomb is one, and to end.
async fn cost(version: Version, bomb: &[u8]) -> Duration {
    let mut least = Duration::MAX;
    for _ in 0..3 {
        let mut served = Served::new(version, Handler::Waits);
        let block = [&StoredBlocks::new(version).compress(&[]), bomb].concat();
        let before = effort::used();
        let frame = frames::syn_stream(version, 1).compressed_block(block);
        served.send(frame).await;
        served.peer.recv_until(is_goaway).await;
        least = least.min(effort::used() - before);
    }
    least
}

/// 256 KiB is the longest control frame, and inflates to 256 MiB: the session sees one MiB of them.
/// The same again for 1 GiB in frames of 512 KiB inflated each, which are not above the hard limit:
/// every one costs a RST_STREAM.
#[tokio::test(start_paused = true)]
async fn s01_a_block_that_inflates_to_a_gibibyte_takes_no_more_than_the_limits() {
    let longest = Bomb::new().block(240 << 20);
    assert!(longest.len() < 256 * 1024, "{}", longest.len());
    // Zeros that follow zeros are compressed to the same bytes every time.
    let mut bomb = Bomb::new();
    let (first, next) = (bomb.block(512 * 1024), bomb.block(512 * 1024));
    let tenth = Bomb::new().block(24 << 20);
    for version in Version::ALL {
        let (less, more) = (cost(version, &tenth).await, cost(version, &longest).await);
        // Inflated to its end, the longest one would cost ten times as much.
        assert!(more < 4 * less, "{version}: {less:?}, {more:?}");

        let mut served = Served::new(version, Handler::Waits);
        let first = [StoredBlocks::new(version).compress(&[]), first.clone()].concat();
        let most = (1 << 30) / (512 * 1024);
        let rounds = served
            .flood(
                |round| {
                    let block = if round == 0 { &first } else { &next };
                    let frame = frames::syn_stream(version, 2 * round + 1);
                    vec![frame.compressed_block(block.clone())]
                },
                most,
            )
            .await;
        assert!(rounds >= 1000, "{rounds}");
        assert_eq!(served.rule().await, Rule::LocalResets);
    }
}

#[tokio::test(start_paused = true)]
async fn s01_a_frame_that_is_too_long_is_answered_at_its_head() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        let frame = frames::syn_stream(version, 1).length(256 * 1024 + 1);
        served.send(frame).await;
        served.peer.recv_until(is_goaway).await;
        assert!(matches!(served.error().await, SessionError::Frame(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn s01_header_blocks_of_all_streams_together_are_bounded() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        let value = "v".repeat(100_000);
        for stream in 0..10 {
            let frame = frames::syn_stream(version, 2 * stream + 1).field("a", &value);
            // SPDY/2 has lengths of 16 bits.
            let frame = if version == Version::V2 {
                let (one, two) = value.split_at(50_000);
                frames::syn_stream(version, 2 * stream + 1)
                    .field("a", one)
                    .field("b", two)
            } else {
                frame
            };
            served.send(frame).await;
        }
        let frame = frames::syn_stream(version, 21).field("a", &value[..60_000]);
        served.send(frame).await;
        served
            .peer
            .recv_until(|frame| is_reset(frame, 21, RstStatus::REFUSED_STREAM))
            .await;
        served.assert_usable().await;
    }
}

#[tokio::test(start_paused = true)]
async fn s02_impossible_counts_and_lengths_in_header_blocks_reset_the_stream() {
    for version in Version::ALL {
        let number = |number: u32| match version {
            Version::V2 => (number as u16).to_be_bytes().to_vec(),
            Version::V3 | Version::V3_1 => number.to_be_bytes().to_vec(),
        };
        let mut served = Served::new(version, Handler::Waits);
        let pair_count = [number(u32::MAX), number(1), b"a".to_vec(), number(0)].concat();
        let name_length = [number(1), number(u32::MAX), b"a".to_vec(), number(0)].concat();
        let value_length = [number(1), number(1), b"a".to_vec(), number(u32::MAX)].concat();
        for (n, block) in [pair_count, name_length, value_length]
            .into_iter()
            .enumerate()
        {
            let stream = 2 * n as u32 + 1;
            let frame = frames::syn_stream(version, stream).plain_block(block);
            served.send(frame).await;
            served
                .peer
                .recv_until(|frame| is_reset(frame, stream, RstStatus::PROTOCOL_ERROR))
                .await;
        }
        served.assert_usable().await;
    }
}

#[tokio::test(start_paused = true)]
async fn s03_fields_are_counted_after_values_are_split() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        let fields = (0..129).fold(frames::syn_stream(version, 1), |frame, n| {
            frame.field(format!("x{n}"), "")
        });
        let values = vec!["v"; 129].join("\0");
        let values = frames::syn_stream(version, 3).field("x", values);
        let status = match version {
            Version::V2 => RstStatus::PROTOCOL_ERROR,
            Version::V3 | Version::V3_1 => RstStatus::FRAME_TOO_LARGE,
        };
        for (stream, frame) in [(1, fields), (3, values)] {
            served.send(frame).await;
            served
                .peer
                .recv_until(|frame| is_reset(frame, stream, status))
                .await;
        }
        served.assert_usable().await;
    }
}

/// Row 11. That the compression context is kept shows in the next block.
#[tokio::test(start_paused = true)]
async fn s11_bad_names_reset_the_stream_and_keep_the_compression_context() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Answers);
        let bad = [
            frames::syn_stream(version, 1).field("", "x"),
            frames::syn_stream(version, 3)
                .field("a", "1")
                .field("a", "2"),
            frames::syn_stream(version, 5).field("Upper", "x"),
        ];
        for (n, frame) in bad.into_iter().enumerate() {
            let stream = 2 * n as u32 + 1;
            served.send(frame).await;
            served
                .peer
                .recv_until(|frame| is_reset(frame, stream, RstStatus::PROTOCOL_ERROR))
                .await;
        }
        served
            .send(frames::syn_stream(version, 7).get("/").fin())
            .await;
        served
            .peer
            .recv_until(|frame| matches!(frame, Received::SynReply { stream: 7, .. }))
            .await;
    }
}
