//! Stream priorities.

use crate::Version;

/// The priority of a stream: 0 is the highest, 7 the lowest, in every version (protocol.md §17).
///
/// SPDY/2 has two bits, so priorities above 3 are written as 3 there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// Served before all others.
    pub const HIGHEST: Self = Self(0);
    /// Served after all others.
    pub const LOWEST: Self = Self(7);
    /// How many priorities there are.
    pub const COUNT: usize = 8;

    /// Makes a priority of a number; `None` above 7.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        if value < Self::COUNT as u8 {
            Some(Self(value))
        } else {
            None
        }
    }

    /// The number, 0 to 7.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Reads the priority from the byte that holds it in SYN_STREAM: the top two bits in SPDY/2, the top
    /// three later. The other bits are unused.
    #[must_use]
    pub const fn from_byte(version: Version, byte: u8) -> Self {
        Self(byte >> Self::shift(version))
    }

    /// The byte of SYN_STREAM that holds the priority.
    #[must_use]
    pub const fn to_byte(self, version: Version) -> u8 {
        let highest = 0xff >> Self::shift(version);
        let value = if self.0 > highest { highest } else { self.0 };
        value << Self::shift(version)
    }

    const fn shift(version: Version) -> u32 {
        match version {
            Version::V2 => 6,
            Version::V3 | Version::V3_1 => 5,
        }
    }
}

impl Default for Priority {
    /// The middle: 3, which is the lowest in SPDY/2 and leaves room on both sides later.
    fn default() -> Self {
        Self(3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c058_c059_the_byte_has_two_bits_in_v2_and_three_later() {
        assert_eq!(Priority::from_byte(Version::V2, 0xe0).get(), 3);
        assert_eq!(Priority::from_byte(Version::V3, 0xe0).get(), 7);
        assert_eq!(Priority::from_byte(Version::V3_1, 0x7f).get(), 3);
    }

    #[test]
    fn writing_clamps_to_what_the_version_has() {
        assert_eq!(Priority::LOWEST.to_byte(Version::V2), 0xc0);
        assert_eq!(Priority::LOWEST.to_byte(Version::V3), 0xe0);
        assert_eq!(Priority(2).to_byte(Version::V2), 0x80);
        assert_eq!(Priority::new(8), None);
    }
}
