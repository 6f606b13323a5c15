//! HTTP/2 connections, over transports in memory and on a paused clock.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, body::Body, http::HeaderMap};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use spdy_server::auto;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, split},
    time::{Instant, Sleep, sleep, timeout},
};

/// How long a byte travels from one end to the other.
const WAY: Duration = Duration::from_millis(10);

/// Returns the two ends of a network on which bytes travel for some time.
fn network() -> (DuplexStream, DuplexStream) {
    async fn travel(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut buf = vec![0; 65536];
        loop {
            sleep(WAY).await;
            let Ok(length @ 1..) = from.read(&mut buf).await else {
                return;
            };
            if to.write_all(&buf[..length]).await.is_err() {
                return;
            }
        }
    }
    let (client, near) = duplex(65536);
    let (far, server) = duplex(65536);
    let (near, far) = (split(near), split(far));
    tokio::spawn(travel(near.0, far.1));
    tokio::spawn(travel(far.0, near.1));
    (client, server)
}

/// Returns a client of a server with this application.
async fn connect(app: Router) -> SendRequest<Upload> {
    let (client, server) = network();
    tokio::spawn(auto::Builder::new().serve_connection(server, app));
    let (requests, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(client))
        .await
        .unwrap();
    tokio::spawn(connection);
    requests
}

/// The body of a request: nothing, then trailers at some time if there are any.
struct Upload(Option<Pin<Box<Sleep>>>);

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(time) = &mut self.0 else {
            return Poll::Ready(None);
        };
        ready!(time.as_mut().poll(cx));
        self.0 = None;
        let trailers = HeaderMap::from_iter([("x-end".parse().unwrap(), "1".parse().unwrap())]);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

fn request(path: &str, trailers: Option<Duration>) -> Request<Upload> {
    let body = Upload(trailers.map(|after| Box::pin(sleep(after))));
    Request::get(format!("http://a{path}")).body(body).unwrap()
}

/// The body of a response, which fails after a first piece.
struct Fails(bool);

impl http_body::Body for Fails {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        let is_first = std::mem::replace(&mut self.0, false);
        let piece = Frame::data(Bytes::from_static(b"begin"));
        Poll::Ready(Some(is_first.then_some(piece).ok_or("the disk is on fire")))
    }
}

/// An application with a response that fails, and one that takes some time.
fn application() -> Router {
    let fails = || async { Body::new(Fails(true)) };
    Router::new()
        .route("/fails", axum::routing::get(fails))
        .fallback(async || {
            sleep(10 * WAY).await;
            "ok"
        })
}

/// Asks, and returns whether the response was whole and in time.
async fn is_whole(mut requests: SendRequest<Upload>, request: Request<Upload>) -> bool {
    let answer = async {
        let Ok(response) = requests.send_request(request).await else {
            return false;
        };
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().collect().await.is_ok()
    };
    timeout(Duration::from_secs(10), answer)
        .await
        .unwrap_or(false)
}

#[tokio::test(start_paused = true)]
async fn trailers_that_meet_the_failure_of_their_response_cost_other_requests_nothing() {
    let requests = connect(application()).await;
    // It is known that the server allows many requests.
    assert!(is_whole(requests.clone(), request("/", None)).await);
    let other = tokio::spawn(is_whole(requests.clone(), request("/", None)));
    // h2 remembers 50 streams that were reset.
    let failing: Vec<_> = (0..80)
        .map(|_| request("/fails", Some(WAY / 2)))
        .map(|request| tokio::spawn(is_whole(requests.clone(), request)))
        .collect();
    for request in failing {
        assert!(!request.await.unwrap());
    }
    assert!(other.await.unwrap(), "the connection has ended");
    assert!(is_whole(requests, request("/", None)).await);
}

#[tokio::test(start_paused = true)]
async fn a_failure_waits_a_second_at_most_for_the_end_of_the_request() {
    let requests = connect(application()).await;
    let begun = Instant::now();
    let slow = request("/fails", Some(Duration::from_secs(60)));
    assert!(!is_whole(requests, slow).await);
    let after = begun.elapsed().as_millis();
    assert!((1_000..1_100).contains(&after), "{after} ms");
}

/// A client that wants nothing more than `GET /`, in bytes.
const ONE_REQUEST: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \x00\x00\x00\x04\x00\x00\x00\x00\x00\
    \x00\x00\x06\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x01a\
    \x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";

/// Credit for the whole connection.
const WINDOW_UPDATE: &[u8] = b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x10\x00";

/// A socket that is closed answers the credit of a client that still reads with a TCP reset, which
/// can destroy the rest of the response.
#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_waits_for_a_client_that_still_reads() {
    for (credits, seconds) in [(0, 5), (3, 4 * 3 + 5), (100, 30)] {
        let (client, server) = duplex(1 << 20);
        let (mut read, mut write) = split(client);
        let app = Router::new().fallback(|| async { vec![7; 50_000] });
        let serving = tokio::spawn(auto::Builder::new().serve_connection(server, app));
        write.write_all(ONE_REQUEST).await.unwrap();
        let start = Instant::now();
        tokio::spawn(async move {
            for _ in 0..credits {
                sleep(Duration::from_secs(4)).await;
                // After so long the server may have closed.
                let _ = write.write_all(WINDOW_UPDATE).await;
            }
        });
        serving.await.unwrap().unwrap();
        assert_eq!(start.elapsed().as_secs(), seconds, "{credits} credits");
        let mut response = Vec::new();
        read.read_to_end(&mut response).await.unwrap();
        assert!(response.len() > 50_000, "{}", response.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_does_not_wait_for_a_client_that_has_closed() {
    let (mut client, server) = duplex(1 << 20);
    let app = Router::new().fallback(|| async { vec![7; 50_000] });
    let serving = tokio::spawn(auto::Builder::new().serve_connection(server, app));
    client.write_all(ONE_REQUEST).await.unwrap();
    let start = Instant::now();
    client.shutdown().await.unwrap();
    serving.await.unwrap().unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// As browsers do, the client sends each cookie in a field of its own.
#[tokio::test(start_paused = true)]
async fn cookies_are_one_field_for_the_application() {
    let cookies = async |fields: HeaderMap| {
        let all = fields.get_all("cookie").iter();
        let all: Vec<_> = all.map(|one| one.to_str().unwrap()).collect();
        all.join(" | ")
    };
    let mut requests = connect(Router::new().fallback(cookies)).await;
    let mut request = request("/", None);
    for cookie in ["a=1", "b=2", "c=3"] {
        request
            .headers_mut()
            .append("cookie", cookie.parse().unwrap());
    }
    let response = requests.send_request(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "a=1; b=2; c=3");
}
