//! The bodies of the fuzz targets. A test of the crate, `tests/fuzz_corpus.rs`, calls the same
//! functions with a stable compiler.
//!
//! The first byte of the data selects the version and a few options. The other bytes are the input.
//! A function that finds a fault panics. `examples/corpus.rs` makes the saved corpus from captures.

use flate2::{Decompress, FlushDecompress, Status};
use spdy_frame::{
    CompressedBlock, Data, DecodeLimits, Decoder, Frame, FrameError, HeaderBlock,
    HeaderCompression, HeaderDecoder, HeaderEncoder, HeaderError, HeaderLimits, Headers, StreamId,
    Version,
    bytes::{Bytes, BytesMut},
    parse,
};

#[path = "../../src/headers/dictionary.rs"]
#[allow(dead_code, unreachable_pub)] // A private module of the crate.
mod dictionary;

use dictionary::Dictionary;

/// Decodes the bytes at once and in small pieces. The results must be the same, and borrowed frames
/// must be the same too.
pub fn decode(data: &[u8]) {
    let Some((&selector, bytes)) = data.split_first() else {
        return;
    };
    let version = version(selector);
    let mut limits = DecodeLimits::default();
    limits.strict = selector & STRICT != 0;
    let piece = 1 + usize::from(selector >> 4);
    let at_once = transcript(version, limits.clone(), bytes, bytes.len().max(1));
    let in_pieces = transcript(version, limits.clone(), bytes, piece);
    assert_eq!(at_once, in_pieces);

    if let (Ok(Some((borrowed, _))), false) = (parse(version, bytes), limits.strict) {
        let line = borrowed.to_string();
        match Decoder::new(version, limits).decode(&mut BytesMut::from(bytes)) {
            // The decoder does not keep the payload of a frame that is too long.
            Ok(Some(Frame::Unknown(shared))) if shared.payload.is_empty() => {}
            Ok(Some(shared)) => assert_eq!(shared.to_string(), line),
            other => assert!(
                matches!(other, Err(FrameError::TooLarge { .. })),
                "{other:?}"
            ),
        }
    }
}

/// Decodes the bytes, encodes the frames, and decodes them again. The frames must be the same.
pub fn roundtrip(data: &[u8]) {
    let Some((&selector, bytes)) = data.split_first() else {
        return;
    };
    let version = version(selector);
    let mut frames = Vec::new();
    let mut encoded = BytesMut::new();
    for frame in frames_of(version, bytes) {
        if let Some(frame) = writable(version, frame) {
            frame
                .encode(version, &mut encoded)
                .expect("the frame was read in this version");
            frames.push(frame);
        }
    }
    assert_eq!(frames_of(version, &encoded), frames);
}

/// Inflates the bytes as header blocks of one session, compares them with the output of zlib, and
/// writes them with an encoder whose output another decoder must read. Then it interprets the bytes
/// as names and values and does the same.
///
/// The first byte selects one of many limits for the decoder.
pub fn headers(data: &[u8]) {
    let Some((&selector, bytes)) = data.split_first() else {
        return;
    };
    let version = version(selector);
    let mode = if selector & STRICT == 0 {
        HeaderCompression::Indexed
    } else {
        HeaderCompression::Stored
    };
    let mut limits = HeaderLimits::default();
    limits.max_size = MAX_SIZES[usize::from(selector >> 4)];
    limits.max_inflated = MAX_INFLATED;
    let mut decoder = HeaderDecoder::new(version, limits);
    let mut echo = Echo::new(version, mode);
    let mut zlib = Zlib::new(version);
    for block in Blocks(bytes) {
        let result = decoder.decode(CompressedBlock::new(block));
        zlib.check(block, &result);
        match result {
            Ok(block) => echo.check(&block),
            Err(error) if error.is_context_lost() => break,
            Err(_) => {}
        }
    }
    let mut echo = Echo::new(version, mode);
    for block in Blocks(bytes) {
        echo.check(&block_of_fields(block));
    }
}

/// The hard limit on the inflated size of a block.
const MAX_INFLATED: usize = 64 * 1024;

/// The soft limits on the size of a block.
const MAX_SIZES: [usize; 16] = [
    16 * 1024,
    0,
    1,
    3,
    4,
    20,
    60,
    100,
    128,
    200,
    300,
    500,
    1000,
    4094,
    4096,
    MAX_INFLATED,
];

/// Selects strict decoding or stored header blocks.
const STRICT: u8 = 0b1000;

fn version(selector: u8) -> Version {
    Version::ALL[usize::from(selector & 0b111) % Version::ALL.len()]
}

/// Returns all results of a decoder for bytes that arrive in pieces, without the boundaries of DATA
/// pieces.
fn transcript(version: Version, limits: DecodeLimits, bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut decoder = Decoder::new(version, limits);
    let mut src = BytesMut::new();
    let mut transcript = Vec::new();
    let mut pieces = bytes.chunks(piece);
    let mut in_data = false;
    loop {
        match decoder.decode(&mut src) {
            Ok(Some(Frame::Data(piece))) => {
                if !in_data {
                    let length = piece.payload.len() as u32 + piece.remaining;
                    let Data {
                        stream, compressed, ..
                    } = piece;
                    transcript.extend(format!("\nDATA {stream} {compressed} {length} ").bytes());
                }
                transcript.extend(&piece.payload);
                transcript.extend(piece.fin.then_some(b"FIN").into_iter().flatten());
                in_data = piece.remaining > 0;
            }
            Ok(Some(frame)) => {
                assert!(!in_data, "a frame came inside another one");
                transcript.extend(format!("\n{frame:?} {frame} ").bytes());
                transcript.extend(contents(&frame));
            }
            Ok(None) => match pieces.next() {
                Some(piece) => src.extend_from_slice(piece),
                None => break,
            },
            Err(error) => {
                transcript.extend(format!("\n{error:?} {error}").bytes());
                if error.go_away().is_some() {
                    return transcript;
                }
            }
        }
    }
    let is_mid_frame = decoder.is_mid_frame();
    assert!(!in_data || is_mid_frame);
    assert!(src.is_empty() || is_mid_frame);
    transcript.extend(format!("\nmid frame: {is_mid_frame}").bytes());
    transcript
}

/// Returns the bytes of a frame that its debug output leaves out.
fn contents(frame: &Frame) -> &[u8] {
    match frame {
        Frame::SynStream(frame) => frame.block.as_bytes(),
        Frame::SynReply(frame) => frame.block.as_bytes(),
        Frame::Headers(frame) => frame.block.as_bytes(),
        Frame::Credential(frame) => &frame.payload,
        Frame::Unknown(frame) => &frame.payload,
        _ => &[],
    }
}

/// Returns the frames of bytes that arrive at once, up to the first error that ends a session.
fn frames_of(version: Version, bytes: &[u8]) -> Vec<Frame> {
    let mut decoder = Decoder::new(version, DecodeLimits::default());
    let mut src = BytesMut::from(bytes);
    let mut frames = Vec::new();
    loop {
        match decoder.decode(&mut src) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return frames,
            Err(error) if error.go_away().is_some() => return frames,
            Err(_) => {}
        }
    }
}

/// Returns the frame as its encoding keeps it, or `None` if it was skipped or is a piece.
fn writable(version: Version, mut frame: Frame) -> Option<Frame> {
    match &mut frame {
        Frame::Data(data) if data.remaining > 0 => return None,
        // Skipped frames of another version have a type that this version has.
        Frame::Unknown(unknown) if unknown.type_number <= 10 => return None,
        Frame::Headers(headers) if version == Version::V2 => headers.fin = false,
        _ => {}
    }
    Some(frame)
}

/// A zlib inflater, which must read the same bytes as a decoder.
struct Zlib {
    version: Version,
    /// `Some` from the first block on, if it starts with the whole zlib header and the largest
    /// window.
    inflater: Option<Decompress>,
    started: bool,
}

impl Zlib {
    fn new(version: Version) -> Self {
        Self {
            version,
            inflater: None,
            started: false,
        }
    }

    /// Inflates a block and compares the output with the result of a decoder.
    fn check(&mut self, mut block: &[u8], result: &Result<HeaderBlock, HeaderError>) {
        if block.is_empty() {
            return;
        }
        if !self.started {
            self.started = true;
            self.start(&mut block);
        }
        let Some(inflater) = &mut self.inflater else {
            return;
        };
        let mut bytes = Vec::with_capacity(MAX_INFLATED + 1);
        let status = inflater.decompress_vec(block, &mut bytes, FlushDecompress::Sync);
        let is_full = bytes.len() > MAX_INFLATED;
        match (result, status) {
            (Err(HeaderError::Bomb { .. }), _) => assert!(is_full),
            (Err(HeaderError::EndOfStream), status) => {
                assert!(
                    is_full || matches!(status, Ok(Status::StreamEnd)),
                    "{status:?}"
                );
            }
            (Err(HeaderError::Corrupt), Ok(Status::Ok | Status::BufError)) if !is_full => {
                // zlib rejects a code for lengths without any symbol only later, whatever follows.
                let status = inflater.decompress_vec(&[0; 100], &mut bytes, FlushDecompress::Sync);
                status.expect_err("zlib reads it");
            }
            (Err(HeaderError::Corrupt), status) => assert!(is_full || status.is_err()),
            (Ok(block), Ok(Status::Ok | Status::BufError)) => {
                check_rules(block);
                let (read, width) = (self.serialized(block), self.number(0).len());
                if block.is_truncated() {
                    // The number of fields is different, and might be missing.
                    let fields = bytes.get(width..).unwrap_or_default();
                    assert!(fields.starts_with(&read[width..]));
                } else {
                    assert_eq!(bytes, read);
                }
            }
            (_, status) => {
                let goes_on = matches!(status, Ok(Status::Ok | Status::BufError));
                assert!(goes_on && !is_full, "{status:?}");
            }
        }
    }

    /// Takes the zlib header off the first block.
    fn start(&mut self, block: &mut &[u8]) {
        let dictionary = Dictionary::of(self.version);
        let Some((&[0x78, flags, id @ ..], rest)) = block.split_first_chunk::<6>() else {
            return;
        };
        let check = u16::from_be_bytes([0x78, flags]);
        let is_sound = check.is_multiple_of(31) && flags & 0x20 != 0;
        if is_sound && id == dictionary.id.to_be_bytes() {
            *block = rest;
            let mut inflater = Decompress::new(false);
            inflater
                .set_dictionary(dictionary.bytes)
                .expect("raw inflaters take any");
            self.inflater = Some(inflater);
        }
    }

    /// Returns the block before compression (protocol.md §7.1).
    fn serialized(&self, block: &HeaderBlock) -> Vec<u8> {
        let mut bytes = self.number(block.len());
        for field in block {
            for part in [field.name(), field.value()] {
                bytes.extend(self.number(part.len()));
                bytes.extend(part);
            }
        }
        bytes
    }

    fn number(&self, number: usize) -> Vec<u8> {
        let bytes = (number as u32).to_be_bytes();
        let unused = if self.version == Version::V2 { 2 } else { 0 };
        bytes[unused..].to_vec()
    }
}

/// Checks a decoded block against the rules of protocol.md §7.2: a block made of its fields must be
/// valid.
fn check_rules(block: &HeaderBlock) {
    let mut again = HeaderBlock::new();
    for field in block {
        assert!(!field.name().iter().any(u8::is_ascii_uppercase));
        again
            .append(field.name(), field.value())
            .expect("a decoded field is valid");
    }
    assert_eq!(again.len(), block.len(), "a name occurs twice");
}

/// An encoder, and a decoder that reads what it writes.
struct Echo {
    version: Version,
    encoder: HeaderEncoder,
    decoder: HeaderDecoder,
}

impl Echo {
    fn new(version: Version, mode: HeaderCompression) -> Self {
        let mut limits = HeaderLimits::default();
        limits.max_fields = 100_000;
        Self {
            version,
            encoder: HeaderEncoder::new(version, mode),
            decoder: HeaderDecoder::new(version, limits),
        }
    }

    fn check(&mut self, block: &HeaderBlock) {
        let mut written = BytesMut::new();
        let frame = Headers {
            stream: StreamId::MAX,
            fin: false,
            block,
        };
        self.encoder
            .encode_headers(&frame, &mut written)
            .expect("the fields fit");
        let Ok(Some((Frame::Headers(frame), length))) = parse(self.version, &written) else {
            panic!("not one HEADERS frame");
        };
        assert_eq!(length, written.len());
        let read = self
            .decoder
            .decode(frame.block)
            .expect("the decoder reads what the encoder writes");
        let fields = |block: &HeaderBlock| -> Vec<(Vec<u8>, Bytes)> {
            block
                .fields()
                .map(|field| (field.name().to_vec(), field.value_bytes()))
                .collect()
        };
        assert_eq!(fields(&read), fields(block));
    }
}

/// Splits bytes into blocks, each after its length in two bytes.
struct Blocks<'a>(&'a [u8]);

impl<'a> Iterator for Blocks<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (block, rest) = rest.split_at(length);
        self.0 = rest;
        Some(block)
    }
}

/// Returns a block of the fields in the bytes: names and values in turn, separated by 0xff.
fn block_of_fields(bytes: &[u8]) -> HeaderBlock {
    let mut block = HeaderBlock::new();
    let mut parts = bytes.split(|byte| *byte == 0xff);
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        // Some fields are rejected. If one were added all the same, reading the block again would
        // show it.
        let _ = if name.len() % 2 == 0 {
            block.append(name, value)
        } else {
            block.append_sensitive(name, value)
        };
    }
    block
}
