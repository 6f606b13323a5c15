//! Errors of the application, before the head of its response and after it.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::Body,
    http::{Request, Response, StatusCode},
    routing::get,
};
use bytes::Bytes;
use http_body_util::Full;
use spdy_frame::RstStatus;
use spdy_tower::BoxError;
use tower::{Service, service_fn};

use crate::{
    assert_reset,
    support::{Client, Reply, in_all_versions},
};

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_is_500() {
    in_all_versions(async |version| {
        let late = async || {
            tokio::task::yield_now().await;
            panic!("on purpose: late");
        };
        let router = Router::new()
            .route(
                "/now",
                get(async || -> &'static str { panic!("on purpose: now") }),
            )
            .route("/late", get(async move || -> &'static str { late().await }))
            .route("/", get(async || "fine"));
        let client = Client::of(version, router);
        assert_eq!(client.ask("GET", "/now").await.status(), 500);
        assert_eq!(client.ask("GET", "/late").await.status(), 500);
        assert_eq!(client.ask("GET", "/").await.status(), 200);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_panics_when_called_is_500() {
    in_all_versions(async |version| {
        let service = service_fn(|request: Request<spdy_tower::Body>| {
            assert!(request.uri().path() == "/", "on purpose: in the call");
            async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::new()))) }
        });
        let client = Client::of(version, service);
        assert_eq!(client.ask("GET", "/bad").await.status(), 500);
        assert_eq!(client.ask("GET", "/").await.status(), 200);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_gives_an_error_is_500() {
    in_all_versions(async |version| {
        let service =
            service_fn(
                async |request: Request<spdy_tower::Body>| match request.uri().path() {
                    "/" => Ok(Response::new(Full::new(Bytes::from("fine")))),
                    _ => Err(BoxError::from("out of paper")),
                },
            );
        let client = Client::of(version, service);
        assert_eq!(client.ask("GET", "/bad").await.status(), 500);
        assert_eq!(client.ask("GET", "/").await.status(), 200);
        let client = Client::of(version, NeverReady);
        assert_eq!(client.ask("GET", "/").await.status(), 500);
    })
    .await;
}

/// A service whose readiness fails.
#[derive(Clone)]
struct NeverReady;

impl Service<Request<spdy_tower::Body>> for NeverReady {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Err("never ready".into()))
    }

    fn call(&mut self, _: Request<spdy_tower::Body>) -> Self::Future {
        unreachable!("it was never ready")
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_before_the_head_is_sent_is_500_and_a_reset_after_it() {
    in_all_versions(async |version| {
        let router = Router::new()
            .route("/first", get(async || Body::new(Breaks::after(&[]))))
            .route(
                "/behind-one",
                get(async || Body::new(Breaks::after(&["one"]))),
            )
            .route(
                "/second",
                get(async || Body::new(Breaks::after(&["one", "two"]))),
            )
            .route(
                "/panic",
                get(async || {
                    Body::new(Breaks {
                        panics: true,
                        ..Breaks::after(&["one", "two"])
                    })
                }),
            );
        let client = Client::of(version, router);
        // Nothing was sent before it was known what follows the first piece.
        for path in ["/first", "/behind-one"] {
            let reply = client.ask("GET", path).await;
            assert_eq!((reply.status(), &reply.body[..]), (500, &b""[..]));
        }
        for path in ["/second", "/panic"] {
            let (receive, _send) = client.open(client.head("GET", path), true).await;
            assert_reset(
                Reply::read(receive).await.map(|_| ()),
                RstStatus::INTERNAL_ERROR,
            );
        }
    })
    .await;
}

/// A body that gives some pieces and then breaks.
struct Breaks {
    pieces: Vec<&'static str>,
    panics: bool,
}

impl Breaks {
    fn after(pieces: &[&'static str]) -> Self {
        Self {
            pieces: pieces.iter().rev().copied().collect(),
            panics: false,
        }
    }
}

impl http_body::Body for Breaks {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        let Some(piece) = self.pieces.pop() else {
            assert!(!self.panics, "on purpose: the body breaks");
            return Poll::Ready(Some(Err("disk on fire".into())));
        };
        Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from(piece)))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_returns_1xx_is_500() {
    in_all_versions(async |version| {
        let client = Client::of(
            version,
            Router::new().route("/", get(async || StatusCode::SWITCHING_PROTOCOLS)),
        );
        assert_eq!(client.ask("GET", "/").await.status(), 500);
    })
    .await;
}
