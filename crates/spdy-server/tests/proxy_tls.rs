//! The reverse proxy in front of applications that use TLS.

mod common;

use std::{
    future::pending,
    io,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Extension, Request},
    http::{Response, StatusCode},
    routing::get,
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use spdy_server::{
    ConnectionInfo, Timeouts, Version,
    app::{Proxy, proxy},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, duplex, split},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use self::common::{
    program::Program,
    server::{LONG, Running, http1, http2, plain, spdy, tls},
};

fn trusting(roots: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let config = builder.with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

async fn protocol(Extension(info): Extension<ConnectionInfo>, request: Request) -> String {
    let is_tls = info.tls.is_some();
    format!("{} {is_tls} {}", info.protocol, request.uri())
}

async fn front(upstream: &str, roots: RootCertStore) -> Running {
    let mut options = Proxy::new(upstream.parse().unwrap());
    options.tls = Some(trusting(roots));
    Running::start(plain(Timeouts::default()), proxy(options)).await
}

#[tokio::test]
async fn requests_of_every_protocol_reach_an_application_over_tls() {
    let (config, roots) = tls("proxy-tls");
    let app = Router::new().route("/", get(protocol));
    let application = Running::start(config, app).await;
    let port = application.address.port();
    for (scheme, seen) in [
        ("https", "http/1.1 true /"),
        ("h2s", "http/2 true https://localhost/"),
    ] {
        let front = front(&format!("{scheme}://localhost:{port}"), roots.clone()).await;
        let tcp = || TcpStream::connect(front.address);
        let answer = http1(tcp().await.unwrap(), "/").await.to_lowercase();
        assert!(
            answer.starts_with("http/1.1 200 ") && answer.ends_with(seen),
            "{answer}"
        );
        let (status, body) = http2(tcp().await.unwrap(), "/").await;
        assert_eq!(status, 200);
        assert_eq!(body.to_ascii_lowercase(), seen.as_bytes());
        let (_, body) = spdy(tcp().await.unwrap(), Version::V3_1, "/").await;
        assert_eq!(body.to_ascii_lowercase(), seen.as_bytes());
    }
}

#[tokio::test]
async fn an_application_that_is_not_trusted_gets_no_request() {
    let (config, _) = tls("proxy-tls-untrusted");
    let (_, others) = tls("proxy-tls-other");
    let app = Router::new().fallback(async || "reached");
    let application = Running::start(config, app).await;
    let port = application.address.port();
    for scheme in ["https", "h2s"] {
        let front = front(&format!("{scheme}://localhost:{port}"), others.clone()).await;
        let answer = http1(TcpStream::connect(front.address).await.unwrap(), "/").await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert!(
            answer.contains("cannot connect to the application"),
            "{answer}"
        );
        assert!(
            !answer.contains("reached") && !answer.contains("proxy-ca"),
            "{answer}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_handshake_is_a_part_of_the_time_to_connect() {
    for scheme in ["https", "h2s"] {
        let mut options =
            Proxy::new(format!("{scheme}://app.test").parse().unwrap()).connector(|| {
                let (near, far) = duplex(65_536);
                tokio::spawn(async move {
                    pending::<()>().await;
                    drop(far);
                });
                async move { io::Result::Ok(near) }
            });
        options.tls = Some(trusting(RootCertStore::empty()));
        let begun = Instant::now();
        let response = proxy(options)
            .oneshot(Request::new(Body::empty()))
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
    }
}

/// Switches, and returns all that comes.
async fn switch(mut request: Request) -> Response<Body> {
    let switching = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let (mut reads, mut writes) = split(TokioIo::new(switching.await.unwrap()));
        copy(&mut reads, &mut writes).await.unwrap();
        writes.shutdown().await.unwrap();
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .body(Body::empty())
        .unwrap()
}

#[tokio::test]
async fn a_websocket_passes_over_tls_with_the_ends_of_both_sides() {
    let (config, roots) = tls("proxy-tls-upgrade");
    let application = Running::start(config, Router::new().fallback(switch)).await;
    let port = application.address.port();
    let front = front(&format!("https://localhost:{port}"), roots).await;
    let mut io = TcpStream::connect(front.address).await.unwrap();
    io.write_all(
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nat once",
    )
    .await
    .unwrap();
    io.write_all(&[b'x'; 100_000]).await.unwrap();
    io.shutdown().await.unwrap();
    let mut answer = String::new();
    let read = timeout(LONG, io.read_to_string(&mut answer)).await;
    read.expect("no end came").unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(
        body.starts_with("at oncex") && body.len() == 100_007,
        "{}",
        body.len()
    );
}

#[tokio::test]
async fn the_program_trusts_the_file_of_proxy_ca_and_names_it_otherwise() {
    let (config, _) = tls("proxy-tls-program");
    _ = tls("proxy-tls-stranger");
    let application = Running::start(config, Router::new().fallback(async || "reached")).await;
    let url = format!("https://localhost:{}", application.address.port());
    for (test, is_trusted) in [("proxy-tls-program", true), ("proxy-tls-stranger", false)] {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(test)
            .join("chain.pem");
        let program = Program::plain(&["--proxy", &url, "--proxy-ca", file.to_str().unwrap()]);
        let io = TcpStream::connect(program.address(1)).await.unwrap();
        let answer = http1(io, "/").await;
        if is_trusted {
            assert!(answer.ends_with("reached"), "{answer}");
        } else {
            assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
            program.until_it_says("trust the authority that has signed it, by --proxy-ca");
        }
    }
}

/// An application at `app.test`, and what trusts it.
fn application() -> (TlsAcceptor, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["app.test".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    (TlsAcceptor::from(Arc::new(config)), trusting(roots))
}

#[tokio::test]
async fn checks_take_no_session_that_a_request_could_resume() {
    let (acceptor, trusting) = application();
    let handshakes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&handshakes);
    let app = Router::new().fallback(async || ([("connection", "close")], "x"));
    let mut options = Proxy::new("https://app.test".parse().unwrap()).connector(move || {
        let (near, far) = duplex(65_536);
        let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
        let service = TowerToHyperService::new(app.clone());
        tokio::spawn(async move {
            let io = acceptor.accept(far).await?;
            seen.lock().unwrap().push(io.get_ref().1.handshake_kind());
            let builder = hyper::server::conn::http1::Builder::new();
            _ = builder.serve_connection(TokioIo::new(io), service).await;
            io::Result::Ok(())
        });
        async move { io::Result::Ok(near) }
    });
    options.tls = Some(trusting);
    let (app, upstreams) = options.build();
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let response = app.clone().oneshot(Request::new(Body::empty())).await;
        let body = response.unwrap().into_body();
        assert_eq!(axum::body::to_bytes(body, 1).await.unwrap(), "x");
        let last = handshakes.lock().unwrap().last().copied().flatten();
        assert_eq!(last, Some(expected));
        // An application gives two sessions.
        for _ in 0..4 {
            assert!(upstreams.accept().await);
        }
    }
}
