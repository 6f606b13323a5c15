//! Requests that get no URL, and URLs that do not work.

use http::{Method, StatusCode};
use spdy_kube::{
    InvalidPorts, Status, TokenError,
    client::{ClientError, Transport},
    cri::{Attach, Exec, InvalidBase, PrepareError, Server},
};
use spdy_tower::upgrade::ConnectError;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{ALL, Bench, Duration, Fake, OUT, SOON, Streams, bench, exec, ports};

#[tokio::test(start_paused = true)]
async fn what_cri_forbids_gets_no_url() {
    let server = bench(|server| server).server;
    let tty = |streams| Streams {
        tty: true,
        ..streams
    };
    let refused = |request: Exec| server.prepare_exec(request).unwrap_err();
    let cat = |streams| exec(&["cat"], streams);
    assert_eq!(refused(cat(tty(ALL))), PrepareError::TtyWithStderr);
    assert_eq!(refused(cat(Streams::default())), PrepareError::NoStreams);
    assert_eq!(refused(exec(&[], OUT)), PrepareError::NoCommand);
    assert_eq!(refused(exec(&[""], OUT)), PrepareError::NoCommand);
    let nameless = Exec {
        container: String::new(),
        ..cat(OUT)
    };
    assert_eq!(refused(nameless), PrepareError::NoContainer);
    assert!(server.prepare_exec(cat(tty(OUT))).is_ok());

    let refused = |container: &str, streams| {
        let container = container.to_owned();
        let attach = Attach { container, streams };
        server.prepare_attach(attach).unwrap_err()
    };
    assert_eq!(refused("", OUT), PrepareError::NoContainer);
    assert_eq!(refused("c", tty(ALL)), PrepareError::TtyWithStderr);
    assert_eq!(refused("c", Streams::default()), PrepareError::NoStreams);
    assert_eq!(PrepareError::NoStreams.grpc_code(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_port_gets_no_url() {
    let server = bench(|server| server).server;
    for (wrong, name) in [(0, "0"), (-1, "-1"), (65_536, "65536")] {
        let error = server
            .prepare_port_forward(ports(&[80, wrong]))
            .unwrap_err();
        let expected = InvalidPorts::NotAPort(name.to_owned());
        assert_eq!(error, PrepareError::Ports(expected));
    }
    let many = server.prepare_port_forward(ports(&[80; 33])).unwrap_err();
    assert_eq!(many, PrepareError::Ports(InvalidPorts::TooMany));
    let mut nameless = ports(&[80]);
    nameless.sandbox.clear();
    let error = server.prepare_port_forward(nameless).unwrap_err();
    assert_eq!(error, PrepareError::NoSandbox);
}

#[tokio::test(start_paused = true)]
async fn too_many_urls_do_not_wait() {
    let server = bench(|server| server.waiting(Duration::from_secs(60), 2)).server;
    let prepare = || server.prepare_exec(exec(&["cat"], OUT));
    assert!(prepare().is_ok() && prepare().is_ok());
    let error = prepare().unwrap_err();
    assert_eq!(error, PrepareError::Token(TokenError::TooMany));
    assert_eq!(error.grpc_code(), 8);
}

#[tokio::test(start_paused = true)]
async fn each_of_many_urls_works_once() {
    let bench = bench(|server| server.waiting(Duration::from_secs(3600), 2000));
    let prepare = || bench.server.prepare_exec(exec(&["cat"], OUT));
    let urls: Vec<_> = (0..2000).map(|_| prepare().unwrap()).collect();
    assert!(prepare().is_err());
    let status = |url: &String| {
        let mut request = http::Request::new(());
        *request.uri_mut() = url.parse().unwrap();
        bench.server.answer(&mut request).status()
    };
    for url in urls.iter().rev() {
        // It does not ask for an upgrade.
        assert_eq!(status(url), StatusCode::BAD_REQUEST);
        assert_eq!(status(url), StatusCode::NOT_FOUND);
    }
    assert!(prepare().is_ok());
}

#[test]
fn a_base_is_an_absolute_url() {
    let server = |base: &str| {
        let (dropped, _) = mpsc::unbounded_channel();
        Server::new(Fake { dropped }, base)
    };
    for wrong in [
        "",
        "node:1",
        "/x",
        "ftp://node",
        "http://node?a=b",
        "http://a/#b",
        "http://",
        "http:///x",
        "http://:80",
        "http://node:x",
        "http://node:65536",
        "http://no de",
    ] {
        assert_eq!(server(wrong).err(), Some(InvalidBase), "{wrong}");
    }
    for (base, start) in [
        ("http://node:1", "http://node:1/exec/"),
        ("https://node/", "https://node/exec/"),
        ("https://[::1]:9/cri/", "https://[::1]:9/cri/exec/"),
    ] {
        let url = server(base).unwrap().prepare_exec(exec(&["cat"], OUT));
        let url = url.unwrap();
        assert!(
            url.starts_with(start) && url.len() == start.len() + 8,
            "{url}"
        );
    }
}

/// Returns the status of the refusal of a URL.
async fn refused(bench: &Bench, url: &str) -> StatusCode {
    match bench.ask(Transport::Spdy, url, OUT).await {
        Err(ClientError::Connect(ConnectError::Refused(response))) => response.status(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_url_that_is_unknown_or_used_is_not_found() {
    let mut bench = bench(|server| server);
    for path in [
        "exec/AAAAAAAA",
        "exec/",
        "exec",
        "",
        "Exec/AAAAAAAA",
        "exec/AAAAAAAA/",
    ] {
        let status = refused(&bench, &format!("http://node/{path}")).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
    let url = bench.server.prepare_exec(exec(&["cat"], OUT)).unwrap();
    let remote = bench.ask(Transport::Spdy, &url, OUT).await.unwrap();
    assert_eq!(refused(&bench, &url).await, StatusCode::NOT_FOUND);
    drop(remote);
    bench.ended().await;

    // A URL for something else.
    let url = bench.server.prepare_exec(exec(&["cat"], OUT)).unwrap();
    let other = url.replace("/exec/", "/attach/");
    assert_eq!(refused(&bench, &other).await, StatusCode::NOT_FOUND);
    bench.is_silent().await;
}

/// The clock of tokens is that of the machine.
#[tokio::test(start_paused = true)]
async fn a_url_that_has_expired_is_not_found() {
    let bench = bench(|server| server.waiting(Duration::ZERO, 10));
    let url = bench.server.prepare_exec(exec(&["cat"], OUT)).unwrap();
    assert_eq!(refused(&bench, &url).await, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn another_method_does_not_use_a_url_up() {
    let bench = bench(|server| server);
    let url = bench.server.prepare_exec(exec(&["cat"], OUT)).unwrap();
    let mut request = http::Request::new(());
    *request.method_mut() = Method::HEAD;
    *request.uri_mut() = url.parse().unwrap();
    let response = bench.server.answer(&mut request);
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(response.headers()["allow"], "GET, POST");
    assert!(bench.ask(Transport::Spdy, &url, OUT).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_upgrade_is_no_session() {
    let mut bench = bench(|server| server);
    let url = bench.server.prepare_exec(exec(&["cat"], OUT)).unwrap();
    let mut request = http::Request::new(());
    *request.uri_mut() = url.parse().unwrap();
    let response = bench.server.answer(&mut request);
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    bench.is_silent().await;
}

/// What hyper refuses before this server sees it has a Status too, and the client gets it although
/// it has sent more than is read.
#[tokio::test(start_paused = true)]
async fn a_head_that_is_too_long_is_refused_with_a_status() {
    let bench = bench(|server| server);
    for (length, code) in [(66_000, "414 "), (600_000, "431 ")] {
        let mut client = bench.connect();
        let target = "a".repeat(length);
        let request = format!("GET /exec/{target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(SOON, client.read_to_string(&mut answer))
            .await
            .expect("the server closes")
            .unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{answer}");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let status = Status::from_json(body.as_bytes()).unwrap();
        assert!(status.to_string().contains("65534 bytes"), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_request_is_closed() {
    let mut client = bench(|server| server).connect();
    let start = Instant::now();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(start.elapsed().as_secs(), 30);
}
