//! Requests that are malformed, in the head, the body or the trailers.

use std::{
    convert::Infallible,
    future::pending,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::Body,
    http::{Request, Response, StatusCode},
    routing::{get, post},
};
use bytes::Bytes;
use http_body_util::BodyExt;
use spdy_frame::{HeaderBlock, RstStatus, Version};
use spdy_session::{Config, Initiator, OversizedHeaders, Received, StreamError};
use spdy_tower::Builder;
use tower::service_fn;

use crate::{
    assert_reset, drain,
    support::{Client, Reply, in_all_versions, status, within},
};

#[tokio::test(start_paused = true)]
async fn malformed_requests_get_400_and_never_reach_the_application() {
    in_all_versions(async |version| {
        let client = Client::of(
            version,
            service_fn(
                async |_: Request<spdy_tower::Body>| -> Result<Response<Body>, Infallible> {
                    panic!("a malformed request has arrived")
                },
            ),
        );
        let malformed: [&dyn Fn(&mut HeaderBlock); 5] = [
            &|head| *head = HeaderBlock::new(),
            &|head| head.append(":strange", "x").unwrap(),
            &|head| {
                head.append(
                    if version == Version::V2 {
                        "url"
                    } else {
                        ":path"
                    },
                    "/2",
                )
                .unwrap()
            },
            &|head| head.append("x-a", "a\x01b").unwrap(),
            &|head| head.append("content-length", "5, 5").unwrap(),
        ];
        for change in malformed {
            let mut head = client.head("GET", "/");
            change(&mut head);
            let (receive, _send) = client.open(head, true).await;
            let reply = Reply::read(receive).await.unwrap();
            assert_eq!((reply.status(), &reply.body[..]), (400, &b""[..]));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn strict_sessions_refuse_the_fields_of_a_connection() {
    in_all_versions(async |version| {
        for strict in [false, true] {
            let mut config = Config::default();
            config.strict = strict;
            let router = Router::new().route("/", get(async || "fine"));
            let client = Client::with(version, &Builder::new().config(config), router);
            let mut head = client.head("GET", "/");
            head.append("connection", "close").unwrap();
            let (receive, _send) = client.open(head, true).await;
            let status = Reply::read(receive).await.unwrap().status();
            assert_eq!(status, if strict { 400 } else { 200 });
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c144_a_request_head_that_is_too_large_is_431() {
    in_all_versions(async |version| {
        let client = Client::of(version, Router::new().route("/", get(async || "fine")));
        let mut head = client.head("GET", "/");
        for number in 0..200 {
            head.append(format!("x-{number}"), "x").unwrap();
        }
        let (receive, _send) = client.open(head, true).await;
        assert_eq!(Reply::read(receive).await.unwrap().status(), 431);
        assert_eq!(client.ask("GET", "/").await.status(), 200);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_head_that_is_too_large_is_reset_if_the_configuration_wants_that() {
    in_all_versions(async |version| {
        let mut config = Config::default();
        config.oversized_headers = OversizedHeaders::Reset;
        let builder = Builder::new().config(config);
        let client = Client::with(version, &builder, Router::new());
        let mut head = client.head("GET", "/");
        for number in 0..200 {
            head.append(format!("x-{number}"), "x").unwrap();
        }
        let (receive, _send) = client.open(head, true).await;
        let error = Reply::read(receive).await.unwrap_err();
        let initiator = Initiator::Remote;
        assert!(
            matches!(&error, StreamError::Reset { initiator: by, .. } if *by == initiator),
            "{error:?}"
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c154_a_body_shorter_than_announced_is_400() {
    in_all_versions(async |version| {
        for path in ["/read", "/swallow"] {
            let client = Client::of(version, readers());
            let reply = upload(&client, path, "10", &["12345"]).await.unwrap();
            assert_eq!(reply.status(), 400, "{path}");
        }
        let client = Client::of(version, readers());
        assert_400_or_reset(upload(&client, "/echo", "10", &["12345"]).await);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c155_a_body_longer_than_announced_is_400() {
    in_all_versions(async |version| {
        for path in ["/read", "/swallow"] {
            let client = Client::of(version, readers());
            let reply = upload(&client, path, "5", &["1234567890"]).await.unwrap();
            assert_eq!(reply.status(), 400, "{path}");
        }
        let client = Client::of(version, readers());
        assert_400_or_reset(upload(&client, "/echo", "5", &["1234567890"]).await);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c155_a_body_that_goes_wrong_after_the_response_began_resets_the_stream() {
    in_all_versions(async |version| {
        let client = Client::of(version, readers());
        let mut head = client.head("POST", "/echo");
        head.append("content-length", "5").unwrap();
        let (mut receive, mut send) = client.open(head, false).await;
        assert_eq!(status(&Reply::head(&mut receive).await.unwrap()), 200);
        send.send_data("123".into(), false).unwrap();
        assert!(matches!(
            within(receive.next()).await,
            Some(Ok(Received::Data(_)))
        ));
        send.send_data("456".into(), false).unwrap();
        assert_reset(drain(receive).await, RstStatus::PROTOCOL_ERROR);
    })
    .await;
}

/// The body of the response reads that of the request, and ends in order when that fails.
#[tokio::test(start_paused = true)]
async fn c154_c155_a_body_of_the_wrong_length_is_no_success_if_the_response_hides_it() {
    in_all_versions(async |version| {
        let hides = async |body: Body| Body::new(Hides(body));
        let router = Router::new().route("/", post(hides));
        for (length, piece) in [("10", "12345"), ("5", "1234567890")] {
            let client = Client::of(version, router.clone());
            assert_400_or_reset(upload(&client, "/", length, &[piece]).await);
        }
        // The response has begun.
        let client = Client::of(version, router);
        let mut head = client.head("POST", "/");
        head.append("content-length", "5").unwrap();
        let (mut receive, mut send) = client.open(head, false).await;
        send.send_data("123".into(), false).unwrap();
        assert_eq!(status(&Reply::head(&mut receive).await.unwrap()), 200);
        send.finish().unwrap();
        assert_reset(drain(receive).await, RstStatus::PROTOCOL_ERROR);
    })
    .await;
}

/// A body that ends where its source fails.
struct Hides(Body);

impl http_body::Body for Hides {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        let frame = Pin::new(&mut self.0).poll_frame(cx);
        frame.map(|frame| frame.and_then(Result::ok).map(Ok))
    }
}

#[tokio::test(start_paused = true)]
async fn malformed_trailers_are_400() {
    in_all_versions(async |version| {
        for (name, value) in [("content-length", "3"), (":path", "/"), ("x-a", " padded")] {
            let client = Client::of(version, readers());
            let (receive, mut send) = client.open(client.head("POST", "/read"), false).await;
            send.send_data("123".into(), false).unwrap();
            let mut trailers = HeaderBlock::new();
            trailers.append(name, value).unwrap();
            send.send_headers(trailers, true).unwrap();
            assert_eq!(Reply::read(receive).await.unwrap().status(), 400, "{name}");
        }
    })
    .await;
}

/// Each block is taken at once, so the session holds none of them; the body keeps what they say.
#[tokio::test(start_paused = true)]
async fn trailers_without_end_are_400() {
    in_all_versions(async |version| {
        let client = Client::of(version, readers());
        let (receive, mut send) = client.open(client.head("POST", "/read"), false).await;
        let mut blocks = 0;
        let mut reply = std::pin::pin!(Reply::read(receive));
        let reply = loop {
            assert!(blocks < 1000, "nothing bounds them");
            let mut trailers = HeaderBlock::new();
            let name = format!("x-{blocks}");
            trailers.append(&name, "v".repeat(1000)).unwrap();
            send.send_headers(trailers, false).unwrap();
            blocks += 1;
            let wait = std::time::Duration::from_millis(1);
            if let Ok(reply) = tokio::time::timeout(wait, &mut reply).await {
                break reply;
            }
        };
        assert!(blocks > 100, "{blocks}");
        assert_eq!(reply.unwrap().status(), 400);
    })
    .await;
}

/// A handler that sends the body back may have begun its response before the body turned out wrong.
fn assert_400_or_reset(reply: Result<Reply, StreamError>) {
    match reply {
        Ok(reply) => assert_eq!(reply.status(), 400),
        Err(error) => assert!(
            matches!(
                error,
                StreamError::Reset {
                    status: RstStatus::PROTOCOL_ERROR,
                    initiator: Initiator::Remote
                }
            ),
            "{error:?}"
        ),
    }
}

/// Handlers that read the body, send it back, or read it in a task of their own while they wait for
/// better times.
fn readers() -> Router {
    let read = async |body: Body| match body.collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(_) => Err(StatusCode::IM_A_TEAPOT),
    };
    let swallow = async |body: Body| {
        let task = tokio::spawn(body.collect());
        task.await.unwrap().unwrap_err();
        pending::<()>().await;
    };
    Router::new()
        .route("/read", post(read))
        .route("/echo", post(async |body: Body| body))
        .route("/swallow", post(swallow))
}

/// Sends the pieces before it looks at the reply.
async fn upload(
    client: &Client,
    path: &str,
    length: &str,
    pieces: &[&'static str],
) -> Result<Reply, StreamError> {
    let mut head = client.head("POST", path);
    head.append("content-length", length).unwrap();
    let (receive, mut send) = client.open(head, false).await;
    for piece in pieces {
        send.send_data(Bytes::from(*piece), false).unwrap();
    }
    send.finish().unwrap();
    Reply::read(receive).await
}
