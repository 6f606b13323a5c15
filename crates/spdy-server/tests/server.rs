//! `Server` over real loopback sockets, with clients of hyper and rustls.

mod common;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::Body,
    extract::ConnectInfo,
    routing::{any, get, post},
};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::{
    Request, StatusCode,
    client::conn::http2::handshake,
    header::{CONTENT_LENGTH, DATE},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use spdy_server::{Config, ConnectionInfo, Drained, Protocol, Timeouts, Version, auto};
use spdy_tests::vectored::Vectored;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore},
    time::{sleep, timeout},
};

use self::common::server::{
    LONG, Running, connect, http1, http2, loopback, never, plain, spdy, tls,
};

async fn start(config: Config) -> Running {
    Running::start(config, app()).await
}

fn app() -> Router {
    Router::new()
        .route("/protocol", get(protocol))
        .route("/tls", get(tls_facts))
        .route("/peer", get(peer))
        .route("/unread", post(async || vec![7; 4 << 20]))
        .route("/unchanged", get(async || StatusCode::NOT_MODIFIED))
        .route("/nothing", get(async || StatusCode::NO_CONTENT))
        .route("/slow", get(|| sleep(Duration::from_millis(300))))
}

async fn protocol(Extension(info): Extension<ConnectionInfo>) -> String {
    info.protocol.to_string()
}

async fn peer(ConnectInfo(peer): ConnectInfo<SocketAddr>) -> String {
    peer.to_string()
}

async fn tls_facts(Extension(info): Extension<ConnectionInfo>) -> String {
    format!("{:?}", info.tls)
}

#[tokio::test]
async fn c003_http_1_is_served_when_no_protocol_is_in_common() {
    let (config, roots) = tls("in_common");
    let server = start(config).await;
    for offered in [&["h3", "spdy/1"][..], &[]] {
        let io = connect(server.address, roots.clone(), offered).await;
        assert_eq!(io.get_ref().1.alpn_protocol(), None);
        assert!(http1(io, "/protocol").await.ends_with("\r\n\r\nHTTP/1.1"));
    }
    assert_eq!(
        server.end().await,
        Drained {
            cut: 0,
            unclosed: 0
        }
    );
}

#[tokio::test]
async fn http_1_and_http_2_are_served_over_tls_when_they_are_selected() {
    let (config, roots) = tls("selected");
    let server = start(config).await;
    let io = connect(server.address, roots.clone(), &["http/1.1"]).await;
    assert!(http1(io, "/protocol").await.ends_with("\r\n\r\nHTTP/1.1"));
    let io = connect(server.address, roots.clone(), &["http/1.1", "h2"]).await;
    assert_eq!(
        http2(io, "/protocol").await,
        (StatusCode::OK, Bytes::from_static(b"HTTP/2"))
    );
    let io = connect(server.address, roots, &["h2"]).await;
    let (_, facts) = http2(io, "/tls").await;
    assert!(
        facts.starts_with(b"Some(TlsInfo { version: \"TLS 1.3\", cipher_suite: \"TLS13_"),
        "{facts:?}"
    );
}

#[tokio::test]
async fn http_1_and_http_2_are_told_apart_in_plain_text() {
    let server = start(plain(Timeouts::default())).await;
    let io = TcpStream::connect(server.address).await.unwrap();
    assert!(
        http1(io, "/protocol")
            .await
            .ends_with(&format!("\r\n\r\n{}", Protocol::Http1))
    );
    let io = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(http2(io, "/protocol").await.1, Protocol::Http2.name());
    let io = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(http2(io, "/tls").await.1, "None");
}

#[tokio::test]
async fn c009_a_silent_client_is_told_nothing_and_closed_in_time() {
    let timeouts = Timeouts {
        handshake: Duration::from_millis(100),
        ..Timeouts::default()
    };
    let (config, _) = tls("silent");
    for config in [plain(timeouts), Config { timeouts, ..config }] {
        let server = start(config).await;
        let mut io = TcpStream::connect(server.address).await.unwrap();
        let mut told = Vec::new();
        timeout(LONG, io.read_to_end(&mut told))
            .await
            .expect("the connection stayed open")
            .unwrap();
        assert_eq!(told, b"");
    }
}

#[tokio::test]
async fn bytes_of_no_protocol_close_the_connection_without_an_answer() {
    let server = start(plain(Timeouts::default())).await;
    for bytes in [
        &[0x16, 3, 1, 0, 5][..],
        &[0, 0, 0, 1, 1, 0, 0, 0],
        &[0x80, 4, 0, 1],
    ] {
        let mut io = TcpStream::connect(server.address).await.unwrap();
        io.write_all(bytes).await.unwrap();
        let mut told = Vec::new();
        // Unread bytes might turn the close into a reset.
        let ended = timeout(LONG, io.read_to_end(&mut told))
            .await
            .expect("the connection stayed open");
        assert!(
            ended.is_ok()
                || ended.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
        );
        assert_eq!(told, b"");
    }
}

#[tokio::test]
async fn an_answer_under_way_survives_the_drain_and_silent_connections_do_not() {
    // Longer than the time limit of the shutdown.
    let server = start(plain(Timeouts {
        handshake: 10 * LONG,
        idle: 10 * LONG,
        drain: 10 * LONG,
        ..Timeouts::default()
    }))
    .await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    let slow = TcpStream::connect(server.address).await.unwrap();
    let slow = tokio::spawn(http1(slow, "/slow"));
    let parallel = TcpStream::connect(server.address).await.unwrap();
    let parallel = tokio::spawn(http2(parallel, "/slow"));
    sleep(Duration::from_millis(100)).await;

    let address = server.address;
    assert_eq!(
        server.end().await,
        Drained {
            cut: 0,
            unclosed: 0
        }
    );
    assert!(slow.await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(parallel.await.unwrap().0, StatusCode::OK);
    assert!(
        TcpStream::connect(address).await.is_err(),
        "the socket is still open"
    );
}

/// Starts a server with this time limit for open requests, and opens a connection with a request.
async fn busy(drain: Duration) -> (Running, TcpStream) {
    let timeouts = Timeouts {
        drain,
        ..Timeouts::default()
    };
    let entered = Arc::new(Notify::new());
    let app = Router::new().route("/never", never(&entered));
    let server = Running::start(plain(timeouts), app).await;
    let mut io = TcpStream::connect(server.address).await.unwrap();
    io.write_all(b"GET /never HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    timeout(LONG, entered.notified()).await.unwrap();
    (server, io)
}

#[tokio::test]
async fn who_does_not_finish_in_time_is_cut() {
    let (server, mut io) = busy(Duration::from_millis(100)).await;
    assert_eq!(
        server.end().await,
        Drained {
            cut: 1,
            unclosed: 0
        }
    );
    let mut told = Vec::new();
    timeout(LONG, io.read_to_end(&mut told))
        .await
        .expect("the connection stayed open")
        .unwrap();
    assert_eq!(told, b"");
}

#[tokio::test]
async fn dropping_a_server_that_runs_closes_its_connections() {
    let (server, mut io) = busy(LONG).await;
    server.task.abort();
    let mut told = Vec::new();
    timeout(LONG, io.read_to_end(&mut told))
        .await
        .expect("the connection stayed open")
        .unwrap();
    assert_eq!(told, b"");
}

#[tokio::test]
async fn a_connection_at_rest_ends_after_the_idle_timeout() {
    let server = start(plain(Timeouts {
        idle: Duration::from_millis(100),
        ..Timeouts::default()
    }))
    .await;
    let io = TcpStream::connect(server.address).await.unwrap();
    let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(io))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://localhost/protocol")
        .body(Empty::<Bytes>::new())
        .unwrap();
    assert_eq!(
        sender.send_request(request).await.unwrap().status(),
        StatusCode::OK
    );
    let _ = timeout(LONG, connection)
        .await
        .expect("the connection stayed open")
        .unwrap();
}

#[tokio::test]
async fn a_request_with_two_hosts_reaches_no_application() {
    let server = start(plain(Timeouts::default())).await;
    for lines in [
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n",
        "GET / HTTP/1.1\r\nhost: a/b\r\n",
        "GET http://a/ HTTP/1.1\r\nhost: b\r\n",
    ] {
        let mut io = TcpStream::connect(server.address).await.unwrap();
        let request = format!("{lines}connection: close\r\n\r\n");
        io.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(LONG, io.read_to_string(&mut answer))
            .await
            .expect("the answer did not end")
            .unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{lines}: {answer}");
    }
}

#[tokio::test]
async fn a_handler_learns_the_address_of_its_client_in_all_protocols() {
    let server = start(plain(Timeouts::default())).await;
    let io = TcpStream::connect(server.address).await.unwrap();
    let own = io.local_addr().unwrap().to_string();
    assert!(http1(io, "/peer").await.ends_with(&own));
    let io = TcpStream::connect(server.address).await.unwrap();
    let own = io.local_addr().unwrap().to_string();
    assert_eq!(http2(io, "/peer").await, (StatusCode::OK, own.into()));
    for version in [Version::V2, Version::V3_1] {
        let io = TcpStream::connect(server.address).await.unwrap();
        let own = io.local_addr().unwrap().to_string();
        let (_, body) = spdy(io, version, "/peer").await;
        assert_eq!(String::from_utf8(body).unwrap(), own);
    }
}

#[tokio::test]
async fn a_response_without_a_body_has_a_date_and_no_length_in_all_protocols() {
    let server = start(plain(Timeouts::default())).await;
    for path in ["/unchanged", "/nothing"] {
        let io = TcpStream::connect(server.address).await.unwrap();
        let answer = http1(io, path).await;
        assert!(answer.contains("\r\ndate: ") && !answer.contains("content-length"));

        let io = TcpStream::connect(server.address).await.unwrap();
        let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(io))
            .await
            .unwrap();
        tokio::spawn(connection);
        let request = Request::get(format!("http://localhost{path}"));
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let fields = answer.headers();
        assert!(fields.contains_key(DATE) && !fields.contains_key(CONTENT_LENGTH));

        for version in [Version::V2, Version::V3_1] {
            let io = TcpStream::connect(server.address).await.unwrap();
            let (fields, _) = spdy(io, version, path).await;
            assert!(fields.get("date").is_some() && fields.get("content-length").is_none());
        }
    }
}

#[tokio::test]
async fn an_answer_is_whole_though_the_body_of_its_request_is_not_read() {
    let server = start(plain(Timeouts::default())).await;
    let mut io = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /unread HTTP/1.1\r\nhost: a\r\ncontent-length: 500000\r\n\r\n";
    io.write_all(head.as_bytes()).await.unwrap();
    // The response has begun, and fills all buffers.
    let mut begin = [0; 12];
    io.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    let (mut read, mut write) = io.split();
    let mut answer = Vec::new();
    let reading = async {
        while answer.len() < 4 << 20 {
            assert_ne!(read.read_buf(&mut answer).await.unwrap(), 0);
        }
    };
    let writing = async {
        write.write_all(&[1; 500_000]).await.unwrap();
        // The connection can be used again.
        let next = b"GET /protocol HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        write.write_all(next).await.unwrap();
    };
    timeout(LONG, async { tokio::join!(reading, writing) })
        .await
        .expect("the answer did not come");
    timeout(LONG, io.read_to_end(&mut answer))
        .await
        .expect("the second answer did not come")
        .unwrap();
    assert!(answer.ends_with(b"\r\n\r\nHTTP/1.1"));
}

/// The second request is read while the first response waits to be written. The server has to look
/// for its response once that is done.
#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_though_the_client_reads_slowly() {
    let (near, mut io) = duplex(1000);
    let app = Router::new()
        .route("/unread", post(async || vec![7; 100_000]))
        .route("/next", get(async || "next"));
    tokio::spawn(auto::Builder::new().serve_connection(Vectored(near), app));
    let head = "POST /unread HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n";
    io.write_all(head.as_bytes()).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let rest = "helloGET /next HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    io.write_all(rest.as_bytes()).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let mut answers = vec![];
    timeout(Duration::from_secs(1), io.read_to_end(&mut answers))
        .await
        .expect("the second answer did not come")
        .unwrap();
    assert!(answers.ends_with(b"\r\n\r\nnext"));
}

/// The bytes that were sent before the reset are still unread.
#[tokio::test]
async fn a_client_of_http_1_that_resets_its_connection_is_noticed_though_it_is_not_read() {
    let (entered, gone) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let handler = {
        let (entered, gone) = (Arc::clone(&entered), Arc::clone(&gone));
        async move |_unread: Body| {
            let _gone = Gone(gone);
            entered.notify_one();
            std::future::pending::<()>().await;
        }
    };
    let app = Router::new().route("/leave", any(handler));
    let server = Running::start(plain(Timeouts::default()), app.clone()).await;
    let (config, roots) = tls("resets");
    let secured = Running::start(config, app.clone()).await;
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let elsewhere = listener.local_addr().unwrap();
    let connection = tokio::spawn(async move {
        let (io, _) = listener.accept().await.unwrap();
        auto::Builder::new().serve_connection(io, app).await
    });

    let head = "POST /leave HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n";
    let unread = [head.as_bytes(), &[7; 200_000]].concat();
    let pipelined = b"GET /leave HTTP/1.1\r\nhost: a\r\n\r\n".repeat(2);
    let mut clients = Vec::new();
    for (address, bytes) in [
        (server.address, &unread),
        (server.address, &pipelined),
        (elsewhere, &unread),
    ] {
        let mut io = TcpStream::connect(address).await.unwrap();
        io.write_all(bytes).await.unwrap();
        timeout(LONG, entered.notified()).await.unwrap();
        clients.push(io);
    }
    let mut io = connect(secured.address, roots, &["http/1.1"]).await;
    io.write_all(&unread).await.unwrap();
    io.flush().await.unwrap();
    timeout(LONG, entered.notified()).await.unwrap();
    clients.push(io.into_inner().0);

    // By then hyper has read all that it will read.
    sleep(Duration::from_millis(500)).await;
    for io in clients {
        io.set_zero_linger().unwrap();
    }
    // Far less than the time that a connection can be idle.
    let all = timeout(LONG, gone.acquire_many(4)).await;
    drop(all.expect("a handler is still there").unwrap());
    let end = timeout(LONG, connection).await.unwrap();
    assert!(end.unwrap().is_err());
    assert_eq!(
        server.end().await,
        Drained {
            cut: 0,
            unclosed: 0
        }
    );
    assert_eq!(
        secured.end().await,
        Drained {
            cut: 0,
            unclosed: 0
        }
    );
}

/// Counts how often it was dropped.
struct Gone(Arc<Semaphore>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}
