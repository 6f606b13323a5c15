//! Inflated blocks: invalid names, values and lengths are errors of the stream only.

use spdy_frame::{HeaderError, HeaderLimits, Version};

use super::{
    Zlib, decoder, started, started_with,
    support::{Pair, Random, decode_block, number, pairs, serialized, stored, text_pairs},
};

use Version::V3;

/// Returns the error of a block. The next block must decode.
fn soft_error(version: Version, bytes: &[u8]) -> HeaderError {
    let mut decoder = started(version);
    let error = decode_block(&mut decoder, &stored(bytes)).unwrap_err();
    assert!(!error.is_context_lost());
    let good = text_pairs(&[("x", "y")]);
    let block = decode_block(&mut decoder, &stored(&serialized(version, &good))).unwrap();
    assert_eq!(pairs(&block), good, "a good block follows");
    error
}

fn soft_error_of_pairs(version: Version, bad: &[(&str, &str)]) -> HeaderError {
    soft_error(version, &serialized(version, &text_pairs(bad)))
}

#[test]
fn c133_a_name_of_no_bytes_is_refused() {
    for version in Version::ALL {
        let error = soft_error_of_pairs(version, &[("a", "b"), ("", "c")]);
        assert_eq!(error, HeaderError::EmptyName);
    }
}

#[test]
fn c134_a_name_that_occurs_twice_is_refused() {
    for version in Version::ALL {
        for count in [0, 1, 20, 31, 32, 33, 100] {
            let names: Vec<String> = (0..count).map(|index| format!("x{index}")).collect();
            let mut bad: Vec<(&str, &str)> = vec![("twice", "1")];
            bad.extend(names.iter().map(|name| (name.as_str(), "v")));
            let good = serialized(version, &text_pairs(&bad));
            assert!(decode_block(&mut started(version), &stored(&good)).is_ok());
            bad.push(("twice", "2"));
            assert_eq!(
                soft_error_of_pairs(version, &bad),
                HeaderError::DuplicateName
            );
        }
    }
}

#[test]
fn c135_an_upper_case_letter_in_a_name_is_refused() {
    for version in Version::ALL {
        for name in ["A", "x-Y", "content-typE", "Zzzzzzzzzzzzzzzzzzzzzzzzz"] {
            let error = soft_error_of_pairs(version, &[(name, "b")]);
            assert_eq!(error, HeaderError::InvalidName);
        }
    }
}

#[test]
fn c136_a_misplaced_nul_in_a_value_is_refused() {
    for version in Version::ALL {
        for value in ["\0a", "a\0", "a\0\0b", "\0", "\0\0", "a\0b\0"] {
            let error = soft_error_of_pairs(version, &[("x", value), ("y", "z")]);
            assert_eq!(error, HeaderError::InvalidValue, "{value:?}");
        }
    }
}

#[test]
fn cr_and_lf_in_names_and_values_are_rejected() {
    for version in Version::ALL {
        for bad in ["\r", "\n", "a\rb", "long enough to be checked in one go\n"] {
            let error = soft_error_of_pairs(version, &[("x", bad)]);
            assert_eq!(error, HeaderError::InvalidValue);
            let error = soft_error_of_pairs(version, &[(bad, "x")]);
            assert_eq!(error, HeaderError::InvalidName);
        }
        let error = soft_error_of_pairs(version, &[("a\0b", "x")]);
        assert_eq!(error, HeaderError::InvalidName);
    }
}

#[test]
fn c137_c138_an_empty_value_is_accepted_and_other_bytes_are_opaque() {
    let good = text_pairs(&[
        ("a", ""),
        ("b", "\t\u{1}\u{7f}\u{fc}"),
        ("!\u{e4}:", ""),
        ("c", "1\x002"),
    ]);
    for version in Version::ALL {
        let bytes = stored(&serialized(version, &good));
        let block = decode_block(&mut started(version), &bytes).unwrap();
        assert_eq!(pairs(&block), good);
    }
}

#[test]
fn c138_strict_decoding_refuses_an_empty_value_in_spdy_2() {
    let mut limits = HeaderLimits::default();
    limits.strict = true;
    let sound = text_pairs(&[("a", "1"), ("b", "2")]);
    let empty = text_pairs(&[("a", "1"), ("b", "")]);
    for version in Version::ALL {
        let mut decoder = started_with(version, limits.clone());
        for _ in 0..3 {
            let block = decode_block(&mut decoder, &stored(&serialized(version, &sound)));
            assert_eq!(pairs(&block.unwrap()), sound);
            let result = decode_block(&mut decoder, &stored(&serialized(version, &empty)));
            match version {
                Version::V2 => assert_eq!(result, Err(HeaderError::EmptyValue)),
                _ => assert_eq!(pairs(&result.unwrap()), empty),
            }
        }
    }
    assert!(!HeaderError::EmptyValue.is_context_lost());
}

#[test]
fn c139_a_count_above_the_pairs_is_refused() {
    for version in Version::ALL {
        for count in [2, 3, 0xffff] {
            let mut bytes = serialized(version, &text_pairs(&[("a", "b")]));
            let field = number(version, count);
            bytes[..field.len()].copy_from_slice(&field);
            assert_eq!(soft_error(version, &bytes), HeaderError::UnexpectedEnd);
        }
    }
    assert_eq!(
        soft_error(V3, b"\xff\xff\xff\xff"),
        HeaderError::UnexpectedEnd
    );
    assert_eq!(soft_error(V3, b"\0\0\0"), HeaderError::UnexpectedEnd);
    assert_eq!(soft_error(V3, b""), HeaderError::UnexpectedEnd);
}

#[test]
fn c140_bytes_after_the_last_pair_are_refused() {
    for version in Version::ALL {
        let mut bytes = serialized(version, &text_pairs(&[("a", "b")]));
        bytes.push(0);
        assert_eq!(soft_error(version, &bytes), HeaderError::TrailingBytes);
        let bytes = [number(version, 0), number(version, 0)].concat();
        assert_eq!(soft_error(version, &bytes), HeaderError::TrailingBytes);
    }
}

#[test]
fn c141_a_length_past_the_end_is_refused() {
    for version in Version::ALL {
        for length in [2, 0xffff, 0xffff_ffff] {
            let start = [number(version, 1), number(version, length)].concat();
            let bytes = [&start, &b"abcdefgh"[..1]].concat();
            assert_eq!(soft_error(version, &bytes), HeaderError::UnexpectedEnd);
            let middle = [number(version, 1), number(version, 1), b"n".to_vec()].concat();
            let bytes = [middle, number(version, length), b"v".to_vec()].concat();
            assert_eq!(soft_error(version, &bytes), HeaderError::UnexpectedEnd);
        }
    }
}

#[test]
fn c146_a_good_block_is_read_after_any_number_of_bad_ones() {
    for version in Version::ALL {
        let bad = [
            &[("", "x")][..],
            &[("a", "1"), ("a", "2")],
            &[("A", "1")],
            &[("a", "1\0")],
            &[("a", "\r\n")],
        ];
        let mut zlib = Zlib::new();
        let mut decoder = decoder(version);
        for _ in 0..20 {
            for bad in bad {
                let bytes = serialized(version, &text_pairs(bad));
                let error = decode_block(&mut decoder, &zlib.block(&bytes)).unwrap_err();
                assert!(!error.is_context_lost());
                let short = &bytes[..bytes.len() - 1];
                assert!(decode_block(&mut decoder, &zlib.block(short)).is_err());
            }
            let good = text_pairs(&[("a", "1"), ("x", "y")]);
            let bytes = zlib.block(&serialized(version, &good));
            assert_eq!(pairs(&decode_block(&mut decoder, &bytes).unwrap()), good);
        }
    }
}

/// Implements the rules of protocol.md §7.2 a second time, as plainly as possible.
fn judge(version: Version, bytes: &[u8]) -> Option<Vec<Pair>> {
    let width = number(version, 0).len();
    let mut rest = bytes;
    let mut take = |length: usize| {
        let (taken, later) = rest.split_at_checked(length)?;
        rest = later;
        Some(taken)
    };
    let read = |bytes: &[u8]| {
        let fold = |number, byte: &u8| number << 8 | usize::from(*byte);
        bytes.iter().fold(0, fold)
    };
    let mut pairs: Vec<Pair> = Vec::new();
    for _ in 0..read(take(width)?) {
        let length = read(take(width)?);
        let name = take(length)?.to_vec();
        let length = read(take(width)?);
        let value = take(length)?.to_vec();
        let text = [&name[..], &value].concat();
        let values: Vec<&[u8]> = value.split(|byte| *byte == 0).collect();
        let sound = !name.is_empty()
            && !name.contains(&0)
            && !name.iter().any(u8::is_ascii_uppercase)
            && !text.iter().any(|byte| b"\r\n".contains(byte))
            && (values.len() == 1 || !values.contains(&&b""[..]))
            && !pairs.iter().any(|(other, _)| *other == name);
        sound.then(|| pairs.push((name, value)))?;
    }
    rest.is_empty().then_some(pairs)
}

#[test]
fn damaged_blocks_are_judged_by_the_rules() {
    let mut random = Random::new(3);
    let mut sound = 0;
    for round in 0..30_000 {
        let version = Version::ALL[round % 3];
        let fields: Vec<Pair> = (0..random.below(5))
            .map(|index| {
                let name = vec![b'a' + index as u8; 1 + random.below(12)];
                (name, vec![b'v'; random.below(20)])
            })
            .collect();
        let mut bytes = serialized(version, &fields);
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] = b"\0\r\nAz\x01\x02\xff"[random.below(8)],
                1 => bytes[at] ^= 1 << random.below(8),
                2 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, 0),
            }
        }
        let expected = judge(version, &bytes);
        let result = decode_block(&mut started(version), &stored(&bytes));
        sound += usize::from(expected.is_some());
        assert_eq!(result.ok().as_ref().map(pairs), expected, "{bytes:x?}");
    }
    assert!(
        (5000..25_000).contains(&sound),
        "{sound} of the blocks are sound"
    );
}
