//! An unchanged `axum::Router` served over each version: what works.

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Extension, Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::SET_COOKIE},
    response::{AppendHeaders, IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Channel, channel::Sender};
use spdy_frame::{HeaderBlock, Priority};
use spdy_session::{OpenOptions, Received};
use spdy_tower::{BoxError, StreamInfo};

use self::support::{Client, Reply, in_all_versions, status, within};

#[tokio::test(start_paused = true)]
async fn a_handler_is_answered_with_its_status_fields_and_body() {
    in_all_versions(async |version| {
        let client = Client::of(version, Router::new().route("/", get(|| async { "hello" })));
        let reply = client.ask("GET", "/").await;
        assert_eq!((reply.status(), &reply.body[..]), (200, &b"hello"[..]));
        assert_eq!(
            reply.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(reply.header("content-length"), Some("5"));
        assert_eq!(client.ask("GET", "/no").await.status(), 404);
        assert_eq!(client.ask("POST", "/").await.status(), 405);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_large_body_is_echoed_unchanged() {
    in_all_versions(async |version| {
        let client = Client::of(
            version,
            Router::new().route("/echo", post(async |body: Body| body)),
        );
        let sent: Vec<u8> = (0..1_500_000_u32)
            .map(|place| (place % 251) as u8)
            .collect();
        let (receive, mut send) = client.open(client.head("POST", "/echo"), false).await;
        let upload = async {
            for piece in sent.chunks(10_000) {
                within(std::future::poll_fn(|cx| send.poll_ready(cx)))
                    .await
                    .unwrap();
                send.send_data(Bytes::copy_from_slice(piece), false)
                    .unwrap();
            }
            send.finish().unwrap();
        };
        let (reply, ()) = tokio::join!(Reply::read(receive), upload);
        let reply = reply.unwrap();
        assert_eq!(reply.status(), 200);
        assert!(
            reply.body == sent,
            "{} bytes came back changed",
            reply.body.len()
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn both_bodies_stream_at_the_same_time() {
    in_all_versions(async |version| {
        let client = Client::of(
            version,
            Router::new().route("/echo", post(async |body: Body| body)),
        );
        let (mut receive, mut send) = client.open(client.head("POST", "/echo"), false).await;
        assert_eq!(status(&Reply::head(&mut receive).await.unwrap()), 200);
        for word in ["one", "two", "three"] {
            send.send_data(word.into(), false).unwrap();
            let Some(Ok(Received::Data(bytes))) = within(receive.next()).await else {
                panic!("no {word}")
            };
            assert_eq!(bytes, word);
        }
        send.finish().unwrap();
        assert!(within(receive.next()).await.is_none());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn pieces_of_a_response_arrive_before_the_next_one_is_made() {
    in_all_versions(async |version| {
        let (router, tap) = tapped();
        let client = Client::of(version, router);
        let (mut receive, _send) = client.open(client.head("GET", "/stream"), true).await;
        let head = Reply::head(&mut receive).await.unwrap();
        assert_eq!(head.get("content-length"), None);
        let mut tap = tap.lock().unwrap().take().unwrap();
        for word in ["one", "two"] {
            within(tap.send_data(word.into())).await.unwrap();
            let Some(Ok(Received::Data(bytes))) = within(receive.next()).await else {
                panic!("no {word}")
            };
            assert_eq!(bytes, word);
        }
        drop(tap);
        assert!(within(receive.next()).await.is_none());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c106_request_trailers_reach_the_application() {
    in_all_versions(async |version| {
        let handler = async |body: Body| {
            let body = body.collect().await.unwrap();
            let sum = body.trailers().unwrap()["x-sum"].clone();
            [
                (HeaderName::from_static("x-sum-seen"), sum),
                (HeaderName::from_static("x-body"), value_of(body.to_bytes())),
            ]
        };
        let client = Client::of(version, Router::new().route("/", post(handler)));
        let (receive, mut send) = client.open(client.head("POST", "/"), false).await;
        send.send_data("ab".into(), false).unwrap();
        send.send_data("cd".into(), false).unwrap();
        let mut trailers = HeaderBlock::new();
        trailers.append("x-sum", "42").unwrap();
        send.send_headers(trailers, true).unwrap();
        let reply = Reply::read(receive).await.unwrap();
        assert_eq!(
            (
                reply.status(),
                reply.header("x-sum-seen"),
                reply.header("x-body")
            ),
            (200, Some("42"), Some("abcd"))
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c110_response_trailers_come_last() {
    in_all_versions(async |version| {
        let (router, tap) = tapped();
        let client = Client::of(version, router);
        let (receive, _send) = client.open(client.head("GET", "/stream"), true).await;
        let reply = tokio::spawn(Reply::read(receive));
        let mut tap = within(async {
            loop {
                if let Some(tap) = tap.lock().unwrap().take() {
                    return tap;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        tap.send_data("body".into()).await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.append("x-sum", HeaderValue::from_static("1"));
        trailers.append("x-sum", HeaderValue::from_static("2"));
        trailers.append("connection", HeaderValue::from_static("close"));
        tap.send_trailers(trailers).await.unwrap();
        let reply = reply.await.unwrap().unwrap();
        assert_eq!(reply.body, b"body");
        let trailers = reply.trailers.unwrap();
        assert_eq!(
            (trailers.len(), trailers.get("x-sum")),
            (1, Some(&b"1\x002"[..]))
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c159_head_has_the_length_and_no_body() {
    in_all_versions(async |version| {
        let own = async || ([("content-length", "7")], "");
        let router = Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/own", axum::routing::head(own));
        let client = Client::of(version, router);
        for (path, length) in [("/", "5"), ("/own", "7")] {
            let reply = client.ask("HEAD", path).await;
            assert_eq!(
                (reply.status(), reply.header("content-length")),
                (200, Some(length))
            );
            assert_eq!(reply.body, b"");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c160_no_content_and_not_modified_have_no_body() {
    in_all_versions(async |version| {
        let router = Router::new()
            .route("/204", get(async || (StatusCode::NO_CONTENT, "x")))
            .route("/304", get(async || (StatusCode::NOT_MODIFIED, "x")));
        let client = Client::of(version, router);
        for (path, status) in [("/204", 204), ("/304", 304)] {
            let reply = client.ask("GET", path).await;
            assert_eq!((reply.status(), &reply.body[..]), (status, &b""[..]));
        }
        assert_eq!(
            client.ask("GET", "/204").await.header("content-length"),
            None
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn two_set_cookie_fields_are_two_values_of_one_field() {
    in_all_versions(async |version| {
        let handler = async || AppendHeaders([(SET_COOKIE, "a=1"), (SET_COOKIE, "b=2")]);
        let client = Client::of(version, Router::new().route("/", get(handler)));
        assert_eq!(
            client.ask("GET", "/").await.header("set-cookie"),
            Some("a=1\0b=2")
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn fields_of_one_request_do_not_appear_in_another() {
    in_all_versions(async |version| {
        let shown = async |request: Request| {
            let mut shown = format!("{} {}", request.method(), request.uri());
            for (name, value) in request.headers() {
                shown += &format!("\n{name}: {}", value.to_str().unwrap());
            }
            shown
        };
        let client = Client::of(version, Router::new().fallback(shown));
        // A request is read with the help of an earlier one; these differ from it in more and more.
        let requests = [
            ("GET", "/a", "x-user", "alice", "*/*", "a=1"),
            ("GET", "/b", "x-user", "alice", "*/*", "a=1"),
            ("GET", "/b", "x-user", "alice", "*/*", "a=1"),
            ("GET", "/b?q", "x-user", "alice", "image/png", "a=1"),
            ("GET", "/b?q", "x-user", "alicf", "*/*", "a=1"),
            ("DELETE", "/b", "x-user", "alice", "*/*", "a=1"),
            ("GET", "/b", "x-usex", "alice", "*/*", "a=1"),
            ("GET", "/b", "x-user", "alice", "*/*", "a=1\0b=2"),
            ("GET", "/b", "x-user", "bob", "text/html", "c=3"),
            ("GET", "/a", "x-user", "alice", "*/*", "a=1"),
        ];
        for (method, path, user_field, user, accept, cookie) in requests {
            let mut head = client.head(method, path);
            head.append(user_field, user).unwrap();
            head.append("accept", accept).unwrap();
            head.append("cookie", cookie).unwrap();
            let (receive, _send) = client.open(head, true).await;
            let body = Reply::read(receive).await.unwrap().body;
            let shown = String::from_utf8(body).unwrap();
            let mut lines: Vec<&str> = shown.lines().skip(1).collect();
            lines.sort_unstable();
            assert_eq!(
                shown.lines().next().unwrap(),
                format!("{method} https://a.test{path}")
            );
            let cookie = cookie.replace('\0', "; ");
            let expected = [
                format!("accept: {accept}"),
                format!("cookie: {cookie}"),
                "host: a.test".into(),
                format!("{user_field}: {user}"),
            ];
            assert_eq!(lines, expected);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn stream_info_has_version_id_and_priority() {
    in_all_versions(async |version| {
        let handler = async |Extension(info): Extension<StreamInfo>| {
            format!("{} {} {}", info.version, info.id, info.priority.get())
        };
        let client = Client::of(version, Router::new().route("/", get(handler)));
        client.ask("GET", "/").await;
        let how = OpenOptions::new()
            .fin(true)
            .priority(Priority::new(2).unwrap());
        let stream = client
            .session
            .open(client.head("GET", "/"), how)
            .await
            .unwrap();
        let reply = Reply::read(stream.split().0).await.unwrap();
        assert_eq!(
            String::from_utf8(reply.body).unwrap(),
            format!("{version} 3 2")
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c164_expect_continue_gets_no_interim_reply() {
    in_all_versions(async |version| {
        let client = Client::of(
            version,
            Router::new().route("/", post(async |body: Bytes| body)),
        );
        let mut head = client.head("POST", "/");
        head.append("expect", "100-continue").unwrap();
        let (receive, mut send) = client.open(head, false).await;
        send.send_data("body".into(), true).unwrap();
        let reply = Reply::read(receive).await.unwrap();
        assert_eq!((reply.status(), &reply.body[..]), (200, &b"body"[..]));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_get_may_finish_with_an_empty_data_frame() {
    in_all_versions(async |version| {
        let handler = async |request: Request| {
            value_of(request.into_body().collect().await.unwrap().to_bytes())
                .len()
                .to_string()
        };
        let client = Client::of(version, Router::new().route("/", get(handler)));
        let (receive, mut send) = client.open(client.head("GET", "/"), false).await;
        send.finish().unwrap();
        assert_eq!(Reply::read(receive).await.unwrap().body, b"0");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_response_may_come_before_the_request_has_ended() {
    in_all_versions(async |version| {
        let client = Client::of(version, Router::new().route("/", post(async || "early")));
        let (receive, mut send) = client.open(client.head("POST", "/"), false).await;
        let reply = Reply::read(receive).await.unwrap();
        assert_eq!((reply.status(), &reply.body[..]), (200, &b"early"[..]));
        send.send_data("late".into(), true).unwrap();
        assert_eq!(client.ask("GET", "/").await.status(), 405);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_length_is_not_announced_and_a_known_one_is() {
    in_all_versions(async |version| {
        let handler = async |body: Body| -> Response { body.into_response() };
        let client = Client::of(version, Router::new().route("/", post(handler)));
        assert_eq!(
            client.post("/", "12345").await.header("content-length"),
            None
        );
        let mut head = client.head("POST", "/");
        head.append("content-length", "5").unwrap();
        let (receive, mut send) = client.open(head, false).await;
        send.send_data("12345".into(), true).unwrap();
        assert_eq!(
            Reply::read(receive).await.unwrap().header("content-length"),
            Some("5")
        );
    })
    .await;
}

/// A route whose body the test itself makes, once it has been asked for.
fn tapped() -> (Router, Tap) {
    let tap = Tap::default();
    let open = Arc::clone(&tap);
    let handler = async move || {
        let (sender, body) = Channel::<Bytes, BoxError>::new(4);
        *open.lock().unwrap() = Some(sender);
        Body::new(body)
    };
    (Router::new().route("/stream", get(handler)), tap)
}

type Tap = Arc<Mutex<Option<Sender<Bytes, BoxError>>>>;

fn value_of(bytes: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(bytes).unwrap()
}

/// The body of the response is ready whenever it is asked: what it waits for is room in the send
/// queue, while its exchange also waits for the client to give up.
#[tokio::test(start_paused = true)]
async fn a_response_larger_than_every_queue_and_window_arrives_whole() {
    in_all_versions(async |version| {
        let large: Bytes = (0..3_000_000_u32)
            .map(|place| (place % 251) as u8)
            .collect();
        let pieces = large.clone();
        let handler = async move || {
            let pieces: Vec<_> = pieces.chunks(20_000).map(Bytes::copy_from_slice).collect();
            let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
            tokio::spawn(async move {
                for piece in pieces {
                    sender.send_data(piece).await.unwrap();
                }
            });
            Body::new(body)
        };
        let whole = large.clone();
        let router = Router::new()
            .route("/pieces", get(handler))
            .route("/whole", get(async move || whole));
        let client = Client::of(version, router);
        for path in ["/pieces", "/whole"] {
            let reply = client.ask("GET", path).await;
            assert!(reply.body == large, "{path}: {} bytes", reply.body.len());
        }
    })
    .await;
}
