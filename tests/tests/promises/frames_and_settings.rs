//! L5, L6, L8, L12, X1, X2 and X8: SETTINGS, HEADERS, versions of frames, statuses, the codec.

use std::time::Duration;

use spdy_frame::{GoAwayStatus, HeaderBlock, RstStatus, SettingFlags, SettingId, Version};
use spdy_session::{Config, OpenOptions, Received as Piece};
use spdy_tests::{
    frames::{self, StoredBlocks},
    machine::{Happened, Machine, SINCE_V3, block, id, packed_requests, reset},
    side::{connect, serve, settle, within},
    wire::Received,
};

const MAX_STREAMS: u32 = 4;

#[tokio::test(start_paused = true)]
async fn l05_1_a_stream_above_the_peers_limit_waits_until_it_is_raised() {
    for version in Version::ALL {
        let mut side = connect(version, Config::default());
        side.peer
            .send(frames::settings(version, &[(MAX_STREAMS, 2)]))
            .await;
        let _open = [side.open().await, side.open().await];
        let opening = side.session.open(side.request(), OpenOptions::default());
        let opening = tokio::spawn(opening);
        side.peer.expect_silence(Duration::from_secs(1)).await;
        assert!(!opening.is_finished());
        side.peer
            .send(frames::settings(version, &[(MAX_STREAMS, 3)]))
            .await;
        let third = within(opening).await.unwrap().unwrap();
        assert_eq!(third.id().get(), 5);
        assert!(matches!(
            side.peer.recv().await,
            Received::SynStream { stream: 5, .. }
        ));
    }
}

#[test]
fn c071_l05_4_ids_of_spdy_2_are_little_endian_as_deployed() {
    let version = Version::V2;
    for (entry, limit) in [
        (*b"\x04\0\0\x01\0\0\0\x02", Some(2)),
        (*b"\x01\0\0\x04\0\0\0\x02", None),
    ] {
        let mut client = Machine::client(version);
        client.feed(frames::control(
            version,
            4,
            [&[0, 0, 0, 1], &entry[..]].concat(),
        ));
        let mut opened = 0;
        while client.connection.can_open_now() && opened < 50 {
            client.open(OpenOptions::default());
            opened += 1;
        }
        assert_eq!(opened, limit.unwrap_or(50));
    }
    // The entries of this side begin with the id, whose first byte comes first.
    let (mut near, far) = tokio::io::duplex(1000);
    let bytes = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(async move {
            let (_session, _incoming, driver) =
                spdy_session::server(far, version, Config::default());
            let driver = tokio::spawn(driver);
            let mut bytes = [0; 28];
            tokio::io::AsyncReadExt::read_exact(&mut near, &mut bytes)
                .await
                .unwrap();
            driver.abort();
            bytes
        });
    assert_eq!(bytes[..8], *b"\x80\x02\0\x04\0\0\0\x14");
    assert_eq!(bytes[12..20], *b"\x04\0\0\0\0\0\0\x64");
}

#[tokio::test(start_paused = true)]
async fn l06_1_l06_2_header_fields_come_in_their_place() {
    for version in Version::ALL {
        let mut side = serve(version, Config::default());
        let (mut recv, _send) = side.upload(1).await.split();
        side.peer.send(frames::data(1, "a")).await;
        side.peer
            .send(frames::headers(version, 1).field("x", "1"))
            .await;
        side.peer.send(frames::data(1, "b")).await;
        side.peer
            .send(frames::headers(version, 1).field("y", "2").fin())
            .await;
        let mut pieces = Vec::new();
        while let Some(piece) = within(recv.next()).await {
            pieces.push(match piece.unwrap() {
                Piece::Data(payload) => String::from_utf8(payload.to_vec()).unwrap(),
                Piece::Headers(block) => format!("{block:?}"),
            });
        }
        assert_eq!(pieces.len(), 4, "{pieces:?}");
        assert_eq!((&pieces[0][..], &pieces[2][..]), ("a", "b"));
        assert!(
            pieces[1].contains('x') && pieces[3].contains('y'),
            "{pieces:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn l06_3_trailers_leave_behind_the_data() {
    for version in Version::ALL {
        let mut side = serve(version, Config::default());
        let (_recv, mut send) = side.upload(1).await.split();
        send.send_data("data".into(), false).unwrap();
        send.send_headers(block(&[("x-late", "yes")]), true)
            .unwrap();
        let data = side.peer.recv().await;
        assert!(matches!(&data, Received::Data { fin: false, payload, .. } if payload == "data"));
        let trailers = side.peer.recv().await;
        assert_eq!(trailers.field("x-late"), Some("yes"));
        // Every peer sees this end: row 110 tests the form with FIN on HEADERS.
        let end = side.peer.recv().await;
        assert!(matches!(&end, Received::Data { fin: true, payload, .. } if payload.is_empty()));
    }
}

#[test]
fn l06_4_a_name_that_comes_again_in_headers_is_passed_on() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.feed(
            frames::syn_stream(version, 1)
                .post("/")
                .field("x-name", "1"),
        );
        server.feed(frames::headers(version, 1).field("x-name", "2").fin());
        let events = server.events();
        let [
            Happened::Opened { fields: first, .. },
            Happened::Headers { fields: second, .. },
        ] = &events[..]
        else {
            panic!("{events:?}");
        };
        assert!(first.contains(&("x-name".into(), "1".into())));
        assert_eq!(*second, [("x-name".into(), "2".into())]);
        server.assert_usable();
    }
}

#[test]
fn c022_l08_1_a_syn_stream_of_another_version_is_not_interpreted() {
    for version in SINCE_V3 {
        let mut server = Machine::server(version);
        // If its block were inflated, the session would end for another reason.
        let frame = frames::syn_stream(version, 1).compressed_block(*b"no zlib at all");
        server.feed(frame.wire_version(2));
        let (last_good, before) = server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
        assert_eq!(last_good, 0);
        assert_eq!(before, [reset(1, RstStatus::UNSUPPORTED_VERSION)]);
        let outcome = format!("{:?}", server.connection.outcome());
        assert!(outcome.contains("Version"), "{outcome}");
    }
}

#[test]
fn c023_c024_l08_2_l08_3_other_frames_of_another_version_are_ignored_or_end_the_session() {
    for version in Version::ALL {
        for other in [0, 1, 2, 3, 4, 0x7fff] {
            if other == version.wire_version() {
                continue;
            }
            let mut server = Machine::server(version);
            server.feed(frames::ping(version, 1).wire_version(other));
            if version == Version::V2 {
                assert_eq!(server.sent(), []);
                server.assert_usable();
            } else {
                server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
            }
            // The compression context of the next blocks would be in doubt.
            let mut server = Machine::server(version);
            server.upload(1);
            let frame = frames::headers(version, 1).field("a", "b");
            server.feed(frame.wire_version(other));
            server.assert_goes_away(GoAwayStatus::PROTOCOL_ERROR);
        }
    }
}

#[test]
fn c126_l12_3_the_vectors_pass_through_a_live_session() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        for (bytes, stream) in packed_requests(version).into_iter().zip([1, 3]) {
            server.feed_bytes(&bytes);
            let events = server.events();
            let [
                Happened::Opened {
                    id,
                    fields,
                    fin: true,
                    ..
                },
            ] = &events[..]
            else {
                panic!("{events:?}");
            };
            let names = match version {
                Version::V2 => ["method", "url", "version", "host", "scheme"],
                Version::V3 | Version::V3_1 => [":method", ":path", ":version", ":host", ":scheme"],
            };
            let values = ["GET", "/", "HTTP/1.1", "a.test", "https"];
            let expected: Vec<(String, String)> = names
                .iter()
                .zip(values)
                .map(|(name, value)| ((*name).into(), value.into()))
                .collect();
            assert_eq!((*id, fields), (stream, &expected));
            server.reply(stream, true);
            assert_eq!(server.sent().len(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn l05_6_values_to_be_kept_are_given_to_the_application_and_never_echoed() {
    for version in Version::ALL {
        let mut side = connect(version, Config::default());
        let persist = 1 << 24;
        let entries = [(4, 7), (persist | 5, 32), (0x00ab_cdef, 9)];
        side.peer.send(frames::settings(version, &entries)).await;
        settle().await;
        let persisted = |id| {
            let settings = side.session.peer_settings();
            let entry = settings.into_iter().find(|entry| entry.id == id).unwrap();
            (entry.value, entry.flags)
        };
        assert_eq!(persisted(SettingId(5)), (32, SettingFlags::PERSIST_VALUE));
        assert_eq!(persisted(SettingId(0x00ab_cdef)), (9, SettingFlags::NONE));
        assert_eq!(persisted(SettingId::MAX_CONCURRENT_STREAMS).0, 7);
        // The client has announced its own settings at the start, and sends nothing more.
        side.peer
            .recv_until(|frame| matches!(frame, Received::Settings(_)))
            .await;
        side.peer.send(frames::ping(version, 2)).await;
        loop {
            match side.peer.recv().await {
                Received::Ping(_) => break,
                Received::Settings(settings) => panic!("{settings:?}"),
                _ => {}
            }
        }
    }
}

#[test]
fn x01_every_status_has_its_number() {
    let statuses = [
        (RstStatus::PROTOCOL_ERROR, 1),
        (RstStatus::INVALID_STREAM, 2),
        (RstStatus::REFUSED_STREAM, 3),
        (RstStatus::UNSUPPORTED_VERSION, 4),
        (RstStatus::CANCEL, 5),
        (RstStatus::INTERNAL_ERROR, 6),
        (RstStatus::FLOW_CONTROL_ERROR, 7),
        (RstStatus::STREAM_IN_USE, 8),
        (RstStatus::STREAM_ALREADY_CLOSED, 9),
        (RstStatus::FRAME_TOO_LARGE, 11),
    ];
    for version in Version::ALL {
        for (status, number) in statuses {
            if version == Version::V2 && number > 7 {
                continue;
            }
            let frame =
                frames::rst_stream(version, 1, status).bytes(&mut StoredBlocks::new(version));
            assert_eq!(frame[8..], [0, 0, 0, 1, 0, 0, 0, number]);
            let mut server = Machine::server(version);
            server.upload(1);
            server.connection.reset(id(1), status);
            // The machine of the tests reads it with the codec, which `frames` does not use.
            assert_eq!(server.sent(), [reset(1, RstStatus(number.into()))]);
        }
    }
}

#[test]
fn x02_three_values_of_a_name_are_three() {
    for version in Version::ALL {
        let mut client = Machine::client(version);
        let stream = client.open(OpenOptions::default());
        client.sent();
        let reply = frames::syn_reply(version, stream).status("200 OK");
        client.feed(reply.field("set-cookie", "a=1\0b=2\0c=3"));
        client.events();
        client.assert_usable();
    }
    let mut block = HeaderBlock::new();
    for value in ["a=1", "b=2", "c=3"] {
        block.append("set-cookie", value).unwrap();
    }
    let values: Vec<&[u8]> = block.fields().flat_map(|field| field.values()).collect();
    assert_eq!(values, [b"a=1", b"b=2", b"c=3"]);
}

#[test]
fn x08_an_id_with_bad_headers_is_used_and_counts() {
    for version in Version::ALL {
        let mut server = Machine::server(version);
        server.feed(frames::syn_stream(version, 1).field("", "empty"));
        let status = RstStatus::PROTOCOL_ERROR;
        assert_eq!(server.sent(), [reset(1, status)]);
        server.feed(frames::syn_stream(version, 1).get("/"));
        assert_eq!(server.sent(), [reset(1, status)]);
        assert_eq!(server.events(), []);
        server.assert_usable();
    }
}
