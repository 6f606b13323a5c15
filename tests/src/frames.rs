//! Frames as raw bytes: whatever a peer might send, right or wrong.
//!
//! A [`RawFrame`] is made by the function named after its type, changed by its methods and written
//! by [`RawFrame::bytes`] (or by [`Wire::send`](crate::wire::Wire::send)):
//!
//! ```
//! use spdy_frame::Version;
//! use spdy_tests::frames::{self, StoredBlocks};
//!
//! let mut blocks = StoredBlocks::new(Version::V3);
//! let request = frames::syn_stream(Version::V3, 1).get("/").fin();
//! assert_eq!(request.bytes(&mut blocks)[..8], [0x80, 3, 0, 1, 1, 0, 0, 128]);
//!
//! let too_long = frames::ping(Version::V3, 1).length(5);
//! assert_eq!(too_long.bytes(&mut blocks), [0x80, 3, 0, 6, 0, 0, 0, 5, 0, 0, 0, 1]);
//! ```

use spdy_frame::{GoAwayStatus, RstStatus, Version};

/// A frame that need not be a right one.
#[derive(Clone, Debug)]
pub struct RawFrame {
    version: Version,
    /// The first four bytes: version and type of a control frame, stream id of DATA.
    start: [u8; 4],
    flags: u8,
    /// The payload, or the bytes before the header block.
    payload: Vec<u8>,
    block: Block,
    /// A length field that is not the true length.
    length: Option<u32>,
}

/// The header block of a [`RawFrame`].
#[derive(Clone, Debug)]
enum Block {
    /// The type has none.
    None,
    /// Names and values, as they are: also upper case, empty or twice.
    Pairs(Vec<(Vec<u8>, Vec<u8>)>),
    /// Bytes to be compressed in place of pairs.
    Plain(Vec<u8>),
    /// Bytes that take the place of the compressed block. The compression context does not move.
    Compressed(Vec<u8>),
}

/// SYN_STREAM (protocol.md §5.1) with an empty header block, priority 0 and no flags.
#[must_use]
pub fn syn_stream(version: Version, stream: u32) -> RawFrame {
    let mut payload = stream.to_be_bytes().to_vec();
    payload.extend([0; 6]);
    RawFrame::with_block(version, 1, payload)
}

/// SYN_REPLY (protocol.md §5.2) with an empty header block.
#[must_use]
pub fn syn_reply(version: Version, stream: u32) -> RawFrame {
    RawFrame::with_block(version, 2, stream_and_padding(version, stream))
}

/// HEADERS (protocol.md §5.8) with an empty header block.
#[must_use]
pub fn headers(version: Version, stream: u32) -> RawFrame {
    RawFrame::with_block(version, 8, stream_and_padding(version, stream))
}

/// DATA (protocol.md §6).
#[must_use]
pub fn data(stream: u32, payload: impl Into<Vec<u8>>) -> RawFrame {
    RawFrame {
        // DATA is the same in all versions.
        version: Version::V3_1,
        start: stream.to_be_bytes(),
        flags: 0,
        payload: payload.into(),
        block: Block::None,
        length: None,
    }
}

/// RST_STREAM (protocol.md §5.3).
#[must_use]
pub fn rst_stream(version: Version, stream: u32, status: RstStatus) -> RawFrame {
    control(
        version,
        3,
        [stream.to_be_bytes(), status.0.to_be_bytes()].concat(),
    )
}

/// SETTINGS (protocol.md §5.4) with these ids and values. Flags go into the top byte of the id.
#[must_use]
pub fn settings(version: Version, entries: &[(u32, u32)]) -> RawFrame {
    let mut payload = (entries.len() as u32).to_be_bytes().to_vec();
    for (id, value) in entries {
        // SPDY/2 as deployed has the id in the other byte order, with the flags behind it.
        payload.extend(match version {
            Version::V2 => id.to_le_bytes(),
            Version::V3 | Version::V3_1 => id.to_be_bytes(),
        });
        payload.extend(value.to_be_bytes());
    }
    control(version, 4, payload)
}

/// NOOP (protocol.md §5.5), which only SPDY/2 has.
#[must_use]
pub fn noop(version: Version) -> RawFrame {
    control(version, 5, [])
}

/// PING (protocol.md §5.6).
#[must_use]
pub fn ping(version: Version, id: u32) -> RawFrame {
    control(version, 6, id.to_be_bytes())
}

/// GOAWAY (protocol.md §5.7). SPDY/2 has no status.
#[must_use]
pub fn go_away(version: Version, last_good: u32, status: GoAwayStatus) -> RawFrame {
    let mut payload = last_good.to_be_bytes().to_vec();
    if version != Version::V2 {
        payload.extend(status.0.to_be_bytes());
    }
    control(version, 7, payload)
}

/// WINDOW_UPDATE (protocol.md §5.9); stream 0 is the session.
#[must_use]
pub fn window_update(version: Version, stream: u32, increment: u32) -> RawFrame {
    control(
        version,
        9,
        [stream.to_be_bytes(), increment.to_be_bytes()].concat(),
    )
}

/// A control frame of any type.
#[must_use]
pub fn control(version: Version, kind: u16, payload: impl Into<Vec<u8>>) -> RawFrame {
    let mut start = [0; 4];
    start[..2].copy_from_slice(&(0x8000 | version.wire_version()).to_be_bytes());
    start[2..].copy_from_slice(&kind.to_be_bytes());
    RawFrame {
        version,
        start,
        flags: 0,
        payload: payload.into(),
        block: Block::None,
        length: None,
    }
}

/// What is right.
impl RawFrame {
    /// Sets flag 0x01: FIN.
    #[must_use]
    pub fn fin(self) -> Self {
        self.flag(0x01)
    }

    /// Sets flag 0x02: UNIDIRECTIONAL on SYN_STREAM.
    #[must_use]
    pub fn unidirectional(self) -> Self {
        self.flag(0x02)
    }

    /// Sets the stream that a SYN_STREAM is associated to.
    #[must_use]
    pub fn associated(mut self, stream: u32) -> Self {
        self.payload[4..8].copy_from_slice(&stream.to_be_bytes());
        self
    }

    /// Sets the byte of a SYN_STREAM that holds the priority, and the one after it.
    #[must_use]
    pub fn priority_bytes(mut self, bytes: [u8; 2]) -> Self {
        self.payload[8..10].copy_from_slice(&bytes);
        self
    }

    /// Adds the header fields of a GET for https://localhost.
    #[must_use]
    pub fn get(self, path: &str) -> Self {
        self.request("GET", path)
    }

    /// Adds the header fields of a POST to https://localhost.
    #[must_use]
    pub fn post(self, path: &str) -> Self {
        self.request("POST", path)
    }

    /// Adds the header fields of a response with this status line, such as `200 OK`.
    #[must_use]
    pub fn status(self, status: &str) -> Self {
        match self.version {
            Version::V2 => self.field("status", status).field("version", "HTTP/1.1"),
            Version::V3 | Version::V3_1 => {
                self.field(":status", status).field(":version", "HTTP/1.1")
            }
        }
    }

    /// Adds a header field, byte for byte.
    ///
    /// # Panics
    ///
    /// If the type has no header block, or the block is given as bytes.
    #[must_use]
    pub fn field(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let Block::Pairs(pairs) = &mut self.block else {
            panic!("this frame has no header fields");
        };
        pairs.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    fn request(self, method: &str, path: &str) -> Self {
        match self.version {
            Version::V2 => self
                .field("method", method)
                .field("url", path)
                .field("version", "HTTP/1.1")
                .field("host", "localhost")
                .field("scheme", "https"),
            Version::V3 | Version::V3_1 => self
                .field(":method", method)
                .field(":path", path)
                .field(":version", "HTTP/1.1")
                .field(":host", "localhost")
                .field(":scheme", "https"),
        }
    }
}

/// What may be wrong.
impl RawFrame {
    /// Sets further flag bits.
    #[must_use]
    pub fn flag(mut self, bits: u8) -> Self {
        self.flags |= bits;
        self
    }

    /// Writes another version into a control frame.
    #[must_use]
    pub fn wire_version(mut self, version: u16) -> Self {
        self.start[..2].copy_from_slice(&(0x8000 | version).to_be_bytes());
        self
    }

    /// Writes another length than the true one. No byte is added or left out.
    #[must_use]
    pub fn length(mut self, bytes: u32) -> Self {
        self.length = Some(bytes);
        self
    }

    /// Adds bytes to the end of a payload without a header block.
    #[must_use]
    pub fn more(mut self, bytes: &[u8]) -> Self {
        self.payload.extend(bytes);
        self
    }

    /// Takes the place of the header fields: the bytes are compressed as they are.
    #[must_use]
    pub fn plain_block(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.block = Block::Plain(bytes.into());
        self
    }

    /// Takes the place of the whole header block; what is not zlib ruins the compression context of
    /// the receiver.
    #[must_use]
    pub fn compressed_block(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.block = Block::Compressed(bytes.into());
        self
    }
}

impl RawFrame {
    /// The bytes on the wire. `blocks` is that of the direction; frames have to be written in the
    /// order in which they are sent.
    #[must_use]
    pub fn bytes(&self, blocks: &mut StoredBlocks) -> Vec<u8> {
        let block = match &self.block {
            Block::None => Vec::new(),
            Block::Pairs(pairs) => blocks.compress(&plain_block(self.version, pairs)),
            Block::Plain(bytes) => blocks.compress(bytes),
            Block::Compressed(bytes) => bytes.clone(),
        };
        let length = self
            .length
            .unwrap_or((self.payload.len() + block.len()) as u32);
        let mut bytes = self.start.to_vec();
        bytes.push(self.flags);
        bytes.extend(&length.to_be_bytes()[1..]);
        bytes.extend(&self.payload);
        bytes.extend(block);
        bytes
    }

    fn with_block(version: Version, kind: u16, payload: Vec<u8>) -> Self {
        Self {
            block: Block::Pairs(Vec::new()),
            ..control(version, kind, payload)
        }
    }
}

/// Writes the header blocks of one direction as stored deflate blocks (protocol.md §8): nothing is
/// compressed, so a block can be read in a dump, and no encoder can be mistaken.
#[derive(Debug)]
pub struct StoredBlocks {
    /// What has to stand before the next block: the zlib header with the id of the version's
    /// dictionary, once.
    start: &'static [u8],
}

impl StoredBlocks {
    /// The blocks of a direction that has sent none yet.
    #[must_use]
    pub const fn new(version: Version) -> Self {
        Self {
            start: match version {
                Version::V2 => &[0x78, 0x3f, 0xdf, 0xa2, 0x51, 0xb2],
                Version::V3 | Version::V3_1 => &[0x78, 0x3f, 0xe3, 0xc6, 0xa7, 0xc2],
            },
        }
    }

    /// Puts bytes into stored blocks, followed by an empty one as zlib's sync flush writes it.
    #[must_use]
    pub fn compress(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.start).to_vec();
        for piece in plain.chunks(usize::from(u16::MAX)).chain([&[][..]]) {
            let length = piece.len() as u16;
            bytes.push(0);
            bytes.extend(length.to_le_bytes());
            bytes.extend((!length).to_le_bytes());
            bytes.extend(piece);
        }
        bytes
    }
}

/// A header block before compression (protocol.md §7.1).
#[must_use]
pub fn plain_block(version: Version, pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let number = |number: usize| match version {
        Version::V2 => (number as u16).to_be_bytes().to_vec(),
        Version::V3 | Version::V3_1 => (number as u32).to_be_bytes().to_vec(),
    };
    let mut bytes = number(pairs.len());
    for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend(number(text.len()));
        bytes.extend(text);
    }
    bytes
}

/// The stream id of SYN_REPLY and HEADERS, and the two unused bytes after it in SPDY/2.
fn stream_and_padding(version: Version, stream: u32) -> Vec<u8> {
    let mut payload = stream.to_be_bytes().to_vec();
    if version == Version::V2 {
        payload.extend([0; 2]);
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frames of protocol.md §22.
    #[test]
    fn frames_are_those_of_the_test_vectors() {
        let mut v2 = StoredBlocks::new(Version::V2);
        let mut v3 = StoredBlocks::new(Version::V3);
        for (frame, expected) in [
            (
                request(Version::V3, 1).fin(),
                "800300010100007d00000001000000000000783fe3c6a7c20063009cff00000005000000073a6d6574686f64\
                 00000003474554000000053a70617468000000012f000000083a76657273696f6e00000008485454502f312e\
                 31000000053a686f737400000006612e74657374000000073a736368656d65000000056874747073000000ff\
                 ff",
            ),
            (
                request(Version::V3, 3).fin().priority_bytes([0x60, 0]),
                "8003000101000077000000030000000060000063009cff00000005000000073a6d6574686f64000000034745\
                 54000000053a70617468000000012f000000083a76657273696f6e00000008485454502f312e31000000053a\
                 686f737400000006612e74657374000000073a736368656d65000000056874747073000000ffff",
            ),
            (
                request(Version::V2, 1).fin(),
                "800200010100006100000001000000000000783fdfa251b2004700b8ff000500066d6574686f640003474554\
                 000375726c00012f000776657273696f6e0008485454502f312e310004686f73740006612e74657374000673\
                 6368656d6500056874747073000000ffff",
            ),
            (
                settings(Version::V3, &[(0x0100_0004, 100), (7, 65_536)]),
                "80030004000000140000000201000004000000640000000700010000",
            ),
            (
                settings(Version::V2, &[(0x0100_0004, 100)]),
                "800200040000000c000000010400000100000064",
            ),
            (
                go_away(Version::V2, 5, GoAwayStatus::OK),
                "800200070000000400000005",
            ),
            (
                go_away(Version::V3, 5, GoAwayStatus::PROTOCOL_ERROR),
                "80030007000000080000000500000001",
            ),
            (
                rst_stream(Version::V2, 1, RstStatus::REFUSED_STREAM),
                "80020003000000080000000100000003",
            ),
            (
                window_update(Version::V3, 1, 32_768),
                "80030009000000080000000100008000",
            ),
            (noop(Version::V2), "8002000500000000"),
            (ping(Version::V3, 2), "800300060000000400000002"),
            (data(1, "hello").fin(), "000000010100000568656c6c6f"),
        ] {
            let blocks = if frame.version == Version::V2 {
                &mut v2
            } else {
                &mut v3
            };
            assert_eq!(hex(&frame.bytes(blocks)), expected, "{frame:?}");
        }
    }

    /// The request of all vectors.
    fn request(version: Version, stream: u32) -> RawFrame {
        let names = match version {
            Version::V2 => ["method", "url", "version", "host", "scheme"],
            Version::V3 | Version::V3_1 => [":method", ":path", ":version", ":host", ":scheme"],
        };
        names
            .iter()
            .zip(["GET", "/", "HTTP/1.1", "a.test", "https"])
            .fold(syn_stream(version, stream), |frame, (name, value)| {
                frame.field(name, value)
            })
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
