//! DATA and streams that are closed on one side (protocol.md §23.9).

use spdy_frame::{GoAwayStatus, Priority, RstStatus, Version};
use spdy_session::{Config, proto::OpenOptions};
use spdy_tests::{
    frames,
    machine::{End, Happened, Machine, SINCE_V3, id, payload_of, reset},
    wire::Received,
};

/// Opens the windows of a peer as far as they go.
fn open_windows(machine: &mut Machine) {
    let version = machine.connection.version();
    machine.feed(frames::settings(version, &[(7, 0x7fff_ffff)]));
    machine.feed(frames::window_update(version, 0, 0x7fff_0000 - 65_536));
}

/// The streams of the DATA frames in order.
fn order(frames: &[Received]) -> Vec<u32> {
    let data = frames.iter();
    data.filter_map(|frame| match frame {
        Received::Data { stream, .. } => Some(*stream),
        _ => None,
    })
    .collect()
}

#[test]
fn c112_empty_data_is_accepted() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.upload(1);
        server.feed(frames::data(1, []));
        assert_eq!(server.events(), [], "it tells nothing");
        server.feed(frames::data(1, "x"));
        server.feed(frames::data(1, []));
        server.feed(frames::data(1, []).fin());
        assert_eq!(
            server.events(),
            [Happened::data(1, "x", false), Happened::data(1, [], true)]
        );
        server.assert_usable();
    }
}

#[test]
fn c108_c113_c114_data_and_headers_after_fin_reset_the_stream() {
    for version in Version::ALL {
        let status = match version {
            Version::V2 => RstStatus::INVALID_STREAM,
            Version::V3 | Version::V3_1 => RstStatus::STREAM_ALREADY_CLOSED,
        };
        for frame in [
            frames::data(1, "late"),
            frames::data(1, "late").fin(),
            frames::headers(version, 1).field("x-late", "yes"),
        ] {
            let mut server = Machine::server(version);
            server.request(1);
            server.reply(1, false);
            server.sent();
            server.feed(frame);
            assert_eq!(server.sent(), [reset(1, status)]);
            let end = End::Library(status);
            assert_eq!(server.events(), [Happened::Reset { id: 1, end }]);
            server.assert_usable();
        }
    }
}

#[test]
fn c115_c116_data_on_a_closed_stream_is_answered_once_or_in_spdy_2_ignored() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.request(1);
        server.reply(1, true);
        server.sent();
        for _ in 0..3 {
            server.feed(frames::data(1, "late"));
        }
        let expected = match version {
            Version::V2 => vec![],
            Version::V3 | Version::V3_1 => vec![reset(1, RstStatus::PROTOCOL_ERROR)],
        };
        assert_eq!(server.sent(), expected);
        assert_eq!(server.events(), []);
        server.assert_usable();
    }
}

#[test]
fn c117_data_on_a_stream_that_never_was_is_answered_once() {
    for version in Version::ALL {
        for side in [Machine::server, Machine::client] {
            let mut machine = side(version);
            for stream in [99, 100] {
                machine.feed(frames::data(stream, "what"));
                machine.feed(frames::data(stream, "what").fin());
                assert_eq!(machine.sent(), [reset(stream, RstStatus::INVALID_STREAM)]);
            }
            assert_eq!(machine.events(), []);
            machine.assert_usable();
        }
    }
}

#[test]
fn c118_data_on_stream_0_ends_the_session() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.feed(frames::data(0, "what"));
        server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
    }
}

#[test]
fn c119_compressed_data_resets_the_stream() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.upload(1);
        server.feed(frames::data(1, vec![0; 1000]).flag(2));
        assert_eq!(server.sent(), [reset(1, RstStatus::PROTOCOL_ERROR)]);
        assert_eq!(
            server.connection.stats().unread,
            0,
            "the bytes are given back"
        );
        server.events();
        server.assert_usable();
    }
}

#[test]
fn c120_a_client_that_has_finished_gets_the_whole_response() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        open_windows(&mut server);
        server.request(1);
        server.respond(1, 300_000);
        let sent = server.sent();
        assert_eq!(payload_of(1, &sent), 300_000);
        assert!(matches!(
            sent.last(),
            Some(Received::Data { fin: true, .. })
        ));
    }
}

#[test]
fn c121_a_body_goes_on_after_the_response_has_ended() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.upload(1);
        server.reply(1, true);
        server.sent();
        server.feed(frames::data(1, "still"));
        server.feed(frames::data(1, "coming").fin());
        assert_eq!(
            server.events(),
            [
                Happened::data(1, "still", false),
                Happened::data(1, "coming", true)
            ]
        );
        server.consume(1, 11);
        assert_eq!(server.connection.stats(), Default::default());
        server.assert_usable();
    }
}

#[test]
fn c121_a_body_that_nobody_reads_is_dropped_up_to_a_limit() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.upload(1);
        server.reply(1, true);
        server.sent();
        server.all_events();
        server.connection.stop_reading(id(1));
        let mut bytes = 0;
        let sent = loop {
            server.feed(frames::data(1, vec![0; 16_384]));
            bytes += 16_384;
            assert_eq!(server.connection.stats().unread, 0);
            let sent = server.sent();
            if sent
                .iter()
                .any(|frame| matches!(frame, Received::RstStream(_)))
            {
                break sent;
            }
        };
        assert_eq!(bytes, (1 << 20) + 16_384);
        assert!(sent.contains(&reset(1, RstStatus::CANCEL)));
        let end = End::Local(RstStatus::CANCEL);
        assert_eq!(server.events(), [Happened::Reset { id: 1, end }]);
        server.assert_usable();

        // A body that ends before is the normal end of a stream.
        let mut server = Machine::server(version);
        server.upload(1);
        server.reply(1, true);
        server.connection.stop_reading(id(1));
        server.sent();
        server.feed(frames::data(1, "end").fin());
        assert_eq!(server.connection.stats(), Default::default());
        assert_eq!(server.sent(), []);
    }
}

#[test]
fn c122_what_came_before_fin_is_all_delivered() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.upload(1);
        for n in 0..100 {
            server.feed(frames::data(1, [n]));
        }
        server.feed(frames::data(1, []).fin());
        let mut expected: Vec<Happened> = (0..100).map(|n| Happened::data(1, [n], false)).collect();
        expected.push(Happened::data(1, [], true));
        assert_eq!(server.events(), expected);
    }
}

#[test]
fn c123_streams_of_one_priority_take_turns_in_frames_of_the_configured_size() {
    for version in Version::ALL {
        let mut config = Config::default();
        config.limits.data_frame = 5000;
        let mut server = Machine::server(version).with(config);
        open_windows(&mut server);
        for stream in [1, 3] {
            server.request(stream);
        }
        for stream in [1, 3] {
            server.respond(stream, 50_000);
        }
        let sent = server.sent();
        // The last frame of a packet can be cut. Then its rest is the next one.
        let mut order = order(&sent);
        order.dedup();
        assert_eq!(order, [1, 3].repeat(10));
        assert!(
            sent.iter().all(
                |frame| !matches!(frame, Received::Data { payload, .. } if payload.len() > 5000)
            )
        );
    }
}

#[test]
fn c124_the_highest_priority_is_served_first_and_the_lowest_at_last() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        open_windows(&mut server);
        let (high, low) = ([0, 0], [0xe0, 0]);
        for (stream, priority) in [(1, low), (3, high)] {
            server.feed(
                frames::syn_stream(version, stream)
                    .priority_bytes(priority)
                    .fin(),
            );
        }
        for stream in [1, 3] {
            server.respond(stream, 30 * 16_384);
        }
        let order = order(&server.sent());
        let first_low = order.iter().position(|&stream| stream == 1).unwrap();
        assert!(first_low >= 16, "{order:?}");
        assert!(
            first_low < 30,
            "the lowest does not wait for ever: {order:?}"
        );
    }
}

#[test]
fn c124_a_clients_priorities_hold_for_its_own_data() {
    for version in Version::ALL {
        let mut client = Machine::client(version);
        open_windows(&mut client);
        let streams = [Priority::LOWEST, Priority::HIGHEST]
            .map(|priority| client.open(OpenOptions::new().priority(priority)));
        for stream in streams {
            client.send(stream, 40_000, true);
        }
        assert_eq!(order(&client.sent()), [3, 3, 3, 1, 1, 1]);
    }
}

#[test]
fn c125_a_frame_of_16_mib_is_handled_piece_by_piece() {
    for version in Version::ALL {
        let mut config = Config::default();
        config.limits.stream_window = 0x7fff_ffff;
        config.limits.session_window = 0x7fff_ffff;
        let mut server = Machine::server(version).with(config);
        server.upload(1);
        let length = 0xff_ffff;
        server.feed(frames::data(1, []).length(length).fin());
        assert_eq!(server.events(), []);
        let (mut bytes, mut last) = (0, false);
        let piece = vec![7; 100_000];
        while !last {
            let size = piece.len().min(length as usize - bytes);
            server.feed_bytes(&piece[..size]);
            for event in server.events() {
                let Happened::Data { payload, fin, .. } = event else {
                    panic!("only data comes: {event:?}");
                };
                bytes += payload.len();
                last = fin;
                server.consume(1, payload.len());
            }
        }
        assert_eq!(bytes, length as usize);
        server.respond(1, 1);
        server.sent();
        assert_eq!(server.connection.stats(), Default::default());
        server.assert_usable();
    }
}

#[test]
fn a_frame_beyond_the_window_is_answered_at_its_head() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version);
        server.upload(1);
        server.feed(frames::data(1, []).length(300_000));
        assert_eq!(server.sent(), [reset(1, RstStatus::FLOW_CONTROL_ERROR)]);
        server.events();
        for _ in 0..3 {
            server.feed_bytes(&[0; 100_000]);
        }
        assert_eq!(server.events(), []);
        assert_eq!(server.connection.stats().unread, 0);
        server.assert_usable();
    }
}
