//! L2, L3, L9 and X12: limits of what a peer can make a session hold.

use std::time::Duration;

use spdy_frame::{RstStatus, Version};
use spdy_session::{
    Config, FlowControl, HeaderBlock, OpenOptions, SessionError, StreamError, Timeout,
};
use spdy_tests::{
    frames::{self, StoredBlocks},
    machine::{Machine, SINCE_V3, id, reset},
    side::{PIPE, Side, drain, granted, serve, settle, within},
    wire::Received,
};
use tokio::io::AsyncReadExt;

/// The bytes that can be under way in addition to a limit: the transport, one read, one piece of a
/// frame.
const UNDER_WAY: usize = PIPE + 64 * 1024;

#[test]
fn l02_2_errors_that_nobody_reads_about_end_the_session() {
    for version in Version::ALL {
        for unknown in [true, false] {
            let mut config = Config::default();
            config.limits.max_streams = 1;
            let mut server = Machine::server(version).with(config);
            server.upload(1);
            let flood: Vec<u8> = (0..20_000)
                .map(|n| 2 * n + 3)
                .flat_map(|stream| {
                    let frame = if unknown {
                        frames::data(stream, "x")
                    } else {
                        frames::syn_stream(version, stream).fin()
                    };
                    server.bytes(&frame)
                })
                .collect();
            server.feed_bytes(&flood);
            // Reading stops at 256 answers, and a session that does not go on ends with a timeout.
            assert!(server.unread_input() > flood.len() / 2);
            assert_eq!(server.unsent_bytes(), 16 * 256);
            server.read();
            assert!(server.unread_input() > flood.len() / 2);
            server.advance(Duration::from_secs(30));
            assert!(matches!(
                server.connection.outcome(),
                Err(SessionError::TimedOut(Timeout::Write))
            ));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn l02_3_ten_thousand_pings_that_are_read_are_all_answered_in_order() {
    for version in Version::ALL {
        let mut side = serve(version, Config::default());
        let mut blocks = StoredBlocks::new(version);
        let mut next = 1;
        for burst in 0..100 {
            let pings: Vec<u8> = (burst * 100..(burst + 1) * 100)
                .flat_map(|n| frames::ping(version, 2 * n + 1).bytes(&mut blocks))
                .collect();
            side.peer.send_bytes(&pings).await;
            while next < 200 * (burst + 1) {
                if let Received::Ping(ping) = side.peer.recv().await {
                    assert_eq!(ping.id, next);
                    next += 2;
                }
            }
        }
        let _stream = side.upload(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn l02_4_a_session_that_is_stalled_does_not_slow_others() {
    for version in Version::ALL {
        let mut stalled = serve(version, Config::default());
        let mut other = serve(version, Config::default());
        let flood = frames::ping(version, 1)
            .bytes(&mut StoredBlocks::new(version))
            .repeat(20_000);
        // The peer cannot send it completely: the session does not read on while its answers are
        // not read.
        let sending =
            tokio::time::timeout(Duration::from_millis(100), stalled.peer.send_bytes(&flood));
        assert!(sending.await.is_err());
        for id in [1, 3, 5, 7] {
            other.peer.send(frames::ping(version, id)).await;
            let answer = other
                .peer
                .recv_until(|frame| matches!(frame, Received::Ping(_)));
            let answer = tokio::time::timeout(Duration::from_secs(5), answer).await;
            assert!(answer.is_ok());
        }
        let _stream = other.upload(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn c198_c199_l03_1_credit_is_given_for_what_was_read_and_the_window_is_enforced() {
    for version in SINCE_V3 {
        let mut config = Config::default();
        config.limits.stream_window = 65_536;
        let mut side = serve(version, config);
        let mut stream = side.upload(1).await;
        for _ in 0..4 {
            side.peer.send(frames::data(1, vec![7; 16_384])).await;
        }
        assert_eq!(granted(1, &drain(&mut side.peer).await), 0);
        let mut bytes = vec![0; 40_000];
        stream.read_exact(&mut bytes).await.unwrap();
        let given = granted(1, &drain(&mut side.peer).await);
        assert!((1..=40_000).contains(&given), "{given}");
        side.peer
            .send(frames::data(1, vec![7; given as usize]))
            .await;
        assert_eq!(drain(&mut side.peer).await, []);
        side.peer.send(frames::data(1, [7])).await;
        let status = RstStatus::FLOW_CONTROL_ERROR;
        assert_eq!(drain(&mut side.peer).await, [reset(1, status)]);
    }
}

#[tokio::test(start_paused = true)]
async fn l03_2_credit_of_the_session_is_given_for_what_was_read_on_any_stream() {
    let mut config = Config::default();
    config.limits.stream_window = 1 << 20;
    config.limits.session_window = 200_000;
    let mut side = serve(Version::V3_1, config);
    let _unread = side.upload(1).await;
    let mut read = side.upload(3).await;
    let (mut given, mut consumed, mut sent) = (0, 0, 100_000);
    side.peer.send(frames::data(1, vec![7; 100_000])).await;
    given += granted(0, &drain(&mut side.peer).await);
    assert_eq!(given, 0);
    for _ in 0..40 {
        side.peer.send(frames::data(3, vec![7; 10_000])).await;
        sent += 10_000;
        let mut bytes = vec![0; 10_000];
        within(read.read_exact(&mut bytes)).await.unwrap();
        consumed += 10_000;
        given += granted(0, &drain(&mut side.peer).await);
        assert!(given <= consumed, "{given} of {consumed}");
        assert!(sent <= 200_000 + given, "the stream that is read goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn c205_l03_3_an_unread_stream_blocks_a_peer_without_windows() {
    for (version, flow_control) in [
        (Version::V2, FlowControl::Enforce),
        (Version::V3, FlowControl::Off),
        (Version::V3_1, FlowControl::Off),
    ] {
        let mut config = Config::default();
        config.flow_control = flow_control;
        let limit = config.limits.stream_buffer;
        let mut side = serve(version, config);
        let mut stream = side.upload(1).await;
        // A gibibyte is on its way.
        let frame = frames::data(1, vec![7; 16_384]).bytes(&mut StoredBlocks::new(version));
        let mut sent = 0;
        for _ in 0..(1 << 30) / 16_384 {
            let sending = side.peer.send_bytes(&frame);
            if tokio::time::timeout(Duration::from_secs(1), sending)
                .await
                .is_err()
            {
                break;
            }
            sent += 16_384;
        }
        assert!(
            (limit..limit + UNDER_WAY).contains(&sent),
            "{sent} bytes were taken"
        );
        let mut bytes = vec![0; limit];
        within(stream.read_exact(&mut bytes)).await.unwrap();
        assert!(bytes.iter().all(|byte| *byte == 7));
    }
}

#[tokio::test(start_paused = true)]
async fn l03_4_what_was_held_up_arrives_whole_when_it_is_read() {
    let mut side = serve(Version::V2, Config::default());
    let mut stream = side.upload(1).await;
    let mut peer = side.peer;
    let bytes: Vec<u8> = (0..3_000_000_usize).map(|n| (n / 7) as u8).collect();
    let expected = bytes.clone();
    let upload = tokio::spawn(async move {
        for piece in bytes.chunks(10_000) {
            peer.send(frames::data(1, piece)).await;
        }
        peer.send(frames::data(1, []).fin()).await;
        peer
    });
    settle().await;
    assert!(!upload.is_finished());
    let mut received = Vec::new();
    within(stream.read_to_end(&mut received)).await.unwrap();
    assert!(received == expected);
    upload.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn l03_5_a_stream_that_is_never_read_is_reset_in_time_and_the_others_go_on() {
    let mut config = Config::default();
    config.timeouts.unread = Some(Duration::from_secs(7));
    config.timeouts.write = None;
    let mut side = serve(Version::V2, config);
    let mut unread = side.upload(1).await;
    let mut other = side.upload(3).await;
    let mut peer = side.peer;
    let began = tokio::time::Instant::now();
    let sending = tokio::spawn(async move {
        for _ in 0..30 {
            peer.send(frames::data(1, vec![7; 16_384])).await;
        }
        peer.send(frames::data(3, "still here").fin()).await;
        peer
    });
    let mut text = String::new();
    within(other.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "still here");
    assert_eq!(began.elapsed().as_secs(), 7);
    let mut peer = sending.await.unwrap();
    let reset = peer
        .recv_until(|frame| matches!(frame, Received::RstStream(_)))
        .await;
    assert!(matches!(reset, Received::RstStream(frame) if frame.stream.get() == 1));
    let mut bytes = Vec::new();
    let error = unread.read_to_end(&mut bytes).await.unwrap_err();
    let cause = error.get_ref().unwrap().downcast_ref::<StreamError>();
    assert!(
        matches!(cause, Some(StreamError::TimedOut(Timeout::Unread))),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn c208_l09_1_ten_streams_wait_and_ninety_are_refused() {
    for version in Version::ALL {
        let mut side = serve(version, backlog(10));
        for n in 0..100 {
            open(&mut side, version, n).await;
        }
        let refused: Vec<Received> = (10..100)
            .map(|n| reset(2 * n + 1, RstStatus::REFUSED_STREAM))
            .collect();
        assert_eq!(resets(&mut side).await, refused);
        for n in 0..10 {
            let pending = within(side.incoming.accept()).await.unwrap();
            assert_eq!(pending.id().get(), 2 * n + 1);
            let field = pending.headers().get("x-number");
            assert_eq!(field, Some(n.to_string().as_bytes()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn l09_2_a_stream_that_is_accepted_makes_room_for_one() {
    for version in Version::ALL {
        let mut side = serve(version, backlog(10));
        for n in 0..100 {
            open(&mut side, version, n).await;
        }
        drain(&mut side.peer).await;
        let first = within(side.incoming.accept()).await.unwrap();
        settle().await;
        open(&mut side, version, 100).await;
        open(&mut side, version, 101).await;
        let refused = reset(203, RstStatus::REFUSED_STREAM);
        assert_eq!(drain(&mut side.peer).await, [refused]);
        drop(first);
        for _ in 1..10 {
            within(side.incoming.accept()).await.unwrap();
        }
        let last = within(side.incoming.accept()).await.unwrap();
        assert_eq!(last.id().get(), 201);
        assert_eq!(last.headers().get("x-number"), Some(&b"100"[..]));
    }
}

/// `accept` also returns a stream that is reset while it waits, with its error, because an
/// application might log its request. The stream makes room in the backlog at once.
#[tokio::test(start_paused = true)]
async fn l09_3_a_waiting_stream_that_is_reset_leaves_the_backlog() {
    for version in Version::ALL {
        let mut side = serve(version, backlog(2));
        for n in 0..2 {
            open(&mut side, version, n).await;
        }
        side.peer
            .send(frames::rst_stream(version, 1, RstStatus::CANCEL))
            .await;
        open(&mut side, version, 2).await;
        open(&mut side, version, 3).await;
        let refused = reset(7, RstStatus::REFUSED_STREAM);
        assert_eq!(resets(&mut side).await, [refused]);
        let first = within(side.incoming.accept()).await.unwrap();
        assert_eq!(first.id().get(), 1);
        let error = first.send_reply(HeaderBlock::new()).unwrap_err();
        assert!(matches!(
            error,
            StreamError::Reset {
                status: RstStatus::CANCEL,
                ..
            }
        ));
        for stream in [3, 5] {
            let pending = within(side.incoming.accept()).await.unwrap();
            assert_eq!(pending.id().get(), stream);
        }
    }
}

/// Streams of the client and pushes, all of which are closed by FIN alone.
#[test]
fn x12_ten_thousand_streams_that_end_with_fin_leave_nothing() {
    for version in Version::ALL {
        let mut client = Machine::client(version);
        let mut server = Machine::server(version);
        for n in 0..5000 {
            let stream = client.open(OpenOptions::new().fin(true));
            client.sent();
            client.feed(frames::syn_reply(version, stream).status("200 OK").fin());
            client.connection.release(id(stream));

            server.feed(frames::syn_stream(version, 2 * n + 1).get("/").fin());
            let push = OpenOptions::new()
                .fin(true)
                .unidirectional(true)
                .associated(id(2 * n + 1));
            server.reply(2 * n + 1, false);
            let push = server.open(push);
            server.connection.finish(id(2 * n + 1)).unwrap();
            server.sent();
            server.connection.release(id(push));
            server.connection.release(id(2 * n + 1));
            let none = Default::default();
            assert_eq!(
                (client.connection.stats(), server.connection.stats()),
                (none, none)
            );
        }
    }
}

fn backlog(streams: usize) -> Config {
    let mut config = Config::default();
    config.limits.max_backlog = streams;
    config
}

async fn resets(side: &mut Side) -> Vec<Received> {
    let mut frames = drain(&mut side.peer).await;
    frames.retain(|frame| matches!(frame, Received::RstStream(_)));
    frames
}

async fn open(side: &mut Side, version: Version, n: u32) {
    let frame = frames::syn_stream(version, 2 * n + 1)
        .get("/")
        .field("x-number", n.to_string());
    side.peer.send(frame.fin()).await;
}
