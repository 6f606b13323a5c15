//! Counts the allocations for frames and header blocks.

use allocation_counter::{AllocationInfo, measure};
use flate2::{Compress, Compression, FlushCompress};
use spdy_frame::{
    CompressedBlock, Data, DecodeLimits, Decoder, HeaderBlock, HeaderCompression, HeaderDecoder,
    HeaderEncoder, HeaderError, HeaderLimits, Headers, Ping, RstStatus, RstStream, StreamId,
    Version, WindowIncrement, WindowTarget, WindowUpdate,
    bytes::{BufMut, BytesMut},
};

mod support;

use support::{decode_block, number, serialized, stored, text_pairs};

fn response() -> HeaderBlock {
    HeaderBlock::from_pairs([
        (":status", "200 OK"),
        (":version", "HTTP/1.1"),
        ("content-type", "text/html"),
        ("date", "Tue, 15 Nov 1994 08:12:31 GMT"),
        ("set-cookie", "session=0123456789"),
    ])
    .unwrap()
}

fn write(encoder: &mut HeaderEncoder, block: &HeaderBlock, dst: &mut BytesMut) {
    let frame = Headers {
        stream: StreamId::MAX,
        fin: false,
        block,
    };
    encoder.encode_headers(&frame, dst).unwrap();
}

#[test]
fn a_frame_without_a_header_block_is_decoded_without_an_allocation() {
    let mut src = BytesMut::new();
    let stream = StreamId::MAX;
    for id in 0..100 {
        Ping { id }.encode(Version::V3_1, &mut src);
        let status = RstStatus::CANCEL;
        RstStream { stream, status }.encode(Version::V3_1, &mut src);
        let target = WindowTarget::Stream(stream);
        let increment = WindowIncrement::new(1000).unwrap();
        WindowUpdate { target, increment }.encode(Version::V3_1, &mut src);
        Data::encode_head(stream, false, 100, &mut src);
        src.put_bytes(7, 100);
    }
    let mut decoder = Decoder::new(Version::V3_1, DecodeLimits::default());
    // The first split makes the buffer a shared one.
    decoder.decode(&mut src).unwrap();
    drop(src.split_to(0));
    let mut frames = 1;
    let info = measure(|| {
        while decoder.decode(&mut src).unwrap().is_some() {
            frames += 1;
        }
    });
    assert_eq!(frames, 400);
    assert_eq!(info.count_total, 0);
}

#[test]
fn a_block_is_encoded_without_an_allocation() {
    for mode in [HeaderCompression::Indexed, HeaderCompression::Stored] {
        let mut encoder = HeaderEncoder::new(Version::V3_1, mode);
        let mut dst = BytesMut::with_capacity(1 << 20);
        let mut blocks = vec![response(); 500];
        for (index, block) in blocks.iter_mut().enumerate() {
            block.append("x-request", format!("{index}")).unwrap();
        }
        // The memory of the encoder grows up to its limit.
        for block in &blocks[..200] {
            write(&mut encoder, block, &mut dst);
        }
        let info = measure(|| {
            for block in &blocks {
                write(&mut encoder, block, &mut dst);
            }
        });
        assert_eq!(info.count_total, 0, "{mode:?}");
    }
}

/// Writes blocks one after the other with one encoder.
fn written(blocks: impl IntoIterator<Item = HeaderBlock>) -> Vec<BytesMut> {
    let mut encoder = HeaderEncoder::new(Version::V3_1, HeaderCompression::Indexed);
    let written = blocks.into_iter().map(|block| {
        let mut dst = BytesMut::new();
        write(&mut encoder, &block, &mut dst);
        dst.split_off(12)
    });
    written.collect()
}

#[test]
fn a_block_is_decoded_with_three_allocations_and_its_repetition_with_two() {
    let same = vec![response(); 300];
    let others = (0..300).map(|index| {
        let mut block = HeaderBlock::new();
        block.append("x-request", format!("{index:03}")).unwrap();
        for field in &response() {
            block.append(field.name(), field.value()).unwrap();
        }
        block
    });
    for (written, allocations) in [(written(same), 2), (written(others), 3)] {
        let mut decoder = HeaderDecoder::new(Version::V3_1, HeaderLimits::default());
        // The window grows until it has its full size.
        let (before, rest) = written.split_at(250);
        for bytes in before {
            decode_block(&mut decoder, bytes).unwrap();
        }
        for bytes in rest {
            let info = measure(|| {
                let block = decoder.decode(CompressedBlock::new(bytes)).unwrap();
                let field = block.fields().last().unwrap();
                assert_eq!(field.value_bytes(), "session=0123456789");
            });
            // The bytes and their reference count, and the positions of the fields if they are new.
            assert_eq!(info.count_total, allocations);
        }
    }
}

#[test]
fn a_block_is_built_with_two_allocations_and_the_next_one_with_none() {
    let pairs = response();
    let build = || {
        let mut block = HeaderBlock::with_capacity(5, 200);
        for field in &pairs {
            block.append(field.name(), field.value()).unwrap();
        }
        drop(block);
    };
    // Another one is for the list of the memory that is used again.
    assert_eq!(measure(build).count_total, 2 + 1);
    assert_eq!(measure(build).count_total, 0);
}

#[test]
fn compression_contexts_are_small_and_allocated_on_first_use() {
    let new = measure(|| {
        let encoder = HeaderEncoder::new(Version::V3_1, HeaderCompression::Indexed);
        let decoder = HeaderDecoder::new(Version::V3_1, HeaderLimits::default());
        drop((encoder, decoder));
    });
    assert_eq!(new.count_total, 0);

    let mut dst = BytesMut::with_capacity(1 << 20);
    let mut encoder = HeaderEncoder::new(Version::V3_1, HeaderCompression::Indexed);
    write(
        &mut HeaderEncoder::new(Version::V3_1, HeaderCompression::Indexed),
        &response(),
        &mut dst,
    );
    dst.clear();
    let used = measure(|| {
        for index in 0..200 {
            let mut block = response();
            block.append(format!("x-{index}"), "a value").unwrap();
            write(&mut encoder, &block, &mut dst);
        }
    });
    println!("an encoder holds {} bytes at most", used.bytes_current);
    assert!(used.bytes_current < 8 * 1024);
}

/// Allocates the buffer that all decoders of a thread share, into which blocks are inflated.
fn warm_up() {
    let written = written([response()]);
    let mut decoder = HeaderDecoder::new(Version::V3_1, HeaderLimits::default());
    drop(decode_block(&mut decoder, &written[0]));
}

#[test]
fn a_session_at_rest_holds_little_more_than_its_last_bytes() {
    let mut dst = BytesMut::with_capacity(1 << 20);
    // The memory of this block is that of the following ones.
    drop(response());
    let used = measure(|| {
        let mut encoder = HeaderEncoder::new(Version::V3_1, HeaderCompression::Indexed);
        for _ in 0..10 {
            write(&mut encoder, &response(), &mut dst);
        }
        std::mem::forget(encoder);
    });
    println!("an encoder holds {} bytes", used.bytes_current);
    assert!(used.bytes_current < 1536);

    let mut request = HeaderBlock::new();
    for (name, length) in [
        (":path", 60),
        ("accept", 80),
        ("user-agent", 110),
        ("cookie", 90),
    ] {
        request.append(name, "x".repeat(length)).unwrap();
    }
    for (name, value) in [
        (":method", "GET"),
        (":version", "HTTP/1.1"),
        (":host", "localhost"),
    ] {
        request.append(name, value).unwrap();
    }
    let written = written([request]);
    warm_up();
    let mut decoder = HeaderDecoder::new(Version::V3_1, HeaderLimits::default());
    let used = measure(|| drop(decode_block(&mut decoder, &written[0]).unwrap()));
    println!("a decoder holds {} bytes", used.bytes_current);
    assert!(used.bytes_current < 1024);

    let used = measure(|| {
        let large = text_pairs(&[("x", &"y".repeat(60_000))]);
        for _ in 0..10 {
            let bytes = stored(&serialized(Version::V3_1, &large));
            decode_block(&mut decoder, &bytes).unwrap();
        }
        warm_up();
    });
    println!("a decoder holds {} bytes at most", used.bytes_current);
    assert!(used.bytes_current <= WINDOW);
}

/// Returns the memory of a decoder, including the decoder itself.
fn held(decoder: &mut HeaderDecoder, decode: impl Fn(&mut HeaderDecoder)) -> i64 {
    warm_up();
    let used = measure(|| {
        decode(decoder);
        // A buffer that has grown is dropped, so there is no buffer now.
        warm_up();
    });
    used.bytes_current + size_of::<HeaderDecoder>() as i64
}

/// Holds after any blocks, for all window sizes, and also if blocks do not end with a sync flush.
#[test]
fn a_decoder_at_rest_holds_the_window_that_is_announced_and_less_than_two_kibibytes() {
    for (bits, flush, more) in [
        (11, FlushCompress::Sync, 1024),
        (12, FlushCompress::Sync, 1024),
        (14, FlushCompress::Sync, 1024),
        (15, FlushCompress::Sync, 1024),
        (11, FlushCompress::Partial, 2048),
        (15, FlushCompress::Partial, 2048),
    ] {
        let mut compress = Compress::new_with_window_bits(Compression::best(), true, bits);
        let mut blocks = Vec::new();
        for round in 0..3 {
            // The largest number of fields whose positions a decoder stores, 40 kB in all.
            let names: Vec<String> = (0..32).map(|name| format!("x-{name}")).collect();
            let value = |name: usize| format!("{}", 7919 * (round + 1) * (name + 3)).repeat(180);
            let values: Vec<String> = (0..32).map(value).collect();
            let pairs: Vec<(&str, &str)> = names
                .iter()
                .zip(&values)
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let mut bytes = Vec::with_capacity(1 << 17);
            let plain = serialized(Version::V3_1, &text_pairs(&pairs));
            assert!(plain.len() > 32_000);
            compress.compress_vec(&plain, &mut bytes, flush).unwrap();
            blocks.push(bytes);
        }
        let mut decoder = HeaderDecoder::new(Version::V3_1, HeaderLimits::default());
        let held = held(&mut decoder, |decoder| {
            for bytes in &blocks {
                // A partial flush might leave the last field out.
                drop(decode_block(decoder, bytes));
            }
        });
        println!("a decoder with {bits} bits holds {held} bytes behind {flush:?}");
        assert!(held <= (1 << bits) + more, "{held}");
    }
}

#[test]
fn a_decoder_holds_no_more_than_the_window_that_is_announced() {
    // A window of 2 KiB, as in Chromium.
    let mut compress = Compress::new_with_window_bits(Compression::best(), true, 11);
    warm_up();
    let mut decoder = HeaderDecoder::new(Version::V3_1, HeaderLimits::default());
    let used = measure(|| {
        for round in 0..100 {
            let value = format!("{round}").repeat(300);
            let pairs = text_pairs(&[("x", &value), ("y", "z")]);
            let mut bytes = Vec::with_capacity(4096);
            compress
                .compress_vec(
                    &serialized(Version::V3_1, &pairs),
                    &mut bytes,
                    FlushCompress::Sync,
                )
                .unwrap();
            let block = decode_block(&mut decoder, &bytes).unwrap();
            assert_eq!(block.get("x"), Some(value.as_bytes()));
        }
    });
    println!("a decoder holds {} bytes", used.bytes_current);
    assert!(used.bytes_current <= 2048 + 128);
}

/// The largest window of a zlib stream.
const WINDOW: i64 = 32 * 1024;

/// Decodes one block with a decoder that has been used.
fn decode(bytes: &[u8]) -> (Result<HeaderBlock, HeaderError>, AllocationInfo) {
    let mut decoder = HeaderDecoder::new(Version::V3_1, HeaderLimits::default());
    let first = [&b"\x78\x01"[..], &stored(&number(Version::V3_1, 0))].concat();
    decode_block(&mut decoder, &first).unwrap();
    let mut result = Ok(HeaderBlock::new());
    let info = measure(|| result = decode_block(&mut decoder, bytes));
    (result, info)
}

#[test]
fn c141_announced_counts_and_lengths_allocate_nothing() {
    for bytes in [
        &b"\xff\xff\xff\xff"[..],
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\0\0\0\x01\xff\xff\xff\xff",
        b"\0\0\0\x01\0\0\0\x01x\xff\xff\xff\xff",
    ] {
        let (result, info) = decode(&stored(bytes));
        assert_eq!(result, Err(HeaderError::UnexpectedEnd));
        assert!(info.bytes_max < 4096, "{} bytes", info.bytes_max);
    }
}

/// Returns the bytes as zlib compresses them.
fn deflate(parts: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut compress = Compress::new(Compression::best(), false);
    let mut deflated = Vec::with_capacity(1 << 20);
    for part in parts {
        compress
            .compress_vec(&part, &mut deflated, FlushCompress::Sync)
            .unwrap();
    }
    assert!(deflated.len() < deflated.capacity());
    deflated
}

#[test]
fn c144_c145_memory_is_bounded_by_the_soft_limit_while_a_block_inflates() {
    let soft = HeaderLimits::default().max_size as u64;
    let large = text_pairs(&[("a", "1"), ("x", &"y".repeat(1_000_000))]);
    let (result, info) = decode(&deflate([serialized(Version::V3_1, &large)]));
    assert!(result.unwrap().is_truncated());
    assert!(
        info.bytes_max < 2 * soft + WINDOW as u64 + 8192,
        "{} bytes",
        info.bytes_max
    );

    let (result, info) = decode(&deflate((0..32).map(|_| vec![0; 1 << 20])));
    let limit = HeaderLimits::default().max_inflated;
    assert_eq!(result, Err(HeaderError::Bomb { limit }));
    assert!(
        info.bytes_max < 2 * soft + WINDOW as u64 + 8192,
        "{} bytes",
        info.bytes_max
    );
}

#[test]
fn many_tiny_fields_cost_no_more_than_the_limit_on_fields() {
    let names: Vec<String> = (0..15_000).map(|index| format!("{index}")).collect();
    let tiny: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let (result, info) = decode(&deflate([serialized(Version::V3_1, &text_pairs(&tiny))]));
    let block = result.unwrap();
    assert!(block.is_truncated());
    assert_eq!(block.len(), 128);
    let soft = HeaderLimits::default().max_size as u64;
    assert!(
        info.bytes_max < 2 * soft + WINDOW as u64 + 8192,
        "{} bytes",
        info.bytes_max
    );
    assert!(
        info.bytes_current < WINDOW + 8192,
        "{} bytes are kept",
        info.bytes_current
    );
}
