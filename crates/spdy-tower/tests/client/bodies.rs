//! Bodies on their way, in both directions.

use std::{
    convert::Infallible,
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
    extract::Request,
    http::{HeaderMap, HeaderValue},
    routing::post as on_post,
};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, Channel};
use spdy_frame::{RstStatus, Version};
use spdy_session::Received;
use spdy_tower::{BoxError, client::Error};

use crate::support::{
    client::{Server, assert_reset, body_of, client_of, get, ok, post, reset_of},
    in_all_versions, within,
};

#[tokio::test(start_paused = true)]
async fn a_large_body_is_sent_and_received_unchanged() {
    in_all_versions(async |version| {
        let requests = client_of(
            version,
            Router::new().route("/", on_post(async |body: axum::body::Body| body)),
        );
        let sent: Bytes = (0..3_000_000_u32)
            .map(|place| (place % 251) as u8)
            .collect();
        let response = within(requests.send(post("/", sent.clone())))
            .await
            .unwrap();
        assert!(body_of(response.into_body()).await == sent);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn both_bodies_stream_at_the_same_time() {
    in_all_versions(async |version| {
        let requests = client_of(
            version,
            Router::new().route("/", on_post(async |body: axum::body::Body| body)),
        );
        let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
        let request = http::Request::post("https://a.test/").body(body).unwrap();
        let mut response = within(requests.send(request)).await.unwrap().into_body();
        for word in ["one", "two", "three"] {
            sender.send_data(word.into()).await.unwrap();
            let frame = within(response.frame()).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), word);
        }
        drop(sender);
        assert!(within(response.frame()).await.is_none());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c106_c110_trailers_go_both_ways() {
    in_all_versions(async |version| {
        let echo = async |request: Request| {
            let body = request.into_body().collect().await.unwrap();
            let trailers = body.trailers().cloned().unwrap();
            let (mut sender, back) = Channel::<Bytes, BoxError>::new(2);
            sender.send_data(body.to_bytes()).await.unwrap();
            sender.send_trailers(trailers).await.unwrap();
            axum::body::Body::new(back)
        };
        let requests = client_of(version, Router::new().route("/", on_post(echo)));
        let (mut sender, body) = Channel::<Bytes, BoxError>::new(2);
        sender.send_data("body".into()).await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("1"));
        sender.send_trailers(trailers.clone()).await.unwrap();
        let request = http::Request::post("https://a.test/").body(body).unwrap();
        let response = within(requests.send(request)).await.unwrap();
        let body = within(response.into_body().collect()).await.unwrap();
        // A client of SPDY/2 must ignore HEADERS behind DATA.
        let expected = (version != Version::V2).then_some(&trailers);
        assert_eq!(body.trailers(), expected);
        assert_eq!(body.to_bytes(), "body");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_resets_the_stream() {
    in_all_versions(async |version| {
        let (requests, mut server) = Server::new(version);
        let (sender, body) = Channel::<Bytes, BoxError>::new(1);
        let response = requests.send(http::Request::post("https://a.test/").body(body).unwrap());
        let fail = async {
            let (_receive, reply) = server.accept().await.split();
            sender.abort("out of paper".into());
            reset_of(reply).await
        };
        let (response, status) = tokio::join!(within(response), fail);
        let error = response.unwrap_err();
        assert!(matches!(&error, Error::Body(cause) if cause.to_string() == "out of paper"));
        assert_eq!(status, RstStatus::CANCEL);
    })
    .await;
}

/// The server must not take a body for complete that is not.
#[tokio::test(start_paused = true)]
async fn a_body_of_another_length_than_announced_is_an_error_and_resets_the_stream() {
    in_all_versions(async |version| {
        for (announced, pieces) in [
            ("5", &["four"][..]),
            ("5", &["sixsix"][..]),
            ("9", &["five5", "five5"][..]),
        ] {
            let (requests, mut server) = Server::new(version);
            let (mut sender, body) = Channel::<Bytes, BoxError>::new(2);
            for piece in pieces {
                sender.send_data((*piece).into()).await.unwrap();
            }
            drop(sender);
            let request =
                http::Request::post("https://a.test/").header("content-length", announced);
            let response = requests.send(request.body(body).unwrap());
            let serve = async { reset_of(server.accept().await.split().1).await };
            let (response, status) = tokio::join!(within(response), serve);
            let error = response.unwrap_err();
            assert!(matches!(error, Error::Body(_)), "{error:?}");
            assert!(!error.is_retry_safe());
            assert_eq!(status, RstStatus::CANCEL);
        }
        // Nothing is sent of a request whose body is empty instead.
        let (requests, mut server) = Server::new(version);
        let mut request = get("/");
        let five = HeaderValue::from_static("5");
        request.headers_mut().insert("content-length", five);
        let error = within(requests.send(request)).await.unwrap_err();
        assert!(matches!(error, Error::Body(_)), "{error:?}");
        tokio::time::timeout(Duration::from_secs(1), server.incoming.accept())
            .await
            .unwrap_err();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_dropped_resets_its_stream() {
    in_all_versions(async |version| {
        let (requests, mut server) = Server::new(version);
        let (_sender, body) = Channel::<Bytes, BoxError>::new(1);
        let response = requests.send(http::Request::post("https://a.test/").body(body).unwrap());
        let serve = async {
            let (_receive, reply) = server.accept().await.split();
            reply.send_reply(ok(version, &[]), false).unwrap()
        };
        let (response, send) = tokio::join!(within(response), serve);
        drop(response.unwrap());
        assert_reset(send, RstStatus::CANCEL).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_cut_is_an_error() {
    in_all_versions(async |version| {
        let (requests, mut server) = Server::new(version);
        let response = requests.send(get("/"));
        let (_receive, reply) = server.accept().await.split();
        let mut send = reply.send_reply(ok(version, &[]), false).unwrap();
        send.send_data("half".into(), false).unwrap();
        let mut body = within(response).await.unwrap().into_body();
        let half = within(body.frame()).await.unwrap().unwrap();
        assert_eq!(half.into_data().unwrap(), "half");
        send.reset(RstStatus::INTERNAL_ERROR);
        assert!(within(body.frame()).await.unwrap().is_err());
        assert!(within(body.frame()).await.is_none());
    })
    .await;
}

/// A body that is always ready, and counts what was taken of it.
struct Endless(Arc<AtomicUsize>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.fetch_add(1000, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 1000])))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_read_stops_the_upload() {
    in_all_versions(async |version| {
        let (requests, mut server) = Server::new(version);
        let taken = Arc::new(AtomicUsize::new(0));
        let request = http::Request::post("https://a.test/")
            .body(Endless(Arc::clone(&taken)))
            .unwrap();
        let response = tokio::spawn(requests.send(request));
        let (mut receive, reply) = server.accept().await.split();
        let mut before = 0;
        while taken.load(Ordering::Relaxed) != before {
            before = taken.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // The window, the queue and the pipe.
        assert!((10_000..600_000).contains(&before), "{before}");
        // An answer does not stop it, and reading goes on.
        let _send = reply.send_reply(ok(version, &[]), false).unwrap();
        let _response = within(response).await.unwrap().unwrap();
        let mut read = 0;
        while read < 1_000_000 {
            let Some(Ok(Received::Data(bytes))) = within(receive.next()).await else {
                panic!("the upload ended")
            };
            read += bytes.len();
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_upload_continues_after_a_complete_response() {
    in_all_versions(async |version| {
        let (requests, mut server) = Server::new(version);
        let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
        let response = requests.send(http::Request::post("https://a.test/").body(body).unwrap());
        let serve = async {
            let (receive, reply) = server.accept().await.split();
            reply.send_reply(ok(version, &[]), true).unwrap();
            receive
        };
        let (response, mut receive) = tokio::join!(within(response), serve);
        assert_eq!(body_of(response.unwrap().into_body()).await, "");
        sender.send_data("late".into()).await.unwrap();
        drop(sender);
        let Some(Ok(Received::Data(late))) = within(receive.next()).await else {
            panic!("nothing came")
        };
        assert_eq!(late, "late");
        assert!(within(receive.next()).await.is_none());
    })
    .await;
}
