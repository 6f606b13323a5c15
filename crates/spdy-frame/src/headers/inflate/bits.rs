//! Reads bits, starting at the low end of each byte.

/// The bits that are not read yet. Reads after the end of the bytes return `None`.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// The index of the next byte that is not in `buffer`.
    at: usize,
    /// The next bits. Those above `count` belong to bytes that are not counted yet, or are 0.
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

    /// Fills the buffer with 56 bits or more, which is more than the longest symbol has, or with
    /// all that are left. Returns whether bits were added.
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

    /// Returns the next bits without reading them. Missing bits are 0.
    #[inline(always)]
    pub(super) const fn peek(&self) -> u64 {
        self.buffer
    }

    /// Reads at most 16 bits from the buffer. Returns `None` if it has fewer.
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

    /// Reads the length of a stored block and its check value, which start at the next byte.
    /// [`bytes`](Self::bytes) can be called afterwards.
    pub(super) fn stored_length(&mut self) -> Option<(u16, u16)> {
        self.skip(self.count % 8)?;
        self.refill();
        let (length, check) = (self.take(16)?, self.take(16)?);
        self.at -= (self.count / 8) as usize;
        self.buffer = 0;
        self.count = 0;
        Some((length as u16, check as u16))
    }

    /// Reads that number of bytes, or all that are left. The buffer must be empty.
    pub(super) fn bytes(&mut self, most: usize) -> &'a [u8] {
        debug_assert!(self.count == 0, "the buffer must be empty");
        let rest = &self.bytes[self.at..];
        let bytes = &rest[..most.min(rest.len())];
        self.at += bytes.len();
        bytes
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.count == 0 && self.at == self.bytes.len()
    }

    /// Returns the bytes that are not completely read, and the number of bits of the first one that
    /// are.
    pub(super) fn rest(&self) -> (&'a [u8], u32) {
        let whole = self.count.div_ceil(8);
        (
            &self.bytes[self.at - whole as usize..],
            whole * 8 - self.count,
        )
    }
}
