//! The limits of a decoder: soft limits drop fields, the hard limit ends the session.

use spdy_frame::{HeaderDecoder, HeaderError, HeaderLimits, Version};

use super::{
    TRAILERS, Zlib, decoder, lost, started_with,
    support::{
        Pair, Random, decode_block, number, pairs, serialized, stored, text_pairs, zlib_header,
    },
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
            let bytes = zlib.block(&serialized(version, &large_block(version)));
            assert!(bytes.len() < 2000);
            let block = decode_block(&mut decoder, &bytes).unwrap();
            assert!(block.is_truncated());
            assert_eq!(block.get("b"), Some(&b"2"[..]));
            assert_eq!(block.get("last"), None);
            assert_eq!(block.len(), if version == V2 { 4 } else { 2 });
            assert!(block.size() < 128 * 1024 + 32 * 4);

            let good = text_pairs(TRAILERS);
            let bytes = zlib.block(&serialized(version, &good));
            let block = decode_block(&mut decoder, &bytes).unwrap();
            assert_eq!((pairs(&block), block.is_truncated()), (good, false));
        }
    }
}

#[test]
fn the_soft_limit_is_met_exactly() {
    for version in Version::ALL {
        let fields = text_pairs(&[("a", "1"), ("b", &"2".repeat(300))]);
        let bytes = serialized(version, &fields);
        for (max_size, expected) in [
            (bytes.len(), 2),
            (bytes.len() - 1, 1),
            (bytes.len() - 300, 1),
            (20, 1),
            (11, if version == V2 { 1 } else { 0 }),
            (3, 0),
            (0, 0),
        ] {
            let mut limits = HeaderLimits::default();
            limits.max_size = max_size;
            let mut decoder = HeaderDecoder::new(version, limits);
            let block = [zlib_header(version), &stored(&bytes)].concat();
            let block = decode_block(&mut decoder, &block).unwrap();
            assert_eq!(block.len(), expected, "{version} {max_size}");
            assert_eq!(block.is_truncated(), max_size < bytes.len());
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
            let bytes = stored(&serialized(version, &fields));
            let block = decode_block(&mut decoder, &bytes).unwrap();
            assert_eq!(pairs(&block), fields[..expected], "{version} {max_fields}");
            assert_eq!(block.is_truncated(), expected < 4);
        }
    }
}

#[test]
fn c145_above_the_hard_limit_the_context_is_lost() {
    for version in Version::ALL {
        let mut zlib = Zlib::new();
        let bytes = zlib.block(&vec![b'x'; 8 * 1024 * 1024]);
        assert!(bytes.len() < 10_000);
        let limit = HeaderLimits::default().max_inflated;
        assert_eq!(lost(decoder(version), &bytes), HeaderError::Bomb { limit });
    }
}

/// The third block inflates to the bytes of the first two, the first of which was rejected. What
/// the limit leaves of it is as long as the second block, but equal to the first.
#[test]
fn a_truncated_block_is_not_confused_with_the_block_before() {
    for version in Version::ALL {
        let mut limits = HeaderLimits::default();
        limits.max_size = 1000;
        let sound = |name: &str| {
            let empty = serialized(version, &text_pairs(&[(name, "")])).len();
            serialized(version, &text_pairs(&[(name, &"v".repeat(1000 - empty))]))
        };
        let (good, mut bad) = (sound("name"), sound("name"));
        let name = number(version, 0).len() * 2;
        bad[name..name + 4].copy_from_slice(b"\r\nA\0");
        let both = [&bad[..], &good].concat();
        let mut decoder = started_with(version, limits);
        for _ in 0..3 {
            let refused = decode_block(&mut decoder, &stored(&bad));
            assert_eq!(refused, Err(HeaderError::InvalidName));
            let block = decode_block(&mut decoder, &stored(&good)).unwrap();
            assert!(block.len() == 1 && !block.is_truncated());
            let refused = decode_block(&mut decoder, &stored(&both));
            assert_eq!(refused, Err(HeaderError::InvalidName));
        }
    }
}

/// Valid and invalid blocks, made of each other, so that the fields of one might seem to fit the
/// next.
#[test]
fn earlier_blocks_do_not_change_the_result_at_any_limit() {
    let mut random = Random::new(40);
    let (mut whole, mut cut, mut refused) = (0, 0, 0);
    for _ in 0..400 {
        let version = Version::ALL[random.below(3)];
        let pieces = pieces(version, &mut random);
        let mut limits = HeaderLimits::default();
        limits.max_fields = [1, 3, 128][random.below(3)];
        // Mostly the size of a piece, or a size near it.
        limits.max_size = match random.below(4) {
            0 => random.below(6000),
            _ => (pieces[random.below(pieces.len())].len() + random.below(5)).saturating_sub(2),
        };
        let mut decoder = started_with(version, limits.clone());
        let mut sent = vec![pieces[0].clone()];
        for _ in 0..60 {
            // A new block, or the last ones together.
            let last = &sent[sent.len().saturating_sub(1 + random.below(3))..];
            let bytes = match last.concat() {
                joined if random.chance() && joined.len() < 30_000 => joined,
                _ => pieces[random.below(pieces.len())].clone(),
            };
            sent.push(bytes.clone());
            let mut fresh = started_with(version, limits.clone());
            let expected = decode_block(&mut fresh, &stored(&bytes));
            let result = decode_block(&mut decoder, &stored(&bytes));
            assert_eq!(result, expected, "{version} {limits:?} {bytes:02x?}");
            let (Ok(block), Ok(expected)) = (result, expected) else {
                refused += 1;
                continue;
            };
            // Equal blocks can have lost different numbers of fields.
            assert_eq!(block.is_truncated(), expected.is_truncated());
            assert!(block.is_truncated() || bytes.len() <= limits.max_size);
            whole += usize::from(!block.is_truncated());
            cut += usize::from(block.is_truncated());
        }
    }
    println!("{whole} whole, {cut} cut, {refused} refused");
    assert!(whole > 1000 && cut > 1000 && refused > 1000);
}

/// Returns a few serialized blocks of a session. Some are valid, and some have the same length.
fn pieces(version: Version, random: &mut Random) -> Vec<Vec<u8>> {
    const SECOND: [(&str, &str); 6] = [
        ("b", "1\x002"),
        ("c", "1"),
        ("a", "1"),
        ("B", "1"),
        ("", "1"),
        ("b", "\x002"),
    ];
    let value = "v".repeat([0, 3, 40, 900, 1500][random.below(5)] + random.below(40));
    let second = [0, 1, random.below(6), random.below(6)].map(|place| SECOND[place]);
    second
        .map(|second| serialized(version, &text_pairs(&[("a", &value), second])))
        .to_vec()
}
