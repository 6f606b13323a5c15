//! HEADERS, and header blocks that are wrong or too large (protocol.md §23.8, §23.10).

use spdy_frame::{GoAwayStatus, RstStatus, Version};
use spdy_session::{Config, OversizedHeaders, Trailers, proto::OpenOptions};
use spdy_tests::{
    frames::{self, RawFrame},
    machine::{End, Happened, Machine, block, id, reset},
    wire::Received,
};

/// A number as the version has it in header blocks.
fn number(version: Version, number: u32) -> Vec<u8> {
    match version {
        Version::V2 => (number as u16).to_be_bytes().to_vec(),
        Version::V3 | Version::V3_1 => number.to_be_bytes().to_vec(),
    }
}

/// A block of one pair whose count, lengths and end may be wrong.
fn crafted(version: Version, count: u32, name: (u32, &[u8]), value: (u32, &[u8])) -> Vec<u8> {
    [
        number(version, count),
        number(version, name.0),
        name.1.to_vec(),
        number(version, value.0),
        value.1.to_vec(),
    ]
    .concat()
}

fn trailers(stream: u32, name: &str, value: &str) -> Happened {
    Happened::Headers {
        id: stream,
        fields: vec![(name.into(), value.into())],
        fin: true,
    }
}

#[test]
fn c106_headers_with_fin_end_a_body() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.upload(1);
        server.feed(frames::data(1, "body"));
        server.feed(frames::headers(version, 1).field("x-sum", "4").fin());
        assert_eq!(
            server.events(),
            [Happened::data(1, "body", false), trailers(1, "x-sum", "4")]
        );
        server.consume(1, 4);
        server.reply(1, true);
        server.sent();
        assert_eq!(server.connection.stats(), Default::default());
    }
}

#[test]
fn c107_headers_on_a_stream_that_never_was_are_answered_once() {
    for version in Version::ALL {
        for side in [Machine::server, Machine::client] {
            let mut machine = side(version);
            for stream in [9, 8] {
                machine.feed(frames::headers(version, stream).field("a", "b"));
                machine.feed(frames::headers(version, stream).field("c", "d").fin());
                assert_eq!(machine.sent(), [reset(stream, RstStatus::INVALID_STREAM)]);
            }
            assert_eq!(machine.events(), []);
            machine.assert_usable();
        }
    }
}

#[test]
fn c109_headers_without_a_block_are_no_pairs() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.upload(1);
        server.feed(frames::headers(version, 1).compressed_block([]));
        assert_eq!(server.events(), []);
        server.feed(frames::headers(version, 1).compressed_block([]).fin());
        let fields = vec![];
        assert_eq!(
            server.events(),
            [Happened::Headers {
                id: 1,
                fields,
                fin: true
            }]
        );
        server.assert_usable();
    }
}

#[test]
fn c110_trailers_have_fin_if_configured() {
    for version in Version::ALL {
        for how in [Trailers::EmptyData, Trailers::FinOnHeaders] {
            let mut config = Config::default();
            config.trailers = how;
            let mut server = Machine::server(version).with(config);
            server.request(1);
            server.reply(1, false);
            server.send(1, 3, false);
            let fields = block(&[("x-sum", "3")]);
            server.connection.send_headers(id(1), fields, true).unwrap();
            let sent = server.sent();
            let on_headers = how == Trailers::FinOnHeaders && version != Version::V2;
            let headers = Received::Headers {
                stream: 1,
                fin: on_headers,
                fields: vec![("x-sum".into(), "3".into())],
            };
            let end = Received::Data {
                stream: 1,
                fin: true,
                payload: Default::default(),
            };
            assert_eq!(sent[2], headers);
            assert_eq!(sent[3..], if on_headers { vec![] } else { vec![end] });
            assert_eq!(server.connection.stats(), Default::default());
        }
    }
}

#[test]
fn c111_headers_and_syn_reply_on_stream_0_end_the_session() {
    for version in Version::ALL {
        for frame in [frames::headers(version, 0), frames::syn_reply(version, 0)] {
            let mut server = Machine::server(version);
            server.feed(frame.field("a", "b"));
            server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
        }
    }
}

/// What makes the block of a frame a wrong one.
type Spoil = Box<dyn Fn(RawFrame) -> RawFrame>;

/// What costs only the stream: rows 133 to 141, for SYN_STREAM, SYN_REPLY and HEADERS.
#[test]
fn c133_to_c141_c146_a_malformed_block_resets_only_its_stream() {
    for version in Version::ALL {
        let longest = if version == Version::V2 {
            0xffff
        } else {
            u32::MAX
        };
        let spoil: Vec<(&str, Spoil)> = vec![
            ("133: an empty name", Box::new(|frame| frame.field("", "x"))),
            (
                "134: a name twice",
                Box::new(|frame| frame.field("a", "1").field("a", "2")),
            ),
            (
                "135: an upper-case letter",
                Box::new(|frame| frame.field("aB", "1")),
            ),
            (
                "136: NUL in front",
                Box::new(|frame| frame.field("a", "\0b")),
            ),
            (
                "136: NUL at the end",
                Box::new(|frame| frame.field("a", "b\0")),
            ),
            (
                "136: NULs in a row",
                Box::new(|frame| frame.field("a", "b\0\0c")),
            ),
            ("NUL in a name", Box::new(|frame| frame.field("a\0b", "c"))),
            ("CR in a value", Box::new(|frame| frame.field("a", "b\rc"))),
            ("LF in a value", Box::new(|frame| frame.field("a", "b\nc"))),
            (
                "139: fewer pairs than announced",
                Box::new(move |frame| frame.plain_block(crafted(version, 2, (1, b"a"), (1, b"b")))),
            ),
            (
                "140: bytes behind the last pair",
                Box::new(move |frame| {
                    frame.plain_block(crafted(version, 1, (1, b"a"), (1, b"bc")))
                }),
            ),
            (
                "141: a name as long as can be",
                Box::new(move |frame| {
                    frame.plain_block(crafted(version, 1, (longest, b"a"), (1, b"b")))
                }),
            ),
            (
                "141: a value as long as can be",
                Box::new(move |frame| {
                    frame.plain_block(crafted(version, 1, (1, b"a"), (longest, b"b")))
                }),
            ),
            (
                "139: as many pairs as can be",
                Box::new(move |frame| frame.plain_block(number(version, longest))),
            ),
        ];
        for (what, spoil) in spoil {
            let refused = RstStatus::PROTOCOL_ERROR;
            let mut server = Machine::server(version);
            server.feed(spoil(frames::syn_stream(version, 1)).fin());
            assert_eq!(server.sent(), [reset(1, refused)], "{version}: {what}");
            assert_eq!(server.events(), []);
            server.upload(3);
            server.feed(spoil(frames::headers(version, 3)));
            assert_eq!(server.sent(), [reset(3, refused)], "{version}: {what}");
            server.events();
            server.assert_usable();

            let mut client = Machine::client(version);
            let stream = client.open(OpenOptions::default());
            client.sent();
            client.feed(spoil(frames::syn_reply(version, stream)));
            assert_eq!(client.sent(), [reset(stream, refused)], "{version}: {what}");
            let end = End::Library(refused);
            assert_eq!(client.events(), [Happened::Reset { id: stream, end }]);
            client.assert_usable();
        }
    }
}

#[test]
fn c137_c138_an_empty_value_is_accepted() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.upload(1);
        server.feed(frames::headers(version, 1).field("x-empty", "").fin());
        assert_eq!(server.events(), [trailers(1, "x-empty", "")]);
        server.assert_usable();
    }
}

#[test]
fn c138_a_strict_session_resets_the_stream_of_an_empty_value_in_spdy_2() {
    let mut config = Config::default();
    config.strict = true;
    for version in Version::ALL {
        let mut server = Machine::server(version).with(config.clone());
        let request = frames::syn_stream(version, 1).get("/");
        server.feed(request.field("x-empty", "").fin());
        let answer = server.sent();
        if version == Version::V2 {
            assert_eq!(answer, [reset(1, RstStatus::PROTOCOL_ERROR)]);
            assert_eq!(server.events(), []);
        } else {
            assert_eq!(answer, []);
            assert_eq!(server.events().len(), 1);
        }
        server.assert_usable();
    }
}

/// A request whose fields have 900,000 bytes, above the soft and below the hard limit.
fn oversized(version: Version) -> RawFrame {
    let sizes = match version {
        Version::V2 => vec![60_000; 15],
        Version::V3 | Version::V3_1 => vec![900_000],
    };
    let start = frames::syn_stream(version, 1).get("/");
    let fields = sizes.iter().enumerate();
    fields.fold(start, |frame, (n, size)| {
        frame.field(format!("x-{n}"), "v".repeat(*size))
    })
}

fn roomy() -> Config {
    let mut config = Config::default();
    config.limits.max_control_frame = 2 << 20;
    config
}

#[test]
fn c144_fields_above_the_soft_limit_reset_the_stream_or_are_truncated() {
    for version in Version::ALL {
        let mut server = Machine::server(version).with(roomy());
        server.feed(oversized(version).fin());
        let status = match version {
            Version::V2 => RstStatus::PROTOCOL_ERROR,
            Version::V3 | Version::V3_1 => RstStatus::FRAME_TOO_LARGE,
        };
        assert_eq!(server.sent(), [reset(1, status)]);
        assert_eq!(server.events(), []);
        server.assert_usable();

        let mut config = roomy();
        config.oversized_headers = OversizedHeaders::Deliver;
        let mut server = Machine::server(version).with(config);
        server.feed(oversized(version).fin());
        assert!(matches!(
            server.events()[..],
            [Happened::Opened { id: 1, .. }]
        ));
        server.reply(1, true);
        assert_eq!(server.sent().len(), 1, "431, say");
        server.assert_usable();
    }
}

#[test]
fn c145_fields_above_the_hard_limit_end_the_session() {
    for version in Version::ALL {
        let mut config = roomy();
        config.limits.headers.max_inflated = 500_000;
        let mut server = Machine::server(version).with(config);
        server.feed(oversized(version).fin());
        let (_, before) = server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
        let expected = match version {
            Version::V2 => vec![],
            Version::V3 | Version::V3_1 => vec![reset(1, RstStatus::FRAME_TOO_LARGE)],
        };
        assert_eq!(before, expected);
    }
}

/// What the application has taken is not held any more, what it has not taken is, also when the
/// stream is closed.
#[test]
fn later_header_blocks_count_until_they_are_taken() {
    for version in Version::ALL {
        let mut config = Config::default();
        config.limits.held_headers = 10_000;
        let mut server = Machine::server(version).with(config);
        let held = |server: &Machine| server.connection.stats().held_headers;
        server.upload(1);
        let opening = held(&server);
        let mut sizes = Vec::new();
        for n in 0..3 {
            let field = format!("x-late-{n}");
            server.feed(frames::headers(version, 1).field(field, "v".repeat(1000)));
            sizes.push(held(&server));
        }
        let size = sizes[0] - opening;
        assert!(size > 1000 && sizes == [1, 2, 3].map(|n| opening + n * size));
        server.connection.consume_headers(id(1), size);
        assert_eq!(held(&server), opening + 2 * size);
        server.reply(1, true);
        server.sent();
        server.feed(frames::data(1, "").fin());
        assert_eq!(held(&server), 0, "the stream is closed");
        // How much there is room for.
        let room = |server: &mut Machine, stream| {
            server.upload(stream);
            let mut blocks = 0;
            while server.sent().is_empty() {
                let late = frames::headers(version, stream).field("x", "v".repeat(100));
                server.feed(late);
                blocks += 1;
            }
            server.connection.release(id(stream));
            blocks
        };
        let first = room(&mut server, 3);
        server.connection.consume_headers(id(1), size);
        let second = room(&mut server, 5);
        server.connection.release(id(1));
        let third = room(&mut server, 7);
        assert!(first < second && second < third, "{first} {second} {third}");
        assert_eq!(server.connection.stats(), Default::default());
    }
}

/// They cost as much as others, and nothing else counts them.
#[test]
fn header_blocks_that_nobody_reads_are_thrown_away_up_to_a_limit() {
    for version in Version::ALL {
        let mut config = Config::default();
        config.limits.discard = 100_000;
        let mut server = Machine::server(version).with(config);
        server.upload(1);
        server.connection.stop_reading(id(1));
        let mut blocks = 0;
        while server.sent().is_empty() {
            server.feed(frames::headers(version, 1).field("x", "v".repeat(1000)));
            blocks += 1;
        }
        assert!((60..100).contains(&blocks), "{blocks}");
        assert_eq!(server.connection.stats().held_headers, 0);
    }
}

#[test]
fn the_fields_that_open_streams_hold_are_bounded_together() {
    for version in Version::ALL {
        let mut config = Config::default();
        config.limits.held_headers = 20_000;
        let mut server = Machine::server(version).with(config);
        let request = |stream| {
            let frame = frames::syn_stream(version, stream).get("/");
            frame.field("x-long", "v".repeat(9000))
        };
        server.feed(request(1));
        server.feed(request(3));
        assert_eq!(server.events().len(), 2);
        server.feed(request(5));
        assert_eq!(server.sent(), [reset(5, RstStatus::REFUSED_STREAM)]);
        server.feed(frames::headers(version, 3).field("x-late", "v".repeat(2000)));
        let sent = server.sent();
        assert!(matches!(sent[..], [Received::RstStream(frame)] if frame.stream == id(3)));
        server.connection.release(id(3));
        server.feed(request(7));
        assert_eq!(server.events().len(), 2, "there is room again");
        for stream in [1, 7] {
            server.connection.reset(id(stream), RstStatus::CANCEL);
        }
        assert_eq!(server.connection.stats(), Default::default());
        server.assert_usable();
    }
}

#[test]
fn empty_headers_and_empty_data_are_bounded() {
    for version in Version::ALL {
        for frame in [
            frames::headers(version, 1).compressed_block([]),
            frames::data(1, []),
        ] {
            let mut server = Machine::server(version);
            server.upload(1);
            for _ in 0..1000 {
                server.feed(frame.clone());
            }
            assert_eq!(server.sent(), []);
            server.feed(frame);
            server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
        }
    }
}
