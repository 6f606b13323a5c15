//! What the reverse proxy answers to requests and responses that are too long, in each protocol.

mod common;

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, HeaderName},
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use spdy_server::{
    Timeouts, Version,
    app::{Proxy, proxy},
};
use spdy_tower::session::{self, HeaderBlock, OpenOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use self::common::server::{LONG, Running, http1, plain};

const MOST: usize = 100_000;

/// An application that reads requests, and sends heads of a length.
fn application() -> Router {
    let head = |bytes: usize| {
        get(async move || {
            let mut fields = HeaderMap::new();
            // No buffer has a line that is as long as a head.
            for number in 0..bytes / 10_000 {
                let name = format!("x-{number}").parse::<HeaderName>().unwrap();
                fields.insert(name, "v".repeat(10_000).parse().unwrap());
            }
            (fields, "long")
        })
    };
    Router::new()
        .route("/length", post(async |body: Bytes| body.len().to_string()))
        .route("/echo", post(async |body: Body| Response::new(body)))
        .route("/head/120000", head(120_000))
        .route("/head/140000", head(140_000))
        .fallback(async || "reached")
}

async fn front(scheme: &str) -> (Running, Running) {
    let application = Running::start(plain(Timeouts::default()), application()).await;
    let upstream = format!("{scheme}://{}", application.address);
    let mut options = Proxy::new(upstream.parse().unwrap());
    options.max_body = Some(MOST as u64);
    let front = Running::start(plain(Timeouts::default()), proxy(options)).await;
    (application, front)
}

/// Sends a request, with a length that is declared or not. Returns the status and the body.
async fn ask(protocol: &str, to: SocketAddr, request: Asked<'_>) -> (u16, String) {
    let answer = async {
        match protocol {
            "spdy/3.1" => over_spdy(to, request).await,
            "h2" => over_http2(to, request).await,
            _ => over_http1(to, request).await,
        }
    };
    timeout(LONG, answer).await.expect("no answer")
}

const PROTOCOLS: [&str; 3] = ["spdy/3.1", "h2", "http/1.1"];

#[derive(Clone, Copy)]
struct Asked<'a> {
    method: &'a str,
    path: &'a str,
    field: &'a str,
    body: usize,
    is_declared: bool,
}

const GET: Asked<'_> = Asked {
    method: "GET",
    path: "/",
    field: "x",
    body: 0,
    is_declared: false,
};

const POST: Asked<'_> = Asked {
    method: "POST",
    path: "/length",
    ..GET
};

async fn over_spdy(to: SocketAddr, asked: Asked<'_>) -> (u16, String) {
    let io = TcpStream::connect(to).await.unwrap();
    let (session, _pushes, driver) = session::client(io, Version::V3_1, session::Config::default());
    tokio::spawn(driver);
    let mut head = HeaderBlock::from_pairs([
        (":method", asked.method),
        (":path", asked.path),
        (":version", "HTTP/1.1"),
        (":host", "a"),
        (":scheme", "http"),
        ("x-field", asked.field),
    ])
    .unwrap();
    if asked.is_declared {
        head.append("content-length", asked.body.to_string())
            .unwrap();
    }
    let how = OpenOptions::new().fin(asked.body == 0);
    let mut stream = session.open(head, how).await.unwrap();
    if asked.body > 0 {
        // The server might stop reading.
        _ = stream.write_all(&vec![7; asked.body]).await;
        _ = stream.shutdown().await;
    }
    let fields = stream.response_headers().await.unwrap();
    let status = str::from_utf8(&fields.get(":status").unwrap()[..3]).unwrap();
    let mut body = String::new();
    _ = stream.read_to_string(&mut body).await;
    (status.parse().unwrap(), body)
}

async fn over_http2(to: SocketAddr, asked: Asked<'_>) -> (u16, String) {
    let io = TokioIo::new(TcpStream::connect(to).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let body = Full::new(Bytes::from(vec![7; asked.body]));
    let body = match asked.is_declared {
        true => body.boxed(),
        false => Undeclared(body).boxed(),
    };
    let request = Request::builder()
        .method(asked.method)
        .uri(format!("http://a{}", asked.path))
        .header("x-field", asked.field)
        .body(body)
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// A body whose length is unknown.
struct Undeclared(Full<Bytes>);

impl http_body::Body for Undeclared {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }
}

async fn over_http1(to: SocketAddr, asked: Asked<'_>) -> (u16, String) {
    let mut io = TcpStream::connect(to).await.unwrap();
    let Asked {
        method,
        path,
        field,
        body,
        ..
    } = asked;
    let (length, body) = match asked.is_declared {
        true => (format!("content-length: {body}"), "7".repeat(body)),
        false => (
            "transfer-encoding: chunked".to_owned(),
            match body {
                0 => "0\r\n\r\n".to_owned(),
                _ => format!("{body:x}\r\n{}\r\n0\r\n\r\n", "7".repeat(body)),
            },
        ),
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: a\r\nx-field: {field}\r\nconnection: close\r\n{length}\r\n\r\n"
    );
    let (mut reads, mut writes) = io.split();
    let mut answer = Vec::new();
    let sending = async {
        _ = writes.write_all(&[head, body].concat().into_bytes()).await;
    };
    let (_, read) = tokio::join!(sending, reads.read_to_end(&mut answer));
    read.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_413_whether_its_length_is_declared_or_not() {
    for scheme in ["http", "h2"] {
        let (_application, front) = front(scheme).await;
        for protocol in PROTOCOLS {
            for is_declared in [true, false] {
                let request = |body| Asked {
                    body,
                    is_declared,
                    ..POST
                };
                let fits = ask(protocol, front.address, request(MOST)).await;
                assert_eq!(fits, (200, MOST.to_string()), "{scheme} {protocol}");
                let (status, page) = ask(protocol, front.address, request(MOST + 1)).await;
                assert_eq!(status, 413, "{scheme} {protocol} {is_declared}");
                assert!(page.contains("is longer than 100000 bytes"), "{page}");
            }
        }
    }
}

#[tokio::test]
async fn the_head_of_a_request_beyond_the_limit_is_431() {
    let (_application, front) = front("http").await;
    for protocol in PROTOCOLS {
        let (fits, long) = ("v".repeat(120_000), "v".repeat(140_000));
        let request = |field| Asked { field, ..GET };
        let (status, body) = ask(protocol, front.address, request(&fits)).await;
        assert_eq!((status, &*body), (200, "reached"), "{protocol}");
        let (status, _) = ask(protocol, front.address, request(&long)).await;
        assert_eq!(status, 431, "{protocol}");
    }
}

/// h2 resets the stream, and does not tell hyper.
#[tokio::test]
async fn a_target_beyond_the_limit_is_414_but_over_http_2() {
    let (_application, front) = front("http").await;
    for protocol in ["spdy/3.1", "http/1.1"] {
        let fits = format!("/{}", "p".repeat(65_000));
        let long = format!("/{}", "p".repeat(70_000));
        let request = |path| Asked { path, ..GET };
        let (status, body) = ask(protocol, front.address, request(&fits)).await;
        assert_eq!((status, &*body), (200, "reached"), "{protocol}");
        let (status, _) = ask(protocol, front.address, request(&long)).await;
        assert_eq!(status, 414, "{protocol}");
    }
}

#[tokio::test]
async fn the_head_of_a_response_beyond_the_limit_is_502() {
    for scheme in ["http", "h2"] {
        let (_application, front) = front(scheme).await;
        let ask = async |path| http1(TcpStream::connect(front.address).await.unwrap(), path).await;
        let answer = ask("/head/120000").await;
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("long"),
            "{scheme}"
        );
        let answer = ask("/head/140000").await;
        assert!(
            answer.starts_with("HTTP/1.1 502 "),
            "{scheme}: {}",
            &answer[..100]
        );
        // The connection of HTTP/2 goes on, and that of HTTP/1.1 gives its place to another.
        assert!(ask("/").await.ends_with("reached"), "{scheme}");
    }
}
