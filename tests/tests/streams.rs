//! How streams begin: ids, SYN_STREAM and SYN_REPLY (protocol.md §23.3).

use spdy_frame::{GoAwayStatus, Priority, RstStatus, Side, StreamId, Version};
use spdy_session::{
    Config, OpenError,
    proto::{OpenOptions, Phase},
};
use spdy_tests::{
    frames,
    machine::{
        End, Happened, Machine, SINCE_V3, id, packed_requests, payload_of, request_block, reset,
    },
    wire::Received,
};

#[test]
fn c032_a_request_gets_its_reply_its_data_and_one_fin() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.request(1);
        server.respond(1, 5);
        let sent = server.sent();
        assert!(
            matches!(
                sent[0],
                Received::SynReply {
                    stream: 1,
                    fin: false,
                    ..
                }
            ),
            "{sent:?}"
        );
        let data = Received::Data {
            stream: 1,
            fin: true,
            payload: "xxxxx".into(),
        };
        assert_eq!(sent[1..], [data]);
        assert_eq!(
            server.all_events(),
            [
                Happened::Sent {
                    id: 1,
                    bytes: 5,
                    fin: false
                },
                Happened::Sent {
                    id: 1,
                    bytes: 0,
                    fin: true
                }
            ]
        );
        assert_eq!(server.connection.stats(), Default::default());
    }
}

#[test]
fn c033_ids_may_have_gaps() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        for stream in [5, 7, 999_999] {
            server.feed(frames::syn_stream(version, stream).get("/").fin());
            assert_eq!(server.events()[0].stream(), Some(stream));
            server.reply(stream, true);
            assert_eq!(server.sent().len(), 1);
        }
        server.assert_usable();
    }
}

#[test]
fn c034_a_lower_id_than_before_ends_the_session() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version);
        server.request(5);
        server.feed(frames::syn_stream(version, 3).get("/"));
        assert_eq!(server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR).0, 5);
        assert_eq!(
            server.events(),
            [Happened::Reset {
                id: 5,
                end: End::Session
            }]
        );
    }
}

#[test]
fn c035_in_spdy_2_a_lower_id_than_before_resets_only_its_stream() {
    let mut server = Machine::server(Version::V2);
    server.request(5);
    server.feed(frames::syn_stream(Version::V2, 3).get("/"));
    assert_eq!(server.sent(), [reset(3, RstStatus::PROTOCOL_ERROR)]);
    assert_eq!(server.events(), []);
    server.assert_usable();
}

#[test]
fn c036_an_id_that_is_in_use_resets_the_stream() {
    for version in Version::ALL {
        for higher in [false, true] {
            let mut server = Machine::server(version);
            server.upload(1);
            if higher {
                server.upload(3);
            }
            server.feed(frames::syn_stream(version, 1).get("/again"));
            assert_eq!(server.sent(), [reset(1, RstStatus::PROTOCOL_ERROR)]);
            let end = End::Library(RstStatus::PROTOCOL_ERROR);
            assert_eq!(server.events(), [Happened::Reset { id: 1, end }]);
            server.assert_usable();
        }
    }
}

#[test]
fn the_last_id_again_after_its_stream_closed_is_answered_with_a_reset() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.request(1);
        server.reply(1, true);
        server.sent();
        server.feed(frames::syn_stream(version, 1).get("/again"));
        assert_eq!(server.sent(), [reset(1, RstStatus::PROTOCOL_ERROR)]);
        server.assert_usable();
    }
}

#[test]
fn c037_an_id_of_the_servers_parity_ends_the_session() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version);
        server.feed(frames::syn_stream(version, 2).get("/"));
        assert_eq!(server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR).0, 0);
        let mut client = Machine::client(version);
        client.feed(frames::syn_stream(version, 1).get("/"));
        client.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
    }
}

#[test]
fn c038_in_spdy_2_an_id_of_the_servers_parity_resets_only_its_stream() {
    let mut server = Machine::server(Version::V2);
    server.feed(frames::syn_stream(Version::V2, 2).get("/"));
    assert_eq!(server.sent(), [reset(2, RstStatus::PROTOCOL_ERROR)]);
    server.assert_usable();
}

#[test]
fn c039_c176_id_0_ends_the_session() {
    for version in Version::ALL {
        for side in [Machine::server, Machine::client] {
            let mut machine = side(version);
            machine.feed(frames::syn_stream(version, 0).get("/"));
            machine.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
        }
    }
}

#[test]
fn c040_c041_a_stream_with_the_last_id_is_served_and_the_session_drains() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.upload(1);
        let last = StreamId::MAX.get();
        server.request(last);
        server.respond(last, 3);
        let sent = server.sent();
        let Received::GoAway(frame) = &sent[0] else {
            panic!("GOAWAY comes first: {sent:?}");
        };
        assert_eq!(frame.last_good, Some(StreamId::MAX));
        assert_eq!(frame.status, GoAwayStatus::OK);
        assert_eq!(payload_of(last, &sent), 3);
        assert_eq!(server.connection.phase(), Phase::Draining);
        server.respond(1, 3);
        server.feed(frames::data(1, []).fin());
        assert_eq!(payload_of(1, &server.sent()), 3);
        assert_eq!(server.connection.phase(), Phase::Closing);
        assert!(server.connection.outcome().is_ok());
    }
}

#[test]
fn c042_a_client_without_ids_opens_nothing() {
    for version in Version::ALL {
        let mut client = Machine::client(version);
        client.connection.skip_to(StreamId::MAX);
        assert_eq!(client.open(OpenOptions::default()), StreamId::MAX.get());
        assert_eq!(client.sent().len(), 1);
        assert!(!client.connection.can_open());
        let now = client.now();
        let error = client
            .connection
            .open(now, request_block(version), OpenOptions::default());
        assert!(matches!(error, Err(OpenError::IdsExhausted)));
        assert!(
            matches!(client.sent()[..], [Received::GoAway(_)]),
            "it is known that the session is used up"
        );
        assert_eq!(client.connection.phase(), Phase::Draining);
    }
}

#[test]
fn c043_c044_ids_start_at_the_sides_first_and_rise() {
    for version in Version::ALL {
        for side in [Side::Server, Side::Client] {
            let mut machine = Machine::new(side, version, Config::default());
            // Whatever their priority, streams leave in the order of their ids.
            for priority in [7, 0, 3, 1] {
                machine.open(OpenOptions::new().priority(Priority::new(priority).unwrap()));
            }
            let ids: Vec<u32> = machine
                .sent()
                .iter()
                .map(|frame| match frame {
                    Received::SynStream { stream, .. } => *stream,
                    other => panic!("only streams are opened: {other:?}"),
                })
                .collect();
            let first = side.first_id();
            assert_eq!(ids, [first, first + 2, first + 4, first + 6]);
        }
    }
}

#[test]
fn c045_a_body_that_comes_before_any_reply_is_complete() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.upload(1);
        server.feed(frames::data(1, "one"));
        server.feed(frames::data(1, "two").fin());
        assert_eq!(
            server.events(),
            [
                Happened::data(1, "one", false),
                Happened::data(1, "two", true)
            ]
        );
    }
}

#[test]
fn c046_a_stream_that_is_closed_with_its_first_frame_is_not_answered() {
    for version in Version::ALL {
        for accepted in [true, false] {
            let mut server = Machine::server(version);
            server.feed(
                frames::syn_stream(version, 1)
                    .get("/")
                    .fin()
                    .unidirectional(),
            );
            assert!(matches!(
                server.events()[..],
                [Happened::Opened {
                    id: 1,
                    fin: true,
                    unidirectional: true,
                    ..
                }]
            ));
            if accepted {
                server.accept(1);
            } else {
                server.connection.reset(id(1), RstStatus::REFUSED_STREAM);
            }
            server.connection.release(id(1));
            assert!(
                server
                    .connection
                    .send_reply(id(1), Default::default(), true)
                    .is_err()
            );
            assert_eq!(server.sent(), []);
            assert_eq!(server.connection.stats(), Default::default());
            server.assert_usable();
        }
    }
}

#[test]
fn streams_that_close_with_their_first_frame_are_bounded_like_all_others() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        for n in 0..150 {
            server.feed(
                frames::syn_stream(version, 2 * n + 1)
                    .fin()
                    .unidirectional(),
            );
        }
        assert_eq!(server.events().len(), 100);
        for n in 0..100 {
            server.accept(2 * n + 1);
            server.connection.release(id(2 * n + 1));
        }
        assert_eq!(server.connection.stats(), Default::default());
    }
}

#[test]
fn c056_a_stream_over_the_limit_is_refused_and_the_others_live() {
    for version in Version::ALL {
        let mut config = Config::default();
        config.limits.max_streams = 2;
        let mut server = Machine::server(version).with(config);
        server.upload(1);
        server.upload(3);
        server.feed(frames::syn_stream(version, 5).get("/").fin());
        assert_eq!(server.events(), []);
        assert_eq!(server.sent(), [reset(5, RstStatus::REFUSED_STREAM)]);
        for stream in [1, 3] {
            server.feed(frames::data(stream, "still here").fin());
            assert_eq!(
                server.events(),
                [Happened::data(stream, "still here", true)]
            );
            server.respond(stream, 3);
            assert_eq!(payload_of(stream, &server.sent()), 3);
        }
        server.assert_usable();
    }
}

#[test]
fn c057_the_header_block_of_a_refused_stream_advances_the_compression_context() {
    for version in Version::ALL {
        let mut config = Config::default();
        config.limits.max_streams = 0;
        let mut server = Machine::server(version).with(config);
        let [first, second] = packed_requests(version);
        server.feed_bytes(&first);
        server.feed_bytes(&second);
        assert_eq!(
            server.sent(),
            [1, 3].map(|stream| reset(stream, RstStatus::REFUSED_STREAM))
        );
        assert_eq!(server.connection.phase(), Phase::Open);

        // The same with room for the second stream.
        let mut config = Config::default();
        config.limits.max_streams = 1;
        let mut server = Machine::server(version).with(config);
        server.feed_bytes(&first);
        server.connection.reset(id(1), RstStatus::REFUSED_STREAM);
        server.events();
        server.feed_bytes(&second);
        let events = server.events();
        let [Happened::Opened { id: 3, fields, .. }] = &events[..] else {
            panic!("{events:?}");
        };
        let host = if version == Version::V2 {
            "host"
        } else {
            ":host"
        };
        assert!(
            fields.contains(&(host.into(), "a.test".into())),
            "{fields:?}"
        );
    }
}

#[test]
fn c058_c059_the_priority_has_two_bits_in_spdy_2_and_three_later() {
    for (version, priority) in [(Version::V2, 3), (Version::V3, 7), (Version::V3_1, 7)] {
        let mut server = Machine::server(version);
        server.feed(frames::syn_stream(version, 1).priority_bytes([0xe0, 0]));
        let events = server.events();
        assert!(
            matches!(events[..], [Happened::Opened { priority: found, .. }] if found == priority),
            "{events:?}"
        );
    }
}

#[test]
fn c060_the_slot_is_ignored() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.feed(
            frames::syn_stream(version, 1)
                .get("/")
                .priority_bytes([0x20, 9])
                .fin(),
        );
        assert_eq!(server.events().len(), 1);
        server.assert_usable();
    }
}
