//! What people put round their services works over SPDY as it does over HTTP/1.1: each layer, by
//! the client of this crate.

mod support;

use std::{
    io::Write,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    middleware::{Next, from_fn},
    routing::{get as on_get, post as on_post},
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compression, write::GzEncoder};
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH},
};
use http_body::Frame;
use http_body_util::{BodyExt, Channel};
use spdy_frame::Version;
use spdy_tower::{BoxError, client::SendRequest};
use tower::{ServiceBuilder, limit::GlobalConcurrencyLimitLayer};
use tower_http::{limit::RequestBodyLimitLayer, timeout::TimeoutLayer, trace::TraceLayer};

use self::support::{
    client::{body_of, client_of, get, post},
    in_all_versions, within,
};

#[tokio::test(start_paused = true)]
async fn a_compressed_stream_arrives_piece_by_piece() {
    in_all_versions(async |version| {
        let text = "over and over and ".repeat(1000);
        let sent = text.clone();
        let router = Router::new().route("/", on_get(async move || sent));
        let requests = client_of(version, router.layer(from_fn(compress)));
        let mut request = get("/");
        request
            .headers_mut()
            .insert("accept-encoding", HeaderValue::from_static("gzip"));
        let response = within(requests.send(request)).await.unwrap();
        assert_eq!(response.headers()["content-encoding"], "gzip");
        assert!(response.headers().get("content-length").is_none());
        let packed = body_of(response.into_body()).await;
        assert!(
            packed.starts_with(&[0x1f, 0x8b]) && packed.len() < 1000,
            "{}",
            packed.len()
        );

        let response = within(requests.send(get("/"))).await.unwrap();
        assert_eq!(body_of(response.into_body()).await, text);
    })
    .await;
}

/// Compresses a response if that is wanted, piece by piece. The layer of tower-http would bring
/// another inflater.
async fn compress(request: Request, next: Next) -> Response<Body> {
    let is_wanted = request.headers().contains_key(ACCEPT_ENCODING);
    let mut response = next.run(request).await;
    if !is_wanted {
        return response;
    }
    let fields = response.headers_mut();
    fields.remove(CONTENT_LENGTH);
    fields.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.map(|body| Body::new(Gzip(body)))
}

/// A body whose pieces are each a member of a gzip file.
struct Gzip(Body);

impl http_body::Body for Gzip {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.0).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(|piece| pack(&piece)))))
    }
}

fn pack(piece: &[u8]) -> Bytes {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(piece).unwrap();
    packed.finish().unwrap().into()
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_tower_http_answers_with_its_status() {
    in_all_versions(async |version| {
        let slow = async || tokio::time::sleep(Duration::from_secs(60)).await;
        let limit =
            TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_millis(20));
        let router = Router::new()
            .route("/slow", on_get(slow))
            .route("/", on_get(async || "fast"));
        let requests = client_of(version, router.layer(limit));
        let (slow, fast) = tokio::join!(
            within(requests.send(get("/slow"))),
            within(requests.send(get("/")))
        );
        assert_eq!(slow.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(fast.unwrap().status(), StatusCode::OK);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_above_the_limit_of_tower_http_is_413() {
    in_all_versions(async |version| {
        let router = Router::new().route("/", on_post(async |body: Bytes| body));
        let requests = client_of(version, router.layer(RequestBodyLimitLayer::new(100)));
        let response = within(requests.send(post("/", "x".repeat(100))))
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let response = within(requests.send(post("/", "x".repeat(101))))
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        // Without a length the bytes are counted as they come.
        let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
        sender.send_data("x".repeat(101).into()).await.unwrap();
        drop(sender);
        let request = http::Request::post("https://a.test/").body(body).unwrap();
        let response = within(requests.send(request)).await.unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_concurrency_limit_of_tower_delays_requests() {
    in_all_versions(async |version| {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (count, maximum) = (Arc::clone(&now), Arc::clone(&most));
        let slow = async move || {
            maximum.fetch_max(count.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            count.fetch_sub(1, Ordering::SeqCst);
        };
        let service = ServiceBuilder::new()
            .layer(GlobalConcurrencyLimitLayer::new(3))
            .service(Router::new().route("/", on_get(slow)));
        let requests = client_of(version, service);
        let all = (0..20).map(|_| tokio::spawn(requests.send(get("/"))));
        for response in all.collect::<Vec<_>>() {
            assert_eq!(
                within(response).await.unwrap().unwrap().status(),
                StatusCode::OK
            );
        }
        assert_eq!(most.load(Ordering::SeqCst), 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_trace_layer_sees_requests_and_ends_of_bodies() {
    in_all_versions(async |version| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = |what: &'static str| {
            let seen = Arc::clone(&seen);
            move || seen.lock().unwrap().push(what)
        };
        let (asked, answered, ended) = (note("request"), note("response"), note("end"));
        let layer = TraceLayer::new_for_http()
            .on_request(move |_: &Request, _: &tracing::Span| asked())
            .on_response(move |_: &Response<_>, _: Duration, _: &tracing::Span| answered())
            .on_eos(move |_: Option<&HeaderMap>, _: Duration, _: &tracing::Span| ended());
        let requests = client_of(
            version,
            Router::new()
                .route("/", on_get(async || "page"))
                .layer(layer),
        );
        let response = within(requests.send(get("/"))).await.unwrap();
        assert_eq!(body_of(response.into_body()).await, "page");
        assert_eq!(*seen.lock().unwrap(), ["request", "response", "end"]);
    })
    .await;
}

/// A bidirectional stream in the manner of gRPC: messages with a length before each, a status in
/// the trailers.
#[tokio::test(start_paused = true)]
async fn messages_with_lengths_and_trailers_stream_in_both_directions() {
    in_all_versions(async |version| {
        let requests = client_of(version, Router::new().route("/sum", on_post(sums)));
        let (mut sender, mut received) = call(&requests).await;
        let mut sum = 0;
        for number in 1..=100_u32 {
            sender.send_data(message(number)).await.unwrap();
            sum += number;
            assert_eq!(received.next().await, Some(sum));
        }
        drop(sender);
        assert_eq!(received.next().await, None);
        if version != Version::V2 {
            assert_eq!(received.trailers.unwrap()["grpc-status"], "0");
        }
    })
    .await;
}

/// Answers each number with the sum so far.
async fn sums(request: Request) -> Body {
    assert_eq!(request.headers()["te"], "trailers");
    let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
    let mut numbers = Messages::of(request.into_body());
    tokio::spawn(async move {
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += number;
            sender.send_data(message(sum)).await.unwrap();
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        sender.send_trailers(trailers).await.unwrap();
    });
    Body::new(body)
}

async fn call(
    requests: &SendRequest,
) -> (
    http_body_util::channel::Sender<Bytes, BoxError>,
    Messages<spdy_tower::Body>,
) {
    let (sender, body) = Channel::<Bytes, BoxError>::new(1);
    let request = http::Request::post("https://a.test/sum")
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap();
    let response = within(requests.send(request)).await.unwrap();
    (sender, Messages::of(response.into_body()))
}

fn message(number: u32) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(4);
    bytes.put_u32(number);
    bytes.freeze()
}

/// The messages of a body, however it is cut into frames.
struct Messages<B> {
    body: B,
    unread: BytesMut,
    trailers: Option<HeaderMap>,
}

impl<B: http_body::Body<Data = Bytes, Error: std::fmt::Debug> + Unpin> Messages<B> {
    fn of(body: B) -> Self {
        Self {
            body,
            unread: BytesMut::new(),
            trailers: None,
        }
    }

    async fn next(&mut self) -> Option<u32> {
        while self.unread.len() < 9 {
            match within(self.body.frame()).await?.unwrap().into_data() {
                Ok(bytes) => self.unread.extend_from_slice(&bytes),
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
        let mut message = self.unread.split_to(9);
        message.advance(5);
        Some(message.get_u32())
    }
}
