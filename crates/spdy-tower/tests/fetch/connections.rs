//! Connections that are shared, that go away, and that cannot be had.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use http::StatusCode;
use spdy_frame::{RstStatus, Version};
use spdy_session::{Config, Shutdown};
use spdy_tower::{
    Builder,
    client::{Client, Connector, ConnectorError, Error, FetchError, InvalidTarget, Plain},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::rustls::RootCertStore;

use super::{Server, fetch, plain, router, send, tls, trusting};
use crate::support::{client::ok, within};

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
        .send_reply(ok(Version::V3_1, &[]), true)
        .unwrap();
}

#[tokio::test]
async fn a_request_after_goaway_opens_a_new_session() {
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
async fn a_request_that_was_not_processed_is_sent_again() {
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
            0 | 1 => stream.refuse(),
            _ => answer(stream),
        },
    )
    .await;
    send(&client, &server.uri("http", "/"), "").await.unwrap();
    assert_eq!((REFUSED.load(Ordering::Relaxed), server.count()), (3, 1));
}

#[tokio::test]
async fn a_refused_request_is_sent_three_times_and_a_reset_one_once() {
    static REFUSED: AtomicUsize = AtomicUsize::new(0);
    let server = by_hand(|_, stream, _| {
        REFUSED.fetch_add(1, Ordering::Relaxed);
        stream.refuse();
    })
    .await;
    let client = plain(Plain::Spdy(Version::V3_1));
    let error = send(&client, &server.uri("http", "/"), "")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, FetchError::Spdy(_)) && error.is_retry_safe() && error.is_remote(),
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
        stream.reset(RstStatus::INTERNAL_ERROR);
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
    for (uri, reason) in [
        ("/no-host", InvalidTarget::NotAbsolute),
        ("ftp://localhost/", InvalidTarget::Scheme),
        ("https://host_!/", InvalidTarget::ServerName),
        // Not another port, and no password in the name of a host.
        ("http://localhost:65536/", InvalidTarget::Port),
        ("http://[::1]:65536/", InvalidTarget::Port),
        ("http://user:secret@localhost/", InvalidTarget::UserInfo),
    ] {
        let error = send(&client, uri, "").await.unwrap_err();
        assert!(
            matches!(error, FetchError::Connect(ConnectorError::Target(found)) if found == reason),
            "{error:?}"
        );
        assert!(!error.is_connect() && error.is_retry_safe());
    }

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!(
        "https://localhost:{}/",
        listener.local_addr().unwrap().port()
    );
    // It accepts, and says nothing.
    let error = send(&client, &uri, "").await.unwrap_err();
    assert!(error.is_connect() && error.is_timeout() && error.is_retry_safe());
    let FetchError::Connect(ConnectorError::Transport(error)) = error else {
        panic!("{error:?}")
    };
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    drop(listener);
    let error = send(&client, &uri, "").await.unwrap_err();
    assert!(error.is_connect() && !error.is_timeout() && !error.is_remote());
    assert!(
        matches!(error, FetchError::Connect(ConnectorError::Transport(_))),
        "{error:?}"
    );

    // An untrusted certificate.
    let (server, _) = tls(&["spdy/3.1"]).await;
    let error = send(&client, &server.uri("https", "/"), "")
        .await
        .unwrap_err();
    assert!(
        matches!(error, FetchError::Connect(ConnectorError::Transport(_))),
        "{error:?}"
    );
}
