//! What an operator sees of SPDY sessions: counters before and after, and lines of the access log.

mod common;

use std::{
    collections::HashMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    routing::{get, post},
};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use spdy_server::{AccessLog, Config, PlainVersion, Server, Timeouts, Version};
use spdy_tower::session::{self, HeaderBlock, OpenOptions, RstStatus, Session};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use self::common::server::{LONG, http1, loopback, plain, spdy};

/// Starts a server with metrics and an access log.
struct Observed {
    address: SocketAddr,
    metrics: SocketAddr,
    log: PathBuf,
}

impl Observed {
    /// The version is the one that version field 3 means.
    async fn start(test: &str, version: Version) -> Self {
        Self::start_with(test, version, Timeouts::default()).await
    }

    async fn start_with(test: &str, version: Version, timeouts: Timeouts) -> Self {
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}.log"));
        _ = fs::remove_file(&log);
        let config = Config {
            metrics: Some(loopback().into()),
            access_log: Some(AccessLog::File(log.clone())),
            plain_version: match version {
                Version::V3 => PlainVersion::V3,
                Version::V2 | Version::V3_1 => PlainVersion::V3_1,
            },
            ..plain(timeouts)
        };
        let app = Router::new()
            .route("/", get(async || "x"))
            .route("/body", post(async |body: Bytes| body))
            .route("/cut", get(cut).post(cut))
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

    /// Returns all metrics, by name and labels.
    async fn scrape(&self) -> HashMap<String, u64> {
        let page = http1(TcpStream::connect(self.metrics).await.unwrap(), "/metrics").await;
        let (_, text) = page.split_once("\r\n\r\n").unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let numbers = lines.filter_map(|line| {
            let (name, number) = line.rsplit_once(' ').unwrap();
            let name = name.strip_prefix("spdy_server_")?;
            Some((name.to_owned(), number.parse().ok()?))
        });
        numbers.collect()
    }

    /// Waits until each of these metrics has grown by this number.
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

/// A response that fails after five bytes.
async fn cut() -> Body {
    Body::new(Cut(Some(Bytes::from_static(b"12345"))))
}

struct Cut(Option<Bytes>);

impl http_body::Body for Cut {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = self.0.take().map(Frame::data);
        Poll::Ready(Some(piece.ok_or_else(|| io::Error::other("on purpose"))))
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

/// Sends a request without a body and waits for the head of its response.
async fn ask(session: &Session, head: HeaderBlock) -> session::Stream {
    let how = OpenOptions::new().fin(true);
    let mut stream = session.open(head, how).await.unwrap();
    timeout(LONG, stream.response_headers())
        .await
        .unwrap()
        .unwrap();
    stream
}

#[tokio::test]
async fn frames_bytes_and_resets_are_counted_by_direction() {
    let server = Observed::start("frames", Version::V3_1).await;
    let before = server.scrape().await;
    assert_eq!(before["frames_received_total{type=\"DATA\"}"], 0);

    let session = begin(server.connect().await, Version::V3_1);
    drop(ask(&session, head(Version::V3_1, "GET", "/")).await);
    timeout(LONG, session.ping()).await.unwrap().unwrap();
    let how = OpenOptions::new().fin(true);
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
    // Both sides have sent a SETTINGS frame at least.
    for name in ["received_bytes_total", "sent_bytes_total"] {
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

#[tokio::test]
async fn what_hyper_refuses_is_counted_and_logged() {
    let server = Observed::start("refused", Version::V3_1).await;
    let before = server.scrape().await;
    let long = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(70_000));
    let many = format!(
        "GET / HTTP/1.1\r\nhost: a\r\n{}\r\n",
        "a: b\r\n".repeat(200)
    );
    let large = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "x".repeat(200_000)
    );
    let hostless = "GET /hostless HTTP/1.1\r\nconnection: close\r\n\r\n";
    let requests = [
        ("GET / HTTP/1.9\r\nhost: a\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nb{d: x\r\n\r\n", "400"),
        (&long, "414"),
        (&many, "431"),
        (&large, "431"),
        (hostless, "400"),
    ];
    for (request, status) in requests {
        let mut io = server.connect().await;
        io.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = timeout(LONG, io.read_to_string(&mut answer)).await;
        read.unwrap().unwrap();
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{status}: {answer}");
    }
    let of = |name: &str, status: &str| {
        format!("{name}_total{{protocol=\"http/1.1\",status=\"{status}\"}}")
    };
    let names = [
        (of("malformed_requests", "400"), 2),
        (of("malformed_requests", "414"), 1),
        (of("malformed_requests", "431"), 2),
        (of("requests", "4xx"), 6),
    ];
    let by: Vec<_> = names.iter().map(|(name, more)| (&**name, *more)).collect();
    server.grows(&before, &by).await;
    let lines = server.log(6).await;
    for (status, count) in [("400", 2), ("414", 1), ("431", 2)] {
        let expected =
            format!("\"- - HTTP/1.1\" {status} 0 \"-\" \"-\" HTTP/1.1 - 0.000000 0 refused");
        let found = lines.iter().filter(|line| line.contains(&expected)).count();
        assert_eq!(found, count, "{expected} in {lines:#?}");
    }
    let hostless = "\"GET /hostless HTTP/1.1\" 400 ";
    assert!(
        lines.iter().any(|line| line.contains(hostless)),
        "{lines:#?}"
    );
}

#[tokio::test]
async fn answers_that_break_off_are_told_from_whole_ones() {
    let server = Observed::start("cut", Version::V3_1).await;
    let before = server.scrape().await;
    for (method, path) in [("GET", "/"), ("HEAD", "/"), ("GET", "/cut")] {
        let mut io = server.connect().await;
        let request = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        io.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        _ = timeout(LONG, io.read_to_end(&mut answer)).await.unwrap();
    }
    let session = begin(server.connect().await, Version::V3_1);
    for path in ["/", "/cut"] {
        let mut stream = ask(&session, head(Version::V3_1, "GET", path)).await;
        let mut body = Vec::new();
        _ = timeout(LONG, stream.read_to_end(&mut body)).await.unwrap();
    }
    let io = TokioIo::new(server.connect().await);
    let (mut requests, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    for (method, path) in [("GET", "/"), ("GET", "/cut"), ("POST", "/cut")] {
        let request = Request::builder().method(method);
        let request = request.uri(format!("http://a{path}")).body(Body::from("x"));
        let response = requests.send_request(request.unwrap()).await.unwrap();
        _ = timeout(LONG, response.into_body().collect()).await.unwrap();
    }
    let by = [
        ("responses_cut_total{protocol=\"http/1.1\"}", 1),
        ("responses_cut_total{protocol=\"h2\"}", 2),
        ("responses_cut_total{protocol=\"spdy/3.1\"}", 1),
        ("requests_total{protocol=\"http/1.1\",status=\"2xx\"}", 3),
        ("requests_total{protocol=\"h2\",status=\"2xx\"}", 3),
        ("requests_total{protocol=\"spdy/3.1\",status=\"2xx\"}", 2),
    ];
    server.grows(&before, &by).await;
    for line in server.log(8).await {
        let is_cut = line.contains(" /cut HTTP/1.1\" 200 5 ");
        assert_eq!(line.ends_with(" cut"), is_cut, "{line}");
        assert_eq!(line.ends_with(" -"), !is_cut, "{line}");
    }
}

/// A client that ends its side in the middle of a body, and is answered nevertheless.
#[tokio::test]
async fn a_request_that_breaks_off_and_is_answered_whole_has_a_mark() {
    let server = Observed::start("request-cut", Version::V3_1).await;
    let before = server.scrape().await;
    for body in ["ab", "abcde"] {
        let mut io = server.connect().await;
        let text = format!("POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n{body}");
        io.write_all(text.as_bytes()).await.unwrap();
        io.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let read = timeout(LONG, io.read_to_end(&mut answer)).await;
        read.unwrap().unwrap();
        let status = if body == "ab" { "400" } else { "200" };
        let answer = String::from_utf8(answer).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
    let by = [
        ("requests_cut_total{protocol=\"http/1.1\"}", 1),
        ("responses_cut_total{protocol=\"http/1.1\"}", 0),
        ("requests_total{protocol=\"http/1.1\",status=\"4xx\"}", 1),
    ];
    server.grows(&before, &by).await;
    let lines = server.log(2).await;
    assert!(
        lines[0].contains("\" 400 ") && lines[0].ends_with(" 2 request-cut"),
        "{lines:?}"
    );
    assert!(
        lines[1].contains("\" 200 ") && lines[1].ends_with(" 5 -"),
        "{lines:?}"
    );
}

/// A frame of HTTP/2 without length above 255.
fn http2_frame(of_type: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, of_type, flags, 0, 0, 0, stream], payload].concat()
}

/// A request without a scheme, and a frame without its stream.
#[tokio::test]
async fn malformed_http_2_is_counted_and_logged() {
    let server = Observed::start("malformed-http2", Version::V3_1).await;
    let before = server.scrape().await;
    let mut io = server.connect().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // `:method: GET`, `:path: /` and a host, and in the second request `:scheme: http`.
    let malformed = http2_frame(1, 5, 1, &[0x82, 0x84, 0x41, 1, b'a']);
    let whole = http2_frame(1, 5, 3, &[0x82, 0x86, 0x84, 0x41, 1, b'a']);
    let settings = http2_frame(4, 0, 0, &[]);
    io.write_all(&[&preface[..], &settings, &malformed, &whole].concat())
        .await
        .unwrap();
    let names = [
        (
            "malformed_requests_total{protocol=\"h2\",status=\"400\"}",
            1,
        ),
        ("requests_total{protocol=\"h2\",status=\"4xx\"}", 1),
        ("requests_total{protocol=\"h2\",status=\"2xx\"}", 1),
        ("http2_resets_sent_total{code=\"PROTOCOL_ERROR\"}", 1),
        ("http2_resets_sent_total{code=\"CANCEL\"}", 0),
        ("http2_go_aways_sent_total{code=\"PROTOCOL_ERROR\"}", 0),
    ];
    server.grows(&before, &names).await;
    // DATA belongs to a stream.
    io.write_all(&http2_frame(0, 0, 0, b"x")).await.unwrap();
    let mut rest = Vec::new();
    _ = timeout(LONG, io.read_to_end(&mut rest)).await.unwrap();
    let names = [("http2_go_aways_sent_total{code=\"PROTOCOL_ERROR\"}", 1)];
    server.grows(&before, &names).await;
    let lines = server.log(2).await;
    let refused = "\"- - HTTP/1.1\" 400 0 \"-\" \"-\" HTTP/2 1 0.000000 0 refused";
    let is_refused = |line: &&String| line.ends_with(refused);
    assert_eq!(lines.iter().filter(is_refused).count(), 1, "{lines:#?}");
    assert_eq!(lines.len(), 2, "{lines:#?}");
}

#[tokio::test]
async fn a_body_over_http_2_that_contradicts_its_length_has_the_line_of_its_request() {
    let server = Observed::start("contradicts-http2", Version::V3_1).await;
    let before = server.scrape().await;
    let mut io = server.connect().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // `POST /body` of `http`, with a host and a content-length of 1.
    let head = b"\x83\x86\x04\x05/body\x41\x01a\x0f\x0d\x011";
    let head = http2_frame(1, 4, 1, head);
    let settings = http2_frame(4, 0, 0, &[]);
    let data = http2_frame(0, 1, 1, b"xx");
    io.write_all(&[&preface[..], &settings, &head, &data].concat())
        .await
        .unwrap();
    let names = [
        (
            "malformed_requests_total{protocol=\"h2\",status=\"400\"}",
            0,
        ),
        ("requests_total{protocol=\"h2\",status=\"4xx\"}", 1),
        ("http2_resets_sent_total{code=\"PROTOCOL_ERROR\"}", 1),
    ];
    server.grows(&before, &names).await;
    // Once this one has its line, the other one has all that it gets.
    let whole = http2_frame(1, 5, 3, &[0x82, 0x86, 0x84, 0x41, 1, b'a']);
    io.write_all(&whole).await.unwrap();
    let names = [("requests_total{protocol=\"h2\",status=\"2xx\"}", 1)];
    server.grows(&before, &names).await;
    let lines = server.log(2).await;
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(
        lines[0].contains("\"POST /body HTTP/1.1\" 400 ") && lines[0].ends_with(" -"),
        "{lines:#?}"
    );
    assert!(lines[1].contains("\"GET / HTTP/1.1\" 200 "), "{lines:#?}");
}

/// Requests with and without a body. Others are answered beside them, and some are reset.
#[tokio::test]
async fn fields_that_are_too_long_over_http_2_are_counted_and_logged() {
    let server = Observed::start("long-http2", Version::V3_1).await;
    let before = server.scrape().await;
    let mut io = server.connect().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = http2_frame(4, 0, 0, &[]);
    io.write_all(&[&preface[..], &settings].concat())
        .await
        .unwrap();
    // `:method: GET`, `:scheme: http`, `:path: /` and a host.
    let head = [0x82, 0x86, 0x84, 0x41, 1, b'a'];
    // A name of 60 bytes is added to the table, and then repeated. Each counts 92 bytes.
    let name = [&[0x40, 60][..], &[b'x'; 60], &[0]].concat();
    let large = |stream: u8, ends: u8| {
        let block = [&head[..], &name, &[0xbe; 1500]].concat();
        let [high, low] = u16::try_from(block.len()).unwrap().to_be_bytes();
        [&[0, high, low, 1, 4 | ends, 0, 0, 0, stream], &block[..]].concat()
    };
    let whole = |stream| http2_frame(1, 5, stream, &head);
    let malformed = |stream| http2_frame(1, 5, stream, &head[1..]);
    let requests = [
        large(1, 1),
        whole(3),
        large(5, 0),
        malformed(7),
        large(9, 1),
        whole(11),
    ];
    io.write_all(&requests.concat()).await.unwrap();
    let names = [
        (
            "malformed_requests_total{protocol=\"h2\",status=\"431\"}",
            3,
        ),
        (
            "malformed_requests_total{protocol=\"h2\",status=\"400\"}",
            1,
        ),
        ("requests_total{protocol=\"h2\",status=\"4xx\"}", 4),
        ("requests_total{protocol=\"h2\",status=\"2xx\"}", 2),
    ];
    server.grows(&before, &names).await;
    // The reset of a request whose body was still to come has no line of its own.
    io.write_all(&[large(13, 1), whole(15)].concat())
        .await
        .unwrap();
    let names = [
        (
            "malformed_requests_total{protocol=\"h2\",status=\"431\"}",
            4,
        ),
        ("http2_resets_sent_total{code=\"PROTOCOL_ERROR\"}", 2),
        ("requests_total{protocol=\"h2\",status=\"2xx\"}", 3),
    ];
    server.grows(&before, &names).await;
    let lines = server.log(8).await;
    assert_eq!(lines.len(), 8, "{lines:#?}");
    for (status, streams) in [("431", &[1, 5, 9, 13][..]), ("400", &[7])] {
        for stream in streams {
            let line = format!(
                "\"- - HTTP/1.1\" {status} 0 \"-\" \"-\" HTTP/2 {stream} 0.000000 0 refused"
            );
            let found = lines.iter().filter(|it| it.ends_with(&line)).count();
            assert_eq!(found, 1, "{line} in {lines:#?}");
        }
    }
}

#[tokio::test]
async fn requests_whose_bodies_fail_are_logged_as_they_were_answered() {
    let timeouts = Timeouts {
        body: Some(Duration::from_millis(50)),
        ..Timeouts::default()
    };
    let server = Observed::start_with("silent", Version::V3_1, timeouts).await;
    let mut io = server.connect().await;
    let text = b"POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab";
    io.write_all(text).await.unwrap();
    let mut answer = [0; 12];
    timeout(LONG, io.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    let session = begin(server.connect().await, Version::V3_1);
    let request = head(Version::V3_1, "POST", "/body");
    let mut stream = session.open(request, OpenOptions::default()).await.unwrap();
    let answer = timeout(LONG, stream.response_headers())
        .await
        .unwrap()
        .unwrap();
    assert!(answer.get(":status").unwrap().starts_with(b"408"));
    let mut wrong = head(Version::V3_1, "POST", "/body");
    wrong.append("content-length", "5").unwrap();
    let mut stream = session.open(wrong, OpenOptions::default()).await.unwrap();
    stream.write_all(b"ab").await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = timeout(LONG, stream.response_headers())
        .await
        .unwrap()
        .unwrap();
    assert!(answer.get(":status").unwrap().starts_with(b"400"));
    let lines = server.log(3).await;
    for (protocol, status) in [("HTTP/1.1", 408), ("SPDY/3.1", 408), ("SPDY/3.1", 400)] {
        let begin = format!("\"POST /body HTTP/1.1\" {status} 0 ");
        let by = format!("\"-\" {protocol} ");
        let is_it = |line: &&String| line.contains(&begin) && line.contains(&by);
        let of_it = lines.iter().filter(is_it);
        assert_eq!(of_it.count(), 1, "{begin}{protocol} in {lines:#?}");
    }
    for line in &lines {
        assert!(line.ends_with(" -"), "{line}");
    }
}
