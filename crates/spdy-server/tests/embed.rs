//! The library in programs of others: an accept loop of their own, their services, sockets,
//! certificates and settings.

mod common;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Extension, Router,
    body::Body,
    extract::ConnectInfo,
    http::{Request, Response, StatusCode},
    routing::get,
};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
    server::{ResolvesServerCertUsingSni, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use spdy_server::{
    AccessLog, Bind, Certificate, CertificateError, Config, ConnectionInfo, Http1, Http2,
    Inherited, PeerCertificates, Protocol, Server, Spdy, StartError, Transport, Version, auto,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};
use tower::{BoxError, service_fn};

use self::common::server::{LONG, http1, http2, loopback, spdy};

// --- the application ---

fn app() -> Router {
    Router::new()
        .route("/", get(page))
        .route("/peer", get(peer))
        .route("/certificate", get(certificate))
}

async fn page(Extension(info): Extension<ConnectionInfo>) -> String {
    info.protocol.to_string()
}

async fn peer(ConnectInfo(peer): ConnectInfo<SocketAddr>) -> String {
    peer.to_string()
}

async fn certificate(certificates: Option<Extension<PeerCertificates>>) -> String {
    match certificates {
        Some(Extension(certificates)) => certificates.fingerprint().to_string(),
        None => "none".to_owned(),
    }
}

// --- certificates ---

/// A certificate, its key, and the means to sign others.
struct Made {
    der: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
    params: CertificateParams,
}

impl Made {
    /// A certificate authority.
    fn authority() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        Self {
            der: made.der().clone(),
            pem: made.pem(),
            key,
            params,
        }
    }

    /// A certificate for this name by this authority. `last_year` is the last in which it is valid.
    fn sign(&self, name: &str, last_year: i32) -> Self {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(last_year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let made = params.signed_by(&key, &issuer).unwrap();
        Self {
            der: made.der().clone(),
            pem: made.pem(),
            key,
            params,
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        roots
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    fn certified(&self) -> CertifiedKey {
        let provider = rustls::crypto::ring::default_provider();
        CertifiedKey::from_der(vec![self.der.clone()], self.key(), &provider).unwrap()
    }

    fn as_pem(&self) -> Certificate {
        Certificate::Pem {
            chain: self.pem.clone().into(),
            key: self.key.serialize_pem().into(),
        }
    }

    /// A configuration that asks clients for certificates of this authority.
    fn mutual(&self, server: &Self) -> ServerConfig {
        let verifier = WebPkiClientVerifier::builder(Arc::new(self.roots()));
        ServerConfig::builder()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![server.der.clone()], server.key())
            .unwrap()
    }
}

const VALID: i32 = 2090;

// --- servers and clients ---

fn tls(certificate: Certificate) -> Config {
    Config {
        binds: vec![Bind::tls(loopback())],
        certificate,
        ..Config::default()
    }
}

/// Starts a server that lasts as long as the test.
async fn start(config: Config) -> SocketAddr {
    let server = Server::bind(config).await.unwrap();
    let address = server.endpoints()[0].address.tcp().unwrap();
    tokio::spawn(server.run(app(), std::future::pending()));
    address
}

struct Client {
    roots: RootCertStore,
    name: &'static str,
    offered: &'static str,
    certificate: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
}

impl Client {
    fn new(roots: RootCertStore, name: &'static str) -> Self {
        Self {
            roots,
            name,
            offered: "http/1.1",
            certificate: None,
        }
    }

    fn with(self, made: &Made) -> Self {
        Self {
            certificate: Some((made.der.clone(), made.key())),
            ..self
        }
    }

    async fn over<IO>(self, io: IO) -> io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let config = ClientConfig::builder().with_root_certificates(self.roots);
        let mut config = match self.certificate {
            Some((certificate, key)) => config
                .with_client_auth_cert(vec![certificate], key)
                .unwrap(),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![self.offered.into()];
        let name = ServerName::try_from(self.name).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, io).await
    }

    async fn at(self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        self.over(TcpStream::connect(address).await?).await
    }
}

/// Sends a request over HTTP/1.1. Returns the body of the response, or the error of the connection.
async fn fetch(
    io: io::Result<impl AsyncRead + AsyncWrite + Unpin>,
    path: &str,
) -> io::Result<String> {
    let mut io = io?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    io.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    io.read_to_string(&mut response).await?;
    let (_, body) = response
        .split_once("\r\n\r\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(body.to_owned())
}

// --- an accept loop of one's own ---

#[tokio::test]
async fn every_protocol_is_served_on_a_pipe() {
    let builder = auto::Builder::new();
    let serve = |io| tokio::spawn(builder.serve_connection(io, app()));
    let (near, far) = duplex(65_536);
    serve(far);
    assert!(http1(near, "/").await.ends_with("\r\n\r\nHTTP/1.1"));
    let (near, far) = duplex(65_536);
    serve(far);
    assert_eq!(http2(near, "/").await.1, "HTTP/2");
    let (near, far) = duplex(65_536);
    serve(far);
    assert_eq!(
        spdy(near, Version::V3_1, "/").await.1,
        "SPDY/3.1".as_bytes()
    );
}

#[tokio::test]
async fn alpn_selects_the_protocol_in_an_accept_loop_with_tls() {
    let authority = Made::authority();
    let server = authority.sign("localhost", VALID);
    let mut config = authority.mutual(&server);
    config.alpn_protocols = Protocol::ALL.map(|it| it.alpn().to_vec()).into();
    let tls = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let builder = auto::Builder::new();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (tls, builder) = (tls.clone(), builder.clone());
            tokio::spawn(async move {
                let io = tls.accept(socket).await?;
                builder.serve_tls_connection(io, app()).await
            });
        }
    });
    let person = authority.sign("someone", VALID);
    let connect = async |offered| {
        let client = Client {
            offered,
            ..Client::new(authority.roots(), "localhost").with(&person)
        };
        client.at(address).await.unwrap()
    };
    let io = connect("spdy/3").await;
    assert_eq!(spdy(io, Version::V3, "/").await.1, "SPDY/3".as_bytes());
    let io = connect("h2").await;
    assert_eq!(http2(io, "/").await.1, "HTTP/2");
    let io = connect("http/1.1").await;
    let us = io.get_ref().0.local_addr().unwrap();
    assert_eq!(fetch(Ok(io), "/peer").await.unwrap(), us.to_string());
    let io = connect("http/1.1").await;
    let shown = fetch(Ok(io), "/certificate").await.unwrap();
    assert_eq!(shown.len(), "00:".len() * 32 - 1, "{shown}");
}

#[tokio::test]
async fn what_the_caller_knows_of_a_connection_is_what_handlers_see() {
    let (near, far) = duplex(65_536);
    let info = ConnectionInfo {
        protocol: Protocol::Spdy(Version::V3),
        peer: Some(([192, 0, 2, 1], 4711).into()),
        tls: None,
    };
    let builder = auto::Builder::new();
    tokio::spawn(builder.serve_known_connection(far, info, app()));
    assert_eq!(
        spdy(near, Version::V3, "/peer").await.1,
        "192.0.2.1:4711".as_bytes()
    );
}

#[tokio::test]
async fn the_address_of_a_tcp_client_needs_no_caller() {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(client, listener.accept());
    let connection = auto::Builder::new().serve_connection(accepted.unwrap().0, app());
    tokio::spawn(connection);
    let client = client.unwrap();
    let us = client.local_addr().unwrap();
    assert_eq!(fetch(Ok(client), "/peer").await.unwrap(), us.to_string());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_asked_to_finish_answers_first() {
    let (mut near, far) = duplex(65_536);
    let app = Router::new().route(
        "/",
        get(async || {
            tokio::time::sleep(Duration::from_secs(5)).await;
            "late"
        }),
    );
    let mut connection = Box::pin(auto::Builder::new().serve_connection(far, app));
    near.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let asked = tokio::time::sleep(Duration::from_secs(1));
    tokio::select! {
        _ = &mut connection => panic!("the request is not answered yet"),
        () = asked => connection.as_mut().graceful_shutdown(),
    }
    let mut answer = String::new();
    let (end, read) = tokio::join!(connection, near.read_to_string(&mut answer));
    end.unwrap();
    read.unwrap();
    assert!(answer.ends_with("\r\n\r\nlate"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_pipe_that_shows_no_protocol_is_an_error_that_says_so() {
    let kind = |error: BoxError| error.downcast_ref::<io::Error>().unwrap().kind();
    let builder = auto::Builder::new();
    let (_silent, far) = duplex(64);
    let error = builder.serve_connection(far, app()).await.unwrap_err();
    assert_eq!(kind(error), io::ErrorKind::TimedOut);
    let (gone, far) = duplex(64);
    drop(gone);
    let error = builder.serve_connection(far, app()).await.unwrap_err();
    assert_eq!(kind(error), io::ErrorKind::UnexpectedEof);
    let (mut strange, far) = duplex(64);
    strange.write_all(b"\x16\x03\x01").await.unwrap();
    let error = builder.serve_connection(far, app()).await.unwrap_err();
    assert_eq!(kind(error), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_connection_can_be_upgraded_and_needs_no_other_method_for_it() {
    let service = service_fn(async |mut request: Request<Body>| {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgrade.await.unwrap());
            io.write_all(b"upgraded").await.unwrap();
        });
        let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        let response = response
            .header("connection", "upgrade")
            .header("upgrade", "x");
        response.body(Body::empty())
    });
    let (mut near, far) = duplex(65_536);
    tokio::spawn(auto::Builder::new().serve_connection(far, service));
    let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    near.write_all(request).await.unwrap();
    let mut answer = String::new();
    near.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nupgraded"), "{answer}");
}

// --- services ---

#[tokio::test]
async fn a_service_without_axum_is_served_and_its_error_is_answered() {
    let service = service_fn(async |request: Request<Body>| match request.uri().path() {
        "/" => Ok(Response::new(Body::from("plain"))),
        _ => Err::<_, BoxError>("a secret".into()),
    });
    let builder = auto::Builder::new();
    for version in [Version::V2, Version::V3_1] {
        let (near, far) = duplex(65_536);
        tokio::spawn(builder.serve_connection(far, service));
        assert_eq!(spdy(near, version, "/").await.1, "plain".as_bytes());
    }
    let (near, far) = duplex(65_536);
    tokio::spawn(builder.serve_connection(far, service));
    let (status, body) = http2(near, "/other").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(body, "the application has failed\n");
}

/// A service in a layer that changes the path before a router sees it, as `NormalizePath` does.
#[tokio::test]
async fn a_router_in_a_layer_is_served() {
    let app = app();
    let service = service_fn(move |mut request: Request<Body>| {
        let path = request.uri().path().trim_end_matches('/').to_owned();
        *request.uri_mut() = format!("/{}", path.trim_matches('/')).parse().unwrap();
        tower::ServiceExt::oneshot(app.clone(), request)
    });
    let (near, far) = duplex(65_536);
    tokio::spawn(auto::Builder::new().serve_connection(far, service));
    assert_eq!(http2(near, "/certificate///").await.1, "none");
}

#[tokio::test]
async fn a_make_service_makes_an_application_for_each_connection() {
    let config = Config {
        binds: vec![Bind::plain(loopback())],
        ..Config::default()
    };
    let server = Server::bind(config).await.unwrap();
    let address = server.endpoints()[0].address.tcp().unwrap();
    let made = Arc::new(Mutex::new(0));
    let make = service_fn(move |info: ConnectionInfo| {
        let made = Arc::clone(&made);
        async move {
            let mut made = made.lock().unwrap();
            *made += 1;
            if *made == 3 {
                return Err("no third application");
            }
            let text = format!("{} by application {made}", info.protocol);
            Ok(Router::new().route("/", get(text)))
        }
    });
    tokio::spawn(server.run_make_service(make, std::future::pending()));
    let connect = async || TcpStream::connect(address).await;
    let first = fetch(connect().await, "/").await.unwrap();
    assert_eq!(first, "HTTP/1.1 by application 1");
    assert_eq!(
        http2(connect().await.unwrap(), "/").await.1,
        "HTTP/2 by application 2"
    );
    fetch(connect().await, "/").await.unwrap_err();
    assert!(fetch(connect().await, "/").await.unwrap().ends_with('4'));
}

#[tokio::test]
async fn an_application_that_is_not_made_in_time_is_given_up() {
    let mut config = Config {
        binds: vec![Bind::plain(loopback())],
        ..Config::default()
    };
    config.timeouts.handshake = Duration::from_millis(100);
    let server = Server::bind(config).await.unwrap();
    let address = server.endpoints()[0].address.tcp().unwrap();
    let given_up = Arc::new(Notify::new());
    let make = {
        let given_up = Arc::clone(&given_up);
        service_fn(move |_: ConnectionInfo| {
            let dropped = Dropped(Arc::clone(&given_up));
            async move {
                let _dropped = dropped;
                std::future::pending::<Result<Router, BoxError>>().await
            }
        })
    };
    tokio::spawn(server.run_make_service(make, std::future::pending()));
    let answer = fetch(TcpStream::connect(address).await, "/");
    let answer = timeout(LONG, answer).await.expect("it is still made");
    answer.unwrap_err();
    timeout(LONG, given_up.notified()).await.unwrap();
}

struct Dropped(Arc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_that_is_bound_already_is_served() {
    let path = format!("{}/embed.sock", env!("CARGO_TARGET_TMPDIR"));
    _ = std::fs::remove_file(&path);
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let sockets = Inherited::default().unix(listener, Transport::Plain);
    let config = Config {
        binds: Vec::new(),
        ..Config::default()
    };
    let server = Server::bind_with(config, sockets).await.unwrap();
    assert_eq!(server.endpoints()[0].to_string(), format!("unix:{path}"));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run(app(), async { _ = stopped.await }));
    let io = tokio::net::UnixStream::connect(&path).await;
    assert_eq!(fetch(io, "/").await.unwrap(), "HTTP/1.1");
    drop(stop);
    _ = running.await.unwrap();
    assert!(std::fs::exists(&path).unwrap(), "the file is the caller's");
}

#[tokio::test]
async fn the_make_service_of_axum_is_taken() {
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    let address = listener.local_addr().unwrap();
    let sockets = Inherited::default().tcp(listener, Transport::Plain);
    assert_eq!(sockets.len(), 1);
    let config = Config {
        binds: Vec::new(),
        ..Config::default()
    };
    let server = Server::bind_with(config, sockets).await.unwrap();
    assert_eq!(server.endpoints()[0].address.tcp(), Some(address));
    tokio::spawn(server.run_make_service(app().into_make_service(), std::future::pending()));
    let io = TcpStream::connect(address).await;
    assert_eq!(fetch(io, "/").await.unwrap(), "HTTP/1.1");
}

// --- misuse ---

const PROTOCOLS: [Protocol; 5] = [
    Protocol::Spdy(Version::V2),
    Protocol::Spdy(Version::V3),
    Protocol::Spdy(Version::V3_1),
    Protocol::Http2,
    Protocol::Http1,
];

/// Sends a request in this protocol and returns the status.
async fn status<IO>(protocol: Protocol, io: IO, path: &str) -> String
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match protocol {
        Protocol::Spdy(version) => {
            let (fields, _) = spdy(io, version, path).await;
            let name = match version {
                Version::V2 => "status",
                _ => ":status",
            };
            String::from_utf8(fields.get(name).unwrap()[..3].to_vec()).unwrap()
        }
        Protocol::Http2 => http2(io, path).await.0.as_str().to_owned(),
        Protocol::Http1 => http1(io, path).await[9..12].to_owned(),
    }
}

/// A service that panics when it is called, or when its future is polled.
async fn panicking(path: String) -> Result<Response<Body>, BoxError> {
    tokio::task::yield_now().await;
    assert_eq!(path, "/", "the application of this test panics");
    Ok(Response::new(Body::from("fine")))
}

#[tokio::test]
async fn a_panic_and_an_error_of_an_application_are_answered_and_counted_as_500() {
    let path = format!("{}/embed-panics.log", env!("CARGO_TARGET_TMPDIR"));
    _ = std::fs::remove_file(&path);
    let service = service_fn(|request: Request<Body>| {
        let path = request.uri().path().to_owned();
        assert_ne!(path, "/call", "the application of this test panics");
        async move {
            match &path[..] {
                "/error" => Err("an error".into()),
                _ => panicking(path).await,
            }
        }
    });
    let server = Server::bind(Config {
        binds: vec![Bind::plain(loopback()), Bind::plain(loopback())],
        access_log: Some(AccessLog::File(path.clone().into())),
        ..Config::default()
    });
    let server = server.await.unwrap();
    let address = server.endpoints()[0].address.tcp().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run(service, async { _ = stopped.await }));
    for protocol in PROTOCOLS {
        // In plain text it would be SPDY/3.1.
        if protocol == Protocol::Spdy(Version::V3) {
            continue;
        }
        for (path, expected) in [
            ("/call", "500"),
            ("/future", "500"),
            ("/error", "500"),
            ("/", "200"),
        ] {
            let io = TcpStream::connect(address).await.unwrap();
            assert_eq!(
                status(protocol, io, path).await,
                expected,
                "{protocol} {path}"
            );
        }
    }
    drop(stop);
    _ = running.await.unwrap();
    let log = std::fs::read_to_string(path).unwrap();
    let count = |status| log.matches(status).count();
    assert_eq!((count("\" 500 "), count("\" 200 ")), (12, 4), "{log}");
}

#[tokio::test]
async fn a_connection_that_is_dropped_takes_its_requests_along() {
    for protocol in PROTOCOLS {
        let (entered, left) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let service = {
            let (entered, left) = (Arc::clone(&entered), Arc::clone(&left));
            service_fn(move |_: Request<Body>| {
                let dropped = Dropped(Arc::clone(&left));
                entered.notify_one();
                async move {
                    let _dropped = dropped;
                    std::future::pending::<Result<Response<Body>, BoxError>>().await
                }
            })
        };
        let info = ConnectionInfo {
            protocol,
            peer: None,
            tls: None,
        };
        let (near, far) = duplex(65_536);
        let mut connection = auto::Builder::new().serve_known_connection(far, info, service);
        let client = tokio::spawn(async move { status(protocol, near, "/").await });
        tokio::select! {
            _ = &mut connection => panic!("{protocol}: there is no answer"),
            () = entered.notified() => drop(connection),
        }
        timeout(LONG, left.notified()).await.unwrap();
        client.await.unwrap_err();
    }
}

/// A service that is never ready, and one whose readiness fails.
#[derive(Clone)]
struct Unready(Option<&'static str>);

impl tower::Service<Request<Body>> for Unready {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self.0 {
            Some(error) => Poll::Ready(Err(error.into())),
            None => Poll::Pending,
        }
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        unreachable!("it is not ready")
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_to_be_ready_is_a_500_and_one_that_never_is_can_be_dropped() {
    for protocol in PROTOCOLS {
        let info = ConnectionInfo {
            protocol,
            peer: None,
            tls: None,
        };
        let builder = auto::Builder::new();
        let (near, far) = duplex(65_536);
        let failing = Unready(Some("not today"));
        tokio::spawn(builder.serve_known_connection(far, info, failing));
        assert_eq!(status(protocol, near, "/").await, "500", "{protocol}");

        let (near, far) = duplex(65_536);
        let connection = builder.serve_known_connection(far, info, Unready(None));
        let connection = tokio::spawn(connection);
        let client = tokio::spawn(async move { status(protocol, near, "/").await });
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(
            !connection.is_finished() && !client.is_finished(),
            "{protocol}"
        );
        connection.abort();
        client.await.unwrap_err();
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_can_be_asked_to_finish_at_any_time_and_twice() {
    let config = Config {
        proxy_protocol: true,
        ..Config::default()
    };
    for (config, begun) in [
        (&Config::default(), ""),
        (&Config::default(), "PRI * "),
        (&config, "PROXY "),
        (&config, "PROXY UNKNOWN\r\nPRI"),
    ] {
        let (mut near, far) = duplex(65_536);
        near.write_all(begun.as_bytes()).await.unwrap();
        let builder = auto::Builder::with_config(config);
        let mut connection = Box::pin(builder.serve_connection(far, app()));
        connection.as_mut().graceful_shutdown();
        connection.as_mut().graceful_shutdown();
        let start = tokio::time::Instant::now();
        timeout(LONG, connection).await.unwrap().unwrap();
        assert!(start.elapsed() <= Duration::from_secs(1), "{begun}");
    }
    for protocol in PROTOCOLS {
        let info = ConnectionInfo {
            protocol,
            peer: None,
            tls: None,
        };
        let (_near, far) = duplex(65_536);
        let builder = auto::Builder::new();
        let mut connection = Box::pin(builder.serve_known_connection(far, info, app()));
        connection.as_mut().graceful_shutdown();
        connection.as_mut().graceful_shutdown();
        // HTTP/2 waits for the preface of the client, until the connection counts as idle.
        let end = timeout(10 * LONG, connection).await;
        _ = end.unwrap_or_else(|_| panic!("{protocol} does not finish"));
    }
}

#[tokio::test]
async fn an_application_that_is_still_made_ends_with_the_server() {
    for is_dropped in [true, false] {
        let mut config = Config {
            binds: vec![Bind::plain(loopback())],
            ..Config::default()
        };
        config.timeouts.handshake = 2 * LONG;
        config.timeouts.drain = Duration::from_millis(100);
        let server = Server::bind(config).await.unwrap();
        let address = server.endpoints()[0].address.tcp().unwrap();
        let (begun, given_up) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let make = {
            let (begun, given_up) = (Arc::clone(&begun), Arc::clone(&given_up));
            service_fn(move |_: ConnectionInfo| {
                let dropped = Dropped(Arc::clone(&given_up));
                begun.notify_one();
                async move {
                    let _dropped = dropped;
                    std::future::pending::<Result<Router, BoxError>>().await
                }
            })
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(server.run_make_service(make, async { _ = stopped.await }));
        let client =
            tokio::spawn(async move { fetch(TcpStream::connect(address).await, "/").await });
        begun.notified().await;
        if is_dropped {
            running.abort();
        } else {
            drop(stop);
            assert_eq!(running.await.unwrap().cut, 1);
        }
        let given_up = timeout(LONG, given_up.notified());
        given_up.await.expect("the connection outlives its server");
        client.await.unwrap().unwrap_err();
    }
}

// --- certificates ---

#[tokio::test]
async fn the_certificate_that_the_server_made_can_be_trusted() {
    let server = Server::bind(tls(Certificate::SelfSigned)).await.unwrap();
    let address = server.endpoints()[0].address.tcp().unwrap();
    let mut roots = RootCertStore::empty();
    for certificate in server.certificates() {
        roots.add(certificate).unwrap();
    }
    tokio::spawn(server.run(app(), std::future::pending()));
    let io = Client::new(roots, "localhost").at(address).await;
    assert_eq!(fetch(io, "/certificate").await.unwrap(), "none");
}

#[tokio::test]
async fn a_certificate_in_memory_is_served_and_never_shown() {
    let made = Made::authority().sign("localhost", VALID);
    let certificate = made.as_pem();
    assert_eq!(format!("{certificate:?}"), "Pem { .. }");
    let server = Server::bind(tls(certificate)).await.unwrap();
    assert_eq!(server.certificates(), [made.der]);
}

#[tokio::test]
async fn pem_without_a_certificate_or_a_key_is_refused_at_the_start() {
    let made = Made::authority().sign("localhost", VALID);
    let other = Made::authority();
    let (chain, key) = (made.pem.clone(), made.key.serialize_pem());
    for (chain, key, message) in [
        (
            "",
            &key[..],
            "no certificate in PEM form found in the PEM text in memory",
        ),
        (
            &key[..],
            &key[..],
            "no certificate in PEM form found in the PEM text in memory",
        ),
        (
            &chain[..],
            "",
            "no private key in PEM form without a passphrase found in the PEM text in memory",
        ),
        (
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
            &key[..],
            "cannot read the PEM text in memory",
        ),
        (
            &chain[..],
            &other.key.serialize_pem()[..],
            "the certificate and the key cannot be used together",
        ),
    ] {
        let certificate = Certificate::Pem {
            chain: chain.into(),
            key: key.into(),
        };
        let error = Server::bind(tls(certificate)).await.unwrap_err();
        assert_eq!(error.to_string(), message);
        assert!(matches!(error, StartError::Certificate(error)
            if matches!(error, CertificateError::Refused(_)) == message.contains("together")));
    }
}

#[tokio::test]
async fn the_server_name_chooses_among_certificates_and_an_unknown_one_fails_alone() {
    let authority = Made::authority();
    let mut resolver = ResolvesServerCertUsingSni::new();
    for name in ["one.example", "two.example"] {
        let key = authority.sign(name, VALID).certified();
        resolver.add(name, key).unwrap();
    }
    let certificate = Certificate::Resolver(Arc::new(resolver));
    let server = Server::bind(tls(certificate)).await.unwrap();
    assert_eq!(server.fingerprint(), None);
    assert_eq!(server.certificates(), []);
    let address = server.endpoints()[0].address.tcp().unwrap();
    tokio::spawn(server.run(app(), std::future::pending()));
    for (name, is_served) in [
        ("one.example", true),
        ("three.example", false),
        ("two.example", true),
    ] {
        let io = Client::new(authority.roots(), name).at(address).await;
        assert_eq!(fetch(io, "/").await.is_ok(), is_served, "{name}");
    }
}

/// A resolver that has no certificate yet, as before the first answer of an ACME server.
#[tokio::test]
async fn a_configuration_without_certificates_fails_each_handshake_and_nothing_else() {
    let resolver = Arc::new(ResolvesServerCertUsingSni::new());
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    let server = Server::bind(Config {
        binds: vec![Bind::tls(loopback()), Bind::plain(loopback())],
        ..tls(Certificate::Rustls(Arc::new(config)))
    });
    let server = server.await.unwrap();
    let [secured, plain] = [0, 1].map(|it| server.endpoints()[it].address.tcp().unwrap());
    tokio::spawn(server.run(app(), std::future::pending()));
    for _ in 0..2 {
        let client = Client::new(RootCertStore::empty(), "localhost");
        let error = client.at(secured).await.unwrap_err();
        assert!(error.to_string().contains("alert"), "{error}");
        let io = TcpStream::connect(plain).await;
        assert_eq!(fetch(io, "/").await.unwrap(), "HTTP/1.1");
    }
}

#[tokio::test]
async fn clients_are_served_with_a_certificate_of_the_authority_and_no_other() {
    let authority = Made::authority();
    let config = authority.mutual(&authority.sign("localhost", VALID));
    let address = start(tls(Certificate::Rustls(Arc::new(config)))).await;
    let client = || Client::new(authority.roots(), "localhost");
    let person = authority.sign("someone", VALID);
    let expired = authority.sign("someone", 2001);
    let stranger = Made::authority().sign("someone", VALID);
    for (client, is_served) in [
        (client(), false),
        (client().with(&expired), false),
        (client().with(&stranger), false),
        (client().with(&person), true),
    ] {
        let answer = timeout(LONG, async {
            fetch(client.at(address).await, "/certificate").await
        });
        let answer = answer.await.expect("neither an answer nor an error");
        assert_eq!(answer.is_ok(), is_served, "{answer:?}");
    }
}

#[tokio::test]
async fn an_expired_certificate_is_refused_by_the_client_and_the_server_goes_on() {
    let authority = Made::authority();
    let address = start(tls(authority.sign("localhost", 2001).as_pem())).await;
    for _ in 0..2 {
        let client = Client::new(authority.roots(), "localhost");
        let error = client.at(address).await.unwrap_err();
        assert!(error.to_string().contains("expired"), "{error}");
    }
}

#[tokio::test]
async fn the_protocols_of_a_configuration_are_those_that_it_names() {
    let authority = Made::authority();
    let made = authority.sign("localhost", VALID);
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.der.clone()], made.key())
        .unwrap();
    let unnamed = start(tls(Certificate::Rustls(Arc::new(config.clone())))).await;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let named = start(tls(Certificate::Rustls(Arc::new(config)))).await;
    for (address, offered, selected) in [
        (unnamed, "spdy/3.1", Some("spdy/3.1")),
        (named, "spdy/3.1", None),
        (named, "h2", Some("h2")),
    ] {
        let client = Client {
            offered,
            ..Client::new(authority.roots(), "localhost")
        };
        let io = client.at(address).await.unwrap();
        let chosen = io.get_ref().1.alpn_protocol();
        assert_eq!(chosen, selected.map(str::as_bytes), "{offered}");
        if selected.is_none() {
            assert_eq!(fetch(Ok(io), "/").await.unwrap(), "HTTP/1.1");
        }
    }
}

#[tokio::test]
async fn a_session_that_is_resumed_has_the_certificate_of_its_client() {
    let authority = Made::authority();
    let config = authority.mutual(&authority.sign("localhost", VALID));
    let address = start(tls(Certificate::Rustls(Arc::new(config)))).await;
    let person = authority.sign("someone", VALID);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(authority.roots())
            .with_client_auth_cert(vec![person.der.clone()], person.key())
            .unwrap();
        let tls = TlsConnector::from(Arc::new(config));
        let mut seen = Vec::new();
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let name = ServerName::try_from("localhost").unwrap();
            let tcp = TcpStream::connect(address).await.unwrap();
            let io = tls.connect(name, tcp).await.unwrap();
            assert_eq!(io.get_ref().1.handshake_kind(), Some(kind));
            seen.push(fetch(Ok(io), "/certificate").await.unwrap());
        }
        assert_eq!(seen[0], seen[1]);
        assert!(seen[0].contains(':'), "{seen:?}");
    }
}

#[tokio::test]
async fn a_request_in_early_data_is_answered() {
    let authority = Made::authority();
    let made = authority.sign("localhost", VALID);
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.der.clone()], made.key())
        .unwrap();
    config.max_early_data_size = 16_384;
    let address = start(tls(Certificate::Rustls(Arc::new(config)))).await;
    let mut config = ClientConfig::builder()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    config.enable_early_data = true;
    let config = Arc::new(config);
    let client = tokio::task::spawn_blocking(move || {
        use std::io::{Read, Write};
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        for _ in 0..2 {
            let name = ServerName::try_from("localhost").unwrap();
            let mut tls = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
            let mut tcp = std::net::TcpStream::connect(address).unwrap();
            tcp.set_read_timeout(Some(LONG / 2)).unwrap();
            if let Some(mut early) = tls.early_data() {
                early.write_all(request).unwrap();
            }
            let mut io = rustls::Stream::new(&mut tls, &mut tcp);
            io.flush().unwrap();
            while io.conn.is_handshaking() {
                io.conn.complete_io(io.sock).unwrap();
            }
            if !io.conn.is_early_data_accepted() {
                io.write_all(request).unwrap();
            }
            let mut answer = String::new();
            io.read_to_string(&mut answer).unwrap();
            assert!(answer.ends_with("HTTP/1.1"), "{answer}");
        }
    });
    client.await.unwrap();
}

// --- settings ---

/// Sends these bytes to a connection with this configuration, and returns all that it sends.
async fn answer_to(config: &Config, bytes: &str) -> String {
    let (mut near, far) = duplex(65_536);
    tokio::spawn(auto::Builder::with_config(config).serve_connection(far, app()));
    near.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = String::new();
    near.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(start_paused = true)]
async fn the_settings_of_http_1_are_obeyed() {
    let config = |http1| Config {
        http1,
        ..Config::default()
    };
    let default = Http1::default();
    let request = "GET / HTTP/1.1\r\nhost: a\r\na: b\r\nc: d\r\n\r\n";
    let few = config(Http1 {
        max_fields: 2,
        ..default
    });
    let answer = answer_to(&few, request).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let once = config(Http1 {
        keep_alive: false,
        ..default
    });
    let answer = answer_to(&once, &request.repeat(2)).await;
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 1, "{answer}");

    let patient = config(Http1 {
        header_timeout: Duration::from_secs(3),
        ..default
    });
    let start = tokio::time::Instant::now();
    answer_to(&patient, "GET / HTTP/1.1\r\n").await;
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn settings_beyond_their_ranges_still_serve() {
    let least = Config {
        http1: Http1 {
            max_headers: 0,
            ..Http1::default()
        },
        http2: Http2 {
            stream_window: 0,
            connection_window: 0,
            max_frame: 0,
            ..Http2::default()
        },
        ..Config::default()
    };
    let most = Config {
        http1: Http1 {
            header_timeout: Duration::MAX,
            max_headers: usize::MAX,
            max_fields: usize::MAX,
            keep_alive: true,
        },
        http2: Http2 {
            max_streams: u32::MAX,
            stream_window: u32::MAX,
            connection_window: u32::MAX,
            max_frame: u32::MAX,
            max_headers: u32::MAX,
            max_pending_resets: usize::MAX,
            max_error_resets: usize::MAX,
            keep_alive_reply: Duration::MAX,
        },
        spdy: most_of_spdy(),
        ..Config::default()
    };
    for config in [least, most] {
        let builder = auto::Builder::with_config(&config);
        let (near, far) = duplex(65_536);
        tokio::spawn(builder.serve_connection(far, app()));
        assert_eq!(spdy(near, Version::V3_1, "/").await.1, b"SPDY/3.1");
        let (near, far) = duplex(65_536);
        tokio::spawn(builder.serve_connection(far, app()));
        assert!(http1(near, "/").await.ends_with("HTTP/1.1"));
        let (near, far) = duplex(65_536);
        tokio::spawn(builder.serve_connection(far, app()));
        assert_eq!(http2(near, "/").await.1, "HTTP/2");
    }
}

fn most_of_spdy() -> Spdy {
    let mut spdy = Spdy::default();
    let timeouts = &mut spdy.timeouts;
    for timeout in [
        &mut timeouts.first_frame,
        &mut timeouts.frame,
        &mut timeouts.idle,
        &mut timeouts.trickle,
        &mut timeouts.unread,
        &mut timeouts.discard,
        &mut timeouts.probe,
    ] {
        *timeout = Some(Duration::MAX);
    }
    timeouts.linger = Duration::MAX;
    timeouts.keep_alive_reply = Duration::MAX;
    spdy
}

#[tokio::test(start_paused = true)]
async fn the_settings_of_http_2_are_obeyed() {
    let config = Config {
        http2: Http2 {
            max_headers: 100,
            ..Http2::default()
        },
        ..Config::default()
    };
    let (near, far) = duplex(65_536);
    tokio::spawn(auto::Builder::with_config(&config).serve_connection(far, app()));
    let (status, _) = http2(near, &format!("/{}", "a".repeat(200))).await;
    assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test(start_paused = true)]
async fn the_settings_of_spdy_are_obeyed() {
    let mut spdy = Spdy::default();
    spdy.timeouts.idle = Some(Duration::from_secs(7));
    let config = Config {
        spdy,
        ..Config::default()
    };
    let (mut near, far) = duplex(65_536);
    near.write_all(b"\x80\x03\0\x04\0\0\0\x04\0\0\0\0")
        .await
        .unwrap();
    let start = tokio::time::Instant::now();
    let connection = auto::Builder::with_config(&config).serve_connection(far, app());
    let mut told = Vec::new();
    let (end, read) = tokio::join!(connection, near.read_to_end(&mut told));
    end.unwrap();
    read.unwrap();
    // A second is for a client that has not seen the end yet.
    assert!(
        (7..=8).contains(&start.elapsed().as_secs()),
        "{:?}",
        start.elapsed()
    );
}
