//! Windows that grow with what a path holds: what is measured and when, and what bounds the growth.

mod long_path;

use std::time::Duration;

use spdy_frame::{RstStatus, Side, StreamId, Version, WindowTarget};
use spdy_session::{Config, FlowControl, proto::Phase};
use spdy_tests::{
    frames,
    machine::{Happened, Machine, SINCE_V3, id, reset},
    wire::Received,
};

/// Windows that may grow to three times their size, and to two and a half times.
fn growing() -> Config {
    let mut config = Config::default();
    config.limits.stream_window = 100_000;
    config.limits.session_window = 200_000;
    config.limits.max_stream_window = 300_000;
    config.limits.max_session_window = 500_000;
    config
}

/// A server whose application reads each piece as a whole.
fn server(version: Version, config: Config) -> Machine {
    Machine::server(version).with(config).alone(WHY_ALONE)
}

const WHY_ALONE: &str = "handles give credit piece by piece";

fn pings(frames: &[Received]) -> Vec<u32> {
    let ids = frames.iter().filter_map(|frame| match frame {
        Received::Ping(ping) => Some(ping.id),
        _ => None,
    });
    ids.collect()
}

fn window(machine: &Machine, stream: u32) -> u32 {
    let target = match StreamId::new(stream) {
        Some(id) => WindowTarget::Stream(id),
        None => WindowTarget::Session,
    };
    let windows = machine.connection.windows(target);
    windows.expect("the stream is open").size
}

/// The peer sends as much as it may on a stream, and the application reads it. Returns the ids of
/// the PINGs that follow.
fn use_up(machine: &mut Machine, stream: u32) -> Vec<u32> {
    let receive = |target| machine.connection.windows(target).map(|w| w.receive);
    let mut bytes = receive(WindowTarget::Stream(id(stream))).expect("it is open");
    if machine.connection.version() == Version::V3_1 {
        bytes = bytes.min(receive(WindowTarget::Session).expect("it has a window"));
    }
    machine.feed(frames::data(stream, vec![0; bytes as usize]));
    machine.consume(stream, bytes as usize);
    machine.events();
    pings(&machine.sent())
}

/// The peer uses the window up in each round trip, until nothing is measured any more. Returns the
/// windows of the stream and of the session as they were with each PING.
fn grow(machine: &mut Machine, stream: u32) -> Vec<(u32, u32)> {
    let version = machine.connection.version();
    let mut sizes = vec![];
    for _ in 0..20 {
        let pings = use_up(machine, stream);
        machine.advance(Duration::from_millis(100));
        for ping in pings {
            sizes.push((window(machine, stream), window(machine, 0)));
            machine.feed(frames::ping(version, ping));
        }
    }
    sizes
}

#[test]
fn a_window_that_is_used_up_in_each_round_trip_is_doubled_up_to_its_maximum() {
    for version in SINCE_V3 {
        for (machine, stream) in [
            (Machine::server as fn(Version) -> Machine, 1),
            (Machine::client, 1),
        ] {
            let mut machine = machine(version).with(growing()).alone(WHY_ALONE);
            match machine.connection.side() {
                Side::Server => machine.upload(stream),
                Side::Client => assert_eq!(machine.exchange(), stream),
            }
            let expected: &[(u32, u32)] = match version {
                Version::V3_1 => &[(100_000, 200_000), (200_000, 400_000)],
                _ => &[(100_000, 65_536), (200_000, 65_536)],
            };
            assert_eq!(grow(&mut machine, stream), expected);
            if version == Version::V3_1 {
                assert_eq!(window(&machine, 0), 500_000);
            }
            assert_eq!(window(&machine, stream), 300_000);
            machine.assert_usable();
        }
    }
}

#[test]
fn one_byte_beyond_a_window_that_has_grown_resets_the_stream() {
    for version in SINCE_V3 {
        let mut server = server(version, growing());
        server.upload(1);
        grow(&mut server, 1);
        server.feed(frames::data(1, vec![0; 300_000]));
        assert_eq!(server.sent(), []);
        server.feed(frames::data(1, [0]));
        assert_eq!(server.sent(), [reset(1, RstStatus::FLOW_CONTROL_ERROR)]);
        server.assert_usable();
    }
}

#[test]
fn one_byte_beyond_a_session_window_that_has_grown_ends_the_session() {
    let mut server = server(Version::V3_1, growing());
    server.upload(1);
    server.upload(3);
    grow(&mut server, 1);
    grow(&mut server, 3);
    server.feed(frames::data(1, vec![0; 300_000]));
    server.feed(frames::data(3, vec![0; 200_000]));
    assert_eq!(server.sent(), []);
    server.feed(frames::data(3, [0]));
    assert_eq!(server.connection.phase(), Phase::Closing);
}

#[test]
fn in_spdy_3_no_stream_grows_above_half_of_what_stops_the_reading() {
    let mut config = growing();
    config.limits.session_buffer = 400_000;
    let mut server = server(Version::V3, config);
    server.upload(1);
    grow(&mut server, 1);
    assert_eq!(window(&server, 1), 200_000);
    server.feed(frames::data(1, vec![0; 200_000]));
    assert!(server.connection.wants_input(), "others are still read");
}

#[test]
fn a_stream_that_nobody_reads_any_more_leaves_half_of_the_session_to_others() {
    let mut server = server(Version::V3_1, Config::default());
    server.upload(1);
    server.upload(3);
    server.upload(5);
    // A stream whose reader has fallen behind does not get a larger window when others do.
    server.feed(frames::data(5, vec![0; 200_000]));
    server.consume(5, 32_768);
    grow(&mut server, 1);
    server.feed(frames::data(5, vec![0; 32_768]));
    server.consume(5, 32_768);
    server.sent();
    assert_eq!(
        [5, 1, 0].map(|id| window(&server, id)),
        [262_144, 2 << 20, 4 << 20]
    );
    let unread = server.connection.windows(WindowTarget::Stream(id(1)));
    server.feed(frames::data(1, vec![0; unread.unwrap().receive as usize]));
    server.sent();
    for _ in 0..100 {
        server.feed(frames::data(3, vec![0; 100_000]));
        server.consume(3, 100_000);
        server.sent();
    }
    assert_eq!(server.connection.phase(), Phase::Open);
}

#[test]
fn nothing_is_measured_where_nothing_can_grow() {
    for version in Version::ALL {
        let mut off = growing();
        off.flow_control = FlowControl::Off;
        let mut fixed = growing();
        fixed.limits.max_stream_window = 100_000;
        fixed.limits.max_session_window = 200_000;
        for config in [off, fixed] {
            let mut server = server(version, config);
            server.upload(1);
            for _ in 0..100 {
                server.feed(frames::data(1, vec![0; 50_000]));
                server.consume(1, 50_000);
                assert_eq!(pings(&server.sent()), []);
            }
        }
        let mut server = server(Version::V2, growing());
        server.upload(1);
        assert_eq!(use_up(&mut server, 1), []);
    }
}

#[test]
fn small_requests_cause_no_ping() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version);
        for n in 0..1000 {
            let stream = 2 * n + 1;
            server.upload(stream);
            server.feed(frames::data(stream, vec![0; 1000]).fin());
            server.consume(stream, 1000);
            server.reply(stream, true);
            assert_eq!(pings(&server.sent()), []);
            server.connection.release(id(stream));
        }
    }
}

#[test]
fn measurements_that_change_nothing_become_rare() {
    for version in SINCE_V3 {
        let mut server = server(version, growing());
        server.upload(1);
        let mut sent = vec![];
        for tenth in 0..600 {
            server.feed(frames::data(1, vec![0; 50_000]));
            server.consume(1, 50_000);
            let pings = pings(&server.sent());
            server.advance(Duration::from_millis(10));
            for ping in pings {
                server.feed(frames::ping(version, ping));
                sent.push(tenth);
            }
            server.advance(Duration::from_millis(90));
        }
        assert_eq!(
            sent,
            [0, 4, 11, 23, 45, 87, 169, 331, 493],
            "tenths of a second"
        );
        assert_eq!(window(&server, 1), 100_000);
    }
}

#[test]
fn a_peer_that_does_not_answer_is_asked_once() {
    for version in SINCE_V3 {
        let mut server = server(version, growing());
        server.upload(1);
        assert_eq!(use_up(&mut server, 1), [2]);
        for _ in 0..100 {
            server.advance(Duration::from_secs(60));
            assert_eq!(use_up(&mut server, 1), []);
        }
        assert_eq!(window(&server, 1), 100_000);
        server.assert_usable();
    }
}

#[test]
fn the_answer_to_a_measurement_is_no_event_and_counts_once() {
    for version in SINCE_V3 {
        let mut server = server(version, growing());
        server.upload(1);
        let asked = server.now();
        server.connection.ping(asked);
        assert_eq!(use_up(&mut server, 1), [2, 4]);
        server.advance(Duration::from_millis(100));
        for _ in 0..3 {
            server.feed(frames::ping(version, 4));
        }
        assert_eq!(server.events(), []);
        server.feed(frames::ping(version, 2));
        assert!(matches!(server.events()[..], [Happened::Pong { .. }]));
        use_up(&mut server, 1);
        use_up(&mut server, 1);
        assert_eq!(window(&server, 1), 200_000, "doubled once");
    }
}

#[test]
fn the_answer_to_a_measurement_does_not_delay_the_idle_timeout() {
    for version in SINCE_V3 {
        let mut server = server(version, growing());
        server.upload(1);
        assert_eq!(use_up(&mut server, 1), [2]);
        server.feed(frames::data(1, []).fin());
        server.reply(1, true);
        server.connection.release(id(1));
        server.sent();
        server.advance(Duration::from_secs(100));
        server.feed(frames::ping(version, 2));
        server.advance(Duration::from_secs(79));
        assert_eq!(server.connection.phase(), Phase::Open);
        server.advance(Duration::from_secs(1));
        server.sent();
        assert_eq!(server.connection.phase(), Phase::Closing);
    }
}

#[test]
fn the_answer_to_a_measurement_does_not_answer_a_keep_alive() {
    for version in SINCE_V3 {
        let mut config = growing();
        config.timeouts.keep_alive = Some(Duration::from_secs(10));
        let mut server = server(version, config);
        server.upload(1);
        assert_eq!(use_up(&mut server, 1), [2]);
        server.advance(Duration::from_secs(10));
        assert_eq!(pings(&server.sent()), [4]);
        server.feed(frames::ping(version, 2));
        server.advance(Duration::from_secs(20));
        server.sent();
        assert_eq!(server.connection.phase(), Phase::Closing);
    }
}

#[test]
fn a_short_path_needs_no_larger_windows() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version);
        server.upload(1);
        for round in 0..1000 {
            server.feed(frames::data(1, vec![0; 32_768]));
            server.consume(1, 32_768);
            for ping in pings(&server.sent()) {
                server.feed(frames::ping(version, ping));
            }
            server.advance(Duration::from_millis(round % 3));
        }
        assert_eq!(window(&server, 1), 256 * 1024);
    }
}
