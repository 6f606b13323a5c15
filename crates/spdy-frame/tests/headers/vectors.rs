//! The vectors of protocol.md §22, with blocks of no bytes between them.

use spdy_frame::{
    Decoder, Frame, HeaderBlock, HeaderCompression, HeaderDecoder, HeaderEncoder, Version,
    bytes::BytesMut,
};

use super::{
    Fields, REQUEST_V3, TRAILERS, decoder,
    support::{decode_block, encode_block, hex, pairs, text_pairs},
};

use Version::{V2, V3};

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
fn c109_a_block_of_no_bytes_has_no_fields_and_does_not_touch_the_context() {
    let mut headers = decoder(V3);
    assert!(decode_block(&mut headers, b"").unwrap().is_empty());
    for digits in [STORED_V3, STORED_V3_AGAIN] {
        let block = decode_frame(V3, digits, &mut headers);
        assert_eq!(pairs(&block), text_pairs(REQUEST_V3));
        assert!(decode_block(&mut headers, b"").unwrap().is_empty());
    }
}

/// Decodes a frame and its header block.
fn decode_frame(version: Version, digits: &str, headers: &mut HeaderDecoder) -> HeaderBlock {
    let mut bytes = BytesMut::from(&hex(digits)[..]);
    let frame = Decoder::new(version, Default::default()).decode(&mut bytes);
    let block = match frame.unwrap().unwrap() {
        Frame::SynStream(frame) => frame.block,
        Frame::SynReply(frame) => frame.block,
        Frame::Headers(frame) => frame.block,
        other => panic!("{other} has no header block"),
    };
    headers.decode(block).unwrap()
}

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
