//! SETTINGS: what is sent, and the effect of what is received (protocol.md §23.5).

use spdy_frame::{GoAwayStatus, SettingFlags, SettingId, Version};
use spdy_session::{
    Config, FlowControl, OpenError,
    proto::{OpenOptions, Phase},
};
use spdy_tests::{
    frames,
    machine::{Machine, SINCE_V3, id, payload_of, request_block},
    wire::Received,
};

const MAX_STREAMS: u32 = 4;
const INITIAL_WINDOW: u32 = 7;

/// The flag in the top byte of an id, where [`frames::settings`] wants it.
const PERSIST_VALUE: u32 = 0x0100_0000;
const PERSISTED: u32 = 0x0200_0000;

/// How much of a large response goes out on stream 1, without any WINDOW_UPDATE.
fn sent_of_response(server: &mut Machine) -> usize {
    server.request(1);
    server.respond(1, 200_000);
    payload_of(1, &server.sent())
}

/// The values of the first SETTINGS, flags and order checked.
fn announced(machine: &Machine) -> Vec<(u32, u32)> {
    let Received::Settings(settings) = &machine.greeting()[0] else {
        panic!("SETTINGS come first: {:?}", machine.greeting());
    };
    assert!(!settings.clear);
    assert!(settings.entries.is_sorted_by_key(|entry| entry.id));
    let entries = settings.entries.iter();
    entries
        .map(|entry| {
            assert_eq!(
                entry.flags,
                SettingFlags::NONE,
                "nothing is to be persisted"
            );
            (entry.id.0, entry.value)
        })
        .collect()
}

#[test]
fn c071_c083_a_client_that_allows_one_stream_gets_one_push_at_a_time() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        if version == Version::V2 {
            // The id is in little-endian order.
            server.feed_bytes(
                b"\x80\x02\x00\x04\x00\x00\x00\x0c\x00\x00\x00\x01\x04\x00\x00\x00\x00\x00\x00\x01",
            );
        } else {
            server.feed(frames::settings(version, &[(MAX_STREAMS, 1)]));
        }
        let push = OpenOptions::new().unidirectional(true);
        let first = server.open(push);
        let now = server.now();
        assert!(!server.connection.can_open_now());
        let second = server.connection.open(now, request_block(version), push);
        assert!(matches!(second, Err(OpenError::TooManyStreams)));
        server.send(first, 10, true);
        assert_eq!(server.sent().len(), 2);
        assert!(server.connection.can_open_now(), "the first one is done");
        assert_eq!(server.open(push), 4);
    }
}

#[test]
fn c072_c073_the_first_frame_says_what_the_peer_may_do() {
    for version in Version::ALL {
        let mut config = Config::default();
        config.limits.max_streams = 123;
        config.limits.stream_window = 100_000;
        let window = if version == Version::V2 {
            0x7fff_ffff
        } else {
            100_000
        };
        let server = Machine::server(version).with(config.clone());
        assert_eq!(
            announced(&server),
            [(MAX_STREAMS, 123), (INITIAL_WINDOW, window)]
        );
        let client = Machine::client(version).with(config.clone());
        assert_eq!(
            announced(&client),
            [(MAX_STREAMS, 0), (INITIAL_WINDOW, window)]
        );
        config.accept_push = true;
        let client = Machine::client(version).with(config);
        assert_eq!(
            announced(&client),
            [(MAX_STREAMS, 123), (INITIAL_WINDOW, window)]
        );
    }
}

#[test]
fn c074_of_two_entries_in_a_frame_the_first_counts() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version);
        let entries = [(INITIAL_WINDOW, 20_000), (INITIAL_WINDOW, 10)];
        server.feed(frames::settings(version, &entries));
        assert_eq!(sent_of_response(&mut server), 20_000);
    }
}

#[test]
fn c075_of_two_frames_the_later_counts() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version);
        server.feed(frames::settings(version, &[(INITIAL_WINDOW, 10)]));
        server.feed(frames::settings(version, &[(INITIAL_WINDOW, 20_000)]));
        assert_eq!(sent_of_response(&mut server), 20_000);
    }
}

#[test]
fn c076_unknown_ids_are_ignored() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.feed(frames::settings(
            version,
            &[(0xabcd, 1), (0, 2), (8, 3), (1, 4)],
        ));
        assert_eq!((server.sent(), server.events()), (vec![], vec![]));
        server.assert_usable();
    }
}

#[test]
fn c077_persist_value_is_ignored_and_the_value_counts() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version);
        server.feed(frames::settings(
            version,
            &[(PERSIST_VALUE | INITIAL_WINDOW, 500)],
        ));
        assert_eq!(server.sent(), [], "nothing is echoed");
        assert_eq!(sent_of_response(&mut server), 500);
    }
    let version = Version::V2;
    let mut server = Machine::server(version);
    server.feed(frames::settings(
        version,
        &[(PERSIST_VALUE | MAX_STREAMS, 0)],
    ));
    assert_eq!(server.sent(), []);
    assert!(!server.connection.can_open_now());
}

#[test]
fn c078_values_that_were_persisted_are_not_the_peers() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        let entries = [
            (PERSISTED | MAX_STREAMS, 0),
            (PERSISTED | INITIAL_WINDOW, 1),
        ];
        server.feed(frames::settings(version, &entries));
        assert!(server.connection.can_open_now());
        assert!(sent_of_response(&mut server) >= 65_536);
    }
}

#[test]
fn c079_c080_a_count_that_does_not_fit_the_length_ends_the_session() {
    for version in Version::ALL {
        let mut two_for_one = 2_u32.to_be_bytes().to_vec();
        two_for_one.extend([0; 8]);
        for payload in [two_for_one, u32::MAX.to_be_bytes().to_vec()] {
            let mut server = Machine::server(version);
            server.feed(frames::control(version, 4, payload));
            server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
        }
    }
}

#[test]
fn c081_settings_without_entries_are_accepted() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.feed(frames::settings(version, &[]));
        server.feed(frames::settings(version, &[]).flag(1));
        assert_eq!(server.sent(), []);
        server.assert_usable();
    }
}

#[test]
fn c082_a_client_that_allows_no_streams_gets_no_push() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.feed(frames::settings(version, &[(MAX_STREAMS, 0)]));
        server.request(1);
        let push = OpenOptions::new().unidirectional(true).associated(id(1));
        let now = server.now();
        let error = server.connection.open(now, request_block(version), push);
        assert!(matches!(error, Err(OpenError::TooManyStreams)));
        assert_eq!(server.sent(), []);
        server.assert_usable();
    }
}

#[test]
fn c084_an_initial_window_beyond_the_largest_ends_the_session() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version);
        server.feed(frames::settings(version, &[(INITIAL_WINDOW, 1 << 31)]));
        server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
    }
    let mut server = Machine::server(Version::V2);
    server.feed(frames::settings(Version::V2, &[(INITIAL_WINDOW, 1 << 31)]));
    server.assert_usable();
}

#[test]
fn c085_spdy_2_knows_no_window() {
    let mut server = Machine::server(Version::V2);
    server.feed(frames::settings(Version::V2, &[(INITIAL_WINDOW, 1)]));
    assert_eq!(sent_of_response(&mut server), 200_000);
}

#[test]
fn c086_without_settings_the_defaults_count() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        let expected = if version == Version::V2 {
            200_000
        } else {
            65_536
        };
        assert_eq!(sent_of_response(&mut server), expected);
        for _ in 0..1000 {
            server.open(OpenOptions::default());
        }
    }
}

#[test]
fn a_lower_limit_closes_nothing() {
    for version in Version::ALL {
        let mut client = Machine::client(version);
        let streams = [(); 3].map(|()| client.exchange());
        client.feed(frames::settings(version, &[(MAX_STREAMS, 1)]));
        assert!(!client.connection.can_open_now());
        for stream in streams {
            client.send(stream, 1, true);
            client.feed(frames::data(stream, []).fin());
        }
        client.sent();
        assert!(client.connection.can_open_now());
        client.assert_usable();
    }
}

#[test]
fn too_many_settings_end_the_session() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        for n in 0..33 {
            assert_eq!(server.connection.phase(), Phase::Open, "after {n} frames");
            server.feed(frames::settings(version, &[(INITIAL_WINDOW, n)]));
        }
        server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
    }
}

#[test]
fn without_flow_control_settings_are_neither_sent_nor_heeded() {
    for version in Version::ALL {
        let mut config = Config::default();
        config.flow_control = FlowControl::Off;
        let mut server = Machine::server(version).with(config);
        assert_eq!(server.greeting(), []);
        let entries = [(MAX_STREAMS, 0), (INITIAL_WINDOW, 0)];
        server.feed(frames::settings(version, &entries));
        assert!(server.connection.can_open_now());
        assert_eq!(sent_of_response(&mut server), 200_000);
        server.assert_usable();
    }
}

#[test]
fn ids_are_those_of_the_drafts() {
    assert_eq!(SettingId::MAX_CONCURRENT_STREAMS.0, MAX_STREAMS);
    assert_eq!(SettingId::INITIAL_WINDOW_SIZE.0, INITIAL_WINDOW);
}
