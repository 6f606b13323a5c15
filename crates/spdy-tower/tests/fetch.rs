//! The client with its connections, against servers on TCP that speak one protocol or another.

mod support;

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
    extract::Request,
    routing::{any, get as on_get},
};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use spdy_frame::{RstStatus, Version};
use spdy_session::{Config, Shutdown};
use spdy_tower::{
    Builder, StreamInfo, Tunnel,
    client::{Client, Connector, ConnectorError, Error, FetchError, Plain, Protocol, ResponseBody},
    upgrade,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
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

use self::support::{client::ok, in_all_versions, within};

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

/// Says what protocol a request came by, and what host it was for.
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
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate: CertificateDer<'static> = cert.der().clone();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = Server::new(move |socket, _| {
        let (acceptor, router) = (acceptor.clone(), router.clone());
        async move {
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
    })
    .await;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    (server, Connector::new(trusting(roots)))
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

#[tokio::test]
async fn tls_takes_what_the_server_chooses() {
    for (alpn, expected) in [
        (&["http/1.1", "spdy/3.1"][..], "HTTP/1.1"),
        (
            &["spdy/3.1", "spdy/3", "spdy/2", "h2", "http/1.1"],
            "spdy/3.1",
        ),
        (&["spdy/3", "h2"], "spdy/3"),
        (&["spdy/2", "http/1.1"], "spdy/2"),
        (&["h2", "http/1.1"], "HTTP/2.0"),
        (&["http/1.1"], "HTTP/1.1"),
        (&[], "HTTP/1.1"),
    ] {
        let (server, connector) = tls(alpn).await;
        let client = Client::new(connector);
        assert_eq!(fetch(&client, &server.uri("https", "/")).await, expected);
        let response = send(&client, &server.uri("https", "/echo"), "body")
            .await
            .unwrap();
        let body = within(response.into_body().collect())
            .await
            .unwrap()
            .to_bytes();
        assert_eq!(body, "body");
        // The second request had a connection.
        assert_eq!(server.count(), 1, "{expected}");
    }
}

#[tokio::test]
async fn what_is_offered_can_be_narrowed_and_responses_name_the_protocol() {
    use Protocol::{Http1, Http2, Spdy};

    let all = ["spdy/3.1", "spdy/3", "spdy/2", "h2", "http/1.1"];
    for (offer, alpn, expected) in [
        (&Protocol::ALL[..], &all[..], Ok(Spdy(Version::V3_1))),
        (&[Spdy(Version::V2), Http2], &all, Ok(Spdy(Version::V2))),
        (&[Http2], &all, Ok(Http2)),
        (&[Http1], &all, Ok(Http1)),
        (&[Http2, Http1], &[], Ok(Http1)),
        // A server that says no, and one that says nothing.
        (&[Spdy(Version::V3)], &["h2", "http/1.1"], Err(())),
        (&[Spdy(Version::V3), Http2], &[], Err(())),
    ] {
        let (server, connector) = tls(alpn).await;
        let client = Client::new(connector.offer(offer));
        match send(&client, &server.uri("https", "/"), "").await {
            Ok(response) => {
                let protocol = response.extensions().get::<Protocol>().copied();
                assert_eq!(protocol.ok_or(()), expected, "{offer:?}");
            }
            Err(FetchError::Connect(ConnectorError::Protocol)) => {
                assert_eq!(expected, Err(()), "{offer:?}");
            }
            Err(error) => panic!("{offer:?}: {error:?}"),
        }
    }
}

/// Opens tunnels that give back what they get, whatever they came by.
fn echo() -> Router {
    Router::new().fallback(any(async |mut request: Request| {
        assert_eq!(request.method(), http::Method::CONNECT);
        let target = request.uri().to_string();
        let spdy = Tunnel::on(&mut request);
        tokio::spawn(async move {
            match spdy {
                Some(tunnel) => give_back(tunnel.await.unwrap()).await,
                None => {
                    let upgraded = hyper::upgrade::on(request).await.unwrap();
                    give_back(TokioIo::new(upgraded)).await
                }
            }
        });
        [("x-target", target)]
    }))
}

async fn give_back(io: impl AsyncRead + AsyncWrite) -> std::io::Result<()> {
    let (mut receive, mut send) = tokio::io::split(io);
    tokio::io::copy(&mut receive, &mut send).await?;
    send.shutdown().await
}

/// Sends octets into a tunnel and takes them back, to its end.
async fn use_tunnel(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    io.write_all(b"one").await.unwrap();
    let mut back = [0; 3];
    within(io.read_exact(&mut back)).await.unwrap();
    assert_eq!(&back, b"one");
    io.shutdown().await.unwrap();
    let mut rest = Vec::new();
    within(io.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"");
}

fn connect(uri: &str) -> http::Request<Full<Bytes>> {
    let request = http::Request::connect(uri);
    request.body(Full::new(Bytes::new())).unwrap()
}

#[tokio::test]
async fn c162_a_client_gets_tunnels_by_every_protocol() {
    for protocol in Protocol::ALL {
        let (server, connector) = tls_of(&[protocol.token()], echo()).await;
        let client = Client::new(connector);
        let itself = format!("localhost:{}", server.address.port());
        let proxy = server.uri("https", "").parse().unwrap();
        for (response, target) in [
            (
                within(client.send(connect(&server.uri("https", "/x")))).await,
                &*itself,
            ),
            (
                within(client.send_through(&proxy, connect("a.test:1"))).await,
                "a.test:1",
            ),
        ] {
            let mut response = response.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()["x-target"], target);
            assert_eq!(response.extensions().get(), Some(&protocol));
            match protocol {
                Protocol::Spdy(_) => use_tunnel(Tunnel::of(&mut response).unwrap()).await,
                Protocol::Http2 | Protocol::Http1 => {
                    let upgraded = hyper::upgrade::on(response).await.unwrap();
                    use_tunnel(TokioIo::new(upgraded)).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn c162_connect_without_a_scheme_goes_to_the_host_itself() {
    let server = Server::new(|socket, _| async move {
        let builder = Builder::new();
        _ = builder
            .serve_connection(socket, Version::V3_1, echo())
            .await;
    })
    .await;
    let client = plain(Plain::Spdy(Version::V3_1));
    let itself = format!("localhost:{}", server.address.port());
    let mut response = within(client.send(connect(&itself))).await.unwrap();
    assert_eq!(response.headers()["x-target"], itself);
    use_tunnel(Tunnel::of(&mut response).unwrap()).await;
}

/// A proxy is told the whole URI, and asked over one session for all origins.
#[tokio::test]
async fn a_proxy_is_sent_what_is_for_other_origins() {
    let seen = async |request: Request| {
        let host = request.headers()["host"].to_str().unwrap();
        format!("{} {host}", request.uri())
    };
    let seen = Router::new().fallback(any(seen));
    let router = seen.clone();
    let spdy = Server::new(move |socket, _| {
        let router = router.clone();
        async move {
            let builder = Builder::new();
            _ = builder.serve_connection(socket, Version::V3, router).await;
        }
    })
    .await;
    let http1 = Server::new(move |socket, _| http1_on(socket, seen.clone())).await;
    for (server, client) in [
        (&spdy, plain(Plain::Spdy(Version::V3))),
        (&http1, plain(Plain::Http1)),
    ] {
        let proxy = server.uri("http", "").parse().unwrap();
        for uri in ["http://a.test/x?y", "http://b.test:8080/"] {
            let request = http::Request::get(uri).body(Full::new(Bytes::new()));
            let response = within(client.send_through(&proxy, request.unwrap())).await;
            let body = within(response.unwrap().into_body().collect()).await;
            let host = uri.split('/').nth(2).unwrap();
            assert_eq!(body.unwrap().to_bytes(), format!("{uri} {host}"));
        }
        assert_eq!(server.count(), 1);
    }
}

#[tokio::test]
async fn requests_at_once_share_a_session() {
    for (alpn, expected) in [("spdy/3.1", 1..=1), ("h2", 1..=1), ("http/1.1", 1..=20)] {
        let (server, connector) = tls(&[alpn]).await;
        let client = Client::new(connector);
        let uri = server.uri("https", "/");
        let requests = (0..20).map(|_| {
            let (client, uri) = (client.clone(), uri.clone());
            tokio::spawn(async move { fetch(&client, &uri).await })
        });
        for request in requests.collect::<Vec<_>>() {
            within(request).await.unwrap();
        }
        assert!(
            expected.contains(&server.count()),
            "{alpn}: {}",
            server.count()
        );
    }
}

#[tokio::test]
async fn without_tls_it_does_as_it_is_told() {
    let server = Server::new(|socket, _| http1_on(socket, router())).await;
    assert_eq!(
        fetch(&plain(Plain::Http1), &server.uri("http", "/")).await,
        "HTTP/1.1"
    );

    in_all_versions(async |version| {
        let server = Server::new(move |socket, _| async move {
            _ = Builder::new()
                .serve_connection(socket, version, router())
                .await;
        })
        .await;
        let client = plain(Plain::Spdy(version));
        for _ in 0..2 {
            assert_eq!(
                fetch(&client, &server.uri("http", "/")).await,
                version.to_string()
            );
        }
        assert_eq!(server.count(), 1);
    })
    .await;
}

#[tokio::test]
async fn without_tls_it_upgrades_where_the_server_does() {
    let upgrading = async |mut request: Request| match upgrade::accept(&mut request) {
        Ok((response, upgraded)) => {
            tokio::spawn(async move {
                let io = upgraded.await.unwrap();
                Builder::new()
                    .serve_connection(io, Version::V3_1, router())
                    .await
            });
            response
        }
        Err(error) => error.into_response(),
    };
    let upgrading = Router::new().route("/", on_get(upgrading));
    let server = Server::new(move |socket, _| http1_on(socket, upgrading.clone())).await;
    let client = plain(Plain::Upgrade);
    for _ in 0..2 {
        assert_eq!(fetch(&client, &server.uri("http", "/")).await, "spdy/3.1");
    }
    assert_eq!(server.count(), 1);

    let server = Server::new(|socket, _| http1_on(socket, router())).await;
    let client = plain(Plain::Upgrade);
    for _ in 0..2 {
        assert_eq!(fetch(&client, &server.uri("http", "/")).await, "HTTP/1.1");
    }
    assert_eq!(server.count(), 2);
}

/// A server of SPDY/3.1 whose nth connection does `answer` with each stream.
async fn by_hand(
    answer: impl Fn(usize, spdy_session::PendingStream, &spdy_session::Session) + Send + Copy + 'static,
) -> Server {
    Server::new(move |socket, number| async move {
        let (session, mut incoming, driver) =
            spdy_session::server(socket, Version::V3_1, Config::default());
        tokio::spawn(driver);
        while let Some(stream) = incoming.accept().await {
            answer(number, stream, &session);
        }
    })
    .await
}

fn answer(stream: spdy_session::PendingStream) {
    stream
        .split()
        .1
        .reply(ok(Version::V3_1, &[]), true)
        .unwrap();
}

#[tokio::test]
async fn a_new_session_is_opened_when_the_old_one_goes_away() {
    // Each session answers one request and wants no more.
    let server = by_hand(|_, stream, session| {
        answer(stream);
        session.shutdown(Shutdown::Graceful { deadline: None });
    })
    .await;
    let client = plain(Plain::Spdy(Version::V3_1));
    for number in 1..=3 {
        let response = send(&client, &server.uri("http", "/"), "body")
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(server.count(), number);
    }
}

#[tokio::test]
async fn what_was_not_processed_is_sent_again() {
    // The first connection takes nothing: GOAWAY that names no stream.
    let server = Server::new(|mut socket, number| async move {
        if number == 0 {
            let go_away = [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
            let mut request = [0; 18];
            socket.read_exact(&mut request).await.unwrap();
            socket.write_all(&go_away).await.unwrap();
            // What follows is read until the client ends.
            tokio::io::copy(&mut socket, &mut tokio::io::sink())
                .await
                .unwrap();
        } else {
            _ = Builder::new()
                .serve_connection(socket, Version::V3_1, router())
                .await;
        }
    })
    .await;
    let client = plain(Plain::Spdy(Version::V3_1));
    assert_eq!(fetch(&client, &server.uri("http", "/")).await, "spdy/3.1");
    assert_eq!(server.count(), 2);

    static REFUSED: AtomicUsize = AtomicUsize::new(0);
    let server = by_hand(
        |_, stream, _| match REFUSED.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => stream.refuse(RstStatus::REFUSED_STREAM),
            _ => answer(stream),
        },
    )
    .await;
    send(&client, &server.uri("http", "/"), "").await.unwrap();
    assert_eq!((REFUSED.load(Ordering::Relaxed), server.count()), (3, 1));
}

#[tokio::test]
async fn it_is_sent_three_times_at_most_and_never_if_it_may_have_been_processed() {
    static REFUSED: AtomicUsize = AtomicUsize::new(0);
    let server = by_hand(|_, stream, _| {
        REFUSED.fetch_add(1, Ordering::Relaxed);
        stream.refuse(RstStatus::REFUSED_STREAM);
    })
    .await;
    let client = plain(Plain::Spdy(Version::V3_1));
    let error = send(&client, &server.uri("http", "/"), "")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, FetchError::Spdy(error) if error.is_retry_safe()),
        "{error:?}"
    );
    assert_eq!(REFUSED.load(Ordering::Relaxed), 3);
    // A body that was begun cannot be sent again.
    send(&client, &server.uri("http", "/"), "body")
        .await
        .unwrap_err();
    assert_eq!(REFUSED.load(Ordering::Relaxed), 4);

    static RESET: AtomicUsize = AtomicUsize::new(0);
    let server = by_hand(|_, stream, _| {
        RESET.fetch_add(1, Ordering::Relaxed);
        stream.refuse(RstStatus::INTERNAL_ERROR);
    })
    .await;
    let error = send(&client, &server.uri("http", "/"), "")
        .await
        .unwrap_err();
    assert!(
        matches!(error, FetchError::Spdy(Error::Stream(_))),
        "{error:?}"
    );
    assert_eq!(RESET.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_origin_that_cannot_be_reached_is_an_error() {
    let connector = Connector::new(trusting(RootCertStore::empty()));
    let client = Client::new(connector.timeout(Duration::from_millis(50)));
    for uri in ["/no-host", "ftp://localhost/"] {
        let error = send(&client, uri, "").await.unwrap_err();
        assert!(
            matches!(error, FetchError::Connect(ConnectorError::Target(_))),
            "{error:?}"
        );
    }

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!(
        "https://localhost:{}/",
        listener.local_addr().unwrap().port()
    );
    // It accepts, and says nothing.
    let error = send(&client, &uri, "").await.unwrap_err();
    let FetchError::Connect(ConnectorError::Transport(error)) = error else {
        panic!("{error:?}")
    };
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    drop(listener);
    let error = send(&client, &uri, "").await.unwrap_err();
    assert!(
        matches!(error, FetchError::Connect(ConnectorError::Transport(_))),
        "{error:?}"
    );

    // A certificate that nobody vouches for.
    let (server, _) = tls(&["spdy/3.1"]).await;
    let error = send(&client, &server.uri("https", "/"), "")
        .await
        .unwrap_err();
    assert!(
        matches!(error, FetchError::Connect(ConnectorError::Transport(_))),
        "{error:?}"
    );
}
