//! Peers that mean no good, and transports that fail (protocol.md §23.14).

use std::{sync::Arc, time::Duration};

use spdy_frame::{GoAwayStatus, RstStatus, Side, Version};
use spdy_session::{
    Config, SessionError, Shutdown, Timeout,
    proto::{OpenOptions, Phase},
};
use spdy_tests::{
    frames,
    machine::{
        End, Happened, Machine, SINCE_V3, id, payload_of, reply_block, request_block, reset,
    },
    pair::Pair,
    wire::Received,
};

#[test]
fn c206_opening_and_resetting_for_ever_ends_the_session() {
    for version in Version::ALL {
        for released in [false, true] {
            let mut server = Machine::server(version);
            let mut rounds = 0;
            while server.connection.phase() == Phase::Open {
                let stream = 2 * rounds + 1;
                server.feed(frames::syn_stream(version, stream).get("/").fin());
                server.feed(frames::rst_stream(version, stream, RstStatus::CANCEL));
                if released {
                    server.connection.release(id(stream));
                }
                let stats = server.connection.stats();
                assert!(stats.remote_streams + stats.cancelled <= 100, "{stats:?}");
                server.sent_bytes();
                rounds += 1;
                assert!(rounds < 20_000);
            }
            assert!(rounds > 1000);
            let opened = server.events();
            let ended = |event: &&Happened| matches!(event, Happened::Reset { .. });
            assert_eq!(opened.iter().filter(ended).count() * 2, opened.len());
        }
    }
}

#[test]
fn resets_that_are_spread_over_time_are_forgiven() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        for n in 0..5000 {
            server.feed(frames::syn_stream(version, 2 * n + 1).get("/").fin());
            server.feed(frames::rst_stream(version, 2 * n + 1, RstStatus::CANCEL));
            server.connection.release(id(2 * n + 1));
            server.advance(Duration::from_millis(31));
        }
        server.assert_usable();
    }
}

#[test]
fn making_the_server_reset_for_ever_ends_the_session() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        let mut rounds = 0;
        while server.connection.phase() == Phase::Open {
            let stream = 2 * rounds + 1;
            server.feed(frames::syn_stream(version, stream).get("/").fin());
            server.feed(frames::data(stream, "after FIN"));
            assert!(server.connection.stats().cancelled <= 100);
            server.sent_bytes();
            rounds += 1;
            assert!(rounds < 2000);
        }
        assert!(rounds >= 1000, "{rounds}");
    }
}

#[test]
fn c207_a_peer_that_stops_reading_is_cut_off() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        if version != Version::V2 {
            server.feed(frames::settings(version, &[(7, 0x7fff_ffff)]));
            server.feed(frames::window_update(version, 0, 1 << 30));
        }
        server.request(1);
        server.respond(1, 10 << 20);
        assert!(server.unsent_bytes() < 100_000);
        server.advance(Duration::from_secs(29));
        assert!(server.unsent_bytes() < 100_000);
        assert_eq!(server.connection.phase(), Phase::Open);
        server.all_events();
        server.advance(Duration::from_secs(1));
        assert_eq!(server.connection.phase(), Phase::Closing);
        assert!(matches!(
            server.connection.outcome(),
            Err(SessionError::TimedOut(Timeout::Write))
        ));
        assert_eq!(
            server.all_events(),
            [Happened::Reset {
                id: 1,
                end: End::Session
            }]
        );
        assert_eq!(server.sent(), [], "the output is not read");
        assert_eq!(server.connection.poll_timeout(), None);
        assert_eq!(server.connection.stats(), Default::default());
    }
}

#[test]
fn a_peer_that_does_not_read_the_end_of_a_session_is_cut_off_too() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.request(1);
        server.respond(1, 10_000);
        server.feed(frames::go_away(version, 0, GoAwayStatus::OK));
        assert!(server.unsent_bytes() > 10_000);
        assert_eq!(server.connection.phase(), Phase::Closing);
        server.all_events();
        server.advance(Duration::from_secs(30));
        assert_eq!(
            server.all_events(),
            [Happened::Reset {
                id: 1,
                end: End::Session
            }]
        );
        assert_eq!(server.connection.poll_timeout(), None);
        assert!(server.connection.outcome().is_err());
        assert_eq!(server.sent(), []);
    }
}

#[test]
fn c208_streams_that_nobody_accepts_are_bounded() {
    for version in Version::ALL {
        let mut config = Config::default();
        config.limits.max_backlog = 10;
        let mut server = Machine::server(version).with(config);
        for n in 0..12 {
            server.feed(frames::syn_stream(version, 2 * n + 1).get("/"));
        }
        assert_eq!(server.events().len(), 10);
        assert_eq!(
            server.sent(),
            [21, 23].map(|stream| reset(stream, RstStatus::REFUSED_STREAM))
        );
        server.accept(1);
        server.accept(1);
        server.reply(3, true);
        assert_eq!(server.connection.stats().backlog, 8);
        server.assert_usable();
    }
}

#[test]
fn c209_random_bytes_end_the_session_without_a_crash() {
    let mut random = fastrand(7);
    for version in Version::ALL {
        for side in [Machine::server, Machine::client] {
            for _ in 0..300 {
                let mut machine = side(version);
                let bytes: Vec<u8> = (0..200).map(|_| random() as u8).collect();
                machine.feed_bytes(&bytes);
                machine.sent();
                // Without a frame the session ends after 10 s, with half of one after 30 s. Of that
                // the peer has to read within one second.
                for time in [10_500, 20_000] {
                    machine.advance(Duration::from_millis(time));
                    machine.sent();
                }
                machine.end_of_input();
                machine.sent();
                assert_eq!(machine.connection.phase(), Phase::Closing);
            }
        }
    }
}

#[test]
fn c209_right_frames_with_wrong_bytes_end_without_a_crash() {
    let mut random = fastrand(8);
    for version in Version::ALL {
        for _ in 0..2000 {
            let mut server = Machine::server(version);
            let mut bytes: Vec<u8> = [
                frames::settings(version, &[(4, 100), (7, 70_000)]),
                frames::syn_stream(version, 1).post("/upload"),
                frames::data(1, vec![1; 30]),
                frames::window_update(version, 1, 5),
                frames::syn_stream(version, 3).get("/").fin(),
                frames::ping(version, 1),
                frames::headers(version, 1).field("x-late", "yes"),
                frames::rst_stream(version, 3, RstStatus::CANCEL),
                frames::data(1, vec![2; 7]).fin(),
                frames::go_away(version, 0, GoAwayStatus::OK),
            ]
            .iter()
            .flat_map(|frame| server.bytes(frame))
            .collect();
            for _ in 0..=random() % 4 {
                let place = random() as usize % bytes.len();
                bytes[place] ^= 1 << (random() % 8);
            }
            for piece in bytes.chunks(1 + random() as usize % 100) {
                server.feed_bytes(piece);
                server.sent();
            }
            server.end_of_input();
            server.sent();
        }
    }
}

#[test]
fn c210_a_transport_that_closes_leaves_the_outcome_of_open_streams_unknown() {
    for version in Version::ALL {
        let mut client = Machine::client(version);
        let streams = [client.exchange(), client.exchange()];
        client.end_of_input();
        let end = End::ConnectionLost;
        let mut lost = client.events();
        lost.sort_by_key(Happened::stream);
        assert_eq!(lost, streams.map(|id| Happened::Reset { id, end }));
        assert!(matches!(
            client.connection.outcome(),
            Err(SessionError::ConnectionLost)
        ));
        assert_eq!(client.sent(), []);
        assert_eq!(client.connection.phase(), Phase::Closing);
        assert_eq!(client.connection.stats(), Default::default());
    }
}

#[test]
fn c210_a_transport_that_fails_fails_all_streams() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.request(1);
        server.respond(1, 1000);
        server.upload(3);
        assert!(server.unsent_bytes() > 1000);
        server.all_events();
        let error = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let error = SessionError::Io(Arc::new(error));
        server.connection.handle_transport_error(error);
        let mut lost = server.all_events();
        lost.sort_by_key(Happened::stream);
        let end = End::Session;
        assert_eq!(
            lost,
            [1, 3].map(|id| Happened::Reset { id, end }),
            "the FIN of stream 1 was never written"
        );
        assert_eq!(server.sent(), []);
        assert_eq!(server.connection.stats(), Default::default());
        assert_eq!(server.connection.poll_timeout(), None);
    }
}

#[test]
fn a_client_that_has_closed_its_direction_gets_its_answers() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.request(1);
        server.end_of_input();
        assert_eq!(server.connection.phase(), Phase::Draining);
        server.respond(1, 10_000);
        assert_eq!(payload_of(1, &server.sent()), 10_000);
        assert_eq!(server.connection.phase(), Phase::Closing);
        assert!(server.connection.outcome().is_ok());
    }
}

#[test]
fn nothing_waits_for_the_window_of_a_peer_that_is_gone() {
    for version in SINCE_V3 {
        for before in [false, true] {
            let mut config = Config::default();
            config.timeouts.blocked = None;
            let mut server = Machine::server(version).with(config);
            server.request(1);
            if before {
                server.respond(1, 100_000);
                server.sent();
                server.end_of_input();
            } else {
                server.end_of_input();
                server.respond(1, 100_000);
                server.sent();
            }
            let end = End::ConnectionLost;
            assert_eq!(server.events(), [Happened::Reset { id: 1, end }]);
            assert_eq!(server.sent(), []);
            assert_eq!(server.connection.phase(), Phase::Closing);
            assert!(server.connection.outcome().is_err());
        }
    }
}

/// 16 KiB are due in five minutes.
#[test]
fn a_peer_that_takes_byte_by_byte_is_cut_off_in_the_end() {
    for version in Version::ALL {
        for (bytes, seconds) in [(1, 300), (1092, 300), (1200, 1000)] {
            let mut pair = Pair::new(version);
            let request = request_block(version);
            let stream = pair.open(request, OpenOptions::new().fin(true));
            pair.run();
            let reply = reply_block(version);
            pair.server.send_reply(id(stream), reply, false).unwrap();
            let payload = vec![0; 65_000].into();
            pair.server.send_data(id(stream), payload, true).unwrap();
            let mut passed = 0;
            while pair.server.phase() == Phase::Open && passed < 1000 {
                assert_eq!(pair.transmit(Side::Server, bytes), bytes);
                pair.advance(Duration::from_secs(20));
                passed += 20;
            }
            assert_eq!(passed, seconds, "{version} {bytes}");
        }
    }
}

/// While a session goes on its configuration may allow its peer any time, and not when it is over.
#[test]
fn a_session_that_is_over_has_a_limit_whatever_its_peer_takes() {
    let hours = Duration::from_secs(4 * 3600);
    for version in Version::ALL {
        for (write, bytes) in [(None, 0), (None, 1), (Some(hours), 0), (Some(hours), 1)] {
            let mut config = Config::default();
            config.timeouts.write = write;
            config.timeouts.trickle = None;
            let mut pair = Pair::with(version, Config::default(), config);
            let stream = pair.open(request_block(version), OpenOptions::new().fin(true));
            pair.run();
            let reply = reply_block(version);
            pair.server.send_reply(id(stream), reply, false).unwrap();
            let payload = vec![0; 50_000].into();
            pair.server.send_data(id(stream), payload, true).unwrap();
            // The peer pauses, as it may, and then the session is over.
            pair.transmit(Side::Server, bytes);
            pair.advance(Duration::from_secs(1000));
            let now = pair.now();
            let graceful = Shutdown::Graceful { deadline: None };
            pair.server.shutdown(now, graceful);
            pair.transmit(Side::Server, bytes);
            assert_eq!(pair.server.phase(), Phase::Closing, "{version}");
            let mut passed = 0;
            while pair.server.has_output() && passed < 1000 {
                assert_eq!(pair.transmit(Side::Server, bytes), bytes);
                pair.advance(Duration::from_secs(20));
                passed += 20;
            }
            assert_eq!(passed, 300, "{version} {write:?} {bytes}");
        }
    }
}

#[test]
fn the_fullest_stream_is_reset_when_it_holds_up_all_others_for_long() {
    let mut config = Config::default();
    config.timeouts.probe = None;
    let mut server = Machine::server(Version::V2).with(config);
    server.upload(1);
    server.upload(3);
    server.feed(frames::data(3, vec![0; 1000]));
    server.feed(frames::data(1, vec![0; 300_000]));
    assert!(!server.connection.wants_input());
    server.events();
    assert_eq!(server.sent(), []);
    server.advance(Duration::from_secs(59));
    assert_eq!(server.sent(), []);
    server.advance(Duration::from_secs(1));
    assert_eq!(server.sent(), [reset(1, RstStatus::CANCEL)]);
    let end = End::TimedOut(Timeout::Unread);
    assert_eq!(server.events(), [Happened::Reset { id: 1, end }]);
    server.consume(1, 300_000);
    server.consume(3, 1000);
    server.connection.release(id(1));
    server.assert_usable();
}

#[test]
fn a_pause_of_reading_does_not_count_against_the_frame_timeout() {
    let version = Version::V2;
    let mut server = Machine::server(version).alone("the driver reads on as soon as it may");
    server.upload(1);
    server.feed(frames::data(1, vec![0; 300_000]));
    let bytes = server.bytes(&frames::data(1, "more").fin());
    server.feed_bytes(&bytes[..10]);
    assert!(!server.connection.wants_input());
    server.advance(Duration::from_secs(50));
    server.consume(1, 300_000);
    server.advance(Duration::from_secs(29));
    server.read();
    server.advance(Duration::from_secs(29));
    assert_eq!(server.connection.phase(), Phase::Open);
    server.events();
    server.feed_bytes(&bytes[10..]);
    let joined: Vec<Happened> = server.events();
    assert!(matches!(
        joined.last(),
        Some(Happened::Data { fin: true, .. })
    ));
}

#[test]
fn payload_queued_on_a_stream_is_freed_when_the_stream_is_reset() {
    for version in Version::ALL {
        let mut client = Machine::client(version);
        for _ in 0..3 {
            let stream = client.exchange();
            client.send(stream, 500_000, false);
            client.sent();
            client.connection.reset(id(stream), RstStatus::CANCEL);
        }
        let sent = client.sent();
        assert!(matches!(sent.last(), Some(Received::RstStream(_))));
        assert_eq!(client.connection.stats(), Default::default());
    }
}

/// A small generator of random numbers (xorshift): the tests are the same in every run.
fn fastrand(seed: u64) -> impl FnMut() -> u32 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u32
    }
}
