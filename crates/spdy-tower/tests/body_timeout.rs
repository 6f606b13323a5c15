//! How long a handler waits for a body that does not come, on a clock of the test.

mod support;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    routing::{any, get, post},
};
use http_body_util::BodyExt;
use spdy_frame::{RstStatus, Version};
use spdy_session::{Received, RecvStream, StreamError};
use spdy_tower::{Builder, Tunnel};
use tokio::{
    io::AsyncReadExt,
    sync::{Notify, oneshot},
    time::{Instant, sleep, timeout},
};

use self::support::{Client, in_all_versions, status};

/// What no test waits for.
const FOR_EVER: Duration = Duration::from_secs(30 * 24 * 3600);

const SECOND: Duration = Duration::from_secs(1);

async fn status_of(receive: &mut RecvStream) -> u16 {
    let head = timeout(FOR_EVER, receive.response_headers()).await;
    status(&head.expect("there was no answer").unwrap())
}

fn echo() -> Router {
    Router::new().route("/", post(async |body: Bytes| body))
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_comes_is_answered_with_408_after_a_minute() {
    in_all_versions(async |version| {
        let client = Client::of(version, echo());
        let (mut receive, _send) = client.open(client.head("POST", "/"), false).await;
        let start = Instant::now();
        assert_eq!(status_of(&mut receive).await, 408);
        assert_eq!(start.elapsed().as_secs(), 60);
        assert_eq!(client.post("/", "others are served").await.status(), 200);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_session_with_a_body_that_never_comes_ends() {
    in_all_versions(async |version| {
        let client = Client::of(version, echo());
        let (_receive, _send) = client.open(client.head("POST", "/"), false).await;
        let end = timeout(Duration::from_secs(302), client.server).await;
        end.expect("the session is held").unwrap().unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_response_that_has_begun_is_reset_when_the_body_stops() {
    in_all_versions(async |version| {
        let router = Router::new().route("/", post(async |body: Body| body));
        let client = Client::of(version, router);
        let (mut receive, mut send) = client.open(client.head("POST", "/"), false).await;
        send.send_data(Bytes::from_static(b"begin"), false).unwrap();
        assert_eq!(status_of(&mut receive).await, 200);
        assert!(matches!(receive.next().await, Some(Ok(Received::Data(_)))));
        let start = Instant::now();
        let end = timeout(FOR_EVER, receive.next()).await.unwrap();
        let status = RstStatus::CANCEL;
        assert!(
            matches!(end, Some(Err(StreamError::Reset { status: told, .. })) if told == status),
            "{end:?}"
        );
        assert_eq!(start.elapsed().as_secs(), 60);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_slowly_is_read_to_its_end() {
    let client = Client::of(Version::V3_1, echo());
    let (mut receive, mut send) = client.open(client.head("POST", "/"), false).await;
    for last in [false, false, false, true] {
        sleep(59 * SECOND).await;
        send.send_data(Bytes::from_static(b"."), last).unwrap();
    }
    assert_eq!(status_of(&mut receive).await, 200);
}

#[tokio::test(start_paused = true)]
async fn body_timeout_does_not_end_a_handler_that_does_not_read() {
    let handler = async |_request: Request| sleep(600 * SECOND).await;
    let client = Client::of(Version::V3_1, Router::new().route("/", post(handler)));
    let (mut receive, _send) = client.open(client.head("POST", "/"), false).await;
    assert_eq!(status_of(&mut receive).await, 200);
}

#[tokio::test(start_paused = true)]
async fn body_timeout_sets_the_limit_and_none_removes_it() {
    for limit in [Some(5 * SECOND), None] {
        let builder = Builder::new().body_timeout(limit);
        let client = Client::with(Version::V3_1, &builder, echo());
        let (mut receive, mut send) = client.open(client.head("POST", "/"), false).await;
        sleep(3600 * SECOND).await;
        _ = send.send_data(Bytes::from_static(b"late"), true);
        let expected = if limit.is_some() { 408 } else { 200 };
        assert_eq!(status_of(&mut receive).await, expected, "{limit:?}");
    }
}

/// A handler that does not read uses up what all streams together may send: the window of the
/// session, or the buffers of a session that has no windows.
#[tokio::test(start_paused = true)]
async fn body_timeout_stands_still_while_other_handlers_stop_the_peer() {
    in_all_versions(async |version| {
        let go_on = Arc::new(Notify::new());
        let gate = Arc::clone(&go_on);
        let lazy = async move |request: Request| {
            gate.notified().await;
            request.into_body().collect().await.unwrap().to_bytes()
        };
        let router = echo().route("/lazy", post(lazy));
        let mut config = spdy_session::Config::default();
        let limits = &mut config.limits;
        (limits.stream_window, limits.session_window) = (128 << 10, 64 << 10);
        (limits.max_stream_window, limits.max_session_window) = (0, 0);
        (limits.stream_buffer, limits.session_buffer) = (64 << 10, 64 << 10);
        config.timeouts.unread = None;
        let builder = Builder::new()
            .config(config)
            .body_timeout(Some(10 * SECOND));
        let client = Client::with(version, &builder, router);

        let (mut waits, mut body) = client.open(client.head("POST", "/"), false).await;
        let (mut lazy, mut fill) = client.open(client.head("POST", "/lazy"), false).await;
        fill.send_data(Bytes::from(vec![7; 100 << 10]), true)
            .unwrap();
        sleep(SECOND).await;
        body.send_data(Bytes::from_static(b"held up"), true)
            .unwrap();
        sleep(20 * SECOND).await;
        go_on.notify_one();
        assert_eq!(status_of(&mut waits).await, 200);
        assert_eq!(status_of(&mut lazy).await, 200);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn body_timeout_does_not_end_a_silent_tunnel() {
    let (told, ended) = oneshot::channel();
    let told = Arc::new(std::sync::Mutex::new(Some(told)));
    let connect = async move |mut request: Request| {
        let tunnel = Tunnel::on(&mut request).unwrap();
        let told = told.lock().unwrap().take().unwrap();
        tokio::spawn(async move {
            let mut bytes = Vec::new();
            told.send(tunnel.await.unwrap().read_to_end(&mut bytes).await)
        });
    };
    let client = Client::of(Version::V3_1, Router::new().fallback(any(connect)));
    let (mut receive, mut send) = client
        .open(client.head("CONNECT", "a.test:443"), false)
        .await;
    assert_eq!(status_of(&mut receive).await, 200);
    sleep(24 * 3600 * SECOND).await;
    send.send_data(Bytes::from_static(b"morning"), true)
        .unwrap();
    assert_eq!(ended.await.unwrap().unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn body_timeout_does_not_end_a_request_without_a_body() {
    let handler = async |body: Bytes| {
        sleep(600 * SECOND).await;
        body
    };
    let client = Client::of(Version::V3_1, Router::new().route("/", get(handler)));
    let (mut receive, _send) = client.open(client.head("GET", "/"), true).await;
    assert_eq!(status_of(&mut receive).await, 200);
}
