//! The reverse proxy in front of applications that use TLS.

mod common;

use std::{future::pending, io, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Extension, Request},
    http::StatusCode,
    routing::get,
};
use rustls::{ClientConfig, RootCertStore};
use spdy_server::{
    ConnectionInfo, Timeouts, Version,
    app::{Proxy, proxy},
};
use tokio::{io::duplex, net::TcpStream, time::Instant};
use tower::ServiceExt;

use self::common::server::{Running, http1, http2, plain, spdy, tls};

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
