//! The reverse proxy in front of applications that use TLS.

mod common;

use std::{future::pending, io, path::Path, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Extension, Request},
    http::{Response, StatusCode},
    routing::get,
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use spdy_server::{
    ConnectionInfo, Timeouts, Version,
    app::{Proxy, proxy},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, duplex, split},
    net::TcpStream,
    time::{Instant, timeout},
};
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
