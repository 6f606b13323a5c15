//! Requests that are made by chance, and mostly malformed.

use super::*;

/// A request with several values of some fields.
pub(super) fn plain_request(version: Version) -> HeaderBlock {
    let more = [
        ("accept", "*/*"),
        ("cookie", "a=1\0b=2"),
        ("content-length", "5"),
        ("x-multi", "alpha\0beta"),
    ];
    block(&[&fields(version)[..], &more].concat())
}

/// Xorshift: the same requests in every run.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    /// A request with one or two bytes that are not what they should be, or with none.
    pub(super) fn request(&mut self, version: Version) -> HeaderBlock {
        let mut fields: Vec<_> = plain_request(version)
            .fields()
            .map(|field| (field.name().to_vec(), field.value().to_vec()))
            .collect();
        for _ in 0..self.below(3) {
            let field = self.below(fields.len());
            let bytes = if self.below(4) == 0 {
                &mut fields[field].0
            } else {
                &mut fields[field].1
            };
            let byte = ODD_BYTES[self.below(ODD_BYTES.len())];
            let place = self.below(bytes.len() + 1);
            match self.below(3) {
                0 if place < bytes.len() => bytes[place] = byte,
                1 if place < bytes.len() => drop(bytes.remove(place)),
                _ => bytes.insert(place, byte),
            }
        }
        let mut block = HeaderBlock::new();
        for (name, value) in fields {
            // The codec refuses some of them already.
            _ = block.append(name, value);
        }
        block
    }
}

const ODD_BYTES: &[u8] = b"\0\t\r\n \"#%*/:;?@[\\],a1A\x01\x7f\x80\xc3\xa9\xff";
pub(super) const ROUNDS: usize = 20_000;
