//! The numbers in header blocks: the count of pairs, and the lengths of names and values
//! (protocol.md §7.1).

use crate::Version;

/// The width of numbers in blocks: 16 bits in SPDY/2, 32 bits in later versions.
#[derive(Clone, Copy, Debug)]
pub(super) enum Numbers {
    Short,
    Long,
}

impl Numbers {
    pub(super) const fn of(version: Version) -> Self {
        match version {
            Version::V2 => Self::Short,
            Version::V3 | Version::V3_1 => Self::Long,
        }
    }

    /// Returns the number of bytes that a number takes.
    pub(super) const fn width(self) -> usize {
        match self {
            Self::Short => 2,
            Self::Long => 4,
        }
    }

    /// Returns the largest number.
    pub(super) const fn most(self) -> usize {
        match self {
            Self::Short => u16::MAX as usize,
            Self::Long => u32::MAX as usize,
        }
    }

    /// Reads a number off the front of `bytes`. Returns it with the bytes after it.
    #[inline]
    pub(super) fn read(self, bytes: &[u8]) -> Option<(usize, &[u8])> {
        match self {
            Self::Short => {
                let (number, rest) = bytes.split_first_chunk()?;
                Some((u16::from_be_bytes(*number).into(), rest))
            }
            Self::Long => {
                let (number, rest) = bytes.split_first_chunk()?;
                Some((u32::from_be_bytes(*number) as usize, rest))
            }
        }
    }

    /// Returns the bytes of a number.
    #[inline]
    pub(super) fn bytes(self, number: usize) -> Number {
        Number {
            bytes: (number as u32).to_be_bytes(),
            width: self.width(),
        }
    }
}

/// The bytes of a number.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Number {
    bytes: [u8; 4],
    width: usize,
}

impl Number {
    #[inline]
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[4 - self.width..]
    }
}
