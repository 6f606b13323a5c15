//! Counters: exact for conversations that are known, and each limit names itself.

use std::{sync::Arc, time::Duration};

use bytes::Buf;
use spdy_frame::{FrameKind, GoAwayStatus, RstStatus, Side, Version};
use spdy_session::{
    Config, Count, Counters, Counts, FlowControl, Limit, OpenOptions,
    proto::{Connection, Phase, Shutdown},
};
use spdy_tests::{
    frames::{self, StoredBlocks},
    machine::{Machine, block, id, reply_block, request_block},
    pair::Pair,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

/// A configuration that counts, and what it counts in.
fn counting() -> (Config, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    let mut config = Config::default();
    config.counters = Some(Arc::clone(&counters));
    (config, counters)
}

/// The counts that are not 0, as metrics show them.
fn counted(counts: &Counts) -> Vec<(String, u64)> {
    let some = counts.iter().filter(|(_, number)| *number > 0);
    some.map(|(count, number)| (count.to_string(), number))
        .collect()
}

/// The limits that were reached.
fn reached(counters: &Counters) -> Vec<(Limit, u64)> {
    let counts = counters.snapshot();
    let limits = Limit::ALL.map(|limit| (limit, counts.get(Count::Limit(limit))));
    limits.into_iter().filter(|(_, times)| *times > 0).collect()
}

/// A request that is answered with 20,000 bytes, one that is cancelled, and a PING.
fn converse(version: Version, piece: usize) -> [Counts; 2] {
    let ((client, of_client), (server, of_server)) = (counting(), counting());
    let mut pair = Pair::with(version, client, server).in_pieces(piece);
    let fin = true;
    let how = OpenOptions::new().fin(fin);
    let stream = id(pair.open(request_block(version), how));
    pair.run();
    let server = &mut pair.server;
    server
        .send_reply(stream, reply_block(version), false)
        .and_then(|()| server.send_data(stream, vec![0; 20_000].into(), true))
        .expect("it can be answered");
    pair.run_reading();
    let stream = id(pair.open(request_block(version), OpenOptions::default()));
    pair.run();
    pair.client.reset(stream, RstStatus::CANCEL);
    pair.client.ping(pair.now());
    pair.run();
    [of_client, of_server].map(|counters| counters.snapshot())
}

#[test]
fn a_conversation_is_counted_exactly_on_both_sides() {
    for version in Version::ALL {
        for piece in [1, 1000, usize::MAX] {
            let [client, server] = converse(version, piece);
            let opened = Count::StreamsOpened;
            assert_eq!([client.get(opened), server.get(opened)], [2, 0]);
            let received = Count::StreamsReceived;
            assert_eq!([client.get(received), server.get(received)], [0, 2]);
            let sent = |kind| [&client, &server].map(|side| side.get(Count::FramesSent(kind)));
            assert_eq!(sent(FrameKind::Data), [0, 2], "{version}, {piece}");
            assert_eq!(sent(FrameKind::SynStream), [2, 0]);
            assert_eq!(sent(FrameKind::SynReply), [0, 1]);
            assert_eq!(sent(FrameKind::Settings), [1, 1]);
            assert_eq!(sent(FrameKind::Ping), [1, 1]);
            assert_eq!(sent(FrameKind::RstStream), [1, 0]);
            let status = RstStatus::CANCEL;
            assert_eq!(client.get(Count::ResetsSent(status)), 1);
            assert_eq!(server.get(Count::ResetsReceived(status)), 1);
            assert!(client.get(Count::BytesReceived) > 20_000 + 16);

            // What one side has sent the other one has received, frame by frame and byte by byte.
            for (from, to) in [(&client, &server), (&server, &client)] {
                for count in Count::all() {
                    if let Some(there) = on_the_other_side(count) {
                        assert_eq!(from.get(count), to.get(there), "{version}: {count}");
                    }
                }
            }
        }
    }
}

fn on_the_other_side(count: Count) -> Option<Count> {
    Some(match count {
        Count::FramesSent(kind) => Count::FramesReceived(kind),
        Count::ResetsSent(status) => Count::ResetsReceived(status),
        Count::GoAwaysSent(status) => Count::GoAwaysReceived(status),
        Count::BytesSent => Count::BytesReceived,
        _ => return None,
    })
}

/// All there is, to the last byte.
#[test]
fn every_number_of_a_short_session_is_known() {
    let (config, counters) = counting();
    let version = Version::V3_1;
    let mut server = Machine::server(version)
        .with(config)
        .alone("its driver would count as well");
    let mut bytes = 0;
    for frame in [
        frames::syn_stream(version, 1).get("/"),
        frames::data(1, *b"abc").fin(),
        frames::noop(Version::V2).wire_version(3),
        frames::control(version, 99, *b"?"),
        frames::rst_stream(version, 7, RstStatus(77)),
        frames::ping(version, 2),
    ] {
        let frame = server.bytes(&frame);
        bytes += frame.len() as u64;
        server.feed_bytes(&frame);
    }
    server.consume(1, 3);
    server.reply(1, true);
    server.sent();
    let written = server_bytes(&counters);
    assert_eq!(
        counted(&counters.snapshot()),
        [
            ("frames_received{type=\"DATA\"}".into(), 1),
            ("frames_received{type=\"SYN_STREAM\"}".into(), 1),
            ("frames_received{type=\"RST_STREAM\"}".into(), 1),
            ("frames_received{type=\"PING\"}".into(), 1),
            ("frames_received{type=\"other\"}".into(), 2),
            ("frames_sent{type=\"SYN_REPLY\"}".into(), 1),
            ("frames_sent{type=\"SETTINGS\"}".into(), 1),
            ("frames_sent{type=\"WINDOW_UPDATE\"}".into(), 1),
            ("received_bytes".into(), bytes),
            ("sent_bytes".into(), written),
            ("streams_received".into(), 1),
            ("resets_received{status=\"other\"}".into(), 1),
        ]
    );
}

fn server_bytes(counters: &Counters) -> u64 {
    counters.get(Count::BytesSent)
}

/// Frames that were taken back were not sent.
#[test]
fn what_does_not_leave_is_not_counted() {
    let (config, counters) = counting();
    let version = Version::V3;
    let mut pair = Pair::with(version, Config::default(), config);
    let stream = id(pair.open(request_block(version), OpenOptions::default()));
    pair.run();
    let server = &mut pair.server;
    server
        .send_reply(stream, reply_block(version), false)
        .expect("it is new");
    pair.run();
    let before = counters.snapshot();
    let sent = pair.server.send_data(stream, vec![0; 50_000].into(), false);
    sent.expect("it takes data");
    pair.transmit(Side::Server, 20_000);
    pair.server.reset(stream, RstStatus::CANCEL);
    pair.run();
    let after = counters.snapshot();
    let added = |count| after.get(count) - before.get(count);
    assert_eq!(added(Count::FramesSent(FrameKind::Data)), 2);
    assert_eq!(added(Count::FramesSent(FrameKind::RstStream)), 1);
    assert_eq!(added(Count::BytesSent), 2 * (8 + 16_384) + 16);
}

/// A server that counts, with a changed configuration.
fn server(version: Version, change: impl FnOnce(&mut Config)) -> (Machine, Arc<Counters>) {
    let (mut config, counters) = counting();
    change(&mut config);
    let server = Machine::server(version).with(config);
    (server.alone("its driver would count as well"), counters)
}

#[test]
fn each_limit_that_ends_a_stream_is_counted_by_its_name() {
    let version = Version::V3_1;
    let change = |config: &mut Config| config.limits.max_streams = 1;
    let (mut machine, counters) = server(version, change);
    machine.upload(1);
    machine.upload(3);
    assert_eq!(reached(&counters), [(Limit::MaxStreams, 1)]);

    let (mut machine, counters) = server(version, |config| config.limits.max_backlog = 1);
    machine.upload(1);
    machine.upload(3);
    assert_eq!(reached(&counters), [(Limit::MaxBacklog, 1)]);

    let (mut machine, counters) = server(version, |config| config.limits.held_headers = 500);
    machine.upload(1);
    machine.upload(3);
    machine.upload(5);
    machine.feed(frames::headers(version, 1).field("x", [b'x'; 300]));
    let expected = match reached(&counters)[..] {
        [(Limit::HeldHeaders, times)] => times,
        ref other => panic!("{other:?}"),
    };
    assert!(expected >= 2, "for SYN_STREAM and for HEADERS");

    let (mut machine, counters) = server(version, |config| config.limits.headers.max_fields = 8);
    let mut large = frames::syn_stream(version, 1).get("/");
    for n in 0..9 {
        large = large.field(format!("x-{n}"), "");
    }
    machine.feed(large);
    assert_eq!(reached(&counters), [(Limit::Headers, 1)]);

    let (mut machine, counters) = server(version, |config| config.limits.stream_window = 10);
    // The answer to the PING of the server: its peer has seen the window.
    machine.feed(frames::ping(version, 2));
    machine.upload(1);
    machine.feed(frames::data(1, vec![0; 11]));
    assert_eq!(reached(&counters), [(Limit::StreamWindow, 1)]);

    let (mut machine, counters) = server(version, |config| config.limits.discard = 10);
    machine.upload(1);
    machine.connection.stop_reading(id(1));
    machine.feed(frames::data(1, vec![0; 11]));
    assert_eq!(reached(&counters), [(Limit::Discard, 1)]);

    let (mut machine, counters) = server(version, |_| {});
    machine.request(1);
    machine.respond(1, 100_000);
    machine.sent();
    machine.advance(Duration::from_secs(31));
    assert_eq!(reached(&counters), [(Limit::Blocked, 1)]);

    let (mut machine, counters) = server(version, |config| {
        config.flow_control = FlowControl::Off;
        config.timeouts.idle = None;
    });
    machine.upload(1);
    machine.feed(frames::data(1, vec![0; 300_000]));
    machine.sent();
    machine.advance(Duration::from_secs(61));
    assert_eq!(reached(&counters), [(Limit::Unread, 1)]);
}

#[test]
fn each_limit_that_ends_the_session_is_counted_by_its_name() {
    let version = Version::V3_1;
    let rate = |rate: &mut spdy_session::Rate| (rate.burst, rate.per_second) = (0, 0);

    let (mut machine, counters) = server(version, |config| {
        config.limits.session_window = 65_536;
    });
    machine.upload(1);
    machine.feed(frames::data(1, vec![0; 65_537]));
    assert_eq!(reached(&counters), [(Limit::SessionWindow, 1)]);

    let (mut machine, counters) = server(version, |config| {
        config.limits.headers.max_size = 1000;
        config.limits.headers.max_inflated = 2000;
    });
    machine.feed(frames::syn_stream(version, 1).field("x", vec![b'x'; 3000]));
    assert_eq!(reached(&counters), [(Limit::HeadersMaxInflated, 1)]);

    let (mut machine, counters) = server(version, |config| {
        config.limits.max_control_frame = 10_000;
    });
    machine.feed(frames::syn_stream(version, 1).field("x", vec![b'x'; 10_000]));
    assert_eq!(reached(&counters), [(Limit::MaxControlFrame, 1)]);

    let (mut machine, counters) = server(version, |config| rate(&mut config.limits.peer_resets));
    machine.upload(1);
    machine.feed(frames::rst_stream(version, 1, RstStatus::CANCEL));
    assert_eq!(reached(&counters), [(Limit::PeerResets, 1)]);

    let (mut machine, counters) = server(version, |config| rate(&mut config.limits.local_resets));
    machine.feed(frames::data(1, *b"stray"));
    assert_eq!(reached(&counters), [(Limit::LocalResets, 1)]);

    let (mut machine, counters) = server(version, |config| rate(&mut config.limits.settings));
    machine.feed(frames::settings(version, &[]));
    assert_eq!(reached(&counters), [(Limit::Settings, 1)]);

    let (mut machine, counters) = server(version, |config| rate(&mut config.limits.pings));
    machine.feed(frames::ping(version, 1));
    assert_eq!(reached(&counters), [(Limit::Pings, 1)]);

    let (mut machine, counters) = server(version, |config| rate(&mut config.limits.empty_frames));
    machine.upload(1);
    machine.feed(frames::data(1, *b""));
    assert_eq!(reached(&counters), [(Limit::EmptyFrames, 1)]);

    let (mut machine, counters) = server(version, |config| rate(&mut config.limits.idle_frames));
    machine.feed(frames::rst_stream(version, 1, RstStatus::CANCEL));
    assert_eq!(reached(&counters), [(Limit::IdleFrames, 1)]);
    machine.sent();
    let status = GoAwayStatus::PROTOCOL_ERROR;
    assert_eq!(counters.get(Count::GoAwaysSent(status)), 1);
}

#[test]
fn each_timeout_that_ends_the_session_is_counted_by_its_name() {
    let version = Version::V3;
    let after = |seconds: u64, prepare: &dyn Fn(&mut Machine)| {
        let (mut machine, counters) = server(version, |config| {
            config.timeouts.keep_alive = Some(Duration::from_secs(200));
        });
        prepare(&mut machine);
        machine.advance(Duration::from_secs(seconds));
        assert_eq!(machine.connection.phase(), Phase::Closing);
        reached(&counters)
    };
    assert_eq!(after(10, &|_| {}), [(Limit::FirstFrame, 1)]);
    let half = |machine: &mut Machine| {
        machine.request(1);
        machine.feed_bytes(&[0x80]);
    };
    assert_eq!(after(30, &half), [(Limit::Frame, 1)]);
    let idle = |machine: &mut Machine| {
        machine.request(1);
        machine.reply(1, true);
        machine.sent();
    };
    assert_eq!(after(181, &idle), [(Limit::Idle, 1)]);
    let open = |machine: &mut Machine| {
        machine.upload(1);
        machine.sent();
        machine.advance(Duration::from_secs(200));
        machine.sent();
    };
    assert_eq!(after(21, &open), [(Limit::KeepAliveReply, 1)]);
    let unwritten = |machine: &mut Machine| {
        machine.upload(1);
        machine.reply(1, false);
        machine.unsent_bytes();
    };
    assert_eq!(after(30, &unwritten), [(Limit::Write, 1)]);
    let draining = |machine: &mut Machine| {
        machine.upload(1);
        let deadline = Some(Duration::from_secs(5));
        let now = machine.now();
        let how = Shutdown::Graceful { deadline };
        machine.connection.shutdown(now, how);
        machine.sent();
    };
    assert_eq!(after(6, &draining), [(Limit::Drain, 1)]);
}

/// A caller that decodes for itself has its frames counted, and no bytes that came.
#[test]
fn frames_that_the_caller_decodes_are_counted() {
    let (config, counters) = counting();
    let version = Version::V3;
    let now = std::time::Instant::now();
    let mut server = Connection::new(Side::Server, version, Arc::new(config), now);
    let bytes = frames::ping(version, 1).bytes(&mut StoredBlocks::new(version));
    let mut bytes = bytes::BytesMut::from(&bytes[..]);
    let mut decoder = spdy_frame::Decoder::new(version, spdy_frame::DecodeLimits::default());
    let frame = decoder.decode(&mut bytes).expect("it is sound");
    server.handle_frame(now, frame.expect("it is whole"));
    let out = server.poll_transmit(now);
    let ready = out.remaining();
    out.advance(ready);
    drop(server);
    let counts = counters.snapshot();
    assert_eq!(counts.get(Count::FramesReceived(FrameKind::Ping)), 1);
    assert_eq!(counts.get(Count::BytesReceived), 0);
}

/// Sessions over the driver that share their counters, each from its first byte to its last.
#[tokio::test(start_paused = true)]
async fn sessions_that_have_ended_are_counted_whole() {
    let ((client, of_clients), (server, of_servers)) = (counting(), counting());
    for version in Version::ALL {
        let (near, far) = duplex(1000);
        let (_session, mut incoming, driver) = spdy_session::server(far, version, server.clone());
        let serving = tokio::spawn(driver);
        tokio::spawn(async move {
            while let Some(stream) = incoming.accept().await {
                let mut stream = stream.send_reply(reply_block(version)).expect("it is new");
                let mut body = Vec::new();
                stream.read_to_end(&mut body).await.expect("it comes");
                stream.write_all(&body).await.expect("it goes");
                stream.shutdown().await.expect("it ends");
            }
        });
        let (session, _incoming, driver) = spdy_session::client(near, version, client.clone());
        let asking = tokio::spawn(driver);
        let stream = session.open(block(&[(":path", "/")]), OpenOptions::default());
        let mut stream = stream.await.expect("it can be opened");
        let sent = async {
            stream.write_all(&[7; 50_000]).await?;
            stream.shutdown().await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            Ok::<_, std::io::Error>(answer.len())
        };
        assert_eq!(sent.await.expect("it comes back"), 50_000);
        session.shutdown(Shutdown::Graceful { deadline: None });
        asking.await.expect("no panic").expect("an orderly end");
        serving.await.expect("no panic").expect("an orderly end");
    }
    let (clients, servers) = (of_clients.snapshot(), of_servers.snapshot());
    assert_eq!(clients.get(Count::StreamsOpened), 3);
    assert_eq!(servers.get(Count::StreamsReceived), 3);
    let status = GoAwayStatus::OK;
    assert_eq!(clients.get(Count::GoAwaysSent(status)), 3);
    assert_eq!(servers.get(Count::GoAwaysReceived(status)), 3);
    for count in Count::all() {
        if let Some(there) = on_the_other_side(count) {
            assert_eq!(clients.get(count), servers.get(there), "{count}");
        }
    }
    for side in [clients, servers] {
        assert!(side.get(Count::BytesSent) > 3 * 50_000);
    }
}
