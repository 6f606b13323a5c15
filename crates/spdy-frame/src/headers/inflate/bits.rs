//! Reads bits, from the low end of each byte.

/// Bits that are not read yet. At the end of the bytes a read comes to nothing.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// The next byte that is not in `buffer`.
    at: usize,
    /// The next bits; those above `count` are of bytes that are not counted yet, or 0.
    buffer: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            buffer: 0,
            count: 0,
        }
    }

    /// Sees to it that 56 bits are at hand, or all there are: more than the longest symbol has. Returns whether there are
    /// more than before.
    #[inline(always)]
    pub(super) fn refill(&mut self) -> bool {
        let before = self.count;
        if let Some(bytes) = self.bytes[self.at..].first_chunk() {
            self.buffer |= u64::from_le_bytes(*bytes) << self.count;
            let taken = (63 - self.count) >> 3;
            self.at += taken as usize;
            self.count += taken * 8;
        } else {
            self.refill_from_few();
        }
        self.count > before
    }

    #[inline]
    fn refill_from_few(&mut self) {
        while self.count < 56
            && let Some(byte) = self.bytes.get(self.at)
        {
            self.buffer |= u64::from(*byte) << self.count;
            self.at += 1;
            self.count += 8;
        }
    }

    /// The next bits without reading them, with 0 for those that are missing.
    #[inline(always)]
    pub(super) const fn peek(&self) -> u64 {
        self.buffer
    }

    /// Reads at most 16 bits that are at hand.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        let bits = self.buffer as u32 & ((1 << count) - 1);
        self.skip(count)?;
        Some(bits)
    }

    #[inline(always)]
    pub(super) fn skip(&mut self, count: u32) -> Option<()> {
        self.count = self.count.checked_sub(count)?;
        self.buffer >>= count;
        Some(())
    }

    /// Reads the length of a stored block and the check of it, which begin with the next byte. Then
    /// [`bytes`](Self::bytes) may follow.
    pub(super) fn stored_length(&mut self) -> Option<(u16, u16)> {
        self.skip(self.count % 8)?;
        self.refill();
        let (length, check) = (self.take(16)?, self.take(16)?);
        self.at -= (self.count / 8) as usize;
        self.buffer = 0;
        self.count = 0;
        Some((length as u16, check as u16))
    }

    /// Reads that number of bytes, or all there are, where no bits are at hand.
    pub(super) fn bytes(&mut self, most: usize) -> &'a [u8] {
        debug_assert!(self.count == 0, "bits are passed over");
        let rest = &self.bytes[self.at..];
        let bytes = &rest[..most.min(rest.len())];
        self.at += bytes.len();
        bytes
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.count == 0 && self.at == self.bytes.len()
    }

    /// The bytes that are not read as a whole, and how many bits of the first one are.
    pub(super) fn rest(&self) -> (&'a [u8], u32) {
        let whole = self.count.div_ceil(8);
        (
            &self.bytes[self.at - whole as usize..],
            whole * 8 - self.count,
        )
    }
}
