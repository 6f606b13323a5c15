//! What an operator learns of SPDY sessions: numbers before and after, and lines of the access log.

mod common;

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use axum::{Router, routing::get};
use spdy_server::{AccessLog, Config, PlainVersion, Server, Timeouts, Version};
use spdy_tower::session::{self, HeaderBlock, Open, RstStatus, Session};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use self::common::server::{LONG, http1, loopback, plain, spdy};

/// A server with metrics and an access log.
struct Observed {
    address: SocketAddr,
    metrics: SocketAddr,
    log: PathBuf,
}

impl Observed {
    /// The version is what version field 3 stands for.
    async fn start(test: &str, version: Version) -> Self {
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}.log"));
        _ = fs::remove_file(&log);
        let config = Config {
            metrics: Some(loopback().into()),
            access_log: Some(AccessLog::File(log.clone())),
            plain_version: match version {
                Version::V3 => PlainVersion::V3,
                Version::V2 | Version::V3_1 => PlainVersion::V3_1,
            },
            ..plain(Timeouts::default())
        };
        let app = Router::new()
            .route("/", get(async || "x"))
            .route("/never", get(std::future::pending::<()>));
        let server = Server::bind(config).await.unwrap();
        let address = server.endpoints()[0].address.tcp().unwrap();
        let metrics = server.metrics().unwrap().address.tcp().unwrap();
        tokio::spawn(server.run(app, std::future::pending()));
        Self {
            address,
            metrics,
            log,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// All numbers, by name and labels.
    async fn scrape(&self) -> HashMap<String, u64> {
        let page = http1(TcpStream::connect(self.metrics).await.unwrap(), "/metrics").await;
        let (_, text) = page.split_once("\r\n\r\n").unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let numbers = lines.filter_map(|line| {
            let (name, number) = line.rsplit_once(' ').unwrap();
            let name = name.strip_prefix("spdy_server_").unwrap();
            Some((name.to_owned(), number.parse().ok()?))
        });
        numbers.collect()
    }

    /// Waits until each of these numbers has grown by so much.
    async fn grows(&self, before: &HashMap<String, u64>, by: &[(&str, u64)]) {
        let start = Instant::now();
        loop {
            let after = self.scrape().await;
            let wrong: Vec<_> = by
                .iter()
                .filter(|(name, more)| after[*name] != before[*name] + more)
                .map(|(name, more)| format!("{name}: {} + {more}, {}", before[*name], after[*name]))
                .collect();
            if wrong.is_empty() {
                return;
            }
            assert!(start.elapsed() < LONG, "{wrong:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn log(&self, lines: usize) -> Vec<String> {
        let start = Instant::now();
        loop {
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            if text.lines().count() >= lines {
                return text.lines().map(str::to_owned).collect();
            }
            assert!(start.elapsed() < LONG, "{text}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

fn begin(io: TcpStream, version: Version) -> Session {
    let (session, _, driver) = session::client(io, version, session::Config::default());
    tokio::spawn(driver);
    session
}

fn head(version: Version, method: &str, path: &str) -> HeaderBlock {
    let names = match version {
        Version::V2 => ["method", "url", "version", "host", "scheme"],
        _ => [":method", ":path", ":version", ":host", ":scheme"],
    };
    let values = [method, path, "HTTP/1.1", "localhost", "http"];
    HeaderBlock::from_pairs(names.into_iter().zip(values)).unwrap()
}

/// Sends a request that has no body and waits for the head of its answer.
async fn ask(session: &Session, head: HeaderBlock) -> session::Stream {
    let how = Open {
        fin: true,
        ..Open::default()
    };
    let mut stream = session.open(head, how).await.unwrap();
    timeout(LONG, stream.headers()).await.unwrap().unwrap();
    stream
}

#[tokio::test]
async fn frames_octets_and_resets_are_counted_by_direction() {
    let server = Observed::start("frames", Version::V3_1).await;
    let before = server.scrape().await;
    assert_eq!(before["frames_received_total{type=\"DATA\"}"], 0);

    let session = begin(server.connect().await, Version::V3_1);
    drop(ask(&session, head(Version::V3_1, "GET", "/")).await);
    timeout(LONG, session.ping()).await.unwrap().unwrap();
    let how = Open {
        fin: true,
        ..Open::default()
    };
    let stream = session.open(head(Version::V3_1, "GET", "/never"), how);
    stream.await.unwrap().reset(RstStatus::CANCEL);
    server
        .grows(
            &before,
            &[
                ("frames_received_total{type=\"SYN_STREAM\"}", 2),
                ("frames_received_total{type=\"PING\"}", 1),
                ("frames_received_total{type=\"RST_STREAM\"}", 1),
                ("frames_received_total{type=\"SYN_REPLY\"}", 0),
                ("frames_sent_total{type=\"SYN_REPLY\"}", 1),
                ("frames_sent_total{type=\"DATA\"}", 1),
                ("frames_sent_total{type=\"PING\"}", 1),
                ("frames_sent_total{type=\"SETTINGS\"}", 1),
                ("frames_sent_total{type=\"RST_STREAM\"}", 0),
                ("resets_received_total{status=\"CANCEL\"}", 1),
                ("resets_sent_total{status=\"CANCEL\"}", 0),
                ("streams_received_total", 2),
            ],
        )
        .await;
    let after = server.scrape().await;
    // Both have sent a SETTINGS frame, and that is the least of it.
    for name in ["octets_received_total", "octets_sent_total"] {
        assert!(
            (100..10_000).contains(&after[name]),
            "{name}: {}",
            after[name]
        );
    }
}

#[tokio::test]
async fn limits_and_go_aways_are_counted_by_name() {
    let server = Observed::start("limits", Version::V3).await;
    let before = server.scrape().await;
    let mut io = server.connect().await;
    let settings = [0x80, 3, 0, 4, 0, 0, 0, 4, 0, 0, 0, 0];
    io.write_all(&settings.repeat(100)).await.unwrap();
    let mut rest = Vec::new();
    _ = timeout(LONG, io.read_to_end(&mut rest)).await.unwrap();
    server
        .grows(
            &before,
            &[
                ("limits_reached_total{limit=\"settings\"}", 1),
                ("limits_reached_total{limit=\"pings\"}", 0),
                ("go_aways_sent_total{status=\"PROTOCOL_ERROR\"}", 1),
                ("go_aways_received_total{status=\"OK\"}", 0),
            ],
        )
        .await;

    let session = begin(server.connect().await, Version::V3);
    drop(ask(&session, head(Version::V3, "GET", "/")).await);
    drop(session);
    let by = [("go_aways_received_total{status=\"OK\"}", 1)];
    server.grows(&before, &by).await;
}

#[tokio::test]
async fn malformed_requests_are_counted_and_logged() {
    for version in Version::ALL {
        let server = Observed::start(&format!("malformed-{version:?}"), version).await;
        let before = server.scrape().await;
        spdy(server.connect().await, version, "/").await;
        let session = begin(server.connect().await, version);
        let mut malformed = head(version, "G\"T", "/x y");
        malformed.append("user-agent", "ill").unwrap();
        drop(ask(&session, malformed).await);
        let mut large = head(version, "GET", "/large");
        large.append("x-large", "x".repeat(60_000)).unwrap();
        for name in ["x-larger", "x-largest"] {
            large.append(name, "y".repeat(60_000)).unwrap();
        }
        drop(ask(&session, large).await);

        let of = |name: &str, status: &str| {
            format!("{name}_total{{protocol=\"{version}\",status=\"{status}\"}}")
        };
        let names = [
            (of("malformed_requests", "400"), 1),
            (of("malformed_requests", "431"), 1),
            (of("malformed_requests", "414"), 0),
            (of("requests", "4xx"), 2),
            (of("requests", "2xx"), 1),
        ];
        let by: Vec<_> = names.iter().map(|(name, more)| (&**name, *more)).collect();
        server.grows(&before, &by).await;

        let lines = server.log(3).await;
        let protocol = format!("SPDY/{}", version.to_string().trim_start_matches("spdy/"));
        for expected in [
            format!("\"GET / HTTP/1.1\" 200 1 \"-\" \"-\" {protocol} 1 "),
            format!("\"G\\\"T /x y HTTP/1.1\" 400 0 \"-\" \"ill\" {protocol} 1 "),
            format!("\"GET /large HTTP/1.1\" 431 0 \"-\" \"-\" {protocol} 3 "),
        ] {
            let found = lines.iter().filter(|line| line.contains(&expected)).count();
            assert_eq!(found, 1, "{expected} in {lines:#?}");
        }
    }
}
