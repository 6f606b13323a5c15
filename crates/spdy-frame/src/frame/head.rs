//! The head of every frame, 8 bytes long (protocol.md §4.1), and the rules for the head of each
//! type.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::{EncodeError, FrameError, FrameKind, StreamId, Version};

/// The length of a head in bytes.
pub(crate) const HEAD_LENGTH: usize = 8;

/// The longest payload of a frame, in bytes: the largest value of the 24-bit length field.
pub(crate) const MAX_LENGTH: u32 = 0x00ff_ffff;

/// FIN, on every frame that can have it.
pub(crate) const FLAG_FIN: u8 = 0x01;
/// UNIDIRECTIONAL, on SYN_STREAM.
pub(crate) const FLAG_UNIDIRECTIONAL: u8 = 0x02;
/// CLEAR_SETTINGS, on SETTINGS.
pub(crate) const FLAG_CLEAR_SETTINGS: u8 = 0x01;
/// "Compressed" on DATA, in an early SPDY/3 text only (protocol.md §6).
pub(crate) const FLAG_COMPRESSED: u8 = 0x02;

// Type numbers (protocol.md §4.2).
pub(crate) const SYN_STREAM: u16 = 1;
pub(crate) const SYN_REPLY: u16 = 2;
pub(crate) const RST_STREAM: u16 = 3;
pub(crate) const SETTINGS: u16 = 4;
pub(crate) const NOOP: u16 = 5;
pub(crate) const PING: u16 = 6;
pub(crate) const GOAWAY: u16 = 7;
pub(crate) const HEADERS: u16 = 8;
pub(crate) const WINDOW_UPDATE: u16 = 9;
pub(crate) const CREDENTIAL: u16 = 10;

/// The head of a frame, split into fields and not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// The control bit is set.
    Control(ControlHead),
    /// The control bit is clear.
    Data(DataHead),
}

/// The head of a control frame, kept as one number so that it stays in one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ControlHead(u64);

impl ControlHead {
    /// Returns the version field, which has 15 bits.
    #[inline]
    pub(crate) const fn version(self) -> u16 {
        (self.0 >> 48) as u16 & 0x7fff
    }

    /// Returns the type number.
    #[inline]
    pub(crate) const fn number(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// Returns the flags byte.
    #[inline]
    pub(crate) const fn flags(self) -> u8 {
        (self.0 >> 24) as u8
    }

    /// Returns the number of bytes after the head, at most [`MAX_LENGTH`].
    #[inline]
    pub(crate) const fn length(self) -> u32 {
        self.0 as u32 & MAX_LENGTH
    }
}

/// The head of a DATA frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DataHead {
    /// The stream; `None` for id 0.
    pub(crate) stream: Option<StreamId>,
    /// The flags byte.
    pub(crate) flags: u8,
    /// The number of bytes after the head, at most [`MAX_LENGTH`].
    pub(crate) length: u32,
}

impl Head {
    /// Reads the head at the front of `src`. Returns `None` if it is not complete.
    #[inline]
    pub(crate) fn read(src: &[u8]) -> Option<Self> {
        let word = u64::from_be_bytes(*src.first_chunk::<HEAD_LENGTH>()?);
        Some(if word >> 63 == 1 {
            Self::Control(ControlHead(word))
        } else {
            Self::Data(DataHead {
                stream: StreamId::new((word >> 32) as u32),
                flags: (word >> 24) as u8,
                length: word as u32 & MAX_LENGTH,
            })
        })
    }
}

/// The rules of a version for one type of control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The kind of frame with this type number.
    pub(crate) kind: FrameKind,
    /// The smallest valid length in bytes.
    pub(crate) min: u32,
    /// The largest valid length in bytes.
    pub(crate) max: u32,
    /// The flag bits that are accepted.
    pub(crate) flags: u8,
}

impl Shape {
    /// Checks the fields of a head.
    ///
    /// # Errors
    ///
    /// Returns [`FrameError::Length`] and, in strict decoding, [`FrameError::Flags`].
    #[inline]
    pub(crate) fn check(&self, head: ControlHead) -> Result<(), FrameError> {
        let is_sound = self.min <= head.length()
            && head.length() <= self.max
            && head.flags() & !self.flags == 0;
        if is_sound {
            Ok(())
        } else {
            Err(self.error(head))
        }
    }

    /// Returns the error of a head that breaks a rule.
    #[cold]
    fn error(&self, head: ControlHead) -> FrameError {
        let &Self { kind, min, max, .. } = self;
        let (length, flags) = (head.length(), head.flags());
        if length < min || length > max {
            FrameError::Length {
                kind,
                length,
                min,
                max,
            }
        } else {
            FrameError::Flags { kind, flags }
        }
    }
}

/// The rules of a version for control frames. Decoders look them up once.
pub(crate) struct Rules {
    pub(crate) version: Version,
    /// The expected version field.
    pub(crate) wire: u16,
    /// The rules for each type, by type number.
    shapes: [Option<Shape>; TYPES],
}

impl Rules {
    /// Returns the rules for strict or tolerant decoding, see
    /// [`DecodeLimits::strict`](crate::DecodeLimits::strict).
    pub(crate) const fn of(version: Version, strict: bool) -> &'static Self {
        const TOLERANT: [Rules; 3] = [
            Rules::strict(Version::V2).tolerant(),
            Rules::strict(Version::V3).tolerant(),
            Rules::strict(Version::V3_1).tolerant(),
        ];
        const STRICT: [Rules; 3] = [
            Rules::strict(Version::V2),
            Rules::strict(Version::V3),
            Rules::strict(Version::V3_1),
        ];
        let rules = if strict { &STRICT } else { &TOLERANT };
        match version {
            Version::V2 => &rules[0],
            Version::V3 => &rules[1],
            Version::V3_1 => &rules[2],
        }
    }

    /// Returns the rules for a type number, or `None` if the version does not have the type.
    #[inline]
    pub(crate) fn shape(&self, number: u16) -> Option<&Shape> {
        self.shapes.get(usize::from(number))?.as_ref()
    }

    /// Returns the lengths and flags of all types (protocol.md §5) for strict decoding.
    const fn strict(version: Version) -> Self {
        let v2 = matches!(version, Version::V2);
        let v3 = matches!(version, Version::V3);
        // SPDY/2 has two unused bytes between the stream id and the block of SYN_REPLY and HEADERS.
        let before_block = if v2 { 6 } else { 4 };
        // SPDY/2 has no status in GOAWAY, but a deployed peer sends one.
        let go_away = if v2 { 4 } else { 8 };
        let syn_stream_flags = FLAG_FIN | FLAG_UNIDIRECTIONAL;
        let mut shapes = [
            None,
            shape(FrameKind::SynStream, 10, MAX_LENGTH, syn_stream_flags),
            shape(FrameKind::SynReply, before_block, MAX_LENGTH, FLAG_FIN),
            shape(FrameKind::RstStream, 8, 8, 0),
            shape(FrameKind::Settings, 4, MAX_LENGTH, FLAG_CLEAR_SETTINGS),
            shape(FrameKind::Noop, 0, 0, 0),
            shape(FrameKind::Ping, 4, 4, 0),
            shape(FrameKind::GoAway, go_away, 8, 0),
            shape(FrameKind::Headers, before_block, MAX_LENGTH, FLAG_FIN),
            shape(FrameKind::WindowUpdate, 8, 8, 0),
            shape(FrameKind::Credential, 6, MAX_LENGTH, 0),
        ];
        if v2 {
            shapes[WINDOW_UPDATE as usize] = None;
        } else {
            shapes[NOOP as usize] = None;
        }
        if !v3 {
            shapes[CREDENTIAL as usize] = None;
        }
        Self {
            version,
            wire: version.wire_version(),
            shapes,
        }
    }

    /// Returns the same rules for tolerant decoding: any flags are accepted, and any bytes after
    /// the status of RST_STREAM, where a deployed peer sends text (protocol.md §5.3).
    const fn tolerant(mut self) -> Self {
        let mut number = 0;
        while number < TYPES {
            if let Some(shape) = &mut self.shapes[number] {
                shape.flags = u8::MAX;
                if number == RST_STREAM as usize {
                    shape.max = MAX_LENGTH;
                }
            }
            number += 1;
        }
        self
    }
}

/// Shows the version. The other fields follow from it and from
/// [`DecodeLimits`](crate::DecodeLimits).
impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.version.fmt(f)
    }
}

/// One more than the highest type number of any version.
const TYPES: usize = CREDENTIAL as usize + 1;

const fn shape(kind: FrameKind, min: u32, max: u32, flags: u8) -> Option<Shape> {
    Some(Shape {
        kind,
        min,
        max,
        flags,
    })
}

/// Reads the stream id of a frame that needs one.
///
/// # Errors
///
/// Returns [`FrameError::StreamIdZero`] if it is 0.
#[inline]
pub(crate) fn stream_id(kind: FrameKind, field: u32) -> Result<StreamId, FrameError> {
    StreamId::from_field(field).ok_or(FrameError::StreamIdZero { kind })
}

/// Returns the offset of the block in the payload of SYN_REPLY and HEADERS: the block follows the
/// stream id and, in SPDY/2, two unused bytes.
pub(crate) const fn block_offset(version: Version) -> usize {
    match version {
        Version::V2 => 6,
        Version::V3 | Version::V3_1 => 4,
    }
}

/// Writes what precedes the block of SYN_REPLY and HEADERS.
pub(crate) fn put_before_block(version: Version, stream: StreamId, dst: &mut BytesMut) {
    dst.put_u32(stream.get());
    dst.put_bytes(0, block_offset(version) - 4);
}

/// Writes the head of a control frame whose length is known and valid.
#[inline]
pub(crate) fn put_control(
    version: Version,
    number: u16,
    flags: u8,
    length: u32,
    dst: &mut BytesMut,
) {
    debug_assert!(length <= MAX_LENGTH, "control frame of {length} bytes");
    let first = 0x8000_0000 | u32::from(version.wire_version()) << 16 | u32::from(number);
    let second = u32::from(flags) << 24 | length;
    dst.put_u64(u64::from(first) << 32 | u64::from(second));
}

/// Writes the head of a control frame whose length is not known yet. Returns its position, which
/// [`finish_control`] needs.
pub(crate) fn begin_control(version: Version, number: u16, flags: u8, dst: &mut BytesMut) -> usize {
    let start = dst.len();
    put_control(version, number, flags, 0, dst);
    start
}

/// Sets the length field of the head that [`begin_control`] wrote at `start`.
///
/// # Errors
///
/// Returns [`EncodeError::TooLarge`] if the payload is longer than 16,777,215 bytes, and takes the
/// frame off `dst`.
pub(crate) fn finish_control(start: usize, dst: &mut BytesMut) -> Result<(), EncodeError> {
    let length = dst.len() - start - HEAD_LENGTH;
    if length > MAX_LENGTH as usize {
        dst.truncate(start);
        return Err(EncodeError::TooLarge { length });
    }
    let field = (length as u32).to_be_bytes();
    dst[start + 5..start + HEAD_LENGTH].copy_from_slice(&field[1..]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_bit_decides_how_a_head_is_read() {
        assert_eq!(Head::read(&[0x80, 3, 0, 1, 1, 0, 0]), None);
        assert_eq!(
            Head::read(&[0xff, 0xff, 0xf0, 0x00, 0x81, 0xff, 0xff, 0xfe, 9]),
            Some(Head::Control(ControlHead(0xffff_f000_81ff_fffe)))
        );
        assert_eq!(
            Head::read(&[0x7f, 0xff, 0xff, 0xff, 0x01, 0x01, 0x02, 0x03]),
            Some(Head::Data(DataHead {
                stream: Some(StreamId::MAX),
                flags: 1,
                length: 0x0001_0203
            }))
        );
        assert_eq!(
            Head::read(&[0; 8]),
            Some(Head::Data(DataHead {
                stream: None,
                flags: 0,
                length: 0
            }))
        );
    }

    #[test]
    fn versions_have_the_types_of_the_table() {
        let has = |version| -> Vec<u16> {
            let shape = |number| Rules::of(version, false).shape(number);
            (0..=u16::MAX)
                .filter(|number| shape(*number).is_some())
                .collect()
        };
        assert_eq!(has(Version::V2), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(has(Version::V3), [1, 2, 3, 4, 6, 7, 8, 9, 10]);
        assert_eq!(has(Version::V3_1), [1, 2, 3, 4, 6, 7, 8, 9]);
    }

    #[test]
    fn the_length_of_a_frame_is_written_after_its_payload() {
        let mut dst = BytesMut::from(&b"before"[..]);
        let start = begin_control(Version::V3_1, HEADERS, FLAG_FIN, &mut dst);
        dst.put_bytes(7, 300);
        finish_control(start, &mut dst).unwrap();
        assert_eq!(dst[..14], *b"before\x80\x03\x00\x08\x01\x00\x01\x2c");
        assert_eq!(dst.len(), 6 + 8 + 300);
    }

    #[test]
    fn a_frame_past_24_bits_of_length_is_not_written() {
        let mut dst = BytesMut::from(&b"before"[..]);
        let start = begin_control(Version::V2, SYN_STREAM, 0, &mut dst);
        dst.put_bytes(0, 0x0100_0000);
        let error = finish_control(start, &mut dst);
        assert_eq!(
            error,
            Err(EncodeError::TooLarge {
                length: 0x0100_0000
            })
        );
        assert_eq!(dst[..], *b"before");
    }
}
