//! What the adapter sends.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use axum::{Router, extract::Request, routing::get as on_get};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame as BodyFrame;
use http_body_util::Channel;
use spdy_frame::{Frame, HeaderBlock, Priority, RstStatus, StreamId, Version};
use spdy_session::{Config, Incoming, OpenOptions, PendingStream, Received, RecvStream, Session};
use spdy_tower::{BoxError, Builder, PushError, Pusher};
use tokio::{
    io::{DuplexStream, duplex},
    time::Instant,
};

use super::{page, style};
use crate::support::{RawClient, Reply, head, in_all_versions, within};

/// A client that sees the streams of the server.
fn browser(version: Version, config: Config, router: Router) -> (Session, Incoming) {
    let (near, far) = duplex(16 * 1024);
    tokio::spawn(Builder::new().serve_connection(far, version, router));
    let (session, incoming, driver) = spdy_session::client(near, version, config);
    tokio::spawn(driver);
    (session, incoming)
}

fn taking() -> Config {
    let mut config = Config::default();
    config.accept_push = true;
    config
}

async fn ask(session: &Session) -> (StreamId, RecvStream) {
    let how = OpenOptions::new().fin(true);
    let head = head(session.version(), "GET", "/");
    let (receive, _) = within(session.open(head, how)).await.unwrap().split();
    (receive.id(), receive)
}

async fn pushed(incoming: &mut Incoming) -> PendingStream {
    within(incoming.accept()).await.unwrap()
}

async fn none(incoming: &mut Incoming) {
    let push = tokio::time::timeout(Duration::from_millis(50), incoming.accept()).await;
    assert!(push.is_err(), "{push:?}");
}

#[tokio::test(start_paused = true)]
async fn c167_c168_a_push_has_the_fields_of_its_request_and_response() {
    in_all_versions(async |version| {
        let (session, mut incoming) = browser(version, taking(), page());
        let (id, receive) = ask(&session).await;
        let push = pushed(&mut incoming).await;
        let lowest = match version {
            Version::V2 => Priority::new(3).unwrap(),
            _ => Priority::LOWEST,
        };
        assert!(push.id().get().is_multiple_of(2) && push.is_unidirectional());
        assert_eq!((push.associated(), push.priority()), (Some(id), lowest));
        let mut expected = match version {
            Version::V2 => vec![("method", "GET"), ("url", "https://a.test/style.css?v=1")],
            _ => vec![
                (":method", "GET"),
                (":scheme", "https"),
                (":host", "a.test"),
                (":path", "/style.css?v=1"),
            ],
        };
        match version {
            Version::V2 => expected.extend([("status", "200"), ("version", "HTTP/1.1")]),
            _ => expected.extend([(":status", "200"), (":version", "HTTP/1.1")]),
        }
        expected.extend([("content-type", "text/css"), ("content-length", "17")]);
        // They are followed by the time at which the response was made.
        let date = str::from_utf8(push.headers().get("date").unwrap()).unwrap();
        expected.push(("date", date));
        assert_eq!(push.headers(), &HeaderBlock::from_pairs(expected).unwrap());

        let mut style = push.into_recv().unwrap();
        let Some(Ok(Received::Data(bytes))) = within(style.next()).await else {
            panic!("no style")
        };
        assert_eq!(bytes, "p { color: navy }");
        assert!(within(style.next()).await.is_none());
        assert_eq!(Reply::read(receive).await.unwrap().body, b"page");
    })
    .await;
}

/// The application has given its response, and pushes then.
#[tokio::test(start_paused = true)]
async fn c169_a_push_after_the_end_of_the_response_is_not_sent() {
    in_all_versions(async |version| {
        let kept = Arc::new(Mutex::new(None));
        let keep = Arc::clone(&kept);
        let page = async move |request: Request| {
            *keep.lock().unwrap() = Pusher::of(&request);
            "page"
        };
        let (session, mut incoming) =
            browser(version, taking(), Router::new().route("/", on_get(page)));
        let (_, receive) = ask(&session).await;
        assert_eq!(Reply::read(receive).await.unwrap().body, b"page");
        let pusher: Pusher = kept.lock().unwrap().take().unwrap();
        pusher.push("/late.css", style()).unwrap();
        // The connection looks at its pushes when it has something to do.
        let (_, receive) = ask(&session).await;
        assert_eq!(Reply::read(receive).await.unwrap().body, b"page");
        none(&mut incoming).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c170_a_push_comes_before_the_page_that_refers_to_it() {
    in_all_versions(async |version| {
        let mut client = RawClient::of(version, page());
        client.ask(1, "/").await;
        let mut kinds = Vec::new();
        while kinds.len() < 3 {
            kinds.push(match client.next().await {
                Frame::SynStream(_) => "push",
                Frame::SynReply(_) => "reply",
                Frame::Data(data) if data.stream.get() == 1 => "page",
                Frame::Ping(_) => continue,
                frame => panic!("{frame:?}"),
            });
        }
        let at = |kind| kinds.iter().position(|&other| other == kind).unwrap();
        assert!(
            at("push") < at("page") && at("reply") < at("page"),
            "{kinds:?}"
        );
    })
    .await;
}

/// A body that never ends, and counts how many of its kind there are.
struct Endless(Arc<AtomicUsize>);

impl Endless {
    fn response(alive: &Arc<AtomicUsize>) -> Response<Self> {
        alive.fetch_add(1, Ordering::Relaxed);
        Response::new(Self(Arc::clone(alive)))
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(BodyFrame::data(Bytes::from_static(&[0; 1000])))))
    }
}

/// A page whose body the test holds open, with endless pushes; how many of those there are.
fn endless(pushes: usize) -> (Router, Arc<AtomicUsize>) {
    let alive = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&alive);
    let page = async move |request: Request| {
        let pusher = Pusher::of(&request).unwrap();
        for number in 0..pushes {
            pusher
                .push(&format!("/{number}"), Endless::response(&count))
                .unwrap();
        }
        let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
        tokio::spawn(async move {
            sender.send_data("first".into()).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
            sender.send_data("last".into()).await
        });
        axum::body::Body::new(body)
    };
    (Router::new().route("/", on_get(page)), alive)
}

async fn until(count: &AtomicUsize, expected: usize) {
    let reached = async {
        while count.load(Ordering::Relaxed) != expected {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within(reached).await;
}

#[tokio::test(start_paused = true)]
async fn c171_a_push_that_is_cancelled_stops_and_the_page_does_not() {
    in_all_versions(async |version| {
        let (router, alive) = endless(2);
        let (session, mut incoming) = browser(version, taking(), router);
        let (_, page) = ask(&session).await;
        let first = pushed(&mut incoming).await;
        let mut second = pushed(&mut incoming).await.into_recv().unwrap();
        // SPDY/2 has no windows: what is not read holds up all else. The clock stands still while
        // anything is done, and goes on in the pauses.
        let second = tokio::spawn(async move {
            while let Some(Ok(_)) = second.next().await {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        assert_eq!(alive.load(Ordering::Relaxed), 2);
        first.reset(RstStatus::CANCEL);
        until(&alive, 1).await;
        assert_eq!(Reply::read(page).await.unwrap().body, b"firstlast");
        second.abort();
        until(&alive, 0).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c070_a_request_that_is_cancelled_takes_its_pushes_along() {
    in_all_versions(async |version| {
        let (router, alive) = endless(2);
        let (session, mut incoming) = browser(version, taking(), router);
        let (_, page) = ask(&session).await;
        let _first = pushed(&mut incoming).await.into_recv().unwrap();
        let _second = pushed(&mut incoming).await.into_recv().unwrap();
        assert_eq!(alive.load(Ordering::Relaxed), 2);
        page.reset(RstStatus::CANCEL);
        until(&alive, 0).await;
    })
    .await;
}

/// HEADERS on a push: the application's trailers would come behind the payload, so there are none.
#[tokio::test(start_paused = true)]
async fn c172_trailers_of_a_push_are_not_sent() {
    in_all_versions(async |version| {
        let page = async |request: Request| {
            let (mut sender, body) = Channel::<Bytes, BoxError>::new(2);
            sender.send_data("style".into()).await.unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("1"));
            sender.send_trailers(trailers).await.unwrap();
            drop(sender);
            Pusher::of(&request)
                .unwrap()
                .push("/style", Response::new(body))
                .unwrap();
            "page"
        };
        let (session, mut incoming) =
            browser(version, taking(), Router::new().route("/", on_get(page)));
        let _page = ask(&session).await;
        let mut style = pushed(&mut incoming).await.into_recv().unwrap();
        let first = within(style.next()).await;
        assert!(
            matches!(&first, Some(Ok(Received::Data(bytes))) if bytes == "style"),
            "{first:?}"
        );
        assert!(within(style.next()).await.is_none());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c082_a_client_with_a_limit_of_0_gets_no_pushes() {
    in_all_versions(async |version| {
        let (router, alive) = endless(1);
        // It says so by MAX_CONCURRENT_STREAMS of 0.
        let (session, mut incoming) = browser(version, Config::default(), router);
        let (_, page) = ask(&session).await;
        assert_eq!(Reply::read(page).await.unwrap().body, b"firstlast");
        until(&alive, 0).await;
        none(&mut incoming).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c083_a_push_above_the_clients_limit_is_dropped() {
    in_all_versions(async |version| {
        let (router, alive) = endless(2);
        let mut config = taking();
        config.limits.max_streams = 1;
        let (session, mut incoming) = browser(version, config, router);
        let (_, _page) = ask(&session).await;
        let _first = pushed(&mut incoming).await.into_recv().unwrap();
        until(&alive, 1).await;
        none(&mut incoming).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_refuses_a_push_gets_no_more() {
    in_all_versions(async |version| {
        let answers = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&answers);
        let page = async move |request: Request| {
            let answer = Pusher::of(&request).unwrap().push("/style.css", style());
            seen.lock().unwrap().push(answer);
            "page"
        };
        let mut client = RawClient::of(version, Router::new().route("/", on_get(page)));
        client.ask(1, "/").await;
        // As Qt does it, and before it answers the PING.
        loop {
            match client.next().await {
                Frame::SynStream(push) => {
                    client
                        .control(3, &[push.stream.get(), RstStatus::REFUSED_STREAM.0])
                        .await;
                }
                Frame::Ping(ping) => {
                    client.control(6, &[ping.id]).await;
                    break;
                }
                _ => {}
            }
        }
        // The task of the push has to see the reset first.
        tokio::time::sleep(Duration::from_millis(20)).await;
        client.ask(3, "/").await;
        loop {
            match client.next().await {
                Frame::Data(page) if page.stream.get() == 3 => break,
                Frame::SynStream(_) => panic!("another push"),
                _ => {}
            }
        }
        let answers = answers.lock().unwrap();
        assert_eq!(answers[0], Ok(()));
        assert_eq!(answers[1], Err(PushError::Refused));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn only_paths_of_the_same_origin_are_pushed() {
    let answers = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&answers);
    let page = async move |request: Request| {
        let pusher = Pusher::of(&request).unwrap();
        for path in [
            "https://b.test/",
            "//b.test/",
            "style.css",
            "",
            "*",
            "/a b",
            "/\u{e9}\r\n",
        ] {
            seen.lock()
                .unwrap()
                .push((path, pusher.push(path, style())));
        }
        "page"
    };
    let (session, mut incoming) = browser(
        Version::V3_1,
        taking(),
        Router::new().route("/", on_get(page)),
    );
    let (_, receive) = ask(&session).await;
    Reply::read(receive).await.unwrap();
    for (path, answer) in &*answers.lock().unwrap() {
        // `//b.test/` is a path, odd as it is: nothing of it becomes a host.
        let expected = if *path == "//b.test/" {
            Ok(())
        } else {
            Err(PushError::Path)
        };
        assert_eq!(answer, &expected, "{path}");
    }
    let push = pushed(&mut incoming).await;
    assert_eq!(push.headers().get(":host"), Some(&b"a.test"[..]));
}

/// A client that has closed its writing side can answer no PING, and gets what was promised all the
/// same.
#[tokio::test(start_paused = true)]
async fn a_push_is_sent_completely_to_a_client_that_has_half_closed() {
    in_all_versions(async |version| {
        let mut client = RawClient::of(version, page());
        client.ask(1, "/").await;
        let mut ended = Vec::new();
        while ended.len() < 2 {
            match client.next().await {
                Frame::SynStream(_) => client.half_close().await,
                Frame::Data(data) if data.fin => ended.push(data.stream.get()),
                _ => {}
            }
        }
        ended.sort_unstable();
        assert_eq!(ended, [1, 2]);
    })
    .await;
}

/// Returns the pusher of a request that is never answered, and the connection that serves it.
async fn kept_pusher(version: Version) -> (Connection, Pusher, Session, Incoming) {
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    let page = async move |request: Request| {
        *keep.lock().unwrap() = Pusher::of(&request);
        std::future::pending::<()>().await;
    };
    let (near, far) = duplex(16 * 1024);
    let router = Router::new().route("/", on_get(page));
    let mut connection = Box::pin(Builder::new().serve_connection(far, version, router));
    let (session, incoming, driver) = spdy_session::client(near, version, taking());
    tokio::spawn(driver);
    let how = OpenOptions::new().fin(true);
    let request = session.open(head(version, "GET", "/"), how);
    tokio::spawn(async move { request.await.unwrap().response_headers().await });
    let pusher = poll_fn(|cx| {
        assert!(connection.as_mut().poll(cx).is_pending());
        kept.lock()
            .unwrap()
            .take()
            .map_or(Poll::Pending, Poll::Ready)
    });
    let pusher = within(pusher).await;
    (connection, pusher, session, incoming)
}

type Connection = Pin<Box<spdy_tower::Connection<DuplexStream, Router>>>;

/// A connection that runs at once, and on the same thread, when it is woken.
struct Eager(Mutex<Option<Connection>>);

impl Wake for Eager {
    fn wake(self: Arc<Self>) {
        if let Ok(mut connection) = self.0.try_lock()
            && let Some(connection) = &mut *connection
        {
            let waker = Waker::from(Arc::clone(&self));
            let end = connection.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(end.is_pending(), "{end:?}");
        }
    }
}

/// The connection can run on another thread in the middle of a call of `push`, and rest then.
#[tokio::test(start_paused = true)]
async fn a_push_is_sent_at_once_whenever_the_connection_runs() {
    in_all_versions(async |version| {
        let (connection, pusher, _session, mut incoming) = kept_pusher(version).await;
        let eager = Arc::new(Eager(Mutex::new(Some(connection))));
        Arc::clone(&eager).wake();
        let start = Instant::now();
        pusher.push("/style.css", style()).unwrap();
        let mut push = pushed(&mut incoming).await.into_recv().unwrap();
        let Some(Ok(Received::Data(bytes))) = within(push.next()).await else {
            panic!("no style")
        };
        assert_eq!(bytes, "p { color: navy }");
        assert_eq!(start.elapsed(), Duration::ZERO);
        // The waker in the connection is a part of it.
        drop(eager.0.lock().unwrap().take());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_push_behind_the_end_of_the_session_is_an_error_and_keeps_no_body() {
    in_all_versions(async |version| {
        let (connection, pusher, _session, _incoming) = kept_pusher(version).await;
        let alive = Arc::new(AtomicUsize::new(0));
        // The connection has not started this one.
        pusher.push("/first", Endless::response(&alive)).unwrap();
        assert_eq!(alive.load(Ordering::Relaxed), 1);
        drop(connection);
        assert_eq!(alive.load(Ordering::Relaxed), 0);
        let late = pusher.push("/late", Endless::response(&alive));
        assert_eq!(late, Err(PushError::SessionEnded));
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_push_whose_body_has_another_length_than_announced_is_reset() {
    in_all_versions(async |version| {
        let page = async |request: Request| {
            let response = Response::builder().header("content-length", "100");
            let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
            sender.send_data("short".into()).await.unwrap();
            drop(sender);
            let response = response.body(body).unwrap();
            Pusher::of(&request).unwrap().push("/", response).unwrap();
            "page"
        };
        let (session, mut incoming) =
            browser(version, taking(), Router::new().route("/", on_get(page)));
        let _page = ask(&session).await;
        let mut push = pushed(&mut incoming).await.into_recv().unwrap();
        let end = loop {
            match within(push.next()).await {
                Some(Ok(_)) => {}
                end => break end,
            }
        };
        assert!(matches!(end, Some(Err(_))), "{end:?}");
    })
    .await;
}
