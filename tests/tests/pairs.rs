//! A client and a server that talk to each other, with bytes that arrive in pieces.

use std::time::Duration;

use bytes::Bytes;
use spdy_frame::{RstStatus, Side, Version};
use spdy_session::{
    Config, FlowControl, Trailers,
    proto::{OpenOptions, Phase, Shutdown},
};
use spdy_tests::{
    machine::{End, Happened, block, id, reply_block, request_block},
    pair::Pair,
};

const PIECES: [usize; 5] = [1, 7, 100, 1460, usize::MAX];

fn body(bytes: usize) -> Bytes {
    (0..bytes).map(|n| (n % 251) as u8).collect()
}

/// The payload of a stream among events, and whether it came to its end.
fn received(stream: u32, events: &[Happened]) -> (Vec<u8>, bool) {
    let (mut bytes, mut ended) = (Vec::new(), false);
    for event in events {
        match event {
            Happened::Data { id, payload, fin } if *id == stream => {
                assert!(!ended, "nothing comes after FIN");
                bytes.extend_from_slice(payload);
                ended = *fin;
            }
            Happened::Opened { id, fin: true, .. }
            | Happened::Replied { id, fin: true, .. }
            | Happened::Headers { id, fin: true, .. }
                if *id == stream =>
            {
                ended = true;
            }
            _ => {}
        }
    }
    (bytes, ended)
}

#[test]
fn bodies_go_both_ways_in_every_version_and_in_any_pieces() {
    for version in Version::ALL {
        for piece in PIECES {
            let bytes = if piece == 1 { 5000 } else { 300_000 };
            let mut pair = Pair::new(version).in_pieces(piece);
            let stream = pair.open(request_block(version), OpenOptions::default());
            let up = body(bytes);
            pair.client.send_data(id(stream), up.clone(), true).unwrap();
            pair.run_reading();
            let events = pair.server_events();
            assert!(matches!(
                events[0],
                Happened::Opened {
                    id: 1,
                    fin: false,
                    ..
                }
            ));
            assert_eq!(received(stream, &events), (up.to_vec(), true));

            let down = body(bytes + 1);
            pair.server
                .send_reply(id(stream), reply_block(version), false)
                .unwrap();
            pair.server
                .send_data(id(stream), down.clone(), true)
                .unwrap();
            pair.run_reading();
            let events = pair.client_events();
            assert!(matches!(
                events[0],
                Happened::Replied {
                    id: 1,
                    fin: false,
                    ..
                }
            ));
            assert_eq!(received(stream, &events), (down.to_vec(), true));
            pair.assert_clean();
        }
    }
}

#[test]
fn trailers_end_a_stream_in_either_form() {
    for version in Version::ALL {
        for trailers in [Trailers::EmptyData, Trailers::FinOnHeaders] {
            let mut config = Config::default();
            config.trailers = trailers;
            let mut pair = Pair::with(version, config.clone(), config).in_pieces(3);
            let stream = pair.open(request_block(version), OpenOptions::default());
            for side in [Side::Client, Side::Server] {
                if side == Side::Server {
                    pair.run_reading();
                    pair.server
                        .send_reply(id(stream), reply_block(version), false)
                        .unwrap();
                }
                let connection = pair.side(side);
                connection.send_data(id(stream), body(50), false).unwrap();
                let sum = block(&[("x-sum", "50")]);
                connection.send_headers(id(stream), sum, true).unwrap();
            }
            pair.run_reading();
            for side in [Side::Client, Side::Server] {
                let events = pair.all_events(side);
                assert_eq!(received(stream, &events), (body(50).to_vec(), true));
                let fields = |event: &Happened| match event {
                    Happened::Headers { fields, .. } => Some(fields.clone()),
                    _ => None,
                };
                let found: Vec<_> = events.iter().filter_map(fields).collect();
                assert_eq!(found, [[("x-sum".to_owned(), "50".to_owned())]]);
            }
            pair.assert_clean();
        }
    }
}

#[test]
fn many_streams_share_the_session_and_leave_nothing() {
    for version in Version::ALL {
        for piece in [100, usize::MAX] {
            let mut pair = Pair::new(version).in_pieces(piece);
            let mut wanted = Vec::new();
            for n in 0..90_usize {
                let stream = pair.open(request_block(version), OpenOptions::default());
                pair.client
                    .send_data(id(stream), body(100 * n), true)
                    .unwrap();
                wanted.push((stream, 100 * n));
            }
            pair.run_reading();
            let events = pair.server_events();
            for &(stream, bytes) in &wanted {
                assert_eq!(received(stream, &events), (body(bytes).to_vec(), true));
                pair.server
                    .send_reply(id(stream), reply_block(version), false)
                    .unwrap();
                pair.server
                    .send_data(id(stream), body(2 * bytes), true)
                    .unwrap();
            }
            pair.run_reading();
            let events = pair.client_events();
            for (stream, bytes) in wanted {
                assert_eq!(received(stream, &events), (body(2 * bytes).to_vec(), true));
            }
            pair.assert_clean();
        }
    }
}

#[test]
fn streams_that_are_reset_half_way_leave_nothing() {
    for version in Version::ALL {
        for resetter in [Side::Client, Side::Server] {
            let mut pair = Pair::new(version);
            for _ in 0..50 {
                let stream = pair.open(request_block(version), OpenOptions::default());
                pair.client
                    .send_data(id(stream), body(100_000), false)
                    .unwrap();
                pair.transmit(Side::Client, 30_000);
                pair.deliver(Side::Server, 30_000);
                pair.side(resetter).reset(id(stream), RstStatus::CANCEL);
                pair.run_reading();
                for side in [Side::Client, Side::Server] {
                    let status = RstStatus::CANCEL;
                    let end = if side == resetter {
                        End::Local(status)
                    } else {
                        End::Remote(status)
                    };
                    let ends: Vec<Happened> = pair
                        .all_events(side)
                        .into_iter()
                        .filter(|event| matches!(event, Happened::Reset { .. }))
                        .collect();
                    assert_eq!(ends, [Happened::Reset { id: stream, end }]);
                    pair.side(side).release(id(stream));
                }
            }
            pair.assert_clean();
        }
    }
}

#[test]
fn pushes_arrive_beside_their_response() {
    for version in Version::ALL {
        let mut pair = Pair::new(version).in_pieces(11);
        let stream = pair.open(request_block(version), OpenOptions::new().fin(true));
        pair.run_reading();
        pair.server
            .send_reply(id(stream), reply_block(version), false)
            .unwrap();
        let push = OpenOptions::new()
            .unidirectional(true)
            .associated(id(stream));
        let now = pair.now();
        let push = pair.server.open(now, request_block(version), push).unwrap();
        pair.server.send_data(push, body(3000), true).unwrap();
        pair.server.send_data(id(stream), body(2000), true).unwrap();
        pair.run_reading();
        let events = pair.client_events();
        assert_eq!(received(push.get(), &events), (body(3000).to_vec(), true));
        assert_eq!(received(stream, &events), (body(2000).to_vec(), true));
        pair.client.release(push);
        pair.assert_clean();
    }
}

#[test]
fn without_flow_control_everything_arrives_all_the_same() {
    for version in Version::ALL {
        let mut config = Config::default();
        config.flow_control = FlowControl::Off;
        let mut pair = Pair::with(version, config.clone(), config);
        let stream = pair.open(request_block(version), OpenOptions::default());
        pair.client
            .send_data(id(stream), body(3 << 20), true)
            .unwrap();
        pair.run();
        let stats = pair.server.stats();
        assert!((256 << 10..300 << 10).contains(&stats.unread), "{stats:?}");
        let before = pair.server_events();
        let (mut bytes, _) = received(stream, &before);
        pair.server.consume(id(stream), bytes.len());
        pair.run_reading();
        let (rest, ended) = received(stream, &pair.server_events());
        bytes.extend(rest);
        assert!(ended && bytes == body(3 << 20));
        pair.server
            .send_reply(id(stream), reply_block(version), true)
            .unwrap();
        pair.run_reading();
        pair.assert_clean();
    }
}

#[test]
fn both_sides_end_in_order() {
    for version in Version::ALL {
        for first in [Side::Client, Side::Server] {
            let mut pair = Pair::new(version).in_pieces(5);
            let stream = pair.open(request_block(version), OpenOptions::default());
            pair.run_reading();
            let now = pair.now();
            let how = Shutdown::Graceful { deadline: None };
            pair.side(first).shutdown(now, how);
            pair.run_reading();
            for side in [Side::Client, Side::Server] {
                assert_ne!(pair.side(side).phase(), Phase::Closing);
            }
            pair.client.send_data(id(stream), body(100), true).unwrap();
            pair.server
                .send_reply(id(stream), reply_block(version), false)
                .unwrap();
            pair.server.send_data(id(stream), body(200), true).unwrap();
            pair.run_reading();
            assert_eq!(
                received(stream, &pair.server_events()),
                (body(100).to_vec(), true)
            );
            assert_eq!(
                received(stream, &pair.client_events()),
                (body(200).to_vec(), true)
            );
            for side in [Side::Client, Side::Server] {
                let connection = pair.side(side);
                assert_eq!(connection.phase(), Phase::Closing, "{side}");
                assert!(connection.outcome().is_ok());
                assert_eq!(connection.stats(), Default::default());
            }
        }
    }
}

#[test]
fn pings_measure_the_way_there_and_back() {
    for version in Version::ALL {
        let mut pair = Pair::new(version);
        let now = pair.now();
        let pings = [Side::Client, Side::Server].map(|side| pair.side(side).ping(now));
        pair.transmit(Side::Client, usize::MAX);
        pair.transmit(Side::Server, usize::MAX);
        pair.advance(Duration::from_millis(20));
        pair.run();
        let rtt = Duration::from_millis(20);
        assert_eq!(pair.client_events(), [Happened::Pong { id: pings[0], rtt }]);
        assert_eq!(pair.server_events(), [Happened::Pong { id: pings[1], rtt }]);
    }
}

#[test]
fn small_windows_slow_down_and_lose_nothing() {
    for version in Version::ALL {
        for stream_window in [1, 100, 5000] {
            let mut config = Config::default();
            config.limits.stream_window = stream_window;
            config.limits.session_window = 65_536;
            let mut pair = Pair::with(version, config.clone(), config);
            let bytes = 66_000;
            for _ in 0..3 {
                let stream = pair.open(request_block(version), OpenOptions::default());
                pair.client
                    .send_data(id(stream), body(bytes), true)
                    .unwrap();
            }
            pair.run_reading();
            let events = pair.server_events();
            for stream in [1, 3, 5] {
                assert_eq!(received(stream, &events), (body(bytes).to_vec(), true));
                pair.server
                    .send_reply(id(stream), reply_block(version), true)
                    .unwrap();
            }
            pair.run_reading();
            pair.assert_clean();
        }
    }
}

#[test]
fn streams_over_the_servers_limit_wait_or_are_refused_and_may_be_tried_again() {
    for version in Version::ALL {
        let mut server = Config::default();
        server.limits.max_streams = 1;
        let mut pair = Pair::with(version, Config::default(), server);
        // Before its SETTINGS have come a client does not know the limit.
        let first = pair.open(request_block(version), OpenOptions::default());
        let second = pair.open(request_block(version), OpenOptions::default());
        pair.run_reading();
        let end = End::NotProcessed;
        assert_eq!(pair.client_events(), [Happened::Reset { id: second, end }]);
        assert!(!pair.client.can_open_now());
        pair.client.finish(id(first)).unwrap();
        pair.server
            .send_reply(id(first), reply_block(version), true)
            .unwrap();
        pair.run_reading();
        assert!(pair.client.can_open_now());
        pair.assert_clean();
    }
}
