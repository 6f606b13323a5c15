//! Small handlers, each of which shows one feature of HTTP.

use std::{
    convert::Infallible,
    fmt::Write,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    extract::Path,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, SET_COOKIE, TRAILER},
    },
    response::{AppendHeaders, IntoResponse, Response},
};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};

/// Returns 100 bytes: the smallest response worth measuring. Only axum allocates memory for it.
pub(super) async fn hello() -> Response {
    let mut response = Response::new(Body::from(Bytes::from_static(&HELLO)));
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, TEXT);
    fields.insert(
        CACHE_CONTROL,
        const { HeaderValue::from_static("no-cache") },
    );
    response
}

/// Sends the body back while it arrives.
pub(super) async fn echo(fields: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    let kind = fields.get(CONTENT_TYPE).cloned();
    response
        .headers_mut()
        .insert(CONTENT_TYPE, kind.unwrap_or(BYTES));
    response
}

/// Reads the whole body and returns its length.
pub(super) async fn sink(mut body: Body) -> Response {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes += frame.data_ref().map_or(0, Bytes::len),
            Err(error) => {
                let message = format!("incomplete body after {bytes} bytes: {error}\n");
                return (StatusCode::BAD_REQUEST, message).into_response();
            }
        }
    }
    format!("{bytes}\n").into_response()
}

/// Returns the header fields of the request as the application received them.
pub(super) async fn headers(fields: HeaderMap) -> Response {
    let mut lines = Vec::new();
    for (name, value) in &fields {
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(value.as_bytes());
        lines.push(b'\n');
    }
    ([(CONTENT_TYPE, TEXT)], lines).into_response()
}

/// Responds after a delay.
pub(super) async fn slow(Path(milliseconds): Path<u64>) -> Response {
    if milliseconds > MAX_SLOW {
        return (
            StatusCode::BAD_REQUEST,
            format!("the delay must not exceed {MAX_SLOW} milliseconds\n"),
        )
            .into_response();
    }
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    format!("waited {milliseconds} ms\n").into_response()
}

/// Returns any final status.
pub(super) async fn status(Path(code): Path<u16>) -> Response {
    match StatusCode::from_u16(code) {
        Ok(
            status
            @ (StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED),
        ) => status.into_response(),
        Ok(status) if (200..600).contains(&code) => (status, format!("{status}\n")).into_response(),
        _ => (
            StatusCode::BAD_REQUEST,
            "the status must be a number from 200 to 599\n",
        )
            .into_response(),
    }
}

/// Sets two cookies, which must stay two fields.
pub(super) async fn cookies() -> impl IntoResponse {
    let cookies = [
        (SET_COOKIE, "colour=blue; Path=/"),
        (SET_COOKIE, "shape=round; Path=/; HttpOnly"),
    ];
    (AppendHeaders(cookies), "two cookies\n")
}

/// Returns a text, followed by its checksum.
pub(super) async fn trailers() -> impl IntoResponse {
    let text = "The checksum of this text comes after it, in a trailer.\n";
    let checksum =
        HeaderValue::try_from(hex(&Sha256::digest(text))).expect("hexadecimal digits are valid");
    let trailers = HeaderMap::from_iter([(CHECKSUM, checksum)]);
    let body = WithTrailers {
        text: Some(Bytes::from_static(text.as_bytes())),
        trailers: Some(trailers),
    };
    // HTTP/1.1 only sends trailers that were announced.
    (
        [(CONTENT_TYPE, TEXT), (TRAILER, CHECKSUM.into())],
        Body::new(body),
    )
}

/// A text of unknown length and its trailers. With a known length, HTTP/1.1 would not send the
/// trailers.
#[derive(Debug)]
struct WithTrailers {
    text: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl http_body::Body for WithTrailers {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self
            .text
            .take()
            .map(Frame::data)
            .or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(next.map(Ok))
    }
}

/// Returns bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a String takes any text");
            text
        })
}

static HELLO: [u8; 100] =
    *b"Hello! These are one hundred bytes of plain text, the same over SPDY/3.1, HTTP/2 and HTTP/1.1. Bye!\n";

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");
const CHECKSUM: HeaderName = HeaderName::from_static("x-checksum");

/// The maximum delay.
const MAX_SLOW: u64 = 60_000;
