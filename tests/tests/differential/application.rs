//! One application with handlers of every shape. Which one a request gets says its field `x-shape`.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, COOKIE, DATE, HOST, SET_COOKIE, TRAILER},
};
use http_body::Frame;
use http_body_util::BodyExt;

use crate::form::trailers;

pub(crate) fn application() -> Router {
    Router::new().fallback(answer)
}

async fn answer(request: Request) -> Response {
    let shape = request.headers().get("x-shape").cloned();
    let shape = shape
        .as_ref()
        .and_then(|shape| shape.to_str().ok())
        .unwrap_or("no shape");
    let mut numbers = shape
        .split(':')
        .skip(1)
        .map(|number| number.parse().unwrap_or(0));
    let mut number = || numbers.next().unwrap_or(0_usize);
    match shape.split(':').next().unwrap_or_default() {
        "fields" => fields(&request).into_response(),
        "ignore" => "ignored".into_response(),
        "read" => read(request).await,
        "half" => half(request, number()).await,
        "echo" => echo(request),
        "early" => {
            tokio::spawn(request.into_body().collect());
            (StatusCode::PAYLOAD_TOO_LARGE, "too large").into_response()
        }
        "sized" => Response::new(Body::from(vec![b's'; number()])),
        "stream" => Response::new(Pieces::new(number(), number()).into()),
        "endless" => Response::new(Pieces::new(usize::MAX, 5_000).into()),
        "trailers" => {
            let body = Pieces::new(number(), number()).ending(End::Trailers);
            ([(TRAILER, "x-end")], Body::from(body)).into_response()
        }
        "panic" => panic!("on purpose: at once"),
        "panic-late" => {
            pause().await;
            panic!("on purpose: later")
        }
        "panic-body" => Response::new(Pieces::new(number(), 1_000).ending(End::Panic).into()),
        "error-body" => Response::new(Pieces::new(number(), 1_000).ending(End::Error).into()),
        "status" => status(number()).into_response(),
        "status-body" => (status(number()), "a body").into_response(),
        "status-length" => {
            (status(number()), [(CONTENT_LENGTH, "17")], Body::empty()).into_response()
        }
        "hop" => hop().into_response(),
        "date" => [(DATE, "Sun, 06 Nov 1994 08:49:37 GMT")].into_response(),
        "cookies" => cookies(number()).into_response(),
        "long-fields" => long_fields().into_response(),
        "wrong-length" => {
            let body = Body::from(Pieces::new(1, number()));
            ([(CONTENT_LENGTH, "5")], body).into_response()
        }
        "peer" => peer(&request).into_response(),
        "interim" => StatusCode::CONTINUE.into_response(),
        "multiple" => (
            StatusCode::MULTIPLE_CHOICES,
            [("x-empty", ""), ("x-high", "\u{e4}")],
        )
            .into_response(),
        other => (StatusCode::IM_A_TEAPOT, other.to_owned()).into_response(),
    }
}

/// What the application sees of a request, but for what says how the protocol frames it.
fn fields(request: &Request) -> String {
    let (uri, headers) = (request.uri(), request.headers());
    let host = headers.get(HOST).map(|host| host.to_str().unwrap_or("?"));
    let host = host.or_else(|| uri.authority().map(|authority| authority.as_str()));
    let target = uri.path_and_query().map(|target| target.as_str());
    let mut lines = Vec::new();
    for name in headers.keys() {
        // Some clients state the length of no body, others do not.
        let is_no_length = *name == CONTENT_LENGTH && headers[name] == "0";
        if is_no_length || is_of_transport(name) {
            continue;
        }
        let values: Vec<_> = headers
            .get_all(name)
            .iter()
            .map(|value| value.as_bytes().escape_ascii().to_string())
            .collect();
        let joint = if *name == COOKIE { "; " } else { " | " };
        lines.push(format!("{name}: {}", values.join(joint)));
    }
    lines.sort();
    format!(
        "{} {target:?} {host:?}\n{}",
        request.method(),
        lines.join("\n")
    )
}

fn is_of_transport(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-forwarded")
        || matches!(
            name,
            "host" | "te" | "connection" | "transfer-encoding" | "forwarded" | "via" | "x-real-ip"
        )
}

async fn read(request: Request) -> Response {
    match request.into_body().collect().await {
        Ok(all) => {
            let trailers = all.trailers().cloned();
            let body = all.to_bytes();
            let sum = body
                .iter()
                .fold(7_u64, |sum, &byte| sum.wrapping_mul(31) + u64::from(byte));
            format!("{} bytes, {sum:x}, {trailers:?}", body.len()).into_response()
        }
        Err(_) => (StatusCode::BAD_REQUEST, "the body failed").into_response(),
    }
}

fn echo(mut request: Request) -> Response {
    // HTTP/1.1 sends no trailers that are not announced.
    let trailer = request.headers_mut().remove(TRAILER);
    let mut response = Response::new(request.into_body());
    if let Some(trailer) = trailer {
        response.headers_mut().insert(TRAILER, trailer);
    }
    response
}

async fn half(request: Request, enough: usize) -> Response {
    let mut body = request.into_body();
    let mut read = 0;
    while read < enough {
        match body.frame().await {
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) => return StatusCode::BAD_REQUEST.into_response(),
            None => break,
        }
    }
    if read < enough { "all of it" } else { "enough" }.into_response()
}

fn status(code: usize) -> StatusCode {
    StatusCode::from_u16(code as u16).unwrap_or(StatusCode::OK)
}

fn hop() -> (HeaderMap, &'static str) {
    let fields = [
        (CONNECTION, "x-hop"),
        (HeaderName::from_static("keep-alive"), "timeout=5"),
        (HeaderName::from_static("x-hop"), "1"),
        (HeaderName::from_static("x-stays"), "2"),
    ];
    let fields = fields.map(|(name, value)| (name, HeaderValue::from_static(value)));
    (HeaderMap::from_iter(fields), "hop by hop")
}

fn cookies(count: usize) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for number in 0..count {
        let cookie = format!("c{number}=v; Path=/, {number}");
        fields.append(SET_COOKIE, cookie.parse().expect("it is a value"));
    }
    fields
}

fn long_fields() -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.append("x-long", "l".repeat(9_000).parse().expect("it is a value"));
    for number in 0..40 {
        let value = format!("value {number}").parse().expect("it is a value");
        fields.append("x-many", value);
    }
    fields
}

fn peer(request: &Request) -> String {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    format!("{:?}", peer.map(|ConnectInfo(peer)| peer.ip()))
}

async fn pause() {
    let mut is_over = false;
    poll_fn(|cx| {
        if is_over {
            return Poll::Ready(());
        }
        is_over = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A body with this number of pieces, whose length is not known before.
struct Pieces {
    left: usize,
    size: usize,
    end: End,
    is_paused: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Orderly,
    Trailers,
    Error,
    Panic,
}

impl Pieces {
    fn new(count: usize, size: usize) -> Self {
        Self {
            left: count,
            size,
            end: End::Orderly,
            is_paused: false,
        }
    }

    fn ending(self, end: End) -> Self {
        Self { end, ..self }
    }
}

impl From<Pieces> for Body {
    fn from(pieces: Pieces) -> Self {
        Self::new(pieces)
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = String;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        // Every other time others get their turn first.
        self.is_paused = !self.is_paused;
        if self.is_paused && self.left.is_multiple_of(2) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.left > 0 {
            self.left -= 1;
            return Poll::Ready(Some(Ok(Frame::data(vec![b'p'; self.size].into()))));
        }
        let end = std::mem::replace(&mut self.end, End::Orderly);
        Poll::Ready(match end {
            End::Orderly => None,
            End::Trailers => Some(Ok(Frame::trailers(trailers()))),
            End::Error => Some(Err("the disk is on fire".into())),
            End::Panic => panic!("on purpose: in the body"),
        })
    }
}
