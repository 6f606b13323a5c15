//! Which protocol is spoken.

use std::sync::Arc;

use axum::{Router, body::Body, extract::Request, routing::get as on_get};
use http_body_util::BodyExt;
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use spdy_frame::Version;
use spdy_tests::vacant::Vacant;
use spdy_tower::{
    Builder, Protocol,
    client::{Client, Connector, ConnectorError, FetchError, Plain},
    upgrade,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tower::ServiceExt;

use super::{Server, acceptor, fetch, http1_on, plain, router, send, tls, tls_of, tls_on};
use crate::support::{in_all_versions, within};

#[tokio::test]
async fn over_tls_the_protocol_that_the_server_chooses_is_spoken() {
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
            Err(error @ FetchError::Connect(ConnectorError::Protocol)) => {
                assert!(error.is_remote() && error.is_connect());
                assert_eq!(expected, Err(()), "{offer:?}");
            }
            Err(error) => panic!("{offer:?}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn without_tls_the_configured_protocol_is_spoken() {
    let server = Server::new(|socket, _| http1_on(socket, router())).await;
    assert_eq!(
        fetch(&plain(Plain::Http1), &server.uri("http", "/")).await,
        "HTTP/1.1"
    );

    let server = Server::new(|socket, _| async {
        let service = service_fn(|request| router().oneshot(request));
        let builder = http2::Builder::new(TokioExecutor::new());
        let socket = TokioIo::new(socket);
        _ = builder.serve_connection(socket, service).await;
    })
    .await;
    let client = plain(Plain::Http2);
    for _ in 0..2 {
        assert_eq!(fetch(&client, &server.uri("http", "/")).await, "HTTP/2.0");
    }
    assert_eq!(server.count(), 1);

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
async fn without_tls_a_refused_upgrade_falls_back_to_http_1() {
    let upgrading = upgrading();
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

#[tokio::test]
async fn over_tls_an_upgrade_is_asked_for_if_configured() {
    let (server, connector) = tls_of(&["http/1.1"], upgrading()).await;
    let client = Client::new(connector.upgrade_over_tls(true));
    for _ in 0..2 {
        assert_eq!(fetch(&client, &server.uri("https", "/")).await, "spdy/3.1");
    }
    assert_eq!(server.count(), 1);

    let (server, connector) = tls(&["http/1.1"]).await;
    let connector = connector.offer(&[Protocol::Http1]).upgrade_over_tls(true);
    let client = Client::new(connector);
    for _ in 0..2 {
        assert_eq!(fetch(&client, &server.uri("https", "/")).await, "HTTP/1.1");
    }
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn a_connection_after_a_refused_upgrade_speaks_the_protocol_that_its_server_chooses() {
    let (first, trust) = acceptor(&["http/1.1"]);
    let mut config = ServerConfig::clone(first.config());
    config.alpn_protocols = vec![b"h2".to_vec()];
    let second = TlsAcceptor::from(Arc::new(config));
    let server = Server::new(move |socket, number| {
        let acceptor = if number == 0 { &first } else { &second };
        tls_on(socket, acceptor.clone(), router())
    });
    let server = server.await;
    let client = Client::new(Connector::new(trust).upgrade_over_tls(true));
    assert_eq!(fetch(&client, &server.uri("https", "/")).await, "HTTP/2.0");
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn connect_reports_the_protocol_and_later_requests_use_its_connection() {
    for alpn in ["spdy/3.1", "spdy/2", "h2", "http/1.1"] {
        let (server, connector) = tls(&[alpn]).await;
        let client = Client::new(connector);
        let uri = server.uri("https", "/").parse().unwrap();
        for _ in 0..2 {
            let connected = within(client.connect(&uri)).await.unwrap();
            assert_eq!(connected.protocol().token(), alpn);
            assert_eq!(connected.session().is_some(), alpn.starts_with("spdy/"));
            if let Some(session) = connected.session() {
                within(session.ping()).await.unwrap();
            }
        }
        fetch(&client, &server.uri("https", "/")).await;
        assert_eq!(server.count(), 1, "{alpn}");
    }
    let vacant = Vacant::take();
    let nowhere = format!("http://{}/", vacant.address()).parse().unwrap();
    let failed = plain(Plain::Http1).connect(&nowhere).await;
    assert!(matches!(failed, Err(ConnectorError::Transport(_))));
}

/// An application that upgrades to SPDY/3.1 and serves the usual one there.
fn upgrading() -> Router {
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
    Router::new().route("/", on_get(upgrading))
}

/// No protocol can express a query without a path.
#[tokio::test]
async fn a_query_without_a_path_follows_a_slash() {
    for alpn in ["spdy/3.1", "spdy/3", "spdy/2", "h2", "http/1.1"] {
        let target = async |request: Request| request.uri().path_and_query().unwrap().to_string();
        let (server, connector) = tls_of(&[alpn], Router::new().fallback(target)).await;
        let client = Client::new(connector);
        let seen = fetch(&client, &server.uri("https", "?a=b")).await;
        assert_eq!(seen, "/?a=b", "{alpn}");
    }
}

#[tokio::test]
async fn the_server_is_told_the_host_of_a_field() {
    for alpn in ["spdy/3.1", "spdy/3", "spdy/2", "h2", "http/1.1"] {
        let told = async |request: Request| {
            let field = request.headers().get("host");
            let field = field.map(|host| host.to_str().unwrap().to_owned());
            format!("{:?} {field:?}", request.uri().authority())
        };
        let (server, connector) = tls_of(&[alpn], Router::new().fallback(told)).await;
        let client = Client::new(connector);
        let request = Request::get(server.uri("https", "/")).header("host", "other.test:1");
        let response = client.send(request.body(Body::empty()).unwrap()).await;
        let body = response.unwrap().into_body().collect().await.unwrap();
        let told = String::from_utf8(body.to_bytes().to_vec()).unwrap();
        assert!(told.contains("other.test:1"), "{alpn}: {told}");
        assert!(!told.contains("localhost"), "{alpn}: {told}");
    }
}
