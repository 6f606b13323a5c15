//! A small inflater that records each match.

use std::ops::Range;

use spdy_frame::Version;

use crate::dictionary::Dictionary;

/// Inflates the streams of our encoder. Before each sync marker they have one block in the fixed
/// code, or stored blocks.
pub(crate) struct Inflater {
    /// The dictionary and all bytes that were inflated.
    bytes: Vec<u8>,
    dictionary: usize,
    /// The source and destination of each match, counted from the end of the dictionary.
    pub(crate) matches: Vec<(Range<isize>, Range<isize>)>,
    started: bool,
}

impl Inflater {
    pub(crate) fn new(version: Version) -> Self {
        let bytes = Dictionary::of(version).bytes.to_vec();
        Self {
            dictionary: bytes.len(),
            bytes,
            matches: Vec::new(),
            started: false,
        }
    }

    /// Inflates a block.
    pub(crate) fn block(&mut self, mut deflated: &[u8]) -> Vec<u8> {
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
