//! CONNECT: tunnels, and requests by way of a proxy.

use axum::{Router, extract::Request, routing::any};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use spdy_frame::Version;
use spdy_tower::{
    Builder, Protocol, Tunnel,
    client::{Client, Plain},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Server, http1_on, plain, tls_of};
use crate::support::within;

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

/// Sends bytes into a tunnel and takes them back, to its end.
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
async fn c162_connect_opens_a_tunnel_over_every_protocol() {
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

/// A proxy gets the whole URI. Requests for all origins use one session.
#[tokio::test]
async fn requests_to_other_origins_are_sent_through_the_proxy() {
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
