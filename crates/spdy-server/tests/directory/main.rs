//! The directory of files: what is served, the HTTP side and the cache.

#![cfg(unix)]

mod attacks;
#[path = "../common/mod.rs"]
mod common;
mod compressed;
mod disk;
mod http;
mod listing;
mod not_found;

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use ::http::{HeaderMap, Method, Request, StatusCode};
use axum::{Router, body::Body};
use bytes::Bytes;
use http_body_util::BodyExt;
use spdy_server::app::{self, Directory};
use tower::ServiceExt;

use self::common::server::LONG;

/// Creates a directory for a test, with a small file and a large one.
fn files(test: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(path.join("sub")).unwrap();
    fs::write(path.join("small.txt"), bytes(SMALL)).unwrap();
    fs::write(path.join("large.bin"), bytes(LARGE)).unwrap();
    fs::write(path.join("sub/index.html"), "<p>sub").unwrap();
    path
}

const SMALL: usize = 1_000;
const LARGE: usize = 1_000_000;

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i % 251) as u8).collect()
}

/// Serves a directory with a configuration, and notices changes at once.
fn serve(path: &Path, set: impl FnOnce(&mut Directory)) -> Router {
    let mut directory = Directory::new(path);
    directory.trust = Duration::ZERO;
    set(&mut directory);
    app::directory(directory).unwrap()
}

/// Serves a directory whose changes are noticed after this time.
fn trusting(path: &Path, trust: Duration) -> Router {
    let mut directory = Directory::new(path);
    directory.trust = trust;
    app::directory(directory).unwrap()
}

const SOON: Duration = Duration::from_millis(30);

async fn ask(site: &Router, request: Request<Body>) -> (StatusCode, HeaderMap, Bytes) {
    let (head, body) = site.clone().oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, head.headers, body)
}

async fn get(site: &Router, path: &str) -> (StatusCode, HeaderMap, Bytes) {
    get_with(site, path, &[]).await
}

async fn get_with(
    site: &Router,
    path: &str,
    fields: &[(&str, &str)],
) -> (StatusCode, HeaderMap, Bytes) {
    let mut request = Request::get(path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    ask(site, request.body(Body::empty()).unwrap()).await
}

async fn body(site: &Router, path: &str) -> Bytes {
    let (status, _, body) = get(site, path).await;
    assert_eq!(status, StatusCode::OK, "{path}");
    body
}

/// Writes a file that was last changed a minute ago.
fn write_old(path: &Path, contents: impl AsRef<[u8]>) {
    fs::write(path, contents).unwrap();
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - LONG).unwrap();
}
