//! `Server` over real sockets on the loopback, with clients of hyper and rustls.

use std::{fs, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use axum::{Extension, Router, routing::get};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use spdy_server::{Bind, Certificate, Config, ConnectionInfo, Drained, Protocol, Server, Timeouts};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const LONG: Duration = Duration::from_secs(30);

/// A server that runs, and what is needed to end it.
struct Running {
    address: SocketAddr,
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<Drained>,
}

impl Running {
    async fn start(config: Config) -> Self {
        let server = Server::bind(config).await.unwrap();
        let address = server.endpoints()[0].address;
        let (shutdown, asked) = oneshot::channel();
        let task = tokio::spawn(server.run(app(), async {
            let _ = asked.await;
        }));
        Self {
            address,
            shutdown,
            task,
        }
    }

    async fn end(self) -> Drained {
        self.shutdown.send(()).unwrap();
        timeout(LONG, self.task)
            .await
            .expect("the server did not end")
            .unwrap()
    }
}

fn app() -> Router {
    Router::new()
        .route("/protocol", get(protocol))
        .route("/tls", get(tls_facts))
        .route("/slow", get(|| sleep(Duration::from_millis(300))))
        .route("/never", get(std::future::pending::<()>))
}

async fn protocol(Extension(info): Extension<ConnectionInfo>) -> String {
    info.protocol.to_string()
}

async fn tls_facts(Extension(info): Extension<ConnectionInfo>) -> String {
    format!("{:?}", info.tls)
}

fn plain(timeouts: Timeouts) -> Config {
    Config {
        binds: vec![Bind::plain(loopback())],
        timeouts,
        ..Config::default()
    }
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A TLS configuration whose certificate a client can be told to trust. Each test has a directory of its own for it.
fn tls(test: &str) -> (Config, RootCertStore) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    fs::create_dir_all(&directory).unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (chain, key) = (directory.join("chain.pem"), directory.join("key.pem"));
    fs::write(&chain, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let certificate = Certificate::Files { chain, key };
    (
        Config {
            binds: vec![Bind::tls(loopback())],
            certificate,
            ..Config::default()
        },
        roots,
    )
}

async fn connect(
    address: SocketAddr,
    roots: RootCertStore,
    offered: &[&str],
) -> TlsStream<TcpStream> {
    let mut config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    config.alpn_protocols = offered.iter().map(|id| id.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    let tcp = TcpStream::connect(address).await.unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .unwrap()
}

/// Sends one HTTP/1.1 request and returns all that comes back.
async fn http1(mut io: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    io.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(LONG, io.read_to_end(&mut answer))
        .await
        .expect("the answer did not end")
        .unwrap();
    String::from_utf8(answer).unwrap()
}

async fn http2<IO>(io: IO, path: &str) -> (StatusCode, Bytes)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get(format!("http://localhost{path}"))
        .body(Empty::<Bytes>::new())
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    (
        answer.status(),
        answer.into_body().collect().await.unwrap().to_bytes(),
    )
}

#[tokio::test]
async fn c003_http_1_is_served_when_no_protocol_is_in_common() {
    let (config, roots) = tls("in_common");
    let server = Running::start(config).await;
    for offered in [&["h3", "spdy/1"][..], &[]] {
        let io = connect(server.address, roots.clone(), offered).await;
        assert_eq!(io.get_ref().1.alpn_protocol(), None);
        assert!(http1(io, "/protocol").await.ends_with("\r\n\r\nHTTP/1.1"));
    }
    assert_eq!(server.end().await, Drained { cut: 0 });
}

#[tokio::test]
async fn http_1_and_http_2_are_served_over_tls_when_they_are_selected() {
    let (config, roots) = tls("selected");
    let server = Running::start(config).await;
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
    let server = Running::start(plain(Timeouts::default())).await;
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
        let server = Running::start(config).await;
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
async fn octets_of_no_protocol_close_the_connection_without_an_answer() {
    let server = Running::start(plain(Timeouts::default())).await;
    for octets in [
        &[0x16, 3, 1, 0, 5][..],
        &[0, 0, 0, 1, 1, 0, 0, 0],
        &[0x80, 4, 0, 1],
    ] {
        let mut io = TcpStream::connect(server.address).await.unwrap();
        io.write_all(octets).await.unwrap();
        let mut told = Vec::new();
        // Octets that nobody read may turn the end into a reset.
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
    let server = Running::start(plain(Timeouts::default())).await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    let slow = TcpStream::connect(server.address).await.unwrap();
    let slow = tokio::spawn(http1(slow, "/slow"));
    let parallel = TcpStream::connect(server.address).await.unwrap();
    let parallel = tokio::spawn(http2(parallel, "/slow"));
    sleep(Duration::from_millis(100)).await;

    let (address, start) = (server.address, Instant::now());
    assert_eq!(server.end().await, Drained { cut: 0 });
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(slow.await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(parallel.await.unwrap().0, StatusCode::OK);
    assert!(
        TcpStream::connect(address).await.is_err(),
        "the socket is still open"
    );
}

#[tokio::test]
async fn who_does_not_finish_in_time_is_cut() {
    let server = Running::start(plain(Timeouts {
        drain: Duration::from_millis(100),
        ..Timeouts::default()
    }))
    .await;
    let mut io = TcpStream::connect(server.address).await.unwrap();
    io.write_all(b"GET /never HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(server.end().await, Drained { cut: 1 });
    let mut told = Vec::new();
    timeout(LONG, io.read_to_end(&mut told))
        .await
        .expect("the connection stayed open")
        .unwrap();
    assert_eq!(told, b"");
}

#[tokio::test]
async fn dropping_a_server_that_runs_closes_its_connections() {
    let server = Running::start(plain(Timeouts::default())).await;
    let mut io = TcpStream::connect(server.address).await.unwrap();
    io.write_all(b"GET /never HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    sleep(Duration::from_millis(100)).await;
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
    let server = Running::start(plain(Timeouts {
        idle: Duration::from_millis(100),
        ..Timeouts::default()
    }))
    .await;
    let io = TcpStream::connect(server.address).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io))
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
