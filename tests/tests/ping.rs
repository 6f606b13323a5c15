//! PING (protocol.md §23.6).

use std::time::Duration;

use spdy_frame::{GoAwayStatus, Ping, Version};
use spdy_session::proto::Phase;
use spdy_tests::{
    frames,
    machine::{Happened, Machine},
    wire::Received,
};

fn ping(id: u32) -> Received {
    Received::Ping(Ping { id })
}

#[test]
fn c087_pings_of_the_peer_are_echoed_in_order() {
    for version in Version::ALL {
        for (side, ids) in [
            (
                Machine::server as fn(Version) -> Machine,
                [1, 3, 0xffff_ffff],
            ),
            (Machine::client, [2, 4, 0xffff_fffe]),
        ] {
            let mut machine = side(version);
            for id in ids {
                machine.feed(frames::ping(version, id));
            }
            assert_eq!(machine.sent(), ids.map(ping));
            assert_eq!(machine.sent(), [], "once");
            assert_eq!(machine.events(), []);
        }
    }
}

#[test]
fn c088_c093_answers_that_nobody_asked_for_are_ignored() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        for id in [2, 0, 0xffff_fffe] {
            server.feed(frames::ping(version, id));
        }
        assert_eq!((server.sent(), server.events()), (vec![], vec![]));
        server.assert_usable();

        let mut client = Machine::client(version);
        for id in [1, 0xffff_ffff] {
            client.feed(frames::ping(version, id));
        }
        assert_eq!((client.sent(), client.events()), (vec![], vec![]));
        client.assert_usable();
    }
}

#[test]
fn c089_pings_of_ours_have_ids_of_our_parity_and_are_matched_once() {
    for version in Version::ALL {
        for (side, ids) in [
            (Machine::server as fn(Version) -> Machine, [2, 4, 6]),
            (Machine::client, [1, 3, 5]),
        ] {
            let mut machine = side(version);
            let now = machine.now();
            let tokens = ids.map(|_| machine.connection.ping(now));
            assert_eq!(machine.sent(), ids.map(ping));
            machine.advance(Duration::from_millis(30));
            machine.feed(frames::ping(version, ids[1]));
            machine.feed(frames::ping(version, ids[1]));
            let rtt = Duration::from_millis(30);
            assert_eq!(machine.events(), [Happened::Pong { id: tokens[1], rtt }]);
            machine.feed(frames::ping(version, ids[0]));
            assert_eq!(machine.events(), [Happened::Pong { id: tokens[0], rtt }]);
            assert_eq!(machine.sent(), []);
        }
    }
}

#[test]
fn c090_an_answer_overtakes_data_that_is_queued() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        if version != Version::V2 {
            server.feed(frames::settings(version, &[(7, 0x7fff_ffff)]));
            server.feed(frames::window_update(version, 0, 1 << 30));
        }
        for n in 0..10 {
            server.request(2 * n + 1);
        }
        for n in 0..10 {
            server.respond(2 * n + 1, 1 << 20);
        }
        let prepared = server.unsent_bytes();
        assert!((64_000..=65_000).contains(&prepared), "{prepared} bytes");
        server.feed(frames::ping(version, 1));
        let sent = server.sent();
        let place = sent.iter().position(|frame| *frame == ping(1)).unwrap();
        let ahead: usize = sent[..place]
            .iter()
            .map(|frame| match frame {
                Received::Data { payload, .. } => payload.len(),
                _ => 0,
            })
            .sum();
        assert!(
            ahead <= prepared,
            "only what was prepared is ahead: {ahead}"
        );
    }
}

#[test]
fn c091_a_ping_of_another_length_ends_the_session() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.feed(frames::control(version, 6, [0; 8]));
        server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
    }
}

#[test]
fn c092_reading_pauses_while_the_peer_leaves_answers_unread() {
    for version in Version::ALL {
        let mut server = Machine::server(version).alone("the driver reads on as soon as it may");
        let flood: Vec<u8> = (0..1000)
            .flat_map(|n| server.bytes(&frames::ping(version, 2 * n + 1)))
            .collect();
        server.feed_bytes(&flood);
        assert!(!server.connection.wants_input());
        assert_eq!(server.unread_input(), 12 * (1000 - 256));
        let mut answered = 0;
        // The answers that are prepared count until the peer has read them.
        assert_eq!(server.unsent_bytes(), 12 * 256);
        server.read();
        assert_eq!(server.unread_input(), 12 * (1000 - 256));
        while answered < 1000 {
            let sent = server.sent();
            assert!(!sent.is_empty());
            answered += sent.len();
            server.unsent_bytes();
            server.read();
        }
        assert_eq!(answered, 1000);
        server.assert_usable();
    }
}

#[test]
fn c092_a_peer_that_never_reads_its_answers_is_cut_off() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        let flood: Vec<u8> = (0..100_000)
            .flat_map(|n| server.bytes(&frames::ping(version, 2 * n + 1)))
            .collect();
        server.feed_bytes(&flood);
        assert_eq!(server.unread_input(), 12 * (100_000 - 256));
        assert_eq!(server.unsent_bytes(), 12 * 256);
        server.advance(Duration::from_secs(29));
        assert_eq!(server.connection.phase(), Phase::Open);
        server.advance(Duration::from_secs(1));
        assert_eq!(server.connection.phase(), Phase::Closing);
        assert_eq!(server.sent(), []);
        assert_eq!(server.connection.poll_timeout(), None);
    }
}

#[test]
fn a_flood_of_pings_ends_the_session_although_the_answers_are_read() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        let mut rounds = 0;
        while server.connection.phase() == Phase::Open {
            server.feed(frames::ping(version, 1));
            server.sent_bytes();
            rounds += 1;
            assert!(rounds <= 20_000);
        }
        assert!(rounds > 10_000, "{rounds}");
    }
}

#[test]
fn keep_alive_asks_once_and_gives_up_without_an_answer() {
    for version in Version::ALL {
        let mut config = spdy_session::Config::default();
        config.timeouts.keep_alive = Some(Duration::from_secs(10));
        let mut client = Machine::client(version).with(config);
        let stream = client.exchange();
        client.advance(Duration::from_secs(10));
        assert_eq!(client.sent(), [ping(1)]);
        client.advance(Duration::from_secs(19));
        assert_eq!(client.sent(), []);
        client.feed(frames::ping(version, 1));
        client.advance(Duration::from_secs(10));
        assert_eq!(client.sent(), [ping(3)]);
        client.advance(Duration::from_secs(20));
        client.assert_goes_away(GoAwayStatus::OK);
        assert!(client.connection.outcome().is_err());
        assert_eq!(client.events().last().unwrap().stream(), Some(stream));
    }
}
