//! Examples as programs, used by clients that are none of theirs.

mod program;

use std::{fs, net::SocketAddr, path::Path, process::Command, sync::Arc};

use axum::{Router, body::Body, response::Response, routing::post};
use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use spdy_server::{
    Bind, Server,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        pki_types::{CertificateDer, ServerName},
    },
};
use spdy_session::{Config, HeaderBlock, OpenOptions, PendingStream, Session, Version};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional, duplex},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use self::program::{Program, example, soon};

// --- clients ---

trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> Transport for IO {}

fn page() -> Request<Empty<Bytes>> {
    let request = Request::get(Uri::from_static("http://localhost/")).header("host", "localhost");
    request.body(Empty::new()).unwrap()
}

async fn text(response: Response<hyper::body::Incoming>) -> String {
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

async fn fetch_http1(io: impl Transport) -> String {
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    text(sender.send_request(page()).await.unwrap()).await
}

async fn fetch_http2(io: impl Transport) -> String {
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io))
        .await
        .unwrap();
    tokio::spawn(connection);
    text(sender.send_request(page()).await.unwrap()).await
}

async fn fetch_spdy(io: impl Transport, version: Version) -> String {
    let (requests, _, driver) = spdy_tower::client::handshake(io, version, Config::default());
    tokio::spawn(driver);
    let response = requests.send(page()).await.unwrap();
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// Connects with this protocol to a server with this certificate.
async fn over_tls(
    address: SocketAddr,
    certificate: &CertificateDer<'static>,
    protocol: &[u8],
) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let io = TlsConnector::from(Arc::new(config))
        .connect(name, connect(address).await)
        .await
        .unwrap();
    assert_eq!(io.get_ref().1.alpn_protocol(), Some(protocol));
    io
}

/// Fetches the page over every protocol.
async fn fetch_all(address: SocketAddr, certificate: &CertificateDer<'static>) -> Vec<String> {
    let over_tls = async |protocol: &[u8]| over_tls(address, certificate, protocol).await;
    let mut pages = vec![
        soon(fetch_http1(over_tls(b"http/1.1").await)).await,
        soon(fetch_http2(over_tls(b"h2").await)).await,
    ];
    for version in [Version::V2, Version::V3, Version::V3_1] {
        let io = over_tls(version.alpn()).await;
        pages.push(soon(fetch_spdy(io, version)).await);
    }
    pages
}

/// The lines of an example, without comments, imports and blank lines.
fn lines(text: &str) -> usize {
    let is_code = |line: &&str| {
        let line = line.trim();
        !(line.is_empty() || line.starts_with("//") || line.starts_with("use "))
    };
    text.lines().filter(is_code).count()
}

fn session(io: impl Transport) -> Session {
    let (session, _pushes, driver) = spdy_session::client(io, Version::V3_1, Config::default());
    tokio::spawn(driver);
    session
}

// --- hello_axum ---

#[tokio::test]
async fn the_shortest_server_answers() {
    let mut program = Program::start("hello_axum", &["127.0.0.1:0"]);
    let io = connect(program.address()).await;
    let page = soon(fetch_spdy(io, Version::V3_1)).await;
    assert_eq!(page, "Hello over SPDY\n");
}

// --- axum_tls ---

// Its `main` is not called.
#[allow(dead_code)]
#[path = "../axum_tls.rs"]
mod axum_tls;

#[tokio::test]
async fn an_axum_application_answers_over_every_protocol_with_tls() {
    assert!(lines(include_str!("../axum_tls.rs")) <= 14);
    let config = spdy_server::Config {
        binds: vec![Bind::tls(SocketAddr::from(([127, 0, 0, 1], 0)))],
        ..spdy_server::Config::default()
    };
    let server = Server::bind(config).await.unwrap();
    let address = server.endpoints()[0].address.tcp().unwrap();
    let certificate = server.certificates().remove(0);
    tokio::spawn(async { _ = axum_tls::serve(server).await });
    let pages = fetch_all(address, &certificate).await;
    assert_eq!(pages, ["Hello over everything\n"; 5]);
}

// --- accept_loop ---

// Its `main` is not called.
#[allow(dead_code)]
#[path = "../accept_loop.rs"]
mod accept_loop;

#[tokio::test]
async fn a_loop_of_ones_own_answers_over_every_protocol_with_tls() {
    let (_, serve) = include_str!("../accept_loop.rs")
        .split_once("pub(crate) async fn serve")
        .unwrap();
    assert!(lines(serve) <= 20);
    let made = generate_simple_self_signed(["localhost".into()]).unwrap();
    let certificate = made.cert.der().clone();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], made.signing_key.into())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { _ = accept_loop::serve(listener, config).await });
    let pages = fetch_all(address, &certificate).await;
    assert_eq!(pages, ["Hello from a loop\n"; 5]);
}

// --- decode_capture ---

#[test]
fn a_recording_is_shown_frame_by_frame() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let recording = fixtures.join("v31-node-node-tour.c2s.bin");
    let output = Command::new(example("decode_capture"))
        .args(["spdy/3.1".as_ref(), recording.as_os_str()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(
        shown.contains("SYN_STREAM") && shown.contains(":method"),
        "{shown}"
    );
}

// --- h1_h2_spdy ---

#[tokio::test]
async fn one_application_answers_over_every_protocol() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".into()]).unwrap();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (chain, key) = (directory.join("chain.pem"), directory.join("key.pem"));
    fs::write(&chain, cert.pem()).unwrap();
    fs::write(&key, signing_key.serialize_pem()).unwrap();
    let files = [chain.to_str().unwrap(), key.to_str().unwrap()];
    let mut program = Program::start(
        "h1_h2_spdy",
        &["127.0.0.1:0", "127.0.0.1:0", files[0], files[1]],
    );
    let (plain, tls) = (program.address(), program.address());

    // On one port, the first bytes decide. Those of SPDY/3 and SPDY/3.1 are the same.
    let spdy = [(Version::V2, "SPDY/2"), (Version::V3_1, "SPDY/3.1")];
    assert_eq!(
        soon(fetch_http1(connect(plain).await)).await,
        "Hello over HTTP/1.1\n"
    );
    assert_eq!(
        soon(fetch_http2(connect(plain).await)).await,
        "Hello over HTTP/2\n"
    );
    for (version, name) in spdy {
        let page = soon(fetch_spdy(connect(plain).await, version)).await;
        assert_eq!(page, format!("Hello over {name}\n"));
    }

    // Over TLS, ALPN does.
    let over_tls = async |protocol: &[u8]| over_tls(tls, cert.der(), protocol).await;
    let io = over_tls(b"http/1.1").await;
    assert_eq!(soon(fetch_http1(io)).await, "Hello over HTTP/1.1\n");
    let io = over_tls(b"h2").await;
    assert_eq!(soon(fetch_http2(io)).await, "Hello over HTTP/2\n");
    for (version, name) in spdy.into_iter().chain([(Version::V3, "SPDY/3")]) {
        let page = soon(fetch_spdy(over_tls(version.alpn()).await, version)).await;
        assert_eq!(page, format!("Hello over {name}\n"));
    }
    assert_eq!(program.end().await, "Drained { cut: 0, unclosed: 0 }");
}

// --- reverse_proxy ---

/// Sends a body in pieces, each only when the one before has come back: nothing on the way may wait
/// for its end.
#[tokio::test]
async fn bodies_pass_the_reverse_proxy_while_they_are_sent() {
    let app = Router::new().route("/echo", post(async |body: Body| Response::new(body)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let application = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let upstream = format!("http://{application}");
    let mut program = Program::start("reverse_proxy", &["127.0.0.1:0", &upstream, "plain"]);
    let session = session(connect(program.address()).await);

    let head = HeaderBlock::from_pairs([
        (":method", "POST"),
        (":path", "/echo"),
        (":version", "HTTP/1.1"),
        (":host", "localhost"),
        (":scheme", "http"),
    ]);
    let open = session.open(head.unwrap(), OpenOptions::default());
    let mut stream = soon(open).await.unwrap();
    for piece in 0..20_u8 {
        let sent = vec![piece; 10_000];
        stream.write_all(&sent).await.unwrap();
        let mut received = vec![0; sent.len()];
        soon(stream.read_exact(&mut received)).await.unwrap();
        assert_eq!(received, sent);
    }
    let status = stream.response_headers().await.unwrap();
    assert!(status.get(":status").unwrap().starts_with(b"200"));
    stream.shutdown().await.unwrap();
    assert_eq!(soon(stream.read(&mut [0; 1])).await.unwrap(), 0);
    drop((stream, session));
    assert_eq!(program.end().await, "Drained { cut: 0, unclosed: 0 }");
}

#[tokio::test]
async fn an_application_that_is_down_is_told_of_by_the_reverse_proxy() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let mut program = Program::start("reverse_proxy", &["127.0.0.1:0", &upstream, "plain"]);
    let io = connect(program.address()).await;
    let (requests, _, driver) = spdy_tower::client::handshake(io, Version::V3_1, Config::default());
    tokio::spawn(driver);
    assert_eq!(soon(requests.send(page())).await.unwrap().status(), 502);
}

// --- sans_io_loop ---

/// The socket of the client takes little at once, so what the loop writes is taken in parts.
#[tokio::test]
async fn the_loop_without_io_serves_a_client_that_takes_little_at_once() {
    let mut program = Program::start("sans_io_loop", &["serve", "127.0.0.1:0"]);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    let mut socket = socket.connect(program.address()).await.unwrap();
    let (near, mut far) = duplex(64);
    tokio::spawn(async move { copy_bidirectional(&mut far, &mut socket).await });
    let session = session(near);
    let echoes = (0..10_u8).map(|number| {
        let session = session.clone();
        tokio::spawn(async move {
            let sent = vec![number; 100_000];
            let open = session
                .open(HeaderBlock::new(), OpenOptions::default())
                .await;
            let (mut receive, mut send) = open.unwrap().split();
            let write = async {
                send.write_all(&sent).await.unwrap();
                send.shutdown().await.unwrap();
            };
            let mut received = Vec::new();
            let (read, ()) = tokio::join!(receive.read_to_end(&mut received), write);
            read.unwrap();
            assert_eq!(received, sent);
        })
    });
    for echo in echoes.collect::<Vec<_>>() {
        soon(echo).await.unwrap();
    }
    soon(session.ping()).await.unwrap();
}

#[tokio::test]
async fn the_loop_without_io_keeps_to_its_deadlines() {
    let mut program = Program::start("sans_io_loop", &["serve", "127.0.0.1:0"]);
    let mut silent = connect(program.address()).await;
    let mut bytes = Vec::new();
    soon(silent.read_to_end(&mut bytes)).await.unwrap();
    // SETTINGS, and in the end GOAWAY.
    assert_eq!(bytes[..4], [0x80, 3, 0, 4]);
    assert_eq!(bytes[bytes.len() - 16..][..4], [0x80, 3, 0, 7]);
}

#[tokio::test]
async fn the_loop_without_io_is_a_client() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (io, _) = listener.accept().await.unwrap();
        let (_session, mut incoming, driver) =
            spdy_session::server(io, Version::V3_1, Config::default());
        tokio::spawn(driver);
        while let Some(stream) = incoming.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    let run = || Command::new(example("sans_io_loop")).arg(address).output();
    let output = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("20 streams of 1000000 bytes each came back whole"));
}

async fn echo(stream: PendingStream) -> std::io::Result<()> {
    let (mut receive, mut send) = stream.send_reply(HeaderBlock::new())?.split();
    tokio::io::copy(&mut receive, &mut send).await?;
    send.shutdown().await
}
