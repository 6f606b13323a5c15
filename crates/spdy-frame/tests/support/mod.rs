//! Support for the tests of the codec: bytes from hexadecimal, decoding in pieces, random frames.

// Each test file uses its own part of this module, and `pub` is limited to that file.
#![allow(dead_code, unreachable_pub)]

use spdy_frame::{
    CompressedBlock, Credential, Data, DecodeLimits, Decoder, Frame, FrameError, GoAway,
    GoAwayStatus, HeaderBlock, HeaderDecoder, HeaderEncoder, HeaderError, Headers, Ping, Priority,
    RstStatus, RstStream, Setting, SettingFlags, SettingId, Settings, StreamId, SynReply,
    SynStream, UnknownControl, Version, WindowIncrement, WindowTarget, WindowUpdate,
    bytes::{Bytes, BytesMut},
};

/// Returns the bytes of hexadecimal digits. White space is ignored.
pub fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).unwrap())
        .collect();
    assert!(digits.len().is_multiple_of(2), "half a byte");
    digits
        .chunks(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect()
}

pub fn stream(id: u32) -> StreamId {
    StreamId::new(id).unwrap()
}

pub fn strict() -> DecodeLimits {
    let mut limits = DecodeLimits::default();
    limits.strict = true;
    limits
}

/// The output of a decoder: frames, with the pieces of DATA joined, and the error that ended
/// decoding.
#[derive(Debug, Default, PartialEq)]
pub struct Decoded {
    pub frames: Vec<Frame>,
    pub skipped: Vec<FrameError>,
    pub fatal: Option<FrameError>,
    pub mid_frame: bool,
}

/// Decodes bytes that arrive in pieces. `next_piece` maps the number of bytes left to the number of
/// bytes that arrive next.
pub fn decode_in_pieces(
    version: Version,
    limits: DecodeLimits,
    bytes: &[u8],
    mut next_piece: impl FnMut(usize) -> usize,
) -> Decoded {
    let mut decoder = Decoder::new(version, limits);
    let mut src = BytesMut::new();
    let mut decoded = Decoded::default();
    let mut rest = bytes;
    loop {
        match decoder.decode(&mut src) {
            Ok(Some(frame)) => push(&mut decoded.frames, frame),
            Ok(None) if rest.is_empty() => break,
            Ok(None) => {
                let (piece, later) = rest.split_at(next_piece(rest.len()).clamp(1, rest.len()));
                src.extend_from_slice(piece);
                rest = later;
            }
            Err(error) if error.go_away().is_none() => decoded.skipped.push(error),
            Err(error) => {
                assert_eq!(
                    decoder.decode(&mut src),
                    Err(error.clone()),
                    "a fatal error stays"
                );
                decoded.fatal = Some(error);
                return decoded;
            }
        }
    }
    decoded.mid_frame = decoder.is_mid_frame();
    decoded
}

pub fn decode_at_once(version: Version, bytes: &[u8]) -> Decoded {
    decode_in_pieces(version, DecodeLimits::default(), bytes, |rest| rest)
}

/// Adds a frame. A piece of DATA is joined to the piece before it.
fn push(frames: &mut Vec<Frame>, frame: Frame) {
    match (frames.last_mut(), frame) {
        (Some(Frame::Data(before)), Frame::Data(piece)) if before.remaining > 0 => {
            assert_eq!(
                before.remaining,
                piece.payload.len() as u32 + piece.remaining,
                "bytes are missing"
            );
            assert!(!before.fin, "only the last piece has FIN");
            assert!(
                !piece.payload.is_empty(),
                "only the first piece may be empty"
            );
            let payload = Bytes::from([&before.payload[..], &piece.payload[..]].concat());
            *before = Data { payload, ..piece };
        }
        (_, frame) => frames.push(frame),
    }
}

pub fn encode(version: Version, frames: &[Frame]) -> Vec<u8> {
    let mut dst = BytesMut::new();
    for frame in frames {
        frame.encode(version, &mut dst).unwrap();
    }
    dst.to_vec()
}

/// A name and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Returns the names and values of a block.
pub fn pairs(block: &HeaderBlock) -> Vec<Pair> {
    block
        .fields()
        .map(|field| (field.name().to_vec(), field.value().to_vec()))
        .collect()
}

/// Returns names and values as bytes.
pub fn text_pairs(pairs: &[(&str, &str)]) -> Vec<Pair> {
    pairs
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect()
}

/// Returns a header block before compression (protocol.md §7.1), valid or not.
pub fn serialized(version: Version, pairs: &[Pair]) -> Vec<u8> {
    let mut bytes = number(version, pairs.len());
    for string in pairs.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend(number(version, string.len()));
        bytes.extend(string);
    }
    bytes
}

/// Returns the bytes of a number in a header block.
pub fn number(version: Version, number: usize) -> Vec<u8> {
    let bytes = (number as u32).to_be_bytes();
    bytes[if version == Version::V2 { 2 } else { 0 }..].to_vec()
}

/// Returns the start of a zlib stream with the preset dictionary of `version`.
pub fn zlib_header(version: Version) -> &'static [u8] {
    match version {
        Version::V2 => b"\x78\x3f\xdf\xa2\x51\xb2",
        Version::V3 | Version::V3_1 => b"\x78\x3f\xe3\xc6\xa7\xc2",
    }
}

/// Returns the bytes as one stored deflate block with a sync marker.
pub fn stored(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    let head = [&[0][..], &length.to_le_bytes(), &(!length).to_le_bytes()];
    [&head.concat(), bytes, b"\0\0\0\xff\xff"].concat()
}

pub fn decode_block(decoder: &mut HeaderDecoder, bytes: &[u8]) -> Result<HeaderBlock, HeaderError> {
    decoder.decode(CompressedBlock::new(bytes))
}

/// Returns the block as the encoder writes it.
pub fn encode_block(encoder: &mut HeaderEncoder, version: Version, block: &HeaderBlock) -> Vec<u8> {
    let mut dst = BytesMut::new();
    let frame = Headers {
        stream: StreamId::MAX,
        fin: false,
        block,
    };
    encoder.encode_headers(&frame, &mut dst).unwrap();
    let before_block = if version == Version::V2 { 14 } else { 12 };
    dst[before_block..].to_vec()
}

/// A small random number generator (xorshift64*). The same seed returns the same numbers.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// Returns a number below `end`, which must not be 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn chance(&mut self) -> bool {
        self.below(2) == 0
    }

    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1))
            .map(|_| self.next() as u8)
            .collect()
    }

    pub fn stream(&mut self) -> StreamId {
        if self.below(8) == 0 {
            StreamId::MAX
        } else {
            stream(1 + self.below(100) as u32)
        }
    }

    /// Returns a frame of any kind that `version` has. Its encoding keeps all fields.
    pub fn frame(&mut self, version: Version) -> Frame {
        let fin = self.chance();
        match self.below(12) {
            0 => Frame::SynStream(SynStream {
                stream: self.stream(),
                associated: self.chance().then(|| self.stream()),
                priority: self.priority(version),
                fin,
                unidirectional: self.chance(),
                block: self.block(),
            }),
            1 => Frame::SynReply(SynReply {
                stream: self.stream(),
                fin,
                block: self.block(),
            }),
            2 => Frame::Headers(Headers {
                stream: self.stream(),
                fin: fin && version != Version::V2,
                block: self.block(),
            }),
            3 => Frame::RstStream(RstStream {
                stream: self.stream(),
                status: RstStatus(self.next() as u32 % 20),
            }),
            4 => Frame::Settings(self.settings()),
            5 => Frame::Ping(Ping {
                id: self.next() as u32,
            }),
            6 => Frame::GoAway(GoAway {
                last_good: self.chance().then(|| self.stream()),
                status: GoAwayStatus(if version == Version::V2 {
                    0
                } else {
                    self.next() as u32 % 20
                }),
            }),
            7 if version == Version::V2 => Frame::Noop,
            7 => Frame::WindowUpdate(WindowUpdate {
                target: WindowTarget::from_field(self.below(20) as u32),
                increment: WindowIncrement::new(1 + self.below(0x7fff_ffff) as u32).unwrap(),
            }),
            8 if version == Version::V3 => Frame::Credential(Credential {
                slot: self.next() as u16,
                payload: Bytes::from_static(b"\x00\x00\x00\x02ok\x00\x00\x00\x03der"),
            }),
            8 => Frame::Unknown(UnknownControl {
                type_number: 0x63 + self.below(0xf000) as u16,
                flags: self.next() as u8,
                payload: self.bytes(60).into(),
            }),
            _ => Frame::Data(Data {
                stream: self.stream(),
                fin,
                compressed: self.below(10) == 0,
                remaining: 0,
                payload: self.bytes(300).into(),
            }),
        }
    }

    fn priority(&mut self, version: Version) -> Priority {
        let highest = if version == Version::V2 { 4 } else { 8 };
        Priority::new(self.below(highest) as u8).unwrap()
    }

    fn block(&mut self) -> CompressedBlock {
        CompressedBlock::new(self.bytes(100).into())
    }

    fn settings(&mut self) -> Settings {
        let entries = (0..self.below(9)).map(|index| Setting {
            id: SettingId(index as u32 * 0x1_0203),
            flags: SettingFlags(self.next() as u8),
            value: self.next() as u32,
        });
        let entries = entries.collect();
        Settings {
            clear: self.chance(),
            entries,
        }
    }
}
