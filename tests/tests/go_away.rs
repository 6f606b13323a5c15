//! GOAWAY and the end of a session (protocol.md §23.7).

use std::time::Duration;

use spdy_frame::{GoAway, GoAwayStatus, RstStatus, Version};
use spdy_session::{
    Config, FlowControl, OpenError, SessionError,
    proto::{OpenOptions, Phase, Shutdown},
};
use spdy_tests::{
    frames,
    machine::{End, Happened, Machine, SINCE_V3, credit, id, payload_of, request_block, reset},
    wire::Received,
};

const GRACEFUL: Shutdown = Shutdown::Graceful { deadline: None };

fn go_away(last_good: u32) -> Received {
    Received::GoAway(GoAway {
        last_good: spdy_frame::StreamId::new(last_good),
        status: GoAwayStatus::OK,
    })
}

fn shut_down(machine: &mut Machine, how: Shutdown) {
    let now = machine.now();
    machine.connection.shutdown(now, how);
}

#[test]
fn c094_c095_a_graceful_end_lets_open_streams_finish() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.request(1);
        server.upload(3);
        shut_down(&mut server, GRACEFUL);
        assert_eq!(server.sent(), [go_away(3)]);
        assert_eq!(server.connection.phase(), Phase::Draining);
        server.respond(1, 10);
        assert_eq!(payload_of(1, &server.sent()), 10);
        server.feed(frames::data(3, "end").fin());
        assert_eq!(server.events(), [Happened::data(3, "end", true)]);
        assert_eq!(server.connection.phase(), Phase::Draining);
        server.respond(3, 10);
        assert_eq!(payload_of(3, &server.sent()), 10, "no second GOAWAY");
        assert_eq!(server.connection.phase(), Phase::Closing);
        assert!(server.connection.outcome().is_ok());
        assert_eq!(server.connection.poll_timeout(), None);
    }
}

#[test]
fn c096_without_a_stream_the_last_good_is_0() {
    for version in Version::ALL {
        for side in [Machine::server, Machine::client] {
            for how in [GRACEFUL, Shutdown::Now] {
                let mut machine = side(version);
                shut_down(&mut machine, how);
                assert_eq!(machine.sent(), [go_away(0)]);
                assert_eq!(machine.connection.phase(), Phase::Closing);
                assert!(machine.connection.outcome().is_ok());
            }
        }
    }
}

#[test]
fn c097_c098_streams_after_our_go_away_are_ignored_and_their_bytes_given_back() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.upload(1);
        shut_down(&mut server, GRACEFUL);
        server.sent();
        server.feed(
            frames::syn_stream(version, 3)
                .post("/late")
                .field("x-new", "late"),
        );
        let mut given_back = 0;
        // 3 MiB pass through a session window of 1 MiB.
        for _ in 0..192 {
            server.feed(frames::data(3, vec![0; 16 << 10]));
            for frame in server.sent() {
                let Received::WindowUpdate(update) = frame else {
                    panic!("no frame is answered: {frame:?}");
                };
                assert_eq!(update.target, spdy_frame::WindowTarget::Session);
                given_back += update.increment.get();
            }
        }
        let expected = if version == Version::V3_1 { 3 << 20 } else { 0 };
        assert_eq!(given_back, expected);
        server.feed(frames::rst_stream(version, 3, RstStatus::CANCEL));
        server.feed(frames::headers(version, 3).field("x-trailer", "late").fin());
        assert_eq!((server.sent(), server.events()), (vec![], vec![]));

        server.feed(
            frames::headers(version, 1)
                .field("x-trailer", "sound")
                .fin(),
        );
        let fields = vec![("x-trailer".into(), "sound".into())];
        let trailers = Happened::Headers {
            id: 1,
            fields,
            fin: true,
        };
        assert_eq!(server.events(), [trailers]);
        server.reply(1, true);
        server.sent();
        assert_eq!(server.connection.phase(), Phase::Closing);
        assert_eq!(server.connection.stats(), Default::default());
    }
}

#[test]
fn c099_the_peers_go_away_lets_the_response_finish_and_stops_pushes() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.request(1);
        server.reply(1, false);
        server.send(1, 100, false);
        server.sent();
        server.events();
        server.feed(frames::go_away(version, 0, GoAwayStatus::OK));
        let status = GoAwayStatus::OK;
        assert_eq!(
            server.events(),
            [Happened::GoAway {
                last_good: 0,
                status
            }]
        );
        let push = OpenOptions::new().unidirectional(true).associated(id(1));
        let now = server.now();
        let pushed = server.connection.open(now, request_block(version), push);
        assert!(matches!(pushed, Err(OpenError::GoingAway)));
        assert_eq!(server.sent(), []);
        server.send(1, 100, true);
        let sent = server.sent();
        assert_eq!(payload_of(1, &sent), 100);
        assert_eq!(sent.last(), Some(&go_away(1)));
        assert_eq!(server.connection.phase(), Phase::Closing);
        assert!(server.connection.outcome().is_ok());
    }
}

#[test]
fn c100_streams_above_the_last_good_may_be_tried_again() {
    for version in Version::ALL {
        let mut client = Machine::client(version);
        let streams = [(); 4].map(|()| client.open(OpenOptions::default()));
        assert_eq!(streams, [1, 3, 5, 7]);
        client.sent();
        client.feed(frames::go_away(version, 3, GoAwayStatus::OK));
        let events = client.events();
        let lost = [5, 7].map(|id| Happened::Reset {
            id,
            end: End::NotProcessed,
        });
        assert!(matches!(events[0], Happened::GoAway { last_good: 3, .. }));
        assert!(events.len() == 3 && lost.iter().all(|event| events.contains(event)));
        for stream in [1, 3] {
            client.feed(frames::syn_reply(version, stream).status("200 OK").fin());
            assert!(matches!(client.events()[..], [Happened::Replied { .. }]));
            client.send(stream, 10, true);
            assert_eq!(payload_of(stream, &client.sent()), 10);
        }
        assert_eq!(client.connection.phase(), Phase::Closing);
    }
}

#[test]
fn c101_after_the_peers_go_away_nothing_is_opened() {
    for version in Version::ALL {
        let mut client = Machine::client(version);
        client.exchange();
        client.feed(frames::go_away(version, 1, GoAwayStatus::OK));
        assert!(!client.connection.can_open());
        let now = client.now();
        let error = client
            .connection
            .open(now, request_block(version), OpenOptions::default());
        assert!(matches!(error, Err(OpenError::GoingAway)));
        assert_eq!(client.sent(), []);
    }
}

#[test]
fn c102_goaway_with_the_error_is_sent_before_the_close() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.request(1);
        server.respond(1, 10_000);
        server.feed(frames::data(0, []));
        let (last_good, before) = server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
        assert_eq!((last_good, before), (1, vec![]));
        assert_eq!(
            server.events(),
            [Happened::Reset {
                id: 1,
                end: End::Session
            }]
        );
        assert!(matches!(
            server.connection.outcome(),
            Err(SessionError::Frame(_))
        ));
        // What comes after it does not matter any more.
        server.feed(frames::ping(version, 1));
        assert_eq!(server.sent(), []);
        assert_eq!(server.connection.poll_timeout(), None);
    }
}

#[test]
fn c103_an_idle_session_ends_with_go_away() {
    for version in Version::ALL {
        for side in [Machine::server, Machine::client] {
            let mut machine = side(version);
            machine.feed(frames::settings(version, &[(4, 100)]));
            machine.advance(Duration::from_secs(179));
            assert_eq!(machine.connection.phase(), Phase::Open);
            machine.feed(frames::settings(version, &[(4, 100)]));
            machine.advance(Duration::from_secs(179));
            assert_eq!(machine.connection.phase(), Phase::Open, "a frame came");
            machine.advance(Duration::from_secs(1));
            assert_eq!(machine.sent(), [go_away(0)]);
            assert_eq!(machine.connection.phase(), Phase::Closing);
            assert!(machine.connection.outcome().is_ok());
        }
    }
}

#[test]
fn a_session_with_a_stream_is_not_idle_and_a_long_response_is_no_idle_time() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.request(1);
        server.advance(Duration::from_secs(3600));
        server.respond(1, 10);
        assert_eq!(payload_of(1, &server.sent()), 10);
        server.advance(Duration::from_secs(179));
        server.assert_usable();
    }
}

#[test]
fn a_client_that_sends_no_frame_is_sent_goaway() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.advance(Duration::from_secs(9));
        assert_eq!(server.connection.phase(), Phase::Open);
        server.advance(Duration::from_secs(1));
        assert_eq!(server.assert_goes_away(GoAwayStatus::OK), (0, vec![]));
        let mut client = Machine::client(version);
        client.advance(Duration::from_secs(60));
        assert_eq!(
            client.connection.phase(),
            Phase::Open,
            "a server may be silent"
        );
    }
}

#[test]
fn c104_a_go_away_with_an_error_ends_the_session_with_it() {
    for version in SINCE_V3 {
        for status in [1, 2, 11, 99].map(GoAwayStatus) {
            let mut client = Machine::client(version);
            let stream = client.exchange();
            client.feed(frames::go_away(version, stream, status));
            assert_eq!(
                client.events(),
                [Happened::GoAway {
                    last_good: stream,
                    status
                }]
            );
            client.feed(frames::data(stream, "rest").fin());
            client.send(stream, 1, true);
            client.sent();
            assert_eq!(client.connection.phase(), Phase::Closing);
            let outcome = client.connection.outcome();
            assert!(
                matches!(outcome, Err(SessionError::GoAway { status: found, .. }) if *found == status),
                "{outcome:?}"
            );
        }
    }
}

#[test]
fn c105_spdy_2_accepts_a_go_away_with_a_status() {
    let version = Version::V2;
    let mut server = Machine::server(version);
    server.request(1);
    server.feed(frames::go_away(version, 0, GoAwayStatus::OK).more(&[0; 4]));
    let status = GoAwayStatus::OK;
    assert_eq!(
        server.events(),
        [Happened::GoAway {
            last_good: 0,
            status
        }]
    );
    server.respond(1, 3);
    assert_eq!(payload_of(1, &server.sent()), 3);
    for version in SINCE_V3 {
        let mut server = Machine::server(version);
        server.feed(frames::control(version, 7, [0; 4]));
        server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
    }
}

#[test]
fn a_graceful_end_has_a_deadline() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.upload(1);
        // A stream that was refused does not lift the id of the second GOAWAY.
        server.feed(
            frames::syn_stream(version, 3)
                .field("x", "y")
                .plain_block([0xff; 40]),
        );
        assert_eq!(server.sent(), [reset(3, RstStatus::PROTOCOL_ERROR)]);
        let deadline = Some(Duration::from_secs(5));
        shut_down(&mut server, Shutdown::Graceful { deadline });
        shut_down(&mut server, GRACEFUL);
        assert_eq!(server.sent(), [go_away(1)]);
        server.advance(Duration::from_secs(4));
        assert_eq!(server.connection.phase(), Phase::Draining);
        server.advance(Duration::from_secs(1));
        assert_eq!(server.assert_goes_away(GoAwayStatus::OK), (1, vec![]));
        assert_eq!(
            server.events(),
            [Happened::Reset {
                id: 1,
                end: End::Session
            }]
        );
    }
}

#[test]
fn ending_now_fails_what_is_open_and_is_an_orderly_end() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.upload(1);
        server.reply(1, false);
        server.send(1, 1000, true);
        shut_down(&mut server, Shutdown::Now);
        assert_eq!(server.sent(), [go_away(1)]);
        assert_eq!(
            server.all_events(),
            [Happened::Reset {
                id: 1,
                end: End::Session
            }]
        );
        assert!(server.connection.outcome().is_ok());
        assert_eq!(server.connection.stats(), Default::default());
    }
}

#[test]
fn without_flow_control_go_away_comes_last() {
    let version = Version::V3_1;
    let mut config = Config::default();
    config.flow_control = FlowControl::Off;
    let mut server = Machine::server(version).with(config);
    server.upload(1);
    shut_down(&mut server, GRACEFUL);
    assert_eq!(server.sent(), []);
    server.feed(frames::syn_stream(version, 3).get("/").fin());
    assert_eq!(server.sent(), [reset(3, RstStatus::REFUSED_STREAM)]);
    server.feed(frames::data(1, "end").fin());
    server.respond(1, 10);
    let sent = server.sent();
    assert_eq!(payload_of(1, &sent), 10);
    assert_eq!(sent.last(), Some(&go_away(1)));
    assert_eq!(server.connection.phase(), Phase::Closing);
}

#[test]
fn credit_is_still_given_while_the_session_drains() {
    let version = Version::V3_1;
    let mut server = Machine::server(version);
    server.upload(1);
    shut_down(&mut server, GRACEFUL);
    server.sent();
    server.feed(frames::data(1, vec![0; 100_000]));
    server.consume(1, 100_000);
    assert_eq!(server.sent(), [credit(1, 100_000)]);
}
