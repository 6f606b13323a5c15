//! The page for what is not found, and directories that cannot be served.

use std::error::Error;

use super::*;

#[tokio::test]
async fn what_is_not_found_is_answered_with_a_page_and_the_status_404() {
    let root = files("not-found");
    let text = "<p>not here ".repeat(200);
    write_old(&root.join("sub/404 page.html"), &text);
    let site = serve(&root, |it| {
        it.not_found = Some("sub/404 page.html".into());
        it.compress = true;
        it.listing = true;
    });
    for path in [
        "/missing",
        "/.env",
        "/sub/missing/",
        "/../x",
        "/small.txt/",
        "/small.txt%2f",
    ] {
        let fields = [("range", "bytes=0-1"), ("if-none-match", "*")];
        let (status, fields, body) = get_with(&site, path, &fields).await;
        assert_eq!(
            (status, &body[..]),
            (StatusCode::NOT_FOUND, text.as_bytes()),
            "{path}"
        );
        assert_eq!(fields["content-type"], "text/html; charset=utf-8");
        for name in ["etag", "last-modified", "accept-ranges", "content-range"] {
            assert!(!fields.contains_key(name), "{name}");
        }
    }
    let (status, fields, _) = get_with(&site, "/missing", &[("accept-encoding", "gzip")]).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(fields["content-encoding"], "gzip");

    let head = Request::head("/missing").body(Body::empty()).unwrap();
    let (status, fields, body) = ask(&site, head).await;
    assert_eq!((status, body.len()), (StatusCode::NOT_FOUND, 0));
    assert_eq!(fields["content-length"], text.len().to_string());
    let post = Request::post("/missing").body(Body::empty()).unwrap();
    let (status, ..) = ask(&site, post).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);

    // What is found is not affected, and neither is a page that is gone.
    assert!(body_is(&site, "/small.txt", &bytes(SMALL)).await);
    assert_eq!(get(&site, "/sub/404%20page.html").await.0, StatusCode::OK);
    fs::remove_file(root.join("sub/404 page.html")).unwrap();
    let (status, _, body) = get(&site, "/missing").await;
    assert_eq!((status, body.len()), (StatusCode::NOT_FOUND, 0));
}

async fn body_is(site: &Router, path: &str, expected: &[u8]) -> bool {
    body(site, path).await == expected
}

#[test]
fn a_configuration_that_cannot_work_is_an_error_with_the_cure() {
    let root = files("not-found-errors");
    fs::write(root.join(".hidden.html"), "").unwrap();
    symlink("/etc/passwd", root.join("outside.html")).unwrap();
    let refused = |set: &dyn Fn(&mut Directory)| {
        let mut directory = Directory::new(&root);
        set(&mut directory);
        app::directory(directory).unwrap_err()
    };
    for page in [
        "missing.html",
        ".hidden.html",
        "outside.html",
        "sub",
        "../x",
        "/etc/passwd",
        "",
    ] {
        let error = refused(&|it| it.not_found = Some(page.into()));
        let (text, root) = (error.to_string(), root.display().to_string());
        assert!(
            text.contains(&root) && text.ends_with("such as 404.html"),
            "{text}"
        );
        assert!(error.source().is_some());
    }
    for set in [
        |it: &mut Directory| it.compress = true,
        |it: &mut Directory| it.listing = true,
    ] {
        let error = refused(&|it| {
            it.max_entries = 0;
            set(it);
        });
        assert!(error.to_string().contains("need the cache"), "{error}");
    }
    let error = refused(&|it| it.path = root.join("small.txt"));
    assert!(
        error.to_string().starts_with("cannot serve the directory"),
        "{error}"
    );
}
