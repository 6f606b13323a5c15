//! Files that are compressed, before or by the server, and the charset of text.

use std::io::Read;

use flate2::read::GzDecoder;

use super::*;

fn text(lines: usize) -> String {
    (0..lines).map(|line| format!("line {line}\n")).collect()
}

fn unzip(bytes: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

const GZIP: (&str, &str) = ("accept-encoding", "gzip, deflate, br;q=0");

fn is_coded(fields: &HeaderMap) -> bool {
    fields.contains_key("content-encoding")
}

#[tokio::test]
async fn a_compressed_file_beside_another_is_sent_to_clients_that_accept_it() {
    let root = files("precompressed");
    for (name, text) in [
        ("a.css", "plain"),
        ("a.css.gz", "in gzip"),
        ("a.css.br", "in brotli"),
        ("a.css.zst", "in zstd"),
        ("b.css", "plain"),
        ("b.css.gz", "in gzip"),
        ("c.css.gz", "in gzip"),
        ("sub/index.html.gz", "in gzip"),
    ] {
        write_old(&root.join(name), text);
    }
    let site = serve(&root, |it| it.precompressed = true);
    for (path, accepted, coding, expected) in [
        ("/a.css", "gzip", "gzip", "in gzip"),
        ("/a.css", "gzip, br", "br", "in brotli"),
        ("/a.css", "gzip, br, zstd", "zstd", "in zstd"),
        ("/a.css", "br;q=0.5, gzip;q=1", "gzip", "in gzip"),
        ("/a.css", "identity", "", "plain"),
        ("/a.css", "", "", "plain"),
        ("/b.css", "gzip, br, zstd", "gzip", "in gzip"),
        ("/b.css", "br, zstd", "", "plain"),
        ("/b.css.gz", "br", "", "in gzip"),
        ("/sub/", "gzip, br", "gzip", "in gzip"),
    ] {
        // From the disk and from the cache.
        for _ in 0..2 {
            let asked = [("accept-encoding", accepted)];
            let (status, fields, body) = get_with(&site, path, &asked).await;
            assert_eq!(
                (status, &body[..]),
                (StatusCode::OK, expected.as_bytes()),
                "{path}"
            );
            let named = fields
                .get("content-encoding")
                .map_or("", |it| it.to_str().unwrap());
            assert_eq!(named, coding, "{path} {accepted}");
            assert_eq!(fields["vary"], "accept-encoding");
            assert_eq!(fields["content-length"], expected.len().to_string());
        }
    }
    let asked = [GZIP, ("range", "bytes=3-")];
    let (status, fields, body) = get_with(&site, "/a.css", &asked).await;
    assert_eq!(
        (status, &body[..]),
        (StatusCode::PARTIAL_CONTENT, &b"gzip"[..])
    );
    assert_eq!(fields["content-encoding"], "gzip");
    assert_eq!(fields["content-type"], "text/css; charset=utf-8");
    // Without the plain file there is nothing to compress.
    let (status, ..) = get_with(&site, "/c.css", &[GZIP]).await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    let request = Request::head("/a.css").header(GZIP.0, GZIP.1);
    let (_, fields, body) = ask(&site, request.body(Body::empty()).unwrap()).await;
    assert_eq!(fields["content-encoding"], "gzip");
    assert!(body.is_empty());
    let plain = serve(&root, |_| {});
    let (_, fields, body) = get_with(&plain, "/a.css", &[GZIP]).await;
    assert!(body == "plain" && !is_coded(&fields));
}

#[tokio::test]
async fn a_compressed_file_may_appear_and_be_out_of_reach() {
    let root = files("precompressed-later");
    write_old(&root.join("a.css"), "plain");
    let site = serve(&root, |it| it.precompressed = true);
    let ask = async || get_with(&site, "/a.css", &[GZIP]).await.2;
    assert_eq!(ask().await, "plain");
    write_old(&root.join("a.css.gz"), "in gzip");
    assert_eq!(ask().await, "in gzip");
    fs::remove_file(root.join("a.css.gz")).unwrap();
    assert_eq!(ask().await, "plain");
    symlink("/etc/passwd", root.join("a.css.gz")).unwrap();
    assert_eq!(ask().await, "plain");
}

#[tokio::test]
async fn text_is_sent_in_gzip_to_clients_that_accept_it() {
    let root = files("compress");
    let (short, long) = (text(500), text(50_000));
    write_old(&root.join("short.html"), &short);
    write_old(&root.join("long.js"), &long);
    write_old(&root.join("sub/index.html"), &short);
    let site = serve(&root, |it| it.compress = true);
    for (path, text) in [
        ("/short.html", &short),
        ("/long.js", &long),
        ("/sub/", &short),
    ] {
        for _ in 0..2 {
            let (status, fields, body) = get_with(&site, path, &[GZIP]).await;
            assert_eq!(status, StatusCode::OK);
            assert_eq!(fields["content-encoding"], "gzip");
            assert!(
                unzip(&body) == *text && body.len() < text.len() / 2,
                "{path}"
            );
            assert_eq!(fields["content-length"], body.len().to_string());
            assert_eq!(fields["vary"], "accept-encoding");
            assert!(!fields.contains_key("accept-ranges"));
            let tag = fields["etag"].to_str().unwrap().to_owned();
            assert!(tag.starts_with("W/\""), "{tag}");

            let known = [GZIP, ("if-none-match", &*tag)];
            let (status, fields, _) = get_with(&site, path, &known).await;
            assert_eq!(status, StatusCode::NOT_MODIFIED);
            assert_eq!(fields["etag"], tag);
            assert_eq!(fields["vary"], "accept-encoding");

            let (_, fields, body) = get(&site, path).await;
            assert!(!is_coded(&fields) && body == *text, "{path}");
            assert_eq!(fields["vary"], "accept-encoding");
            assert_eq!(fields["etag"].to_str().unwrap(), &tag[2..]);
            // A part is one of the file.
            let (status, fields, body) =
                get_with(&site, path, &[GZIP, ("range", "bytes=5-9")]).await;
            assert_eq!(status, StatusCode::PARTIAL_CONTENT);
            assert!(!is_coded(&fields) && body == text[5..10]);
            // The client might have a part of the compressed file.
            let date = fields["last-modified"].to_str().unwrap();
            let resumed = [GZIP, ("range", "bytes=5-"), ("if-range", date)];
            let (status, ..) = get_with(&site, path, &resumed).await;
            assert_eq!(status, StatusCode::OK);

            let request = Request::head(path).header(GZIP.0, GZIP.1);
            let (_, fields, body) = ask(&site, request.body(Body::empty()).unwrap()).await;
            assert!(is_coded(&fields) && body.is_empty());
        }
    }
}

#[tokio::test]
async fn what_would_not_become_shorter_or_still_changes_is_sent_as_it_is() {
    let root = files("compress-not");
    let noise: Vec<u8> = (0u64..3_000)
        .map(|i| ((i * i * 2_654_435_761) >> 13) as u8)
        .collect();
    write_old(&root.join("picture.png"), text(500));
    write_old(&root.join("noise.txt"), noise);
    write_old(&root.join("below.txt"), "x".repeat(1_023));
    write_old(&root.join("least.txt"), "x".repeat(1_024));
    write_old(&root.join("most.txt"), "x".repeat(100_000));
    write_old(&root.join("above.txt"), "x".repeat(100_001));
    // A file with this time of change could change again without a notice.
    fs::write(root.join("new.txt"), text(500)).unwrap();
    let new = OpenOptions::new().write(true).open(root.join("new.txt"));
    new.unwrap().set_modified(SystemTime::now() + LONG).unwrap();
    let site = serve(&root, |it| {
        it.compress = true;
        it.max_compressed = 100_000;
    });
    for (name, expected) in [
        ("picture.png", false),
        ("noise.txt", false),
        ("below.txt", false),
        ("least.txt", true),
        ("most.txt", true),
        ("above.txt", false),
        ("new.txt", false),
    ] {
        let (_, fields, _) = get_with(&site, &format!("/{name}"), &[GZIP]).await;
        assert_eq!(is_coded(&fields), expected, "{name}");
    }
    write_old(&root.join("new.txt"), text(500));
    let (_, fields, _) = get_with(&site, "/new.txt", &[GZIP]).await;
    assert!(is_coded(&fields), "it has not changed for a minute");
    // A change is noticed.
    write_old(&root.join("new.txt"), text(600));
    let (_, _, body) = get_with(&site, "/new.txt", &[GZIP]).await;
    assert_eq!(unzip(&body), text(600));
    let plain = serve(&root, |_| {});
    let (_, fields, _) = get_with(&plain, "/least.txt", &[GZIP]).await;
    assert!(!is_coded(&fields) && !fields.contains_key("vary"));
}

#[tokio::test]
async fn a_file_that_is_compressed_already_is_not_compressed_again() {
    let root = files("compress-both");
    write_old(&root.join("a.txt"), text(500));
    write_old(&root.join("b.txt"), text(500));
    write_old(&root.join("a.txt.gz"), "made before");
    let site = serve(&root, |it| {
        it.compress = true;
        it.precompressed = true;
    });
    let (_, fields, body) = get_with(&site, "/a.txt", &[GZIP]).await;
    assert_eq!(fields["content-encoding"], "gzip");
    assert_eq!(body, "made before");
    let (_, fields, body) = get_with(&site, "/b.txt", &[GZIP]).await;
    assert!(is_coded(&fields) && unzip(&body) == text(500));
    assert_eq!(fields.get_all("vary").iter().count(), 1);
}

#[tokio::test]
async fn text_names_its_charset() {
    let root = files("charset");
    for (name, kind) in [
        ("a.html", "text/html; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.txt", "text/plain; charset=utf-8"),
        ("a.svg", "image/svg+xml"),
        ("a.json", "application/json"),
        ("a.png", "image/png"),
        ("a", "application/octet-stream"),
    ] {
        fs::write(root.join(name), "a").unwrap();
        let site = serve(&root, |_| {});
        let (_, fields, _) = get(&site, &format!("/{name}")).await;
        assert_eq!(fields["content-type"], kind);
    }
}
