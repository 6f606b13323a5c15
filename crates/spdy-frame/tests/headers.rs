//! Which header blocks are decoded, which are refused, and what that costs.

use flate2::{Compress, Compression, FlushCompress};
use spdy_frame::{
    Decoder, Frame, HeaderBlock, HeaderCompression, HeaderDecoder, HeaderEncoder, HeaderError,
    HeaderLimits, Version, bytes::BytesMut,
};

mod support;

use support::{
    Pair, Random, decode_block, encode_block, hex, number, pairs, serialized, stored, text_pairs,
    zlib_header,
};

use Version::{V2, V3};

fn decoder(version: Version) -> HeaderDecoder {
    HeaderDecoder::new(version, HeaderLimits::default())
}

/// A decoder behind its zlib header, which takes stored blocks at once.
fn started(version: Version) -> HeaderDecoder {
    started_with(version, HeaderLimits::default())
}

fn started_with(version: Version, limits: HeaderLimits) -> HeaderDecoder {
    let mut decoder = HeaderDecoder::new(version, limits);
    let first = [zlib_header(version), &stored(&number(version, 0))].concat();
    assert!(decode_block(&mut decoder, &first).unwrap().is_empty());
    decoder
}

/// The error of a block, after which the next block has to decode.
fn soft_error(version: Version, octets: &[u8]) -> HeaderError {
    let mut decoder = started(version);
    let error = decode_block(&mut decoder, &stored(octets)).unwrap_err();
    assert!(!error.context_lost());
    let good = text_pairs(&[("x", "y")]);
    let block = decode_block(&mut decoder, &stored(&serialized(version, &good))).unwrap();
    assert_eq!(pairs(&block), good, "a good block follows");
    error
}

fn soft_error_of_pairs(version: Version, bad: &[(&str, &str)]) -> HeaderError {
    soft_error(version, &serialized(version, &text_pairs(bad)))
}

// --- compressed octets --------------------------------------------------------------------------------------

type Fields = &'static [(&'static str, &'static str)];

const REQUEST_V3: Fields = &[
    (":method", "GET"),
    (":path", "/"),
    (":version", "HTTP/1.1"),
    (":host", "a.test"),
    (":scheme", "https"),
];

const REQUEST_V2: Fields = &[
    ("method", "GET"),
    ("url", "/"),
    ("version", "HTTP/1.1"),
    ("host", "a.test"),
    ("scheme", "https"),
];

const REPLY_V3: Fields = &[
    (":status", "200 OK"),
    (":version", "HTTP/1.1"),
    ("set-cookie", "a=1\0b=2"),
];

const REPLY_V2: Fields = &[
    ("status", "200 OK"),
    ("version", "HTTP/1.1"),
    ("set-cookie", "a=1\0b=2"),
];

const TRAILERS: Fields = &[("x-t", "1")];

/// The compression streams of protocol.md §22: frames, and the fields of each.
const VECTORS: &[(Version, &[(&str, Fields)])] = &[
    (
        V3,
        &[(STORED_V3, REQUEST_V3), (STORED_V3_AGAIN, REQUEST_V3)],
    ),
    (
        V3,
        &[
            (
                "80030002 0000005e 00000001 783fe3c6 a7c2004a 00b5ff00 00000300 0000073a
                 73746174 75730000 00063230 30204f4b 00000008 3a766572 73696f6e 00000008
                 48545450 2f312e31 0000000a 7365742d 636f6f6b 69650000 0007613d 3100623d
                 32000000 ffff",
                REPLY_V3,
            ),
            (
                "80030008 0100001e 00000001 001000ef ff000000 01000000 03782d74 00000001
                 31000000 ffff",
                TRAILERS,
            ),
        ],
    ),
    (
        V3,
        &[
            (
                "80030001 0100004b 00000001 00000000 000038ea e3c6a7c2 02652550 7ab442a4
                 5a77d710 90a85541 22b86c62 d4072552 2bec0996 d50a5a90 b025ea95 a48259ec
                 56c5c042 33175cb2 66949414 14030000 00ffff",
                REQUEST_V3,
            ),
            (
                "80030001 01000013 00000003 00000000 6000a283 15000000 00ffff",
                REQUEST_V3,
            ),
        ],
    ),
    (
        V3,
        &[
            (
                "80030002 00000028 00000001 38eae3c6 a7c20225 3a507ab4 c2924839 acb0a752
                 d444c99e 686bc890 646b0400 0000ffff",
                REPLY_V3,
            ),
            (
                "80030008 01000015 00000001 02321941 a655e882 123da321 000000ff ff",
                TRAILERS,
            ),
        ],
    ),
    (
        V2,
        &[(STORED_V2, REQUEST_V2), (STORED_V2_AGAIN, REQUEST_V2)],
    ),
    (
        V2,
        &[
            (
                "80020002 00000050 00000001 0000783f dfa251b2 003a00c5 ff000300 06737461
                 74757300 06323030 204f4b00 07766572 73696f6e 00084854 54502f31 2e31000a
                 7365742d 636f6f6b 69650007 613d3100 623d3200 0000ffff",
                REPLY_V2,
            ),
            (
                "80020008 0100001a 00000001 0000000a 00f5ff00 01000378 2d740001 31000000
                 ffff",
                TRAILERS,
            ),
        ],
    ),
    (
        V2,
        &[
            (
                "80020001 0100004b 00000001 00000000 000038ea dfa251b2 62606560 cb05e6c3
                 fc140666 77d71006 669020a3 3e033b54 0d03074c 2b030b28 3731b025 ea95a482
                 e862601c e7a632b0 66949414 14030000 00ffff",
                REQUEST_V2,
            ),
            (
                "80020001 01000013 00000003 00000000 8000a292 31000000 00ffff",
                REQUEST_V2,
            ),
        ],
    ),
    (
        V2,
        &[
            (
                "80020002 00000035 00000001 000038ea dfa251b2 62606660 830832b0 0113ab82
                 bf37033b 549a8103 a68b810b 11460cec 89b6860c 49b64600 000000ff ff",
                REPLY_V2,
            ),
            (
                "80020008 01000016 00000001 00006260 6460aed0 2d616034 04000000 ffff",
                TRAILERS,
            ),
        ],
    ),
    (
        V3,
        &[(
            "80030001 02000051 00000002 00000001 000038ea e3c6a7c2 02652550 7ab42a06
             9674b9e0 e230a3a4 a400945a 59ada085 045ba25e 492a98c5 6a559008 2eb0d8f4
             8bf5928b 8b213a61 c99b1998 bc4109da 0a4be206 000000ff ff",
            &[
                (":scheme", "https"),
                (":host", "a.test"),
                (":path", "/s.css"),
                (":status", "200"),
                (":version", "HTTP/1.1"),
            ],
        )],
    ),
];

const STORED_V3: &str = "
    80030001 0100007d 00000001 00000000 0000783f e3c6a7c2 0063009c ff000000
    05000000 073a6d65 74686f64 00000003 47455400 0000053a 70617468 00000001
    2f000000 083a7665 7273696f 6e000000 08485454 502f312e 31000000 053a686f
    73740000 0006612e 74657374 00000007 3a736368 656d6500 00000568 74747073
    000000ff ff";

const STORED_V3_AGAIN: &str = "
    80030001 01000077 00000003 00000000 60000063 009cff00 00000500 0000073a
    6d657468 6f640000 00034745 54000000 053a7061 74680000 00012f00 0000083a
    76657273 696f6e00 00000848 5454502f 312e3100 0000053a 686f7374 00000006
    612e7465 73740000 00073a73 6368656d 65000000 05687474 70730000 00ffff";

const STORED_V2: &str = "
    80020001 01000061 00000001 00000000 0000783f dfa251b2 004700b8 ff000500
    066d6574 686f6400 03474554 00037572 6c00012f 00077665 7273696f 6e000848
    5454502f 312e3100 04686f73 74000661 2e746573 74000673 6368656d 65000568
    74747073 000000ff ff";

const STORED_V2_AGAIN: &str = "
    80020001 0100005b 00000003 00000000 80000047 00b8ff00 0500066d 6574686f
    64000347 45540003 75726c00 012f0007 76657273 696f6e00 08485454 502f312e
    31000468 6f737400 06612e74 65737400 06736368 656d6500 05687474 70730000
    00ffff";

const WITHOUT_DICTIONARY: &str = "
    80030001 01000079 00000001 00000000 00007801 0063009c ff000000 05000000
    073a6d65 74686f64 00000003 47455400 0000053a 70617468 00000001 2f000000
    083a7665 7273696f 6e000000 08485454 502f312e 31000000 053a686f 73740000
    0006612e 74657374 00000007 3a736368 656d6500 00000568 74747073 000000ff
    ff";

/// Decodes a frame and its header block.
fn decode_frame(version: Version, digits: &str, headers: &mut HeaderDecoder) -> HeaderBlock {
    let mut octets = BytesMut::from(&hex(digits)[..]);
    let frame = Decoder::new(version, Default::default()).decode(&mut octets);
    let block = match frame.unwrap().unwrap() {
        Frame::SynStream(frame) => frame.block,
        Frame::SynReply(frame) => frame.block,
        Frame::Headers(frame) => frame.block,
        other => panic!("{other} has no header block"),
    };
    headers.decode(block).unwrap()
}

#[test]
fn c126_vectors_decode_to_the_listed_pairs() {
    for (version, frames) in VECTORS {
        let mut headers = decoder(*version);
        for (digits, expected) in *frames {
            let block = decode_frame(*version, digits, &mut headers);
            assert_eq!(pairs(&block), text_pairs(expected), "{digits}");
            assert!(!block.is_truncated());
        }
    }
}

#[test]
fn stored_mode_writes_the_stored_vectors() {
    for (version, frames) in VECTORS {
        let (first, _) = frames[0];
        if ![STORED_V3, STORED_V2].contains(&first) {
            continue;
        }
        let mut encoder = HeaderEncoder::new(*version, HeaderCompression::Stored);
        for (digits, fields) in *frames {
            let block = HeaderBlock::from_pairs(fields.iter().copied()).unwrap();
            let written = encode_block(&mut encoder, *version, &block);
            assert_eq!(written, hex(digits)[18..]);
        }
    }
}

#[test]
fn c129_a_stream_without_a_dictionary_is_decoded() {
    let mut headers = decoder(V3);
    let block = decode_frame(V3, WITHOUT_DICTIONARY, &mut headers);
    assert_eq!(pairs(&block), text_pairs(REQUEST_V3));
}

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

/// Checks that a block loses the context, and that this is the answer from then on.
fn lost(mut decoder: HeaderDecoder, octets: &[u8]) -> HeaderError {
    let error = decode_block(&mut decoder, octets).unwrap_err();
    assert!(error.context_lost());
    for next in [&b""[..], &stored(&number(V3, 0)), octets] {
        assert_eq!(decode_block(&mut decoder, next), Err(error.clone()));
    }
    error
}

#[test]
fn c130_the_dictionary_of_another_version_loses_the_context() {
    for (version, other, found) in [(V2, V3, 0xe3c6_a7c2), (V3, V2, 0xdfa2_51b2)] {
        let octets = [zlib_header(other), &stored(&number(version, 0))].concat();
        let error = lost(decoder(version), &octets);
        assert_eq!(error, HeaderError::WrongDictionary { found });
    }
}

#[test]
fn c131_corrupt_octets_lose_the_context() {
    for version in Version::ALL {
        for octets in [
            &b"\x00\x01\x02"[..],
            b"\x79\x01",                     // Window and check do not fit.
            b"\x88\x1c",                     // A window of 64 KiB.
            b"\x78\x01\x00\x01\x00\x01\x00", // Lengths of a stored block that contradict each other.
            b"\x78\x01\x07",                 // A reserved type of block.
            b"\x78\x01\x02\x02\x00",         // A match before the start.
        ] {
            assert_eq!(
                lost(decoder(version), octets),
                HeaderError::Corrupt,
                "{octets:x?}"
            );
        }
        // A second zlib header, or octets behind a sound block.
        let again = [zlib_header(version), &stored(b"")].concat();
        assert_eq!(lost(started(version), &again), HeaderError::Corrupt);
    }
}

#[test]
fn c132_the_end_of_the_stream_loses_the_context() {
    for version in Version::ALL {
        let mut octets = stored(&number(version, 0));
        octets[0] = 1;
        octets.truncate(octets.len() - 5);
        assert_eq!(lost(started(version), &octets), HeaderError::EndOfStream);
        assert_eq!(
            lost(started(version), b"\x03\x00"),
            HeaderError::EndOfStream
        );
    }
}

#[test]
fn the_form_of_the_deflate_stream_does_not_matter() {
    let request = text_pairs(REQUEST_V3);
    let octets = serialized(V3, &request);
    for level in 0..=9 {
        let mut compress = Compress::new(Compression::new(level), true);
        let mut decoder = decoder(V3);
        for round in 0..20 {
            let mut block = Vec::with_capacity(1000);
            // Several flushes inside of a block, as Chromium has them.
            for part in octets.chunks(5 + round) {
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
            // A marker that is missing comes with the next block or not at all.
            let fields = pairs(&decode_block(&mut decoder, &block).unwrap());
            assert_eq!(fields, request, "level {level}, round {round}");
        }
    }
}

#[test]
fn a_block_without_a_sync_marker_is_judged_by_what_is_there() {
    for version in Version::ALL {
        let mut decoder = started(version);
        let octets = stored(&serialized(version, &text_pairs(TRAILERS)));
        let without_marker = &octets[..octets.len() - 5];
        for _ in 0..3 {
            let block = decode_block(&mut decoder, without_marker).unwrap();
            assert_eq!(pairs(&block), text_pairs(TRAILERS));
        }
    }
}

/// What was learned of a block is used for the next one if that has the same octets. It has to be true of it.
#[test]
fn a_block_that_comes_again_is_judged_alike() {
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

        // Each pair of blocks, and each of them twice; the window wraps within a block again and again.
        let mut decoder = started_with(version, limits.clone());
        for round in 0..100 {
            for (first, second) in all.iter().flat_map(|one| all.map(|other| (one, other))) {
                for octets in [first, second, second] {
                    let mut fresh = started_with(version, limits.clone());
                    let expected = decode_block(&mut fresh, &stored(octets));
                    let result = decode_block(&mut decoder, &stored(octets));
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

#[test]
fn c109_a_block_of_no_octets_has_no_fields_and_does_not_touch_the_context() {
    let mut headers = decoder(V3);
    assert!(decode_block(&mut headers, b"").unwrap().is_empty());
    for digits in [STORED_V3, STORED_V3_AGAIN] {
        let block = decode_frame(V3, digits, &mut headers);
        assert_eq!(pairs(&block), text_pairs(REQUEST_V3));
        assert!(decode_block(&mut headers, b"").unwrap().is_empty());
    }
}

#[test]
fn a_zlib_header_may_come_in_pieces() {
    let whole = [zlib_header(V3), &stored(&number(V3, 0))].concat();
    for cut in 1..whole.len() - 5 {
        let mut decoder = decoder(V3);
        let error = decode_block(&mut decoder, &whole[..cut]);
        assert!(cut >= 15 || error == Err(HeaderError::Truncated), "{cut}");
        let error = decode_block(&mut decoder, &whole[cut..]);
        assert!(
            error.is_ok() || error == Err(HeaderError::Truncated),
            "{cut}"
        );
        let good = stored(&serialized(V3, &text_pairs(TRAILERS)));
        assert_eq!(decode_block(&mut decoder, &good).unwrap().len(), 1);
    }
}

// --- pairs --------------------------------------------------------------------------------------------------

#[test]
fn c133_a_name_of_no_octets_is_refused() {
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
fn separators_of_lines_never_get_through() {
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
fn c137_c138_an_empty_value_is_accepted_and_other_octets_are_opaque() {
    let good = text_pairs(&[
        ("a", ""),
        ("b", "\t\u{1}\u{7f}\u{fc}"),
        ("!\u{e4}:", ""),
        ("c", "1\x002"),
    ]);
    for version in Version::ALL {
        let octets = stored(&serialized(version, &good));
        let block = decode_block(&mut started(version), &octets).unwrap();
        assert_eq!(pairs(&block), good);
    }
}

#[test]
fn c139_a_count_above_the_pairs_is_refused() {
    for version in Version::ALL {
        for count in [2, 3, 0xffff] {
            let mut octets = serialized(version, &text_pairs(&[("a", "b")]));
            let field = number(version, count);
            octets[..field.len()].copy_from_slice(&field);
            assert_eq!(soft_error(version, &octets), HeaderError::Truncated);
        }
    }
    assert_eq!(soft_error(V3, b"\xff\xff\xff\xff"), HeaderError::Truncated);
    assert_eq!(soft_error(V3, b"\0\0\0"), HeaderError::Truncated);
    assert_eq!(soft_error(V3, b""), HeaderError::Truncated);
}

#[test]
fn c140_octets_after_the_last_pair_are_refused() {
    for version in Version::ALL {
        let mut octets = serialized(version, &text_pairs(&[("a", "b")]));
        octets.push(0);
        assert_eq!(soft_error(version, &octets), HeaderError::TrailingOctets);
        let octets = [number(version, 0), number(version, 0)].concat();
        assert_eq!(soft_error(version, &octets), HeaderError::TrailingOctets);
    }
}

#[test]
fn c141_a_length_past_the_end_is_refused() {
    for version in Version::ALL {
        for length in [2, 0xffff, 0xffff_ffff] {
            let start = [number(version, 1), number(version, length)].concat();
            let octets = [&start, &b"abcdefgh"[..1]].concat();
            assert_eq!(soft_error(version, &octets), HeaderError::Truncated);
            let middle = [number(version, 1), number(version, 1), b"n".to_vec()].concat();
            let octets = [middle, number(version, length), b"v".to_vec()].concat();
            assert_eq!(soft_error(version, &octets), HeaderError::Truncated);
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
                let octets = serialized(version, &text_pairs(bad));
                let error = decode_block(&mut decoder, &zlib.block(&octets)).unwrap_err();
                assert!(!error.context_lost());
                let short = &octets[..octets.len() - 1];
                assert!(decode_block(&mut decoder, &zlib.block(short)).is_err());
            }
            let good = text_pairs(&[("a", "1"), ("x", "y")]);
            let octets = zlib.block(&serialized(version, &good));
            assert_eq!(pairs(&decode_block(&mut decoder, &octets).unwrap()), good);
        }
    }
}

/// The rules of protocol.md §7.2 once more, as plainly as they can be written.
fn judge(version: Version, octets: &[u8]) -> Option<Vec<Pair>> {
    let width = number(version, 0).len();
    let mut rest = octets;
    let mut take = |length: usize| {
        let (taken, later) = rest.split_at_checked(length)?;
        rest = later;
        Some(taken)
    };
    let read = |octets: &[u8]| {
        let fold = |number, octet: &u8| number << 8 | usize::from(*octet);
        octets.iter().fold(0, fold)
    };
    let mut pairs: Vec<Pair> = Vec::new();
    for _ in 0..read(take(width)?) {
        let length = read(take(width)?);
        let name = take(length)?.to_vec();
        let length = read(take(width)?);
        let value = take(length)?.to_vec();
        let text = [&name[..], &value].concat();
        let values: Vec<&[u8]> = value.split(|octet| *octet == 0).collect();
        let sound = !name.is_empty()
            && !name.contains(&0)
            && !name.iter().any(u8::is_ascii_uppercase)
            && !text.iter().any(|octet| b"\r\n".contains(octet))
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
        let mut octets = serialized(version, &fields);
        for _ in 0..random.below(4) {
            let at = random.below(octets.len());
            match random.below(4) {
                0 => octets[at] = b"\0\r\nAz\x01\x02\xff"[random.below(8)],
                1 => octets[at] ^= 1 << random.below(8),
                2 => octets.truncate(at.max(1)),
                _ => octets.insert(at, 0),
            }
        }
        let expected = judge(version, &octets);
        let result = decode_block(&mut started(version), &stored(&octets));
        sound += usize::from(expected.is_some());
        assert_eq!(result.ok().as_ref().map(pairs), expected, "{octets:x?}");
    }
    assert!(
        (5000..25_000).contains(&sound),
        "{sound} of the blocks are sound"
    );
}

// --- limits -------------------------------------------------------------------------------------------------

/// Blocks compressed as zlib does, without the dictionary.
struct Zlib(Compress);

impl Zlib {
    fn new() -> Self {
        Self(Compress::new(Compression::best(), true))
    }

    fn block(&mut self, octets: &[u8]) -> Vec<u8> {
        let mut block = Vec::with_capacity(octets.len() / 2 + 1000);
        let status = self.0.compress_vec(octets, &mut block, FlushCompress::Sync);
        assert!(status.is_ok() && block.len() < block.capacity());
        block
    }
}

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
