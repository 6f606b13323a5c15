//! CONNECT: streams of bytes between the client of this crate and a service.

mod support;

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, Empty};
use spdy_frame::{RstStatus, Version};
use spdy_session::StreamError;
use spdy_tower::{
    Tunnel,
    client::{Error, SendRequest},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, split},
    sync::mpsc,
};

use self::support::{
    client::{Server, block, body_of, client_of, ok},
    in_all_versions, within,
};

/// Opens tunnels to `a.test:443` that give back what they get, and says how each has ended.
fn echo() -> (Router, mpsc::UnboundedReceiver<std::io::Result<u64>>) {
    let (ends, ended) = mpsc::unbounded_channel();
    let connect = async move |mut request: Request| -> Response {
        let Some(tunnel) = Tunnel::on(&mut request) else {
            return StatusCode::METHOD_NOT_ALLOWED.into_response();
        };
        if request.uri() != "a.test:443" {
            return (StatusCode::FORBIDDEN, "not there").into_response();
        }
        tokio::spawn(async move {
            let mut tunnel = tunnel.await.unwrap();
            let (mut receive, mut send) = split(&mut tunnel);
            let end = copy(&mut receive, &mut send).await;
            if end.is_ok() {
                tunnel.shutdown().await.unwrap();
            }
            ends.send(end).unwrap();
        });
        "this is no body".into_response()
    };
    (Router::new().fallback(connect), ended)
}

async fn connect(
    requests: &SendRequest,
    to: &str,
) -> Result<http::Response<spdy_tower::Body>, Error> {
    let request = http::Request::connect(to)
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    within(requests.send(request)).await
}

#[tokio::test(start_paused = true)]
async fn c162_a_tunnel_carries_bytes_both_ways() {
    in_all_versions(async |version| {
        let (router, mut ended) = echo();
        let requests = client_of(version, router);
        let mut response = connect(&requests, "a.test:443").await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.headers().get("content-length").is_none());
        let mut tunnel = Tunnel::of(&mut response).unwrap();
        assert!(Tunnel::of(&mut response).is_none());
        assert_eq!(body_of(response.into_body()).await, "");

        for word in ["one", "two"] {
            tunnel.write_all(word.as_bytes()).await.unwrap();
            let mut back = [0; 3];
            within(tunnel.read_exact(&mut back)).await.unwrap();
            assert_eq!(back, word.as_bytes());
        }
        tunnel.shutdown().await.unwrap();
        let mut rest = Vec::new();
        within(tunnel.read_to_end(&mut rest)).await.unwrap();
        assert_eq!(rest, b"");
        assert_eq!(within(ended.recv()).await.unwrap().unwrap(), 6);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_connect_is_a_response_with_a_body() {
    in_all_versions(async |version| {
        let requests = client_of(version, echo().0);
        let mut response = connect(&requests, "b.test:443").await.unwrap();
        assert!(Tunnel::of(&mut response).is_none());
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        let body = within(response.into_body().collect()).await.unwrap();
        assert_eq!(body.to_bytes(), "not there");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_that_is_dropped_is_reset() {
    in_all_versions(async |version| {
        let (router, mut ended) = echo();
        let requests = client_of(version, router);
        drop(connect(&requests, "a.test:443").await.unwrap());
        let error = within(ended.recv()).await.unwrap().unwrap_err();
        let cause = error.get_ref().unwrap().downcast_ref().unwrap();
        assert!(
            matches!(
                cause,
                StreamError::Reset {
                    status: RstStatus::CANCEL,
                    ..
                }
            ),
            "{cause:?}"
        );
    })
    .await;
}

/// An application that knows nothing of tunnels. Axum leaves out the body of such an answer, as
/// HTTP has it.
#[tokio::test(start_paused = true)]
async fn a_tunnel_that_the_handler_does_not_take_is_an_empty_response() {
    in_all_versions(async |version| {
        let requests = client_of(version, Router::new().fallback(async || "hello"));
        let mut response = connect(&requests, "a.test:443").await.unwrap();
        let mut tunnel = Tunnel::of(&mut response).unwrap();
        let mut bytes = Vec::new();
        within(tunnel.read_to_end(&mut bytes)).await.unwrap();
        assert_eq!(bytes, b"");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn tunnel_on_is_none_for_other_methods() {
    let requests = client_of(Version::V3_1, echo().0);
    let response = within(requests.send(support::client::get("/")))
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test(start_paused = true)]
async fn c162_connect_names_host_and_port_and_no_scheme() {
    in_all_versions(async |version| {
        let (requests, mut server) = Server::new(version);
        let request = http::Request::connect("a.test:443")
            .body(Empty::<bytes::Bytes>::new())
            .unwrap();
        let response = requests.send(request);
        let stream = server.accept().await;
        let meta = [
            (":method", "CONNECT"),
            (":path", "a.test:443"),
            (":version", "HTTP/1.1"),
            (":host", "a.test:443"),
        ];
        assert_eq!(stream.headers(), &block(version, &meta));
        assert!(stream.has_body());
        let mut raw = stream.send_reply(ok(version, &[])).unwrap();
        raw.write_all(b"hello").await.unwrap();
        let mut tunnel = Tunnel::of(&mut within(response).await.unwrap()).unwrap();
        let mut bytes = [0; 5];
        within(tunnel.read_exact(&mut bytes)).await.unwrap();
        assert_eq!(&bytes, b"hello");
    })
    .await;
}
