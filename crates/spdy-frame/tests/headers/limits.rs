//! The limits of a decoder: the soft ones cost fields, the hard one the session.

use spdy_frame::{HeaderDecoder, HeaderError, HeaderLimits, Version};

use super::{
    TRAILERS, Zlib, decoder, lost, started_with,
    support::{Pair, decode_block, pairs, serialized, stored, text_pairs, zlib_header},
};

use Version::V2;

fn large_block(version: Version) -> Vec<Pair> {
    let mut pairs = text_pairs(&[("a", "1"), ("b", "2")]);
    match version {
        V2 => pairs.extend((0..16).map(|index| (vec![b'c', b'a' + index], vec![b'x'; 62_500]))),
        _ => pairs.push((b"c".to_vec(), vec![b'x'; 1_000_000])),
    }
    pairs.push((b"last".to_vec(), b"3".to_vec()));
    pairs
}

#[test]
fn c144_above_the_soft_limit_the_fields_that_fit_are_delivered() {
    for version in Version::ALL {
        let mut zlib = Zlib::new();
        let mut decoder = decoder(version);
        for _ in 0..3 {
            let octets = zlib.block(&serialized(version, &large_block(version)));
            assert!(octets.len() < 2000);
            let block = decode_block(&mut decoder, &octets).unwrap();
            assert!(block.is_truncated());
            assert_eq!(block.get("b"), Some(&b"2"[..]));
            assert_eq!(block.get("last"), None);
            assert_eq!(block.len(), if version == V2 { 4 } else { 2 });
            assert!(block.size() < 128 * 1024 + 32 * 4);

            let good = text_pairs(TRAILERS);
            let octets = zlib.block(&serialized(version, &good));
            let block = decode_block(&mut decoder, &octets).unwrap();
            assert_eq!((pairs(&block), block.is_truncated()), (good, false));
        }
    }
}

#[test]
fn the_soft_limit_is_met_exactly() {
    for version in Version::ALL {
        let fields = text_pairs(&[("a", "1"), ("b", &"2".repeat(300))]);
        let octets = serialized(version, &fields);
        for (max_size, expected) in [
            (octets.len(), 2),
            (octets.len() - 1, 1),
            (octets.len() - 300, 1),
            (20, 1),
            (11, if version == V2 { 1 } else { 0 }),
            (3, 0),
            (0, 0),
        ] {
            let mut limits = HeaderLimits::default();
            limits.max_size = max_size;
            let mut decoder = HeaderDecoder::new(version, limits);
            let block = [zlib_header(version), &stored(&octets)].concat();
            let block = decode_block(&mut decoder, &block).unwrap();
            assert_eq!(block.len(), expected, "{version} {max_size}");
            assert_eq!(block.is_truncated(), max_size < octets.len());
        }
    }
}

#[test]
fn fields_are_counted_after_values_are_split() {
    for version in Version::ALL {
        let fields = text_pairs(&[("a", "1"), ("b", "2\x003\x004"), ("c", ""), ("d", "5")]);
        for (max_fields, expected) in [(6, 4), (5, 3), (4, 2), (3, 1), (1, 1), (0, 0)] {
            let mut limits = HeaderLimits::default();
            limits.max_fields = max_fields;
            let mut decoder = started_with(version, limits);
            let octets = stored(&serialized(version, &fields));
            let block = decode_block(&mut decoder, &octets).unwrap();
            assert_eq!(pairs(&block), fields[..expected], "{version} {max_fields}");
            assert_eq!(block.is_truncated(), expected < 4);
        }
    }
}

#[test]
fn c145_above_the_hard_limit_the_context_is_lost() {
    for version in Version::ALL {
        let mut zlib = Zlib::new();
        let octets = zlib.block(&vec![b'x'; 8 * 1024 * 1024]);
        assert!(octets.len() < 10_000);
        let limit = HeaderLimits::default().max_inflated;
        assert_eq!(lost(decoder(version), &octets), HeaderError::Bomb { limit });
    }
}
