//! The options of `spdy get` that users of curl know, over SPDY and other protocols.

#[path = "../common/mod.rs"]
mod common;

mod attacks;
mod bodies;
#[cfg(unix)]
mod ends;
mod outputs;
mod reach;
mod requests;

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Path, Request},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{any, get},
};
use flate2::{Compression, write::GzEncoder};

use self::common::{PROTOCOLS, Ran, Running, run};

/// Runs `spdy get` with these words after the flags of a protocol.
async fn get_by(protocol: &[&str], words: &[&str]) -> Ran {
    run(&[&["get"], protocol, words].concat()).await
}

/// Describes a request in its response.
async fn mirror(request: Request) -> String {
    let (head, body) = request.into_parts();
    let target = head.uri.path_and_query().unwrap();
    let mut text = format!("{} {target}\n", head.method);
    if let Some(authority) = head.uri.authority() {
        text += &format!("host: {authority}\n");
    }
    for (name, value) in &head.headers {
        text += &format!("{name}: {}\n", value.to_str().unwrap());
    }
    let body = to_bytes(body, usize::MAX).await.unwrap();
    text + "\n" + &String::from_utf8_lossy(&body)
}

fn redirect(status: u16, location: &str) -> Response {
    let redirect = Response::builder().status(status);
    redirect
        .header("location", location)
        .body(Body::empty())
        .unwrap()
}

fn app() -> Router {
    let failures = Arc::new(AtomicUsize::new(0));
    Router::new()
        .route(
            "/hop/{left}",
            any(async |Path(left): Path<u32>| match left {
                0 => redirect(302, "/mirror"),
                _ => redirect(301, &format!("../hop/{}", left - 1)),
            }),
        )
        .route("/loop", any(async || redirect(302, "/loop")))
        .route("/ftp", any(async || redirect(302, "ftp://a.test/")))
        .route("/nowhere", any(async || redirect(302, "http://[::1/")))
        .route(
            "/status/{status}",
            any(async |Path(status): Path<u16>| {
                (StatusCode::from_u16(status).unwrap(), "not what you want")
            }),
        )
        .route("/same", any(async || redirect(307, "/mirror")))
        .route(
            "/away/{port}",
            any(async |Path(port): Path<u16>| {
                redirect(302, &format!("http://127.0.0.1:{port}/mirror"))
            }),
        )
        .route("/digits", get(digits))
        .route("/gzip/{cut}", get(gzip))
        .route(
            "/flaky",
            any(
                async move || match failures.fetch_add(1, Ordering::Relaxed) % 3 {
                    2 => StatusCode::OK,
                    _ => StatusCode::SERVICE_UNAVAILABLE,
                },
            ),
        )
        .route("/silent", any(std::future::pending::<()>))
        .route("/endless", any(endless))
        .route("/endless-gzip", any(endless_gzip))
        .fallback(mirror)
}

/// Ten digits, or those that the range asks for.
async fn digits(headers: HeaderMap) -> Response {
    let whole = "0123456789";
    let response = Response::builder();
    let Some(range) = headers.get("range") else {
        return response.body(whole.into()).unwrap();
    };
    let start = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
    let start: usize = start.strip_suffix('-').unwrap().parse().unwrap();
    if start >= whole.len() {
        let response = response.status(416).header("content-range", "bytes */10");
        return response.body(Body::empty()).unwrap();
    }
    let response = response.status(206);
    let response = response.header("content-range", format!("bytes {start}-9/10"));
    response.body(whole[start..].into()).unwrap()
}

/// A million bytes, compressed if the client asks for that. `cut` bytes are missing at the end.
async fn gzip(Path(cut): Path<usize>, headers: HeaderMap) -> Response {
    let whole = "spdy ".repeat(200_000);
    if headers.get("accept-encoding").is_none_or(|it| it != "gzip") {
        return Response::new(whole.into());
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(whole.as_bytes()).unwrap();
    let mut body = encoder.finish().unwrap();
    body.truncate(body.len() - cut);
    let response = Response::builder().header("content-encoding", "gzip");
    response.body(body.into()).unwrap()
}

/// 1000 of 2000 bytes, and then nothing.
async fn endless() -> Response {
    let first = futures_util::stream::iter([Ok::<_, std::io::Error>(vec![b'x'; 1000])]);
    let rest = futures_util::stream::pending();
    let body = Body::from_stream(futures_util::StreamExt::chain(first, rest));
    let response = Response::builder().header("content-length", "2000");
    response.body(body).unwrap()
}

/// The first half of a million bytes, compressed.
fn first_of_gzip() -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder
        .write_all("spdy ".repeat(200_000).as_bytes())
        .unwrap();
    let mut body = encoder.finish().unwrap();
    body.truncate(body.len() / 2);
    body
}

/// The first half of a compressed body, and then nothing.
async fn endless_gzip() -> Response {
    let first = futures_util::stream::iter([Ok::<_, std::io::Error>(first_of_gzip())]);
    let rest = futures_util::stream::pending();
    let body = Body::from_stream(futures_util::StreamExt::chain(first, rest));
    let response = Response::builder().header("content-encoding", "gzip");
    response.body(body).unwrap()
}

async fn start() -> (Running, impl Fn(&str) -> String) {
    let server = Running::start(app()).await;
    let address = server.address;
    (server, move |path| format!("http://{address}{path}"))
}
