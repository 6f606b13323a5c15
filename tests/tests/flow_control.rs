//! The windows of the peer: what is sent, and when (protocol.md §13.2, §23.13).

use std::time::Duration;

use spdy_frame::{GoAwayStatus, RstStatus, Version};
use spdy_session::{Config, Timeout, proto::Phase};
use spdy_tests::{
    effort, frames,
    machine::{End, Happened, Machine, SINCE_V3, block, id, payload_of, reset},
    wire::Received,
};

const INITIAL_WINDOW: u32 = 7;
const MAX: u32 = 0x7fff_ffff;

/// A server that has queued responses of this size for streams 1, 3, … and has sent what it may.
fn stalled(version: Version, streams: u32, bytes: usize) -> (Machine, Vec<Received>) {
    let mut server = Machine::server(version);
    for n in 0..streams {
        server.request(2 * n + 1);
        server.respond(2 * n + 1, bytes);
    }
    let sent = server.sent();
    (server, sent)
}

#[test]
fn c179_c180_exactly_the_window_is_sent_and_then_exactly_what_is_granted() {
    for version in SINCE_V3 {
        let (mut server, sent) = stalled(version, 1, 200_000);
        assert_eq!(payload_of(1, &sent), 65_536);
        assert_eq!(server.sent(), []);
        server.feed(frames::window_update(version, 1, 1000));
        let first = server.sent();
        server.feed(frames::window_update(version, 0, 1000));
        let second = server.sent();
        let expected = if version == Version::V3 {
            (1000, 0)
        } else {
            (0, 1000)
        };
        assert_eq!((payload_of(1, &first), payload_of(1, &second)), expected);
        assert_eq!(server.sent(), []);
    }
}

#[test]
fn c181_c182_the_session_window_holds_for_all_streams_together_in_spdy_3_1_alone() {
    for (version, expected) in [(Version::V3, 131_072), (Version::V3_1, 65_536)] {
        let mut server = Machine::server(version);
        if version == Version::V3_1 {
            server.feed(frames::settings(version, &[(INITIAL_WINDOW, MAX)]));
        }
        for stream in [1, 3] {
            server.request(stream);
        }
        for stream in [1, 3] {
            server.respond(stream, 200_000);
        }
        let sent = server.sent();
        assert_eq!(payload_of(1, &sent) + payload_of(3, &sent), expected);
        assert_eq!(payload_of(1, &sent), expected / 2, "shared evenly");
    }
}

#[test]
fn c006_spdy_3_needs_grants_for_streams_alone() {
    let version = Version::V3;
    let (mut server, sent) = stalled(version, 1, 200_000);
    let mut received = payload_of(1, &sent);
    while received < 200_000 {
        server.feed(frames::window_update(version, 1, 10_000));
        let bytes = payload_of(1, &server.sent());
        assert_eq!(bytes, 10_000.min(200_000 - received));
        received += bytes;
    }
    server.assert_usable();
}

#[test]
fn c183_a_small_initial_window_holds_from_the_start() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version);
        server.feed(frames::settings(version, &[(INITIAL_WINDOW, 10)]));
        server.request(1);
        server.respond(1, 1000);
        assert_eq!(payload_of(1, &server.sent()), 10);
        assert_eq!(server.sent(), []);
    }
}

#[test]
fn c184_a_window_that_was_made_negative_has_to_be_paid_back() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version);
        server.request(1);
        server.reply(1, false);
        server.send(1, 60_000, false);
        assert_eq!(payload_of(1, &server.sent()), 60_000);
        server.feed(frames::settings(version, &[(INITIAL_WINDOW, 16_384)]));
        server.send(1, 1000, true);
        assert_eq!(server.sent(), []);
        server.feed(frames::window_update(version, 1, 43_616));
        assert_eq!(server.sent(), [], "exactly zero");
        server.feed(frames::window_update(version, 1, 1));
        assert_eq!(payload_of(1, &server.sent()), 1);
        assert_eq!(server.sent(), []);
    }
}

#[test]
fn c185_a_larger_initial_window_opens_streams_that_wait() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version);
        server.feed(frames::window_update(version, 0, 100_000));
        server.request(1);
        server.respond(1, 200_000);
        assert_eq!(payload_of(1, &server.sent()), 65_536);
        server.feed(frames::settings(version, &[(INITIAL_WINDOW, 65_546)]));
        assert_eq!(payload_of(1, &server.sent()), 10);
        assert_eq!(server.sent(), []);
    }
}

/// Streams whose windows are negative by different amounts go on one after the other, each with the
/// room that the change gives it.
#[test]
fn c184_c185_a_change_opens_each_window_that_it_makes_positive() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version);
        server.feed(frames::window_update(version, 0, 1 << 20));
        let change = |server: &mut Machine, window| {
            server.feed(frames::settings(version, &[(INITIAL_WINDOW, window)]));
            let sent = server.sent();
            [1, 3, 5].map(|stream| payload_of(stream, &sent))
        };
        assert_eq!(change(&mut server, 100), [0; 3]);
        for stream in [1, 3, 5] {
            server.request(stream);
            server.respond(stream, 1000);
        }
        let sent = server.sent();
        assert_eq!([1, 3, 5].map(|id| payload_of(id, &sent)), [100; 3]);
        assert_eq!(change(&mut server, 10), [0; 3], "the windows are -90");
        server.feed(frames::window_update(version, 3, 50));
        server.feed(frames::window_update(version, 5, 80));
        assert_eq!(server.sent(), [], "they are -90, -40 and -10");
        assert_eq!(change(&mut server, 20), [0; 3]);
        assert_eq!(change(&mut server, 21), [0, 0, 1]);
        assert_eq!(change(&mut server, 51), [0, 1, 30]);
        assert_eq!(change(&mut server, 0), [0; 3]);
        server.feed(frames::window_update(version, 1, 101));
        assert_eq!(payload_of(1, &server.sent()), 1);
        assert_eq!(change(&mut server, 101), [101, 50, 50]);
        for stream in [1, 3, 5] {
            server.feed(frames::rst_stream(version, stream, RstStatus::CANCEL));
            server.connection.release(id(stream));
        }
        server.events();
        assert_eq!(change(&mut server, 1 << 20), [0; 3], "they are gone");
        server.assert_usable();
    }
}

/// Ten thousand waiting streams are not visited by changes that let none of them go on, nor by
/// changes that affect one of them.
#[test]
fn s08_a_change_of_the_initial_window_takes_the_same_work_for_any_number_of_streams() {
    for version in SINCE_V3 {
        let (few, many) = (changes(version, 200), changes(version, 10_000));
        // If each stream were visited, fifty times as many streams would cost fifty times as much.
        assert!(many < 10 * few, "{version}: {few:?}, {many:?}");
    }
}

/// How long the machine works for 9,800 changes with this number of streams.
fn changes(version: Version, streams: u32) -> Duration {
    let mut config = Config::default();
    config.limits.settings.burst = 1_000_000;
    config.limits.max_streams = streams;
    config.limits.max_backlog = streams as usize;
    config.limits.held_headers = usize::MAX;
    let mut server = Machine::server(version)
        .with(config)
        .alone("the work of the machine alone counts");
    server.feed(frames::window_update(version, 0, 1 << 30));
    server.feed(frames::settings(version, &[(INITIAL_WINDOW, 100)]));
    for stream in (0..streams).map(|n| 2 * n + 1) {
        server.request(stream);
        server.respond(stream, 1000);
    }
    let sent = server.sent();
    assert_eq!(payload_of(1, &sent), 100);
    // The window of one stream is larger than what it has used.
    server.feed(frames::settings(version, &[(INITIAL_WINDOW, 1)]));
    server.feed(frames::window_update(version, 1, 100));

    let before = effort::used();
    let mut bytes = payload_of(1, &server.sent());
    for n in 0..9800 {
        let window = 2 + n % 98;
        server.feed(frames::settings(version, &[(INITIAL_WINDOW, window)]));
        if n % 98 == 97 {
            bytes += payload_of(1, &server.sent());
        }
    }
    assert_eq!(bytes, 99, "of stream 1, for a window of 99");
    let took = effort::used() - before;
    assert_eq!(server.sent(), []);
    took
}

#[test]
fn c186_settings_do_not_open_the_session_window() {
    let (mut server, sent) = stalled(Version::V3_1, 1, 200_000);
    assert_eq!(payload_of(1, &sent), 65_536);
    server.feed(frames::settings(Version::V3_1, &[(INITIAL_WINDOW, MAX)]));
    assert_eq!(server.sent(), []);
    server.feed(frames::window_update(Version::V3_1, 0, 5));
    assert_eq!(payload_of(1, &server.sent()), 5);
}

#[test]
fn c187_c189_a_stream_window_above_the_maximum_resets_the_stream() {
    for version in SINCE_V3 {
        for by_settings in [false, true] {
            let mut server = Machine::server(version);
            server.upload(1);
            server.upload(3);
            if by_settings {
                server.feed(frames::window_update(version, 1, 100));
                server.feed(frames::settings(version, &[(INITIAL_WINDOW, MAX)]));
            } else {
                server.feed(frames::window_update(version, 1, MAX - 65_535));
            }
            assert_eq!(server.sent(), [reset(1, RstStatus::FLOW_CONTROL_ERROR)]);
            let end = End::Library(RstStatus::FLOW_CONTROL_ERROR);
            assert_eq!(server.events(), [Happened::Reset { id: 1, end }]);
            server.respond(3, 10);
            assert_eq!(payload_of(3, &server.sent()), 10);
            server.assert_usable();
        }
        let mut server = Machine::server(version);
        server.upload(1);
        server.feed(frames::window_update(version, 1, MAX - 65_536));
        assert_eq!(server.sent(), [], "the largest window is legal");
        server.assert_usable();
    }
}

/// A grant counts until it is used up. It does not count when this side has finished.
#[test]
fn c189_a_grant_that_was_used_leaves_room_for_the_largest_window() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version);
        server.feed(frames::window_update(version, 0, 1 << 20));
        for stream in [1, 3, 5] {
            server.upload(stream);
            server.feed(frames::window_update(version, stream, 1000));
        }
        server.reply(1, false);
        server.send(1, 1000, false);
        server.respond(3, 10);
        server.sent();
        server.feed(frames::settings(version, &[(INITIAL_WINDOW, MAX)]));
        assert_eq!(server.sent(), [reset(5, RstStatus::FLOW_CONTROL_ERROR)]);
        server.feed(frames::window_update(version, 1, 1));
        assert_eq!(server.sent(), [reset(1, RstStatus::FLOW_CONTROL_ERROR)]);
        server.connection.release(id(1));
        server.connection.release(id(5));
        server.events();
        server.feed(frames::settings(version, &[(INITIAL_WINDOW, 1)]));
        server.feed(frames::settings(version, &[(INITIAL_WINDOW, MAX)]));
        assert_eq!(server.sent(), []);
        server.assert_usable();
    }
}

#[test]
fn c188_a_session_window_above_the_maximum_ends_the_session() {
    let mut server = Machine::server(Version::V3_1);
    server.feed(frames::window_update(Version::V3_1, 0, MAX - 65_536));
    server.assert_usable();
    server.feed(frames::window_update(Version::V3_1, 0, 1));
    server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
}

#[test]
fn c190_c191_an_increment_of_0_ends_the_stream_or_the_session_that_it_is_for() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version);
        server.upload(1);
        server.feed(frames::window_update(version, 1, 0));
        assert_eq!(server.sent(), [reset(1, RstStatus::FLOW_CONTROL_ERROR)]);
        server.assert_usable();
    }
    let mut server = Machine::server(Version::V3_1);
    server.feed(frames::window_update(Version::V3_1, 0, 0));
    server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
}

#[test]
fn c192_grants_for_streams_that_are_gone_are_ignored() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version);
        server.request(1);
        server.reply(1, true);
        server.upload(3);
        server.reply(3, true);
        server.sent();
        server.all_events();
        for increment in [1, MAX, 0] {
            // Closed, finished on our side, never opened.
            for stream in if increment == 0 {
                vec![1, 9, 10]
            } else {
                vec![1, 3, 9, 10]
            } {
                server.feed(frames::window_update(version, stream, increment));
            }
        }
        assert_eq!((server.sent(), server.events()), (vec![], vec![]));
        server.assert_usable();
    }
}

#[test]
fn c193_spdy_3_ignores_grants_for_the_session() {
    let mut server = Machine::server(Version::V3);
    for increment in [0, 1, MAX, MAX] {
        server.feed(frames::window_update(Version::V3, 0, increment));
    }
    assert_eq!(server.sent(), []);
    server.assert_usable();
}

#[test]
fn c194_fin_needs_no_window() {
    for version in SINCE_V3 {
        let (_, sent) = stalled(version, 1, 65_536);
        assert!(matches!(
            sent.last(),
            Some(Received::Data { fin: true, .. })
        ));

        let mut server = Machine::server(version);
        server.request(1);
        server.reply(1, false);
        server.send(1, 65_536, false);
        assert_eq!(payload_of(1, &server.sent()), 65_536);
        server.connection.finish(id(1)).unwrap();
        let payload = Default::default();
        assert_eq!(
            server.sent(),
            [Received::Data {
                stream: 1,
                fin: true,
                payload
            }]
        );
        assert_eq!(server.connection.stats(), Default::default());
    }
}

#[test]
fn c202_control_frames_need_no_window() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version);
        server.feed(frames::settings(version, &[(INITIAL_WINDOW, 0)]));
        server.upload(1);
        server.upload(3);
        server.reply(1, false);
        let late = block(&[("x-late", "yes")]);
        server.connection.send_headers(id(1), late, true).unwrap();
        server.connection.reset(id(3), RstStatus::CANCEL);
        let sent = server.sent();
        assert!(
            matches!(
                sent[..],
                [
                    Received::RstStream(_),
                    Received::SynReply { .. },
                    Received::Headers { .. },
                    Received::Data { fin: true, .. }
                ]
            ),
            "{sent:?}"
        );
        server.events();
        server.feed(frames::headers(version, 1).field("x-trailer", "yes").fin());
        assert!(matches!(
            server.events()[..],
            [Happened::Headers { id: 1, .. }]
        ));
        server.assert_usable();
    }
}

#[test]
fn c204_spdy_2_sends_without_any_grant() {
    let (_, sent) = stalled(Version::V2, 1, 10 << 20);
    assert_eq!(payload_of(1, &sent), 10 << 20);
}

#[test]
fn a_stream_that_gets_no_window_is_reset_in_time_and_the_session_lives() {
    for version in SINCE_V3 {
        let mut config = Config::default();
        config.timeouts.blocked = Some(Duration::from_secs(20));
        let mut server = Machine::server(version).with(config);
        server.feed(frames::window_update(version, 0, 1 << 20));
        server.request(1);
        server.respond(1, 100_000);
        server.sent();
        server.advance(Duration::from_secs(19));
        server.feed(frames::window_update(version, 1, 1));
        assert_eq!(payload_of(1, &server.sent()), 1);
        server.advance(Duration::from_secs(19));
        assert_eq!(server.sent(), []);
        server.all_events();
        server.advance(Duration::from_secs(1));
        assert_eq!(server.sent(), [reset(1, RstStatus::CANCEL)]);
        let end = End::TimedOut(Timeout::Blocked);
        assert_eq!(server.events(), [Happened::Reset { id: 1, end }]);
        assert_eq!(server.connection.stats().unsent, 0);
        server.assert_usable();
    }
}

/// A stream that waits for its turn is not blocked, even if others use all that is granted.
#[test]
fn a_stream_that_waits_for_the_session_lives_while_others_are_granted_something() {
    let version = Version::V3_1;
    let mut server = Machine::server(version);
    server.feed(frames::settings(version, &[(INITIAL_WINDOW, MAX)]));
    for stream in (1..20).step_by(2) {
        server.request(stream);
    }
    for stream in (1..20).step_by(2) {
        server.respond(stream, 200_000);
    }
    server.sent();
    for _ in 0..30 {
        server.advance(Duration::from_secs(20));
        server.feed(frames::window_update(version, 0, 20_000));
        assert_eq!(server.sent().len(), 2, "DATA of two streams");
    }
    server.events();
    server.advance(Duration::from_secs(29));
    assert_eq!(server.events(), []);
    server.advance(Duration::from_secs(1));
    assert_eq!(server.events().len(), 10, "now nothing is granted");
}

/// The time of a stream begins when it has something to send, even if others wait already.
#[test]
fn each_stream_has_its_own_time_to_wait_for_the_session() {
    let version = Version::V3_1;
    let mut server = Machine::server(version);
    server.feed(frames::settings(version, &[(INITIAL_WINDOW, MAX)]));
    let reset = |server: &mut Machine| -> Vec<Option<u32>> {
        server.events().iter().map(Happened::stream).collect()
    };
    for (stream, wait) in [(1, 10), (3, 15), (5, 4)] {
        server.request(stream);
        server.respond(stream, 200_000);
        server.sent();
        server.advance(Duration::from_secs(wait));
    }
    assert_eq!(reset(&mut server), []);
    server.advance(Duration::from_secs(1));
    assert_eq!(reset(&mut server), [Some(1)]);
    // One grant counts for all of them.
    server.feed(frames::window_update(version, 0, 100));
    server.sent();
    server.advance(Duration::from_secs(29));
    server.sent();
    assert_eq!(reset(&mut server), []);
    server.advance(Duration::from_secs(1));
    assert_eq!(reset(&mut server).len(), 2);
}

/// Grants that arrive while reading pauses cannot be seen.
#[test]
fn a_stream_does_not_wait_for_its_window_while_nothing_is_read() {
    let version = Version::V3;
    let mut config = Config::default();
    config.limits.session_buffer = 1000;
    config.timeouts.unread = None;
    config.timeouts.probe = None;
    let mut server = Machine::server(version).with(config);
    server.request(1);
    server.respond(1, 200_000);
    server.sent();
    server.upload(3);
    server.feed(frames::data(3, vec![0; 1000]));
    assert!(!server.connection.wants_input());
    server.events();
    server.advance(Duration::from_secs(10_000));
    server.sent();
    assert_eq!(server.events(), []);
    server.consume(3, 1000);
    server.sent();
    server.advance(Duration::from_secs(29));
    assert_eq!(server.events(), []);
    server.advance(Duration::from_secs(1));
    let end = End::TimedOut(Timeout::Blocked);
    assert_eq!(server.events(), [Happened::Reset { id: 1, end }]);
}

/// A configuration that lets a peer be silent for longer also lets it be slow for longer.
#[test]
fn a_peer_that_may_be_silent_may_be_slow_as_well() {
    for version in SINCE_V3 {
        for (blocked, least) in [(None, 1_000_000), (Some(1000), 1000)] {
            let mut config = Config::default();
            config.timeouts.blocked = blocked.map(Duration::from_secs);
            let mut server = Machine::server(version).with(config);
            server.request(1);
            server.respond(1, 200_000);
            server.sent();
            server.events();
            server.advance(Duration::from_secs(least - 1));
            assert_eq!(server.events(), [], "{blocked:?}");
        }
    }
}

/// A peer that grants a few bytes at a time does not hold queued payload for ever: it has to grant
/// 16 KiB in five minutes.
#[test]
fn a_window_that_is_granted_byte_by_byte_holds_a_stream_for_five_minutes() {
    for (version, target) in [(Version::V3, 1), (Version::V3_1, 1), (Version::V3_1, 0)] {
        for (bytes, seconds) in [(1, 300), (1092, 300), (1200, 1000)] {
            let mut server = Machine::server(version);
            if target == 0 {
                server.feed(frames::settings(version, &[(INITIAL_WINDOW, MAX)]));
            } else if version == Version::V3_1 {
                server.feed(frames::window_update(version, 0, 1 << 20));
            }
            server.request(1);
            server.respond(1, 200_000);
            server.sent();
            server.events();
            let mut passed = 0;
            while server.events().is_empty() && passed < 1000 {
                server.advance(Duration::from_secs(10));
                passed += 10;
                if passed % 20 == 0 {
                    server.feed(frames::window_update(version, target, bytes));
                }
                server.sent();
            }
            assert_eq!(passed, seconds, "{version} {target} {bytes}");
        }
    }
}

#[test]
fn a_stream_that_is_granted_a_little_window_now_and_then_is_not_reset() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version);
        if version == Version::V3_1 {
            // Here the stream waits for the session's window.
            server.feed(frames::settings(version, &[(INITIAL_WINDOW, MAX)]));
        }
        server.request(1);
        server.respond(1, 200_000);
        assert_eq!(payload_of(1, &server.sent()), 65_536);
        for _ in 0..5 {
            server.advance(Duration::from_secs(20));
            let target = if version == Version::V3_1 { 0 } else { 1 };
            server.feed(frames::window_update(version, target, 100));
            assert_eq!(payload_of(1, &server.sent()), 100);
        }
        server.assert_usable();
    }
}

/// Streams that wait for the session have a timeout while they wait, in whatever order they began,
/// and also if the window was open when they were checked.
#[test]
fn every_stream_that_waits_for_the_session_has_a_deadline() {
    let version = Version::V3_1;
    for opens in [false, true] {
        let mut server = Machine::server(version).alone("the driver writes at the grant");
        server.feed(frames::settings(version, &[(INITIAL_WINDOW, MAX)]));
        server.request(1);
        server.request(3);
        server.respond(1, 100_000);
        server.sent();
        if opens {
            server.advance(Duration::from_secs(10));
            server.feed(frames::window_update(version, 0, 1));
            server.advance(Duration::from_secs(20));
        } else {
            server.advance(Duration::from_secs(30));
        }
        server.respond(3, 100_000);
        server.sent();
        assert!(server.connection.poll_timeout().is_some());
        for _ in 0..6 {
            server.advance(Duration::from_secs(10));
            server.sent();
        }
        assert_eq!(server.connection.stats().unsent, 0);
    }
}

/// The end of the peer's bytes ends the streams that wait for windows. One of them is a stream
/// whose last frame was cut short by the session's window.
#[test]
fn nothing_waits_for_the_session_of_a_peer_that_has_ended() {
    let version = Version::V3_1;
    for before in [false, true] {
        let mut server = Machine::server(version);
        server.feed(frames::settings(version, &[(INITIAL_WINDOW, MAX)]));
        server.request(1);
        if !before {
            server.end_of_input();
        }
        server.reply(1, false);
        server.send(1, 7, false);
        server.sent();
        server.send(1, 100_000, true);
        server.sent();
        if before {
            server.end_of_input();
        }
        assert_eq!(server.connection.stats().unsent, 0);
        assert_eq!(server.connection.phase(), Phase::Closing);
    }
}

/// While the transport is full, the machine does not look at streams that begin to wait for the
/// session's window.
#[test]
fn a_stream_that_came_behind_a_full_transport_has_its_own_time_to_wait() {
    let mut config = Config::default();
    config.timeouts.write = None;
    let version = Version::V3_1;
    let mut server = Machine::server(version)
        .with(config)
        .alone("the script does not record that a transport is full");
    server.feed(frames::settings(version, &[(7, 1 << 20)]));
    server.request(1);
    server.request(3);
    server.reply(3, false);
    // What remains of the session's window fits into one turn.
    server.send(3, 1000, false);
    server.sent();
    server.respond(1, 200_000);
    assert!(server.unsent_bytes() > 64_000);
    server.events();
    server.advance(Duration::from_secs(29));
    server.send(3, 10, false);
    assert!(server.unsent_bytes() > 64_000);
    server.advance(Duration::from_secs(1));
    let end = End::TimedOut(Timeout::Blocked);
    assert_eq!(server.events(), [Happened::Reset { id: 1, end }]);
}
