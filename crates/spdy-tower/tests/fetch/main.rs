//! The client with its connections, against servers on TCP that speak one protocol or another.

mod choice;
mod connections;
mod dead;
mod helpers;
mod hostile;
mod hosts;
mod network;
mod proof;
mod proxies;
mod proxy_tls;
mod reach;
mod rest;
mod retries;
mod storm;
#[path = "../support/mod.rs"]
mod support;
mod tunnels;
mod waiting;
mod wakers;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, extract::Request, routing::any};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use spdy_frame::Version;
use spdy_tower::{
    Builder, StreamInfo,
    client::{Client, Connector, FetchError, Plain, ResponseBody},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};
use tower::ServiceExt;

use self::support::within;

/// A server, and how many connections it has accepted.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn new<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(TcpStream, usize) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(socket, count.fetch_add(1, Ordering::Relaxed)));
            }
        });
        Self {
            address,
            connections,
        }
    }

    fn count(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn uri(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://localhost:{}{path}", self.address.port())
    }
}

/// Returns the protocol that a request came by, and the host it was for.
async fn protocol(request: Request) -> String {
    let host = request
        .headers()
        .get("host")
        .map(|host| host.to_str().unwrap().to_owned());
    let host = host
        .or_else(|| request.uri().authority().map(ToString::to_string))
        .unwrap();
    assert!(host.starts_with("localhost:"), "{host}");
    assert_eq!(request.uri().path(), "/");
    match request.extensions().get::<StreamInfo>() {
        Some(info) => info.version.to_string(),
        None => format!("{:?}", request.version()),
    }
}

fn router() -> Router {
    Router::new()
        .route("/", any(protocol))
        .route("/echo", any(async |body: Bytes| body))
}

async fn http1_on<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: IO, router: Router) {
    let service = service_fn(move |request| router.clone().oneshot(request));
    _ = http1::Builder::new()
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades()
        .await;
}

/// A server of TLS that chooses from `alpn`, and a connector that trusts it.
async fn tls(alpn: &[&str]) -> (Server, Connector) {
    tls_of(alpn, router()).await
}

async fn tls_of(alpn: &[&str], router: Router) -> (Server, Connector) {
    let (acceptor, trust) = acceptor(alpn);
    let server = Server::new(move |socket, _| tls_on(socket, acceptor.clone(), router.clone()));
    (server.await, Connector::new(trust))
}

async fn tls_on(socket: TcpStream, acceptor: TlsAcceptor, router: Router) {
    // Those who find nothing that they want leave.
    let Ok(io) = acceptor.accept(socket).await else {
        return;
    };
    let chosen = io.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    let spdy = chosen.as_deref().and_then(Version::from_alpn);
    match (spdy, chosen.as_deref()) {
        (Some(version), _) => {
            let builder = Builder::new();
            _ = builder.serve_connection(io, version, router).await;
        }
        (None, Some(b"h2")) => {
            let service = service_fn(move |request| router.clone().oneshot(request));
            let builder = http2::Builder::new(TokioExecutor::new());
            _ = builder.serve_connection(TokioIo::new(io), service).await;
        }
        _ => http1_on(io, router).await,
    }
}

/// The server's side of TLS for `localhost` and `a.test`, which chooses from `alpn`, and a client's
/// that trusts it.
fn acceptor(alpn: &[&str]) -> (TlsAcceptor, ClientConfig) {
    let names = ["localhost".to_owned(), "a.test".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let certificate: CertificateDer<'static> = cert.der().clone();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    (TlsAcceptor::from(Arc::new(config)), trusting(roots))
}

fn trusting(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn plain(plain: Plain) -> Client {
    Client::new(Connector::new(trusting(RootCertStore::empty())).plain(plain))
}

async fn send(
    client: &Client,
    uri: &str,
    body: &'static str,
) -> Result<Response<ResponseBody>, FetchError> {
    let method = if body.is_empty() { "GET" } else { "POST" };
    let request = http::Request::builder().method(method).uri(uri);
    within(client.send(request.body(Full::new(Bytes::from(body))).unwrap())).await
}

async fn fetch(client: &Client, uri: &str) -> String {
    let response = send(client, uri, "").await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let body = within(response.into_body().collect())
        .await
        .unwrap()
        .to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}
