//! Reads what the encoder writes: with our decoder, with a plain inflater, and with a small
//! inflater that records each match. No match contains a secret.

use std::ops::Range;

use flate2::{Decompress, FlushDecompress, Status};
use spdy_frame::{
    EncodeError, HeaderBlock, HeaderCompression, HeaderDecoder, HeaderEncoder, HeaderLimits,
    Headers, Priority, StreamId, SynReply, SynStream, Version,
    bytes::{Bytes, BytesMut},
};

#[path = "../src/headers/dictionary.rs"]
#[allow(dead_code, unreachable_pub)] // A private module of the crate.
mod dictionary;
mod support;

use dictionary::Dictionary;
use support::{Random, decode_block, encode_block, pairs, serialized};

use HeaderCompression::{Indexed, Stored};

/// A decoder that accepts every block in this file.
fn decoder(version: Version) -> HeaderDecoder {
    let mut limits = HeaderLimits::default();
    limits.max_size = 1 << 20;
    limits.max_inflated = 1 << 20;
    limits.max_fields = 100_000;
    HeaderDecoder::new(version, limits)
}

fn block(fields: &[(&str, &str)]) -> HeaderBlock {
    HeaderBlock::from_pairs(fields.iter().copied()).unwrap()
}

// --- an inflater that shows what it does --------

/// Inflates the streams of our encoder. Before each sync marker they have one block in the fixed
/// code, or stored blocks.
struct Inflater {
    /// The dictionary and all bytes that were inflated.
    bytes: Vec<u8>,
    dictionary: usize,
    /// The source and destination of each match, counted from the end of the dictionary.
    matches: Vec<(Range<isize>, Range<isize>)>,
    started: bool,
}

impl Inflater {
    fn new(version: Version) -> Self {
        let bytes = Dictionary::of(version).bytes.to_vec();
        Self {
            dictionary: bytes.len(),
            bytes,
            matches: Vec::new(),
            started: false,
        }
    }

    /// Inflates a block.
    fn block(&mut self, mut deflated: &[u8]) -> Vec<u8> {
        if !self.started {
            self.started = true;
            deflated = &deflated[6..];
        }
        let start = self.bytes.len();
        let mut bits = Bits {
            bytes: deflated,
            at: 0,
        };
        match bits.number(3) {
            0 => self.stored(&deflated[1..]),
            0b010 => {
                self.symbols(&mut bits);
                assert_eq!(bits.number(3), 0, "a stored block");
                bits.at = bits.at.next_multiple_of(8);
                assert_eq!(
                    deflated[bits.at / 8..],
                    [0, 0, 0xff, 0xff],
                    "a sync marker, and the end"
                );
            }
            kind => panic!("a block in the fixed code or a stored one, not the last: {kind}"),
        }
        self.bytes[start..].to_vec()
    }

    /// Reads stored blocks up to the empty one. The head of the first one has been read.
    fn stored(&mut self, mut rest: &[u8]) {
        loop {
            let length = usize::from(u16::from_le_bytes([rest[0], rest[1]]));
            self.bytes.extend(&rest[4..4 + length]);
            rest = &rest[4 + length..];
            if length == 0 {
                return assert!(rest.is_empty());
            }
            rest = &rest[1..];
        }
    }

    fn symbols(&mut self, bits: &mut Bits<'_>) {
        loop {
            match bits.symbol() {
                256 => return,
                byte @ 0..256 => self.bytes.push(byte as u8),
                symbol => {
                    let length = bits.value(symbol as usize - 257, &LENGTHS);
                    let symbol = bits.code(5) as usize;
                    let distance = bits.value(symbol, &DISTANCES);
                    self.copy(length, distance);
                }
            }
        }
    }

    fn copy(&mut self, length: usize, distance: usize) {
        assert!(distance <= 32 * 1024);
        let to = self.bytes.len();
        let from = to.checked_sub(distance).expect("a match is inside");
        for index in from..from + length {
            self.bytes.push(self.bytes[index]);
        }
        let place = |at| at as isize - self.dictionary as isize;
        self.matches.push((
            place(from)..place(from + length),
            place(to)..place(to + length),
        ));
    }
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn bit(&mut self) -> u32 {
        let bit = self.bytes[self.at / 8] >> (self.at % 8) & 1;
        self.at += 1;
        bit.into()
    }

    fn number(&mut self, bits: u32) -> u32 {
        (0..bits).map(|index| self.bit() << index).sum()
    }

    fn code(&mut self, bits: u32) -> u32 {
        (0..bits).fold(0, |code, _| code << 1 | self.bit())
    }

    /// RFC 1951 §3.2.6.
    fn symbol(&mut self) -> u32 {
        let code = self.code(7);
        if code < 0b001_1000 {
            return 256 + code;
        }
        let code = code << 1 | self.bit();
        match code {
            0b0011_0000..=0b1011_1111 => code - 0b0011_0000,
            0b1100_0000..=0b1100_0111 => code - 0b1100_0000 + 280,
            _ => (code << 1 | self.bit()) - 0b1_1001_0000 + 144,
        }
    }

    fn value(&mut self, symbol: usize, table: &[(usize, u32)]) -> usize {
        let (base, extra) = table[symbol];
        base + self.number(extra) as usize
    }
}

/// RFC 1951 §3.2.5.
const LENGTHS: [(usize, u32); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];

const DISTANCES: [(usize, u32); 30] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 1),
    (7, 1),
    (9, 2),
    (13, 2),
    (17, 3),
    (25, 3),
    (33, 4),
    (49, 4),
    (65, 5),
    (97, 5),
    (129, 6),
    (193, 6),
    (257, 7),
    (385, 7),
    (513, 8),
    (769, 8),
    (1025, 9),
    (1537, 9),
    (2049, 10),
    (3073, 10),
    (4097, 11),
    (6145, 11),
    (8193, 12),
    (12289, 12),
    (16385, 13),
    (24577, 13),
];

/// Inflates a block with `flate2`, as a peer with zlib does.
fn inflate(inflater: &mut Decompress, version: Version, mut deflated: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 << 20);
    loop {
        let before = inflater.total_in();
        let result = inflater.decompress_vec(deflated, &mut bytes, FlushDecompress::Sync);
        deflated = &deflated[(inflater.total_in() - before) as usize..];
        match result {
            Ok(Status::StreamEnd) => panic!("the stream ends"),
            Ok(_) => {
                assert!(deflated.is_empty() && bytes.len() < bytes.capacity());
                return bytes;
            }
            Err(error) => {
                let dictionary = Dictionary::of(version);
                assert_eq!(error.needs_dictionary(), Some(dictionary.id));
                inflater.set_dictionary(dictionary.bytes).unwrap();
            }
        }
    }
}

// --- what is written is read again --------

/// The blocks of a session. Some names and values are repeated.
struct Blocks {
    random: Random,
    names: Vec<String>,
    values: Vec<Vec<u8>>,
    longest: usize,
}

impl Blocks {
    fn new(version: Version, seed: u64) -> Self {
        let mut names: Vec<String> = [
            ":status",
            ":version",
            ":path",
            "content-type",
            "date",
            "te",
            "x",
            "age",
            "cookie",
            "set-cookie",
            "authorization",
            "www-authenticate",
            "origin",
            "x-much-longer-name-than-others",
        ]
        .map(String::from)
        .to_vec();
        names.extend((0..40).map(|index| format!("x-{index}")));
        let mut values: Vec<Vec<u8>> = ["", "0", "200 OK", "HTTP/1.1", "text/html", "a\0b"]
            .map(|value| value.as_bytes().to_vec())
            .to_vec();
        let lengths = [
            1, 2, 3, 7, 8, 9, 30, 250, 255, 256, 257, 258, 259, 260, 261, 300, 520, 2000,
        ];
        values.extend(lengths.map(|length| vec![b'v'; length]));
        values.push((0x0e..=0xff).collect());
        Self {
            random: Random::new(seed),
            names,
            values,
            longest: if version == Version::V2 {
                65_535
            } else {
                150_000
            },
        }
    }

    fn next(&mut self) -> HeaderBlock {
        let random = &mut self.random;
        let mut block = HeaderBlock::new();
        let fields = match random.below(60) {
            0 => 0,
            1 => 200,
            _ => random.below(12),
        };
        for _ in 0..fields {
            let index = random.below(self.names.len());
            let name = match random.below(20) {
                0 => format!("y-{}", random.next()),
                _ => self.names[index].clone(),
            };
            // Most names have their own value, so that whole fields are repeated.
            let value = match random.below(12) {
                0 => (0..random.below(80))
                    .map(|_| 0x20 + random.below(90) as u8)
                    .collect(),
                1 if random.below(40) == 0 => vec![b'l'; random.below(self.longest)],
                2 => self.values[random.below(self.values.len())].clone(),
                _ => self.values[index % self.values.len()].clone(),
            };
            if block
                .get(&name)
                .is_some_and(|before| before.len() + value.len() > 60_000)
            {
                continue;
            }
            let added = if random.below(10) == 0 {
                block.append_sensitive(name, value)
            } else {
                block.append(name, value)
            };
            added.unwrap();
        }
        block
    }
}

#[test]
fn c128_thousands_of_blocks_on_one_session_are_read_again() {
    for version in Version::ALL {
        for mode in [Indexed, Stored] {
            let mut encoder = HeaderEncoder::new(version, mode);
            let mut decoder = decoder(version);
            let mut inflater = Decompress::new(true);
            let mut blocks = Blocks::new(version, 11);
            for round in 0..3000 {
                let block = blocks.next();
                let written = encode_block(&mut encoder, version, &block);
                assert!(written.ends_with(b"\0\0\xff\xff"));
                let bytes = inflate(&mut inflater, version, &written);
                assert!(
                    bytes == serialized(version, &pairs(&block)),
                    "{version} {round}"
                );
                let read = decode_block(&mut decoder, &written).unwrap();
                assert!(read == block && !read.is_truncated(), "{version} {round}");
            }
        }
    }
}

#[test]
fn c128_a_thousand_requests_and_replies_are_short_and_read_again() {
    let request = |round: usize| {
        let mut request = block(&[
            (":method", "GET"),
            (":version", "HTTP/1.1"),
            (":host", "a.test"),
            (":scheme", "https"),
            ("user-agent", &"Mozilla ".repeat(20)),
        ]);
        request.append(":path", format!("/item/{round}")).unwrap();
        request.append("cookie", "session=0123456789").unwrap();
        request
    };
    let reply = |round: usize| {
        let status = if round.is_multiple_of(7) {
            "404 Not Found"
        } else {
            "200 OK"
        };
        let mut reply = block(&[(":status", status), (":version", "HTTP/1.1")]);
        reply.append("content-length", round.to_string()).unwrap();
        reply
    };
    for version in Version::ALL {
        for (block, most) in [
            (&request as &dyn Fn(usize) -> HeaderBlock, 60),
            (&reply, 30),
        ] {
            let mut encoder = HeaderEncoder::new(version, Indexed);
            let mut decoder = decoder(version);
            for round in 0..1000 {
                let block = block(round);
                let written = encode_block(&mut encoder, version, &block);
                assert!(round < 2 || written.len() <= most, "{}", written.len());
                assert_eq!(decode_block(&mut decoder, &written), Ok(block));
            }
        }
    }
}

#[test]
fn a_block_that_is_repeated_is_one_match() {
    let response = block(&[
        (":status", "200 OK"),
        (":version", "HTTP/1.1"),
        ("content-type", "text/html; charset=utf-8"),
        ("content-length", "5120"),
        ("cache-control", "private, max-age=0"),
        ("date", "Tue, 15 Nov 1994 08:12:31 GMT"),
        ("server", "spdy-server"),
        ("vary", "accept-encoding"),
    ]);
    for version in Version::ALL {
        let mut encoder = HeaderEncoder::new(version, Indexed);
        let mut inflater = Inflater::new(version);
        let bytes = serialized(version, &pairs(&response));
        let first = encode_block(&mut encoder, version, &response);
        assert_eq!(inflater.block(&first), bytes);
        assert!(first.len() < bytes.len());
        for _ in 0..100 {
            let again = encode_block(&mut encoder, version, &response);
            assert!(again.len() <= 12, "{}", again.len());
            let before = inflater.matches.len();
            assert_eq!(inflater.block(&again), bytes);
            let matches = &inflater.matches[before..];
            let length: usize = matches.iter().map(|(from, _)| from.len()).sum();
            assert_eq!(length, bytes.len(), "nothing but matches");
        }
    }
}

#[test]
fn a_changed_value_costs_itself_and_a_match_for_the_name() {
    for version in Version::ALL {
        let mut encoder = HeaderEncoder::new(version, Indexed);
        let date =
            |second: usize| block(&[("date", &format!("Tue, 15 Nov 1994 08:12:{second} GMT"))]);
        encode_block(&mut encoder, version, &date(10));
        for second in 11..60 {
            let written = encode_block(&mut encoder, version, &date(second));
            assert!(written.len() <= 29 + 4 + 4 + 6, "{}", written.len());
        }
    }
}

#[test]
fn a_block_that_does_not_shrink_is_stored_and_later_blocks_refer_to_it() {
    for version in Version::ALL {
        let mut encoder = HeaderEncoder::new(version, Indexed);
        let mut plain = HeaderEncoder::new(version, Stored);
        let mut decoder = decoder(version);
        let mut inflater = Decompress::new(true);
        for length in [300, 3000, 60_000] {
            let name = format!("x-{length}");
            let mut wide = block(&[("accept", "*/*")]);
            wide.append(&name, vec![0xe4; length]).unwrap();
            // A new field is stored. Then it becomes a copy.
            for round in 0..3 {
                let written = encode_block(&mut encoder, version, &wide);
                let stored = encode_block(&mut plain, version, &wide);
                assert!(written.len() <= stored.len(), "{version} {length} {round}");
                assert!(round == 0 || length > 2000 || written.len() < 40);
                let bytes = inflate(&mut inflater, version, &written);
                assert!(bytes == serialized(version, &pairs(&wide)));
                assert_eq!(decode_block(&mut decoder, &written).unwrap(), wide);
            }
        }
    }
}

#[test]
fn fields_that_are_used_stay_short_among_thousands_of_others() {
    for version in Version::ALL {
        let mut encoder = HeaderEncoder::new(version, Indexed);
        let mut decoder = decoder(version);
        let agent = "a long and constant value, as that of a user-agent".repeat(4);
        let mut long = 0;
        for round in 0..5000 {
            let mut block = block(&[("user-agent", &agent), ("accept", "*/*")]);
            block
                .append("x-trace", format!("{round}{}", "-".repeat(60)))
                .unwrap();
            let written = encode_block(&mut encoder, version, &block);
            assert_eq!(decode_block(&mut decoder, &written), Ok(block));
            long += usize::from(written.len() > 90);
        }
        assert_eq!(long, 1, "the first block is long");
    }
}

#[test]
fn fields_come_back_from_the_edge_of_the_window() {
    for version in Version::ALL {
        for size in (32_000..33_200).step_by(13) {
            let mut encoder = HeaderEncoder::new(version, Indexed);
            let mut inflater = Decompress::new(true);
            let mut decoder = decoder(version);
            let early = block(&[("early", "0123456789"), ("via", "x")]);
            for block in [
                &early,
                &block(&[("filler", &"f".repeat(size))]),
                &early,
                &early,
            ] {
                let written = encode_block(&mut encoder, version, block);
                let bytes = inflate(&mut inflater, version, &written);
                assert!(
                    bytes == serialized(version, &pairs(block)),
                    "{version} {size}"
                );
                assert_eq!(decode_block(&mut decoder, &written).unwrap(), *block);
            }
        }
    }
}

#[test]
fn all_three_frames_carry_the_block() {
    let fields = block(&[(":path", "/"), ("x", "y")]);
    for version in Version::ALL {
        let mut encoder = HeaderEncoder::new(version, Indexed);
        let mut decoder = decoder(version);
        let mut dst = BytesMut::new();
        let stream = StreamId::new(2).unwrap();
        let syn_stream = SynStream {
            stream,
            associated: StreamId::new(1),
            priority: Priority::LOWEST,
            fin: false,
            unidirectional: true,
            block: &fields,
        };
        encoder.encode_syn_stream(&syn_stream, &mut dst).unwrap();
        let reply = SynReply {
            stream,
            fin: true,
            block: &fields,
        };
        encoder.encode_syn_reply(&reply, &mut dst).unwrap();
        let headers = Headers {
            stream,
            fin: false,
            block: &fields,
        };
        encoder.encode_headers(&headers, &mut dst).unwrap();

        let lines: Vec<String> = support::decode_at_once(version, &dst)
            .frames
            .into_iter()
            .map(|frame| {
                let line = frame.to_string();
                let block = match frame {
                    spdy_frame::Frame::SynStream(frame) => frame.block,
                    spdy_frame::Frame::SynReply(frame) => frame.block,
                    spdy_frame::Frame::Headers(frame) => frame.block,
                    other => panic!("{other}"),
                };
                assert_eq!(decoder.decode(block).unwrap(), fields);
                line.rsplit_once(" block").unwrap().0.to_owned()
            })
            .collect();
        let priority = if version == Version::V2 { 3 } else { 7 };
        assert_eq!(
            lines,
            [
                &format!(
                    "SYN_STREAM stream=2 associated=1 priority={priority} flags=UNIDIRECTIONAL"
                ),
                "SYN_REPLY stream=2 flags=FIN",
                "HEADERS stream=2 flags=0",
            ]
        );
    }
}

// --- secrets --------

/// Returns the positions of the values of sensitive fields, in a serialized block that starts at
/// `at`.
fn secrets(version: Version, block: &HeaderBlock, mut at: isize) -> Vec<Range<isize>> {
    let width = if version == Version::V2 { 2 } else { 4 };
    at += width;
    let mut secrets = Vec::new();
    for field in block {
        at += width + field.name().len() as isize + width;
        let end = at + field.value().len() as isize;
        if field.is_sensitive() {
            secrets.push(at..end);
        }
        at = end;
    }
    secrets
}

#[test]
fn no_match_touches_a_secret() {
    for version in Version::ALL {
        let mut encoder = HeaderEncoder::new(version, Indexed);
        let mut inflater = Inflater::new(version);
        let mut blocks = Blocks::new(version, 12);
        let mut is_secret = Vec::new();
        let mut count = 0;
        for _ in 0..1500 {
            let block = blocks.next();
            let start = is_secret.len();
            let bytes = inflater.block(&encode_block(&mut encoder, version, &block));
            assert!(bytes == serialized(version, &pairs(&block)));
            is_secret.resize(start + bytes.len(), false);
            for secret in secrets(version, &block, start as isize) {
                is_secret[secret.start as usize..secret.end as usize].fill(true);
                count += usize::from(!secret.is_empty());
            }
        }
        println!(
            "{version}: {count} secrets, {} matches",
            inflater.matches.len()
        );
        assert!(count > 1000 && inflater.matches.len() > 1500);
        for (from, to) in inflater.matches {
            for place in from.clone().chain(to.clone()) {
                let secret = usize::try_from(place).is_ok_and(|place| is_secret[place]);
                assert!(!secret, "{version}: {from:?} to {to:?}");
            }
        }
    }
}

#[test]
fn c148_the_length_does_not_tell_how_much_of_a_guess_is_right() {
    let secret = "session=7f3a9c51d2e84b60";
    for version in Version::ALL {
        for name in ["set-cookie", "cookie", "authorization", "x-marked"] {
            let mut lengths = Vec::new();
            for right in 0..=secret.len() {
                let guess = format!("{}{}", &secret[..right], "!".repeat(secret.len() - right));
                let mut encoder = HeaderEncoder::new(version, Indexed);
                let mut length = Vec::new();
                // The guess comes after the secret, then before it, then in a later block.
                for order in [true, false, true] {
                    let mut block = HeaderBlock::new();
                    block.append(":status", "200 OK").unwrap();
                    if order {
                        block.append_sensitive(name, secret).unwrap();
                    }
                    block.append("x-reflected", &guess).unwrap();
                    if !order {
                        block.append_sensitive(name, secret).unwrap();
                    }
                    length.push(encode_block(&mut encoder, version, &block).len());
                }
                lengths.push(length);
            }
            lengths.dedup();
            assert_eq!(lengths.len(), 1, "{version} {name}: {lengths:?}");
        }
    }
}

// --- what cannot be written --------

/// Checks that a block is rejected, and that the session continues as if it had not been written.
fn refused(version: Version, mode: HeaderCompression, bad: &HeaderBlock) -> EncodeError {
    let good = block(&[("a", "b"), ("c", "d")]);
    let mut encoder = HeaderEncoder::new(version, mode);
    let mut decoder = decoder(version);
    let mut error = None;
    for _ in 0..3 {
        let frame = Headers {
            stream: StreamId::MAX,
            fin: false,
            block: bad,
        };
        let mut dst = BytesMut::from("before");
        error = encoder.encode_headers(&frame, &mut dst).err();
        assert_eq!(dst, "before");
        let written = encode_block(&mut encoder, version, &good);
        assert_eq!(decode_block(&mut decoder, &written).as_ref(), Ok(&good));
    }
    error.expect("the block is refused")
}

#[test]
fn what_does_not_fit_is_refused_before_anything_moves() {
    for mode in [Indexed, Stored] {
        for (name, value) in [(1, 65_536), (65_536, 1)] {
            let long = block(&[("a", "b"), (&"n".repeat(name), &"v".repeat(value))]);
            let error = refused(Version::V2, mode, &long);
            assert_eq!(error, EncodeError::FieldTooLong { length: 65_536 });
            let mut encoder = HeaderEncoder::new(Version::V3, mode);
            let written = encode_block(&mut encoder, Version::V3, &long);
            assert_eq!(decode_block(&mut decoder(Version::V3), &written), Ok(long));
        }

        let mut long = HeaderBlock::new();
        for name in 0..257 {
            long.append(format!("{name}"), Bytes::from(vec![b'v'; 65_500]))
                .unwrap();
        }
        for version in Version::ALL {
            let error = refused(version, mode, &long);
            assert!(matches!(error, EncodeError::TooLarge { length } if length > 0x00ff_ffff));
        }
    }
}

#[test]
fn more_fields_than_v2_can_count_are_refused_there() {
    let fields = (0..65_536).map(|index| (format!("{index}"), ""));
    let block = HeaderBlock::from_pairs(fields).unwrap();
    let error = refused(Version::V2, Indexed, &block);
    assert_eq!(error, EncodeError::TooManyFields { count: 65_536 });
}
