//! Requests that do not switch.

use spdy_server::{Timeouts, Version};
use spdy_tower::session::{self, HeaderBlock, OpenOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    SWITCHED, WEBSOCKET, application, ask, before,
    common::server::{LONG, plain},
    front, head,
};

/// Answers with the head that it has read.
async fn repeat(seen: String, mut io: TcpStream) {
    let length = seen.len();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{seen}");
    io.write_all(answer.as_bytes()).await.unwrap();
}

/// What gets to the application over HTTP/2 in plain text or over TLS passes by the proxy: it would
/// be believed whatever it says of its client.
#[tokio::test]
async fn no_request_switches_to_http_or_tls() {
    let front = before(application(repeat).await).await;
    for lines in [
        "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAA\r\n",
        "connection: upgrade\r\nupgrade: H2C\r\nhttp2-settings: AAMAAABkAAQAoAAA\r\n",
        "connection: upgrade\r\nupgrade: websocket, h2c\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\nupgrade: h2c\r\n",
        "connection: upgrade\r\nupgrade: h2c\r\nupgrade: websocket\r\n",
        "connection: upgrade\r\nupgrade: websocket h2c\r\n",
        "connection: upgrade\r\nupgrade: websocket\th2c\r\n",
        "connection: upgrade\r\nupgrade: HTTP/2.0\r\n",
        "connection: upgrade\r\nupgrade: TLS/1.0\r\n",
        "connection: upgrade, connection\r\nupgrade: h2c\r\n",
        "connection: close, upgrade\r\nconnection: upgrade\r\nupgrade: \th2c \r\n",
        "upgrade: websocket\r\n",
        "connection: keep-alive\r\nupgrade: websocket\r\n",
        "connection: upgrade\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 1\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\ntransfer-encoding: chunked\r\n",
    ] {
        let mut io = TcpStream::connect(front.address).await.unwrap();
        let body = match lines {
            _ if lines.contains("content-length") => "x",
            _ if lines.contains("chunked") => "0\r\n\r\n",
            _ => "",
        };
        let request = format!("POST / HTTP/1.1\r\nhost: a\r\n{lines}\r\n{body}");
        io.write_all(request.as_bytes()).await.unwrap();
        let seen = head(&mut io).await.unwrap();
        assert!(seen.starts_with("HTTP/1.1 200 "), "{lines}: {seen}");
        let passed = head(&mut io).await.unwrap().to_lowercase();
        for absent in ["upgrade", "h2c", "http2-settings", "connection"] {
            assert!(!passed.contains(absent), "{absent} of {lines}: {passed}");
        }
    }
}

#[tokio::test]
async fn an_application_that_switches_to_something_else_is_a_502() {
    for answer in [
        SWITCHED.replace("websocket", "h2c"),
        SWITCHED.replace("upgrade: websocket", "upgrade: websocket, h2c"),
        SWITCHED.replace("upgrade: websocket\r\n", ""),
    ] {
        let address = application(move |_, mut io: TcpStream| {
            let answer = answer.clone();
            async move {
                io.write_all(answer.as_bytes()).await.unwrap();
                _ = io.read(&mut [0]).await;
            }
        })
        .await;
        let front = before(address).await;
        let (_io, seen) = ask(&front, WEBSOCKET).await;
        assert!(seen.starts_with("HTTP/1.1 502 "), "{seen}");
    }
}

#[tokio::test]
async fn an_application_of_http_2_cannot_switch() {
    let front = front("h2://127.0.0.1:1", plain(Timeouts::default()), |_| {}).await;
    let (mut io, seen) = ask(&front, &format!("{WEBSOCKET}connection: close\r\n")).await;
    assert!(seen.starts_with("HTTP/1.1 501 "), "{seen}");
    let mut page = String::new();
    io.read_to_string(&mut page).await.unwrap();
    assert!(page.contains("supports HTTP/2 alone"), "{page}");
}

#[tokio::test]
async fn over_spdy_the_fields_are_dropped_and_the_request_is_an_ordinary_one() {
    let front = before(application(repeat).await).await;
    let io = TcpStream::connect(front.address).await.unwrap();
    let config = session::Config::default();
    let (session, _pushes, driver) = session::client(io, Version::V3_1, config);
    tokio::spawn(driver);
    let fields = [
        (":method", "GET"),
        (":path", "/"),
        (":version", "HTTP/1.1"),
        (":host", "a"),
        (":scheme", "http"),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
    ];
    let how = OpenOptions::new().fin(true);
    let head = HeaderBlock::from_pairs(fields).unwrap();
    let mut stream = session.open(head, how).await.unwrap();
    let answer = stream.response_headers().await.unwrap();
    assert!(answer.get(":status").unwrap().starts_with(b"200"));
    let mut seen = String::new();
    timeout(LONG, stream.read_to_string(&mut seen))
        .await
        .unwrap()
        .unwrap();
    assert!(!seen.contains("upgrade"), "{seen}");
}
