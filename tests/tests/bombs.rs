//! Header blocks that are small on the wire and large when they are inflated (protocol.md §23.10).

use flate2::{Compress, Compression, FlushCompress};
use spdy_frame::{GoAwayStatus, RstStatus, Version};
use spdy_session::Config;
use spdy_tests::{
    effort,
    frames::{self, StoredBlocks},
    machine::{Machine, reset},
};

/// The length of one value in SPDY/2, whose lengths have 16 bits.
const PIECE: usize = 62_500;

/// A block with one value, or with values of [`PIECE`] bytes in SPDY/2. Its values have `bytes`
/// bytes together.
fn deflated(version: Version, bytes: usize) -> Vec<u8> {
    let pieces = bytes / PIECE;
    // A stored block, and then pieces that are deflated separately, because they can be
    // concatenated.
    let head = match version {
        Version::V2 => (pieces as u16).to_be_bytes().to_vec(),
        Version::V3 | Version::V3_1 => {
            let length = (pieces * PIECE) as u32;
            [&[0, 0, 0, 1, 0, 0, 0, 1, b'a'], &length.to_be_bytes()[..]].concat()
        }
    };
    let mut packed = StoredBlocks::new(version).compress(&head);
    match version {
        Version::V2 => {
            // There are 26 names, which repeat.
            let names: Vec<Vec<u8>> = (b'a'..=b'z').map(|name| deflate(&pair(name))).collect();
            for piece in names.iter().cycle().take(pieces) {
                packed.extend(piece);
            }
        }
        Version::V3 | Version::V3_1 => packed.extend(deflate(&[b'v'; PIECE]).repeat(pieces)),
    }
    packed
}

fn pair(name: u8) -> Vec<u8> {
    let mut pair = vec![0, 1, name];
    pair.extend((PIECE as u16).to_be_bytes());
    pair.resize(pair.len() + PIECE, b'v');
    pair
}

fn deflate(plain: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1000);
    Compress::new(Compression::best(), false)
        .compress_vec(plain, &mut bytes, FlushCompress::Sync)
        .expect("there is room for so little");
    bytes
}

#[test]
fn c144_a_thousand_bytes_that_inflate_to_a_million_reset_the_stream() {
    for version in Version::ALL {
        let block = deflated(version, 1_000_000);
        assert!(block.len() < 2500, "{}", block.len());
        let mut server = Machine::server(version);
        server.feed(frames::syn_stream(version, 1).compressed_block(block).fin());
        let status = match version {
            Version::V2 => RstStatus::PROTOCOL_ERROR,
            Version::V3 | Version::V3_1 => RstStatus::FRAME_TOO_LARGE,
        };
        assert_eq!(server.sent(), [reset(1, status)]);
        assert_eq!(server.events(), []);
        server.continue_blocks();
        server.assert_usable();
    }
}

/// `c144_c145_memory_is_bounded_by_the_soft_limit_while_a_block_inflates` measures the memory.
#[test]
fn c145_a_block_that_inflates_to_a_gibibyte_ends_the_session_immediately() {
    for version in Version::ALL {
        let (less, more) = (deflated(version, 64 << 20), deflated(version, 1 << 30));
        let mut roomy = Config::default();
        roomy.limits.max_control_frame = 4 << 20;
        // By default the frame is too long. With a larger limit for frames, the inflated block is
        // too long.
        for config in [Config::default(), roomy] {
            let costs = [&less, &more].map(|block| {
                effort::least(3, || {
                    ends_the_session(version, config.clone(), block.clone())
                })
            });
            // If the longer block were inflated completely, it would cost sixteen times as much.
            assert!(costs[1] < 4 * costs[0], "{version}: {costs:?}");
        }
    }
}

fn ends_the_session(version: Version, config: Config, block: Vec<u8>) {
    let mut server = Machine::server(version).with(config);
    let bomb = frames::syn_stream(version, 1).compressed_block(block).fin();
    server.feed(bomb);
    let (_, before) = server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
    let expected = match version {
        Version::V2 => vec![],
        Version::V3 | Version::V3_1 => vec![reset(1, RstStatus::FRAME_TOO_LARGE)],
    };
    assert_eq!(before, expected);
}
