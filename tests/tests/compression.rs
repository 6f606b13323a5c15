//! The compression contexts of a session, and the blocks that are written (protocol.md §23.10).

use spdy_frame::{GoAwayStatus, HeaderBlock, Priority, Version};
use spdy_session::{SessionError, proto::OpenOptions};
use spdy_tests::{
    frames::{self, plain_block},
    machine::{Application, Happened, Machine, block, id},
    pair::Pair,
    wire::Received,
};

#[test]
fn c128_a_thousand_requests_decode_in_both_directions() {
    for version in Version::ALL {
        let mut pair = Pair::new(version);
        for n in 0..1000 {
            let text = format!("number {n}");
            let fields = block(&[("x-number", &text), ("cookie", &text), ("x-constant", "c")]);
            let stream = pair.open(fields, OpenOptions::new().fin(true));
            pair.run();
            let value = |fields: &[(String, String)]| fields[0].1.clone();
            let events = pair.server_events();
            let [Happened::Opened { fields, .. }] = &events[..] else {
                panic!("one request: {events:?}");
            };
            assert_eq!(value(fields), text);
            let reply = block(&[("x-number", &text), ("set-cookie", &text)]);
            pair.server.send_reply(id(stream), reply, true).unwrap();
            pair.run();
            let events = pair.client_events();
            let [Happened::Replied { fields, .. }] = &events[..] else {
                panic!("one reply: {events:?}");
            };
            assert_eq!(value(fields), text);
        }
        pair.assert_clean();
    }
}

#[test]
fn c130_c131_c132_a_context_that_is_lost_ends_the_session() {
    for version in Version::ALL {
        let other_dictionary = match version {
            Version::V2 => &[0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2, 0, 0, 0][..],
            Version::V3 | Version::V3_1 => &[0x78, 0xbb, 0xdf, 0xa2, 0x51, 0xb2, 0, 0, 0],
        };
        for bytes in [
            other_dictionary,
            b"no zlib at all",
            // A stored block that says it is the last one.
            &[0x78, 0x01, 0x01, 0, 0, 0xff, 0xff],
        ] {
            for frame in [frames::syn_stream(version, 1), frames::headers(version, 9)] {
                let mut server = Machine::server(version);
                server.feed(frame.compressed_block(bytes));
                server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
                let outcome = server.connection.outcome();
                assert!(
                    matches!(outcome, Err(SessionError::Headers(_))),
                    "{outcome:?}"
                );
                assert_eq!(server.events(), []);
            }
        }
    }
}

#[test]
fn c143_what_is_sent_has_names_in_lower_case_and_each_once() {
    for version in Version::ALL {
        let mut client = Machine::client(version);
        let fields = block(&[
            ("Set-Cookie", "a=1"),
            ("X-Other", "x"),
            ("set-cookie", "b=2"),
        ]);
        let now = client.now();
        client
            .connection
            .open(now, fields, OpenOptions::default())
            .unwrap();
        let sent = client.sent();
        let Received::SynStream { fields, .. } = &sent[0] else {
            panic!("{sent:?}");
        };
        let expected = [("set-cookie", "a=1\0b=2"), ("x-other", "x")];
        assert_eq!(
            *fields,
            expected.map(|(name, value)| (name.into(), value.into()))
        );
    }
}

#[test]
fn c129_a_client_without_a_dictionary_is_understood() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        let plain = plain_block(version, &[(b"x-plain".to_vec(), b"yes".to_vec())]);
        let mut bytes = vec![0x78, 0x01, 0];
        bytes.extend((plain.len() as u16).to_le_bytes());
        bytes.extend((!(plain.len() as u16)).to_le_bytes());
        bytes.extend(plain);
        bytes.extend([0, 0, 0, 0xff, 0xff]);
        server.feed(frames::syn_stream(version, 1).compressed_block(bytes));
        let events = server.events();
        let [Happened::Opened { id: 1, fields, .. }] = &events[..] else {
            panic!("{events:?}");
        };
        assert_eq!(*fields, [("x-plain".into(), "yes".into())]);
        server.continue_blocks();
        server.assert_usable();
    }
}

#[test]
fn c147_blocks_are_compressed_in_the_order_in_which_they_leave() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        let priorities = [7, 0, 3, 1, 6];
        for (n, priority) in (0..).zip(priorities) {
            let byte = Priority::new(priority).unwrap().to_byte(version);
            server.feed(frames::syn_stream(version, 2 * n + 1).priority_bytes([byte, 0]));
        }
        let reply = |connection: &mut Application, stream| {
            let mut fields = HeaderBlock::new();
            fields
                .append("x-stream", format!("the stream {stream}"))
                .unwrap();
            fields
                .append("x-constant", "the same in all of them")
                .unwrap();
            connection.send_reply(id(stream), fields, false).unwrap();
        };
        for stream in [9, 1, 5, 3, 7] {
            reply(&mut server.connection, stream);
            server.send(stream, 5, false);
            let fields = block(&[("x-constant", "the same in all of them")]);
            server
                .connection
                .send_headers(id(stream), fields, true)
                .unwrap();
        }
        // The reader of the machine decodes in wire order: any other order would show.
        let sent = server.sent();
        let replies: Vec<String> = sent
            .iter()
            .filter_map(|frame| frame.field("x-stream"))
            .map(str::to_owned)
            .collect();
        assert_eq!(
            replies,
            [9, 1, 5, 3, 7].map(|stream| format!("the stream {stream}"))
        );
        let constant = sent.iter().filter_map(|frame| frame.field("x-constant"));
        assert!(constant.clone().count() == 10);
        assert!(
            constant
                .into_iter()
                .all(|value| value == "the same in all of them")
        );
    }
}
