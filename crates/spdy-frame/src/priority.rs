//! Stream priorities.

use std::fmt;

use crate::{OutOfRangeError, Version};

/// The priority of a stream: 0 is the highest and 7 the lowest, in every version
/// ([protocol.md §17]).
///
/// SPDY/2 has two bits for it, so priorities above 3 are sent as 3.
///
/// [protocol.md §17]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#17-priorities-and-scheduling
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// The highest priority, 0.
    pub const HIGHEST: Self = Self(0);
    /// The lowest priority, 7.
    pub const LOWEST: Self = Self(7);
    /// The number of priorities.
    pub const COUNT: usize = 8;

    /// Returns the priority with this number, or `None` if it is above 7.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        if value < Self::COUNT as u8 {
            Some(Self(value))
        } else {
            None
        }
    }

    /// Returns the number, 0 to 7.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Reads the priority from its byte in SYN_STREAM: the top two bits in SPDY/2, the top three in
    /// later versions. The other bits are ignored.
    #[must_use]
    pub const fn from_byte(version: Version, byte: u8) -> Self {
        Self(byte >> Self::shift(version))
    }

    /// Returns the byte of SYN_STREAM that holds the priority.
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

impl TryFrom<u8> for Priority {
    type Error = OutOfRangeError;

    fn try_from(number: u8) -> Result<Self, OutOfRangeError> {
        let lowest = Self::LOWEST.get().into();
        Self::new(number).ok_or_else(|| OutOfRangeError::new(number.into(), 0, lowest))
    }
}

impl From<Priority> for u8 {
    fn from(priority: Priority) -> Self {
        priority.get()
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Default for Priority {
    /// Returns 3: the lowest priority of SPDY/2, and a middle one in later versions.
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
        assert_eq!(Priority::try_from(7), Ok(Priority::LOWEST));
        let error = Priority::try_from(8).unwrap_err();
        assert_eq!(error.to_string(), "8 is out of range, expected 0 to 7");
    }
}
