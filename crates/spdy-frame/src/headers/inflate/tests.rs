//! Compares the inflater with zlib: for all streams, cut at any place, both inflate each piece to
//! the same bytes, and reject the same streams.

mod streams;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use self::streams::{DICTIONARY, Random, damage, deflate, empty_with_codes, strange};
use super::{super::deflate::BlockWriter, *};

const BOUNDS: Bounds = Bounds {
    kept: usize::MAX,
    inflated: usize::MAX,
};

fn inflate(inflater: &mut Inflater, block: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    inflater.inflate(block, &mut bytes, BOUNDS).unwrap();
    bytes
}

/// Returns a number from the environment, or the default.
fn setting(name: &str, usual: u64) -> u64 {
    let number = std::env::var(name).ok();
    number.map_or(usual, |number| number.parse().expect("a number"))
}

/// A peer whose blocks can end anywhere.
struct Peer {
    random: Random,
    compress: Compress,
    inflater: Inflater,
    /// Whether each block ends with a sync flush, as it should.
    flushes: bool,
    all: Vec<u8>,
}

impl Peer {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let bits = 9 + random.below(7) as u8;
        let level = Compression::new(random.below(10) as u32);
        let mut compress = Compress::new_with_window_bits(level, false, bits);
        let dictionary = if random.below(2) == 0 {
            compress.set_dictionary(DICTIONARY).unwrap();
            DICTIONARY
        } else {
            b""
        };
        Self {
            inflater: Inflater::new(1 << bits, dictionary),
            flushes: random.below(4) > 0,
            random,
            compress,
            all: Vec::new(),
        }
    }

    /// Sends bytes as one block, or as several that end anywhere.
    fn send(&mut self) {
        let random = &mut self.random;
        let near = self.all.len().saturating_sub(40_000);
        let bytes = random.bytes(&self.all[near..]);
        let mut deflated = deflate(random, &mut self.compress, &bytes);
        let longest = random.pick(&[1, 7, 50, 100_000, 100_000]);
        if self.flushes {
            deflated.reserve(100);
            let flush = FlushCompress::Full;
            self.compress
                .compress_vec(b"", &mut deflated, flush)
                .unwrap();
        }
        let mut read = Vec::new();
        let mut rest = &deflated[..];
        while !rest.is_empty() {
            let length = if self.flushes {
                rest.len()
            } else {
                1 + random.below(longest)
            };
            let (block, later) = rest.split_at(length.min(rest.len()));
            rest = later;
            read.extend(inflate(&mut self.inflater, block));
        }
        assert!(read == bytes);
        assert!(!self.flushes || self.inflater.rest.is_none());
        self.all.extend(bytes);
    }
}

#[test]
fn everything_that_zlib_writes_can_be_inflated() {
    for seed in 1..=40 {
        let mut peer = Peer::new(seed);
        (0..120).for_each(|_| peer.send());
    }
}

/// A zlib inflater, which must return the same for each piece.
struct Zlib {
    inflater: Decompress,
    /// Whether the stream has ended or failed.
    is_over: bool,
}

impl Zlib {
    fn new() -> Self {
        let mut inflater = Decompress::new(false);
        inflater.set_dictionary(DICTIONARY).unwrap();
        Self {
            inflater,
            is_over: false,
        }
    }

    fn inflate(&mut self, block: &[u8]) -> (Vec<u8>, Result<(), HeaderError>) {
        let mut bytes = Vec::with_capacity(if block.len() > 20 { 1 << 18 } else { 1 << 14 });
        let status = self
            .inflater
            .decompress_vec(block, &mut bytes, FlushDecompress::Sync);
        assert!(bytes.len() < bytes.capacity());
        let result = match status {
            Ok(Status::StreamEnd) => Err(HeaderError::EndOfStream),
            Ok(_) => Ok(()),
            Err(_) => Err(HeaderError::Corrupt),
        };
        self.is_over = result.is_err();
        (bytes, result)
    }

    /// Returns whether zlib rejects the stream whatever follows. It rejects a code for lengths
    /// without any symbol late.
    fn is_lost(&mut self) -> bool {
        let mut bytes = Vec::with_capacity(1 << 18);
        let inflater = &mut self.inflater;
        inflater
            .decompress_vec(&[0; 100], &mut bytes, FlushDecompress::Sync)
            .is_err()
    }
}

/// The outcomes of streams.
#[derive(Debug, Default)]
struct Tally {
    sound: u32,
    corrupt: u32,
    ended: u32,
}

impl Tally {
    /// Inflates a stream in pieces with both inflaters.
    fn compare(&mut self, deflated: &[u8], pieces: &[&[u8]], seed: u64) {
        let mut zlib = Zlib::new();
        let mut inflater = Inflater::new(1 << 15, DICTIONARY);
        for piece in pieces {
            let (expected, verdict) = zlib.inflate(piece);
            let mut bytes = Vec::new();
            let result = inflater.inflate(piece, &mut bytes, BOUNDS).map(drop);
            match (&result, &verdict) {
                (Ok(()), Ok(())) => assert!(bytes == expected, "seed {seed}: {deflated:02x?}"),
                (Err(HeaderError::Corrupt), Ok(())) => {
                    assert!(zlib.is_lost(), "seed {seed}: {deflated:02x?}");
                }
                _ => assert_eq!(result, verdict, "seed {seed}: {deflated:02x?}"),
            }
            match result {
                Ok(()) => {}
                Err(HeaderError::Corrupt) => return self.corrupt += 1,
                Err(_) => return self.ended += 1,
            }
        }
        self.sound += 1;
    }
}

/// `INFLATE_STREAMS=n` sets the number of streams, `INFLATE_SEED=n` the first seed.
#[test]
fn streams_are_judged_as_zlib_does_wherever_they_are_cut() {
    let first = setting("INFLATE_SEED", 1);
    let mut tally = Tally::default();
    for seed in first..first + setting("INFLATE_STREAMS", 10_000) {
        let mut random = Random::new(seed);
        let mut deflated = if random.below(3) == 0 {
            strange(&mut random)
        } else {
            let level = Compression::new(random.below(10) as u32);
            let mut compress = Compress::new(level, false);
            let mut bytes = random.bytes(b"");
            bytes.truncate(300);
            deflate(&mut random, &mut compress, &bytes)
        };
        if random.below(4) > 0 {
            damage(&mut random, &mut deflated);
        }
        let mut pieces = Vec::new();
        let longest = random.pick(&[1, 20, 1000]);
        let mut rest = &deflated[..];
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(rest.len().min(1 + random.below(longest)));
            pieces.push(piece);
            rest = later;
        }
        tally.compare(&deflated, &pieces, seed);
    }
    println!("{tally:?}");
    assert!(first > 1 || tally.sound.min(tally.corrupt).min(4 * tally.ended) > 400);
}

#[test]
fn a_block_that_ends_anywhere_leaves_less_than_a_kibibyte() {
    let bytes: Vec<u8> = (0..3000_u32)
        .map(|n| b"etaoin shrdlu"[(n.wrapping_mul(n) % 13) as usize])
        .collect();
    for level in [0, 1, 9] {
        let mut compress = Compress::new(Compression::new(level), false);
        let deflated = deflate(&mut Random::new(5), &mut compress, &bytes);
        for cut in 0..deflated.len() {
            let mut inflater = Inflater::new(1 << 15, b"");
            let mut read = inflate(&mut inflater, &deflated[..cut]);
            if let Some(rest) = &inflater.rest {
                assert!(size_of::<Rest>() + rest.bytes.capacity() < 1024);
            }
            read.extend(inflate(&mut inflater, &deflated[cut..]));
            assert!(read == bytes, "{level} {cut}");
        }
    }
}

#[test]
fn bytes_past_the_limit_are_dropped_and_later_blocks_can_copy_them() {
    let bytes: Vec<u8> = (0..90_000_u32)
        .map(|n| (n.wrapping_mul(n) >> 9) as u8)
        .collect();
    for level in [0, 1, 9] {
        let mut compress = Compress::new(Compression::new(level), false);
        let mut deflated = Vec::with_capacity(100_000);
        let mut deflate = |bytes: &[u8]| {
            deflated.clear();
            let flush = FlushCompress::Sync;
            compress.compress_vec(bytes, &mut deflated, flush).unwrap();
            deflated.clone()
        };
        let (first, again) = (deflate(&bytes), &bytes[70_000..75_000]);
        let later = deflate(again);
        for kept in [0, 1, 2047, 40_000, 89_999, 90_000] {
            let mut inflater = Inflater::new(1 << 15, b"");
            let bounds = |inflated| Bounds { kept, inflated };
            let mut read = Vec::new();
            let inflated = inflater.inflate(&first, &mut read, bounds(90_000));
            assert_eq!(inflated == Ok(Inflated::Cut), kept < 90_000);
            assert_eq!(read, bytes[..kept]);
            assert!(read.capacity() < 2 * kept + 4096);
            assert_eq!(inflate(&mut inflater, &later), again);

            let mut bounded = Inflater::new(1 << 15, b"");
            let result = bounded.inflate(&first, &mut read, bounds(89_999));
            assert_eq!(result, Err(HeaderError::Bomb { limit: 89_999 }));
        }
    }
}

/// Codes without a byte of output take time, and no bound on the output would count them.
#[test]
fn huffman_codes_of_empty_blocks_are_limited() {
    for (limit, most) in [(0, 64), (256, 65), (10_000, 103), (1 << 20, 4160)] {
        let inflate = |count| {
            let bounds = Bounds {
                kept: 0,
                inflated: limit,
            };
            let mut inflater = Inflater::new(1 << 15, b"");
            inflater.inflate(&empty_with_codes(count), &mut Vec::new(), bounds)
        };
        assert!(inflate(most).is_ok(), "{limit}");
        let bomb = Err(HeaderError::Bomb { limit });
        assert_eq!(inflate(most + 1), bomb, "{limit}");
    }
}

/// No block of zlib has as many codes, whatever memory it is given and however often it flushes.
#[test]
fn zlib_writes_fewer_huffman_codes_than_the_limit() {
    let mut random = Random::new(3);
    let bytes: Vec<u8> = (0..131_072)
        .map(|_| b"etaoin shrdlu"[random.below(13)])
        .collect();
    let bounds = Bounds {
        kept: bytes.len(),
        inflated: 1 << 20,
    };
    for (level, part) in [(9, 131_072), (6, 127), (1, 127), (9, 64)] {
        let mut compress = Compress::new(Compression::new(level), false);
        let mut deflated = Vec::with_capacity(400_000);
        for part in bytes.chunks(part) {
            let flush = FlushCompress::Partial;
            compress.compress_vec(part, &mut deflated, flush).unwrap();
        }
        let mut read = Vec::new();
        let mut inflater = Inflater::new(1 << 15, b"");
        let inflated = inflater.inflate(&deflated, &mut read, bounds);
        assert_eq!(inflated, Ok(Inflated::Whole));
        assert!(read == bytes, "{level} {part}");
    }
}

/// A later part of a block refers to dropped bytes: the output is the same for all limits.
#[test]
fn later_copies_can_begin_in_dropped_bytes() {
    for seed in 1..60 {
        let mut random = Random::new(seed);
        let mut bytes = random.bytes(b"");
        while bytes.len() < 20_000 {
            bytes.extend(random.bytes(&bytes.clone()));
        }
        let mut compress = Compress::new(Compression::best(), false);
        let deflated = deflate(&mut random, &mut compress, &bytes);
        let kept = random.below(bytes.len());
        let mut inflater = Inflater::new(1 << 15, b"");
        let mut read = Vec::new();
        let inflated = bytes.len();
        inflater
            .inflate(&deflated, &mut read, Bounds { kept, inflated })
            .unwrap();
        assert!(read == bytes[..kept]);
        let last = &bytes[bytes.len().saturating_sub(1 << 15)..];
        assert!(inflater.window.ends_with(last));
    }
}

#[test]
fn a_copy_from_before_the_announced_window_is_an_error() {
    let block = |write: &dyn Fn(&mut BlockWriter<'_>)| {
        let mut bytes = vec![0; 100_000];
        let mut writer = BlockWriter::begin(&mut bytes);
        write(&mut writer);
        let length = writer.finish();
        bytes.truncate(length);
        bytes
    };
    for window in [512, 1024, 2048, 8192, 16_384, 32_768] {
        let literals = vec![7; window];
        for distance in [window, window + 1] {
            let expected = distance <= window;
            let mut inflater = Inflater::new(window, &[7; 40]);
            let first = block(&|writer| writer.literals(&literals));
            inflate(&mut inflater, &first);
            if distance <= 32_768 {
                // In the next block, and in the same one.
                let copy = block(&|writer| writer.copy(3, distance as u64));
                let result = inflater.inflate(&copy, &mut Vec::new(), BOUNDS);
                assert_eq!(result.is_ok(), expected, "{window} {distance}");
                let both = block(&|writer| {
                    writer.literals(&literals);
                    writer.literals(b"7");
                    writer.copy(3, distance as u64);
                });
                let mut inflater = Inflater::new(window, b"");
                let result = inflater.inflate(&both, &mut Vec::new(), BOUNDS);
                assert_eq!(result.is_ok(), expected, "{window} {distance}");
            }
        }
    }
    // zlib treats 256 as 512.
    assert_eq!(Inflater::new(256, b"").window.size(), 512);
}
