//! Streams of the server (protocol.md §10, §23.12). What a push means in HTTP is tested with the
//! HTTP layer.

use spdy_frame::{RstStatus, StreamId, Version};
use spdy_session::{
    Config, OpenError,
    proto::{OpenOptions, Phase},
};
use spdy_tests::{
    frames,
    machine::{End, Happened, Machine, id, payload_of, request_block, reset},
    wire::Received,
};

fn push_of(request: u32) -> OpenOptions {
    OpenOptions::new()
        .unidirectional(true)
        .associated(id(request))
}

/// A client that accepts pushes, with stream 1 open.
fn client(version: Version) -> Machine {
    let mut config = Config::default();
    config.accept_push = true;
    let mut client = Machine::client(version).with(config);
    assert_eq!(client.exchange(), 1);
    client
}

#[test]
fn c167_a_push_is_unidirectional_and_names_its_request() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.request(1);
        assert_eq!(server.open(push_of(1)), 2);
        server.send(2, 10, true);
        let sent = server.sent();
        assert!(
            matches!(
                sent[0],
                Received::SynStream {
                    stream: 2,
                    associated: 1,
                    unidirectional: true,
                    fin: false,
                    ..
                }
            ),
            "{sent:?}"
        );
        assert_eq!(payload_of(2, &sent), 10);
        assert_eq!(server.connection.stats().local_streams, 0);
    }
}

#[test]
fn c169_nothing_is_pushed_for_a_request_that_is_answered_or_gone() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        for (stream, finish) in [(1, true), (3, false)] {
            server.upload(stream);
            server.reply(stream, finish);
            if !finish {
                server.connection.reset(id(stream), RstStatus::CANCEL);
            }
            let now = server.now();
            let pushed = server
                .connection
                .open(now, request_block(version), push_of(stream));
            assert!(matches!(pushed, Err(OpenError::NoAssociatedStream)));
        }
        let now = server.now();
        let pushed = server
            .connection
            .open(now, request_block(version), push_of(99));
        assert!(matches!(pushed, Err(OpenError::NoAssociatedStream)));
        server.sent();
        server.assert_usable();
    }
}

#[test]
fn c170_a_push_is_announced_before_the_data_that_refers_to_it() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.request(1);
        server.reply(1, false);
        server.open(push_of(1));
        server.send(1, 10, true);
        let sent = server.sent();
        assert!(
            matches!(
                sent[..],
                [
                    Received::SynReply { stream: 1, .. },
                    Received::SynStream { stream: 2, .. },
                    Received::Data { stream: 1, .. }
                ]
            ),
            "{sent:?}"
        );
    }
}

#[test]
fn c171_a_push_that_the_client_resets_stops_and_its_request_goes_on() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.request(1);
        server.reply(1, false);
        server.open(push_of(1));
        server.send(2, 10, false);
        server.sent();
        server.send(2, 1000, true);
        server.all_events();
        server.feed(frames::rst_stream(version, 2, RstStatus::CANCEL));
        let end = End::Remote(RstStatus::CANCEL);
        assert_eq!(server.all_events(), [Happened::Reset { id: 2, end }]);
        server.send(1, 20, true);
        let sent = server.sent();
        assert_eq!((payload_of(1, &sent), payload_of(2, &sent)), (20, 0));
        assert_eq!(server.connection.stats(), Default::default());
        server.assert_usable();
    }
}

#[test]
fn c172_headers_may_follow_a_push_before_its_data() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.request(1);
        server.open(push_of(1));
        let late = spdy_tests::machine::reply_block(version);
        server.connection.send_headers(id(2), late, false).unwrap();
        server.send(2, 10, true);
        let sent = server.sent();
        assert!(
            matches!(
                sent[..],
                [
                    Received::SynStream { stream: 2, .. },
                    Received::Headers {
                        stream: 2,
                        fin: false,
                        ..
                    },
                    Received::Data {
                        stream: 2,
                        fin: true,
                        ..
                    }
                ]
            ),
            "{sent:?}"
        );
    }
}

#[test]
fn a_push_outlives_its_request() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.request(1);
        server.reply(1, false);
        server.open(push_of(1));
        server.connection.finish(id(1)).unwrap();
        server.sent();
        assert_eq!(server.connection.stats().remote_streams, 0);
        server.send(2, 10, true);
        assert_eq!(payload_of(2, &server.sent()), 10);
        assert_eq!(server.connection.stats(), Default::default());
    }
}

#[test]
fn a_client_gets_pushes_it_has_asked_for() {
    for version in Version::ALL {
        let mut client = client(version);
        let push = frames::syn_stream(version, 2).get("/pushed");
        client.feed(push.unidirectional().associated(1));
        client.feed(frames::headers(version, 2).field("x-late", "yes"));
        client.feed(frames::data(2, "pushed").fin());
        let events = client.events();
        assert!(
            matches!(
                events[0],
                Happened::Opened {
                    id: 2,
                    associated: 1,
                    unidirectional: true,
                    ..
                }
            ),
            "{events:?}"
        );
        assert!(matches!(
            events[1],
            Happened::Headers {
                id: 2,
                fin: false,
                ..
            }
        ));
        assert_eq!(events[2], Happened::data(2, "pushed", true));
        client.connection.release(id(2));
        client.consume(2, 6);
        assert_eq!(client.connection.stats().remote_streams, 0);
        assert_eq!(client.sent(), []);
        client.assert_usable();
    }
}

#[test]
fn a_client_refuses_pushes_unless_it_has_asked_for_them() {
    for version in Version::ALL {
        let mut client = Machine::client(version);
        client.exchange();
        let push = frames::syn_stream(version, 2).get("/pushed");
        client.feed(push.unidirectional().associated(1));
        assert_eq!(client.sent(), [reset(2, RstStatus::REFUSED_STREAM)]);
        client.feed(frames::data(2, "pushed").fin());
        assert_eq!((client.sent(), client.events()), (vec![], vec![]));
        client.assert_usable();
    }
}

#[test]
fn c173_a_push_of_no_request_or_of_one_that_is_not_open_is_invalid() {
    for version in Version::ALL {
        let mut client = client(version);
        for (push, associated) in [(2, 0), (4, 99), (6, 2), (8, 8)] {
            let frame = frames::syn_stream(version, push).get("/pushed");
            client.feed(frame.unidirectional().associated(associated));
            assert_eq!(client.sent(), [reset(push, RstStatus::INVALID_STREAM)]);
        }
        assert_eq!(client.events(), []);
        client.assert_usable();
    }
}

#[test]
fn pushes_over_the_limit_are_refused() {
    for version in Version::ALL {
        let mut client = client(version);
        for n in 1..=101 {
            let push = frames::syn_stream(version, 2 * n).get("/pushed");
            client.feed(push.unidirectional().associated(1));
        }
        assert_eq!(client.sent(), [reset(202, RstStatus::REFUSED_STREAM)]);
        assert_eq!(client.events().len(), 100);
    }
}

#[test]
fn the_last_id_of_a_server_does_not_end_the_session_of_its_client() {
    for version in Version::ALL {
        let mut client = client(version);
        let last = StreamId::MAX.get() - 1;
        let push = frames::syn_stream(version, last).get("/pushed");
        client.feed(push.unidirectional().associated(1));
        assert_eq!(client.events().len(), 1);
        assert_eq!(client.connection.phase(), Phase::Open);
        client.assert_usable();
    }
}
