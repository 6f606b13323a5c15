//! HTTP/1.1 alone: the host field, and the end of a connection whose client is still sending.

mod common;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::StatusCode,
    routing::{any, get, post},
};
use bytes::Bytes;
use http_body::Frame;
use spdy_server::Timeouts;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::{sleep, timeout},
};

use self::common::server::{LONG, Running, plain};

async fn server() -> Running {
    let app = Router::new()
        .route(
            "/refuses",
            post(async |_: Body| (StatusCode::PAYLOAD_TOO_LARGE, "no")),
        )
        .fallback(any(async || "served"));
    Running::start(plain(Timeouts::default()), app).await
}

/// Sends a request and returns all bytes until the server ends the connection, which must be
/// without an error.
async fn answer(server: &Running, request: &str) -> String {
    let mut io = TcpStream::connect(server.address).await.unwrap();
    io.write_all(request.as_bytes()).await.unwrap();
    rest(&mut io).await
}

async fn rest(io: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let end = timeout(LONG, io.read_to_end(&mut answer)).await;
    end.expect("the connection is not closed")
        .expect("the connection is reset");
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_request_of_http_1_1_names_one_valid_host() {
    let server = server().await;
    for (host, is_valid) in [
        ("Host: ex.com\r\n", true),
        ("Host: ex.com:65535\r\n", true),
        ("Host: [::1]:8080\r\n", true),
        ("", false),
        ("Host: \r\n", false),
        ("Host: ex.com:99999\r\n", false),
        ("Host: ex.com:8o\r\n", false),
        ("Host: [::1\r\n", false),
        ("Host: %41\r\n", false),
        ("Host: a@b\r\n", false),
        ("Host: a\r\nHost: a\r\n", false),
    ] {
        let request = format!("GET / HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        let answer = answer(&server, &request).await;
        let status = if is_valid { "200" } else { "400" };
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{host:?}: {answer}");
    }
    // HTTP/1.0 has no host field.
    let answer = answer(&server, "GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    _ = server.end().await;
}

/// The start of the second request arrives together with the first one.
#[tokio::test]
async fn an_answer_reaches_a_client_that_sends_a_body_behind_another_request() {
    let server = server().await;
    let mut io = TcpStream::connect(server.address).await.unwrap();
    let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\n\
                    POST /refuses HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\
                    Expect: 100-continue\r\n\r\n";
    io.write_all(requests.as_bytes()).await.unwrap();
    let mut answers = Vec::new();
    while !String::from_utf8_lossy(&answers).contains("HTTP/1.1 413") {
        let read = timeout(LONG, io.read_buf(&mut answers)).await;
        assert_ne!(read.expect("there is no answer").unwrap(), 0);
    }
    // This is enough time for a server that does not linger to close the socket.
    sleep(Duration::from_millis(100)).await;
    for _ in 0..40 {
        io.write_all(&[b'x'; 10_000])
            .await
            .expect("the body is read");
        sleep(Duration::from_millis(1)).await;
    }
    _ = server.end().await;
}

/// A client waits some time for 100, and then sends its body although a response might have come.
#[tokio::test]
async fn an_answer_reaches_a_client_that_sends_the_body_it_has_announced() {
    let server = server().await;
    let mut io = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /refuses HTTP/1.1\r\nHost: a\r\nContent-Length: 400000\r\n\
                Expect: 100-continue\r\n\r\n";
    io.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    let read = timeout(LONG, io.read_exact(&mut first)).await;
    read.expect("there is no answer").unwrap();
    assert_eq!(&first, b"HTTP/1.1 413");
    // This is enough time for a server that does not linger to close the socket.
    sleep(Duration::from_millis(100)).await;
    for _ in 0..40 {
        io.write_all(&[b'x'; 10_000])
            .await
            .expect("the body is read");
        sleep(Duration::from_millis(1)).await;
    }
    io.shutdown().await.unwrap();
    let rest = rest(&mut io).await;
    assert!(rest.ends_with("\r\n\r\nno"), "{rest}");
    _ = server.end().await;
}

/// A body that sends a piece, waits, and then ends or fails.
struct Pieces(mpsc::Receiver<io::Result<Frame<Bytes>>>);

impl Pieces {
    fn of(is_whole: bool) -> Body {
        let (tell, told) = mpsc::channel(1);
        tokio::spawn(async move {
            let piece = Frame::data(Bytes::from_static(b"a part"));
            tell.send(Ok(piece)).await.unwrap();
            sleep(Duration::from_millis(200)).await;
            if !is_whole {
                tell.send(Err(io::Error::other("it broke off")))
                    .await
                    .unwrap();
            }
        });
        Body::new(Self(told))
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx)
    }
}

/// A body that has this number of pieces and an error, all of them at once.
struct Burst(usize);

const PIECE: &[u8] = &[b'x'; 1024];

impl http_body::Body for Burst {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(rest) = self.0.checked_sub(1) else {
            return Poll::Ready(Some(Err(io::Error::other("it broke off"))));
        };
        self.0 = rest;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(PIECE)))))
    }
}

#[tokio::test]
async fn what_a_response_to_http_1_0_has_before_it_breaks_off_reaches_the_client() {
    for pieces in [0, 1, 100, 1000] {
        let app = Router::new().fallback(async move || Body::new(Burst(pieces)));
        let server = Running::start(plain(Timeouts::default()), app).await;
        let mut io = TcpStream::connect(server.address).await.unwrap();
        io.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let end = timeout(LONG, io.read_to_end(&mut answer)).await;
        let error = end.expect("the connection is not closed").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{pieces}");
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let head = head.expect("there is no head") + 4;
        assert_eq!(answer.len() - head, pieces * PIECE.len());
        _ = server.end().await;
    }
}

/// A body without a length that is at its end. Behind it hyper keeps the connection.
struct Ended;

impl http_body::Body for Ended {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}

/// Its chunks end it, whatever the request before was.
#[tokio::test]
async fn a_response_that_breaks_off_behind_one_to_http_1_0_does_not_look_whole() {
    let app = Router::new()
        .route("/ended", get(async || Body::new(Ended)))
        .fallback(async || Pieces::of(false));
    let server = Running::start(plain(Timeouts::default()), app).await;
    let mut io = TcpStream::connect(server.address).await.unwrap();
    let mut answer = Vec::new();
    io.write_all(b"GET /ended HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        .await
        .unwrap();
    while !answer.ends_with(b"\r\n\r\n") {
        let read = timeout(LONG, io.read_buf(&mut answer)).await;
        let read = read.expect("there is no head").unwrap();
        assert_ne!(read, 0, "the connection is not kept");
    }
    answer.clear();
    io.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let end = timeout(LONG, io.read_to_end(&mut answer)).await;
    _ = end.expect("the connection is not closed");
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("transfer-encoding: chunked"), "{answer}");
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
    _ = server.end().await;
}

/// Only the close of its connection ends such a response.
#[tokio::test]
async fn a_response_to_http_1_0_that_breaks_off_does_not_look_whole() {
    let app = Router::new()
        .route("/whole", get(async || Pieces::of(true)))
        .route("/cut", get(async || Pieces::of(false)));
    let server = Running::start(plain(Timeouts::default()), app).await;
    for (path, expected) in [
        ("/whole", Ok(())),
        ("/cut", Err(io::ErrorKind::ConnectionReset)),
    ] {
        let mut io = TcpStream::connect(server.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        io.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let end = timeout(LONG, io.read_to_end(&mut answer)).await;
        let end = end.expect("the connection is not closed");
        assert!(answer.ends_with(b"\r\n\r\na part"), "{path}");
        assert_eq!(
            end.map(|_| ()).map_err(|error| error.kind()),
            expected,
            "{path}"
        );
    }
    _ = server.end().await;
}
