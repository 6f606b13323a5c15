//! Responses that are long, or not as long as announced.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::Body,
    http::header,
    routing::{get, post},
};
use bytes::Bytes;
use spdy_frame::RstStatus;

use crate::{
    assert_reset,
    support::{Client, Reply, in_all_versions},
};

/// The receiving half of a request may end long before the response does: then nothing about it is
/// asked again.
#[tokio::test(start_paused = true)]
async fn a_long_response_goes_on_when_the_body_of_its_request_is_read_or_dropped() {
    in_all_versions(async |version| {
        let long = async || Body::new(Pieces(64));
        let router = Router::new()
            .route("/ignores", get(long))
            .route("/reads", post(async move |_: Bytes| long().await));
        let client = Client::of(version, router);
        for (method, path) in [
            ("GET", "/ignores"),
            ("GET", "/ignores"),
            ("POST", "/reads"),
            ("POST", "/reads"),
        ] {
            let (receive, mut send) = client.open(client.head(method, path), false).await;
            // FIN comes on an empty frame of its own.
            send.finish().unwrap();
            let reply = Reply::read(receive).await.unwrap();
            assert_eq!((reply.status(), reply.body.len()), (200, 64 * PIECE));
        }
    })
    .await;
}

/// A client takes a body for whole that ends in order, and counts nothing.
#[tokio::test(start_paused = true)]
async fn a_response_whose_body_has_another_length_than_announced_is_no_success() {
    in_all_versions(async |version| {
        let announcing = |length: usize| {
            let fields = [(header::CONTENT_LENGTH, length.to_string())];
            get(async move || (fields, Body::new(Pieces(40))))
        };
        let router = Router::new()
            .route("/right", announcing(40 * PIECE))
            .route("/short", announcing(40 * PIECE + 1))
            .route("/long", announcing(40 * PIECE - 1))
            .route("/longest", announcing(0))
            .route(
                "/empty",
                get(async || ([(header::CONTENT_LENGTH, "1")], ())),
            );
        let client = Client::of(version, router);
        assert_eq!(client.ask("GET", "/right").await.body.len(), 40 * PIECE);
        for path in ["/short", "/long"] {
            let (receive, _send) = client.open(client.head("GET", path), true).await;
            let reply = Reply::read(receive).await.map(|_| ());
            assert_reset(reply, RstStatus::INTERNAL_ERROR);
        }
        for path in ["/longest", "/empty"] {
            assert_eq!(client.ask("GET", path).await.status(), 500, "{path}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_response_whose_body_has_another_length_than_its_size_hint_is_no_success() {
    in_all_versions(async |version| {
        let hinting = |length: usize| get(async move || Body::new(Hints(Pieces(40), length)));
        let router = Router::new()
            .route("/right", hinting(40 * PIECE))
            .route("/short", hinting(40 * PIECE + 1))
            .route("/long", hinting(40 * PIECE - 1))
            .route("/longest", hinting(0));
        let client = Client::of(version, router);
        assert_eq!(client.ask("GET", "/right").await.body.len(), 40 * PIECE);
        for path in ["/short", "/long"] {
            let (receive, _send) = client.open(client.head("GET", path), true).await;
            let reply = Reply::read(receive).await.map(|_| ());
            assert_reset(reply, RstStatus::INTERNAL_ERROR);
        }
        assert_eq!(client.ask("GET", "/longest").await.status(), 500);
    })
    .await;
}

/// A body with this size hint.
struct Hints(Pieces, usize);

impl http_body::Body for Hints {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.1 as u64)
    }
}

/// A body with this number of pieces.
struct Pieces(usize);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        let Some(left) = self.0.checked_sub(1) else {
            return Poll::Ready(None);
        };
        self.0 = left;
        Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(
            &[7; PIECE],
        )))))
    }
}

const PIECE: usize = 16 * 1024;
