//! Requests and responses behind the proxy, byte for byte: the application is a socket, and the
//! server is real.

mod common;

use std::{io::ErrorKind, net::SocketAddr};

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use spdy_server::{
    Timeouts, Version,
    app::{Proxy, proxy},
};
use spdy_tower::session::{self, HeaderBlock, OpenOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tower::ServiceExt;

use self::common::server::{LONG, Running, loopback, plain};

/// Starts an application that reads one request up to `end`, sends `answer` and closes. The channel
/// returns what it has read.
async fn application(
    end: &'static str,
    answer: &'static str,
) -> (Running, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let upstream = format!("http://{}", listener.local_addr().unwrap());
    let (sender, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut io, _) = listener.accept().await.unwrap();
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(end.as_bytes()) {
                    if io.read_buf(&mut request).await.unwrap() == 0 {
                        break;
                    }
                }
                _ = sender.send(String::from_utf8(request).unwrap());
                io.write_all(answer.as_bytes()).await.unwrap();
            });
        }
    });
    let app = proxy(Proxy::new(upstream.parse().unwrap()));
    let front = Running::start(plain(Timeouts::default()), app).await;
    (front, seen)
}

async fn next(seen: &mut mpsc::UnboundedReceiver<String>) -> String {
    let request = timeout(LONG, seen.recv()).await;
    request.expect("no request came").unwrap()
}

/// Sends an HTTP/1.1 request, and returns all bytes of the response.
async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut io = TcpStream::connect(address).await.unwrap();
    io.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(LONG, io.read_to_string(&mut answer))
        .await
        .expect("the answer did not end")
        .unwrap();
    answer
}

async fn begin(address: SocketAddr, method: &str, fin: bool) -> session::Stream {
    let io = TcpStream::connect(address).await.unwrap();
    let (session, _pushes, driver) = session::client(io, Version::V3_1, session::Config::default());
    tokio::spawn(driver);
    let head = HeaderBlock::from_pairs([
        (":method", method),
        (":path", "/"),
        (":version", "HTTP/1.1"),
        (":host", "localhost"),
        (":scheme", "http"),
    ])
    .unwrap();
    let how = OpenOptions::new().fin(fin);
    session.open(head, how).await.unwrap()
}

async fn answered(stream: &mut session::Stream) -> HeaderBlock {
    let fields = timeout(LONG, stream.response_headers()).await;
    fields.expect("there was no answer").unwrap()
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn the_body_of_a_request_reaches_the_application_whatever_the_method() {
    let (front, mut seen) = application("5\r\nhello\r\n0\r\n\r\n", OK).await;
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "POST", "REPORT"] {
        let request = format!(
            "{method} / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
             transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        );
        let answer = exchange(front.address, &request).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{method}: {answer}");
        assert!(next(&mut seen).await.contains("hello"), "{method}");

        let mut stream = begin(front.address, method, false).await;
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        answered(&mut stream).await;
        assert!(next(&mut seen).await.contains("hello"), "{method}");
    }
}

/// Longer than the proxy waits for the frame that shows whether there is a body.
#[tokio::test]
async fn the_late_body_of_a_get_reaches_the_application() {
    let (front, mut seen) = application("5\r\nhello\r\n0\r\n\r\n", OK).await;
    let mut stream = begin(front.address, "GET", false).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    answered(&mut stream).await;
    assert!(next(&mut seen).await.ends_with("5\r\nhello\r\n0\r\n\r\n"));
}

#[tokio::test]
async fn a_get_without_a_body_is_announced_none() {
    let (front, mut seen) = application("\r\n\r\n", OK).await;
    let mut stream = begin(front.address, "GET", true).await;
    answered(&mut stream).await;
    let request = next(&mut seen).await;
    assert!(!request.contains("transfer-encoding"), "{request}");
    assert!(!request.contains("content-length"), "{request}");
}

#[tokio::test]
async fn an_answer_without_a_body_gets_no_length_that_the_application_did_not_give() {
    for (method, answer, length) in [
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            None,
        ),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n", None),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
            Some("7"),
        ),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\n", None),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None),
    ] {
        let (front, _seen) = application("\r\n\r\n", answer).await;
        let request = format!("{method} / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let head = exchange(front.address, &request).await;
        let line = length.map(|length| format!("content-length: {length}\r\n"));
        match line {
            Some(line) => assert!(head.contains(&line), "{method}: {head}"),
            None => assert!(!head.contains("content-length"), "{method}: {head}"),
        }

        let mut stream = begin(front.address, method, true).await;
        let fields = answered(&mut stream).await;
        let given = fields.get("content-length").map(|value| value.to_vec());
        assert_eq!(
            given.as_deref(),
            length.map(str::as_bytes),
            "SPDY: {answer}"
        );

        let io = TcpStream::connect(front.address).await.unwrap();
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io))
            .await
            .unwrap();
        tokio::spawn(connection);
        let request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri("http://localhost/")
            .body(Empty::<Bytes>::new())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let given = response.headers().get("content-length");
        assert_eq!(
            given.map(|value| value.to_str().unwrap()),
            length,
            "HTTP/2: {answer}"
        );
    }
}

#[tokio::test]
async fn a_field_with_underscores_does_not_pass_for_one_of_the_proxy() {
    let (front, mut seen) = application("\r\n\r\n", OK).await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx_forwarded_for: 192.0.2.1\r\n\
                   x-real-ip: 192.0.2.1\r\nx_mine: 1\r\n\r\n";
    exchange(front.address, request).await;
    let request = next(&mut seen).await;
    assert!(!request.contains("192.0.2.1"), "{request}");
    assert!(request.contains("x_mine: 1\r\n"), "{request}");
}

/// Closing would take a port of the proxy for a minute, and a client can ask and leave often.
#[tokio::test]
async fn the_connection_of_a_request_that_is_given_up_is_reset_and_no_other() {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let upstream = format!("http://{}", listener.local_addr().unwrap());
    let app = proxy(Proxy::new(upstream.parse().unwrap()));
    let closing = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    for (answer, is_reset) in [("", true), (&OK[..OK.len() - 1], true), (closing, false)] {
        let asking = tokio::spawn(app.clone().oneshot(Request::new(Body::empty())));
        let (mut io, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        assert!(
            io.read(&mut request).await.unwrap() > 0,
            "there is a request"
        );
        io.write_all(answer.as_bytes()).await.unwrap();
        if answer.is_empty() {
            asking.abort();
        } else {
            let mut body = asking.await.unwrap().unwrap().into_body();
            while !is_reset && body.frame().await.is_some() {}
        }
        let end = timeout(LONG, io.read(&mut request)).await.unwrap();
        let end = end.map_err(|error| error.kind());
        let reset = Err(ErrorKind::ConnectionReset);
        assert_eq!(end, if is_reset { reset } else { Ok(0) }, "{answer:?}");
    }
}
