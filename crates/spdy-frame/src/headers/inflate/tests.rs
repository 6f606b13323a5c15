//! Streams that share inflaters, beside streams that each have one of their own: whatever their form and their blocks,
//! both read the same octets, and refuse the same streams.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{super::deflate::BlockWriter, *};

const BOUNDS: Bounds = Bounds {
    kept: usize::MAX,
    inflated: usize::MAX,
};

/// A small generator of random numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Octets as header blocks have them, or such that look like the marks of deflate, or noise.
    fn octets(&mut self, before: &[u8]) -> Vec<u8> {
        let mut octets = Vec::new();
        let longest = self.pick(&[20, 500, 5000]);
        let length = self.below(longest);
        while octets.len() < length {
            match self.below(8) {
                0 => octets.extend(b"\0\0\0\x06accept\0\0\0\x03*/*"),
                1 => octets.extend(b"\0\0\xff\xff"),
                2 => octets.extend(b"\x01\0\0\xff\xff\0\0\0\xff\xff"),
                3 => octets.extend(vec![self.next() as u8; self.below(600)]),
                4 => octets.extend((0..self.below(40)).map(|_| self.next() as u8)),
                5 => octets.extend((0..self.below(90)).map(|_| b'a' + (self.next() % 26) as u8)),
                _ if before.is_empty() => {}
                _ => {
                    let from = self.below(before.len());
                    let part = before[from..].iter().take(self.below(400));
                    octets.extend(part);
                }
            }
        }
        octets
    }
}

fn inflate(inflater: &mut Inflater, block: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    inflater.inflate(block, &mut octets, BOUNDS).unwrap();
    octets
}

/// Takes a block of at most so many octets off the front. It has the marker at its end only where it is one.
fn split<'a>(deflated: &mut &'a [u8], longest: usize) -> &'a [u8] {
    let mut length = longest.min(deflated.len());
    while length < deflated.len() && deflated[..length].ends_with(&MARKER) {
        length += 1;
    }
    let (block, rest) = deflated.split_at(length);
    *deflated = rest;
    block
}

const DICTIONARY: &[u8] = b"content-lengthacceptaccept-encodinguser-agent\0\0\0\x06accept";

const FLUSHES: [FlushCompress; 4] = [
    FlushCompress::None,
    FlushCompress::Partial,
    FlushCompress::Sync,
    FlushCompress::Full,
];

/// Deflates a block of octets in a few parts, each with some flush, and all of it out in the end.
fn deflate(random: &mut Random, compress: &mut Compress, octets: &[u8]) -> Vec<u8> {
    let mut deflated = Vec::with_capacity(2 * octets.len() + 4000);
    let part = 1 + random.below(octets.len().max(1)).max(octets.len() / 50);
    for part in octets.chunks(part) {
        let flush = random.pick(&FLUSHES);
        compress.compress_vec(part, &mut deflated, flush).unwrap();
    }
    let last = random.pick(&[
        FlushCompress::Sync,
        FlushCompress::Sync,
        FlushCompress::Full,
        FlushCompress::Partial,
    ]);
    compress.compress_vec(b"", &mut deflated, last).unwrap();
    assert!(deflated.len() < deflated.capacity());
    deflated
}

/// A peer.
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
        let mut random = Random(seed * 0x9e37_79b9);
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

    /// Sends some octets: a block, or several that end anywhere.
    fn send(&mut self) {
        let random = &mut self.random;
        let near = self.all.len().saturating_sub(40_000);
        let octets = random.octets(&self.all[near..]);
        let mut deflated = deflate(random, &mut self.compress, &octets);
        let longest = random.pick(&[1, 7, 50, 100_000, 100_000]);
        if self.flushes {
            let flush = FlushCompress::Full;
            deflated.reserve(100);
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
            let block = split(&mut rest, length);
            read.extend(inflate(&mut self.inflater, block));
        }
        assert!(read == octets);
        self.all.extend(octets);
    }
}

#[test]
fn all_that_zlib_writes_is_read_again() {
    // Often more than there are inflaters for, often fewer, and whose turn it is changes.
    for most in [1, 3, INFLATERS, 2 * INFLATERS] {
        let mut peers: Vec<Peer> = (1..=60).map(|n| Peer::new(n * most as u64)).collect();
        let mut random = Random(most as u64);
        for round in 0..2400 {
            let first = round / 40 % 60;
            let peer = (first + random.below(most)) % 60;
            peers[peer].send();
        }
        let shared: usize = IDLE.with_borrow(Vec::len);
        assert!((1..=INFLATERS).contains(&shared), "{shared}");
    }
}

#[test]
fn an_inflater_is_given_back_unless_a_block_ends_without_the_marker() {
    let octets: Vec<u8> = (0..3000)
        .map(|n: u32| b"etaoin shrdlu"[(n * n % 13) as usize])
        .collect();
    let mut compress = Compress::new(Compression::best(), false);
    let mut inflater = Inflater::new(1 << 15, b"");
    for flush in [
        FlushCompress::Sync,
        FlushCompress::Full,
        FlushCompress::Partial,
        FlushCompress::Sync,
    ] {
        let mut deflated = Vec::with_capacity(4000);
        compress
            .compress_vec(&octets, &mut deflated, flush)
            .unwrap();
        let was_own = matches!(inflater, Inflater::Own(_));
        assert_eq!(inflate(&mut inflater, &deflated), octets);
        let is_own = matches!(inflater, Inflater::Own(_));
        assert_eq!(is_own, was_own || flush == FlushCompress::Partial);
    }
}

#[test]
fn an_inflater_is_known_again_only_by_its_own_stream_where_that_is() {
    let mut peers: Vec<Peer> = (1..=3).map(Peer::new).collect();
    let tag = |stream, total| Some(Tag { stream, total });
    let mut idle = Vec::new();
    for known in [tag(1, 5), None, tag(2, 5)] {
        let inflater = Decompress::new(false);
        idle.push(Idle {
            tag: known,
            inflater,
        });
    }
    // There may be more inflaters, so a stream without one gets a new one.
    assert!(take(&mut idle, tag(1, 6)).is_none());
    assert_eq!(take(&mut idle, tag(1, 5)).unwrap().tag, tag(1, 5));
    assert_eq!(take(&mut idle, None).unwrap().tag, None);
    assert!(take(&mut idle, None).is_none());
    assert_eq!(idle.len(), 1);
    // The inflaters of a thread that ended are gone with it, and streams go on elsewhere.
    for _ in 0..20 {
        peers = std::thread::spawn(move || {
            peers.iter_mut().for_each(Peer::send);
            peers
        })
        .join()
        .unwrap();
        peers.iter_mut().for_each(Peer::send);
    }
}

/// What zlib makes of a whole stream.
fn zlib(deflated: &[u8]) -> (Vec<u8>, Result<(), HeaderError>) {
    let mut octets = Vec::with_capacity(1 << 20);
    let mut inflater = Decompress::new(false);
    inflater.set_dictionary(DICTIONARY).unwrap();
    let result = match inflater.decompress_vec(deflated, &mut octets, FlushDecompress::Sync) {
        Ok(Status::StreamEnd) => Err(HeaderError::EndOfStream),
        Ok(_) => Ok(()),
        Err(_) => Err(HeaderError::Corrupt),
    };
    assert!(octets.len() < octets.capacity());
    (octets, result)
}

fn ours(deflated: &[u8], piece: usize) -> (Vec<u8>, Result<(), HeaderError>) {
    let mut inflater = Inflater::new(1 << 15, DICTIONARY);
    let mut octets = Vec::new();
    let mut rest = deflated;
    while !rest.is_empty() {
        let mut more = Vec::new();
        match inflater.inflate(split(&mut rest, piece), &mut more, BOUNDS) {
            Ok(_) => octets.extend(more),
            Err(error) => return (octets, Err(error)),
        }
    }
    (octets, Ok(()))
}

#[test]
fn damaged_streams_are_judged_as_zlib_does() {
    let mut random = Random(7);
    let [mut sound, mut corrupt, mut ended] = [0; 3];
    for round in 0..40_000 {
        let mut compress = Compress::new(Compression::new(random.below(10) as u32), false);
        let mut octets = random.octets(b"");
        octets.truncate(300);
        let mut deflated = deflate(&mut random, &mut compress, &octets);
        for _ in 0..random.below(4) {
            let at = random.below(deflated.len().min(60));
            deflated[at] = if random.below(3) == 0 {
                0
            } else {
                deflated[at] ^ 1 << random.below(8)
            };
        }
        if random.below(4) == 0 {
            deflated.truncate(random.below(deflated.len()));
        }
        let (expected, verdict) = zlib(&deflated);
        let (read, own) = ours(&deflated, deflated.len().max(1));
        assert_eq!(own, verdict, "round {round}: {deflated:02x?}");
        let (in_pieces, verdict) = ours(&deflated, 1 + random.below(20));
        assert_eq!(own, verdict, "round {round}: {deflated:02x?}");
        match own {
            Ok(()) => {
                assert!(read == expected && in_pieces == expected, "round {round}");
                sound += 1;
            }
            Err(HeaderError::Corrupt) => corrupt += 1,
            Err(_) => ended += 1,
        }
    }
    println!("{sound} sound, {corrupt} corrupt, {ended} ended");
    assert!(sound > 5000 && corrupt > 5000 && ended > 100);
}

#[test]
fn what_is_past_a_bound_is_dropped_and_still_known() {
    let octets: Vec<u8> = (0..90_000_u32)
        .map(|n| (n.wrapping_mul(n) >> 9) as u8)
        .collect();
    let mut compress = Compress::new(Compression::fast(), false);
    let mut deflated = Vec::with_capacity(100_000);
    compress
        .compress_vec(&octets, &mut deflated, FlushCompress::Sync)
        .unwrap();
    let first = deflated.len();
    let again = &octets[70_000..75_000];
    compress
        .compress_vec(again, &mut deflated, FlushCompress::Sync)
        .unwrap();
    let (deflated, later) = deflated.split_at(first);
    assert!(later.len() < 1000);

    for kept in [0, 1, 2047, 40_000, 89_999, 90_000] {
        let mut inflater = Inflater::new(1 << 15, b"");
        let bounds = |inflated| Bounds { kept, inflated };
        let mut read = Vec::new();
        let inflated = inflater.inflate(deflated, &mut read, bounds(90_000));
        assert_eq!(inflated == Ok(Inflated::Cut), kept < 90_000);
        assert_eq!(read, octets[..kept]);
        assert!(read.capacity() < 2 * kept + 4096);
        assert_eq!(inflate(&mut inflater, later), again);

        let mut bounded = Inflater::new(1 << 15, b"");
        let error = bounded
            .inflate(deflated, &mut read, bounds(89_999))
            .unwrap_err();
        assert_eq!(error, HeaderError::Bomb { limit: 89_999 });
    }
}

#[test]
fn what_is_past_the_announced_window_is_gone_whichever_inflater_is_there() {
    let block = |write: &dyn Fn(&mut BlockWriter<'_>)| {
        let mut octets = vec![0; 1000];
        let mut writer = BlockWriter::begin(&mut octets);
        write(&mut writer);
        let length = writer.finish();
        octets.truncate(length);
        octets
    };
    let literals = block(&|writer| writer.literals(&[7; 600]));
    let copy = block(&|writer| writer.copy(3, 513));
    for others in [0, 1, 2 * INFLATERS] {
        for (window, expected) in [(256, false), (512, false), (1024, true)] {
            let mut inflater = Inflater::new(window, b"");
            inflate(&mut inflater, &literals);
            for _ in 0..others {
                inflate(&mut Inflater::new(1 << 15, b""), &literals);
            }
            let result = inflater.inflate(&copy, &mut Vec::new(), BOUNDS);
            assert_eq!(result.is_ok(), expected, "{window} {others}");
        }
    }
}
