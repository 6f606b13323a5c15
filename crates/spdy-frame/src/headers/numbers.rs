//! Numbers in header blocks: the count of pairs, and the lengths of names and values (protocol.md §7.1).

use crate::Version;

/// How numbers are written in blocks: with 16 bits in SPDY/2, with 32 later.
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

    /// How many bytes a number has.
    pub(super) const fn width(self) -> usize {
        match self {
            Self::Short => 2,
            Self::Long => 4,
        }
    }

    /// The largest number.
    pub(super) const fn most(self) -> usize {
        match self {
            Self::Short => u16::MAX as usize,
            Self::Long => u32::MAX as usize,
        }
    }

    /// Reads a number off the front of `bytes`. What follows it is a part of the answer.
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

    /// Writes a number.
    #[inline]
    pub(super) fn bytes(self, number: usize) -> Number {
        Number {
            bytes: (number as u32).to_be_bytes(),
            width: self.width(),
        }
    }
}

/// A number as bytes.
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
