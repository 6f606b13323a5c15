//! Writes deflate blocks in the fixed Huffman code (RFC 1951 §3.2.6).
//!
//! Deflate fills bytes from their low end. Huffman codes are written with their bits reversed,
//! numbers as they are.

/// The shortest match of deflate.
pub(super) const MIN_MATCH: usize = 3;

/// The longest match of deflate.
const MAX_MATCH: usize = 258;

/// The largest distance of deflate.
pub(super) const WINDOW: u64 = 32 * 1024;

/// The empty stored block, aligned to a byte, that ends every header block.
const SYNC_MARKER: [u8; 4] = [0, 0, 0xff, 0xff];

/// Returns the largest size of one block with its sync marker, for `bytes` bytes of content. A
/// literal takes up to 9 bits. The size includes room for the last store of 8 bytes.
pub(super) const fn bound(bytes: usize) -> usize {
    bytes + bytes / 8 + 24
}

/// A deflate block that is being written.
pub(super) struct BlockWriter<'a> {
    dst: &'a mut [u8],
    /// The number of whole bytes written.
    at: usize,
    /// The bits that do not fill a byte yet.
    bits: u64,
    /// The number of these bits, at most 7 between calls.
    count: u32,
}

impl<'a> BlockWriter<'a> {
    /// Starts a block that is not the last one. The content must fit, see [`bound`].
    pub(super) fn begin(dst: &'a mut [u8]) -> Self {
        Self {
            dst,
            at: 0,
            // Not the last block; fixed Huffman code.
            bits: 0b010,
            count: 3,
        }
    }

    /// Writes bytes as literals.
    #[inline]
    pub(super) fn literals(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for bytes in words {
            let word = u64::from_le_bytes(*bytes);
            if word & 0x8080_8080_8080_8080 == 0 {
                self.eight(word);
            } else {
                bytes.iter().for_each(|byte| self.literal(*byte));
            }
        }
        rest.iter().for_each(|byte| self.literal(*byte));
    }

    #[inline]
    fn literal(&mut self, byte: u8) {
        if byte < 144 {
            self.put(u64::from((0x30 + byte).reverse_bits()), 8);
        } else {
            let code = 0x190 + u16::from(byte - 144);
            self.put(u64::from(code.reverse_bits() >> 7), 9);
        }
    }

    /// Writes eight bytes below 144, as [`literal`](Self::literal) would.
    #[inline]
    fn eight(&mut self, word: u64) {
        let codes = (word + 0x3030_3030_3030_3030).swap_bytes().reverse_bits();
        let whole = self.bits | codes << self.count;
        self.dst[self.at..self.at + 8].copy_from_slice(&whole.to_le_bytes());
        self.at += 8;
        // The shift has two steps, because a shift by 64 bits is not allowed.
        self.bits = codes >> 1 >> (63 - self.count);
    }

    /// Writes a copy of the `length` bytes that start `distance` bytes back. A copy of 3 to 258
    /// bytes is one match; a longer one is several.
    #[inline]
    pub(super) fn copy(&mut self, mut length: usize, distance: u64) {
        debug_assert!(length >= MIN_MATCH && (1..=WINDOW).contains(&distance));
        let (distance, distance_bits) = distance_code(distance as u32);
        while length > 0 {
            // What remains must not be shorter than a match.
            let part = match length {
                0..=MAX_MATCH => length,
                _ => MAX_MATCH.min(length - MIN_MATCH),
            };
            let (code, bits) = length_code(part as u32);
            self.put(code | distance << bits, bits + distance_bits);
            length -= part;
        }
    }

    /// Ends the block and adds a sync marker. Returns the number of bytes written.
    pub(super) fn finish(mut self) -> usize {
        // The code for the end of the block is seven zero bits. Three more zero bits start a stored
        // block that is not the last one, and it continues at the next byte boundary.
        self.put(0, 7 + 3);
        self.at += usize::from(self.count > 0);
        let end = self.at + SYNC_MARKER.len();
        self.dst[self.at..end].copy_from_slice(&SYNC_MARKER);
        end
    }

    /// Writes up to 56 bits.
    #[inline]
    fn put(&mut self, bits: u64, count: u32) {
        self.bits |= bits << self.count;
        self.count += count;
        self.dst[self.at..self.at + 8].copy_from_slice(&self.bits.to_le_bytes());
        self.at += (self.count / 8) as usize;
        self.bits >>= self.count & !7;
        self.count &= 7;
    }
}

/// Returns the code with the extra bits for a length of 3 to 258, and the number of all these bits.
#[inline]
fn length_code(length: u32) -> (u64, u32) {
    let above = length - MIN_MATCH as u32;
    let (symbol, extra) = if length == MAX_MATCH as u32 {
        (28, 0)
    } else {
        // Each number of extra bits belongs to four symbols, except 0, which belongs to eight.
        let extra = (above | 4).ilog2() - 2;
        (4 * extra + (above >> extra), extra)
    };
    let rest = above & ((1 << extra) - 1);
    // Symbols up to 279 have 7 bits, from 280 on 8. The first symbol of a length is 257.
    let (code, bits) = if symbol < 23 {
        ((symbol as u8 + 1).reverse_bits() >> 1, 7)
    } else {
        ((0xc0 + symbol as u8 - 23).reverse_bits(), 8)
    };
    (u64::from(code) | u64::from(rest) << bits, bits + extra)
}

/// Returns the code with the extra bits for a distance, and the number of all these bits.
#[inline]
fn distance_code(distance: u32) -> (u64, u32) {
    let above = distance - 1;
    // Each number of extra bits belongs to two symbols, except 0, which belongs to four.
    let extra = (above | 2).ilog2() - 1;
    let symbol = 2 * extra + (above >> extra);
    let rest = above & ((1 << extra) - 1);
    let code = (symbol as u8).reverse_bits() >> 3;
    (u64::from(code) | u64::from(rest) << 5, 5 + extra)
}

#[cfg(test)]
mod tests {
    use flate2::{Decompress, FlushDecompress, Status};

    use super::*;

    fn write(room: usize, write: impl FnOnce(&mut BlockWriter<'_>)) -> Vec<u8> {
        let mut dst = vec![0; bound(room)];
        let mut writer = BlockWriter::begin(&mut dst);
        write(&mut writer);
        let length = writer.finish();
        dst.truncate(length);
        dst
    }

    fn inflate(inflater: &mut Decompress, deflated: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 << 17);
        let result = inflater.decompress_vec(deflated, &mut bytes, FlushDecompress::Sync);
        assert_eq!(result.unwrap(), Status::Ok);
        bytes
    }

    #[test]
    fn an_empty_block_is_two_bytes_and_the_marker() {
        assert_eq!(write(0, |_| {}), [2, 0, 0, 0, 0xff, 0xff]);
    }

    #[test]
    fn the_longest_output_fits_its_bound() {
        for length in 0..400 {
            let bytes = vec![0xff; length];
            let written = write(length, |writer| writer.literals(&bytes));
            assert_eq!(inflate(&mut Decompress::new(false), &written), bytes);
        }
    }

    #[test]
    fn literals_can_be_inflated_at_every_bit_position() {
        let all: Vec<u8> = (0..=255).collect();
        for shift in 0..16 {
            let bytes = [&vec![200; shift], &all[..], b"text as usual", &all[shift..]].concat();
            let written = write(bytes.len(), |writer| writer.literals(&bytes));
            assert_eq!(inflate(&mut Decompress::new(false), &written), bytes);
        }
    }

    #[test]
    fn copies_of_all_lengths_and_distances_can_be_inflated() {
        let history: Vec<u8> = (0..WINDOW as u32 + 500)
            .map(|index| (index.wrapping_mul(index) >> 7) as u8)
            .collect();
        let mut distances: Vec<usize> = (0..15)
            .flat_map(|bit| [1 << bit, (1 << bit) + 1, 3 << bit])
            .filter(|distance| *distance <= WINDOW as usize)
            .collect();
        distances.push(WINDOW as usize);
        let lengths = (3..600).chain([40_000]);
        for (round, length) in lengths.enumerate() {
            let distance = distances[round % distances.len()];
            let mut inflater = Decompress::new(false);
            let written = write(history.len(), |writer| writer.literals(&history));
            assert_eq!(inflate(&mut inflater, &written), history);
            let written = write(length, |writer| writer.copy(length, distance as u64));
            let expected: Vec<u8> = history[history.len() - distance..]
                .iter()
                .copied()
                .cycle()
                .take(length)
                .collect();
            assert_eq!(
                inflate(&mut inflater, &written),
                expected,
                "{length} {distance}"
            );
        }
    }
}
