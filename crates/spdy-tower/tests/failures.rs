//! Failures of one request: the client gets an error, and the session goes on.

mod support;

use std::{
    convert::Infallible,
    future::pending,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    Router,
    body::Body,
    http::{Request, Response, StatusCode, header},
    routing::{get, post},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use spdy_frame::{HeaderBlock, RstStatus, Version};
use spdy_session::{Config, Initiator, OversizedHeaders, Received, RecvStream, StreamError};
use spdy_tower::{BodyError, BoxError, Builder};
use tokio::sync::mpsc;
use tower::{Service, service_fn};

use self::support::{Client, Reply, in_all_versions, status, within};

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

#[tokio::test(start_paused = true)]
async fn a_client_that_cancels_drops_the_handler_and_breaks_the_body() {
    in_all_versions(async |version| {
        let (report, mut reports) = mpsc::unbounded_channel();
        let handler = async move |body: Body| {
            let ended = Ended(report.clone());
            let _ = report.send("began");
            tokio::spawn(async move {
                let error = body.collect().await.unwrap_err();
                let error = std::error::Error::source(&error)
                    .unwrap()
                    .downcast_ref::<BodyError>()
                    .unwrap()
                    .clone();
                assert!(
                    matches!(
                        error,
                        BodyError::Stream(StreamError::Reset {
                            status: RstStatus::CANCEL,
                            ..
                        })
                    ),
                    "{error:?}"
                );
                drop(ended);
            });
            let _ended = Ended(report.clone());
            pending::<()>().await;
        };
        let client = Client::of(version, Router::new().route("/", post(handler)));
        let (_receive, send) = client.open(client.head("POST", "/"), false).await;
        assert_eq!(within(reports.recv()).await, Some("began"));
        send.reset(RstStatus::CANCEL);
        assert_eq!(within(reports.recv()).await, Some("ended"));
        assert_eq!(within(reports.recv()).await, Some("ended"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_breaks_drops_the_handlers() {
    in_all_versions(async |version| {
        let (report, mut reports) = mpsc::unbounded_channel();
        let handler = async move |_body: Body| {
            let _ended = Ended(report.clone());
            let _ = report.send("began");
            pending::<()>().await;
        };
        let client = Client::of(version, Router::new().route("/", post(handler)));
        let _stream = client.open(client.head("POST", "/"), false).await;
        assert_eq!(within(reports.recv()).await, Some("began"));
        client.cut();
        assert_eq!(within(reports.recv()).await, Some("ended"));
        within(client.server).await.unwrap().unwrap_err();
    })
    .await;
}

/// Sends its name when it is dropped.
struct Ended(mpsc::UnboundedSender<&'static str>);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.send("ended");
    }
}

async fn drain(mut receive: RecvStream) -> Result<(), StreamError> {
    while let Some(received) = within(receive.next()).await {
        received?;
    }
    Ok(())
}

#[track_caller]
fn assert_reset(end: Result<(), StreamError>, expected: RstStatus) {
    match end {
        Err(StreamError::Reset { status, .. }) => assert_eq!(status, expected),
        other => panic!("no reset: {other:?}"),
    }
}

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

/// A value of the application whose drop panics.
#[derive(Clone)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        // A second panic would end the process.
        assert!(std::thread::panicking(), "on purpose: in the drop");
    }
}

/// A body of one byte whose drop panics.
struct Explosive {
    is_sent: bool,
    _bomb: Bomb,
}

impl Explosive {
    fn new() -> Self {
        Self {
            is_sent: false,
            _bomb: Bomb,
        }
    }
}

impl http_body::Body for Explosive {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        let is_sent = std::mem::replace(&mut self.is_sent, true);
        let frame = http_body::Frame::data(Bytes::from_static(b"1"));
        Poll::Ready((!is_sent).then_some(Ok(frame)))
    }
}

/// An error that panics when it is converted.
#[derive(Debug)]
struct Unspeakable;

impl From<Unspeakable> for BoxError {
    fn from(_: Unspeakable) -> Self {
        panic!("on purpose: in the conversion")
    }
}

/// A service that panics in one of its parts, as the path wants it.
struct Panics(Arc<AtomicBool>);

impl Clone for Panics {
    fn clone(&self) -> Self {
        let panics = self.0.swap(false, Ordering::Relaxed);
        assert!(!panics, "on purpose: in the clone");
        Self(Arc::clone(&self.0))
    }
}

impl Service<Request<spdy_tower::Body>> for Panics {
    type Response = Response<Explosive>;
    type Error = Unspeakable;
    type Future = std::future::Ready<Result<Self::Response, Unspeakable>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unspeakable>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<spdy_tower::Body>) -> Self::Future {
        let mut response = Response::new(Explosive::new());
        match request.uri().path() {
            "/extension" => _ = response.extensions_mut().insert(Bomb),
            "/error" => {
                std::mem::forget(response);
                return std::future::ready(Err(Unspeakable));
            }
            "/push" => {
                let pusher = spdy_tower::Pusher::of(&request).unwrap();
                pusher
                    .push("/pushed", Response::new(Explosive::new()))
                    .unwrap();
            }
            _ => {}
        }
        if let Some(tunnel) = spdy_tower::Tunnel::on(&mut request) {
            tokio::spawn(tunnel);
        }
        std::future::ready(Ok(response))
    }
}

/// What the application drops, converts or clones can panic as well. That ends one request at most.
#[tokio::test(start_paused = true)]
async fn a_panic_in_any_code_of_the_application_does_not_end_the_session() {
    in_all_versions(async |version| {
        let panics = Arc::new(AtomicBool::new(false));
        let builder = Builder::new().on_malformed(|_| panic!("on purpose: in the hook"));
        let client = Client::with(version, &builder, Panics(Arc::clone(&panics)));
        // A response that is complete stays a success.
        for (method, path, status) in [
            ("GET", "/body", 200),
            ("HEAD", "/body", 500),
            ("GET", "/extension", 500),
            ("GET", "/error", 500),
            ("GET", "/push", 200),
        ] {
            let reply = client.ask(method, path).await;
            assert_eq!(reply.status(), status, "{method} {path}");
        }
        let head = connect(version);
        let (receive, _send) = client.open(head, false).await;
        assert_eq!(Reply::read(receive).await.unwrap().status(), 500);
        panics.store(true, Ordering::Relaxed);
        assert_eq!(client.ask("GET", "/clone").await.status(), 500);
        let (receive, _send) = client.open(HeaderBlock::new(), true).await;
        assert_eq!(Reply::read(receive).await.unwrap().status(), 400);
        // The pushes have their time.
        tokio::time::sleep(std::time::Duration::from_secs(10)).await;
        assert_eq!(client.ask("GET", "/body").await.status(), 200);
    })
    .await;
}

/// The head of a request for a tunnel.
fn connect(version: Version) -> HeaderBlock {
    let names = match version {
        Version::V2 => ["method", "url", "version", "host"],
        _ => [":method", ":path", ":version", ":host"],
    };
    let values = ["CONNECT", "a.test:1", "HTTP/1.1", "a.test:1"];
    HeaderBlock::from_pairs(names.into_iter().zip(values)).unwrap()
}
