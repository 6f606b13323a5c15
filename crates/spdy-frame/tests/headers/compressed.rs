//! The valid forms of compressed bytes, and when the compression context is lost.

use flate2::{Compress, Compression, FlushCompress};
use spdy_frame::{
    HeaderBlock, HeaderCompression, HeaderEncoder, HeaderError, HeaderLimits, Version,
};

use super::{
    REQUEST_V3, TRAILERS, decoder, lost, started, started_with,
    support::{
        decode_block, encode_block, number, pairs, serialized, stored, text_pairs, zlib_header,
    },
};

use Version::{V2, V3};

#[test]
fn c127_the_first_block_starts_with_a_zlib_header_and_the_dictionary() {
    for version in Version::ALL {
        for mode in [HeaderCompression::Indexed, HeaderCompression::Stored] {
            let mut encoder = HeaderEncoder::new(version, mode);
            let first = encode_block(&mut encoder, version, &HeaderBlock::new());
            let check = u16::from_be_bytes([first[0], first[1]]);
            assert_eq!(check % 31, 0);
            assert_eq!(first[0] & 15, 8, "deflate");
            assert_eq!(first[1] & 0x20, 0x20, "a preset dictionary");
            assert_eq!(first[2..6], zlib_header(version)[2..]);
            let second = encode_block(&mut encoder, version, &HeaderBlock::new());
            assert!(second.len() < 15, "the header comes once");
        }
    }
}

#[test]
fn a_zlib_header_may_come_in_pieces() {
    let whole = [zlib_header(V3), &stored(&number(V3, 0))].concat();
    for cut in 1..whole.len() - 5 {
        let mut decoder = decoder(V3);
        let error = decode_block(&mut decoder, &whole[..cut]);
        assert!(
            cut >= 15 || error == Err(HeaderError::UnexpectedEnd),
            "{cut}"
        );
        let error = decode_block(&mut decoder, &whole[cut..]);
        assert!(
            error.is_ok() || error == Err(HeaderError::UnexpectedEnd),
            "{cut}"
        );
        let good = stored(&serialized(V3, &text_pairs(TRAILERS)));
        assert_eq!(decode_block(&mut decoder, &good).unwrap().len(), 1);
    }
}

#[test]
fn c130_the_dictionary_of_another_version_loses_the_context() {
    for (version, other, found) in [(V2, V3, 0xe3c6_a7c2), (V3, V2, 0xdfa2_51b2)] {
        let bytes = [zlib_header(other), &stored(&number(version, 0))].concat();
        let error = lost(decoder(version), &bytes);
        assert_eq!(error, HeaderError::WrongDictionary { found });
    }
}

#[test]
fn c131_corrupt_bytes_lose_the_context() {
    for version in Version::ALL {
        for bytes in [
            &b"\x00\x01\x02"[..],
            b"\x79\x01",                     // Window and check do not fit.
            b"\x88\x1c",                     // A window of 64 KiB.
            b"\x78\x01\x00\x01\x00\x01\x00", // Lengths of a stored block that contradict each other.
            b"\x78\x01\x07",                 // A reserved type of block.
            b"\x78\x01\x02\x02\x00",         // A match before the start.
        ] {
            assert_eq!(
                lost(decoder(version), bytes),
                HeaderError::Corrupt,
                "{bytes:x?}"
            );
        }
        // A second zlib header, or bytes after a valid block.
        let again = [zlib_header(version), &stored(b"")].concat();
        assert_eq!(lost(started(version), &again), HeaderError::Corrupt);
    }
}

#[test]
fn c132_the_end_of_the_stream_loses_the_context() {
    for version in Version::ALL {
        let mut bytes = stored(&number(version, 0));
        bytes[0] = 1;
        bytes.truncate(bytes.len() - 5);
        assert_eq!(lost(started(version), &bytes), HeaderError::EndOfStream);
        assert_eq!(
            lost(started(version), b"\x03\x00"),
            HeaderError::EndOfStream
        );
    }
}

#[test]
fn the_form_of_the_deflate_stream_does_not_matter() {
    let request = text_pairs(REQUEST_V3);
    let bytes = serialized(V3, &request);
    for level in 0..=9 {
        let mut compress = Compress::new(Compression::new(level), true);
        let mut decoder = decoder(V3);
        for round in 0..20 {
            let mut block = Vec::with_capacity(1000);
            // Several flushes inside a block, as in Chromium.
            for part in bytes.chunks(5 + round) {
                let flush = match round % 3 {
                    0 => FlushCompress::Partial,
                    1 => FlushCompress::Sync,
                    _ => FlushCompress::None,
                };
                compress.compress_vec(part, &mut block, flush).unwrap();
            }
            compress
                .compress_vec(b"", &mut block, FlushCompress::Sync)
                .unwrap();
            // A missing marker comes with the next block or not at all.
            let fields = pairs(&decode_block(&mut decoder, &block).unwrap());
            assert_eq!(fields, request, "level {level}, round {round}");
        }
    }
}

#[test]
fn a_block_without_a_sync_marker_is_judged_by_what_is_there() {
    for version in Version::ALL {
        let mut decoder = started(version);
        let bytes = stored(&serialized(version, &text_pairs(TRAILERS)));
        let without_marker = &bytes[..bytes.len() - 5];
        for _ in 0..3 {
            let block = decode_block(&mut decoder, without_marker).unwrap();
            assert_eq!(pairs(&block), text_pairs(TRAILERS));
        }
    }
}

/// Fields are reused for the next block only if it has the same bytes.
#[test]
fn a_repeated_block_gives_the_same_result() {
    let mut limits = HeaderLimits::default();
    limits.max_fields = 3;
    for version in Version::ALL {
        let good = serialized(version, &text_pairs(&[("a", "1\x002"), ("b", "3")]));
        let other = serialized(version, &text_pairs(&[("a", "1\x002"), ("c", "3")]));
        let longer = [&number(version, 2)[..], &good].concat();
        let bad = serialized(version, &text_pairs(&[("a", "1"), ("a", "2")]));
        let many = serialized(version, &text_pairs(&[("a", "1\x002\x003"), ("b", "4")]));
        let none = serialized(version, &[]);
        let all = [&good, &other, &longer, &bad, &many, &none];

        // Each pair of blocks, each of them twice. The window wraps inside blocks many times.
        let mut decoder = started_with(version, limits.clone());
        for round in 0..100 {
            for (first, second) in all.iter().flat_map(|one| all.map(|other| (one, other))) {
                for bytes in [first, second, second] {
                    let mut fresh = started_with(version, limits.clone());
                    let expected = decode_block(&mut fresh, &stored(bytes));
                    let result = decode_block(&mut decoder, &stored(bytes));
                    assert_eq!(result, expected, "{round}");
                    if let (Ok(result), Ok(expected)) = (result, expected) {
                        let joined = |block: &HeaderBlock| -> Vec<bool> {
                            block.fields().map(|field| field.is_joined()).collect()
                        };
                        assert_eq!(joined(&result), joined(&expected));
                        assert_eq!(result.is_truncated(), expected.is_truncated());
                    }
                }
            }
        }
    }
}
