//! Files that change, and what is remembered of them.

use std::{fs::OpenOptions, os::unix::fs::FileExt};

use spdy_server::{Timeouts, Version};
use spdy_tower::session::{self, HeaderBlock};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

use super::{
    common::server::{Running, plain},
    *,
};

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
