//! A server that drains: connections that wait for a place and connections that are idle receive
//! their responses, and the health checks turn first.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    routing::{get, post},
};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use spdy_server::{
    AccessLog, Config, ConnectionInfo, Drained, Protocol, Server, Timeouts, Version, auto,
};
use spdy_tower::session::{self, HeaderBlock, OpenOptions};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};

use self::common::server::{LONG, Running, http1, loopback, never, plain, until_it_drains};

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
    assert_eq!(
        server.task.await.unwrap(),
        Drained {
            cut: 0,
            unclosed: 0
        }
    );
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
        Drained {
            cut: 1,
            unclosed: 0
        }
    );
    drop(holder);
    let log = fs::read_to_string(log).unwrap();
    let turned_away = log
        .lines()
        .filter(|line| line.contains("\"GET / HTTP/1.1\" 503 "));
    assert_eq!(turned_away.count(), 4, "{log}");
}

/// Sends a request on a connection that is kept, and reads the head of its response and a body of
/// two bytes.
async fn post_on(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> std::io::Result<String> {
    let request = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody";
    io.write_all(request).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        answer.push(io.read_u8().await?);
    }
    Ok(String::from_utf8(answer).unwrap())
}

fn ok() -> Router {
    Router::new().route("/", post(async || "ok").get(async || "ok"))
}

#[tokio::test]
async fn an_idle_connection_is_told_of_the_end_by_its_next_answer() {
    let timeouts = Timeouts {
        drain: 4 * LONG,
        idle_close: LONG,
        ..Timeouts::default()
    };
    let server = Running::start(plain(timeouts), ok()).await;
    let mut io = tcp(&server).await;
    let first = timeout(LONG, post_on(&mut io)).await.unwrap().unwrap();
    assert!(!first.contains("connection: close"), "{first}");
    server.shutdown.send(()).unwrap();
    until_it_drains(server.address).await;
    let last = timeout(LONG, post_on(&mut io)).await.unwrap().unwrap();
    assert!(last.contains("connection: close\r\n"), "{last}");
    assert_eq!(answer(io).await, "");
    let drained = timeout(LONG / 2, server.task).await.unwrap().unwrap();
    assert_eq!(
        drained,
        Drained {
            cut: 0,
            unclosed: 0
        }
    );
}

/// Eight clients that send requests one after another on kept connections, while their server is
/// replaced.
#[tokio::test]
async fn a_restart_loses_no_request_of_kept_connections() {
    let old = Running::start(plain(Timeouts::default()), ok()).await;
    let new = Running::start(plain(Timeouts::default()), ok()).await;
    let (replace, replaced) = watch::channel(old.address);
    let second = new.address;
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let replaced = replaced.clone();
            tokio::spawn(async move {
                let (mut left, mut kept) = (20, None);
                while left > 0 {
                    let address = *replaced.borrow();
                    let mut io = match kept.take() {
                        Some(io) => io,
                        None => TcpStream::connect(address).await.unwrap(),
                    };
                    let answer = timeout(LONG, post_on(&mut io)).await.unwrap();
                    let answer = answer.expect("a request is lost");
                    left -= u32::from(io.peer_addr().unwrap() == second);
                    kept = (!answer.contains("connection: close")).then_some(io);
                    sleep(Duration::from_millis(2)).await;
                }
            })
        })
        .collect();
    sleep(Duration::from_millis(100)).await;
    replace.send(new.address).unwrap();
    assert_eq!(
        old.end().await,
        Drained {
            cut: 0,
            unclosed: 0
        }
    );
    for client in clients {
        timeout(LONG, client).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_stays_idle_is_closed_after_idle_close() {
    let info = ConnectionInfo {
        protocol: Protocol::Http1,
        peer: None,
        tls: None,
        is_tls_of_proxy: false,
    };
    for requests in [0, 1] {
        let (near, mut io) = tokio::io::duplex(4096);
        let mut connection =
            Box::pin(auto::Builder::new().serve_known_connection(near, info, ok()));
        let asking = async {
            for _ in 0..requests {
                let answer = post_on(&mut io).await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            }
            // The connection has begun.
            sleep(Duration::from_secs(1)).await;
        };
        tokio::select! {
            () = asking => {}
            _ = &mut connection => panic!("the connection has ended"),
        }
        connection.as_mut().graceful_shutdown();
        let start = Instant::now();
        connection.await.unwrap();
        let grace = Timeouts::default().idle_close;
        assert_eq!(start.elapsed(), grace, "after {requests} requests");
    }
}

/// An idle connection must not count as one that did not finish.
#[tokio::test]
async fn idle_connections_are_closed_before_the_drain_is_over() {
    let timeouts = Timeouts {
        drain: Duration::from_secs(1),
        idle_close: 2 * LONG,
        ..Timeouts::default()
    };
    let server = Running::start(plain(timeouts), ok()).await;
    let mut io = tcp(&server).await;
    timeout(LONG, post_on(&mut io)).await.unwrap().unwrap();
    assert_eq!(
        server.end().await,
        Drained {
            cut: 0,
            unclosed: 0
        }
    );
}

#[tokio::test]
async fn readiness_turns_before_the_listeners_close() {
    let timeouts = Timeouts {
        drain_delay: 2 * LONG,
        ..Timeouts::default()
    };
    let config = Config {
        metrics: Some(loopback().into()),
        ..plain(timeouts)
    };
    let server = Server::bind(config).await.unwrap();
    let address = server.endpoints()[0].address.tcp().unwrap();
    let pages = server.metrics().unwrap().address.tcp().unwrap();
    let (shutdown, asked) = tokio::sync::oneshot::channel();
    let running = tokio::spawn(server.run(ok(), async {
        _ = asked.await;
    }));
    let page = async |path| http1(TcpStream::connect(pages).await.unwrap(), path).await;
    assert!(page("/readyz").await.starts_with("HTTP/1.1 200"));
    shutdown.send(()).unwrap();
    let turned = async { while page("/readyz").await.starts_with("HTTP/1.1 200") {} };
    timeout(LONG, turned).await.unwrap();
    assert!(page("/healthz").await.starts_with("HTTP/1.1 503"));
    assert!(page("/livez").await.starts_with("HTTP/1.1 200"));
    for _ in 0..3 {
        sleep(Duration::from_millis(30)).await;
        let answer = http1(TcpStream::connect(address).await.unwrap(), "/").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    running.abort();
}

#[tokio::test]
async fn the_listeners_close_after_the_delay() {
    let timeouts = Timeouts {
        drain_delay: Duration::from_millis(300),
        ..Timeouts::default()
    };
    let server = Running::start(plain(timeouts), ok()).await;
    let start = Instant::now();
    assert_eq!(
        server.end().await,
        Drained {
            cut: 0,
            unclosed: 0
        }
    );
    let took = start.elapsed();
    assert!(
        took >= Duration::from_millis(300) && took < LONG / 2,
        "{took:?}"
    );
}

/// Clients of SPDY and HTTP/2 that have everything and keep their side open, and one whose request
/// has no answer.
#[tokio::test]
async fn connections_that_only_their_clients_keep_open_are_told_from_cut_ones() {
    // Less than a client has to close its side.
    let timeouts = Timeouts {
        drain: Duration::from_secs(3),
        ..Timeouts::default()
    };
    let entered = Arc::new(Notify::new());
    let app = ok().route("/never", never(&entered));
    let server = Running::start(plain(timeouts), app).await;
    let (mut spdy, mut http2) = (tcp(&server).await, tcp(&server).await);
    let ping = [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1];
    spdy.write_all(&ping).await.unwrap();
    http2.write_all(&begin_of_http2()).await.unwrap();
    timeout(LONG, spdy.read_u8()).await.unwrap().unwrap();
    timeout(LONG, next_frame(&mut http2))
        .await
        .unwrap()
        .unwrap();
    let open = request(&server, "/never").await;
    timeout(LONG, entered.notified()).await.unwrap();
    let ended = tokio::spawn(server.end());
    timeout(LONG, answer_pings(&mut http2)).await.unwrap();
    timeout(LONG, spdy.read_to_end(&mut Vec::new()))
        .await
        .unwrap()
        .unwrap();
    let drained = timeout(LONG, ended).await.unwrap().unwrap();
    let expected = Drained {
        cut: 1,
        unclosed: 2,
    };
    assert_eq!(drained, expected);
    drop((spdy, http2, open));
}

/// Returns the first bytes of an HTTP/2 client: its preface, and SETTINGS without values.
fn begin_of_http2() -> Vec<u8> {
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings].concat()
}

/// Returns the head and the payload of the next frame.
async fn next_frame(io: &mut (impl AsyncRead + Unpin)) -> std::io::Result<([u8; 9], Vec<u8>)> {
    let mut head = [0; 9];
    io.read_exact(&mut head).await?;
    let mut payload = vec![0; head[2].into()];
    io.read_exact(&mut payload).await?;
    Ok((head, payload))
}

/// Answers each PING of an HTTP/2 server until it closes its side.
async fn answer_pings(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    while let Ok((mut head, payload)) = next_frame(io).await {
        if let [0, 0, 8, 6, 0, ..] = head {
            head[4] = 1;
            io.write_all(&[&head[..], &payload].concat()).await.unwrap();
        }
    }
}

/// HTTP/2 clients that never begin, and that never answer the PING of the end.
#[tokio::test(start_paused = true)]
async fn a_client_that_has_nothing_to_wait_for_and_answers_nothing_is_not_waited_for() {
    let info = ConnectionInfo {
        protocol: Protocol::Http2,
        peer: None,
        tls: None,
        is_tls_of_proxy: false,
    };
    for first in [&b""[..], &begin_of_http2()] {
        let (near, mut io) = tokio::io::duplex(4096);
        let mut connection =
            Box::pin(auto::Builder::new().serve_known_connection(near, info, ok()));
        io.write_all(first).await.unwrap();
        // The connection has begun.
        let begun = timeout(Duration::from_secs(1), &mut connection).await;
        assert!(begun.is_err(), "the connection has ended");
        connection.as_mut().graceful_shutdown();
        let start = Instant::now();
        connection.await.unwrap();
        let took = start.elapsed();
        assert_eq!(took, Duration::from_secs(5), "after {first:?}");
    }
}
