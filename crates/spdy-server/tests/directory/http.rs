//! Conditions, ranges, redirects and names.

use super::*;

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
        let tag = get(&site, name).await.1["etag"].clone();
        for (tag, expected) in [
            (tag.to_str().unwrap(), StatusCode::RANGE_NOT_SATISFIABLE),
            ("\"another\"", StatusCode::OK),
        ] {
            let asked = [("range", &*beyond), ("if-range", tag)];
            assert_eq!(get_with(&site, name, &asked).await.0, expected);
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
    symlink("loop", path.join("loop")).unwrap();
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

#[tokio::test]
async fn what_is_no_range_of_bytes_counts_for_nothing() {
    let path = files("directory-no-ranges");
    let site = trusting(&path, LONG);
    for range in ["items=0-5", "nonsense", "bytes=0-1,3-2"] {
        let (status, fields, body) = get_with(&site, "/small.txt", &[("range", range)]).await;
        assert_eq!((status, body.len()), (StatusCode::OK, SMALL), "{range}");
        assert_eq!(fields["content-length"], SMALL.to_string());
    }
}

/// Returns the parts of a response, each with its range, and checks its length.
fn parts(fields: &HeaderMap, body: &[u8]) -> Vec<(String, Vec<u8>)> {
    assert_eq!(fields["content-length"], body.len().to_string());
    let kind = fields["content-type"].to_str().unwrap();
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let boundary = format!("\r\n--{boundary}");
    let find = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).position(|it| it == text);
    let (mut rest, mut parts) = (body, Vec::new());
    loop {
        rest = rest.strip_prefix(boundary.as_bytes()).unwrap();
        if rest == b"--\r\n" {
            return parts;
        }
        let head = find(rest, b"\r\n\r\n").unwrap();
        let range = str::from_utf8(&rest[..head]).unwrap();
        let range = range.rsplit_once("content-range: bytes ").unwrap().1;
        rest = &rest[head + 4..];
        let len = find(rest, boundary.as_bytes()).unwrap();
        parts.push((range.to_owned(), rest[..len].to_vec()));
        rest = &rest[len..];
    }
}

#[tokio::test]
async fn several_ranges_are_the_parts_of_one_response() {
    let path = files("directory-several");
    let site = trusting(&path, LONG);
    for (name, count) in [("/small.txt", SMALL), ("/large.bin", LARGE)] {
        let whole = bytes(count);
        for (range, expected) in [
            ("bytes=0-0,2-3", vec![0..1, 2..4]),
            (
                "bytes=500- , -1,, 5-5",
                vec![500..count, count - 1..count, 5..6],
            ),
            ("bytes=0-1,2000000-,7-7", vec![0..2, 7..8]),
            ("bytes=1-1,1-1", vec![1..2, 1..2]),
        ] {
            let (status, fields, body) = get_with(&site, name, &[("range", range)]).await;
            assert_eq!(status, StatusCode::PARTIAL_CONTENT, "{name} {range}");
            let expected: Vec<_> = expected
                .into_iter()
                .map(|part| {
                    let range = format!("{}-{}/{count}", part.start, part.end - 1);
                    (range, whole[part].to_vec())
                })
                .collect();
            assert!(parts(&fields, &body) == expected, "{name} {range}");
        }
        // A single one that the file has.
        let (status, fields, body) =
            get_with(&site, name, &[("range", "bytes=5-9,9999999-")]).await;
        assert_eq!(
            (status, &body[..]),
            (StatusCode::PARTIAL_CONTENT, &whole[5..10])
        );
        assert_eq!(fields["content-range"], format!("bytes 5-9/{count}"));
        let (status, fields, body) = get_with(&site, name, &[("range", "bytes=-0,9999999-")]).await;
        assert_eq!((status, body.len()), (StatusCode::RANGE_NOT_SATISFIABLE, 0));
        assert_eq!(fields["content-range"], format!("bytes */{count}"));
        // More than the file, and more than there may be.
        let many = format!("bytes={}", vec!["0-0"; 32].join(","));
        let (status, fields, body) = get_with(&site, name, &[("range", &many)]).await;
        assert_eq!(status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(parts(&fields, &body).len(), 32);
        for range in ["bytes=0-,0-0", &format!("{many},0-0")] {
            let (status, _, body) = get_with(&site, name, &[("range", range)]).await;
            assert!(status == StatusCode::OK && body == whole, "{name} {range}");
        }
        // Only if the client has the beginning of this file.
        let tag = get(&site, name).await.1["etag"].clone();
        for (tag, expected) in [
            (tag.to_str().unwrap(), StatusCode::PARTIAL_CONTENT),
            ("\"another\"", StatusCode::OK),
        ] {
            let asked = [("range", "bytes=0-0,2-3"), ("if-range", tag)];
            assert_eq!(get_with(&site, name, &asked).await.0, expected);
        }
    }
    fs::write(path.join("empty"), "").unwrap();
    let (status, ..) = get_with(&site, "/empty", &[("range", "bytes=0-1,3-4")]).await;
    assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE);
}

#[tokio::test]
async fn a_range_counts_for_nothing_with_head() {
    let path = files("directory-head-ranges");
    let site = trusting(&path, LONG);
    for range in ["bytes=5-9", "bytes=0-1,5-9", "bytes=-5", "bytes=9999-"] {
        let request = Request::head("/small.txt").header("range", range);
        let (status, fields, _) = ask(&site, request.body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{range}");
        assert_eq!(fields["content-length"], SMALL.to_string(), "{range}");
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
