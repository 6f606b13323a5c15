//! Deflate streams of all kinds: header blocks as zlib writes them, blocks in codes that zlib never
//! makes, and damaged ones.

use flate2::{Compress, FlushCompress};

/// A small generator of random numbers (xorshift64*).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Returns bytes like those of header blocks, bytes that look like marks of deflate, or noise.
    pub(super) fn bytes(&mut self, before: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let longest = self.pick(&[20, 500, 5000]);
        let length = self.below(longest);
        while bytes.len() < length {
            match self.below(8) {
                0 => bytes.extend(b"\0\0\0\x06accept\0\0\0\x03*/*"),
                1 => bytes.extend(b"\0\0\xff\xff"),
                2 => bytes.extend(b"\x01\0\0\xff\xff\0\0\0\xff\xff"),
                3 => bytes.extend(vec![self.next() as u8; self.below(600)]),
                4 => bytes.extend((0..self.below(40)).map(|_| self.next() as u8)),
                5 => bytes.extend((0..self.below(90)).map(|_| b'a' + (self.next() % 26) as u8)),
                _ if before.is_empty() => {}
                _ => {
                    let from = self.below(before.len());
                    bytes.extend(before[from..].iter().take(self.below(400)));
                }
            }
        }
        bytes
    }
}

pub(super) const DICTIONARY: &[u8] =
    b"content-lengthacceptaccept-encodinguser-agent\0\0\0\x06accept";

const FLUSHES: [FlushCompress; 4] = [
    FlushCompress::None,
    FlushCompress::Partial,
    FlushCompress::Sync,
    FlushCompress::Full,
];

/// Deflates a block of bytes in a few parts, each with some flush. The last flush writes
/// everything.
pub(super) fn deflate(random: &mut Random, compress: &mut Compress, bytes: &[u8]) -> Vec<u8> {
    let mut deflated = Vec::with_capacity(2 * bytes.len() + 4000);
    let part = 1 + random.below(bytes.len().max(1)).max(bytes.len() / 50);
    for part in bytes.chunks(part) {
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

/// Changes a few bits and bytes, or cuts the stream off.
pub(super) fn damage(random: &mut Random, deflated: &mut Vec<u8>) {
    for _ in 0..random.below(4) {
        let at = random.below(deflated.len().min(60));
        deflated[at] = match random.below(3) {
            0 => 0,
            _ => deflated[at] ^ 1 << random.below(8),
        };
    }
    if random.below(4) == 0 {
        deflated.truncate(random.below(deflated.len()));
    }
}

// --- streams that zlib never writes --------

/// Writes deflate blocks bit by bit.
#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    count: usize,
}

impl BitWriter {
    fn put(&mut self, value: usize, count: u8) {
        for place in 0..count {
            if self.count.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let bit = (value >> place & 1) as u8;
            *self.bytes.last_mut().unwrap() |= bit << (self.count % 8);
            self.count += 1;
        }
    }

    /// Writes a symbol of a code, highest bit first.
    fn symbol(&mut self, code: &[(usize, u8)], symbol: usize) {
        let (bits, length) = code[symbol];
        (0..length)
            .rev()
            .for_each(|place| self.put(bits >> place & 1, 1));
    }
}

/// Returns the code of each symbol, for symbols with these lengths (RFC 1951 §3.2.2).
fn codes(lengths: &[u8]) -> Vec<(usize, u8)> {
    let mut codes = vec![(0, 0); lengths.len()];
    let mut code = 0;
    for length in 1..16 {
        code <<= 1;
        for (symbol, _) in lengths
            .iter()
            .enumerate()
            .filter(|(_, own)| **own == length)
        {
            codes[symbol] = (code & 0xffff, length);
            code += 1;
        }
    }
    codes
}

/// Returns lengths of a code for some of the symbols, mostly of a complete code with short and long
/// symbols.
fn lengths(random: &mut Random, symbols: usize, needed: &[usize]) -> Vec<u8> {
    let mut leaves = vec![0u8];
    let wanted = 1 + random.below(symbols);
    let is_deep = random.below(2) == 0;
    while leaves.len() < wanted {
        let place = if is_deep {
            leaves.len() - 1
        } else {
            random.below(leaves.len())
        };
        if leaves[place] >= 15 {
            if is_deep {
                break;
            }
            continue;
        }
        leaves[place] += 1;
        leaves.push(leaves[place]);
    }
    match random.below(12) {
        // One code is missing, or there is one too many, or there are no codes.
        0 => drop(leaves.pop()),
        1 => leaves.push(1 + random.below(15) as u8),
        2 => leaves.clear(),
        _ => {}
    }
    let mut lengths = vec![0; symbols];
    let mut free: Vec<usize> = (0..symbols).collect();
    for (index, length) in leaves.into_iter().enumerate() {
        if free.is_empty() {
            break;
        }
        let wanted = needed.get(index).filter(|_| random.below(30) > 0);
        let place = wanted.and_then(|wanted| free.iter().position(|symbol| symbol == wanted));
        let place = place.unwrap_or_else(|| random.below(free.len()));
        // A lone symbol has one bit.
        lengths[free.swap_remove(place)] = length.max(u8::from(length == 0));
    }
    lengths
}

/// Returns a stream of blocks with their own codes, with any lengths, distances and symbols. Some
/// codes are invalid.
pub(super) fn strange(random: &mut Random) -> Vec<u8> {
    let mut writer = BitWriter::default();
    for _ in 0..1 + random.below(3) {
        let (literals, distances) = (257 + random.below(32), 1 + random.below(32));
        let literals = lengths(random, literals, &[256, 65, 257, 66]);
        let distances = lengths(random, distances, &[0, 1]);
        writer.put(usize::from(random.below(6) == 0) | 0b100, 3);
        writer.put(literals.len() - 257, 5);
        writer.put(distances.len() - 1, 5);
        writer.put(15, 4);
        // The code for lengths has all symbols: with 4 bits up to 12, and 5 bits above.
        let code: Vec<u8> = (0..19)
            .map(|symbol| if symbol < 13 { 4 } else { 5 })
            .collect();
        for symbol in [
            16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
        ] {
            writer.put(code[symbol].into(), 3);
        }
        let all = [&literals[..], &distances].concat();
        write_lengths(random, &mut writer, &codes(&code), &all);
        symbols(random, &mut writer, &codes(&literals), &codes(&distances));
    }
    writer.put(0, 3);
    writer.bytes
}

/// Returns this number of empty blocks with their own codes, each as short as it can be: 90 bits.
pub(super) fn empty_with_codes(count: usize) -> Vec<u8> {
    let mut writer = BitWriter::default();
    for _ in 0..count {
        writer.put(0b100, 3);
        // One distance, and the lengths of all symbols of the code for lengths but the last.
        writer.put(0, 10);
        writer.put(14, 4);
        let mut code = vec![0; 19];
        (code[18], code[1]) = (1, 1);
        let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1];
        for symbol in order {
            writer.put(code[symbol].into(), 3);
        }
        // No literals, the end of the block, and a distance.
        let code = codes(&code);
        for zeros in [138, 118] {
            writer.symbol(&code, 18);
            writer.put(zeros - 11, 7);
        }
        writer.symbol(&code, 1);
        writer.symbol(&code, 1);
        writer.put(0, 1);
    }
    writer.bytes
}

/// Writes lengths, some of them as repeats. A few lengths are too long, and a few repeats have no
/// length before them.
fn write_lengths(
    random: &mut Random,
    writer: &mut BitWriter,
    code: &[(usize, u8)],
    lengths: &[u8],
) {
    let mut at = 0;
    while at < lengths.len() {
        let length = lengths[at];
        let is_repeat = at > 0 && lengths[at - 1] == length;
        let same = lengths[at..].iter().take_while(|other| **other == length);
        let run = same.count() + usize::from(random.below(300) == 0);
        let repeat = match (length, run) {
            (0, 11..) => Some((18, 11, 138, 7)),
            (0, 3..) => Some((17, 3, 10, 3)),
            (_, 3..) if is_repeat || random.below(100) == 0 => Some((16, 3, 6, 2)),
            _ => None,
        };
        match repeat.filter(|_| random.below(5) > 0) {
            Some((symbol, least, most, extra)) => {
                writer.symbol(code, symbol);
                writer.put(run.min(most) - least, extra);
                at += run.min(most);
            }
            None => {
                writer.symbol(code, length.into());
                at += 1;
            }
        }
    }
}

/// Writes some symbols of a block, mostly including its end.
fn symbols(
    random: &mut Random,
    writer: &mut BitWriter,
    literals: &[(usize, u8)],
    distances: &[(usize, u8)],
) {
    let used = |code: &[(usize, u8)]| -> Vec<usize> {
        (0..code.len())
            .filter(|symbol| code[*symbol].1 > 0)
            .collect()
    };
    let (literal_symbols, distance_symbols) = (used(literals), used(distances));
    if literal_symbols.is_empty() {
        return;
    }
    for _ in 0..random.below(60) {
        let symbol = random.pick(&literal_symbols);
        if symbol == 256 {
            continue;
        }
        writer.symbol(literals, symbol);
        if symbol > 256 {
            let extra = if symbol < 265 { 0 } else { (symbol - 261) / 4 };
            writer.put(
                random.next() as usize,
                if symbol == 285 { 0 } else { extra as u8 },
            );
            if distance_symbols.is_empty() {
                return;
            }
            let symbol = match random.below(3) {
                0 => random.pick(&distance_symbols),
                _ => distance_symbols[0],
            };
            writer.symbol(distances, symbol);
            let extra = if symbol < 4 { 0 } else { (symbol - 2) / 2 };
            writer.put(random.next() as usize, extra as u8);
        }
    }
    if random.below(10) > 0 {
        writer.symbol(literals, 256);
    }
}
