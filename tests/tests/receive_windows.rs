//! Our own windows: what is accepted, and when credit is given (protocol.md §13.3, §23.13).

use std::time::Duration;

use spdy_frame::{GoAwayStatus, RstStatus, Side, Version};
use spdy_session::{Config, FlowControl, Timeout, proto::Phase};
use spdy_tests::{
    frames,
    machine::{End, Happened, Machine, SINCE_V3, credit, id, reset},
    wire::Received,
};

fn config(stream_window: u32, session_window: u32) -> Config {
    let mut config = Config::default();
    config.limits.stream_window = stream_window;
    config.limits.session_window = session_window;
    config
}

/// The WINDOW_UPDATE frames among those sent, as (stream, bytes).
fn updates(frames: &[Received]) -> Vec<(u32, u32)> {
    let updates = frames.iter();
    updates
        .filter_map(|frame| match frame {
            Received::WindowUpdate(update) => {
                Some((update.target.to_field(), update.increment.get()))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn c195_one_byte_beyond_the_stream_window_resets_the_stream() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version).with(config(100_000, 1 << 20));
        server.upload(1);
        server.feed(frames::data(1, vec![0; 100_000]));
        assert_eq!(server.sent(), []);
        server.feed(frames::data(1, [0]));
        assert_eq!(server.sent(), [reset(1, RstStatus::FLOW_CONTROL_ERROR)]);
        server.events();
        server.consume(1, 100_000);
        assert_eq!(server.connection.stats().unread, 0);
        server.assert_usable();
    }
}

#[test]
fn a_window_below_the_protocols_start_holds_when_the_peer_has_seen_it() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version).with(config(1000, 1 << 20));
        let Received::Ping(probe) = server.greeting()[1] else {
            panic!(
                "a PING tells when SETTINGS were seen: {:?}",
                server.greeting()
            );
        };
        server.upload(1);
        server.feed(frames::data(1, vec![0; 65_536]));
        assert_eq!(
            server.sent(),
            [],
            "it may have been sent before SETTINGS came"
        );
        server.feed(frames::data(1, [0]));
        assert_eq!(server.sent(), [reset(1, RstStatus::FLOW_CONTROL_ERROR)]);
        server.feed(frames::ping(version, probe.id));
        server.events();
        server.upload(3);
        server.feed(frames::data(3, vec![0; 1001]));
        assert_eq!(server.sent(), [reset(3, RstStatus::FLOW_CONTROL_ERROR)]);
        server.consume(1, 65_536);
        server.assert_usable();
    }
}

#[test]
fn c196_data_beyond_the_session_window_ends_the_session() {
    let version = Version::V3_1;
    let mut server = Machine::server(version).with(config(100_000, 150_000));
    server.upload(1);
    server.upload(3);
    server.feed(frames::data(1, vec![0; 100_000]));
    server.feed(frames::data(3, vec![0; 50_000]));
    assert_eq!(server.sent(), []);
    server.feed(frames::data(3, [0]));
    server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
}

#[test]
fn c197_bytes_that_nobody_wants_are_given_back_to_the_session() {
    let version = Version::V3_1;
    for size in [1000, 16_384, 100_000] {
        let mut config = Config::default();
        config.limits.max_streams = 1;
        let mut server = Machine::server(version).with(config);
        server.upload(1);
        server.feed(frames::syn_stream(version, 3).post("/refused"));
        assert_eq!(server.sent(), [reset(3, RstStatus::REFUSED_STREAM)]);
        let (mut bytes, mut given_back) = (0, 0);
        while bytes < 10 << 20 {
            for stream in [3, 99] {
                server.feed(frames::data(stream, vec![0; size]));
                bytes += size;
            }
            let sent = server.sent();
            given_back += updates(&sent)
                .iter()
                .map(|(_, bytes)| *bytes as usize)
                .sum::<usize>();
        }
        assert!(bytes - given_back < 1 << 19, "{bytes} {given_back}");
        for _ in 0..64 {
            server.feed(frames::data(1, vec![0; 16_384]));
            server.consume(1, 16_384);
            server.sent();
        }
        server.feed(frames::data(1, []).fin());
        server.events();
        server.reply(1, true);
        server.sent();
        assert_eq!(server.connection.stats(), Default::default());
        server.assert_usable();
    }
}

#[test]
fn c198_c199_credit_comes_when_the_application_has_read() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version).alone("handles give credit piece by piece");
        server.upload(1);
        for _ in 0..16 {
            server.feed(frames::data(1, vec![0; 16_384]));
        }
        assert_eq!(
            server.sent(),
            [],
            "the window is used up and nothing is granted"
        );
        server.upload(3);
        server.feed(frames::data(3, vec![0; 40_000]));
        server.consume(3, 40_000);
        assert_eq!(server.sent(), [credit(3, 40_000)], "others flow");
        server.consume(1, 32_767);
        assert_eq!(server.sent(), [], "credit is batched");
        server.consume(1, 1);
        assert_eq!(server.sent(), [credit(1, 32_768)]);
        let mut bytes: usize = 262_144 + 32_768;
        server.feed(frames::data(1, vec![0; 32_768]));
        server.consume(1, 262_144);
        while bytes < 1 << 20 {
            let granted: u32 = updates(&server.sent())
                .iter()
                .filter(|(stream, _)| *stream == 1)
                .map(|(_, bytes)| *bytes)
                .sum();
            assert!(granted > 0, "the upload goes on");
            server.feed(frames::data(1, vec![0; granted as usize]));
            server.consume(1, granted as usize);
            bytes += granted as usize;
        }
        server.assert_usable();
    }
}

#[test]
fn c201_no_increment_exceeds_the_largest_window() {
    const MAX: i64 = 0x7fff_ffff;
    for version in SINCE_V3 {
        for window in [65_536, 1 << 20, MAX as u32, u32::MAX] {
            let mut server = Machine::server(version).with(config(window, window));
            let mut session = 65_536;
            let grants = updates(server.greeting());
            session += grants
                .iter()
                .map(|(_, bytes)| i64::from(*bytes))
                .sum::<i64>();
            assert!(grants.iter().all(|(stream, _)| *stream == 0) && session <= MAX);
            server.upload(1);
            let mut stream = i64::from(window.min(MAX as u32));
            for round in 0..50 {
                let bytes = [1, 60_000, 30_000][round % 3].min(stream as usize);
                server.feed(frames::data(1, vec![0; bytes]));
                server.consume(1, bytes);
                stream -= bytes as i64;
                session -= bytes as i64;
                for (target, bytes) in updates(&server.sent()) {
                    assert!(bytes > 0);
                    let window = if target == 0 {
                        &mut session
                    } else {
                        &mut stream
                    };
                    *window += i64::from(bytes);
                    assert!(*window <= MAX, "{target}: {window}");
                }
            }
            server.assert_usable();
        }
    }
}

#[test]
fn credit_of_the_session_comes_although_others_do_not_read() {
    let version = Version::V3_1;
    let mut server = Machine::server(version).with(config(100_000, 150_000));
    server.upload(1);
    server.upload(3);
    server.feed(frames::data(1, vec![0; 100_000]));
    // A third of the session's window is left. A stream that is read must not come to a halt in it.
    let mut window = 50_000;
    for _ in 0..100 {
        let bytes = 16_384.min(window);
        assert!(bytes > 0);
        server.feed(frames::data(3, vec![0; bytes]));
        server.consume(3, bytes);
        window -= bytes;
        for (stream, bytes) in updates(&server.sent()) {
            window += if stream == 0 { bytes as usize } else { 0 };
        }
    }
    assert_eq!(server.connection.phase(), Phase::Open);
}

#[test]
fn c200_after_fin_a_stream_gets_no_credit_and_the_session_does() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version).with(config(100_000, 100_000));
        server.upload(1);
        server.feed(frames::data(1, vec![0; 60_000]));
        server.consume(1, 40_000);
        server.feed(frames::data(1, vec![0; 10_000]).fin());
        server.consume(1, 30_000);
        let expected = if version == Version::V3_1 {
            vec![credit(0, 70_000)]
        } else {
            vec![]
        };
        assert_eq!(server.sent(), expected);
    }
}

#[test]
fn c203_bytes_of_a_stream_that_was_reset_are_given_back_when_they_are_consumed() {
    for by_peer in [false, true] {
        let version = Version::V3_1;
        let mut server = Machine::server(version).with(config(65_536, 65_536));
        server.upload(1);
        server.feed(frames::data(1, vec![0; 40_000]));
        if by_peer {
            server.feed(frames::rst_stream(version, 1, RstStatus::CANCEL));
        } else {
            server.connection.reset(id(1), RstStatus::CANCEL);
        }
        server.sent();
        assert_eq!(server.connection.stats().unread, 40_000);
        server.consume(1, 40_000);
        assert_eq!(server.sent(), [credit(0, 40_000)]);
    }
}

#[test]
fn c205_where_no_window_bounds_it_an_unread_stream_stops_the_reading() {
    for flow_control in [FlowControl::Enforce, FlowControl::Off] {
        let version = match flow_control {
            FlowControl::Enforce => Version::V2,
            FlowControl::Off => Version::V3_1,
        };
        let mut config = Config::default();
        config.flow_control = flow_control;
        config.limits.stream_buffer = 100_000;
        let mut server = Machine::server(version).with(config);
        server.upload(1);
        for _ in 0..20 {
            server.feed(frames::data(1, vec![0; 10_000]));
        }
        assert!(!server.connection.wants_input());
        assert_eq!(server.connection.stats().unread, 100_000);
        assert_eq!(server.unread_input(), 10 * 10_008);
        server.consume(1, 50_000);
        server.read();
        assert_eq!(server.connection.stats().unread, 100_000);
        server.consume(1, 100_000);
        server.read();
        assert_eq!(server.unread_input(), 0);
        server.consume(1, 50_000);
        assert_eq!(server.sent(), []);
        server.assert_usable();
    }
}

/// The FIN of a stream that is answered cannot be heard while another stream keeps this side from
/// reading.
#[test]
fn a_pause_of_reading_is_not_held_against_a_stream_that_is_answered() {
    let mut config = Config::default();
    config.limits.session_buffer = 100_000;
    config.timeouts.unread = None;
    config.timeouts.probe = None;
    let mut server = Machine::server(Version::V3).with(config);
    for stream in [1, 3] {
        server.upload(stream);
    }
    server.reply(1, true);
    server.connection.stop_reading(id(1));
    server.sent();
    server.feed(frames::data(3, vec![0; 100_000]));
    assert!(!server.connection.wants_input());
    server.advance(Duration::from_secs(600));
    assert_eq!(server.sent(), []);
    server.consume(3, 100_000);
    server.feed(frames::data(3, [0]));
    server.sent();
    server.advance(Duration::from_secs(59));
    let is_reset = |frames: &[Received]| frames.contains(&reset(1, RstStatus::CANCEL));
    assert!(!is_reset(&server.sent()));
    server.advance(Duration::from_secs(2));
    assert!(is_reset(&server.sent()));
    server.events();
}

#[test]
fn spdy_3_stops_reading_when_all_streams_together_hold_too_much() {
    let version = Version::V3;
    let mut config = Config::default();
    config.limits.session_buffer = 300_000;
    let mut server = Machine::server(version).with(config);
    for stream in [1, 3, 5] {
        server.upload(stream);
        server.feed(frames::data(stream, vec![0; 100_000]));
    }
    assert!(!server.connection.wants_input());
    server.connection.reset(id(1), RstStatus::CANCEL);
    assert!(!server.connection.wants_input(), "its bytes are still held");
    server.consume(1, 100_000);
    assert!(server.connection.wants_input());
}

/// Both sides have finished the stream that the application does not read. No reset is due, but the
/// stream is the one that is given up.
#[test]
fn a_stream_that_is_finished_and_not_read_is_given_up_and_no_other() {
    for (version, flow_control) in [
        (Version::V2, FlowControl::Enforce),
        (Version::V3, FlowControl::Enforce),
        (Version::V3_1, FlowControl::Off),
    ] {
        let mut config = Config::default();
        config.flow_control = flow_control;
        config.limits.session_buffer = 100_000;
        config.timeouts.probe = None;
        let mut server = Machine::server(version).with(config);
        for stream in [1, 3, 5] {
            server.upload(stream);
        }
        server.feed(frames::data(1, [0]));
        server.feed(frames::data(1, vec![0; 59_999]).fin());
        server.reply(1, true);
        server.feed(frames::data(5, vec![0; 10_000]));
        server.feed(frames::data(3, vec![0; 30_000]));
        server.sent();
        server.events();
        assert_eq!(server.connection.stats().remote_streams, 2);
        assert!(!server.connection.wants_input());

        server.advance(Duration::from_secs(59));
        server.consume(1, 1);
        server.feed(frames::data(3, [0]));
        assert_eq!(server.sent(), []);
        assert_eq!(server.events().len(), 1);
        server.advance(Duration::from_secs(59));
        assert_eq!(server.events(), [], "what was consumed is progress");
        server.advance(Duration::from_secs(1));
        let end = End::TimedOut(Timeout::Unread);
        assert_eq!(server.events(), [Happened::Reset { id: 1, end }]);
        assert_eq!(server.sent(), [], "the peer has nothing to do with it");
        assert!(server.connection.wants_input());
        assert_eq!(server.connection.stats().unread, 40_001);
        server.consume(1, 20_000);
        assert_eq!(
            server.connection.stats().unread,
            40_001,
            "it counts for nothing"
        );
        server.consume(1, 39_999);
        server.consume(3, 30_001);
        server.consume(5, 10_000);
        assert_eq!(server.connection.stats().unread, 0);
    }
}

/// Opens `N` streams on which the peer may send, and returns their ids.
fn receiving<const N: usize>(machine: &mut Machine, side: Side) -> [u32; N] {
    std::array::from_fn(|index| match side {
        Side::Server => {
            let stream = 1 + 2 * index as u32;
            machine.upload(stream);
            stream
        }
        Side::Client => machine.exchange(),
    })
}

/// Finishes the half of this side.
fn finish(machine: &mut Machine, side: Side, stream: u32) {
    match side {
        Side::Server => machine.reply(stream, true),
        Side::Client => machine.send(stream, 0, true),
    }
    machine.sent();
}

/// No reader of one stream keeps the window of the session from the others for ever, whether its
/// stream has ended or not, and whether the window is full or a few bytes of it are free.
#[test]
fn unread_payload_that_leaves_no_room_in_the_session_window_is_given_up() {
    for side in [Side::Server, Side::Client] {
        let mut config = config(100_000, 150_000);
        // They do not grow.
        (
            config.limits.max_stream_window,
            config.limits.max_session_window,
        ) = (0, 0);
        let mut machine = Machine::new(side, Version::V3_1, config);
        let [finished, open, other, steady] = receiving(&mut machine, side);
        machine.feed(frames::data(finished, vec![0; 80_000]).fin());
        finish(&mut machine, side, finished);
        machine.feed(frames::data(open, vec![0; 60_000]));
        machine.feed(frames::data(other, vec![0; 625]));
        machine.sent();
        machine.events();
        assert_eq!(150_000 - machine.connection.stats().unread, 150_000 / 16);
        machine.advance(Duration::from_secs(600));
        assert_eq!(machine.all_events(), [], "there is room to go on");
        assert!(!machine.connection.holds_up_peer());

        machine.feed(frames::data(other, [0]));
        assert_eq!(machine.sent(), []);
        assert!(machine.connection.holds_up_peer());
        for _ in 0..10 {
            machine.feed(frames::data(steady, [0]));
            machine.events();
            machine.advance(Duration::from_secs(5));
            assert_eq!(machine.all_events(), []);
            machine.consume(steady, 1);
        }
        assert_eq!(machine.sent(), []);
        machine.advance(Duration::from_secs(9));
        assert_eq!(
            machine.all_events(),
            [],
            "what goes on in the rest is no progress"
        );
        machine.advance(Duration::from_secs(1));
        let end = End::TimedOut(Timeout::Unread);
        let given_up = |id| [Happened::Reset { id, end }];
        assert_eq!(machine.all_events(), given_up(finished));
        assert_eq!(machine.sent(), [credit(0, 80_010)]);
        assert_eq!(machine.connection.stats().unread, 60_626);
        machine.consume(finished, 80_000);
        assert_eq!(machine.sent(), [], "it counts for nothing");

        machine.feed(frames::data(other, vec![0; 80_000]).fin());
        finish(&mut machine, side, other);
        machine.events();
        machine.consume(other, 80_626);
        machine.sent();
        machine.feed(frames::data(open, vec![0; 40_000]));
        let last = match side {
            Side::Server => {
                machine.upload(9);
                9
            }
            Side::Client => machine.exchange(),
        };
        machine.feed(frames::data(last, vec![0; 49_999]));
        assert_eq!(machine.sent(), []);
        machine.events();
        assert_eq!(machine.connection.stats().unread, 149_999);
        machine.advance(Duration::from_secs(60));
        assert_eq!(machine.all_events(), given_up(open));
        let sent = machine.sent();
        assert_eq!(sent, [reset(open, RstStatus::CANCEL), credit(0, 100_000)]);
    }
}

/// Nothing waits for the window after the end of the peer's bytes.
#[test]
fn nothing_is_given_up_for_a_peer_that_sends_no_more() {
    let mut config = config(100_000, 150_000);
    config.timeouts.probe = None;
    let mut server = Machine::server(Version::V3_1).with(config);
    for stream in [1, 3] {
        server.upload(stream);
        server.feed(frames::data(stream, vec![0; 75_000]).fin());
    }
    server.sent();
    server.events();
    server.end_of_input();
    server.sent();
    server.advance(Duration::from_secs(600));
    assert_eq!(server.events(), []);
    assert_eq!(server.connection.stats().unread, 150_000);
}

/// A stream that is full is in the way by itself, however much others hold.
#[test]
fn a_stream_that_ended_is_not_given_up_for_one_that_is_full() {
    let mut config = Config::default();
    config.limits.stream_buffer = 50_000;
    config.timeouts.probe = None;
    let mut server = Machine::server(Version::V2).with(config);
    for stream in [1, 3] {
        server.upload(stream);
    }
    server.feed(frames::data(1, vec![0; 60_000]).fin());
    server.reply(1, true);
    server.sent();
    server.feed(frames::data(3, vec![0; 50_000]));
    assert_eq!(server.sent(), []);
    server.advance(Duration::from_secs(60));
    assert_eq!(server.sent(), [reset(3, RstStatus::CANCEL)]);
    server.events();
    server.consume(1, 60_000);
    assert_eq!(server.connection.stats().unread, 0);
}

/// Without any time to take it everything is given up that is in the way, and that comes to an end.
#[test]
fn no_time_to_read_is_no_busy_loop() {
    let mut config = Config::default();
    config.limits.session_buffer = 1000;
    config.timeouts.unread = Some(Duration::ZERO);
    let mut server = Machine::server(Version::V3)
        .with(config)
        .alone("a driver gives the second up before it is answered");
    for stream in [1, 3] {
        server.upload(stream);
        server.feed(frames::data(stream, vec![0; 700]).fin());
        server.reply(stream, true);
        server.sent();
    }
    assert!(!server.connection.wants_input());
    server.advance(Duration::from_secs(1));
    assert!(server.connection.wants_input());
    server.events();
    assert_eq!(server.connection.stats().unread, 700);
}
