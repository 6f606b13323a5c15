//! The connections of the proxy to its application, over transports in memory and on a paused
//! clock.

mod addresses;
mod connecting;
mod cut;
mod leaving;
mod repeating;
mod seats;
mod silence;
mod uploading;

use std::{
    future::pending,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{Request, Response, StatusCode},
};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use spdy_server::app::{Proxy, proxy};
use spdy_tests::vectored::Vectored;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex},
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tower::ServiceExt;

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(60);

/// Returns a proxy whose connections come out of the channel as soon as the proxy opens them.
fn front(upstream: &str) -> (Proxy, mpsc::UnboundedReceiver<DuplexStream>) {
    let (sender, connections) = mpsc::unbounded_channel();
    let options = Proxy::new(upstream.parse().unwrap()).connector(move || {
        let (near, far) = duplex(65536);
        let accepted = sender.send(far);
        async move {
            accepted.map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(Vectored(near))
        }
    });
    (options, connections)
}

async fn get(app: Router, path: &str) -> Response<Body> {
    let request = Request::get(path).body(Body::empty()).unwrap();
    app.oneshot(request).await.unwrap()
}

async fn status(app: Router, path: &str) -> StatusCode {
    let response = get(app, path).await;
    let status = response.status();
    response.into_body().collect().await.unwrap();
    status
}

/// Reads heads and answers each of them.
async fn answer(mut io: DuplexStream, seen: impl Fn(&str) -> Option<&'static str>) {
    let mut buf = [0; 4096];
    while let Ok(length @ 1..) = io.read(&mut buf).await {
        let Some(answer) = seen(str::from_utf8(&buf[..length]).unwrap()) else {
            return;
        };
        sleep(Duration::from_millis(1)).await;
        if io.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Serves HTTP/2 on a connection.
fn serve(io: DuplexStream, app: Router) {
    let service = hyper_util::service::TowerToHyperService::new(app);
    tokio::spawn(async move {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(io), service)
            .await
    });
}

fn serve_either(upstream: &str, io: DuplexStream, app: Router) {
    if upstream == "h2://a" {
        return serve(io, app);
    }
    let service = hyper_util::service::TowerToHyperService::new(app);
    let builder = hyper::server::conn::http1::Builder::new();
    tokio::spawn(builder.serve_connection(TokioIo::new(io), service));
}

/// Serves HTTP/2 on each connection with this number of places. Returns the number of connections.
fn serve_all(
    mut connections: mpsc::UnboundedReceiver<DuplexStream>,
    places: u32,
    app: Router,
) -> Arc<AtomicUsize> {
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Some(io) = connections.recv().await {
            count.fetch_add(1, Relaxed);
            let service = hyper_util::service::TowerToHyperService::new(app.clone());
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .max_concurrent_streams(places)
                    .serve_connection(TokioIo::new(far_away(io)), service),
            );
        }
    });
    accepted
}

/// Returns the other end of a network on which bytes travel together.
fn far_away(near: DuplexStream) -> DuplexStream {
    async fn travel(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut buf = vec![0; 65536];
        loop {
            sleep(Duration::from_millis(10)).await;
            let Ok(length @ 1..) = from.read(&mut buf).await else {
                return;
            };
            if to.write_all(&buf[..length]).await.is_err() {
                return;
            }
        }
    }
    let (end, far) = duplex(65536);
    let (near, end) = (tokio::io::split(near), tokio::io::split(end));
    tokio::spawn(travel(near.0, end.1));
    tokio::spawn(travel(end.0, near.1));
    far
}

/// A body whose pieces come from a channel.
struct Channel(mpsc::UnboundedReceiver<Bytes>);

impl http_body::Body for Channel {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<io::Result<http_body::Frame<Bytes>>>> {
        let piece = self.0.poll_recv(cx);
        piece.map(|piece| piece.map(|piece| Ok(http_body::Frame::data(piece))))
    }
}

/// An application that reads the whole request and then is silent for this time.
fn reads_all_and_waits(time: Duration) -> Router {
    Router::new().fallback(move |body: Body| async move {
        let bytes = body.collect().await.unwrap().to_bytes();
        sleep(time).await;
        bytes.len().to_string()
    })
}

/// Counts how many of it are alive.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
