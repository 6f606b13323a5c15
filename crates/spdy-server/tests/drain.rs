//! A server that drains while connections wait for a place: each of them receives a response.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{Router, routing::get};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use spdy_server::{AccessLog, Config, Drained, Timeouts, Version};
use spdy_tower::session::{self, HeaderBlock, OpenOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    time::timeout,
};

use self::common::server::{LONG, Running, plain, until_it_drains};

/// Starts a server with one place, which a request holds until it is released.
struct Full {
    server: Running,
    holder: TcpStream,
    go: Arc<Notify>,
    log: PathBuf,
}

impl Full {
    async fn start(drain: Duration) -> Self {
        let (go, entered) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (gate, inside) = (Arc::clone(&go), Arc::clone(&entered));
        let hold = async move || {
            inside.notify_one();
            gate.notified().await;
            "held"
        };
        let app = Router::new()
            .route("/hold", get(hold))
            .route("/", get(async || "served"));
        let timeouts = Timeouts {
            drain,
            ..Timeouts::default()
        };
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("drain-{drain:?}.log"));
        _ = fs::remove_file(&log);
        let config = Config {
            max_connections: 1,
            access_log: Some(AccessLog::File(log.clone())),
            ..plain(timeouts)
        };
        let server = Running::start(config, app).await;
        let holder = request(&server, "/hold").await;
        timeout(LONG, entered.notified()).await.unwrap();
        Self {
            server,
            holder,
            go,
            log,
        }
    }
}

async fn tcp(server: &Running) -> TcpStream {
    TcpStream::connect(server.address).await.unwrap()
}

async fn request(server: &Running, path: &str) -> TcpStream {
    let mut io = tcp(server).await;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    io.write_all(request.as_bytes()).await.unwrap();
    io
}

/// Returns all bytes that arrive, and how the connection ends.
async fn answer(mut io: TcpStream) -> String {
    let mut bytes = Vec::new();
    let end = timeout(LONG, io.read_to_end(&mut bytes)).await;
    end.expect("the connection is not closed")
        .expect("the connection is reset");
    String::from_utf8(bytes).unwrap()
}

/// The first connection was accepted and waits for its place. The others wait in the queue of the
/// system.
#[tokio::test]
async fn connections_that_wait_for_a_place_are_served_when_others_have_ended() {
    let Full {
        server, holder, go, ..
    } = Full::start(LONG).await;
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(request(&server, "/").await);
    }
    server.shutdown.send(()).unwrap();
    until_it_drains(server.address).await;
    go.notify_one();
    assert!(answer(holder).await.ends_with("held"));
    for io in waiting {
        let answer = answer(io).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    assert_eq!(server.task.await.unwrap(), Drained { cut: 0 });
}

#[tokio::test]
async fn connections_that_get_no_place_are_turned_away_in_their_own_protocol() {
    let Full {
        server,
        holder,
        log,
        ..
    } = Full::start(Duration::from_secs(10)).await;
    let http1 = [request(&server, "/").await, request(&server, "/").await];

    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(tcp(&server).await))
            .await
            .unwrap();
    let http2 = tokio::spawn(connection);
    let ask = http::Request::get("http://localhost/").body(Empty::<bytes::Bytes>::new());
    let http2_answer = tokio::spawn(sender.send_request(ask.unwrap()));

    let config = session::Config::default();
    let (spdy, _pushes, driver) = session::client(tcp(&server).await, Version::V3_1, config);
    let driver = tokio::spawn(driver);
    let fields = [
        (":method", "GET"),
        (":path", "/"),
        (":version", "HTTP/1.1"),
        (":host", "localhost"),
        (":scheme", "http"),
    ];
    let head = HeaderBlock::from_pairs(fields).unwrap();
    let fin = OpenOptions::new().fin(true);
    let mut opened = spdy.open(head, fin).await.unwrap();

    server.shutdown.send(()).unwrap();
    for io in http1 {
        let answer = answer(io).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    // Its request came before the shutdown, so it receives more than GOAWAY.
    let answer = timeout(LONG, http2_answer).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.status(), 503);
    answer.into_body().collect().await.unwrap();
    timeout(LONG, http2).await.unwrap().unwrap().unwrap();
    let head = timeout(LONG, opened.response_headers())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(head.get(":status"), Some(&b"503"[..]));
    timeout(LONG, driver).await.unwrap().unwrap().unwrap();
    assert_eq!(
        timeout(LONG, server.task).await.unwrap().unwrap(),
        Drained { cut: 1 }
    );
    drop(holder);
    let log = fs::read_to_string(log).unwrap();
    let turned_away = log
        .lines()
        .filter(|line| line.contains("\"GET / HTTP/1.1\" 503 "));
    assert_eq!(turned_away.count(), 4, "{log}");
}
