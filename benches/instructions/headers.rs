//! Header blocks, in the order of a session.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use spdy_frame::{
    CompressedBlock, Frame, HeaderBlock, HeaderCompression, HeaderDecoder, HeaderEncoder,
    HeaderLimits, Headers, StreamId, Version, parse,
};

use crate::data::{request, response};

/// The same ten fields each time.
pub(crate) fn decode_requests(prepared: usize, done: usize) {
    decode(&request(), prepared, done);
}

/// The same six fields each time.
pub(crate) fn decode_responses(prepared: usize, done: usize) {
    decode(&response(), prepared, done);
}

fn decode(block: &HeaderBlock, prepared: usize, done: usize) {
    let blocks = compressed(block, prepared);
    let mut decoder = HeaderDecoder::new(Version::V3_1, HeaderLimits::default());
    for block in &blocks[..done] {
        black_box(decode_one(&mut decoder, block));
    }
    black_box(blocks);
}

/// The first request of a session, with the making of its decoder.
pub(crate) fn decode_first(_: usize, done: usize) {
    let first = compressed(&request(), 1);
    for _ in 0..done {
        let mut decoder = HeaderDecoder::new(Version::V3_1, HeaderLimits::default());
        black_box(decode_one(&mut decoder, &first[0]));
    }
}

fn decode_one(decoder: &mut HeaderDecoder, block: &Bytes) -> HeaderBlock {
    let block = decoder.decode(CompressedBlock::new(block));
    block.expect("the block is sound")
}

/// The same ten fields each time.
pub(crate) fn encode_requests(_: usize, done: usize) {
    let block = request();
    encode((0..done).map(|_| &block));
}

/// The same six fields each time.
pub(crate) fn encode_responses(_: usize, done: usize) {
    let block = response();
    encode((0..done).map(|_| &block));
}

/// Six fields, of which one has another value each time.
pub(crate) fn encode_changing(prepared: usize, done: usize) {
    let changed = |round: usize| {
        let mut block = HeaderBlock::new();
        for field in &response() {
            let appended = match field.name() {
                b"content-length" => block.append(field.name(), (1000 + 7 * round).to_string()),
                name => block.append(name, field.value()),
            };
            appended.expect("the field is sound");
        }
        block
    };
    let blocks: Vec<HeaderBlock> = (0..prepared).map(changed).collect();
    encode(blocks[..done].iter());
    black_box(blocks);
}

fn encode<'a>(blocks: impl Iterator<Item = &'a HeaderBlock>) {
    let mut encoder = HeaderEncoder::new(Version::V3_1, HeaderCompression::Indexed);
    let mut to = BytesMut::with_capacity(4096);
    for block in blocks {
        to.clear();
        write(&mut encoder, black_box(block), &mut to);
        black_box(&to);
    }
}

/// The blocks of a session that sends the same fields each time.
fn compressed(block: &HeaderBlock, count: usize) -> Vec<Bytes> {
    let mut encoder = HeaderEncoder::new(Version::V3_1, HeaderCompression::Indexed);
    let mut to = BytesMut::new();
    let compress = |_| {
        to.clear();
        write(&mut encoder, block, &mut to);
        let (frame, _) = parse(Version::V3_1, &to)
            .expect("the frame is sound")
            .expect("the frame is whole");
        let Frame::Headers(frame) = frame else {
            unreachable!("HEADERS was written");
        };
        Bytes::copy_from_slice(frame.block.as_bytes())
    };
    (0..count).map(compress).collect()
}

fn write(encoder: &mut HeaderEncoder, block: &HeaderBlock, to: &mut BytesMut) {
    let frame = Headers {
        stream: StreamId::MAX,
        fin: false,
        block,
    };
    encoder
        .encode_headers(&frame, to)
        .expect("it fits into a frame");
}
