//! SETTINGS (protocol.md §5.4).

use std::fmt;

use bytes::{Buf, BytesMut};

use super::head::{self, FLAG_CLEAR_SETTINGS};
use crate::{FrameError, Setting, Version};

/// SETTINGS ([protocol.md §5.4]).
///
/// At most [`Settings::MAX_ENTRIES`] entries are kept. The others of a longer frame are ignored.
///
/// [protocol.md §5.4]: https://github.com/spdy-rs/spdy/blob/main/docs/protocol.md#54-settings-type-4
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Frame flag 0x01, sent only by servers: the client forgets the values that it has persisted.
    pub clear: bool,
    /// The entries in wire order. If an id occurs more than once, only its first entry is kept.
    pub entries: Vec<Setting>,
}

impl Settings {
    /// The number of entries of one frame that are read.
    pub const MAX_ENTRIES: usize = 64;

    /// Parses a payload of at least 4 bytes.
    pub(crate) fn parse(
        version: Version,
        flags: u8,
        mut payload: &[u8],
    ) -> Result<Self, FrameError> {
        let length = payload.len() as u32;
        let count = payload.get_u32();
        let (entries, surplus) = payload.as_chunks::<8>();
        // The count comes from the peer, so it is checked before anything is allocated (protocol.md
        // §5.4).
        if entries.len() != count as usize || !surplus.is_empty() {
            return Err(FrameError::SettingsCount { count, length });
        }
        let entries = &entries[..entries.len().min(Self::MAX_ENTRIES)];
        let mut kept: Vec<Setting> = Vec::with_capacity(entries.len());
        for bytes in entries {
            let entry = Setting::from_bytes(version, *bytes);
            if kept.iter().all(|earlier| earlier.id != entry.id) {
                kept.push(entry);
            }
        }
        Ok(Self {
            clear: flags & FLAG_CLEAR_SETTINGS != 0,
            entries: kept,
        })
    }

    /// Appends the frame to `dst`, with its first [`MAX_ENTRIES`](Self::MAX_ENTRIES) entries in the
    /// given order.
    ///
    /// Peers expect the ids 1 to 7, in ascending order and each once. The caller must ensure this.
    pub fn encode(&self, version: Version, dst: &mut BytesMut) {
        let entries = &self.entries[..self.entries.len().min(Self::MAX_ENTRIES)];
        let flags = if self.clear { FLAG_CLEAR_SETTINGS } else { 0 };
        let count = entries.len() as u32;
        head::put_control(version, head::SETTINGS, flags, 4 + 8 * count, dst);
        dst.extend_from_slice(&count.to_be_bytes());
        for entry in entries {
            dst.extend_from_slice(&entry.to_bytes(version));
        }
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SETTINGS flags={}",
            if self.clear { "CLEAR" } else { "0" }
        )?;
        for entry in &self.entries {
            write!(f, " {}={}", entry.id, entry.value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SettingFlags, SettingId};

    fn parse(version: Version, bytes: &[u8]) -> Vec<(u32, u32)> {
        let frame = Settings::parse(version, 0, bytes).unwrap();
        frame
            .entries
            .iter()
            .map(|entry| (entry.id.0, entry.value))
            .collect()
    }

    #[test]
    fn c071_the_id_is_little_endian_in_v2() {
        let payload = [0, 0, 0, 1, 4, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(
            parse(Version::V2, &payload),
            [(SettingId::MAX_CONCURRENT_STREAMS.0, 1)]
        );
        assert_eq!(parse(Version::V3, &payload), [(0, 1)]);
    }

    #[test]
    fn c074_of_a_repeated_id_the_first_entry_counts() {
        let payload = [
            0, 0, 0, 3, //
            0, 0, 0, 7, 0, 0, 0x4e, 0x20, //
            0, 0, 0, 7, 0, 0, 0, 10, //
            0, 0, 0, 4, 0, 0, 0, 1,
        ];
        assert_eq!(parse(Version::V3_1, &payload), [(7, 20_000), (4, 1)]);
    }

    #[test]
    fn c076_unknown_ids_and_flags_are_kept() {
        let payload = [
            0, 0, 0, 3, //
            0xf1, 0x00, 0xab, 0xcd, 0, 0, 0, 1, //
            0, 0, 0, 0, 0, 0, 0, 2, //
            0, 0, 0, 8, 0, 0, 0, 3,
        ];
        assert_eq!(parse(Version::V3, &payload), [(0xabcd, 1), (0, 2), (8, 3)]);
        let frame = Settings::parse(Version::V3, 0xfe, &payload).unwrap();
        assert_eq!(frame.entries[0].flags, SettingFlags(0xf1));
        assert!(!frame.clear);
    }

    #[test]
    fn c079_c080_a_count_that_does_not_fit_the_length_is_a_session_error() {
        let refused = |payload: &[u8]| Settings::parse(Version::V3, 0, payload).unwrap_err();
        let entry_missing = [0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 1];
        assert_eq!(
            refused(&entry_missing),
            FrameError::SettingsCount {
                count: 2,
                length: 12
            }
        );
        let no_entry = [0xff, 0xff, 0xff, 0xff];
        assert_eq!(
            refused(&no_entry),
            FrameError::SettingsCount {
                count: u32::MAX,
                length: 4
            }
        );
        let half_an_entry = [0, 0, 0, 0, 1, 2, 3, 4];
        assert_eq!(
            refused(&half_an_entry),
            FrameError::SettingsCount {
                count: 0,
                length: 8
            }
        );
        assert!(refused(&no_entry).go_away().is_some());
    }

    #[test]
    fn c081_a_frame_without_entries_is_accepted() {
        let frame = Settings::parse(Version::V2, FLAG_CLEAR_SETTINGS, &[0; 4]).unwrap();
        assert_eq!(
            frame,
            Settings {
                clear: true,
                entries: vec![]
            }
        );
    }

    #[test]
    fn entries_past_the_limit_are_not_kept() {
        let mut payload = 100_u32.to_be_bytes().to_vec();
        for id in 0..100 {
            payload.extend(Setting::new(SettingId(id), 1).to_bytes(Version::V3));
        }
        assert_eq!(parse(Version::V3, &payload).len(), Settings::MAX_ENTRIES);
    }

    #[test]
    fn frames_are_written_in_the_layout_of_their_version() {
        let persisted = SettingFlags::PERSIST_VALUE;
        let frame = Settings {
            clear: true,
            entries: vec![Setting {
                id: SettingId::MAX_CONCURRENT_STREAMS,
                flags: persisted,
                value: 100,
            }],
        };
        let mut dst = BytesMut::new();
        frame.encode(Version::V2, &mut dst);
        assert_eq!(
            dst[..],
            *b"\x80\x02\x00\x04\x01\x00\x00\x0c\x00\x00\x00\x01\x04\x00\x00\x01\x00\x00\x00\x64"
        );
        dst.clear();
        frame.encode(Version::V3, &mut dst);
        assert_eq!(
            dst[..],
            *b"\x80\x03\x00\x04\x01\x00\x00\x0c\x00\x00\x00\x01\x01\x00\x00\x04\x00\x00\x00\x64"
        );
    }

    #[test]
    fn entries_beyond_the_maximum_are_not_written() {
        let entries = (0..1000)
            .map(|id| Setting::new(SettingId(id), id))
            .collect();
        let mut dst = BytesMut::new();
        Settings {
            clear: false,
            entries,
        }
        .encode(Version::V3, &mut dst);
        assert_eq!(dst.len(), 8 + 4 + 8 * Settings::MAX_ENTRIES);
        let frame = Settings::parse(Version::V3, 0, &dst[8..]).unwrap();
        assert_eq!(frame.entries.len(), Settings::MAX_ENTRIES);
    }
}
