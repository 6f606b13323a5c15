//! The built-in site and the directory, called without a connection.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode},
};
use bytes::Bytes;
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use spdy_server::app;
use tower::ServiceExt;

struct Answer {
    status: StatusCode,
    fields: HeaderMap,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

impl Answer {
    fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }
}

async fn call(site: &Router, method: Method, path: &str, body: impl Into<Body>) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(body.into())
        .unwrap();
    let (head, body) = site.clone().oneshot(request).await.unwrap().into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    Answer {
        status: head.status,
        fields: head.headers,
        body: collected.to_bytes(),
        trailers,
    }
}

async fn get(path: &str) -> Answer {
    call(&app::site(), Method::GET, path, Body::empty()).await
}

async fn post(path: &str, body: impl Into<Body>) -> Answer {
    call(&app::site(), Method::POST, path, body).await
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn everything_the_page_refers_to_is_there() {
    let page = get("/").await;
    assert_eq!(page.fields["content-type"], "text/html; charset=utf-8");
    let references: Vec<_> = page
        .text()
        .split(['"', '\''])
        .filter(|text| text.starts_with('/') && text.contains('.'))
        .map(str::to_owned)
        .collect();
    assert!(references.len() >= 5, "{references:?}");
    for path in references {
        let answer = get(&path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        let kind = match path.rsplit('.').next().unwrap() {
            "css" => "text/css; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "svg" => "image/svg+xml",
            other => panic!("unexpected kind {other}"),
        };
        assert_eq!(answer.fields["content-type"], kind, "{path}");
        assert!(answer.body.len() > 200, "{path}");
    }
    assert!(
        !page.text().contains('{'),
        "a placeholder was left in the page"
    );
}

#[tokio::test]
async fn hello_is_100_bytes_of_text() {
    let answer = get("/hello").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body.len(), 100);
    assert!(answer.text().is_ascii());
    assert_eq!(answer.fields.len(), 3);
}

#[tokio::test]
async fn bytes_follow_the_pattern_and_match_their_checksum() {
    for bytes in [0, 1, 300, 65_536, 200_001] {
        let answer = get(&format!("/bytes/{bytes}")).await;
        let expected: Vec<u8> = (0..bytes).map(|i| ((i * 31 + 7) % 256) as u8).collect();
        assert!(answer.body == expected, "{bytes}");
        assert_eq!(answer.fields["x-sha256"], hex(&Sha256::digest(&expected)));
        assert_eq!(answer.fields["content-length"], bytes.to_string());
    }
}

#[tokio::test]
async fn bytes_has_a_bound_and_wants_a_number() {
    for bytes in ["17179869185", "18446744073709551616", "-1", "many"] {
        assert_eq!(
            get(&format!("/bytes/{bytes}")).await.status,
            StatusCode::BAD_REQUEST,
            "{bytes}"
        );
    }
    let largest = call(&app::site(), Method::HEAD, "/bytes/1000000", Body::empty()).await;
    assert_eq!(largest.fields["content-length"], "1000000");
    assert_eq!(largest.body.len(), 0);
}

#[tokio::test]
async fn echo_sends_back_what_it_was_sent() {
    let bytes: Vec<u8> = (0..3_000_000).map(|i| (i % 251) as u8).collect();
    let answer = post("/echo", bytes.clone()).await;
    assert!(answer.body == bytes);
    assert_eq!(answer.fields["content-type"], "application/octet-stream");
    assert_eq!(get("/echo").await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn sink_counts_and_has_no_limit_of_its_own() {
    assert_eq!(post("/sink", Body::empty()).await.text(), "0\n");
    assert_eq!(post("/sink", vec![0; 5_000_000]).await.text(), "5000000\n");
}

#[tokio::test]
async fn headers_shows_every_field_on_a_line() {
    let request = Request::builder()
        .uri("/headers")
        .header("x-one", "1")
        .header("x-two", "a")
        .header("x-two", "b")
        .body(Body::empty())
        .unwrap();
    let answer = app::site().oneshot(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "x-one: 1\nx-two: a\nx-two: b\n");
}

#[tokio::test(start_paused = true)]
async fn slow_waits_as_long_as_it_was_asked_to_and_a_minute_at_most() {
    let start = tokio::time::Instant::now();
    assert_eq!(get("/slow/30000").await.status, StatusCode::OK);
    assert!(start.elapsed().as_millis() >= 30_000);
    assert_eq!(get("/slow/60001").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn status_answers_with_the_status_if_it_is_final() {
    for code in [200, 204, 299, 304, 404, 418, 500, 599] {
        let answer = get(&format!("/status/{code}")).await;
        assert_eq!(answer.status.as_u16(), code);
        assert_eq!(answer.body.is_empty(), matches!(code, 204 | 304), "{code}");
    }
    for code in ["100", "101", "199", "600", "999", "70000", "ok"] {
        assert_eq!(
            get(&format!("/status/{code}")).await.status,
            StatusCode::BAD_REQUEST,
            "{code}"
        );
    }
}

#[tokio::test]
async fn cookies_are_two_fields() {
    let answer = get("/cookies").await;
    assert_eq!(answer.fields.get_all("set-cookie").iter().count(), 2);
}

#[tokio::test]
async fn the_trailer_is_the_checksum_of_the_text() {
    let answer = get("/trailers").await;
    let trailers = answer.trailers.as_ref().unwrap();
    assert_eq!(trailers["x-checksum"], hex(&Sha256::digest(&answer.body)));
    assert_eq!(answer.fields["trailer"], "x-checksum");
}

#[tokio::test]
async fn the_page_with_a_push_is_complete_without_it() {
    let page = get("/push").await;
    assert!(page.text().contains("/pushed.css"));
    assert_eq!(
        get("/pushed.css").await.fields["content-type"],
        "text/css; charset=utf-8"
    );
}

#[tokio::test]
async fn hold_reads_nothing_before_the_release() {
    let site = app::site();
    let (reads, body) = observed_body();
    let held = tokio::spawn({
        let site = site.clone();
        async move { call(&site, Method::POST, "/hold", body).await }
    });
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert!(!held.is_finished());
    assert!(
        !reads.load(Ordering::Relaxed),
        "the body was read before the release"
    );

    assert_eq!(
        call(&site, Method::GET, "/release", Body::empty())
            .await
            .text(),
        "1\n"
    );
    assert_eq!(held.await.unwrap().text(), "4\n");
    assert!(reads.load(Ordering::Relaxed));
    assert_eq!(
        call(&site, Method::GET, "/release", Body::empty())
            .await
            .text(),
        "0\n"
    );
}

/// A body of four bytes that reports when it is read.
fn observed_body() -> (Arc<AtomicBool>, Body) {
    let reads = Arc::<AtomicBool>::default();
    let observed = reads.clone();
    let body = http_body_util::Full::new(Bytes::from_static(b"four")).map_frame(move |frame| {
        observed.store(true, Ordering::Relaxed);
        frame
    });
    (reads, Body::new(body))
}

#[tokio::test]
async fn other_paths_are_not_found() {
    let answer = get("/nowhere?x").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.text(), "not found: /nowhere\n");
}

#[tokio::test]
async fn a_directory_is_served_and_nothing_outside_of_it() {
    let outside = Path::new(env!("CARGO_TARGET_TMPDIR")).join("site");
    let directory = outside.join("public");
    fs::create_dir_all(directory.join("sub")).unwrap();
    fs::write(outside.join("secret.txt"), "secret").unwrap();
    fs::write(directory.join("index.html"), "<p>index").unwrap();
    fs::write(directory.join("sub/a.txt"), "a").unwrap();
    let site = app::directory(&directory).unwrap();
    let get = |path| call(&site, Method::GET, path, Body::empty());

    assert_eq!(get("/").await.text(), "<p>index");
    let file = get("/sub/a.txt").await;
    assert_eq!(
        (file.text(), &file.fields["content-type"]),
        ("a", &"text/plain; charset=utf-8".parse().unwrap())
    );
    for path in [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/sub/..%2f..%2fsecret.txt",
        "/none",
    ] {
        assert_eq!(get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[test]
fn what_is_no_directory_is_an_error_that_names_it() {
    let missing = app::directory("/no/such/directory").unwrap_err();
    assert_eq!(
        missing.to_string(),
        "cannot serve the directory /no/such/directory"
    );
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    assert!(app::directory(file).is_err());
}
