//! Many requests on one session, and how sessions end.

mod support;

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Path,
    routing::{get, post},
};
use bytes::Bytes;
use spdy_session::Config;
use spdy_tower::Builder;
use tokio::{
    io::{AsyncReadExt, duplex},
    sync::{Barrier, Semaphore},
    task::JoinSet,
};
use tower::limit::ConcurrencyLimit;

use self::support::{Client, Reply, in_all_versions, within};

#[tokio::test(start_paused = true)]
async fn a_slow_handler_does_not_hold_up_others() {
    in_all_versions(async |version| {
        let gate = Arc::new(Semaphore::new(0));
        let waiting = Arc::clone(&gate);
        let slow = async move || {
            waiting.acquire().await.unwrap().forget();
            "slow"
        };
        let router = Router::new()
            .route("/slow", get(slow))
            .route("/fast", get(async || "fast"));
        let client = Client::of(version, router);
        let (receive, _send) = client.open(client.head("GET", "/slow"), true).await;
        for _ in 0..20 {
            assert_eq!(client.ask("GET", "/fast").await.body, b"fast");
        }
        gate.add_permits(1);
        assert_eq!(Reply::read(receive).await.unwrap().body, b"slow");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_ready_on_its_first_poll_gets_no_task() {
    in_all_versions(async |version| {
        let slow = async || {
            tokio::task::yield_now().await;
            tokio::task::id().to_string()
        };
        let router = Router::new()
            .route("/ready", get(async || tokio::task::id().to_string()))
            .route("/slow", get(slow));
        let client = Client::of(version, router);
        let connection = client.server.id().to_string().into_bytes();
        for _ in 0..2 {
            assert_eq!(client.ask("GET", "/ready").await.body, connection);
            assert_ne!(client.ask("GET", "/slow").await.body, connection);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_its_service_to_be_ready() {
    in_all_versions(async |version| {
        let router = Router::new().route("/", get(tokio::task::yield_now));
        let client = Client::of(version, ConcurrencyLimit::new(router, 1));
        let replies = [(); 3].map(|()| client.ask("GET", "/"));
        let [first, second, third] = replies;
        let (first, second, third) = tokio::join!(first, second, third);
        assert_eq!([first, second, third].map(|reply| reply.status()), [200; 3]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_always_ready_does_not_hold_up_others() {
    in_all_versions(async |version| {
        let router = Router::new()
            .route(
                "/endless",
                get(async || {
                    Body::new(Endless {
                        piece: "",
                        given: Arc::default(),
                    })
                }),
            )
            .route("/", get(async || "fine"));
        let client = Client::of(version, router);
        let _endless = client.open(client.head("GET", "/endless"), true).await;
        assert_eq!(client.ask("GET", "/").await.body, b"fine");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_is_not_polled_while_its_client_does_not_read() {
    in_all_versions(async |version| {
        let given = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&given);
        let handler = async move || {
            Body::new(Endless {
                piece: PIECE,
                given: Arc::clone(&count),
            })
        };
        let client = Client::of(version, Router::new().route("/", get(handler)));
        let (mut receive, _send) = client.open(client.head("GET", "/"), true).await;
        Reply::head(&mut receive).await.unwrap();
        let mut before = 0;
        within(async {
            while before == 0 || before != given.load(Ordering::Relaxed) {
                before = given.load(Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        // The client's buffers, the send queue, what is in the transport, and one piece in hand.
        let most = 256 * 1024 + 64 * 1024 + 128 * 1024;
        assert!(
            before * PIECE.len() < most,
            "{} bytes were made",
            before * PIECE.len()
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_not_read_stops() {
    in_all_versions(async |version| {
        let handler = async |_unread: axum::extract::Request| std::future::pending::<()>().await;
        let client = Client::of(version, Router::new().route("/", post(handler)));
        let (_receive, mut send) = client.open(client.head("POST", "/"), false).await;
        let mut sent = 0;
        let upload = async {
            loop {
                poll_fn(|cx| send.poll_ready(cx)).await.unwrap();
                send.send_data(PIECE.into(), false).unwrap();
                sent += PIECE.len();
                assert!(sent < 256 * 1024 + 256 * 1024, "{sent} bytes went out");
            }
        };
        tokio::time::timeout(Duration::from_millis(50), upload)
            .await
            .unwrap_err();
        assert!(sent >= 64 * 1024);
    })
    .await;
}

/// A body that has another piece whenever it is asked.
struct Endless {
    piece: &'static str,
    given: Arc<AtomicUsize>,
}

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        self.given.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(
            self.piece.as_bytes(),
        )))))
    }
}

const PIECE: &str = match str::from_utf8(&[b'a'; 4096]) {
    Ok(piece) => piece,
    Err(_) => unreachable!(),
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_requests_at_once_are_answered() {
    in_all_versions(async |version| {
        let together = Arc::new(Barrier::new(REQUESTS));
        let handler = async move |Path(number): Path<usize>| {
            // None is answered before all have come; odd ones are held up, even ones ready at once
            // after that.
            together.wait().await;
            if number % 2 == 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            number.to_string().repeat(100)
        };
        let mut config = Config::default();
        config.limits.max_streams = REQUESTS as u32;
        config.limits.max_backlog = REQUESTS;
        let builder = Builder::new().config(config.clone());
        let client = Arc::new(Client::with(
            version,
            &builder,
            Router::new().route("/{number}", get(handler)),
        ));
        let mut requests = JoinSet::new();
        for number in 0..REQUESTS {
            let client = Arc::clone(&client);
            requests.spawn(async move {
                let reply = client.ask("GET", &format!("/{number}")).await;
                assert_eq!(
                    String::from_utf8(reply.body).unwrap(),
                    number.to_string().repeat(100)
                );
            });
        }
        while let Some(request) = within(requests.join_next()).await {
            request.unwrap();
        }
    })
    .await;
}

const REQUESTS: usize = 300;

#[tokio::test(start_paused = true)]
async fn graceful_shutdown_answers_the_requests_under_way() {
    in_all_versions(async |version| {
        let gate = Arc::new(Semaphore::new(0));
        let began = Arc::new(Semaphore::new(0));
        let (waiting, beginning) = (Arc::clone(&gate), Arc::clone(&began));
        let slow = async move || {
            beginning.add_permits(1);
            waiting.acquire().await.unwrap().forget();
            "finished"
        };
        let client = Client::of(version, Router::new().route("/", get(slow)));
        let (receive, _send) = client.open(client.head("GET", "/"), true).await;
        within(began.acquire()).await.unwrap().forget();
        client.shut_down();
        tokio::task::yield_now().await;
        gate.add_permits(1);
        assert_eq!(Reply::read(receive).await.unwrap().body, b"finished");
        within(client.server).await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_session_at_rest_ends_at_once_when_it_is_shut_down() {
    in_all_versions(async |version| {
        let client = Client::of(version, Router::new().route("/", get(async || "x")));
        client.ask("GET", "/").await;
        client.shut_down();
        within(client.server).await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_connection_leaves_no_handler_behind() {
    in_all_versions(async |version| {
        let running = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&running);
        let handler = async move || {
            let _running = Running::one_more(&count);
            std::future::pending::<()>().await;
        };
        let client = Client::of(version, Router::new().route("/", get(handler)));
        let mut streams = Vec::new();
        for _ in 0..10 {
            streams.push(client.open(client.head("GET", "/"), true).await);
        }
        until(|| running.load(Ordering::Relaxed) == 10).await;
        client.server.abort();
        until(|| running.load(Ordering::Relaxed) == 0).await;
    })
    .await;
}

struct Running(Arc<AtomicUsize>);

impl Running {
    fn one_more(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn until(is_so: impl Fn() -> bool) {
    within(async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_the_transport_ends_the_session_in_order() {
    in_all_versions(async |version| {
        let (mut near, far) = duplex(1024);
        let connection = Builder::new().serve_connection(far, version, Router::new());
        let server = tokio::spawn(connection);
        let mut settings = [0; 8];
        within(near.read_exact(&mut settings)).await.unwrap();
        drop(near);
        within(server).await.unwrap().unwrap();
    })
    .await;
}
