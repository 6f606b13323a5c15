//! What a hostile peer can do to a session over the driver, row by row: `sNN` are the rows of docs/limits.md.
//!
//! Rows about memory are in `memory`, those about the program in `hostile_program`, those about the order of frames in
//! `scheduling`.

use std::{
    future::poll_fn,
    time::{Duration, Instant},
};

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};
use spdy_frame::{GoAwayStatus, Priority, RstStatus, RstStream, StreamId, Version};
use spdy_session::{
    Config, FlowControl, HeaderBlock, Incoming, Session, SessionError, StreamError, Timeout,
};
use spdy_tests::{
    frames::{self, RawFrame, StoredBlocks},
    wire::{Received, Wire},
};
use tokio::{
    io::{AsyncWriteExt, DuplexStream, duplex},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::{JoinHandle, JoinSet},
    time::sleep,
};

/// A server whose peer is the test.
struct Served {
    version: Version,
    peer: Wire<DuplexStream>,
    session: Session,
    driver: JoinHandle<Result<(), SessionError>>,
    /// How streams have ended, as their handlers saw it.
    ends: UnboundedReceiver<(u32, StreamError)>,
}

/// What the application does with a stream.
#[derive(Clone, Copy, Debug)]
enum Handler {
    /// It waits for the end of the stream, and neither reads nor answers.
    Waits,
    /// It answers with headers alone.
    Answers,
    /// It answers with so many octets.
    Sends(usize),
    /// It drops the receiving half at once, and waits.
    Discards,
    /// It reads to the end, and answers then.
    Reads,
}

impl Served {
    fn new(version: Version, handler: Handler) -> Self {
        Self::with(version, handler, Config::default())
    }

    fn with(version: Version, handler: Handler, config: Config) -> Self {
        let (near, far) = duplex(64 * 1024);
        let (session, incoming, driver) = spdy_session::server(far, version, config);
        let (told, ends) = unbounded_channel();
        tokio::spawn(application(incoming, handler, told));
        Self {
            version,
            peer: Wire::new(near, version),
            session,
            driver: tokio::spawn(driver),
            ends,
        }
    }

    /// Sends a frame again and again, until the session has ended. Gives how often it was sent, and the status of
    /// GOAWAY; what is answered is read.
    async fn flood(&mut self, mut frame: impl FnMut(u32) -> Vec<RawFrame>, most: u32) -> u32 {
        for round in 0..most {
            for frame in frame(round) {
                self.peer.send(frame).await;
            }
            // What is answered is read now and then, and what is on its way gets time.
            if round % 50 == 49 && self.drained().await {
                return round;
            }
        }
        panic!("{most} rounds were taken");
    }

    /// Reads what there is up to the answer to a PING of the peer; true if there was GOAWAY instead.
    async fn drained(&mut self) -> bool {
        self.peer.send(frames::ping(self.version, 4711)).await;
        loop {
            match self.peer.recv_or_end().await {
                None => return true,
                Some(Received::GoAway(frame)) => {
                    // GOAWAY of SPDY/2 has no status.
                    let is_v2 = self.version == Version::V2;
                    assert!(is_v2 || frame.status == GoAwayStatus::PROTOCOL_ERROR);
                    return true;
                }
                Some(Received::Ping(ping)) if ping.id == 4711 => return false,
                Some(_) => {}
            }
        }
    }

    /// Shows that the session goes on.
    async fn assert_usable(&mut self) {
        assert!(!self.drained().await, "the session has ended");
    }

    /// The error that the session ended with.
    async fn error(mut self) -> SessionError {
        self.peer.shutdown().await;
        let end = self.driver.await.expect("nothing panics");
        end.expect_err("the session failed")
    }

    async fn reason(self) -> &'static str {
        match self.error().await {
            SessionError::Violation { reason, .. } => reason,
            error => panic!("{error:?}"),
        }
    }
}

async fn application(
    mut incoming: Incoming,
    handler: Handler,
    told: UnboundedSender<(u32, StreamError)>,
) {
    let mut handlers = JoinSet::new();
    while let Some(stream) = incoming.accept().await {
        let told = told.clone();
        handlers.spawn(async move {
            let id = stream.id().get();
            let (mut receive, mut reply) = stream.split();
            let end = match handler {
                Handler::Waits => poll_fn(|cx| reply.poll_closed(cx)).await,
                Handler::Discards => {
                    drop(receive);
                    poll_fn(|cx| reply.poll_closed(cx)).await
                }
                Handler::Answers => match reply.reply(HeaderBlock::new(), true) {
                    Ok(mut send) => send.closed().await,
                    Err(error) => error,
                },
                Handler::Sends(octets) => match reply.reply(HeaderBlock::new(), false) {
                    Ok(mut send) => {
                        let sent = async {
                            send.write_all(&vec![b'x'; octets]).await?;
                            send.shutdown().await
                        };
                        _ = sent.await;
                        send.closed().await
                    }
                    Err(error) => error,
                },
                Handler::Reads => {
                    while let Some(Ok(_)) = receive.next().await {}
                    match reply.reply(HeaderBlock::new(), true) {
                        Ok(mut send) => send.closed().await,
                        Err(error) => error,
                    }
                }
            };
            _ = told.send((id, end));
        });
        while handlers.try_join_next().is_some() {}
    }
    while handlers.join_next().await.is_some() {}
}

fn is_reset(frame: &Received, stream: u32, status: RstStatus) -> bool {
    *frame
        == Received::RstStream(RstStream {
            stream: StreamId::new(stream).unwrap(),
            status,
        })
}

fn is_goaway(frame: &Received) -> bool {
    matches!(frame, Received::GoAway(_))
}

// --- row 1: header blocks that inflate ------------------------------------------------------------------------------

/// Compresses as a peer does that means harm: zeros, as many as are asked for.
struct Bomb(Compress);

impl Bomb {
    fn new() -> Self {
        Self(Compress::new(Compression::best(), false))
    }

    /// A header block that goes on where the last one ended.
    fn block(&mut self, octets: usize) -> Vec<u8> {
        let zeros = vec![0; octets.min(1 << 20)];
        let mut out = Vec::with_capacity(octets / 500 + 1000);
        let mut left = octets;
        while left > 0 {
            let length = left.min(zeros.len());
            let flush = if left == length {
                FlushCompress::Sync
            } else {
                FlushCompress::None
            };
            self.0
                .compress_vec(&zeros[..length], &mut out, flush)
                .unwrap();
            left -= length;
        }
        out
    }
}

#[tokio::test]
async fn s01_a_block_above_the_hard_limit_ends_the_session() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        let mut block = StoredBlocks::new(version).compress(&[]);
        block.extend(Bomb::new().block((1 << 20) + 4096));
        assert!(block.len() < 8192);
        let frame = frames::syn_stream(version, 1).compressed_block(block);
        served.peer.send(frame).await;
        let frames = served.peer.recv_all().await;
        assert!(is_goaway(frames.last().unwrap()), "{frames:?}");
        assert!(matches!(served.error().await, SessionError::Headers(_)));
    }
}

/// 256 KiB is the longest control frame, and inflates to 256 MiB: the session sees one MiB of them. The same again for
/// 1 GiB in frames of 512 KiB inflated each, which are not above the hard limit: every one costs a RST_STREAM.
#[tokio::test]
async fn s01_a_gibibyte_costs_what_the_limits_say() {
    let longest = Bomb::new().block(240 << 20);
    assert!(longest.len() < 256 * 1024, "{}", longest.len());
    // Zeros that follow zeros are compressed to the same octets every time.
    let mut bomb = Bomb::new();
    let (first, next) = (bomb.block(512 * 1024), bomb.block(512 * 1024));
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        let mut block = StoredBlocks::new(version).compress(&[]);
        block.extend(&longest);
        let frame = frames::syn_stream(version, 1).compressed_block(block);
        served.peer.send(frame).await;
        let start = Instant::now();
        served.peer.recv_until(is_goaway).await;
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "{:?}",
            start.elapsed()
        );

        let mut served = Served::new(version, Handler::Waits);
        let first = [StoredBlocks::new(version).compress(&[]), first.clone()].concat();
        let most = (1 << 30) / (512 * 1024);
        let rounds = served
            .flood(
                |round| {
                    let block = if round == 0 { &first } else { &next };
                    let frame = frames::syn_stream(version, 2 * round + 1);
                    vec![frame.compressed_block(block.clone())]
                },
                most,
            )
            .await;
        assert!(rounds >= 1000, "{rounds}");
        assert_eq!(served.reason().await, "peer caused too many RST_STREAMs");
    }
}

#[tokio::test]
async fn s01_a_frame_that_is_too_long_is_answered_at_its_head() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        let frame = frames::syn_stream(version, 1).length(256 * 1024 + 1);
        served.peer.send(frame).await;
        served.peer.recv_until(is_goaway).await;
        assert!(matches!(served.error().await, SessionError::Frame(_)));
    }
}

#[tokio::test]
async fn s01_header_blocks_of_all_streams_together_are_bounded() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        let value = "v".repeat(100_000);
        for stream in 0..10 {
            let frame = frames::syn_stream(version, 2 * stream + 1).field("a", &value);
            // SPDY/2 has lengths of 16 bits.
            let frame = if version == Version::V2 {
                let (one, two) = value.split_at(50_000);
                frames::syn_stream(version, 2 * stream + 1)
                    .field("a", one)
                    .field("b", two)
            } else {
                frame
            };
            served.peer.send(frame).await;
        }
        let frame = frames::syn_stream(version, 21).field("a", &value[..60_000]);
        served.peer.send(frame).await;
        served
            .peer
            .recv_until(|frame| is_reset(frame, 21, RstStatus::REFUSED_STREAM))
            .await;
        served.assert_usable().await;
    }
}

// --- row 2: numbers that are not true -------------------------------------------------------------------------------

#[tokio::test]
async fn s02_a_settings_count_of_2_to_the_32_ends_the_session() {
    for version in Version::ALL {
        let mut payload = u32::MAX.to_be_bytes().to_vec();
        payload.extend([0, 0, 0, 4, 0, 0, 0, 1]);
        let mut served = Served::new(version, Handler::Waits);
        served.peer.send(frames::control(version, 4, payload)).await;
        served.peer.recv_until(is_goaway).await;
        assert!(matches!(served.error().await, SessionError::Frame(_)));
    }
}

#[tokio::test]
async fn s02_counts_and_lengths_in_header_blocks_are_not_believed() {
    for version in Version::ALL {
        let number = |number: u32| match version {
            Version::V2 => (number as u16).to_be_bytes().to_vec(),
            Version::V3 | Version::V3_1 => number.to_be_bytes().to_vec(),
        };
        let mut served = Served::new(version, Handler::Waits);
        let pair_count = [number(u32::MAX), number(1), b"a".to_vec(), number(0)].concat();
        let name_length = [number(1), number(u32::MAX), b"a".to_vec(), number(0)].concat();
        let value_length = [number(1), number(1), b"a".to_vec(), number(u32::MAX)].concat();
        for (n, block) in [pair_count, name_length, value_length]
            .into_iter()
            .enumerate()
        {
            let stream = 2 * n as u32 + 1;
            let frame = frames::syn_stream(version, stream).plain_block(block);
            served.peer.send(frame).await;
            served
                .peer
                .recv_until(|frame| is_reset(frame, stream, RstStatus::PROTOCOL_ERROR))
                .await;
        }
        served.assert_usable().await;
    }
}

// --- row 3: many fields, no window ----------------------------------------------------------------------------------

#[tokio::test]
async fn s03_fields_are_counted_after_values_are_split() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        let fields = (0..129).fold(frames::syn_stream(version, 1), |frame, n| {
            frame.field(format!("x{n}"), "")
        });
        let values = vec!["v"; 129].join("\0");
        let values = frames::syn_stream(version, 3).field("x", values);
        let status = match version {
            Version::V2 => RstStatus::PROTOCOL_ERROR,
            Version::V3 | Version::V3_1 => RstStatus::FRAME_TOO_LARGE,
        };
        for (stream, frame) in [(1, fields), (3, values)] {
            served.peer.send(frame).await;
            served
                .peer
                .recv_until(|frame| is_reset(frame, stream, status))
                .await;
        }
        served.assert_usable().await;
    }
}

#[tokio::test(start_paused = true)]
async fn s03_a_stream_that_is_granted_no_window_is_reset() {
    for version in [Version::V3, Version::V3_1] {
        let mut served = Served::new(version, Handler::Sends(100_000));
        served.peer.send(frames::settings(version, &[(7, 0)])).await;
        served
            .peer
            .send(frames::syn_stream(version, 1).get("/").fin())
            .await;
        let start = tokio::time::Instant::now();
        served.assert_usable().await;
        sleep(Duration::from_secs(29)).await;
        served.assert_usable().await;
        served
            .peer
            .recv_until(|frame| is_reset(frame, 1, RstStatus::CANCEL))
            .await;
        assert_eq!(start.elapsed().as_secs(), 30);
        let (stream, end) = served.ends.recv().await.unwrap();
        assert_eq!(stream, 1);
        assert!(
            matches!(end, StreamError::TimedOut(Timeout::Blocked)),
            "{end:?}"
        );
        served.assert_usable().await;
    }
}

// --- rows 5, 6 and 19: resets ---------------------------------------------------------------------------------------

#[tokio::test]
async fn s05_rapid_reset_ends_the_session() {
    for version in Version::ALL {
        for handler in [Handler::Waits, Handler::Answers, Handler::Reads] {
            let mut served = Served::new(version, handler);
            let rounds = served
                .flood(
                    |n| {
                        vec![
                            frames::syn_stream(version, 2 * n + 1).get("/"),
                            frames::rst_stream(version, 2 * n + 1, RstStatus::CANCEL),
                        ]
                    },
                    20_000,
                )
                .await;
            assert!(rounds >= 999, "{rounds}");
            let reason = served.reason().await;
            assert!(
                [
                    "peer reset too many streams of its own",
                    "peer caused too many RST_STREAMs"
                ]
                .contains(&reason),
                "{reason}"
            );
        }
    }
}

/// What the application does for a stream goes on until it has noticed, so the stream keeps its place.
#[tokio::test]
async fn s05_cancelled_streams_count_until_their_handlers_are_gone() {
    for version in Version::ALL {
        let (near, far) = duplex(64 * 1024);
        let (_session, mut incoming, driver) =
            spdy_session::server(far, version, Config::default());
        tokio::spawn(driver);
        let mut peer = Wire::new(near, version);
        let mut handlers = Vec::new();
        for n in 0..100 {
            peer.send(frames::syn_stream(version, 2 * n + 1).post("/"))
                .await;
            handlers.push(incoming.accept().await.unwrap().split());
            peer.send(frames::rst_stream(version, 2 * n + 1, RstStatus::CANCEL))
                .await;
        }
        peer.send(frames::syn_stream(version, 201).post("/")).await;
        peer.recv_until(|frame| is_reset(frame, 201, RstStatus::REFUSED_STREAM))
            .await;
        handlers.clear();
        peer.send(frames::syn_stream(version, 203).post("/")).await;
        assert_eq!(incoming.accept().await.unwrap().id().get(), 203);
    }
}

#[tokio::test]
async fn s05_resets_of_streams_that_are_gone_are_charged_too() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        let frame = |_| vec![frames::rst_stream(version, 1, RstStatus::CANCEL)];
        let rounds = served.flood(frame, 30_000).await;
        assert!((9_999..20_000).contains(&rounds), "{rounds}");
        assert_eq!(
            served.reason().await,
            "peer sent too many frames about nothing"
        );
    }
}

#[tokio::test]
async fn s06_making_the_session_reset_ends_it() {
    for version in Version::ALL {
        let after_fin = |n| {
            vec![
                frames::syn_stream(version, 2 * n + 1).get("/").fin(),
                frames::data(2 * n + 1, "after FIN"),
            ]
        };
        let over_the_limit = |n| vec![frames::syn_stream(version, 2 * n + 1).post("/")];
        let bad_header = |n| vec![frames::syn_stream(version, 2 * n + 1).field("UPPER", "case")];
        let never_opened = |n| vec![frames::data(2 * n + 1, "octets")];
        type Attack<'a> = &'a dyn Fn(u32) -> Vec<RawFrame>;
        let attacks: [Attack<'_>; 4] = [&after_fin, &over_the_limit, &bad_header, &never_opened];
        for (n, attack) in attacks.into_iter().enumerate() {
            let mut served = Served::new(version, Handler::Waits);
            let rounds = served.flood(attack, 3000).await;
            assert!(rounds >= 999, "attack {n}: {rounds}");
            assert_eq!(served.reason().await, "peer caused too many RST_STREAMs");
        }
        if version == Version::V2 {
            continue;
        }
        let overflow = |n| {
            vec![
                frames::syn_stream(version, 2 * n + 1).get("/").fin(),
                frames::window_update(version, 2 * n + 1, 0x7fff_ffff),
            ]
        };
        let nothing = |n| {
            vec![
                frames::syn_stream(version, 2 * n + 1).get("/").fin(),
                frames::window_update(version, 2 * n + 1, 0),
            ]
        };
        let attacks: [Attack<'_>; 2] = [&overflow, &nothing];
        for attack in attacks {
            let mut served = Served::new(version, Handler::Waits);
            let rounds = served.flood(attack, 3000).await;
            assert!(rounds >= 999, "{rounds}");
            assert_eq!(served.reason().await, "peer caused too many RST_STREAMs");
        }
    }
}

#[tokio::test]
async fn s06_streams_are_charged_after_our_goaway_as_well() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        served
            .peer
            .send(frames::syn_stream(version, 1).post("/"))
            .await;
        served.assert_usable().await;
        served
            .session
            .shutdown(spdy_session::Shutdown::Graceful { deadline: None });
        served.peer.recv_until(is_goaway).await;
        // Every block has to be inflated; a frame for a stream that is not open makes work all the same.
        let octets = frames::headers(version, 4711).field("a", "b");
        let rounds = served.flood(|_| vec![octets.clone()], 3000).await;
        assert!(rounds >= 999, "{rounds}");
    }
}

#[tokio::test]
async fn s19_frames_for_streams_that_are_gone_are_answered_once() {
    for version in [Version::V3, Version::V3_1] {
        let mut served = Served::new(version, Handler::Answers);
        served
            .peer
            .send(frames::syn_stream(version, 1).get("/").fin())
            .await;
        served
            .peer
            .recv_until(|frame| matches!(frame, Received::SynReply { fin: true, .. }))
            .await;
        for _ in 0..1000 {
            served.peer.send(frames::data(1, "late")).await;
        }
        served.peer.send(frames::ping(version, 1)).await;
        let mut resets = 0;
        loop {
            match served.peer.recv().await {
                Received::RstStream(_) => resets += 1,
                Received::Ping(_) => break,
                _ => {}
            }
        }
        assert_eq!(resets, 1);
    }
}

// --- rows 7 and 8: control frames -----------------------------------------------------------------------------------

#[tokio::test]
async fn s07_pings_that_are_read_end_the_session_as_well() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        let rounds = served
            .flood(|_| vec![frames::ping(version, 1)], 30_000)
            .await;
        assert!((9_000..20_000).contains(&rounds), "{rounds}");
        assert_eq!(served.reason().await, "peer sent too many PINGs");
    }
}

#[tokio::test(start_paused = true)]
async fn s07_pings_that_nobody_reads_the_answers_to_stop_the_reading() {
    for version in Version::ALL {
        let (mut near, far) = duplex(16 * 1024);
        let (_session, _incoming, driver) = spdy_session::server(far, version, Config::default());
        let driver = tokio::spawn(driver);
        let ping = frames::ping(version, 1).octets(&mut StoredBlocks::new(version));
        let mut taken = 0;
        let flood = async {
            loop {
                near.write_all(&ping).await.unwrap();
                taken += 1;
            }
        };
        let stopped = tokio::time::timeout(Duration::from_secs(5), flood).await;
        assert!(stopped.is_err());
        // 256 answers in the session, and what the two directions of the transport hold.
        let held = 2 * 16 * 1024 / ping.len();
        assert!(taken < 256 + held + 4000, "{taken}");
        let end = driver.await.unwrap();
        assert!(
            matches!(end, Err(SessionError::TimedOut(Timeout::Write))),
            "{end:?}"
        );
    }
}

#[tokio::test]
async fn s08_settings_are_charged() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        let frame = |_| vec![frames::settings(version, &[(4, 100)])];
        let rounds = served.flood(frame, 3000).await;
        assert!(rounds < 100, "{rounds}");
        assert_eq!(served.reason().await, "peer sent too many SETTINGS frames");
    }
}

/// All that the bucket lets through, with as many streams as there can be, all of them waiting for a window: a change
/// costs the same for any number of streams and writes one frame for each at most.
#[tokio::test]
async fn s08_a_flapping_window_over_all_streams_is_cheap() {
    for version in [Version::V3, Version::V3_1] {
        let mut config = Config::default();
        config.limits.settings.burst = 1000;
        let mut served = Served::with(version, Handler::Sends(1 << 20), config);
        served.peer.send(frames::settings(version, &[(7, 0)])).await;
        if version == Version::V3_1 {
            served
                .peer
                .send(frames::window_update(version, 0, 1 << 30))
                .await;
        }
        for n in 0..100 {
            served
                .peer
                .send(frames::syn_stream(version, 2 * n + 1).get("/").fin())
                .await;
        }
        served.assert_usable().await;
        let start = Instant::now();
        const CHANGES: u32 = 400;
        for n in 0..CHANGES {
            let window = if n % 2 == 0 { n / 2 + 1 } else { 0 };
            served
                .peer
                .send(frames::settings(version, &[(7, window)]))
                .await;
            if n % 20 == 0 {
                served.assert_usable().await;
            }
        }
        served.assert_usable().await;
        let each = start.elapsed() / CHANGES;
        println!("{version}: {each:?} for a change of the window of 100 streams");
        assert!(each < Duration::from_millis(10), "{each:?}");
    }
}

#[tokio::test]
async fn s08_frames_of_unknown_types_are_charged() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        let frame = |_| vec![frames::control(version, 4711, vec![0; 4])];
        let rounds = served.flood(frame, 30_000).await;
        assert!((9_999..20_000).contains(&rounds), "{rounds}");
        assert_eq!(
            served.reason().await,
            "peer sent too many frames about nothing"
        );
    }
}

// --- row 9: DATA that carries little --------------------------------------------------------------------------------

#[tokio::test]
async fn s09_empty_data_ends_the_session() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Reads);
        let frame = |n| match n {
            0 => vec![frames::syn_stream(version, 1).post("/")],
            _ => vec![frames::data(1, "")],
        };
        let rounds = served.flood(frame, 5000).await;
        assert!(rounds >= 1000, "{rounds}");
        assert_eq!(served.reason().await, "peer sent too many empty frames");
    }
}

#[tokio::test]
async fn s09_headers_without_fields_end_the_session() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Reads);
        let frame = |n| match n {
            0 => vec![frames::syn_stream(version, 1).post("/")],
            _ => vec![frames::headers(version, 1)],
        };
        let rounds = served.flood(frame, 5000).await;
        assert!(rounds >= 1000, "{rounds}");
        assert_eq!(served.reason().await, "peer sent too many empty frames");
    }
}

/// Real traffic has small frames: they are no offence.
#[tokio::test]
async fn s09_single_octets_are_taken() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Reads);
        served
            .peer
            .send(frames::syn_stream(version, 1).post("/"))
            .await;
        let octet = frames::data(1, "x").octets(&mut StoredBlocks::new(version));
        for _ in 0..50 {
            served.peer.send_octets(&octet.repeat(1000)).await;
        }
        served.assert_usable().await;
        served.peer.send(frames::data(1, "").fin()).await;
        served
            .peer
            .recv_until(|frame| matches!(frame, Received::SynReply { fin: true, .. }))
            .await;
    }
}

// --- row 10: the transport's window ---------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn s10_a_transport_that_takes_nothing_ends_the_session() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Sends(10 << 20));
        if version != Version::V2 {
            let wide = frames::settings(version, &[(7, 0x7fff_ffff)]);
            served.peer.send(wide).await;
            served
                .peer
                .send(frames::window_update(version, 0, 1 << 30))
                .await;
        }
        for n in 0..20 {
            served
                .peer
                .send(frames::syn_stream(version, 2 * n + 1).get("/").fin())
                .await;
        }
        let start = tokio::time::Instant::now();
        let end = served.driver.await.unwrap();
        assert!(
            matches!(end, Err(SessionError::TimedOut(Timeout::Write))),
            "{end:?}"
        );
        assert_eq!(start.elapsed().as_secs(), 30);
        for _ in 0..20 {
            let (_, end) = served.ends.recv().await.unwrap();
            assert!(
                matches!(
                    end,
                    StreamError::Session(SessionError::TimedOut(Timeout::Write))
                ),
                "{end:?}"
            );
        }
    }
}

/// With the transport shut, what writers can queue is bounded over all streams.
#[tokio::test(start_paused = true)]
async fn s10_writers_wait_when_the_queues_are_full() {
    for version in Version::ALL {
        let (near, far) = duplex(1024);
        let config = Config::default();
        let limits = config.limits.clone();
        let (_session, mut incoming, driver) = spdy_session::server(far, version, config);
        tokio::spawn(driver);
        let mut peer = Wire::new(near, version);
        let mut queued = 0;
        let mut senders = Vec::new();
        for n in 0..50 {
            peer.send(frames::syn_stream(version, 2 * n + 1).get("/").fin())
                .await;
            let (_, reply) = incoming.accept().await.unwrap().split();
            let mut send = reply.reply(HeaderBlock::new(), false).unwrap();
            while let Ok(Ok(())) =
                tokio::time::timeout(Duration::from_millis(1), send.ready()).await
            {
                send.send_data(Bytes::from_static(&[0; 1024]), false)
                    .unwrap();
                queued += 1024;
            }
            senders.push(send);
        }
        let most =
            limits.session_send_queue + limits.stream_send_queue + 50 * limits.min_send_queue;
        // 64 KiB and a frame are on their way to the transport.
        assert!(queued <= most + 80 * 1024, "{queued}");
        assert!(queued >= 256 * 1024, "{queued}");
    }
}

// --- row 14: credit -------------------------------------------------------------------------------------------------

/// Whatever becomes of octets that came, the session's window comes back whole.
#[tokio::test]
async fn s14_credit_comes_back_from_streams_that_are_refused_reset_or_dropped() {
    let version = Version::V3_1;
    for handler in [Handler::Discards, Handler::Waits, Handler::Reads] {
        let mut served = Served::new(version, handler);
        let mut granted = 65_536_i64;
        let mut sent = 0;
        for n in 0..100 {
            let stream = 2 * n + 1;
            served
                .peer
                .send(frames::syn_stream(version, stream).post("/"))
                .await;
            for _ in 0..4 {
                served
                    .peer
                    .send(frames::data(stream, vec![0; 10_000]))
                    .await;
                sent += 10_000;
            }
            served
                .peer
                .send(frames::rst_stream(version, stream, RstStatus::CANCEL))
                .await;
            // And some for a stream that is gone.
            served.peer.send(frames::data(stream, vec![0; 1000])).await;
            sent += 1000;
            served.peer.send(frames::ping(version, 2 * n + 1)).await;
            loop {
                match served.peer.recv().await {
                    Received::WindowUpdate(frame)
                        if frame.target == spdy_frame::WindowTarget::Session =>
                    {
                        granted += i64::from(frame.increment.get());
                    }
                    Received::Ping(_) => break,
                    _ => {}
                }
            }
        }
        // Grants are owed for at most half of the window.
        let open = granted - sent;
        assert!(
            open >= 512 * 1024,
            "{handler:?}: {open} octets of the window are open"
        );
    }
}

// --- row 15: peers that take their time -----------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn s15_a_peer_that_says_nothing_is_gone_after_ten_seconds() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        let start = tokio::time::Instant::now();
        served.peer.recv_until(is_goaway).await;
        assert_eq!(start.elapsed().as_secs(), 10);
        let error = served.error().await;
        assert!(
            matches!(error, SessionError::TimedOut(Timeout::FirstFrame)),
            "{error:?}"
        );
    }
}

/// One octet now and then does not help: the first frame has its time, and so has every other.
#[tokio::test(start_paused = true)]
async fn s15_a_frame_that_drips_is_not_waited_for() {
    for version in Version::ALL {
        for (before, timeout, seconds) in
            [(false, Timeout::FirstFrame, 10), (true, Timeout::Frame, 30)]
        {
            let mut served = Served::new(version, Handler::Waits);
            let mut blocks = StoredBlocks::new(version);
            if before {
                served.peer.send(frames::ping(version, 1)).await;
                served.assert_usable().await;
            }
            let start = tokio::time::Instant::now();
            let frame = frames::syn_stream(version, 1).get("/").octets(&mut blocks);
            for octet in frame {
                if served.driver.is_finished() {
                    break;
                }
                let peer = &mut served.peer;
                if tokio::time::timeout(Duration::from_secs(1), peer.recv_until(is_goaway))
                    .await
                    .is_ok()
                {
                    break;
                }
                peer.send_octets(&[octet]).await;
            }
            let waited = start.elapsed().as_secs();
            assert!(
                (seconds..=seconds + 1).contains(&waited),
                "{timeout:?}: {waited}"
            );
            let error = served.error().await;
            assert!(
                matches!(error, SessionError::TimedOut(found) if found == timeout),
                "{error:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s15_a_session_at_rest_ends_after_three_minutes() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Answers);
        served
            .peer
            .send(frames::syn_stream(version, 1).get("/").fin())
            .await;
        served.assert_usable().await;
        let start = tokio::time::Instant::now();
        // The patience of the peer is shorter.
        sleep(Duration::from_secs(175)).await;
        let goaway = served.peer.recv_until(is_goaway).await;
        assert!(matches!(goaway, Received::GoAway(frame) if frame.status == GoAwayStatus::OK));
        assert_eq!(start.elapsed().as_secs(), 180);
        served.peer.shutdown().await;
        served.driver.await.unwrap().unwrap();
    }
}

/// A session that has failed reads on for a moment, so that GOAWAY is not lost, and no longer than that.
#[tokio::test(start_paused = true)]
async fn s15_a_peer_that_goes_on_after_goaway_is_not_listened_to_for_long() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Waits);
        served.peer.send(frames::ping(version, 1).length(3)).await;
        served.peer.recv_until(is_goaway).await;
        let start = tokio::time::Instant::now();
        let end = served.driver.await.unwrap();
        assert!(matches!(end, Err(SessionError::Frame(_))), "{end:?}");
        assert_eq!(start.elapsed().as_secs(), 1);
    }
}

/// With the keep-alive, a peer that is gone without a word is found out though a stream is open.
#[tokio::test(start_paused = true)]
async fn s15_s24_a_keep_alive_finds_a_peer_that_is_gone() {
    for version in Version::ALL {
        let mut config = Config::default();
        config.timeouts.keep_alive = Some(Duration::from_secs(15));
        let mut served = Served::with(version, Handler::Reads, config);
        served
            .peer
            .send(frames::syn_stream(version, 1).post("/"))
            .await;
        served.peer.send(frames::data(1, "half")).await;
        let start = tokio::time::Instant::now();
        let end = served.driver.await.unwrap();
        assert!(
            matches!(end, Err(SessionError::TimedOut(Timeout::KeepAlive))),
            "{end:?}"
        );
        let waited = start.elapsed().as_secs();
        assert!((35..=37).contains(&waited), "{waited}");
    }
}

// --- row 23: readers that do not read -------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn s23_the_stream_that_holds_up_all_others_is_reset_where_there_are_no_windows() {
    for (version, flow_control) in [
        (Version::V2, FlowControl::Enforce),
        (Version::V3, FlowControl::Off),
        (Version::V3_1, FlowControl::Off),
    ] {
        let mut config = Config::default();
        config.flow_control = flow_control;
        let mut served = Served::with(version, Handler::Waits, config);
        served
            .peer
            .send(frames::syn_stream(version, 1).post("/"))
            .await;
        let start = tokio::time::Instant::now();
        for _ in 0..16 {
            served.peer.send(frames::data(1, vec![0; 16 * 1024])).await;
        }
        // Nothing is read any more.
        served.peer.send(frames::ping(version, 1)).await;
        sleep(Duration::from_secs(50)).await;
        served
            .peer
            .recv_until(|frame| is_reset(frame, 1, RstStatus::CANCEL))
            .await;
        assert_eq!(start.elapsed().as_secs(), 60);
        let (_, end) = served.ends.recv().await.unwrap();
        assert!(
            matches!(end, StreamError::TimedOut(Timeout::Unread)),
            "{end:?}"
        );
        served.assert_usable().await;
    }
}

#[tokio::test]
async fn s23_what_nobody_wants_is_thrown_away_up_to_a_limit() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Discards);
        served
            .peer
            .send(frames::syn_stream(version, 1).post("/"))
            .await;
        served.assert_usable().await;
        let piece = frames::data(1, vec![0; 16 * 1024]);
        for _ in 0..64 {
            served.peer.send(piece.clone()).await;
            served.assert_usable().await;
        }
        assert!(served.ends.try_recv().is_err(), "one MiB is thrown away");
        served.peer.send(piece).await;
        served
            .peer
            .recv_until(|frame| is_reset(frame, 1, RstStatus::CANCEL))
            .await;
        served.assert_usable().await;
    }
}

// --- the rest -------------------------------------------------------------------------------------------------------

/// Row 11. That the compression context is kept shows in the next block.
#[tokio::test]
async fn s11_bad_names_cost_the_stream_and_keep_the_context() {
    for version in Version::ALL {
        let mut served = Served::new(version, Handler::Answers);
        let bad = [
            frames::syn_stream(version, 1).field("", "x"),
            frames::syn_stream(version, 3)
                .field("a", "1")
                .field("a", "2"),
            frames::syn_stream(version, 5).field("Upper", "x"),
        ];
        for (n, frame) in bad.into_iter().enumerate() {
            let stream = 2 * n as u32 + 1;
            served.peer.send(frame).await;
            served
                .peer
                .recv_until(|frame| is_reset(frame, stream, RstStatus::PROTOCOL_ERROR))
                .await;
        }
        served
            .peer
            .send(frames::syn_stream(version, 7).get("/").fin())
            .await;
        served
            .peer
            .recv_until(|frame| matches!(frame, Received::SynReply { stream: 7, .. }))
            .await;
    }
}

/// Row 12.
#[tokio::test]
async fn s12_lengths_that_do_not_fit_the_type_end_the_session() {
    for version in Version::ALL {
        for frame in [
            frames::ping(version, 1).length(3),
            frames::ping(version, 1).more(&[0]),
            frames::rst_stream(version, 1, RstStatus::CANCEL).length(7),
            frames::control(version, 1, vec![0; 9]),
            frames::control(version, 7, vec![0; 3]),
        ] {
            let mut served = Served::new(version, Handler::Waits);
            served.peer.send(frame.clone()).await;
            served.peer.shutdown().await;
            served.peer.recv_until(is_goaway).await;
            let end = served.driver.await.unwrap();
            assert!(
                matches!(end, Err(SessionError::Frame(_))),
                "{frame:?}: {end:?}"
            );
        }
    }
}

/// Row 13.
#[tokio::test]
async fn s13_windows_that_overflow_cost_the_stream_or_the_session() {
    for version in [Version::V3, Version::V3_1] {
        let mut served = Served::new(version, Handler::Waits);
        served
            .peer
            .send(frames::syn_stream(version, 1).post("/"))
            .await;
        served
            .peer
            .send(frames::window_update(version, 1, 0x7fff_ffff))
            .await;
        served
            .peer
            .recv_until(|frame| is_reset(frame, 1, RstStatus::FLOW_CONTROL_ERROR))
            .await;
        served.assert_usable().await;
        if version == Version::V3_1 {
            served
                .peer
                .send(frames::window_update(version, 0, 0x7fff_ffff))
                .await;
            served.peer.recv_until(is_goaway).await;
        }
    }
}

/// Row 18.
#[tokio::test]
async fn s18_ids_that_are_even_or_go_down_end_the_session() {
    for version in [Version::V3, Version::V3_1] {
        for ids in [[1, 2], [5, 3]] {
            let mut served = Served::new(version, Handler::Waits);
            for id in ids {
                served
                    .peer
                    .send(frames::syn_stream(version, id).post("/"))
                    .await;
            }
            served.peer.recv_until(is_goaway).await;
        }
    }
}

/// Row 20.
#[tokio::test]
async fn s20_what_a_server_wants_persisted_is_never_said_again() {
    for version in Version::ALL {
        let (near, far) = duplex(64 * 1024);
        let (session, _pushes, driver) = spdy_session::client(far, version, Config::default());
        tokio::spawn(driver);
        let mut peer = Wire::new(near, version);
        // PERSIST_VALUE, on a setting that nobody else would send.
        peer.send(frames::settings(version, &[(0x0100_0001, 0x00c0_ffee)]))
            .await;
        peer.send(frames::ping(version, 2)).await;
        peer.recv_until(|frame| matches!(frame, Received::Ping(ping) if ping.id == 2))
            .await;
        session.shutdown(spdy_session::Shutdown::Graceful { deadline: None });
        peer.shutdown().await;
        for frame in peer.recv_all().await {
            if let Received::Settings(settings) = frame {
                assert!(
                    settings
                        .entries
                        .iter()
                        .all(|entry| entry.value != 0x00c0_ffee)
                );
            }
        }
    }
}

/// Row 21.
#[tokio::test]
async fn s21_pushes_that_nobody_asked_for_are_refused_and_charged() {
    for version in Version::ALL {
        let (near, far) = duplex(64 * 1024);
        let (session, mut pushes, driver) = spdy_session::client(far, version, Config::default());
        let driver = tokio::spawn(driver);
        let mut peer = Wire::new(near, version);
        let _stream = session
            .open(HeaderBlock::new(), spdy_session::Open::default())
            .await
            .unwrap();
        peer.recv_until(|frame| matches!(frame, Received::SynStream { .. }))
            .await;
        for n in 1..2000 {
            let push = frames::syn_stream(version, 2 * n)
                .unidirectional()
                .associated(1)
                .priority_octets([Priority::HIGHEST.get(), 0]);
            peer.send(push).await;
            if matches!(peer.recv().await, Received::GoAway(_)) {
                assert!(n >= 1000, "{n}");
                break;
            }
        }
        drop(peer);
        assert!(matches!(
            driver.await.unwrap(),
            Err(SessionError::Violation { .. })
        ));
        assert!(pushes.accept().await.is_none());
    }
}

/// Row 24.
#[tokio::test]
async fn s24_a_transport_that_breaks_is_an_error_to_every_reader() {
    for version in Version::ALL {
        let (near, far) = duplex(64 * 1024);
        let (session, mut incoming, driver) = spdy_session::server(far, version, Config::default());
        tokio::spawn(driver);
        let mut peer = Wire::new(near, version);
        peer.send(frames::syn_stream(version, 1).post("/")).await;
        peer.send(frames::data(1, "half")).await;
        let (mut receive, _reply) = incoming.accept().await.unwrap().split();
        drop(peer);
        assert!(matches!(
            receive.next().await,
            Some(Ok(spdy_session::Received::Data(half))) if half == "half"
        ));
        for _ in 0..2 {
            let end = receive.next().await;
            assert!(
                matches!(
                    end,
                    Some(Err(StreamError::Session(SessionError::ConnectionLost)))
                ),
                "{end:?}"
            );
        }
        assert!(matches!(
            session.closed().await,
            Err(SessionError::ConnectionLost)
        ));
    }
}
