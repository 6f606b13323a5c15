//! The time for frames: decoding a mixed conversation, and encoding frames of fixed length.

use divan::{Bencher, black_box, counter::BytesCount};
use spdy_frame::{
    CompressedBlock, Data, DecodeLimits, Decoder, Headers, Ping, Priority, RstStatus, RstStream,
    StreamId, SynReply, SynStream, Version, WindowIncrement, WindowTarget, WindowUpdate,
    bytes::{Bytes, BytesMut},
    parse,
};

fn main() {
    divan::main();
}

/// Requests on 100 streams, 900 frames in all: SYN_STREAM, SYN_REPLY, four DATA frames, trailers,
/// WINDOW_UPDATE and PING on each.
fn conversation(payload: usize) -> BytesMut {
    let version = Version::V3_1;
    let block = || CompressedBlock::new([7_u8; 60]);
    let payload = vec![42; payload];
    let mut dst = BytesMut::new();
    let mut next = StreamId::new(1);
    while let Some(stream) = next.filter(|stream| stream.get() < 200) {
        let syn_stream = SynStream {
            stream,
            associated: None,
            priority: Priority::default(),
            fin: true,
            unidirectional: false,
            block: block(),
        };
        syn_stream.encode(version, &mut dst).unwrap();
        SynReply {
            stream,
            fin: false,
            block: block(),
        }
        .encode(version, &mut dst)
        .unwrap();
        for _ in 0..4 {
            Data::encode_head(stream, false, payload.len() as u32, &mut dst);
            dst.extend_from_slice(&payload);
        }
        Headers {
            stream,
            fin: true,
            block: block(),
        }
        .encode(version, &mut dst)
        .unwrap();
        window_update(stream).encode(version, &mut dst);
        Ping { id: stream.get() }.encode(version, &mut dst);
        next = stream.next();
    }
    dst
}

fn window_update(stream: StreamId) -> WindowUpdate {
    let increment = WindowIncrement::new(65_536).unwrap();
    WindowUpdate {
        target: WindowTarget::Stream(stream),
        increment,
    }
}

fn reset() -> RstStream {
    RstStream {
        stream: black_box(StreamId::MAX),
        status: RstStatus::CANCEL,
    }
}

#[divan::bench(args = [0, 64, 4096])]
fn decode_900_frames(bencher: Bencher<'_, '_>, payload: usize) {
    let bytes = conversation(payload);
    bencher
        .counter(BytesCount::new(bytes.len()))
        .with_inputs(|| bytes.clone())
        .bench_local_values(|mut src| {
            let mut decoder = Decoder::new(Version::V3_1, DecodeLimits::default());
            while let Some(frame) = decoder.decode(&mut src).unwrap() {
                drop(black_box(frame));
            }
            src
        });
}

/// Writes one of 1000 frames.
type Write = fn(u32, &mut BytesMut);

const KINDS: [(&str, Write); 5] = [
    ("ping", |id, to| Ping { id }.encode(Version::V3_1, to)),
    ("window update", |_, to| {
        window_update(StreamId::MAX).encode(Version::V3_1, to)
    }),
    ("reset", |_, to| reset().encode(Version::V3_1, to)),
    ("data of 0", |_, to| {
        Data::encode_head(StreamId::MAX, true, 0, to)
    }),
    ("data of 64", |_, to| {
        Data::encode_head(StreamId::MAX, false, 64, to);
        to.extend_from_slice(&[42; 64]);
    }),
];

fn thousand(kind: &str) -> BytesMut {
    let (_, write) = KINDS.iter().find(|(name, _)| *name == kind).unwrap();
    let mut bytes = BytesMut::new();
    (0..1000).for_each(|id| write(id, &mut bytes));
    bytes
}

/// Looks at each frame where `decode` has put it. This measures decoding alone.
#[divan::bench(args = KINDS.map(|(name, _)| name))]
fn decode_1000_in_place(bencher: Bencher<'_, '_>, kind: &str) {
    let bytes = thousand(kind);
    bencher
        .with_inputs(|| bytes.clone())
        .bench_local_values(|mut src| {
            let mut decoder = Decoder::new(Version::V3_1, DecodeLimits::default());
            while let Ok(Some(frame)) = &decoder.decode(&mut src) {
                black_box(frame);
            }
            src
        });
}

/// Moves each frame out of the result. A move reads 56 bytes right after a few of them were
/// written, and many CPUs wait longer for that than for everything else.
#[divan::bench(args = KINDS.map(|(name, _)| name))]
fn decode_1000_and_move(bencher: Bencher<'_, '_>, kind: &str) {
    let bytes = thousand(kind);
    bencher
        .with_inputs(|| bytes.clone())
        .bench_local_values(|mut src| {
            let mut decoder = Decoder::new(Version::V3_1, DecodeLimits::default());
            while let Some(frame) = decoder.decode(&mut src).unwrap() {
                drop(black_box(frame));
            }
            src
        });
}

#[divan::bench]
fn parse_900_borrowed_frames(bencher: Bencher<'_, '_>) {
    let bytes = Bytes::from(conversation(64));
    bencher.bench_local(|| {
        let mut rest = &bytes[..];
        while let Some((frame, length)) = parse(Version::V3_1, rest).unwrap() {
            black_box(&frame);
            rest = &rest[length..];
        }
    });
}

#[divan::bench]
fn encode_1000_fixed_frames(bencher: Bencher<'_, '_>) {
    let mut dst = BytesMut::with_capacity(64 * 1024);
    bencher.bench_local(move || {
        dst.clear();
        let version = black_box(Version::V3_1);
        let stream = black_box(StreamId::MAX);
        for id in 0..250 {
            Ping { id }.encode(version, &mut dst);
            reset().encode(version, &mut dst);
            window_update(stream).encode(version, &mut dst);
            Data::encode_head(stream, false, 1000, &mut dst);
        }
        black_box(dst.len())
    });
}
