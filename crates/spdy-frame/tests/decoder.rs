//! The frames that the decoder accepts, skips and rejects, and when it returns errors.

use spdy_frame::{
    DecodeLimits, Decoder, Frame, FrameError, FrameKind, GoAwayStatus, RstStatus, Version,
    WindowTarget,
    bytes::{Buf, BytesMut},
    parse,
};

mod support;

use support::{decode_at_once, decode_in_pieces, hex, stream, strict};

use Version::{V2, V3, V3_1};

fn lines(version: Version, digits: &str) -> Vec<String> {
    let decoded = decode_at_once(version, &hex(digits));
    assert_eq!(decoded.fatal, None);
    assert!(!decoded.mid_frame);
    decoded.frames.iter().map(ToString::to_string).collect()
}

fn error_with(version: Version, limits: DecodeLimits, digits: &str) -> FrameError {
    let decoded = decode_in_pieces(version, limits, &hex(digits), |rest| rest);
    decoded
        .fatal
        .unwrap_or_else(|| panic!("{version} accepts {digits}: {:?}", decoded.frames))
}

fn error(version: Version, digits: &str) -> FrameError {
    error_with(version, DecodeLimits::default(), digits)
}

fn length_error(kind: FrameKind, length: u32, min: u32, max: u32) -> FrameError {
    FrameError::Length {
        kind,
        length,
        min,
        max,
    }
}

/// Appends a PING, which shows that decoding continues at the right place.
fn then_ping(version: Version, digits: &str) -> String {
    format!(
        "{digits} 80 {:02x} 0006 00000004 00000007",
        version.wire_version()
    )
}

// --- types and versions --------

#[test]
fn c018_unknown_types_are_skipped_by_their_length() {
    for version in Version::ALL {
        let head = format!("80 {:02x} 0063 00000005 0102030405", version.wire_version());
        let expected = ["UNKNOWN type=99 flags=0x00 length=5", "PING id=7"];
        assert_eq!(lines(version, &then_ping(version, &head)), expected);
    }
}

#[test]
fn c019_c020_type_5_is_noop_in_v2_and_unknown_later() {
    assert_eq!(
        lines(V2, &then_ping(V2, "80020005 00000000")),
        ["NOOP", "PING id=7"]
    );
    let expected = ["UNKNOWN type=5 flags=0x00 length=0", "PING id=7"];
    assert_eq!(lines(V3, &then_ping(V3, "80030005 00000000")), expected);
    assert_eq!(lines(V3_1, &then_ping(V3_1, "80030005 00000000")), expected);
    assert_eq!(
        error(V2, "80020005 00000001 00"),
        length_error(FrameKind::Noop, 1, 0, 0)
    );
}

#[test]
fn c021_window_update_is_unknown_in_v2_whatever_is_in_it() {
    let expected = ["UNKNOWN type=9 flags=0x00 length=8", "PING id=7"];
    assert_eq!(
        lines(V2, &then_ping(V2, "80020009 00000008 00000001 00000000")),
        expected
    );
    assert_eq!(
        lines(V2, "80020009 00000001 ff"),
        ["UNKNOWN type=9 flags=0x00 length=1"]
    );
}

#[test]
fn credential_is_read_in_v3_and_unknown_elsewhere() {
    assert_eq!(
        lines(V3, "8003000a 00000006 0001 00000000"),
        ["CREDENTIAL slot=1 length=4"]
    );
    assert_eq!(
        lines(V3_1, "8003000a 00000002 0001"),
        ["UNKNOWN type=10 flags=0x00 length=2"]
    );
    assert_eq!(
        lines(V2, "8002000a 00000002 0001"),
        ["UNKNOWN type=10 flags=0x00 length=2"]
    );
}

#[test]
fn c022_a_syn_stream_of_another_version_resets_its_stream() {
    for (version, found, digits) in [
        (V2, 3, "80030001 0000000a 80000005 00000000 0000"),
        (V3, 2, "80020001 0000000a 00000005 00000000 0000"),
        (V3_1, 1, "80010001 00000004 00000005"),
    ] {
        let error = error(version, digits);
        let syn_stream = Some(stream(5));
        assert_eq!(
            error,
            FrameError::Version {
                found,
                expected: version,
                syn_stream
            }
        );
        assert_eq!(
            error.reset(),
            Some((stream(5), RstStatus::UNSUPPORTED_VERSION))
        );
        assert_eq!(error.go_away(), Some(GoAwayStatus::PROTOCOL_ERROR));
    }
    // Without a stream id nothing is reset.
    assert_eq!(error(V3, "80020001 00000003").reset(), None);
    assert_eq!(error(V3, "80020001 0000000a 00000000").reset(), None);
}

#[test]
fn c023_other_control_frames_of_another_version_are_skipped_in_v2() {
    let ping = then_ping(V2, "80030006 00000004 00000001");
    assert_eq!(
        lines(V2, &ping),
        ["UNKNOWN type=6 flags=0x00 length=4", "PING id=7"]
    );
    let far = then_ping(V2, "ffff0006 00000001 00");
    assert_eq!(
        lines(V2, &far),
        ["UNKNOWN type=6 flags=0x00 length=1", "PING id=7"]
    );
}

#[test]
fn header_blocks_of_another_version_end_a_v2_session_too() {
    for digits in ["80030002 00000004", "80030008 00000004"] {
        let expected = FrameError::Version {
            found: 3,
            expected: V2,
            syn_stream: None,
        };
        assert_eq!(error(V2, digits), expected);
    }
}

#[test]
fn c024_control_frames_of_another_version_end_a_v3_session() {
    for version in [V3, V3_1] {
        for digits in [
            "80020006 00000004",
            "80020063 00000000",
            "80020002 00000004",
        ] {
            let expected = FrameError::Version {
                found: 2,
                expected: version,
                syn_stream: None,
            };
            assert_eq!(error(version, digits), expected);
        }
    }
}

// --- lengths --------

#[test]
fn c027_c066_c091_lengths_that_do_not_fit_the_type_are_session_errors() {
    use FrameKind::*;
    const MAX: u32 = 0x00ff_ffff;
    for (version, digits, kind, length, min, max) in [
        (V2, "80020001 00000009", SynStream, 9, 10, MAX),
        (V3, "80030001 00000009", SynStream, 9, 10, MAX),
        (V3_1, "80030001 00000000", SynStream, 0, 10, MAX),
        (V2, "80020002 00000005", SynReply, 5, 6, MAX),
        (V3, "80030002 00000003", SynReply, 3, 4, MAX),
        (V2, "80020003 00000004", RstStream, 4, 8, MAX),
        (V3_1, "80030003 00000004", RstStream, 4, 8, MAX),
        (V3, "80030004 00000003", Settings, 3, 4, MAX),
        (V2, "80020006 00000008", Ping, 8, 4, 4),
        (V3, "80030006 00000008", Ping, 8, 4, 4),
        (V3_1, "80030006 00000003", Ping, 3, 4, 4),
        (V2, "80020007 00000003", GoAway, 3, 4, 8),
        (V2, "80020007 00000009", GoAway, 9, 4, 8),
        (V3, "80030007 00000004", GoAway, 4, 8, 8),
        (V3_1, "80030007 0000000c", GoAway, 12, 8, 8),
        (V2, "80020008 00000004", Headers, 4, 6, MAX),
        (V3_1, "80030008 00000003", Headers, 3, 4, MAX),
        (V3, "80030009 00000004", WindowUpdate, 4, 8, 8),
        (V3_1, "80030009 00000009", WindowUpdate, 9, 8, 8),
        (V3, "8003000a 00000005", Credential, 5, 6, MAX),
    ] {
        // The head is enough for the error.
        let error = error(version, digits);
        assert_eq!(
            error,
            length_error(kind, length, min, max),
            "{version} {digits}"
        );
        assert_eq!(error.go_away(), Some(GoAwayStatus::PROTOCOL_ERROR));
        assert_eq!(error.reset(), None);
    }
}

#[test]
fn c026_a_control_frame_of_8192_bytes_is_accepted_under_any_limit() {
    for version in Version::ALL {
        let mut limits = DecodeLimits::default();
        limits.max_control_frame = 100;
        let mut bytes = hex("8000 0001 00002000 00000001 00000000 0000");
        bytes[1] = version.wire_version() as u8;
        bytes.resize(8 + 8192, 0);
        let decoded = decode_in_pieces(version, limits, &bytes, |_| 1000);
        let expected = "SYN_STREAM stream=1 associated=0 priority=0 flags=0 block=8182";
        assert_eq!(decoded.frames[0].to_string(), expected);
    }
}

#[test]
fn c029_a_control_frame_over_the_limit_is_an_error_before_it_arrives() {
    let announced = 0x00ff_ffff;
    let limit = DecodeLimits::default().max_control_frame;
    for (digits, kind, id) in [
        ("80030001 00ffffff 80000005", FrameKind::SynStream, Some(5)),
        ("80030002 00ffffff 00000005", FrameKind::SynReply, Some(5)),
        ("80030008 00ffffff 00000005", FrameKind::Headers, Some(5)),
        ("80030008 00ffffff 00000000", FrameKind::Headers, None),
        ("80030003 00ffffff", FrameKind::RstStream, None),
        ("80030004 00ffffff", FrameKind::Settings, None),
        ("8003000a 00ffffff", FrameKind::Credential, None),
    ] {
        let error = error(V3, digits);
        let id = id.map(stream);
        assert_eq!(
            error,
            FrameError::TooLarge {
                kind,
                length: announced,
                limit,
                stream: id
            }
        );
        assert_eq!(error.reset(), id.map(|id| (id, RstStatus::FRAME_TOO_LARGE)));
        assert!(error.go_away().is_some());
    }
    // Before it rejects the frame, the decoder waits for the id of the stream to reset.
    let decoded = decode_at_once(V3, &hex("80030001 00ffffff 800000"));
    assert!(decoded.fatal.is_none() && decoded.mid_frame);
}

#[test]
fn a_control_frame_at_the_limit_is_read_and_one_byte_more_is_not() {
    let mut limits = DecodeLimits::default();
    limits.max_control_frame = 10_000;
    let frame_of = |length: u32| {
        let mut bytes = hex("80030002 00000000 00000001");
        bytes[4..8].copy_from_slice(&length.to_be_bytes());
        bytes.resize(8 + length as usize, 0);
        decode_in_pieces(V3, limits.clone(), &bytes, |rest| rest)
    };
    assert_eq!(
        frame_of(10_000).frames[0].to_string(),
        "SYN_REPLY stream=1 flags=0 block=9996"
    );
    assert!(matches!(
        frame_of(10_001).fatal,
        Some(FrameError::TooLarge { length: 10_001, .. })
    ));
}

#[test]
fn c029_no_memory_is_reserved_for_what_is_only_announced() {
    for head in [
        "80030002 00040000 00000001",
        "8003f000 00ffffff",
        "00000001 00ffffff",
    ] {
        let mut src = BytesMut::from(&hex(head)[..]);
        let before = src.capacity();
        let mut decoder = Decoder::new(V3, DecodeLimits::default());
        while decoder.decode(&mut src).unwrap().is_some() {}
        assert!(decoder.is_mid_frame());
        assert!(src.capacity() <= before, "{head}");
    }
}

#[test]
fn c018_an_unknown_frame_of_any_length_is_skipped_without_being_held() {
    let mut decoder = Decoder::new(V3_1, DecodeLimits::default());
    let mut src = BytesMut::from(&hex("8003f000 01ffffff")[..]);
    let frame = decoder.decode(&mut src).unwrap().unwrap();
    assert_eq!(frame.to_string(), "UNKNOWN type=61440 flags=0x01 length=0");
    let mut rest = 0x00ff_ffff;
    while rest > 1 {
        let arrives = 65_536.min(rest - 1);
        src.resize(arrives, 0x80);
        rest -= arrives;
        assert_eq!(decoder.decode(&mut src), Ok(None));
        assert!(!src.has_remaining(), "skipped bytes are not kept");
        assert!(decoder.is_mid_frame());
    }
    // The last byte comes with the next frame.
    src.extend_from_slice(&hex("80 80030006 00000004 00000007"));
    let frame = decoder.decode(&mut src).unwrap().unwrap();
    assert_eq!(frame.to_string(), "PING id=7");
    assert!(!decoder.is_mid_frame());
}

#[test]
fn c067_bytes_behind_the_status_of_rst_stream_are_an_error_in_strict_decoding_only() {
    let digits = "80030003 0000000c 00000001 00000005 74657874";
    assert_eq!(lines(V3, digits), ["RST_STREAM stream=1 status=CANCEL"]);
    assert_eq!(
        error_with(V3, strict(), digits),
        length_error(FrameKind::RstStream, 12, 8, 8)
    );
}

#[test]
fn c105_goaway_of_v2_has_4_or_8_bytes() {
    for digits in [
        "80020007 00000004 00000005",
        "80020007 00000008 00000005 00000001",
    ] {
        assert_eq!(lines(V2, digits), ["GOAWAY last_good=5 status=OK"]);
    }
    assert_eq!(
        error(V2, "80020007 00000006 00000005 0000"),
        length_error(FrameKind::GoAway, 6, 4, 8)
    );
}

// --- contents --------

#[test]
fn c079_c080_settings_whose_count_does_not_fit_are_session_errors() {
    let one_missing = "80030004 0000000c 00000002 00000004 00000001";
    assert_eq!(
        error(V3, one_missing),
        FrameError::SettingsCount {
            count: 2,
            length: 12
        }
    );
    let absurd = "80020004 00000004 ffffffff";
    assert_eq!(
        error(V2, absurd),
        FrameError::SettingsCount {
            count: u32::MAX,
            length: 4
        }
    );
}

#[test]
fn c109_frames_without_block_bytes_have_an_empty_block() {
    for (version, digits, line) in [
        (
            V2,
            "80020001 0000000a 00000001 00000000 0000",
            "SYN_STREAM stream=1 associated=0 priority=0 flags=0 block=0",
        ),
        (
            V2,
            "80020002 00000006 00000001 0000",
            "SYN_REPLY stream=1 flags=0 block=0",
        ),
        (
            V2,
            "80020008 00000006 00000001 0000",
            "HEADERS stream=1 flags=0 block=0",
        ),
        (
            V3,
            "80030002 01000004 00000001",
            "SYN_REPLY stream=1 flags=FIN block=0",
        ),
        (
            V3_1,
            "80030008 01000004 00000001",
            "HEADERS stream=1 flags=FIN block=0",
        ),
    ] {
        assert_eq!(lines(version, digits), [line]);
    }
}

#[test]
fn c039_c111_c118_stream_0_is_a_session_error_where_a_stream_is_needed() {
    for (digits, kind) in [
        ("00000000 00000005", FrameKind::Data),
        (
            "80030001 0000000a 80000000 00000000 0000",
            FrameKind::SynStream,
        ),
        ("80030002 00000004 00000000", FrameKind::SynReply),
        ("80030003 00000008 00000000 00000001", FrameKind::RstStream),
        ("80030008 00000004 00000000", FrameKind::Headers),
    ] {
        assert_eq!(error(V3, digits), FrameError::StreamIdZero { kind });
    }
}

#[test]
fn c190_decoding_goes_on_after_an_update_of_0_for_a_stream() {
    let bytes = hex(&then_ping(V3, "80030009 00000008 00000003 00000000"));
    for size in [1, bytes.len()] {
        let decoded = decode_in_pieces(V3, DecodeLimits::default(), &bytes, |_| size);
        let error = FrameError::ZeroIncrement {
            target: WindowTarget::Stream(stream(3)),
        };
        assert_eq!(
            error.reset(),
            Some((stream(3), RstStatus::FLOW_CONTROL_ERROR))
        );
        assert_eq!(decoded.skipped, [error]);
        assert_eq!(decoded.frames[0].to_string(), "PING id=7");
    }
}

#[test]
fn c191_c193_an_update_of_0_for_the_session_is_skipped_in_v3_and_an_error_in_v3_1() {
    let digits = "80030009 00000008 00000000 00000000";
    let expected = ["UNKNOWN type=9 flags=0x00 length=8", "PING id=7"];
    assert_eq!(lines(V3, &then_ping(V3, digits)), expected);
    assert_eq!(
        error(V3_1, digits),
        FrameError::ZeroIncrement {
            target: WindowTarget::Session
        }
    );
    let one = "80030009 00000008 00000000 00000001";
    assert_eq!(lines(V3, one), ["WINDOW_UPDATE stream=0 increment=1"]);
}

#[test]
fn unknown_flags_are_ignored_by_default_and_an_error_in_strict_decoding() {
    for (digits, kind, flags) in [
        ("00000001 fc000000", FrameKind::Data, 0xfc),
        (
            "80030001 0400000a 00000001 00000000 0000",
            FrameKind::SynStream,
            0x04,
        ),
        ("80030002 03000004 00000001", FrameKind::SynReply, 0x03),
        (
            "80030003 01000008 00000001 00000001",
            FrameKind::RstStream,
            0x01,
        ),
        ("80030004 02000004 00000000", FrameKind::Settings, 0x02),
        ("80030006 80000004 00000001", FrameKind::Ping, 0x80),
        (
            "80030007 01000008 00000001 00000001",
            FrameKind::GoAway,
            0x01,
        ),
        ("80030008 02000004 00000001", FrameKind::Headers, 0x02),
        (
            "80030009 01000008 00000001 00000001",
            FrameKind::WindowUpdate,
            0x01,
        ),
    ] {
        assert_eq!(lines(V3, digits).len(), 1);
        assert_eq!(
            error_with(V3, strict(), digits),
            FrameError::Flags { kind, flags }
        );
    }
    // Flags of unknown types are not checked.
    let decoded = decode_in_pieces(V3, strict(), &hex("80030063 ff000000"), |rest| rest);
    assert_eq!(decoded.fatal, None);
}

#[test]
fn strict_decoding_accepts_every_defined_flag() {
    for digits in [
        "00000001 03000000",
        "80030001 0300000a 00000001 00000000 0000",
        "80030002 01000004 00000001",
        "80030003 00000008 00000001 00000000",
        "80030004 01000004 00000000",
        "80030008 01000004 00000001",
    ] {
        assert_eq!(
            decode_in_pieces(V3, strict(), &hex(digits), |rest| rest).fatal,
            None,
            "{digits}"
        );
    }
    let fin_on_headers = hex("80020008 01000006 00000001 0000");
    assert_eq!(
        decode_in_pieces(V2, strict(), &fin_on_headers, |rest| rest).fatal,
        None
    );
}

// --- DATA in pieces --------

#[test]
fn c125_data_comes_in_pieces_as_bytes_arrive() {
    let mut decoder = Decoder::new(V3_1, DecodeLimits::default());
    let mut src = BytesMut::new();
    let mut next = |digits: &str| {
        src.extend_from_slice(&hex(digits));
        let frame = decoder
            .decode(&mut src)
            .unwrap()
            .map(|frame| frame.to_string());
        (frame.unwrap_or_default(), decoder.is_mid_frame())
    };
    let piece = |line: &str, mid_frame| (line.to_owned(), mid_frame);
    assert_eq!(next(""), piece("", false));
    assert_eq!(next("00000001 010000"), piece("", true));
    // The head shows how many bytes follow.
    assert_eq!(
        next("05"),
        piece("DATA stream=1 flags=0 length=0 remaining=5", true)
    );
    assert_eq!(next(""), piece("", true));
    assert_eq!(
        next("01"),
        piece("DATA stream=1 flags=0 length=1 remaining=4", true)
    );
    assert_eq!(
        next("0203"),
        piece("DATA stream=1 flags=0 length=2 remaining=2", true)
    );
    // The last piece has FIN, and the next frame stays in the buffer.
    assert_eq!(
        next("0405 00000003 00000001 aa"),
        piece("DATA stream=1 flags=FIN length=2", false)
    );
    assert_eq!(next(""), piece("DATA stream=3 flags=0 length=1", false));
    assert_eq!(next(""), piece("", false));
}

#[test]
fn c112_empty_data_is_one_piece_with_or_without_fin() {
    let digits = "00000001 00000000 00000001 01000000";
    let expected = [
        "DATA stream=1 flags=0 length=0",
        "DATA stream=1 flags=FIN length=0",
    ];
    assert_eq!(lines(V2, digits), expected);
}

#[test]
fn c119_the_compressed_flag_is_on_every_piece() {
    let decoded = decode_in_pieces(V3, strict(), &hex("00000001 03000002 0102"), |_| 9);
    assert_eq!(
        decoded.frames[0].to_string(),
        "DATA stream=1 flags=FIN|COMPRESSED length=2"
    );
}

#[test]
fn payloads_and_blocks_are_slices_of_the_input() {
    let mut src =
        BytesMut::from(&hex("80030002 00000006 00000001 aabb 00000001 00000003 010203")[..]);
    let bytes = src.as_ptr_range();
    let mut decoder = Decoder::new(V3, DecodeLimits::default());
    let mut is_slice = || match decoder.decode(&mut src).unwrap().unwrap() {
        Frame::SynReply(frame) => bytes.contains(&frame.block.as_bytes().as_ptr()),
        Frame::Data(frame) => bytes.contains(&frame.payload.as_ptr()),
        other => panic!("{other}"),
    };
    assert!(is_slice());
    assert!(is_slice());
}

// --- borrowed frames --------

#[test]
fn parse_takes_whole_frames_of_any_length() {
    let mut bytes = hex("80030002 00ffffff 00000001");
    bytes.resize(8 + 0x00ff_ffff, 0);
    let (frame, length) = parse(V3, &bytes).unwrap().unwrap();
    assert_eq!(
        frame.to_string(),
        "SYN_REPLY stream=1 flags=0 block=16777211"
    );
    assert_eq!(length, bytes.len());

    let data = hex("00000001 01000002 0102");
    assert_eq!(parse(V3, &data[..9]), Ok(None));
    let (frame, length) = parse(V3, &data).unwrap().unwrap();
    assert_eq!(
        (frame.to_string().as_str(), length),
        ("DATA stream=1 flags=FIN length=2", 10)
    );
}

#[test]
fn parse_treats_frames_of_other_versions_as_the_decoder_does() {
    let ping_of_v3 = hex("80030006 00000004 00000001");
    let (frame, length) = parse(V2, &ping_of_v3).unwrap().unwrap();
    assert_eq!((frame.kind(), length), (FrameKind::Unknown(6), 12));
    let wrong_version = hex("80020001 0000000a 00000005");
    assert_eq!(
        parse(V3, &wrong_version),
        Err(error(V3, "80020001 0000000a 00000005"))
    );
    assert_eq!(parse(V3, &wrong_version[..11]), Ok(None));
}
