//! The directory of files: the HTTP side and the cache.

#![cfg(unix)]

mod common;

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode},
};
use bytes::Bytes;
use http_body_util::BodyExt;
use spdy_server::{
    Timeouts, Version,
    app::{self, Directory},
};
use spdy_tower::session::{self, HeaderBlock};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};
use tower::ServiceExt;

use self::common::server::{LONG, Running, plain};

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

/// Sends each request twice: the first is answered from the disk, the second from memory.
#[tokio::test]
async fn ranges_conditions_and_heads_are_answered_for_small_and_large_files_alike() {
    let path = files("directory-http");
    let site = trusting(&path, LONG);
    for (name, count) in [
        ("/small.txt", SMALL),
        ("/large.bin", LARGE),
        ("/small.txt", SMALL),
        ("/large.bin", LARGE),
    ] {
        let whole = bytes(count);
        let (status, fields, body) = get(&site, name).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, &whole[..]), "{name}");
        assert_eq!(fields["content-length"], count.to_string());

        let (tag, date) = (&fields["etag"], &fields["last-modified"]);
        for (field, value) in [("if-none-match", tag), ("if-modified-since", date)] {
            let condition = [(field, value.to_str().unwrap())];
            let (status, _, body) = get_with(&site, name, &condition).await;
            assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
        }

        for (range, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=100-299", 100..300),
            ("bytes=-7", count - 7..count),
            ("bytes=500-", 500..count),
            // Numbers above 64 bits, and a suffix that is longer than the file.
            ("bytes=500-99999999999999999999999", 500..count),
            ("bytes=-99999999999999999999999", 0..count),
            ("bytes=-2000000", 0..count),
            ("bytes=00-007", 0..8),
        ] {
            let (status, fields, body) = get_with(&site, name, &[("range", range)]).await;
            assert_eq!(status, StatusCode::PARTIAL_CONTENT, "{name} {range}");
            assert!(body == whole[part.clone()], "{name} {range}");
            let expected = format!("bytes {}-{}/{count}", part.start, part.end - 1);
            assert_eq!(fields["content-range"], expected);
        }
        let beyond = format!("bytes={count}-");
        for range in [&beyond, "bytes=99999999999999999999999-", "bytes=-0"] {
            let (status, ..) = get_with(&site, name, &[("range", range)]).await;
            assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE, "{range}");
        }

        let request = Request::builder().method(Method::HEAD).uri(name);
        let (status, fields, body) = ask(&site, request.body(Body::empty()).unwrap()).await;
        assert_eq!((status, body.len()), (StatusCode::OK, 0));
        assert_eq!(fields["content-length"], count.to_string());
    }
}

#[tokio::test]
async fn nothing_is_below_a_file() {
    let path = files("directory-below");
    let site = trusting(&path, LONG);
    for end in ["", "?a%2f"] {
        let (status, ..) = get(&site, &format!("/small.txt{end}")).await;
        assert_eq!(status, StatusCode::OK, "{end}");
    }
    for end in [
        "/", "%2f", "%2F", "/.", "/%2e", "%2f.", "%2F%2E", "%2f%2f", "/./",
    ] {
        for fields in [&[][..], &[("range", "bytes=-5")]] {
            let (status, ..) = get_with(&site, &format!("/small.txt{end}"), fields).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{end}");
        }
    }
    let (status, ..) = get(&site, "/sub%2f").await;
    assert!(status.is_redirection(), "{status}");
}

#[tokio::test]
async fn directories_lead_to_their_index_and_empty_files_are_empty() {
    let path = files("directory-index");
    fs::write(path.join("empty"), "").unwrap();
    fs::create_dir_all(path.join("odd/index.html")).unwrap();
    let site = trusting(&path, LONG);
    for _ in 0..2 {
        assert_eq!(body(&site, "/sub/").await, "<p>sub");
        let (status, fields, _) = get(&site, "/sub").await;
        assert!(status.is_redirection(), "{status}");
        assert_eq!(fields["location"], "./sub/");
        let (status, fields, body) = get(&site, "/empty").await;
        assert_eq!((status, body.len()), (StatusCode::OK, 0));
        assert_eq!(fields["content-length"], "0");
        // An index that is itself a directory.
        assert_eq!(get(&site, "/odd/").await.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_redirect_stays_at_its_host() {
    let path = files("directory-redirects");
    fs::create_dir_all(path.join("a:b")).unwrap();
    let site = trusting(&path, LONG);
    for (asked, location) in [
        ("//sub", "./sub/"),
        ("/sub?a=b", "./sub/?a=b"),
        ("/./sub", "./sub/"),
        ("/a:b", "./a:b/"),
        ("http://host//sub", "./sub/"),
    ] {
        let (status, fields, _) = get(&site, asked).await;
        assert!(status.is_redirection(), "{asked}: {status}");
        assert_eq!(fields["location"], location, "{asked}");
    }
}

#[tokio::test]
async fn names_that_no_file_can_have_are_not_found() {
    let path = files("directory-names");
    std::os::unix::fs::symlink("loop", path.join("loop")).unwrap();
    let site = trusting(&path, LONG);
    let (long, deep) = ("n".repeat(256), "d/".repeat(2_100));
    for name in [
        &*format!("/{long}"),
        &format!("/{long}/"),
        &format!("/sub/{long}/index.html"),
        &format!("/{deep}file"),
        &format!("/{deep}"),
        "/nul%00byte",
        "/small.txt/below",
        "/small.txt/",
        "/loop",
        "/loop/index.html",
        "/%ff",
    ] {
        assert_eq!(get(&site, name).await.0, StatusCode::NOT_FOUND, "{name}");
    }
}

#[tokio::test]
async fn an_empty_file_has_no_parts() {
    let path = files("directory-empty");
    fs::write(path.join("empty"), "").unwrap();
    let site = trusting(&path, LONG);
    for range in ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=5-"] {
        let (status, fields, body) = get_with(&site, "/empty", &[("range", range)]).await;
        let is_honest = status == StatusCode::RANGE_NOT_SATISFIABLE
            || (status == StatusCode::OK && !fields.contains_key("content-range"));
        assert!(is_honest && body.is_empty(), "{range}: {status} {fields:?}");
    }
}

/// Both responses are valid; an error is not.
#[tokio::test]
async fn of_several_ranges_all_is_sent_and_what_is_no_range_of_bytes_counts_for_nothing() {
    let path = files("directory-several");
    let site = trusting(&path, LONG);
    for range in ["bytes=0-0,2-3", "bytes=0-1, -1", "items=0-5", "nonsense"] {
        let (status, fields, body) = get_with(&site, "/small.txt", &[("range", range)]).await;
        assert_eq!((status, body.len()), (StatusCode::OK, SMALL), "{range}");
        assert_eq!(fields["content-length"], SMALL.to_string());
    }
}

/// A resumed download never joins two states of a file.
#[tokio::test]
async fn a_part_is_sent_only_if_the_file_is_what_the_client_has() {
    let path = files("directory-if-range");
    let site = trusting(&path, LONG);
    let fields = get(&site, "/large.bin").await.1;
    let known = |name| fields[name].to_str().unwrap().to_owned();
    let (tag, date) = (known("etag"), known("last-modified"));
    let weak = format!("W/{tag}");
    for (condition, expected) in [
        (&*tag, StatusCode::PARTIAL_CONTENT),
        (&date, StatusCode::PARTIAL_CONTENT),
        ("\"another\"", StatusCode::OK),
        ("Thu, 01 Jan 1970 00:00:00 GMT", StatusCode::OK),
        (&weak, StatusCode::OK),
        ("", StatusCode::OK),
    ] {
        let asked = [("range", "bytes=900000-"), ("if-range", condition)];
        let (status, _, body) = get_with(&site, "/large.bin", &asked).await;
        assert_eq!(status, expected, "{condition}");
        let from = if status == StatusCode::OK { 0 } else { 900_000 };
        assert!(body == bytes(LARGE)[from..], "{condition}");
    }
    // A missing part is not an error for a client whose file has changed.
    let asked = [("range", "bytes=2000000-"), ("if-range", "\"another\"")];
    assert_eq!(
        get_with(&site, "/large.bin", &asked).await.0,
        StatusCode::OK
    );
}

#[tokio::test]
async fn what_is_in_memory_is_believed_for_the_time_of_trust_and_no_longer() {
    let path = files("directory-trust");
    let (patient, curious) = (trusting(&path, LONG), trusting(&path, SOON));
    for name in ["/small.txt", "/sub/"] {
        for site in [&patient, &curious] {
            body(site, name).await;
        }
    }
    // The length is the same, and the time of change as well on many file systems.
    let mut changed = bytes(SMALL);
    changed.reverse();
    fs::write(path.join("small.txt"), &changed).unwrap();
    fs::remove_dir_all(path.join("sub")).unwrap();
    assert!(body(&patient, "/small.txt").await == bytes(SMALL));
    assert_eq!(body(&patient, "/sub/").await, "<p>sub");
    sleep(SOON).await;
    assert!(body(&curious, "/small.txt").await == changed);
    assert_eq!(get(&curious, "/sub/").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn without_memory_each_request_sees_the_disk() {
    let path = files("directory-forgetful");
    let mut directory = Directory::new(&path);
    (directory.max_entries, directory.trust) = (0, LONG);
    let site = app::directory(directory).unwrap();
    for text in ["one", "two", "three"] {
        fs::write(path.join("small.txt"), text).unwrap();
        assert_eq!(body(&site, "/small.txt").await, text);
    }
}

#[tokio::test]
async fn a_large_file_that_grows_is_never_older_than_its_request() {
    let path = files("directory-growing");
    let site = trusting(&path, LONG);
    for more in 0..5 {
        let whole = bytes(LARGE + more);
        fs::write(path.join("large.bin"), &whole).unwrap();
        assert!(body(&site, "/large.bin").await == whole, "{more}");
    }
}

#[tokio::test]
async fn a_file_that_is_written_to_while_it_is_sent_is_no_success() {
    let path = files("directory-torn").join("large.bin");
    // Also one that lacks a part of its last piece.
    for shorter in [None, Some(LARGE / 2), Some(LARGE - 1)] {
        fs::write(&path, bytes(LARGE)).unwrap();
        let site = trusting(path.parent().unwrap(), SOON);
        let request = Request::get("/large.bin").body(Body::empty()).unwrap();
        let mut body = site.oneshot(request).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        // The time of change must differ, which takes a few milliseconds on some file systems.
        sleep(SOON).await;
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        match shorter {
            Some(length) => file.set_len(length as u64).unwrap(),
            None => file.write_all_at(b"new", LARGE as u64 / 2).unwrap(),
        }
        let rest = body.collect().await;
        assert!(rest.is_err(), "the file was mixed, or too short");
    }
}

#[tokio::test]
async fn a_file_that_is_replaced_while_it_is_sent_is_sent_as_it_was() {
    let path = files("directory-replaced");
    let site = trusting(&path, Duration::ZERO);
    let request = Request::get("/large.bin").body(Body::empty()).unwrap();
    let mut under_way = site.clone().oneshot(request).await.unwrap().into_body();
    let first = under_way.frame().await.unwrap().unwrap();
    fs::write(path.join("next"), "new").unwrap();
    fs::rename(path.join("next"), path.join("large.bin")).unwrap();

    let rest = under_way.collect().await.unwrap().to_bytes();
    let first = first.into_data().unwrap();
    assert!([first, rest].concat() == bytes(LARGE));
    assert_eq!(body(&site, "/large.bin").await, "new");
}

#[tokio::test]
async fn a_pipe_is_not_found_and_nobody_waits_for_its_writer() {
    let path = files("directory-pipe");
    let made = Command::new("mkfifo").arg(path.join("pipe")).status();
    assert!(made.unwrap().success());
    let site = trusting(&path, LONG);
    assert_eq!(get(&site, "/pipe").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn over_spdy_a_file_that_changes_ends_in_a_reset() {
    const HUGE: usize = 16 << 20;
    let path = files("directory-reset");
    fs::write(path.join("huge.bin"), bytes(HUGE)).unwrap();
    let site = app::directory(&path).unwrap();
    let server = Running::start(plain(Timeouts::default()), site).await;
    let io = TcpStream::connect(server.address).await.unwrap();
    let (session, _pushes, driver) = session::client(io, Version::V3_1, session::Config::default());
    tokio::spawn(driver);
    let head = HeaderBlock::from_pairs([
        (":method", "GET"),
        (":path", "/huge.bin"),
        (":version", "HTTP/1.1"),
        (":host", "localhost"),
        (":scheme", "http"),
    ]);
    let mut stream = session
        .open(head.unwrap(), session::OpenOptions::default())
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let fields = stream.response_headers().await.unwrap();
    assert!(fields.get(":status").unwrap().starts_with(b"200"));

    // The client reads nothing, so the server has sent a window and waits.
    sleep(SOON).await;
    let file = OpenOptions::new().write(true).open(path.join("huge.bin"));
    file.unwrap().write_all_at(b"new", HUGE as u64 - 3).unwrap();
    let mut body = Vec::new();
    let ended = tokio::time::timeout(LONG, stream.read_to_end(&mut body)).await;
    assert!(ended.expect("the answer did not end").is_err());
    assert!(body.len() < HUGE);
}
