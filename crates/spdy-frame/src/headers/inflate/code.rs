//! The Huffman codes of deflate (RFC 1951 §3.2).

use super::bits::Bits;
use crate::HeaderError;

/// A canonical code of at most 288 symbols.
pub(super) struct Code {
    /// Maps the next bits to symbol and length, `symbol << 4 | length`, or to 0 for longer codes.
    short: [u16; 1 << SHORT],
    /// The number of codes of each length.
    counts: [u16; 16],
    /// The symbols in the order of their codes.
    symbols: [u16; 288],
}

/// The length up to which codes are in the table.
const SHORT: u32 = 9;

/// The symbol for bits that are not a code.
const INVALID: u16 = 300;

/// The kinds of incomplete codes that are accepted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Incomplete {
    /// None.
    None,
    /// A code with a single symbol of one bit.
    Lone,
    /// Such a code, or one without a symbol.
    LoneOrEmpty,
}

impl Code {
    const EMPTY: Self = Self {
        short: [0; 1 << SHORT],
        counts: [0; 16],
        symbols: [0; 288],
    };

    /// Builds the code for symbols with these lengths. Returns whether there is such a code.
    const fn set(&mut self, lengths: &[u8], incomplete: Incomplete) -> bool {
        let Some(plan) = Plan::of(lengths, incomplete) else {
            return false;
        };
        self.counts = plan.counts;
        let mut places = plan.places;
        let mut symbol = 0;
        while symbol < lengths.len() {
            let length = lengths[symbol] as usize;
            if length > 0 {
                self.symbols[places[length] as usize] = symbol as u16;
                places[length] += 1;
            }
            symbol += 1;
        }
        self.set_short(plan.is_complete);
        true
    }

    /// Enters the short codes. The bits of a code start with its highest bit, and the table doubles
    /// with each length, so each code is entered once.
    const fn set_short(&mut self, is_complete: bool) {
        // In an incomplete code, one bit is enough to recognize bits that are not a code.
        self.short[0] = if is_complete { 0 } else { INVALID << 4 | 1 };
        let (mut code, mut index) = (0u16, 0);
        let mut length = 1;
        while length <= SHORT {
            let size = 1 << (length - 1);
            let (half, rest) = self.short.split_at_mut(size);
            rest.split_at_mut(size).0.copy_from_slice(half);
            code <<= 1;
            let end = index + self.counts[length as usize] as usize;
            while index < end {
                let place = code.reverse_bits() >> (16 - length);
                self.short[place as usize] = self.symbols[index] << 4 | length as u16;
                code += 1;
                index += 1;
            }
            length += 1;
        }
    }

    /// Reads a symbol. Returns `None` if the buffer does not have all of it.
    #[inline(always)]
    pub(super) fn decode(&self, bits: &mut Bits<'_>) -> Option<u16> {
        let next = bits.peek();
        let entry = self.short[next as usize % (1 << SHORT)];
        let (symbol, length) = match entry {
            0 => self.find_long(next),
            _ => (entry >> 4, u32::from(entry % 16)),
        };
        bits.skip(length)?;
        Some(symbol)
    }

    /// Finds the symbol at the start of the bits, and its length, bit by bit: the codes of one
    /// length are consecutive numbers.
    #[inline(never)]
    fn find_long(&self, bits: u64) -> (u16, u32) {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for length in 1..16 {
            code = code << 1 | (bits >> (length - 1)) as u32 & 1;
            let count = u32::from(self.counts[length as usize]);
            if code < first + count {
                return (self.symbols[(index + code - first) as usize], length);
            }
            index += count;
            first = (first + count) << 1;
        }
        // This is not reached, because a code with long symbols is complete.
        (INVALID, 1)
    }
}

/// The properties of a code that follow from its lengths.
struct Plan {
    /// The number of codes of each length.
    counts: [u16; 16],
    /// The number of codes that are shorter than each length.
    places: [u16; 16],
    /// Whether every sequence of bits starts with a code.
    is_complete: bool,
}

impl Plan {
    /// Returns `None` if there is no code with these lengths. A length of 0 means that the symbol
    /// does not occur.
    const fn of(lengths: &[u8], incomplete: Incomplete) -> Option<Self> {
        let mut counts = [0; 16];
        let mut symbol = 0;
        while symbol < lengths.len() {
            counts[lengths[symbol] as usize] += 1;
            symbol += 1;
        }
        let used = lengths.len() as u16 - counts[0];
        counts[0] = 0;
        let mut places = [0; 16];
        let mut left = 1i32;
        let mut length = 1;
        while length < 16 {
            left = (left << 1) - counts[length] as i32;
            if left < 0 {
                return None;
            }
            places[length] = places[length - 1] + counts[length - 1];
            length += 1;
        }
        let is_complete = left == 0;
        let is_lone = used == 1 && counts[1] == 1;
        let is_code = match incomplete {
            Incomplete::None => is_complete,
            Incomplete::Lone => is_complete || is_lone,
            Incomplete::LoneOrEmpty => is_complete || is_lone || used == 0,
        };
        if !is_code {
            return None;
        }
        Some(Self {
            counts,
            places,
            is_complete,
        })
    }
}

/// The two codes of a deflate block.
pub(super) struct Codes {
    /// The code for bytes, the end of the block, and lengths.
    pub(super) literals: Code,
    pub(super) distances: Code,
}

impl Codes {
    pub(super) const EMPTY: Self = Self {
        literals: Code::EMPTY,
        distances: Code::EMPTY,
    };

    /// RFC 1951 §3.2.6.
    pub(super) const FIXED: &Self = &FIXED;
}

static FIXED: Codes = {
    let mut lengths = [8; 288];
    let mut symbol = 144;
    while symbol < 280 {
        lengths[symbol] = if symbol < 256 { 9 } else { 7 };
        symbol += 1;
    }
    let mut codes = Codes::EMPTY;
    assert!(codes.literals.set(&lengths, Incomplete::None));
    assert!(codes.distances.set(&[5; 32], Incomplete::None));
    codes
};

/// The lengths of the codes of a deflate block, which determine the codes.
#[derive(Debug)]
pub(super) struct Lengths {
    /// The lengths of literals, followed by those of distances.
    all: [u8; 320],
    literals: usize,
    distances: usize,
}

impl Default for Lengths {
    fn default() -> Self {
        Self {
            all: [0; 320],
            literals: 0,
            distances: 0,
        }
    }
}

impl Lengths {
    /// Reads the head of a deflate block with its own codes, after its type (RFC 1951 §3.2.7).
    /// Returns `None` if the head is not complete.
    ///
    /// # Errors
    ///
    /// Returns [`HeaderError::Corrupt`] if there are no codes with these lengths.
    pub(super) fn read(bits: &mut Bits<'_>) -> Result<Option<Self>, HeaderError> {
        let Some([literals, distances, count]) = Self::counts(bits) else {
            return Ok(None);
        };
        if literals > 286 || distances > 30 {
            return Err(HeaderError::Corrupt);
        }
        let mut lengths = Self {
            literals,
            distances,
            ..Self::default()
        };
        let mut code = [0; 19];
        for place in &ORDER[..count] {
            bits.refill();
            let Some(length) = bits.take(3) else {
                return Ok(None);
            };
            code[*place] = length as u8;
        }
        let mut codes = Code::EMPTY;
        if !codes.set(&code, Incomplete::None) {
            return Err(HeaderError::Corrupt);
        }
        if lengths.fill(bits, &codes)?.is_none() {
            return Ok(None);
        }
        Ok(Some(lengths))
    }

    /// Reads three counts of lengths: for literals, for distances, and for the code of the lengths.
    fn counts(bits: &mut Bits<'_>) -> Option<[usize; 3]> {
        let [literals, distances, code] = [bits.take(5)?, bits.take(5)?, bits.take(4)?];
        Some([
            literals as usize + 257,
            distances as usize + 1,
            code as usize + 4,
        ])
    }

    /// Reads all lengths.
    fn fill(&mut self, bits: &mut Bits<'_>, code: &Code) -> Result<Option<()>, HeaderError> {
        let mut at = 0;
        let end = self.literals + self.distances;
        while at < end {
            bits.refill();
            let Some(symbol) = code.decode(bits) else {
                return Ok(None);
            };
            let (value, least, extra) = match symbol {
                0..16 => (symbol as u8, 1, 0),
                16 if at == 0 => return Err(HeaderError::Corrupt),
                16 => (self.all[at - 1], 3, 2),
                17 => (0, 3, 3),
                _ => (0, 11, 7),
            };
            let Some(more) = bits.take(extra) else {
                return Ok(None);
            };
            let times = least + more as usize;
            if at + times > end {
                return Err(HeaderError::Corrupt);
            }
            self.all[at..at + times].fill(value);
            at += times;
        }
        Ok(Some(()))
    }

    /// Builds the codes in place of the previous ones.
    ///
    /// # Errors
    ///
    /// Returns [`HeaderError::Corrupt`] if there are no such codes, or no code for the end of the
    /// block.
    pub(super) fn set(&self, codes: &mut Codes) -> Result<(), HeaderError> {
        let (literals, distances) = self.all.split_at(self.literals);
        let distances = &distances[..self.distances];
        let is_sound = literals[256] != 0
            && codes.literals.set(literals, Incomplete::Lone)
            && codes.distances.set(distances, Incomplete::LoneOrEmpty);
        if is_sound {
            Ok(())
        } else {
            Err(HeaderError::Corrupt)
        }
    }
}

/// The order in which the lengths of the code for lengths are sent.
const ORDER: [usize; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// The shortest length of each symbol from 257 on, and its number of extra bits.
pub(super) static LENGTHS: [(u16, u8); 29] = {
    let mut table = [(258, 0); 29];
    let mut base = 3;
    let mut place = 0;
    while place < 28 {
        let extra = if place < 8 { 0 } else { (place - 4) / 4 };
        table[place] = (base, extra as u8);
        base += 1 << extra;
        place += 1;
    }
    table
};

/// The shortest distance of each symbol, and its number of extra bits.
pub(super) static DISTANCES: [(u16, u8); 30] = {
    let mut table = [(0, 0); 30];
    let mut base = 1u32;
    let mut place = 0;
    while place < 30 {
        let extra = if place < 4 { 0 } else { (place - 2) / 2 };
        table[place] = (base as u16, extra as u8);
        base += 1 << extra;
        place += 1;
    }
    table
};
