//! The entries of SETTINGS (protocol.md §5.4, §14).

use std::fmt;

use crate::Version;

/// The id of a setting. Unknown ids are kept, and receivers ignore them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SettingId(pub u32);

impl SettingId {
    /// Estimated upload bandwidth in kB/s.
    pub const UPLOAD_BANDWIDTH: Self = Self(1);
    /// Estimated download bandwidth in kB/s.
    pub const DOWNLOAD_BANDWIDTH: Self = Self(2);
    /// Expected round-trip time in milliseconds.
    pub const ROUND_TRIP_TIME: Self = Self(3);
    /// The number of concurrent streams that the sender accepts from the receiver.
    pub const MAX_CONCURRENT_STREAMS: Self = Self(4);
    /// TCP congestion window in packets.
    pub const CURRENT_CWND: Self = Self(5);
    /// Retransmission rate of downloads, in percent.
    pub const DOWNLOAD_RETRANS_RATE: Self = Self(6);
    /// The initial size of stream windows, in bytes. It has no effect in SPDY/2.
    pub const INITIAL_WINDOW_SIZE: Self = Self(7);
    /// The number of slots for client certificates (SPDY/3 only).
    pub const CLIENT_CERTIFICATE_VECTOR_SIZE: Self = Self(8);
}

impl fmt::Debug for SettingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SettingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::UPLOAD_BANDWIDTH => "UPLOAD_BANDWIDTH",
            Self::DOWNLOAD_BANDWIDTH => "DOWNLOAD_BANDWIDTH",
            Self::ROUND_TRIP_TIME => "ROUND_TRIP_TIME",
            Self::MAX_CONCURRENT_STREAMS => "MAX_CONCURRENT_STREAMS",
            Self::CURRENT_CWND => "CURRENT_CWND",
            Self::DOWNLOAD_RETRANS_RATE => "DOWNLOAD_RETRANS_RATE",
            Self::INITIAL_WINDOW_SIZE => "INITIAL_WINDOW_SIZE",
            Self::CLIENT_CERTIFICATE_VECTOR_SIZE => "CLIENT_CERTIFICATE_VECTOR_SIZE",
            Self(id) => return write!(f, "setting {id}"),
        })
    }
}

/// The flags of one entry. Unknown bits are kept on receipt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SettingFlags(pub u8);

impl SettingFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// Sent by a server: asks the client to send the value back in its next session.
    pub const PERSIST_VALUE: Self = Self(1);
    /// Sent by a client: the value is one that the server asked it to persist.
    pub const PERSISTED: Self = Self(2);

    /// Returns whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// One entry of a SETTINGS frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Setting {
    /// The id. Only the lower 24 bits are sent.
    pub id: SettingId,
    /// The flags of the entry.
    pub flags: SettingFlags,
    /// The value. Its unit depends on the id.
    pub value: u32,
}

impl Setting {
    /// Returns an entry without flags.
    #[must_use]
    pub const fn new(id: SettingId, value: u32) -> Self {
        Self {
            id,
            flags: SettingFlags::NONE,
            value,
        }
    }

    /// Reads an entry. In SPDY/2 the id comes first and is little-endian, which was a mistake that
    /// became the standard. In later versions the flags come first and the id is big-endian
    /// (protocol.md §5.4).
    pub(crate) const fn from_bytes(version: Version, bytes: [u8; 8]) -> Self {
        let [a, b, c, d, value @ ..] = bytes;
        let (id, flags) = match version {
            Version::V2 => (u32::from_le_bytes([a, b, c, 0]), d),
            Version::V3 | Version::V3_1 => (u32::from_be_bytes([0, b, c, d]), a),
        };
        Self {
            id: SettingId(id),
            flags: SettingFlags(flags),
            value: u32::from_be_bytes(value),
        }
    }

    /// Returns the bytes of the entry, with the lower 24 bits of the id.
    pub(crate) const fn to_bytes(self, version: Version) -> [u8; 8] {
        let SettingFlags(flags) = self.flags;
        let [_, high, middle, low] = self.id.0.to_be_bytes();
        let [p, q, r, s] = self.value.to_be_bytes();
        match version {
            Version::V2 => [low, middle, high, flags, p, q, r, s],
            Version::V3 | Version::V3_1 => [flags, high, middle, low, p, q, r, s],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: Setting = Setting {
        id: SettingId(0x01_02_03),
        flags: SettingFlags::PERSIST_VALUE,
        value: 0x0405_0607,
    };

    #[test]
    fn c072_entries_of_v2_have_a_little_endian_id_and_then_the_flags() {
        let bytes = [3, 2, 1, 1, 4, 5, 6, 7];
        assert_eq!(ENTRY.to_bytes(Version::V2), bytes);
        assert_eq!(Setting::from_bytes(Version::V2, bytes), ENTRY);
    }

    #[test]
    fn c073_entries_of_v3_have_the_flags_and_then_a_big_endian_id() {
        let bytes = [1, 1, 2, 3, 4, 5, 6, 7];
        for version in [Version::V3, Version::V3_1] {
            assert_eq!(ENTRY.to_bytes(version), bytes);
            assert_eq!(Setting::from_bytes(version, bytes), ENTRY);
        }
    }
}
