//! The test vectors of protocol.md §22 as frames: decoded, shown, and encoded to the same bytes.

use spdy_frame::{Version, bytes::BytesMut, parse};

mod support;

use support::{decode_at_once, encode, hex};

use Version::{V2, V3, V3_1};

/// The version, the bytes, and the frame as a log shows it.
const VECTORS: &[(Version, &str, &str)] = &[
    (
        V3,
        "80030001 0100007d 00000001 00000000 0000783f e3c6a7c2 0063009c ff000000
         05000000 073a6d65 74686f64 00000003 47455400 0000053a 70617468 00000001
         2f000000 083a7665 7273696f 6e000000 08485454 502f312e 31000000 053a686f
         73740000 0006612e 74657374 00000007 3a736368 656d6500 00000568 74747073
         000000ff ff",
        "SYN_STREAM stream=1 associated=0 priority=0 flags=FIN block=115",
    ),
    (
        V3_1,
        "80030001 01000077 00000003 00000000 60000063 009cff00 00000500 0000073a
         6d657468 6f640000 00034745 54000000 053a7061 74680000 00012f00 0000083a
         76657273 696f6e00 00000848 5454502f 312e3100 0000053a 686f7374 00000006
         612e7465 73740000 00073a73 6368656d 65000000 05687474 70730000 00ffff",
        "SYN_STREAM stream=3 associated=0 priority=3 flags=FIN block=109",
    ),
    (
        V3,
        "80030002 0000005e 00000001 783fe3c6 a7c2004a 00b5ff00 00000300 0000073a
         73746174 75730000 00063230 30204f4b 00000008 3a766572 73696f6e 00000008
         48545450 2f312e31 0000000a 7365742d 636f6f6b 69650000 0007613d 3100623d
         32000000 ffff",
        "SYN_REPLY stream=1 flags=0 block=90",
    ),
    (
        V3_1,
        "80030008 0100001e 00000001 001000ef ff000000 01000000 03782d74 00000001 31000000 ffff",
        "HEADERS stream=1 flags=FIN block=26",
    ),
    (
        V3,
        "80030001 0100004b 00000001 00000000 000038ea e3c6a7c2 02652550 7ab442a4
         5a77d710 90a85541 22b86c62 d4072552 2bec0996 d50a5a90 b025ea95 a48259ec
         56c5c042 33175cb2 66949414 14030000 00ffff",
        "SYN_STREAM stream=1 associated=0 priority=0 flags=FIN block=65",
    ),
    (
        V3,
        "80030001 01000013 00000003 00000000 6000a283 15000000 00ffff",
        "SYN_STREAM stream=3 associated=0 priority=3 flags=FIN block=9",
    ),
    (
        V3_1,
        "80030002 00000028 00000001 38eae3c6 a7c20225 3a507ab4 c2924839 acb0a752
         d444c99e 686bc890 646b0400 0000ffff",
        "SYN_REPLY stream=1 flags=0 block=36",
    ),
    (
        V3_1,
        "80030008 01000015 00000001 02321941 a655e882 123da321 000000ff ff",
        "HEADERS stream=1 flags=FIN block=17",
    ),
    (
        V2,
        "80020001 01000061 00000001 00000000 0000783f dfa251b2 004700b8 ff000500
         066d6574 686f6400 03474554 00037572 6c00012f 00077665 7273696f 6e000848
         5454502f 312e3100 04686f73 74000661 2e746573 74000673 6368656d 65000568
         74747073 000000ff ff",
        "SYN_STREAM stream=1 associated=0 priority=0 flags=FIN block=87",
    ),
    (
        V2,
        "80020001 0100005b 00000003 00000000 80000047 00b8ff00 0500066d 6574686f
         64000347 45540003 75726c00 012f0007 76657273 696f6e00 08485454 502f312e
         31000468 6f737400 06612e74 65737400 06736368 656d6500 05687474 70730000
         00ffff",
        "SYN_STREAM stream=3 associated=0 priority=2 flags=FIN block=81",
    ),
    (
        V2,
        "80020002 00000050 00000001 0000783f dfa251b2 003a00c5 ff000300 06737461
         74757300 06323030 204f4b00 07766572 73696f6e 00084854 54502f31 2e31000a
         7365742d 636f6f6b 69650007 613d3100 623d3200 0000ffff",
        "SYN_REPLY stream=1 flags=0 block=74",
    ),
    (
        V2,
        "80020001 01000013 00000003 00000000 8000a292 31000000 00ffff",
        "SYN_STREAM stream=3 associated=0 priority=2 flags=FIN block=9",
    ),
    (
        V2,
        "80020002 00000035 00000001 000038ea dfa251b2 62606560 830832b0 0113ab82
         bf37033b 549a8103 a68b810b 11460cec 89b6860c 49b64600 000000ff ff",
        "SYN_REPLY stream=1 flags=0 block=47",
    ),
    (
        V3,
        "80030004 00000014 00000002 01000004 00000064 00000007 00010000",
        "SETTINGS flags=0 MAX_CONCURRENT_STREAMS=100 INITIAL_WINDOW_SIZE=65536",
    ),
    (
        V2,
        "80020004 0000000c 00000001 04000001 00000064",
        "SETTINGS flags=0 MAX_CONCURRENT_STREAMS=100",
    ),
    (V3_1, "80030004 01000004 00000000", "SETTINGS flags=CLEAR"),
    (V2, "80020005 00000000", "NOOP"),
    (V2, "80020006 00000004 00000001", "PING id=1"),
    (V2, "80020006 00000004 00000002", "PING id=2"),
    (
        V2,
        "80020003 00000008 00000001 00000003",
        "RST_STREAM stream=1 status=REFUSED_STREAM",
    ),
    (V3, "80030006 00000004 00000001", "PING id=1"),
    (V3_1, "80030006 00000004 00000002", "PING id=2"),
    (
        V3,
        "80030003 00000008 00000001 00000003",
        "RST_STREAM stream=1 status=REFUSED_STREAM",
    ),
    (
        V2,
        "80020007 00000004 00000005",
        "GOAWAY last_good=5 status=OK",
    ),
    (
        V3,
        "80030007 00000008 00000005 00000001",
        "GOAWAY last_good=5 status=PROTOCOL_ERROR",
    ),
    (
        V3,
        "80030009 00000008 00000001 00008000",
        "WINDOW_UPDATE stream=1 increment=32768",
    ),
    (
        V3_1,
        "80030009 00000008 00000000 00010000",
        "WINDOW_UPDATE stream=0 increment=65536",
    ),
    (
        V2,
        "00000001 01000005 68656c6c 6f",
        "DATA stream=1 flags=FIN length=5",
    ),
    (
        V3,
        "00000001 01000005 68656c6c 6f",
        "DATA stream=1 flags=FIN length=5",
    ),
    (
        V3_1,
        "00000001 01000000",
        "DATA stream=1 flags=FIN length=0",
    ),
    (
        V3,
        "80030001 02000051 00000002 00000001 000038ea e3c6a7c2 02652550 7ab42a06
         9674b9e0 e230a3a4 a400945a 59ada085 045ba25e 492a98c5 6a559008 2eb0d8f4
         8bf5928b 8b213a61 c99b1998 bc4109da 0a4be206 000000ff ff",
        "SYN_STREAM stream=2 associated=1 priority=0 flags=UNIDIRECTIONAL block=71",
    ),
];

/// HEADERS with FIN in SPDY/2, which is read but not written (protocol.md §5.8).
const V2_TRAILERS: &[&str] = &[
    "80020008 0100001a 00000001 0000000a 00f5ff00 01000378 2d740001 31000000 ffff",
    "80020008 01000016 00000001 00006260 6460aed0 2d616034 04000000 ffff",
];

#[test]
fn c126_vectors_decode_to_the_listed_frames() {
    for (version, digits, line) in VECTORS {
        let decoded = decode_at_once(*version, &hex(digits));
        let lines: Vec<String> = decoded.frames.iter().map(ToString::to_string).collect();
        assert_eq!(lines, [*line], "{version} {digits}");
        assert!(decoded.fatal.is_none() && !decoded.mid_frame);
    }
}

#[test]
fn vectors_are_encoded_to_the_listed_bytes() {
    for (version, digits, _) in VECTORS {
        let bytes = hex(digits);
        assert_eq!(
            encode(*version, &decode_at_once(*version, &bytes).frames),
            bytes,
            "{digits}"
        );
    }
}

#[test]
fn vectors_are_the_same_frames_when_borrowed() {
    for (version, digits, line) in VECTORS {
        let mut bytes = hex(digits);
        let length = bytes.len();
        bytes.extend(b"what follows");
        let (frame, end) = parse(*version, &bytes).unwrap().unwrap();
        assert_eq!((frame.to_string().as_str(), end), (*line, length));
        for cut in 0..length {
            assert_eq!(
                parse(*version, &bytes[..cut]),
                Ok(None),
                "{line} cut at {cut}"
            );
        }
    }
}

#[test]
fn fin_on_headers_is_read_in_v2_and_not_written() {
    for digits in V2_TRAILERS {
        let mut bytes = hex(digits);
        let decoded = decode_at_once(V2, &bytes);
        let line = decoded.frames[0].to_string();
        assert!(
            line.starts_with("HEADERS stream=1 flags=FIN block="),
            "{line}"
        );
        let mut written = BytesMut::new();
        decoded.frames[0].encode(V2, &mut written).unwrap();
        bytes[4] = 0;
        assert_eq!(written[..], bytes);
    }
}
