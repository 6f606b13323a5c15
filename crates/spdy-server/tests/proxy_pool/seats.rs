//! The HTTP/2 connections of the proxy: how many there are, which of them a request gets, and which
//! of them make room. Over transports in memory and on a paused clock.

use std::{
    convert::Infallible,
    future::pending,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
    routing::{get, post},
};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use spdy_server::app::{Proxy, proxy};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tower::ServiceExt;

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// The connections that a proxy opens.
struct Connections {
    new: mpsc::UnboundedReceiver<DuplexStream>,
    made: Arc<AtomicUsize>,
}

/// Returns a proxy whose connections come out as soon as it opens them.
fn front() -> (Proxy, Connections) {
    let (sender, new) = mpsc::unbounded_channel();
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let options = Proxy::new("h2://a".parse().unwrap()).connector(move || {
        count.fetch_add(1, Relaxed);
        let (near, far) = duplex(65536);
        let accepted = sender.send(far);
        async move {
            accepted.map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(near)
        }
    });
    (options, Connections { new, made })
}

impl Connections {
    async fn next(&mut self) -> DuplexStream {
        let next = timeout(2 * ANSWER, self.new.recv()).await;
        next.expect("the proxy opens a connection").unwrap()
    }

    fn made(&self) -> usize {
        self.made.load(Relaxed)
    }
}

fn http2() -> http2::Builder<TokioExecutor> {
    http2::Builder::new(TokioExecutor::new())
}

/// Serves a connection. Aborting the task closes it.
fn serve(io: DuplexStream, builder: &http2::Builder<TokioExecutor>, app: Router) -> JoinHandle<()> {
    let service = hyper_util::service::TowerToHyperService::new(app);
    let serving = builder.serve_connection(TokioIo::new(io), service);
    tokio::spawn(async move {
        _ = serving.await;
    })
}

/// Answers `/held` when `release` is notified, `/silent` never, and others at once.
fn application(release: &Arc<Notify>) -> Router {
    let release = Arc::clone(release);
    let held = async move || {
        release.notified().await;
        "ok"
    };
    Router::new()
        .route("/held", get(held))
        .route("/silent", get(pending::<()>))
        .fallback(async || "ok")
}

async fn status(app: Router, path: &'static str) -> StatusCode {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = app.oneshot(request).await.unwrap();
    let status = response.status();
    response.into_body().collect().await.unwrap();
    status
}

fn ask(app: &Router, path: &'static str) -> JoinHandle<StatusCode> {
    tokio::spawn(status(app.clone(), path))
}

/// Waits until the proxy has closed a connection, of which nothing is answered.
async fn closed(mut io: DuplexStream) -> Instant {
    while let Ok(1..) = io.read(&mut [0; 4096]).await {}
    Instant::now()
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_that_says_nothing_holds_up_no_request() {
    // SETTINGS with one of their parameters, and less than that.
    let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
    for said in [0, 1, 9, 14] {
        let (options, mut connections) = front();
        let app = proxy(options);
        let release = Arc::new(Notify::new());
        let held = ask(&app, "/held");
        let mut few = http2();
        few.max_concurrent_streams(1);
        serve(connections.next().await, &few, application(&release));
        sleep(SECOND).await;
        // The first connection is full.
        let begun = Instant::now();
        let waits = [ask(&app, "/"), ask(&app, "/")];
        let mut silent = connections.next().await;
        silent.write_all(&settings[..said]).await.unwrap();
        let silent = tokio::spawn(closed(silent));
        sleep(SECOND).await;
        release.notify_one();
        for request in waits {
            assert_eq!(request.await.unwrap(), StatusCode::OK);
        }
        assert_eq!(begun.elapsed(), SECOND, "{said}");
        assert_eq!(held.await.unwrap(), StatusCode::OK);
        // The silent connection was an attempt that failed.
        assert_eq!(silent.await.unwrap() - begun, CONNECT, "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_for_a_place_have_it_when_the_application_allows_more() {
    for (apart, places) in [(false, 3), (true, 3), (true, 100)] {
        let (mut options, mut connections) = front();
        options.max_connections = 1;
        let app = proxy(options);
        let begun = Instant::now();
        let requests = [(); 3].map(|()| ask(&app, "/"));
        let mut io = connections.next().await;
        io.write_all(&settings(1)).await.unwrap();
        sleep(SECOND).await;
        if apart {
            // The bytes that raise the limit come one by one, behind those of another frame.
            io.write_all(b"\0\0\x08\x06\0\0\0\0\0pingpong")
                .await
                .unwrap();
            for byte in settings(places) {
                io.write_all(&[byte]).await.unwrap();
                sleep(Duration::from_millis(1)).await;
            }
        } else {
            io.write_all(&settings(places)).await.unwrap();
        }
        sleep(SECOND).await;
        // The application answers all at once: `:status: 200` and no body.
        for stream in [1, 3, 5] {
            let answer = [0, 0, 1, 1, 5, 0, 0, 0, stream, 0x88];
            io.write_all(&answer).await.unwrap();
        }
        for request in requests {
            assert_eq!(request.await.unwrap(), StatusCode::OK);
        }
        assert!(begun.elapsed() < 3 * SECOND);
        assert_eq!(connections.made(), 1);
    }
}

/// Returns SETTINGS with a number of places.
fn settings(places: u8) -> [u8; 15] {
    let mut frame = *b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\0";
    frame[14] = places;
    frame
}

#[tokio::test(start_paused = true)]
async fn a_request_learns_nothing_of_an_attempt_that_has_ended_before_it_came() {
    let dials = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dials);
    let options = Proxy::new("h2://a".parse().unwrap()).connector(move || {
        let number = count.fetch_add(1, Relaxed);
        async move {
            if number == 0 {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            let (near, far) = duplex(65536);
            serve(far, &http2(), Router::new().fallback(async || "ok"));
            Ok(near)
        }
    });
    let app = proxy(options);
    // No time passes between the two.
    assert_eq!(status(app.clone(), "/").await, StatusCode::BAD_GATEWAY);
    assert_eq!(status(app, "/").await, StatusCode::OK);
}

/// A body with this number of pieces of this length.
struct Pieces(usize, usize);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0 == 0 {
            return Poll::Ready(None);
        }
        self.0 -= 1;
        Poll::Ready(Some(Ok(Frame::data(vec![0; self.1].into()))))
    }
}

#[tokio::test(start_paused = true)]
async fn all_attempts_of_an_upload_have_the_time_of_one() {
    let (options, mut connections) = front();
    let app = proxy(options);
    let begun = Instant::now();
    let body = Body::new(Pieces(3, 1000));
    let upload = tokio::spawn(app.oneshot(Request::put("/").body(body).unwrap()));
    let silent = || Router::new().fallback(pending::<()>);
    let mut narrow = http2();
    narrow.initial_stream_window_size(1000);
    let first = serve(connections.next().await, &narrow, silent());
    sleep(ANSWER / 2).await;
    first.abort();
    // The rest of the body moves now.
    serve(connections.next().await, &http2(), silent());
    let response = upload.await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(begun.elapsed(), ANSWER);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_with_its_responses_counts_until_then() {
    let (mut options, mut connections) = front();
    options.max_connections = 1;
    let app = proxy(options);
    let release = Arc::new(Notify::new());
    let held = ask(&app, "/held");
    let io = connections.next().await;
    let service = hyper_util::service::TowerToHyperService::new(application(&release));
    let (leave, leaves) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let serving = http2().serve_connection(TokioIo::new(io), service);
        let mut serving = std::pin::pin!(serving);
        tokio::select! {
            _ = &mut serving => return,
            _ = leaves => serving.as_mut().graceful_shutdown(),
        }
        _ = serving.await;
    });
    sleep(SECOND).await;
    leave.send(()).unwrap();
    sleep(SECOND).await;
    let begun = Instant::now();
    assert_eq!(
        status(app.clone(), "/").await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(begun.elapsed(), CONNECT);
    assert_eq!(connections.made(), 1);
    // Its last response frees the place for a request that waits.
    let waits = ask(&app, "/");
    sleep(SECOND).await;
    release.notify_one();
    serve(connections.next().await, &http2(), application(&release));
    assert_eq!(waits.await.unwrap(), StatusCode::OK);
    assert_eq!(held.await.unwrap(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_many_broken_requests_serves_when_there_can_be_no_other() {
    let (mut options, mut connections) = front();
    options.max_connections = 1;
    let app = proxy(options);
    let release = Arc::new(Notify::new());
    let held = ask(&app, "/held");
    serve(connections.next().await, &http2(), application(&release));
    sleep(SECOND).await;
    for _ in 0..120 {
        let leaves = ask(&app, "/silent");
        sleep(Duration::from_millis(100)).await;
        leaves.abort();
    }
    let begun = Instant::now();
    assert_eq!(status(app.clone(), "/").await, StatusCode::OK);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(connections.made(), 1);
    // Once it has no request it makes room for a new one.
    release.notify_one();
    assert_eq!(held.await.unwrap(), StatusCode::OK);
    sleep(2 * CONNECT).await;
    let waits = ask(&app, "/");
    serve(connections.next().await, &http2(), application(&release));
    assert_eq!(waits.await.unwrap(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_dead_connection_makes_room_for_another_one() {
    let (mut options, mut connections) = front();
    options.max_connections = 1;
    options.answer_timeout = 2 * SECOND;
    let app = proxy(options);
    let dead = ask(&app, "/");
    let mut io = connections.next().await;
    io.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
    sleep(Duration::from_millis(1)).await;
    // A PING behind the request is the last that it ever says.
    let ping = b"\0\0\x08\x06\0\0\0\0\0pingpong";
    io.write_all(ping).await.unwrap();
    let gone = tokio::spawn(closed(io));
    sleep(SECOND).await;
    let later = ask(&app, "/");
    assert_eq!(dead.await.unwrap(), StatusCode::GATEWAY_TIMEOUT);
    // The other request on it is sent again, within its own time.
    let begun = Instant::now();
    let new = ask(&app, "/");
    let next = connections.next().await;
    serve(next, &http2(), Router::new().fallback(async || "ok"));
    assert_eq!(new.await.unwrap(), StatusCode::OK);
    assert_eq!(later.await.unwrap(), StatusCode::OK);
    assert_eq!((begun.elapsed(), connections.made()), (Duration::ZERO, 2));
    assert_eq!(gone.await.unwrap(), begun);
}

#[tokio::test(start_paused = true)]
async fn a_slow_request_casts_no_doubt_on_a_connection_that_lives() {
    let (mut options, mut connections) = front();
    options.answer_timeout = 2 * SECOND;
    let app = proxy(options);
    assert!(timeout(SECOND, connections.new.recv()).await.is_err());
    let slow = ask(&app, "/silent");
    let release = Arc::new(Notify::new());
    serve(connections.next().await, &http2(), application(&release));
    assert_eq!(slow.await.unwrap(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(status(app, "/").await, StatusCode::OK);
    assert_eq!(connections.made(), 1);
}

/// Answers before it has the request, which it neither reads nor gives up.
fn answers_early() -> Router {
    async fn answer(request: Request<Body>) -> Body {
        let is_endless = request.uri().path() == "/endless";
        tokio::spawn(async move {
            pending::<()>().await;
            drop(request);
        });
        if is_endless {
            Body::new(Pieces(usize::MAX, 1000))
        } else {
            Body::from("early")
        }
    }
    Router::new()
        .route("/early", post(answer))
        .route("/endless", post(answer))
        .fallback(async || "ok")
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_neither_read_nor_reset_ends_with_its_connection() {
    for (path, pieces) in [
        // hyper keeps a piece.
        ("/early", Pieces(3, 1000)),
        // h2 keeps all of it.
        ("/early", Pieces(1, 1500)),
        // The client does not want the rest of the answer.
        ("/endless", Pieces(3, 1000)),
    ] {
        let (mut options, mut connections) = front();
        options.max_connections = 1;
        let app = proxy(options);
        let upload = Request::post(path).body(Body::new(pieces)).unwrap();
        let upload = tokio::spawn(app.clone().oneshot(upload));
        let release = Arc::new(Notify::new());
        let mut narrow = http2();
        narrow.initial_stream_window_size(1000);
        serve(connections.next().await, &narrow, answers_early());
        drop(upload.await.unwrap().unwrap());
        let begun = Instant::now();
        assert_eq!(status(app.clone(), "/").await, StatusCode::OK);
        assert_eq!(connections.made(), 1);
        sleep(CONNECT).await;
        let next = ask(&app, "/");
        serve(connections.next().await, &http2(), application(&release));
        assert_eq!(next.await.unwrap(), StatusCode::OK);
        assert_eq!(begun.elapsed(), CONNECT, "{path}");
    }
}
