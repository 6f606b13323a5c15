//! Frames as a session takes them off the transport (protocol.md §23.2). What a frame looks like is
//! tested beside the codec; here is what a session does about it.

use std::time::Duration;

use spdy_frame::{GoAwayStatus, Priority, RstStatus, Version};
use spdy_session::{
    Config,
    proto::{OpenOptions, Phase},
};
use spdy_tests::{
    frames::{self, RawFrame},
    machine::{End, Happened, Machine, SINCE_V3, block, id, reset},
    wire::Received,
};

/// A conversation with a frame of every kind.
fn conversation(version: Version) -> Vec<RawFrame> {
    let mut frames = vec![
        frames::settings(version, &[(4, 100), (7, 70_000)]),
        frames::syn_stream(version, 1).post("/upload"),
        frames::data(1, vec![1; 3000]),
        frames::syn_stream(version, 3).get("/").fin(),
        frames::ping(version, 1),
        frames::headers(version, 1).field("x-late", "yes"),
        frames::control(version, 0x63, [0; 5]),
        frames::data(1, vec![2; 70]).fin(),
        frames::rst_stream(version, 3, RstStatus::CANCEL),
        frames::data(99, vec![3; 9]),
        frames::go_away(version, 0, GoAwayStatus::OK),
    ];
    if version != Version::V2 {
        frames.insert(3, frames::window_update(version, 1, 5));
    }
    frames
}

/// Events with the DATA of a stream joined.
fn joined(events: Vec<Happened>) -> Vec<Happened> {
    let mut joined: Vec<Happened> = Vec::new();
    for event in events {
        match (joined.last_mut(), event) {
            (
                Some(Happened::Data {
                    id: last,
                    payload: all,
                    fin: ended,
                }),
                Happened::Data { id, payload, fin },
            ) if *last == id => {
                *all = [&all[..], &payload[..]].concat().into();
                *ended = fin;
            }
            (_, event) => joined.push(event),
        }
    }
    joined
}

#[test]
fn c016_it_does_not_matter_in_which_pieces_bytes_arrive() {
    for version in Version::ALL {
        let run = |size: usize| {
            let mut server = Machine::server(version);
            server.feed_in_pieces(conversation(version), size);
            (joined(server.events()), server.sent())
        };
        let whole = run(usize::MAX);
        assert_eq!(whole.0.len(), 7, "{:?}", whole.0);
        assert_eq!(whole.1[1..], [reset(99, RstStatus::INVALID_STREAM)]);
        for size in [1, 2, 3, 7, 8, 9, 100, 1460] {
            assert_eq!(run(size), whole, "{version} in pieces of {size}");
        }
    }
}

#[test]
fn c017_fifty_frames_at_once_are_handled_in_order() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        let requests = (0..50).map(|n| frames::syn_stream(version, 2 * n + 1).get("/").fin());
        server.feed_in_pieces(requests, usize::MAX);
        let ids: Vec<u32> = server
            .events()
            .iter()
            .filter_map(Happened::stream)
            .collect();
        assert_eq!(ids, (0..50).map(|n| 2 * n + 1).collect::<Vec<_>>());
    }
}

#[test]
fn c018_to_c021_frames_without_a_meaning_are_skipped() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        for frame in [
            frames::control(version, 0x63, [7; 5]),
            frames::control(version, 0xf000, [7; 500]),
            frames::noop(version),
            frames::control(version, 10, [0, 1, 0, 0, 0, 0]),
        ] {
            server.feed(frame);
        }
        if version == Version::V2 {
            server.feed(frames::window_update(version, 1, 1000));
            server.feed(frames::window_update(version, 0, 0));
        }
        assert_eq!(server.events(), []);
        assert_eq!(server.sent(), []);
        server.assert_usable();
    }
}

#[test]
fn c022_a_syn_stream_of_another_version_is_refused_and_ends_the_session() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        let other = if version == Version::V2 { 3 } else { 2 };
        server.feed(frames::syn_stream(version, 1).get("/").wire_version(other));
        let (last_good, before) = server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
        assert_eq!(last_good, 0);
        assert_eq!(before, [reset(1, RstStatus::UNSUPPORTED_VERSION)]);
        assert_eq!(server.events(), []);
    }
}

#[test]
fn c023_spdy_2_ignores_a_ping_of_another_version() {
    let mut server = Machine::server(Version::V2);
    server.feed(frames::ping(Version::V2, 1).wire_version(3));
    assert_eq!(server.sent(), []);
    server.assert_usable();
}

#[test]
fn c024_spdy_3_ends_at_a_ping_of_another_version() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version);
        server.feed(frames::ping(version, 1).wire_version(2));
        server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
    }
}

/// That every byte sent is as it should be is asserted by the machine in each test; this one has it
/// send every kind of frame there is.
#[test]
fn c025_c031_every_kind_of_frame_is_sent_as_the_version_has_it() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        let mut sent = server.greeting().to_vec();
        server.upload(1);
        server.reply(1, false);
        server.open(
            OpenOptions::new()
                .unidirectional(true)
                .priority(Priority::LOWEST)
                .associated(id(1)),
        );
        server.send(1, 10, false);
        let trailers = block(&[("x-trailer", "yes")]);
        server
            .connection
            .send_headers(id(1), trailers, true)
            .unwrap();
        server.connection.ping(server.now());
        server.feed(frames::data(1, vec![0; 40_000]));
        server.consume(1, 40_000);
        server.feed(frames::data(99, []));
        sent.extend(server.sent());
        server.feed(frames::data(0, []));
        sent.extend(server.sent());
        let kinds: Vec<String> = sent
            .iter()
            .map(|frame| format!("{frame:?}"))
            .map(|text| text.split([' ', '(']).next().unwrap().to_owned())
            .filter(|kind| kind != "WindowUpdate")
            .collect();
        assert_eq!(
            kinds,
            [
                "Settings",
                "Ping",
                "RstStream",
                "SynReply",
                "SynStream",
                "Data",
                "Headers",
                "Data",
                "GoAway"
            ]
        );
        let updates = match version {
            Version::V2 => 0,
            Version::V3 => 1,
            Version::V3_1 => 2,
        };
        assert_eq!(sent.len(), kinds.len() + updates, "{sent:?}");
    }
}

#[test]
fn c026_a_control_frame_of_8192_bytes_is_accepted() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        let request = |filler: usize| {
            frames::syn_stream(version, 1)
                .get("/")
                .field("x-filler", "f".repeat(filler))
                .fin()
        };
        // The blocks of one direction follow each other, so the length is found out on another
        // machine.
        let without = Machine::server(version).bytes(&request(0)).len();
        let frame = request(8192 + 8 - without);
        server.feed(frame);
        assert_eq!(server.events().len(), 1);
        server.assert_usable();
    }
}

#[test]
fn c027_a_syn_stream_without_room_for_its_fields_ends_the_session() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.feed(frames::control(version, 1, [0; 9]));
        server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
    }
}

#[test]
fn c028_reserved_bits_are_masked() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.feed(
            frames::syn_stream(version, 0x8000_0001)
                .post("/")
                .associated(1 << 31),
        );
        assert!(matches!(
            server.events()[..],
            [Happened::Opened {
                id: 1,
                associated: 0,
                ..
            }]
        ));
        server.feed(frames::headers(version, 0x8000_0001).field("a", "b").fin());
        assert!(matches!(
            server.events()[..],
            [Happened::Headers { id: 1, .. }]
        ));
        if version != Version::V2 {
            server.feed(frames::window_update(version, 0x8000_0001, 0x8000_0001));
        }
        server.feed(frames::rst_stream(version, 0x8000_0001, RstStatus::CANCEL));
        assert_eq!(
            server.events(),
            [Happened::Reset {
                id: 1,
                end: End::Remote(RstStatus::CANCEL)
            }]
        );
        server.assert_usable();
    }
}

#[test]
fn c029_a_frame_announced_too_long_ends_the_session_at_its_head() {
    for version in Version::ALL {
        for (kind, then) in [(1, 4), (4, 0)] {
            let mut server = Machine::server(version);
            server.feed(frames::control(version, kind, vec![0; then]).length(0xff_ffff));
            server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
        }
        let mut server = Machine::server(version);
        server.feed(frames::control(version, 1, 1_u32.to_be_bytes()).length(0xff_ffff));
        let (_, before) = server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
        let expected = match version {
            Version::V2 => vec![],
            _ => vec![reset(1, RstStatus::FRAME_TOO_LARGE)],
        };
        assert_eq!(before, expected);
    }
}

#[test]
fn c029_a_frame_that_is_never_completed_ends_the_session_in_time() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.upload(1);
        let bytes = server.bytes(&frames::syn_stream(version, 3).get("/"));
        server.feed_bytes(&bytes[..20]);
        server.advance(Duration::from_secs(20));
        server.feed_bytes(&bytes[20..21]);
        server.advance(Duration::from_secs(9));
        assert_eq!(server.connection.phase(), Phase::Open);
        server.advance(Duration::from_secs(1));
        server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
    }
}

#[test]
fn c030_the_end_of_the_bytes_in_the_middle_of_a_frame_fails_the_streams() {
    for version in Version::ALL {
        for side in [Machine::server, Machine::client] {
            let mut machine = side(version);
            machine.feed_bytes(&[0x80, version.wire_version() as u8, 0]);
            machine.end_of_input();
            assert!(machine.connection.outcome().is_err());
            assert_eq!(machine.sent(), []);
            assert_eq!(machine.connection.phase(), Phase::Closing);
        }
        let mut server = Machine::server(version);
        server.upload(1);
        server.feed_bytes(&[0, 0, 0, 1, 1, 0, 0, 9, 7]);
        server.end_of_input();
        assert_eq!(
            server.events(),
            [
                Happened::data(1, [7], false),
                Happened::Reset {
                    id: 1,
                    end: End::ConnectionLost
                }
            ]
        );
    }
}

#[test]
fn a_strict_session_ends_at_what_is_tolerated_otherwise() {
    for version in Version::ALL {
        for strict in [false, true] {
            let mut config = Config::default();
            config.strict = strict;
            let mut server = Machine::server(version).with(config);
            server.feed(frames::ping(version, 1).flag(0x80));
            if strict {
                server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
            } else {
                assert!(matches!(server.sent()[..], [Received::Ping(_)]));
                server.assert_usable();
            }
        }
    }
}
