//! Single frames.

use std::hint::black_box;

use bytes::BytesMut;
use spdy_frame::{
    Data, DecodeLimits, Decoder, Ping, RstStatus, RstStream, StreamId, Version, WindowIncrement,
    WindowTarget, WindowUpdate,
};

/// DATA with 64 bytes.
pub(crate) fn decode_data(prepared: usize, done: usize) {
    let mut bytes = BytesMut::new();
    for _ in 0..prepared {
        Data::encode_head(stream(), false, 64, &mut bytes);
        bytes.extend_from_slice(&[42; 64]);
    }
    decode(bytes, done);
}

/// WINDOW_UPDATE.
pub(crate) fn decode_control(prepared: usize, done: usize) {
    let mut bytes = BytesMut::new();
    for _ in 0..prepared {
        window_update().encode(Version::V3_1, &mut bytes);
    }
    decode(bytes, done);
}

fn decode(mut bytes: BytesMut, done: usize) {
    let mut decoder = Decoder::new(Version::V3_1, DecodeLimits::default());
    for _ in 0..done {
        let frame = decoder.decode(&mut bytes).expect("the frame is sound");
        drop(black_box(frame.expect("the frame is whole")));
    }
    black_box(bytes);
}

/// PING, RST_STREAM, WINDOW_UPDATE and the head of DATA in turns.
pub(crate) fn encode(_: usize, done: usize) {
    let mut to = BytesMut::with_capacity(64);
    let version = black_box(Version::V3_1);
    for id in 0..done as u32 {
        to.clear();
        match id % 4 {
            0 => Ping { id }.encode(version, &mut to),
            1 => reset().encode(version, &mut to),
            2 => window_update().encode(version, &mut to),
            _ => Data::encode_head(stream(), false, id, &mut to),
        }
        black_box(&to);
    }
}

fn reset() -> RstStream {
    RstStream {
        stream: stream(),
        status: RstStatus::CANCEL,
    }
}

fn window_update() -> WindowUpdate {
    let increment = WindowIncrement::new(65_536).expect("it is not zero");
    WindowUpdate {
        target: WindowTarget::Stream(stream()),
        increment,
    }
}

fn stream() -> StreamId {
    black_box(StreamId::MAX)
}
