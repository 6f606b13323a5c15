//! What a hostile peer can do to the program `spdy-server`: the rows of docs/limits.md about its
//! transports, its memory and its other clients. `tests/src/bin/hostile.rs` runs longer attacks of
//! the same kinds.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use spdy_frame::{RstStatus, Version};
use spdy_session::{Config, HeaderBlock, OpenOptions, Received, Session};
use spdy_tests::{
    frames::{self, RawFrame, StoredBlocks},
    process::Server,
    wire::{self, Wire},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

/// Row 15: nothing at all, half a handshake, half a frame, each in plain text and over TLS. All run
/// at once, because each takes its ten seconds. Meanwhile an honest client is served as fast as
/// without them.
#[tokio::test]
async fn s15_peers_that_take_their_time_are_gone_after_ten_seconds() {
    let version = Version::V3_1;
    let server = Server::start(&[]);
    let ping = frames::ping(version, 1).bytes(&mut StoredBlocks::new(version));
    let healthy = Healthy::connect(&server, version).await;
    let alone = healthy.ask_for(Duration::from_secs(3)).await;

    let start = Instant::now();
    let silent = server.connect().await;
    let mut half = server.connect().await;
    half.write_all(&ping[..5]).await.unwrap();
    let mut http = server.connect().await;
    http.write_all(b"GET / HTT").await.unwrap();
    let silent_tls = server.connect_to_tls().await;
    let mut half_hello = server.connect_to_tls().await;
    // A record that announces a ClientHello, and a part of it.
    half_hello
        .write_all(&[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3])
        .await
        .unwrap();
    let quiet_tls = server.connect_tls(version).await;

    let ends = async {
        tokio::join!(
            ended(silent),
            ended(half),
            ended(silent_tls),
            ended(half_hello),
            ended(quiet_tls),
        )
    };
    let (ends, requests) = tokio::join!(ends, healthy.ask_for(Duration::from_secs(9)));
    assert!(
        2 * requests > alone,
        "{requests} in 9 s, {alone} in 3 s before"
    );
    let [first, .., last] = {
        let mut ends = [ends.0, ends.1, ends.2, ends.3, ends.4].map(|end| end - start);
        ends.sort();
        ends
    };
    assert!(first >= Duration::from_secs(9), "{first:?}");
    // The limit for a connection at rest would be three minutes.
    assert!(last < Duration::from_secs(90), "{last:?}");
    drop(http);
}

/// When the peer has closed or reset the connection.
async fn ended(mut io: impl tokio::io::AsyncRead + Unpin) -> Instant {
    let mut rest = Vec::new();
    _ = timeout(Duration::from_secs(90), io.read_to_end(&mut rest))
        .await
        .expect("the server ends the connection");
    Instant::now()
}

/// Rows 1, 2, 5, 6, 7 and 9: many sessions one after the other. None of them leaves memory in use.
#[tokio::test]
async fn s22_floods_leave_the_memory_of_the_server_as_it_was() {
    for version in [Version::V3_1, Version::V2] {
        let server = Server::start(&[]);
        let healthy = Healthy::connect(&server, version).await;
        let floods: [fn(Version, u32) -> Vec<RawFrame>; 5] = [
            |version, _| vec![frames::ping(version, 1)],
            |version, n| {
                vec![
                    frames::syn_stream(version, 2 * n + 1).get("/hello").fin(),
                    frames::rst_stream(version, 2 * n + 1, RstStatus::CANCEL),
                ]
            },
            |version, n| {
                vec![
                    frames::syn_stream(version, 2 * n + 1)
                        .get("/slow/500")
                        .fin(),
                    frames::data(2 * n + 1, "after FIN"),
                ]
            },
            |version, n| match n {
                0 => vec![frames::syn_stream(version, 1).post("/sink")],
                _ => vec![frames::data(1, "")],
            },
            |version, _| {
                let count = u32::MAX.to_be_bytes();
                vec![frames::control(
                    version,
                    4,
                    [count, [0; 4], [0; 4]].concat(),
                )]
            },
        ];
        // After this the server has made the allocations that it makes only once.
        for flood in floods {
            flood_once(&server, version, flood, true).await;
        }
        let before = server.resident_memory();
        for _ in 0..2 {
            for flood in floods {
                for reads in [true, false] {
                    flood_once(&server, version, flood, reads).await;
                }
            }
        }
        let after = server.resident_memory();
        assert!(
            after < before + (8 << 20),
            "{version}: {before} bytes before, {after} after"
        );
        let asked = timeout(Duration::from_secs(60), async {
            for _ in 0..3 {
                healthy.ask().await;
            }
        });
        asked.await.expect("the others are served");
    }
}

async fn flood_once(
    server: &Server,
    version: Version,
    flood: fn(Version, u32) -> Vec<RawFrame>,
    reads: bool,
) {
    let (mut read, mut write) = server.connect().await.into_split();
    let reading = tokio::spawn(async move {
        if reads {
            _ = read.read_to_end(&mut Vec::new()).await;
        }
        read
    });
    let mut blocks = StoredBlocks::new(version);
    let mut n = 0;
    let flooding = async {
        loop {
            let mut bytes = Vec::new();
            while bytes.len() < 8192 {
                for frame in flood(version, n) {
                    bytes.extend(frame.bytes(&mut blocks));
                }
                n += 1;
            }
            if write.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    // A server that does not read any more is left after a while.
    let patience = if reads { 120_000 } else { 200 };
    let end = timeout(Duration::from_millis(patience), flooding).await;
    assert!(
        end.is_ok() || !reads,
        "{version}: the server takes {n} rounds"
    );
    reading.abort();
}

/// Sessions that ask for a large file on every stream, and grant one byte for each. For each
/// session the program uses less memory than the bound in docs/limits.md, including the overhead of
/// the allocator and the threads.
#[tokio::test]
async fn s10_a_large_file_that_nobody_takes_is_held_within_the_bound() {
    let version = Version::V3_1;
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("resident");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("large"), vec![7; 8 << 20]).unwrap();
    let server = Server::start(&[directory.to_str().unwrap()]);
    // After this the server has made the allocations that it makes only once.
    drop(ask_for_a_byte_of_each(&server, version).await);
    let before = server.resident_memory();
    let mut sessions = Vec::new();
    let mut most = 0;
    for _ in 0..SESSIONS {
        sessions.push(ask_for_a_byte_of_each(&server, version).await);
        most = most.max(server.resident_memory());
    }
    let held = most.saturating_sub(before) / SESSIONS;
    println!("{held} bytes for each session");
    assert!(held < 4 << 20, "{held} bytes for each session");
}

/// Requests the file on all streams of a session, and waits until one byte of each has arrived.
async fn ask_for_a_byte_of_each(server: &Server, version: Version) -> Wire<TcpStream> {
    let mut wire = Wire::new(server.connect().await, version);
    wire.send(frames::settings(version, &[(7, 1)])).await;
    for stream in 0..STREAMS {
        let request = frames::syn_stream(version, 2 * stream + 1);
        wire.send(request.get("/large").fin()).await;
    }
    for _ in 0..STREAMS {
        wire.recv_until(|frame| matches!(frame, wire::Received::Data { .. }))
            .await;
    }
    wire
}

/// How many sessions hold their maximum at once.
const SESSIONS: u64 = 8;

/// The streams of a session.
const STREAMS: u32 = 100;

/// A client that asks for a page every few milliseconds.
struct Healthy {
    session: Session,
    version: Version,
}

impl Healthy {
    async fn connect(server: &Server, version: Version) -> Self {
        let io: TcpStream = server.connect().await;
        let (session, _pushes, driver) = spdy_session::client(io, version, Config::default());
        tokio::spawn(driver);
        Self { session, version }
    }

    /// Returns the number of requests, all of which were answered.
    async fn ask_for(&self, time: Duration) -> usize {
        let start = Instant::now();
        let mut requests = 0;
        while start.elapsed() < time {
            self.ask().await;
            requests += 1;
            sleep(Duration::from_millis(20)).await;
        }
        requests
    }

    async fn ask(&self) {
        let names = match self.version {
            Version::V2 => ["method", "url", "version", "host", "scheme"],
            Version::V3 | Version::V3_1 => [":method", ":path", ":version", ":host", ":scheme"],
        };
        let values = ["GET", "/hello", "HTTP/1.1", "localhost", "http"];
        let head = HeaderBlock::from_pairs(names.into_iter().zip(values)).unwrap();
        let how = OpenOptions::new().fin(true);
        let (mut receive, _) = self.session.open(head, how).await.unwrap().split();
        receive.response_headers().await.unwrap();
        let mut bytes = 0;
        while let Some(received) = receive.next().await {
            if let Received::Data(piece) = received.unwrap() {
                bytes += piece.len();
            }
        }
        assert_eq!(bytes, 100);
    }
}
