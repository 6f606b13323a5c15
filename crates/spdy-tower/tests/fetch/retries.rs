//! How often a request reaches a server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use spdy_frame::Version;
use spdy_session::Shutdown;
use spdy_tower::client::{Client, Connector, FetchError, Plain};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinSet,
    time::sleep,
};

use super::{
    acceptor,
    network::{Network, ask, get},
};
use crate::support::{client::ok, in_all_versions};

/// What a server does with a request for `/poison`.
#[derive(Clone, Copy, Debug)]
enum Poison {
    /// It closes the connection.
    Close,
    /// It answers a part of the head, and closes the connection.
    Part,
}

/// Serves HTTP/1.1, and counts the requests for `/poison`.
async fn http1(mut io: DuplexStream, poison: Poison, count: Arc<AtomicUsize>) {
    let mut request = [0; 4096];
    while let Ok(length @ 1..) = io.read(&mut request).await {
        let request = str::from_utf8(&request[..length]).unwrap();
        if request.contains("/poison") {
            count.fetch_add(1, Ordering::Relaxed);
            if let Poison::Part = poison {
                _ = io.write_all(b"HTTP/1.1 2").await;
            }
            return;
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        io.write_all(answer).await.unwrap();
    }
}

/// A client with this number of connections that have served requests, and the connections'
/// reaction to `/poison`.
async fn used(poison: Poison, connections: usize) -> (Client, Arc<AtomicUsize>, Network) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let network = Network::new(Duration::from_millis(1), move |io, _| {
        http1(io, poison, Arc::clone(&counted))
    });
    let client = network.client(Plain::Http1);
    let requests = (0..connections).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { get(&client).await.unwrap() })
    });
    for request in requests.collect::<Vec<_>>() {
        request.await.unwrap();
    }
    assert_eq!(network.open(), connections);
    (client, count, network)
}

#[tokio::test(start_paused = true)]
async fn what_a_server_of_http1_may_have_processed_reaches_it_twice_at_most() {
    for (method, body, poison, used_before, expected) in [
        // Once more, on a new connection, however many rest.
        ("GET", "", Poison::Close, 8, 2),
        ("PUT", "", Poison::Close, 1, 2),
        // A new connection is not closed by chance.
        ("GET", "", Poison::Close, 0, 1),
        // The answer has begun.
        ("GET", "", Poison::Part, 8, 1),
        // It may have been acted on.
        ("POST", "", Poison::Close, 8, 1),
        // A part of the body is gone.
        ("PUT", "body", Poison::Close, 8, 1),
    ] {
        let (client, count, _) = used(poison, used_before).await;
        let poisoned = ask(&client, method, "/poison", body).await;
        assert!(poisoned.is_err());
        let count = count.load(Ordering::Relaxed);
        assert_eq!(count, expected, "{method} {body} {poison:?} {used_before}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_succeeds_when_all_idle_connections_have_been_closed() {
    for method in ["GET", "POST"] {
        let (client, _, network) = used(Poison::Close, 8).await;
        // The server restarts; the client learns of it as it writes.
        let old = network.made();
        network.close_all();
        let response = ask(&client, method, "/", "body").await.unwrap();
        assert_eq!(response.status(), 200, "{method}");
        assert_eq!(network.made(), old + 1, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_sent_again_on_a_new_connection_and_not_on_another_old_one() {
    // Each connection answers one request, and closes at the next.
    let network = Network::new(Duration::from_millis(1), |mut io, _| async move {
        let mut request = [0; 4096];
        _ = io.read(&mut request).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        _ = io.write_all(answer).await;
        _ = io.read(&mut request).await;
    });
    let client = network.client(Plain::Http1);
    for at_once in [3, 1] {
        let mut requests = JoinSet::new();
        for _ in 0..at_once {
            let client = client.clone();
            requests.spawn(async move { get(&client).await.unwrap() });
        }
        assert_eq!(requests.join_all().await, vec!["ok"; at_once]);
    }
    assert_eq!(network.made(), 4);
}

/// A session that answers, but closes the connection at `/poison`, which it counts.
async fn spdy(io: DuplexStream, version: Version, count: Arc<AtomicUsize>) {
    let config = spdy_session::Config::default();
    let (session, mut incoming, driver) = spdy_session::server(io, version, config);
    let mut driver = Box::pin(driver);
    let answers = async {
        while let Some(stream) = incoming.accept().await {
            let path = stream.headers();
            let path = path.get(":path").or_else(|| path.get("url")).unwrap();
            if path == b"/poison" {
                count.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let body = Bytes::from_static(b"ok");
            _ = stream.split().1.send_reply_with(ok(version, &[]), body);
        }
    };
    tokio::select! {
        _ = &mut driver => {}
        () = answers => {}
    }
    session.shutdown(Shutdown::Now);
}

#[tokio::test(start_paused = true)]
async fn what_a_session_may_have_processed_reaches_the_server_twice_at_most() {
    in_all_versions(|version| async move {
        for (method, is_used, expected) in [("GET", true, 2), ("GET", false, 1), ("POST", true, 1)]
        {
            let count = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&count);
            let network = Network::new(Duration::from_millis(1), move |io, _| {
                spdy(io, version, Arc::clone(&counted))
            });
            let client = network.client(Plain::Spdy(version));
            if is_used {
                get(&client).await.unwrap();
            }
            let poisoned = ask(&client, method, "/poison", "").await;
            assert!(poisoned.is_err());
            let count = count.load(Ordering::Relaxed);
            assert_eq!(count, expected, "{version} {method} {is_used}");
            sleep(Duration::from_millis(1)).await;
            assert_eq!(get(&client).await.unwrap(), "ok");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_error_of_http1_tells_whether_something_was_sent() {
    // Each connection is closed before it takes a request.
    let network = Network::new(Duration::from_millis(1), |io, _| async move { drop(io) });
    let client = network.client(Plain::Http1);
    let error = ask(&client, "POST", "/", "body").await.unwrap_err();
    assert!(matches!(error, FetchError::Http(_)), "{error:?}");
    assert!(error.is_retry_safe() && error.is_connect(), "{error:?}");
    assert_eq!(network.made(), 3);

    let (client, count, _) = used(Poison::Close, 1).await;
    let error = ask(&client, "POST", "/poison", "body").await.unwrap_err();
    assert_eq!(count.load(Ordering::Relaxed), 1);
    assert!(!error.is_retry_safe() && !error.is_connect(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_of_http2_tells_that_the_server_has_not_looked_at_the_request() {
    // Each connection takes a request, and its GOAWAY names no stream.
    for (reason, is_safe) in [(0, true), (11, false)] {
        let (acceptor, trust) = acceptor(&["h2"]);
        let network = Network::new(Duration::ZERO, move |io, _| {
            let accepting = acceptor.accept(io);
            async move {
                let mut io = accepting.await.unwrap();
                io.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
                sleep(Duration::from_secs(1)).await;
                let mut go_away = *b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
                go_away[16] = reason;
                io.write_all(&go_away).await.unwrap();
                while let Ok(1..) = io.read(&mut [0; 4096]).await {}
            }
        });
        let client = Client::new(Connector::new(trust).dial(network.clone()));
        let request = Request::post("https://a.test/").body(Full::new(Bytes::new()));
        let error = client.send(request.unwrap()).await.unwrap_err();
        assert!(matches!(error, FetchError::Http(_)), "{error:?}");
        assert_eq!(error.is_retry_safe(), is_safe, "{error:?}");
        assert!(error.is_remote() && !error.is_connect(), "{error:?}");
        assert_eq!(network.made(), if is_safe { 3 } else { 1 });
    }
}
