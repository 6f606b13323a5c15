//! The time for header blocks: 1000 blocks of one session, requests of ten fields or responses of
//! eight. For comparison, the time that zlib (`flate2` with zlib-rs) takes for the compression
//! alone, without the fields.

use divan::{Bencher, black_box, counter::ItemsCount};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use spdy_frame::{
    CompressedBlock, Frame, HeaderBlock, HeaderCompression, HeaderDecoder, HeaderEncoder,
    HeaderLimits, Headers, StreamId, Version,
    bytes::{Bytes, BytesMut},
    parse,
};

fn main() {
    let mut encoder = HeaderEncoder::new(Version::V3_1, HeaderCompression::Indexed);
    let mut dst = BytesMut::new();
    for (name, block) in [
        ("request", request as fn(usize) -> HeaderBlock),
        ("response", response),
        ("response that differs", changing_response),
    ] {
        let lengths = [0, 1, 2].map(|round| {
            dst.clear();
            write(&mut encoder, &block(round), &mut dst);
            dst.len() - 12
        });
        println!("{name}: blocks of {lengths:?} bytes");
    }
    divan::main();
}

const BLOCKS: usize = 1000;

fn request(_: usize) -> HeaderBlock {
    HeaderBlock::from_pairs([
        (":method", "GET"),
        (":path", "/assets/application.js"),
        (":version", "HTTP/1.1"),
        (":host", "www.example.com"),
        (":scheme", "https"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("accept-encoding", "gzip,deflate,sdch"),
        ("accept-language", "en-US,en;q=0.8"),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/38.0.2125.104 Safari/537.36",
        ),
        ("referer", "https://www.example.com/"),
    ])
    .unwrap()
}

fn response(_: usize) -> HeaderBlock {
    HeaderBlock::from_pairs([
        (":status", "200 OK"),
        (":version", "HTTP/1.1"),
        ("content-type", "text/html; charset=utf-8"),
        ("content-length", "5120"),
        ("cache-control", "private, max-age=0"),
        ("date", "Tue, 15 Nov 1994 08:12:31 GMT"),
        ("server", "spdy-server"),
        ("vary", "accept-encoding"),
    ])
    .unwrap()
}

/// Each response has another length and a cookie.
fn changing_response(round: usize) -> HeaderBlock {
    let mut block = HeaderBlock::new();
    for field in &response(round) {
        match field.name() {
            b"content-length" => block.append(field.name(), (1000 + 7 * round).to_string()),
            name => block.append(name, field.value()),
        }
        .unwrap();
    }
    let cookie = format!("session={:032x}; Path=/; Secure", round * 0x1234_5678);
    block.append("set-cookie", cookie).unwrap();
    block
}

fn write(encoder: &mut HeaderEncoder, block: &HeaderBlock, dst: &mut BytesMut) {
    let frame = Headers {
        stream: StreamId::MAX,
        fin: false,
        block,
    };
    encoder.encode_headers(&frame, dst).unwrap();
}

fn encode_all(bencher: Bencher<'_, '_>, mode: HeaderCompression, block: fn(usize) -> HeaderBlock) {
    let blocks: Vec<HeaderBlock> = (0..BLOCKS).map(block).collect();
    let mut dst = BytesMut::with_capacity(1 << 20);
    let mut encoder = HeaderEncoder::new(Version::V3_1, mode);
    bencher.counter(ItemsCount::new(BLOCKS)).bench_local(|| {
        dst.clear();
        for block in &blocks {
            write(&mut encoder, black_box(block), &mut dst);
        }
        dst.len()
    });
}

fn decode_all(bencher: Bencher<'_, '_>, mode: HeaderCompression, block: fn(usize) -> HeaderBlock) {
    let mut encoder = HeaderEncoder::new(Version::V3_1, mode);
    let mut written = BytesMut::new();
    for round in 0..BLOCKS {
        write(&mut encoder, &block(round), &mut written);
    }
    let mut rest = &written[..];
    let mut blocks = Vec::new();
    while let Some((frame, length)) = parse(Version::V3_1, rest).unwrap() {
        let Frame::Headers(frame) = frame else {
            panic!("not a HEADERS frame");
        };
        blocks.push(Bytes::copy_from_slice(frame.block.as_bytes()));
        rest = &rest[length..];
    }
    bencher.counter(ItemsCount::new(BLOCKS)).bench_local(|| {
        let mut decoder = HeaderDecoder::new(Version::V3_1, HeaderLimits::default());
        for block in &blocks {
            let block = decoder.decode(CompressedBlock::new(block)).unwrap();
            black_box(block);
        }
    });
}

#[divan::bench]
fn make_responses(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(BLOCKS)).bench_local(|| {
        for round in 0..BLOCKS {
            black_box(response(round));
        }
    });
}

#[divan::bench]
fn encode_requests(bencher: Bencher<'_, '_>) {
    encode_all(bencher, HeaderCompression::Indexed, request);
}

#[divan::bench]
fn encode_responses(bencher: Bencher<'_, '_>) {
    encode_all(bencher, HeaderCompression::Indexed, response);
}

#[divan::bench]
fn encode_changing_responses(bencher: Bencher<'_, '_>) {
    encode_all(bencher, HeaderCompression::Indexed, changing_response);
}

#[divan::bench]
fn encode_stored_responses(bencher: Bencher<'_, '_>) {
    encode_all(bencher, HeaderCompression::Stored, response);
}

#[divan::bench]
fn decode_requests(bencher: Bencher<'_, '_>) {
    decode_all(bencher, HeaderCompression::Indexed, request);
}

#[divan::bench]
fn decode_responses(bencher: Bencher<'_, '_>) {
    decode_all(bencher, HeaderCompression::Indexed, response);
}

#[divan::bench]
fn decode_changing_responses(bencher: Bencher<'_, '_>) {
    decode_all(bencher, HeaderCompression::Indexed, changing_response);
}

#[divan::bench]
fn decode_stored_requests(bencher: Bencher<'_, '_>) {
    decode_all(bencher, HeaderCompression::Stored, request);
}

/// Requests with another path and cookie each time.
fn changing_request(round: usize) -> HeaderBlock {
    let mut block = HeaderBlock::new();
    for field in &request(round) {
        match field.name() {
            b":path" => block.append(":path", format!("/assets/{:x}.js", round * 0x9e37_79b9)),
            name => block.append(name, field.value()),
        }
        .unwrap();
    }
    let cookie = format!("session={:032x}", round * 0x1234_5678);
    block.append("cookie", cookie).unwrap();
    block
}

#[divan::bench]
fn decode_changing_requests(bencher: Bencher<'_, '_>) {
    decode_all(bencher, HeaderCompression::Indexed, changing_request);
}

/// Returns a block before compression (protocol.md §7.1).
fn serialized(block: &HeaderBlock) -> Vec<u8> {
    let mut bytes = (block.len() as u32).to_be_bytes().to_vec();
    for field in block {
        for part in [field.name(), field.value()] {
            bytes.extend((part.len() as u32).to_be_bytes());
            bytes.extend(part);
        }
    }
    bytes
}

/// Returns blocks as zlib writes them with the parameters of Chromium: level 9, a window of 2 KiB.
fn zlib_blocks(block: fn(usize) -> HeaderBlock) -> Vec<Vec<u8>> {
    let mut compress = Compress::new_with_window_bits(Compression::best(), true, 11);
    let blocks = (0..BLOCKS).map(|round| {
        let mut deflated = Vec::with_capacity(4096);
        let bytes = serialized(&block(round));
        compress
            .compress_vec(&bytes, &mut deflated, FlushCompress::Sync)
            .unwrap();
        deflated
    });
    blocks.collect()
}

#[divan::bench(args = [false, true])]
fn decode_requests_of_zlib(bencher: Bencher<'_, '_>, changing: bool) {
    let blocks = zlib_blocks(if changing { changing_request } else { request });
    bencher.counter(ItemsCount::new(BLOCKS)).bench_local(|| {
        let mut decoder = HeaderDecoder::new(Version::V3_1, HeaderLimits::default());
        for block in &blocks {
            let block = decoder.decode(CompressedBlock::new(block)).unwrap();
            black_box(block);
        }
    });
}

#[divan::bench(args = [false, true])]
fn zlib_inflates_requests_of_zlib(bencher: Bencher<'_, '_>, changing: bool) {
    let blocks = zlib_blocks(if changing { changing_request } else { request });
    let mut bytes = Vec::with_capacity(4096);
    bencher.counter(ItemsCount::new(BLOCKS)).bench_local(|| {
        let mut inflater = Decompress::new(true);
        for block in &blocks {
            bytes.clear();
            inflater
                .decompress_vec(block, &mut bytes, FlushDecompress::Sync)
                .unwrap();
            black_box(&bytes);
        }
    });
}

#[divan::bench(args = [1, 6])]
fn zlib_deflates_responses(bencher: Bencher<'_, '_>, level: u32) {
    zlib_deflates(bencher, level, response);
}

#[divan::bench(args = [1, 6])]
fn zlib_deflates_changing_responses(bencher: Bencher<'_, '_>, level: u32) {
    zlib_deflates(bencher, level, changing_response);
}

fn zlib_deflates(bencher: Bencher<'_, '_>, level: u32, block: fn(usize) -> HeaderBlock) {
    let blocks: Vec<Vec<u8>> = (0..BLOCKS).map(|round| serialized(&block(round))).collect();
    let mut deflated = Vec::with_capacity(1 << 20);
    let mut compress = Compress::new(Compression::new(level), true);
    bencher.counter(ItemsCount::new(BLOCKS)).bench_local(|| {
        deflated.clear();
        for bytes in &blocks {
            compress
                .compress_vec(black_box(bytes), &mut deflated, FlushCompress::Sync)
                .unwrap();
        }
        deflated.len()
    });
}

/// Measures a block that exceeds the hard limit, including the creation of the decoder.
#[divan::bench]
fn refuse_a_bomb(bencher: Bencher<'_, '_>) {
    let mut bomb = Vec::with_capacity(1 << 20);
    Compress::new(Compression::best(), true)
        .compress_vec(&vec![0; 64 << 20], &mut bomb, FlushCompress::Sync)
        .unwrap();
    bencher.bench_local(|| {
        let mut decoder = HeaderDecoder::new(Version::V3_1, HeaderLimits::default());
        let error = decoder.decode(CompressedBlock::new(&bomb)).unwrap_err();
        assert!(error.is_context_lost());
    });
}
