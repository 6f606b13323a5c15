//! The connections of the proxy to its application, over transports in memory and on a paused
//! clock.

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
            Ok(near)
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

#[tokio::test(start_paused = true)]
async fn connect_timeouts_do_not_add_up() {
    for upstream in ["http://a", "h2://a"] {
        let dials = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&dials);
        let mut options = Proxy::new(upstream.parse().unwrap()).connector(move || {
            count.fetch_add(1, Relaxed);
            pending::<io::Result<DuplexStream>>()
        });
        options.max_connections = 12;
        let app = proxy(options);
        let mut tasks = Vec::new();
        for _ in 0..12 {
            let app = app.clone();
            tasks.push(tokio::spawn(async move {
                let start = Instant::now();
                (status(app, "/").await, start.elapsed())
            }));
            sleep(Duration::from_millis(100)).await;
        }
        for task in tasks {
            let (status, after) = task.await.unwrap();
            assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "{upstream}");
            assert_eq!(after.as_secs(), CONNECT.as_secs(), "{upstream}");
        }
        let wanted = if upstream == "http://a" { 12 } else { 2 };
        assert_eq!(dials.load(Relaxed), wanted, "{upstream}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_a_place_and_for_the_connection_are_one() {
    let mut options =
        Proxy::new("http://a".parse().unwrap()).connector(pending::<io::Result<DuplexStream>>);
    options.max_connections = 1;
    let app = proxy(options);
    let first = tokio::spawn(status(app.clone(), "/"));
    sleep(CONNECT / 2).await;
    let start = Instant::now();
    assert_eq!(status(app, "/").await, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(start.elapsed(), CONNECT);
    first.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_poison_request_is_sent_once_more_at_most() {
    for (method, wanted) in [("GET", 2), ("PUT", 2), ("POST", 1)] {
        let (options, mut connections) = front("http://a");
        let app = proxy(options);
        let poisoned = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&poisoned);
        tokio::spawn(async move {
            while let Some(io) = connections.recv().await {
                let count = Arc::clone(&count);
                tokio::spawn(answer(io, move |head| {
                    if head.contains("/poison") {
                        count.fetch_add(1, Relaxed);
                        return None;
                    }
                    Some(OK)
                }));
            }
        });
        let all: Vec<_> = (0..40)
            .map(|_| tokio::spawn(status(app.clone(), "/")))
            .collect();
        for one in all {
            assert_eq!(one.await.unwrap(), StatusCode::OK);
        }
        let body = if method == "GET" { "" } else { "x" };
        let request = Request::builder().method(method).uri("/poison");
        let response = app.oneshot(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(response.unwrap().status(), StatusCode::BAD_GATEWAY);
        assert_eq!(poisoned.load(Relaxed), wanted, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_answer_has_begun_is_not_sent_again() {
    let (options, mut connections) = front("http://a");
    let app = proxy(options);
    let first = tokio::spawn(status(app.clone(), "/"));
    let mut io = connections.recv().await.unwrap();
    _ = io.read(&mut [0; 4096]).await.unwrap();
    io.write_all(OK.as_bytes()).await.unwrap();
    assert_eq!(first.await.unwrap(), StatusCode::OK);

    let second = tokio::spawn(status(app, "/"));
    assert_ne!(io.read(&mut [0; 4096]).await.unwrap(), 0);
    io.write_all(b"HTTP/1.1 2").await.unwrap();
    drop(io);
    assert_eq!(second.await.unwrap(), StatusCode::BAD_GATEWAY);
    assert!(connections.try_recv().is_err(), "it was sent again");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_an_http_2_application_has_not_looked_at_is_sent_again() {
    let (options, mut connections) = front("h2://a");
    let app = proxy(options);
    let request = tokio::spawn(status(app, "/"));
    let mut io = connections.recv().await.unwrap();
    _ = io.read(&mut [0; 4096]).await.unwrap();
    drop(io);
    let ok = Router::new().fallback(async || "ok");
    serve(connections.recv().await.unwrap(), ok);
    assert_eq!(request.await.unwrap(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_rests_is_closed_in_time() {
    for upstream in ["http://a", "h2://a"] {
        let (options, mut connections) = front(upstream);
        let app = proxy(options);
        for _ in 0..2 {
            let request = tokio::spawn(status(app.clone(), "/"));
            let io = connections.recv().await.unwrap();
            let (closed, mut when) = mpsc::unbounded_channel();
            if upstream == "http://a" {
                tokio::spawn(async move {
                    answer(io, |_| Some(OK)).await;
                    _ = closed.send(Instant::now());
                });
            } else {
                let app = Router::new().fallback(async || "ok");
                let service = hyper_util::service::TowerToHyperService::new(app);
                tokio::spawn(async move {
                    _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(io), service)
                        .await;
                    _ = closed.send(Instant::now());
                });
            }
            assert_eq!(request.await.unwrap(), StatusCode::OK, "{upstream}");
            let start = Instant::now();
            let end = timeout(Duration::from_secs(100), when.recv()).await;
            let rest = end.expect("the connection stays open").unwrap() - start;
            assert!(rest.as_secs().abs_diff(30) <= 1, "{upstream}: {rest:?}");
        }
    }
}

/// A body that yields this many pieces and then stays silent.
struct Pieces(u32);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<io::Result<http_body::Frame<Bytes>>>> {
        if self.0 == 0 {
            return std::task::Poll::Pending;
        }
        self.0 -= 1;
        let piece = Bytes::from_static(&[7; 65536]);
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(piece))))
    }
}

#[tokio::test(start_paused = true)]
async fn an_application_that_falls_silent_in_an_answer_is_noticed_in_time() {
    for upstream in ["http://a", "h2://a"] {
        let (options, mut connections) = front(upstream);
        let app = proxy(options);
        let answer = tokio::spawn(async move { get(app, "/").await });
        let application = Router::new().fallback(async || Body::new(Pieces(1)));
        let io = connections.recv().await.unwrap();
        if upstream == "h2://a" {
            serve(io, application);
        } else {
            let service = hyper_util::service::TowerToHyperService::new(application);
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(io), service),
            );
        }
        let mut body = answer.await.unwrap().into_body();
        let mut begin = 0;
        while begin < 65536 {
            begin += body
                .frame()
                .await
                .unwrap()
                .unwrap()
                .into_data()
                .unwrap()
                .len();
        }
        // The client waits before it reads more. That time does not count for the application.
        sleep(ANSWER * 3).await;
        let start = Instant::now();
        let end = timeout(ANSWER * 3, body.frame()).await;
        assert!(end.expect("it is waited for").unwrap().is_err());
        assert_eq!(start.elapsed().as_secs(), ANSWER.as_secs(), "{upstream}");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_clients_cost_nobody_an_answer() {
    for upstream in ["http://a", "h2://a"] {
        let (options, mut connections) = front(upstream);
        let app = proxy(options);
        tokio::spawn(async move {
            let application = Router::new()
                .route(
                    "/large",
                    axum::routing::get(async || Body::from(vec![7; 1 << 20])),
                )
                .fallback(async || "ok");
            while let Some(io) = connections.recv().await {
                if upstream == "h2://a" {
                    serve(io, application.clone());
                    continue;
                }
                let service = hyper_util::service::TowerToHyperService::new(application.clone());
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(io), service),
                );
            }
        });
        let mut slow = Vec::new();
        for _ in 0..50 {
            slow.push(get(app.clone(), "/large").await.into_body());
        }
        sleep(ANSWER * 2).await;
        let quick = timeout(Duration::from_secs(1), status(app, "/")).await;
        assert_eq!(quick.expect("it waits for the slow ones"), StatusCode::OK);
        for body in slow {
            let whole = body.collect().await.expect("the answer was cut").to_bytes();
            assert_eq!(whole.len(), 1 << 20, "{upstream}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_keeps_its_place_only_while_the_request_moves() {
    let (mut options, mut connections) = front("http://a");
    options.max_connections = 1;
    let app = proxy(options);
    let (upload, body) = mpsc::unbounded_channel();
    let request = Request::post("/").body(Body::new(Channel(body))).unwrap();
    let early = tokio::spawn(app.clone().oneshot(request));
    upload.send(Bytes::from_static(b"hello")).unwrap();
    let mut io = connections.recv().await.unwrap();
    _ = io.read(&mut [0; 4096]).await.unwrap();
    io.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")
        .await
        .unwrap();
    let response = early.await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    response.into_body().collect().await.unwrap();

    // The application continues to read, so the client can continue to send.
    for _ in 0..10 {
        sleep(Duration::from_secs(2)).await;
        upload.send(Bytes::from_static(b"more")).unwrap();
        assert_ne!(io.read(&mut [0; 4096]).await.unwrap(), 0);
    }
    let start = Instant::now();
    let next = tokio::spawn(status(app, "/"));
    tokio::spawn(async move { while let Ok(1..) = io.read(&mut [0; 4096]).await {} });
    tokio::spawn(answer(connections.recv().await.unwrap(), |_| Some(OK)));
    assert_eq!(next.await.unwrap(), StatusCode::OK);
    assert_eq!(start.elapsed().as_secs(), 3);
}

/// An application that reads the whole request and then is silent for this time.
fn reads_all_and_waits(time: Duration) -> Router {
    Router::new().fallback(move |body: Body| async move {
        let bytes = body.collect().await.unwrap().to_bytes();
        sleep(time).await;
        bytes.len().to_string()
    })
}

fn serve_either(upstream: &str, io: DuplexStream, app: Router) {
    if upstream == "h2://a" {
        return serve(io, app);
    }
    let service = hyper_util::service::TowerToHyperService::new(app);
    let builder = hyper::server::conn::http1::Builder::new();
    tokio::spawn(builder.serve_connection(TokioIo::new(io), service));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pauses_its_upload_is_no_silence_of_the_application() {
    for upstream in ["http://a", "h2://a"] {
        for (quiet, expected) in [
            (ANSWER * 9 / 10, StatusCode::OK),
            (ANSWER * 2, StatusCode::GATEWAY_TIMEOUT),
        ] {
            let (options, mut connections) = front(upstream);
            let (upload, body) = mpsc::unbounded_channel();
            let request = Request::post("/").body(Body::new(Channel(body))).unwrap();
            let answer = tokio::spawn(proxy(options).oneshot(request));
            let io = connections.recv().await.unwrap();
            serve_either(upstream, io, reads_all_and_waits(quiet));
            for _ in 0..2 {
                upload.send(Bytes::from_static(b"more")).unwrap();
                sleep(ANSWER * 5 / 2).await;
            }
            drop(upload);
            let start = Instant::now();
            let status = answer.await.unwrap().unwrap().status();
            assert_eq!(status, expected, "{upstream}");
            // The time of the application begins with the end of the request.
            let most = quiet.min(ANSWER);
            assert_eq!(start.elapsed().as_secs(), most.as_secs(), "{upstream}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_pause_while_the_application_waits_for_the_client() {
    for upstream in ["http://a", "h2://a"] {
        let (options, mut connections) = front(upstream);
        let (upload, body) = mpsc::unbounded_channel();
        let request = Request::post("/").body(Body::new(Channel(body))).unwrap();
        let answer = tokio::spawn(proxy(options).oneshot(request));
        let io = connections.recv().await.unwrap();
        serve_either(
            upstream,
            io,
            Router::new().fallback(async |body: Body| body),
        );
        let mut echo = answer.await.unwrap().unwrap().into_body();
        tokio::spawn(async move {
            sleep(ANSWER * 5 / 2).await;
            upload.send(Bytes::from_static(b"more")).unwrap();
        });
        let piece = echo.frame().await.unwrap();
        let piece = piece.expect("the answer was cut").into_data().unwrap();
        assert_eq!(piece, "more", "{upstream}");
    }
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

#[tokio::test(start_paused = true)]
async fn a_dead_http_2_connection_is_not_used_again_and_again() {
    let (mut options, mut connections) = front("h2://a");
    options.answer_timeout = Duration::from_secs(1);
    let app = proxy(options);
    let request = tokio::spawn(status(app.clone(), "/"));
    let _dead = connections.recv().await.unwrap();
    assert_eq!(request.await.unwrap(), StatusCode::GATEWAY_TIMEOUT);
    let request = tokio::spawn(status(app, "/"));
    let ok = Router::new().fallback(async || "ok");
    serve(connections.recv().await.unwrap(), ok);
    assert_eq!(request.await.unwrap(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn an_application_that_takes_no_request_is_given_up() {
    for upstream in ["http://a", "h2://a"] {
        let dials = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&dials);
        let options = Proxy::new(upstream.parse().unwrap()).connector(move || {
            count.fetch_add(1, Relaxed);
            // The other end is gone at once.
            async { Ok(duplex(64).0) }
        });
        assert_eq!(status(proxy(options), "/").await, StatusCode::BAD_GATEWAY);
        assert!((1..=5).contains(&dials.load(Relaxed)), "{upstream}");
    }
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

#[tokio::test(start_paused = true)]
async fn clients_that_ask_and_leave_cost_the_others_nothing() {
    let (options, connections) = front("h2://a");
    let app = proxy(options);
    let handlers = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&handlers);
    let application = Router::new()
        .route(
            "/pending",
            axum::routing::get(async move || {
                let _counted = Counted::new(&count);
                pending::<()>().await;
            }),
        )
        .route("/large", axum::routing::get(async || vec![7; 1 << 20]))
        .fallback(async || "ok");
    let accepted = serve_all(connections, 200, application);
    let under_way = get(app.clone(), "/large").await.into_body();
    for round in 0..60 {
        let leaving: Vec<_> = (0..25)
            .map(|_| tokio::spawn(status(app.clone(), "/pending")))
            .collect();
        for _ in 0..round % 6 {
            tokio::task::yield_now().await;
        }
        for request in leaving {
            request.abort();
        }
        for _ in 0..4 {
            assert_eq!(status(app.clone(), "/").await, StatusCode::OK);
        }
    }
    // Abandoned requests continue for a while, on connections that take no others.
    let left = handlers.load(Relaxed);
    assert!(left > 20, "no request has waited to be reset: {left}");
    let whole = under_way.collect().await.expect("the answer was cut");
    assert_eq!(whole.to_bytes().len(), 1 << 20);
    assert!(accepted.load(Relaxed) > 10);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(handlers.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn more_connections_are_made_where_an_application_takes_few_requests_on_each() {
    let (mut options, connections) = front("h2://a");
    options.max_connections = 3;
    let app = proxy(options);
    let release = Arc::new(tokio::sync::Notify::new());
    let handlers = Arc::new(AtomicUsize::new(0));
    let (count, released) = (Arc::clone(&handlers), Arc::clone(&release));
    let application = Router::new().fallback(async move || {
        let _counted = Counted::new(&count);
        released.notified().await;
        "ok"
    });
    let accepted = serve_all(connections, 2, application);
    let waiting: Vec<_> = (0..8)
        .map(|_| tokio::spawn(status(app.clone(), "/")))
        .collect();
    sleep(Duration::from_secs(1)).await;
    assert_eq!((handlers.load(Relaxed), accepted.load(Relaxed)), (6, 3));
    // A free place is for the request that waits.
    release.notify_one();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(handlers.load(Relaxed), 6);
    sleep(CONNECT).await;
    let mut outcomes = Vec::new();
    for _ in 0..6 {
        release.notify_one();
        sleep(Duration::from_millis(10)).await;
    }
    for request in waiting {
        outcomes.push(request.await.unwrap());
    }
    let busy = outcomes
        .iter()
        .filter(|status| **status == StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(busy.count(), 1, "{outcomes:?}");
    let ok = outcomes.iter().filter(|status| **status == StatusCode::OK);
    assert_eq!(ok.count(), 7, "{outcomes:?}");
}

/// A body that fails after its first piece.
struct Broken(bool);

impl http_body::Body for Broken {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, &'static str>>> {
        let has_begun = std::mem::replace(&mut self.0, true);
        let piece = http_body::Frame::data(Bytes::from_static(b"begin"));
        std::task::Poll::Ready(Some(if has_begun {
            Err("the client is gone")
        } else {
            Ok(piece)
        }))
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_the_clients_fault() {
    for upstream in ["http://a", "h2://a"] {
        let (options, mut connections) = front(upstream);
        let app = proxy(options);
        tokio::spawn(async move {
            while let Some(io) = connections.recv().await {
                serve_either(upstream, io, reads_all_and_waits(Duration::ZERO));
            }
        });
        for _ in 0..3 {
            let request = Request::post("/").body(Body::new(Broken(false))).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{upstream}");
            assert_eq!(status(app.clone(), "/").await, StatusCode::OK, "{upstream}");
        }
    }
}

/// Announces on an HTTP/2 connection that the application stops and has processed no request.
async fn go_away(mut io: DuplexStream) {
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    io.write_all(settings).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let go_away = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
    io.write_all(go_away).await.unwrap();
    while let Ok(1..) = io.read(&mut [0; 4096]).await {}
}

#[tokio::test(start_paused = true)]
async fn any_request_is_sent_again_that_the_application_has_not_looked_at() {
    let cases = [
        (16_384, StatusCode::OK),
        (16_385, StatusCode::SERVICE_UNAVAILABLE),
    ];
    for (length, expected) in cases {
        let (options, mut connections) = front("h2://a");
        let app = proxy(options);
        let (upload, body) = mpsc::unbounded_channel();
        let request = Request::post("/").body(Body::new(Channel(body))).unwrap();
        let answer = tokio::spawn(app.clone().oneshot(request));
        upload.send(vec![1; length].into()).unwrap();
        // It might fail more than once by chance.
        tokio::spawn(go_away(connections.recv().await.unwrap()));
        if expected == StatusCode::OK {
            tokio::spawn(go_away(connections.recv().await.unwrap()));
        }
        let echo = Router::new().fallback(async |body: Body| body);
        tokio::spawn(async move { serve(connections.recv().await.unwrap(), echo) });
        // It continues where it was.
        sleep(Duration::from_secs(4)).await;
        _ = upload.send(Bytes::from_static(b"the end"));
        drop(upload);
        let response = answer.await.unwrap().unwrap();
        assert_eq!(response.status(), expected, "{length}");
        if expected == StatusCode::OK {
            let echo = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(echo.len(), length + 7);
            assert!(echo.ends_with(b"the end"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_lets_go_of_an_upload_that_stands_still() {
    let (options, mut connections) = front("h2://a");
    let app = proxy(options);
    let (upload, body) = mpsc::unbounded_channel();
    let request = Request::post("/").body(Body::new(Channel(body))).unwrap();
    let answer = tokio::spawn(app.oneshot(request));
    for _ in 0..20 {
        upload.send(vec![1; 16_384].into()).unwrap();
    }
    let io = connections.recv().await.unwrap();
    tokio::spawn(async move {
        let mut connection = h2::server::handshake(io).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        let early = Response::builder().status(413).body(()).unwrap();
        // It neither reads the rest nor resets the stream.
        let sent = respond.send_response(early, true).unwrap();
        _ = connection.accept().await;
        drop((request, sent));
    });
    let response = answer.await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    response.into_body().collect().await.unwrap();
    let start = Instant::now();
    let end = timeout(ANSWER, upload.closed()).await;
    end.expect("the upload is held for nothing");
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_many_uploads_were_not_read_takes_no_more() {
    let (options, connections) = front("h2://a");
    let app = proxy(options);
    let accepted = serve_all(connections, 200, Router::new().fallback(async || "no"));
    for _ in 0..250 {
        let (upload, body) = mpsc::unbounded_channel();
        let request = Request::post("/").body(Body::new(Channel(body))).unwrap();
        for _ in 0..20 {
            upload.send(vec![1; 100].into()).unwrap();
        }
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().collect().await.expect("it was cut");
        upload.closed().await;
    }
    assert_eq!(accepted.load(Relaxed), 3);
}

/// Pieces of no bytes, in this number, and then one with a byte.
struct Hollow(usize);

impl http_body::Body for Hollow {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        let piece = match self.0 {
            0 => None,
            1 => Some(Bytes::from_static(b"x")),
            _ => Some(Bytes::new()),
        };
        self.0 = self.0.saturating_sub(1);
        std::task::Poll::Ready(piece.map(|piece| Ok(http_body::Frame::data(piece))))
    }
}

#[tokio::test(start_paused = true)]
async fn empty_pieces_of_an_upload_do_not_end_the_connection_of_all() {
    let (options, connections) = front("h2://a");
    let app = proxy(options);
    let accepted = serve_all(
        connections,
        200,
        Router::new().fallback(async |body: Bytes| body),
    );
    let request = Request::post("/").body(Body::new(Hollow(300))).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let echo = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(echo, "x");
    assert_eq!(status(app, "/").await, StatusCode::OK);
    assert_eq!(accepted.load(Relaxed), 1);
}
