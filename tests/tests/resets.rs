//! RST_STREAM in both directions (protocol.md §23.4).

use spdy_frame::{GoAwayStatus, RstStatus, Version};
use spdy_session::{Config, proto::OpenOptions};
use spdy_tests::{
    frames,
    machine::{End, Happened, Machine, SINCE_V3, id, packed_requests, payload_of, reset},
};

#[test]
fn c061_nothing_is_sent_on_a_stream_after_the_peer_resets_it() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.request(1);
        server.reply(1, false);
        server.send(1, 1000, false);
        server.sent();
        server.send(1, 1000, true);
        server.all_events();
        server.feed(frames::rst_stream(version, 1, RstStatus::CANCEL));
        let end = End::Remote(RstStatus::CANCEL);
        assert_eq!(server.all_events(), [Happened::Reset { id: 1, end }]);
        assert_eq!(server.sent(), []);
        assert!(
            server
                .connection
                .send_data(id(1), "x".into(), false)
                .is_err()
        );
        assert_eq!(server.all_events(), []);
        server.assert_usable();
    }
}

#[test]
fn c061_no_event_follows_the_reset_of_a_stream() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.upload(1);
        server.respond(1, 100);
        assert!(server.unsent_bytes() > 0, "FIN is prepared and not written");
        server.all_events();
        server.feed(frames::rst_stream(version, 1, RstStatus::CANCEL));
        assert_eq!(server.all_events().len(), 1);
        server.sent();
        assert_eq!(server.all_events(), []);
        server.connection.release(id(1));
        assert_eq!(server.connection.stats(), Default::default());
    }
}

#[test]
fn c062_a_reset_of_a_stream_that_is_not_open_is_ignored() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.request(5);
        server.reply(5, true);
        server.sent();
        server.all_events();
        for stream in [1, 2, 5, 9, 10, 0x7fff_ffff] {
            server.feed(frames::rst_stream(version, stream, RstStatus::CANCEL));
        }
        assert_eq!(server.sent(), []);
        assert_eq!(server.all_events(), []);
        server.assert_usable();
    }
}

#[test]
fn c063_a_reset_is_not_answered_with_a_reset() {
    for version in Version::ALL {
        for side in [Machine::server, Machine::client] {
            let mut machine = side(version);
            machine.feed(frames::data(99, []));
            machine.feed(frames::data(98, []));
            assert_eq!(
                machine.sent(),
                [99, 98].map(|stream| reset(stream, RstStatus::INVALID_STREAM))
            );
            for stream in [99, 98] {
                machine.feed(frames::rst_stream(
                    version,
                    stream,
                    RstStatus::INVALID_STREAM,
                ));
            }
            assert_eq!(machine.sent(), []);
            machine.assert_usable();
        }
    }
}

#[test]
fn c064_data_behind_a_full_window_is_dropped_with_its_stream() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version);
        server.feed(frames::settings(version, &[(7, 1000)]));
        server.request(1);
        server.request(3);
        server.respond(1, 100_000);
        server.respond(3, 1000);
        let sent = server.sent();
        assert_eq!((payload_of(1, &sent), payload_of(3, &sent)), (1000, 1000));
        assert_eq!(server.connection.stats().unsent, 99_000);
        server.feed(frames::rst_stream(version, 1, RstStatus::CANCEL));
        assert_eq!(server.connection.stats().unsent, 0);
        server.feed(frames::window_update(version, 1, 1000));
        assert_eq!(server.sent(), []);
        server.assert_usable();
    }
}

#[test]
fn c064_in_spdy_2_queued_data_is_dropped_with_its_stream() {
    let version = Version::V2;
    let mut server = Machine::server(version);
    server.request(1);
    server.request(3);
    server.respond(1, 1_000_000);
    server.respond(3, 1000);
    let prepared = server.unsent_bytes();
    assert!(prepared < 100_000, "{prepared}");
    server.feed(frames::rst_stream(version, 1, RstStatus::CANCEL));
    assert_eq!(server.connection.stats().unsent, 0);
    let sent = server.sent();
    assert!(payload_of(1, &sent) < prepared);
    assert_eq!(payload_of(3, &sent), 1000);
    server.assert_usable();
}

#[test]
fn c064_a_stream_that_waited_for_the_session_window_leaves_no_trace() {
    let version = Version::V3_1;
    let mut server = Machine::server(version);
    for stream in [1, 3, 5] {
        server.request(stream);
    }
    for stream in [1, 3, 5] {
        server.respond(stream, 60_000);
    }
    let sent = server.sent();
    let total: usize = [1, 3, 5]
        .map(|stream| payload_of(stream, &sent))
        .iter()
        .sum();
    assert_eq!(total, 65_536);
    server.feed(frames::rst_stream(version, 3, RstStatus::CANCEL));
    server.feed(frames::window_update(version, 0, 1 << 20));
    let sent = server.sent();
    assert_eq!(payload_of(3, &sent), 0);
    assert!(payload_of(1, &sent) > 0 && payload_of(5, &sent) > 0);
    server.connection.release(id(3));
    assert_eq!(server.connection.stats(), Default::default());
}

#[test]
fn c065_any_status_closes_the_stream() {
    for version in Version::ALL {
        for status in [0, 1, 4, 8, 10, 11, 99, u32::MAX].map(RstStatus) {
            let mut server = Machine::server(version);
            server.upload(1);
            server.feed(frames::rst_stream(version, 1, status));
            let end = End::Remote(status);
            assert_eq!(server.events(), [Happened::Reset { id: 1, end }]);
            assert_eq!(server.sent(), []);
            server.assert_usable();
        }
    }
}

#[test]
fn a_refused_stream_may_be_tried_again() {
    for version in Version::ALL {
        let mut client = Machine::client(version);
        let stream = client.open(OpenOptions::default());
        client.sent();
        client.feed(frames::rst_stream(
            version,
            stream,
            RstStatus::REFUSED_STREAM,
        ));
        let end = End::NotProcessed;
        assert_eq!(client.events(), [Happened::Reset { id: stream, end }]);
        client.assert_usable();
    }
}

#[test]
fn c066_a_reset_that_is_too_short_ends_the_session() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.upload(1);
        server.feed(frames::control(version, 3, [0, 0, 0, 1]));
        assert_eq!(server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR).0, 1);

        let mut server = Machine::server(version);
        server.feed(frames::rst_stream(version, 0, RstStatus::CANCEL));
        server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
    }
}

#[test]
fn c067_bytes_behind_the_status_are_ignored() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.upload(1);
        server
            .feed(frames::rst_stream(version, 1, RstStatus::CANCEL).more(b"twenty bytes of it.."));
        let end = End::Remote(RstStatus::CANCEL);
        assert_eq!(server.events(), [Happened::Reset { id: 1, end }]);
        server.assert_usable();
    }
}

/// The machine of the tests asserts this for everything that is sent; here an application asks for
/// what does not exist.
#[test]
fn c068_only_statuses_that_the_version_has_are_sent() {
    for version in Version::ALL {
        let highest = if version == Version::V2 { 7 } else { 11 };
        for status in [0, 1, 3, 7, 8, 10, 11, 12, 99, u32::MAX] {
            let mut server = Machine::server(version);
            server.upload(1);
            server.connection.reset(id(1), RstStatus(status));
            let exists =
                (1..=highest).contains(&status) && (version, status) != (Version::V3_1, 10);
            let expected = if exists {
                RstStatus(status)
            } else {
                RstStatus::PROTOCOL_ERROR
            };
            assert_eq!(server.sent(), [reset(1, expected)]);
        }
    }
}

#[test]
fn c069_frames_that_cross_our_reset_are_not_answered() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.upload(1);
        server.connection.reset(id(1), RstStatus::CANCEL);
        assert_eq!(server.sent(), [reset(1, RstStatus::CANCEL)]);
        for _ in 0..10 {
            server.feed(frames::data(1, vec![0; 1000]));
        }
        server.feed(frames::headers(version, 1).field("x-trailer", "late").fin());
        assert_eq!(server.sent(), [], "nothing is said twice");
        server.events();
        server.assert_usable();
    }
}

#[test]
fn c070_resetting_a_request_stops_its_pushes() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.request(1);
        server.request(3);
        server.reply(1, false);
        let push = |associated: u32| {
            OpenOptions::new()
                .unidirectional(true)
                .associated(id(associated))
        };
        let pushes = [1, 1, 3].map(|request| server.open(push(request)));
        server.sent();
        server.all_events();
        server.feed(frames::rst_stream(version, 1, RstStatus::CANCEL));
        assert_eq!(
            server.sent(),
            [2, 4].map(|push| reset(push, RstStatus::CANCEL))
        );
        let end = End::Remote(RstStatus::CANCEL);
        assert_eq!(
            server.events(),
            [1, 2, 4].map(|id| Happened::Reset { id, end })
        );
        server.send(pushes[2], 10, true);
        assert_eq!(
            payload_of(6, &server.sent()),
            10,
            "the push of stream 3 goes on"
        );
        server.assert_usable();
    }
}

#[test]
fn a_stream_that_was_never_sent_is_not_reset_on_the_wire() {
    for version in Version::ALL {
        let mut client =
            Machine::client(version).alone("a handle is there when SYN_STREAM is prepared");
        let stream = client.open(OpenOptions::default());
        client.connection.reset(id(stream), RstStatus::CANCEL);
        assert_eq!(client.sent(), []);
        let end = End::Local(RstStatus::CANCEL);
        assert_eq!(client.events(), [Happened::Reset { id: stream, end }]);
        client.assert_usable();
    }
}

#[test]
fn header_blocks_of_closed_streams_advance_the_compression_context() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        let [first, second] = packed_requests(version);
        // The first one comes for an id that was just refused.
        server.feed(frames::data(1, []));
        server.events();
        server.feed_bytes(&first);
        server.connection.reset(id(1), RstStatus::REFUSED_STREAM);
        server.events();
        server.feed_bytes(&second);
        assert!(matches!(
            server.events()[..],
            [Happened::Opened { id: 3, .. }]
        ));
    }
}

#[test]
fn a_place_is_free_again_when_the_application_has_noticed_the_reset() {
    for version in Version::ALL {
        let mut config = Config::default();
        config.limits.max_streams = 1;
        let mut server = Machine::server(version).with(config.clone());
        server.upload(1);
        server.accept(1);
        server.feed(frames::rst_stream(version, 1, RstStatus::CANCEL));
        server.feed(frames::syn_stream(version, 3).get("/"));
        assert_eq!(server.sent(), [reset(3, RstStatus::REFUSED_STREAM)]);
        server.connection.release(id(1));
        server.assert_usable();

        // The other order: the application lost interest before the peer did.
        let mut server = Machine::server(version).with(config);
        server.upload(1);
        server.respond(1, 10);
        server.sent();
        server.connection.stop_reading(id(1));
        server.connection.release(id(1));
        server.feed(frames::rst_stream(version, 1, RstStatus::CANCEL));
        assert_eq!(server.connection.stats(), Default::default());
        server.assert_usable();
    }
}
