//! The reverse proxy over real sockets: our server in front, an application behind it.

mod common;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Extension, Request},
    response::Response,
    routing::{any, get, post},
};
use http_body_util::BodyExt;
use hyper::{HeaderMap, StatusCode};
use hyper_util::rt::{TokioExecutor as Executor, TokioIo, TokioTimer};
use spdy_server::{
    Address, Bind, Config, ConnectionInfo, Server, Timeouts, Version,
    app::{Proxy, proxy},
};
use spdy_tests::vacant::Vacant;
use spdy_tower::session::{self, HeaderBlock, OpenOptions};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
    time::{sleep, timeout},
};

use self::common::server::{LONG, Running, connect, http1, http2, loopback, plain, spdy, tls};

/// An application that returns what it has received.
fn application() -> Router {
    Router::new()
        .route("/headers", any(headers))
        .route("/protocol", get(protocol))
        .route("/echo", post(async |body: Body| Response::new(body)))
        .route("/hop", get(hop))
        .fallback(async |request: Request| format!("{} {}", request.method(), request.uri()))
}

async fn headers(headers: HeaderMap) -> String {
    let lines = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()));
    lines.collect()
}

async fn protocol(Extension(info): Extension<ConnectionInfo>, request: Request) -> String {
    format!("{} {}", info.protocol, request.uri())
}

async fn hop() -> Response {
    Response::builder()
        .header("connection", "x-internal")
        .header("x-internal", "1")
        .header("keep-alive", "timeout=5")
        .header("x-kept", "1")
        .body("x".into())
        .unwrap()
}

/// Starts an application. Returns it and a proxy for it, which uses `scheme`.
async fn behind(scheme: &str, app: Router, change: impl Fn(&mut Proxy)) -> (Running, Running) {
    let application = Running::start(plain(Timeouts::default()), app).await;
    let front = front(
        &format!("{scheme}://{}", application.address),
        plain(Timeouts::default()),
        change,
    )
    .await;
    (application, front)
}

async fn front(upstream: &str, config: Config, change: impl Fn(&mut Proxy)) -> Running {
    let mut options = Proxy::new(upstream.parse().unwrap());
    change(&mut options);
    Running::start(config, proxy(options)).await
}

async fn tcp(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

async fn begin_echo(address: SocketAddr) -> session::Stream {
    begin(address, "POST", OpenOptions::default()).await
}

/// Sends the head of a request to `/echo`, over SPDY.
async fn begin(address: SocketAddr, method: &str, how: OpenOptions) -> session::Stream {
    let io = tcp(address).await;
    let (session, _pushes, driver) = session::client(io, Version::V3_1, session::Config::default());
    tokio::spawn(driver);
    session.open(head(method, "/echo"), how).await.unwrap()
}

fn head(method: &str, path: &str) -> HeaderBlock {
    HeaderBlock::from_pairs([
        (":method", method),
        (":path", path),
        (":version", "HTTP/1.1"),
        (":host", "localhost"),
        (":scheme", "http"),
    ])
    .unwrap()
}

#[tokio::test]
async fn the_application_is_told_who_asks_whatever_protocol_the_client_speaks() {
    let application = Running::start(plain(Timeouts::default()), application()).await;
    let (config, roots) = tls("proxy");
    let upstream = format!("http://{}", application.address);
    let front = front(&upstream, config, |_| {}).await;

    let mut bodies = Vec::new();
    for version in [Version::V3_1, Version::V3, Version::V2] {
        let id = str::from_utf8(version.alpn()).unwrap();
        let io = connect(front.address, roots.clone(), &[id]).await;
        let (fields, body) = spdy(io, version, "/headers").await;
        let status = fields
            .get(":status")
            .or_else(|| fields.get("status"))
            .unwrap();
        assert!(status.starts_with(b"200"), "{fields:?}");
        bodies.push(String::from_utf8(body).unwrap());
    }
    let io = connect(front.address, roots.clone(), &["h2"]).await;
    bodies.push(String::from_utf8(http2(io, "/headers").await.1.to_vec()).unwrap());
    let io = connect(front.address, roots, &["http/1.1"]).await;
    bodies.push(http1(io, "/headers").await);
    for body in bodies {
        for line in [
            "host: localhost\n",
            "x-forwarded-for: 127.0.0.1\n",
            "x-forwarded-proto: https\n",
            "x-forwarded-host: localhost\n",
            "forwarded: for=127.0.0.1;host=\"localhost\";proto=https\n",
        ] {
            assert!(body.contains(line), "{line} is not in {body}");
        }
    }
}

#[tokio::test]
async fn bodies_stream_both_ways_at_once() {
    for scheme in ["http", "h2"] {
        let (_application, front) = behind(scheme, application(), |_| {}).await;
        let mut stream = begin_echo(front.address).await;
        for piece in ["one", "two", "three"] {
            stream.write_all(piece.as_bytes()).await.unwrap();
            let mut echoed = vec![0; piece.len()];
            timeout(LONG, stream.read_exact(&mut echoed))
                .await
                .expect("the piece did not come back")
                .unwrap();
            assert_eq!(echoed, piece.as_bytes(), "{scheme}");
        }
        let large = vec![7; 3_000_000];
        let (mut receive, mut send) = tokio::io::split(stream);
        let writing = tokio::spawn(async move {
            send.write_all(&large).await.unwrap();
            send.shutdown().await.unwrap();
        });
        let mut echoed = Vec::new();
        receive.read_to_end(&mut echoed).await.unwrap();
        writing.await.unwrap();
        assert_eq!(echoed.len(), 3_000_000);
    }
}

#[tokio::test]
async fn an_application_may_speak_http_2_and_gets_the_clients_host() {
    let (_application, front) = behind("h2", application(), |_| {}).await;
    let answer = http1(tcp(front.address).await, "/protocol?a=b").await;
    assert!(
        answer.ends_with("HTTP/2 http://localhost/protocol?a=b"),
        "{answer}"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn an_application_may_be_at_a_unix_socket() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("application.sock");
    let config = Config {
        binds: vec![Bind::plain(Address::Unix(path.clone()))],
        ..Config::default()
    };
    let server = Server::bind(config).await.unwrap();
    tokio::spawn(server.run(application(), std::future::pending()));
    let upstream = format!("unix:{}", path.display());
    let front = front(&upstream, plain(Timeouts::default()), |_| {}).await;
    let answer = http1(tcp(front.address).await, "/protocol").await;
    assert!(answer.ends_with("HTTP/1.1 /protocol"), "{answer}");
}

#[tokio::test]
async fn fields_of_one_connection_do_not_pass() {
    let (_application, front) = behind("http", application(), |_| {}).await;
    let answer = http1(tcp(front.address).await, "/hop").await;
    assert!(answer.contains("x-kept: 1"), "{answer}");
    assert!(!answer.contains("x-internal"), "{answer}");
    assert!(!answer.contains("keep-alive"), "{answer}");

    let mut io = tcp(front.address).await;
    io.write_all(
        b"GET /headers HTTP/1.1\r\nhost: a\r\nconnection: close, upgrade, x-mine\r\n\
          upgrade: h2c\r\nx-mine: 1\r\nx-forwarded-for: 192.0.2.1\r\n\r\n",
    )
    .await
    .unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    for absent in ["upgrade", "x-mine", "192.0.2.1"] {
        assert!(!answer.contains(absent), "{absent} in {answer}");
    }
}

/// A length that contradicts the chunks is an old attack, which makes two servers read two
/// different requests.
#[tokio::test]
async fn a_request_has_one_length_only() {
    let (_application, front) = behind("http", application(), |_| {}).await;
    for fields in [
        "content-length: 3\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 3\r\n",
    ] {
        let mut io = tcp(front.address).await;
        let request = format!(
            "POST /headers HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n5\r\nhello\r\n0\r\n\r\n"
        );
        io.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            !head.starts_with("HTTP/1.1 200") || !body.contains("content-length: 3"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn connect_is_not_passed_on() {
    let (_application, front) = behind("http", application(), |_| {}).await;
    let mut io = tcp(front.address).await;
    io.write_all(b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 501 "), "{answer}");
}

#[tokio::test]
async fn without_an_application_there_is_a_page_that_says_so() {
    let vacant = Vacant::take();
    let address = vacant.address();
    for scheme in ["http", "h2"] {
        let upstream = format!("{scheme}://{address}");
        let front = front(&upstream, plain(Timeouts::default()), |_| {}).await;
        let answer = http1(tcp(front.address).await, "/").await;
        assert!(
            answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"),
            "{answer}"
        );
        assert!(answer.contains("<h1>502 Bad Gateway</h1>"), "{answer}");
        assert!(answer.contains("cannot connect to the application"));
        assert!(!answer.contains("refused"), "details are for the log");
        let (fields, _) = spdy(tcp(front.address).await, Version::V3_1, "/").await;
        assert!(fields.get(":status").unwrap().starts_with(b"502"));
    }
}

#[tokio::test]
async fn an_application_that_speaks_something_else_is_a_502() {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for answer in ["SSH-2.0-x\r\n", "HTTP/1.1 101 Switching Protocols\r\n\r\n"]
            .iter()
            .cycle()
        {
            let (mut io, _) = listener.accept().await.unwrap();
            let _ = io.read(&mut [0; 1024]).await;
            let _ = io.write_all(answer.as_bytes()).await;
        }
    });
    let upstream = format!("http://{address}");
    let front = front(&upstream, plain(Timeouts::default()), |_| {}).await;
    for _ in 0..2 {
        let answer = http1(tcp(front.address).await, "/").await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    }
}

#[tokio::test]
async fn an_application_that_says_nothing_is_a_504() {
    let silent = Router::new().fallback(std::future::pending::<()>);
    for scheme in ["http", "h2"] {
        let (_application, front) = behind(scheme, silent.clone(), |proxy| {
            proxy.answer_timeout = Duration::from_millis(100);
        })
        .await;
        let answer = http1(tcp(front.address).await, "/").await;
        assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
        assert!(
            answer.contains("the application did not respond in time"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn an_upload_that_moves_is_waited_for() {
    let slow = Router::new().fallback(async |body: Body| {
        let bytes = body.collect().await.unwrap().to_bytes();
        bytes.len().to_string()
    });
    let (_application, front) = behind("http", slow, |proxy| {
        proxy.answer_timeout = Duration::from_secs(4);
    })
    .await;
    let mut stream = begin_echo(front.address).await;
    // Longer than a response can take, with pauses that are much shorter.
    for _ in 0..8 {
        stream.write_all(b"x").await.unwrap();
        sleep(Duration::from_millis(600)).await;
    }
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "8");
}

#[tokio::test]
async fn more_requests_than_the_application_takes_wait_and_then_are_told() {
    let release = Arc::new(Notify::new());
    let entered = Arc::new(Notify::new());
    let (held, inside) = (release.clone(), entered.clone());
    let app = Router::new()
        .route(
            "/held",
            get(async move || {
                inside.notify_one();
                held.notified().await;
                "held"
            }),
        )
        .route("/", get(async || "free"));
    let (_application, front) = behind("http", app, |proxy| {
        proxy.max_connections = 1;
        proxy.connect_timeout = Duration::from_secs(5);
    })
    .await;
    let first = tokio::spawn(http1(tcp(front.address).await, "/held"));
    timeout(LONG, entered.notified()).await.unwrap();
    let answer = http1(tcp(front.address).await, "/").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    // If the machine is so busy that it does not wait by then, it receives its response
    // nevertheless.
    let waiting = tokio::spawn(http1(tcp(front.address).await, "/"));
    sleep(Duration::from_millis(100)).await;
    release.notify_one();
    assert!(first.await.unwrap().ends_with("held"));
    assert!(waiting.await.unwrap().ends_with("free"));
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_request_at_the_application() {
    for scheme in ["http", "h2"] {
        let (sender, mut dropped) = mpsc::unbounded_channel();
        let entered = Arc::new(Notify::new());
        let inside = entered.clone();
        let app = Router::new().fallback(async move || {
            let _guard = Guard(sender);
            inside.notify_one();
            std::future::pending::<()>().await;
        });
        let (_application, front) = behind(scheme, app, |_| {}).await;
        let how = OpenOptions::new().fin(true);
        let stream = begin(front.address, "GET", how).await;
        timeout(LONG, entered.notified()).await.unwrap();
        assert!(dropped.try_recv().is_err());
        drop(stream);
        timeout(LONG, dropped.recv())
            .await
            .expect("the application's handler still runs")
            .unwrap();
    }
}

/// Returns a network to an address, on which bytes travel together.
async fn far_away(address: SocketAddr) -> SocketAddr {
    async fn travel(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut buf = vec![0; 65536];
        loop {
            sleep(Duration::from_millis(5)).await;
            let Ok(length @ 1..) = from.read(&mut buf).await else {
                return;
            };
            if to.write_all(&buf[..length]).await.is_err() {
                return;
            }
        }
    }
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let near = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (near, far) = (listener.accept().await.unwrap().0, tcp(address).await);
            let (near, far) = (near.into_split(), far.into_split());
            tokio::spawn(travel(near.0, far.1));
            tokio::spawn(travel(far.0, near.1));
        }
    });
    near
}

/// A client that repeatedly sends a request and leaves before the response.
async fn ask_and_leave(protocol: &str, address: SocketAddr) {
    loop {
        let io = tcp(address).await;
        if protocol == "h2" {
            let (sender, connection) =
                hyper::client::conn::http2::handshake(Executor::new(), TokioIo::new(io))
                    .await
                    .unwrap();
            tokio::spawn(connection);
            while !sender.is_closed() {
                let mut requests = Vec::new();
                for _ in 0..15 {
                    let request = hyper::Request::get("http://localhost/pending");
                    let request = request.body(Body::empty()).unwrap();
                    let mut sender = sender.clone();
                    requests.push(tokio::spawn(
                        async move { sender.send_request(request).await },
                    ));
                }
                sleep(Duration::from_millis(2)).await;
                requests.iter().for_each(tokio::task::JoinHandle::abort);
            }
        } else {
            let (session, _pushes, driver) =
                session::client(io, Version::V3_1, session::Config::default());
            tokio::spawn(driver);
            while session.can_open() {
                let mut streams = Vec::new();
                for _ in 0..50 {
                    let how = OpenOptions::new().fin(true);
                    streams.push(session.open(head("GET", "/pending"), how).await);
                }
                sleep(Duration::from_millis(2)).await;
            }
        }
    }
}

/// Sends a request that must not be repeated. Returns the whole response.
async fn post_once(address: SocketAddr) -> String {
    let mut io = tcp(address).await;
    let request = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx";
    io.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_client_that_asks_and_leaves_costs_the_others_nothing() {
    for protocol in ["spdy", "h2"] {
        let app = Router::new()
            .route(
                "/pending",
                get(async || std::future::pending::<String>().await),
            )
            .route("/large", get(async || vec![7; 1 << 20]))
            .fallback(async |body: String| format!("{body} is free"));
        let application = Running::start(plain(Timeouts::default()), app).await;
        let upstream = format!("h2://{}", far_away(application.address).await);
        let front = front(&upstream, plain(Timeouts::default()), |_| {}).await;
        // A slow client receives its response all the time.
        let mut large = tcp(front.address).await;
        large
            .write_all(b"GET /large HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        large.readable().await.unwrap();
        let leaving = tokio::spawn(ask_and_leave(protocol, front.address));
        for _ in 0..10 {
            let mut requests = tokio::task::JoinSet::new();
            for _ in 0..20 {
                requests.spawn(post_once(front.address));
            }
            while let Some(answer) = requests.join_next().await {
                let answer = answer.unwrap();
                assert!(answer.ends_with("x is free"), "{protocol}: {answer}");
            }
        }
        assert!(!leaving.is_finished());
        leaving.abort();
        let mut answer = Vec::new();
        large.read_to_end(&mut answer).await.unwrap();
        assert!(answer.len() > 1 << 20, "{protocol}: {}", answer.len());
    }
}

/// Reports when it is dropped.
struct Guard(mpsc::UnboundedSender<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[tokio::test]
async fn connections_to_the_application_are_used_again() {
    let application = TcpListener::bind(loopback()).await.unwrap();
    let upstream = format!("http://{}", application.local_addr().unwrap());
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    tokio::spawn(async move {
        loop {
            let (io, _) = application.accept().await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(answer_all(io, usize::MAX));
        }
    });
    let front = front(&upstream, plain(Timeouts::default()), |_| {}).await;
    for _ in 0..10 {
        let answer = http1(tcp(front.address).await, "/").await;
        assert!(answer.ends_with("ok"), "{answer}");
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_connection_that_the_application_closes_costs_no_request() {
    let application = TcpListener::bind(loopback()).await.unwrap();
    let upstream = format!("http://{}", application.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (io, _) = application.accept().await.unwrap();
            // It reads the second request and closes without a response.
            tokio::spawn(answer_all(io, 1));
        }
    });
    let front = front(&upstream, plain(Timeouts::default()), |_| {}).await;
    for _ in 0..10 {
        let answer = http1(tcp(front.address).await, "/").await;
        assert!(answer.ends_with("ok"), "{answer}");
    }
}

/// Answers that many requests on a connection, and closes it at the next one.
async fn answer_all(mut io: TcpStream, requests: usize) {
    let mut head = [0; 4096];
    for _ in 0..requests {
        if !matches!(io.read(&mut head).await, Ok(1..)) {
            return;
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        io.write_all(answer).await.unwrap();
    }
    let _ = io.read(&mut head).await;
}

#[tokio::test]
async fn status_codes_methods_and_targets_pass_as_they_are() {
    let app = application().route("/teapot", get(async || StatusCode::IM_A_TEAPOT));
    let (_application, front) = behind("http", app, |_| {}).await;
    let answer = http1(tcp(front.address).await, "/teapot").await;
    assert!(answer.starts_with("HTTP/1.1 418 "), "{answer}");
    let answer = http1(tcp(front.address).await, "/a%20b/../c?d=%2f").await;
    assert!(answer.ends_with("GET /a%20b/../c?d=%2f"), "{answer}");
}

/// A client of any protocol that requests a large response, reads nothing of it, and replies to
/// every PING.
async fn ask_and_read_nothing(protocol: &str, address: SocketAddr) -> Box<dyn std::any::Any> {
    match protocol {
        "http/1.1" => {
            let mut io = tcp(address).await;
            io.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n")
                .await
                .unwrap();
            Box::new(io)
        }
        "h2" => {
            let (mut sender, connection) =
                hyper::client::conn::http2::Builder::new(Executor::new())
                    .timer(TokioTimer::new())
                    .keep_alive_interval(Duration::from_millis(100))
                    .handshake(TokioIo::new(tcp(address).await))
                    .await
                    .unwrap();
            tokio::spawn(connection);
            let request = hyper::Request::get("http://localhost/large").body(Body::empty());
            let response = sender.send_request(request.unwrap()).await.unwrap();
            Box::new((sender, response))
        }
        _ => {
            let how = OpenOptions::new().fin(true);
            let mut stream = begin(address, "GET", how).await;
            stream.response_headers().await.unwrap();
            Box::new(stream)
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_gives_its_place_back() {
    let large = || get(async || Response::new(Body::from(vec![7; 32 << 20])));
    let app = Router::new()
        .route("/large", large())
        .route("/echo", large())
        .route("/", get(async || "free"));
    for protocol in ["http/1.1", "h2", "spdy"] {
        let application = Running::start(plain(Timeouts::default()), app.clone()).await;
        let timeouts = Timeouts {
            write: Duration::from_secs(1),
            ..Timeouts::default()
        };
        let upstream = format!("http://{}", application.address);
        let front = front(&upstream, plain(timeouts), |proxy| {
            proxy.max_connections = 1;
            proxy.connect_timeout = Duration::from_millis(200);
        })
        .await;
        let _client = ask_and_read_nothing(protocol, front.address).await;
        let free = async { while !http1(tcp(front.address).await, "/").await.ends_with("free") {} };
        timeout(LONG, free)
            .await
            .unwrap_or_else(|_| panic!("{protocol}: the place is kept"));
    }
}
