//! The rules for senders, which hold for every byte that a machine sends.

use spdy_frame::Version;

/// Holds the frames in `bytes` against the rules for senders: the session's version in every
/// control frame, no unknown type, no reserved bit or unused byte set, statuses and increments that
/// exist.
pub(super) fn assert_canonical(version: Version, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at(8);
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        let (payload, rest) = rest.split_at(length);
        bytes = rest;
        if head[0] & 0x80 == 0 {
            assert_ne!(head[..4], [0; 4], "DATA has a stream");
            assert!(head[4] <= 1, "DATA has no flag but FIN");
            continue;
        }
        assert_eq!(
            u16::from_be_bytes([head[0] & 0x7f, head[1]]),
            version.wire_version(),
            "row 25"
        );
        assert_eq!(head[2], 0);
        assert_canonical_control(version, head[3], head[4], payload);
    }
}

fn assert_canonical_control(version: Version, kind: u8, flags: u8, payload: &[u8]) {
    let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four bytes"));
    let is_v2 = version == Version::V2;
    let highest_flags = match (kind, version) {
        (1, _) => 3,
        (2, _) | (8, Version::V3 | Version::V3_1) => 1,
        _ => 0,
    };
    assert!(flags <= highest_flags, "row 31: flags of type {kind}");
    if [1, 2, 3, 7, 8, 9].contains(&kind) {
        assert_eq!(word(0) >> 31, 0, "row 31: the top bit of the stream id");
    }
    match kind {
        1 => {
            let unused = if is_v2 { 0x3f } else { 0x1f };
            assert_eq!((payload[8] & unused, payload[9]), (0, 0), "row 31");
        }
        2 | 8 if is_v2 => assert_eq!(payload[4..6], [0; 2], "row 55"),
        2 | 8 => {}
        3 => {
            let highest = if is_v2 { 7 } else { 11 };
            assert!(
                (1..=highest).contains(&word(4)),
                "row 68: status {}",
                word(4)
            );
            assert!(version != Version::V3_1 || word(4) != 10, "row 68");
            assert_eq!(payload.len(), 8);
        }
        4 => assert!(payload.len() > 4, "peers fail at an empty SETTINGS"),
        6 => assert_eq!(payload.len(), 4),
        7 => assert_eq!(payload.len(), if is_v2 { 4 } else { 8 }, "rows 94 and 95"),
        9 => {
            assert!(!is_v2, "SPDY/2 has no WINDOW_UPDATE");
            assert!(word(0) != 0 || version == Version::V3_1);
            assert!((1..1 << 31).contains(&word(4)), "row 201");
        }
        _ => panic!("frames of type {kind} are never sent"),
    }
}
