//! A server in this process, and its clients.

use std::{fs, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use axum::{
    Router,
    routing::{MethodRouter, get},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use spdy_server::{Bind, Certificate, Config, Drained, Server, Timeouts, Version};
use spdy_tests::panics::{self, Watch};
use spdy_tower::session::{self, HeaderBlock, OpenOptions};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A bound that only a hanging test exceeds, even on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A running server, and the means to stop it. A panic in our code fails the test, wherever it was
/// caught.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: oneshot::Sender<()>,
    pub(crate) task: JoinHandle<Drained>,
    pub(crate) panics: Watch,
}

impl Running {
    pub(crate) async fn start(config: Config, app: Router) -> Self {
        let server = Server::bind(config).await.unwrap();
        let address = server.endpoints()[0].address.tcp().unwrap();
        let (shutdown, asked) = oneshot::channel();
        let task = tokio::spawn(server.run(app, async {
            let _ = asked.await;
        }));
        Self {
            address,
            shutdown,
            task,
            panics: panics::watch(),
        }
    }

    pub(crate) async fn end(self) -> Drained {
        self.shutdown.send(()).unwrap();
        timeout(LONG, self.task)
            .await
            .expect("the server did not end")
            .unwrap()
    }
}

/// A handler that reports its call, and never responds.
pub(crate) fn never(entered: &Arc<Notify>) -> MethodRouter {
    let entered = Arc::clone(entered);
    get(async move || {
        entered.notify_one();
        std::future::pending::<()>().await;
    })
}

/// Waits until a server drains and accepts no more connections.
pub(crate) async fn until_it_drains(address: SocketAddr) {
    let gone = async {
        while TcpStream::connect(address).await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, gone).await.expect("the socket is still open");
}

pub(crate) fn plain(timeouts: Timeouts) -> Config {
    Config {
        binds: vec![Bind::plain(loopback())],
        timeouts,
        ..Config::default()
    }
}

pub(crate) fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Returns a TLS configuration whose certificate a client can trust. Each test has a directory of
/// its own for it.
pub(crate) fn tls(test: &str) -> (Config, RootCertStore) {
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

pub(crate) async fn connect(
    address: SocketAddr,
    roots: RootCertStore,
    offered: &[&str],
) -> TlsStream<TcpStream> {
    connect_with(address, roots, offered).await.unwrap()
}

pub(crate) async fn connect_with(
    address: SocketAddr,
    roots: RootCertStore,
    offered: &[&str],
) -> io::Result<TlsStream<TcpStream>> {
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
}

/// Sends one HTTP/1.1 request and returns all bytes of the response.
pub(crate) async fn http1(mut io: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    io.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(LONG, io.read_to_end(&mut answer))
        .await
        .expect("the answer did not end")
        .unwrap();
    String::from_utf8(answer).unwrap()
}

pub(crate) async fn http2<IO>(io: IO, path: &str) -> (StatusCode, Bytes)
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

/// Sends one request over a new SPDY session. Returns the fields of the response, and its body.
pub(crate) async fn spdy<IO>(io: IO, version: Version, path: &str) -> (HeaderBlock, Vec<u8>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (session, _pushes, driver) = session::client(io, version, session::Config::default());
    tokio::spawn(driver);
    let names = match version {
        Version::V2 => ["method", "url", "version", "host", "scheme"],
        _ => [":method", ":path", ":version", ":host", ":scheme"],
    };
    let values = ["GET", path, "HTTP/1.1", "localhost", "http"];
    let mut head = HeaderBlock::new();
    for (name, value) in names.into_iter().zip(values) {
        head.append(name, value).unwrap();
    }
    let mut stream = session.open(head, OpenOptions::default()).await.unwrap();
    stream.shutdown().await.unwrap();
    let fields = timeout(LONG, stream.response_headers())
        .await
        .expect("there was no answer")
        .unwrap();
    let mut body = Vec::new();
    timeout(LONG, stream.read_to_end(&mut body))
        .await
        .expect("the answer did not end")
        .unwrap();
    (fields, body)
}
