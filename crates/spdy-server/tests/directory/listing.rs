//! Lists of directories.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use super::*;

/// Creates an empty directory.
fn listed(test: &str) -> PathBuf {
    let root = files(test);
    fs::remove_dir_all(root.join("sub")).unwrap();
    fs::remove_file(root.join("large.bin")).unwrap();
    fs::remove_file(root.join("small.txt")).unwrap();
    root
}

async fn list(site: &Router, path: &str) -> String {
    let (status, fields, body) = get(site, path).await;
    assert_eq!(status, StatusCode::OK, "{path}");
    assert_eq!(fields["content-type"], "text/html; charset=utf-8");
    assert!(fields.contains_key("content-security-policy"));
    String::from_utf8(body.into()).unwrap()
}

/// Returns the links of a list that lead to its entries.
fn links(page: &str) -> Vec<&str> {
    let links = page.split("href=\"").skip(1);
    let links = links.map(|rest| rest.split('"').next().unwrap());
    links.filter(|link| link.starts_with("./")).collect()
}

#[tokio::test]
async fn a_directory_is_listed_only_if_that_is_wanted_and_it_has_no_index() {
    let root = files("listing-wanted");
    fs::create_dir(root.join("empty")).unwrap();
    let (safe, open) = (serve(&root, |_| {}), serve(&root, |it| it.listing = true));
    for path in ["/", "/empty/"] {
        assert_eq!(get(&safe, path).await.0, StatusCode::NOT_FOUND);
        assert!(list(&open, path).await.starts_with("<!doctype html>"));
    }
    assert_eq!(body(&open, "/sub/").await, "<p>sub");
    assert_eq!(get(&open, "/missing/").await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(&open, "/small.txt/").await.0, StatusCode::NOT_FOUND);
    assert!(get(&open, "/empty").await.0.is_redirection());

    let request = Request::head("/empty/").body(Body::empty()).unwrap();
    let (status, fields, body) = ask(&open, request).await;
    assert_eq!((status, body.len()), (StatusCode::OK, 0));
    assert!(!fields.contains_key("content-length"), "{fields:?}");
    assert_eq!(fields["content-type"], "text/html; charset=utf-8");
    let request = Request::post("/empty/").body(Body::empty()).unwrap();
    let (status, ..) = ask(&open, request).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn an_index_that_is_a_directory_is_missing() {
    let root = listed("listing-no-index");
    fs::create_dir_all(root.join("sub/index.html/below")).unwrap();
    for (listing, expected) in [(false, StatusCode::NOT_FOUND), (true, StatusCode::OK)] {
        let site = serve(&root, |it| it.listing = listing);
        for method in [Method::GET, Method::HEAD] {
            let request = Request::builder().method(method.clone()).uri("/sub/");
            let (status, ..) = ask(&site, request.body(Body::empty()).unwrap()).await;
            assert_eq!(status, expected, "{method}");
        }
    }
    let site = serve(&root, |it| it.listing = true);
    assert_eq!(links(&list(&site, "/sub/").await), ["./index.html/"]);
    assert_eq!(links(&list(&site, "/sub/index.html/").await), ["./below/"]);
}

#[tokio::test]
async fn names_are_escaped_and_their_links_lead_to_them() {
    let root = listed("listing-names");
    let names = [
        "a&amp;b<script>alert(1)</script>.txt".replace('/', "-"),
        "\"quotes\" and 'more'".into(),
        "50%25#fragment?query".into(),
        "javascript:alert(1)".into(),
        "back\\slash".into(),
        " spaces ".into(),
        "ünïcödé ☃".into(),
        "//evil".replace('/', "-"),
        "new\nline".into(),
    ];
    for name in &names {
        fs::write(root.join(name), name).unwrap();
    }
    let directory = root.join("<i>&:");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("x"), "x").unwrap();
    let site = serve(&root, |it| it.listing = true);
    let page = list(&site, "/").await;
    for unescaped in ["<script", "<i>", "\"quotes", "'more", "&amp;b"] {
        assert!(!page.contains(unescaped), "{unescaped}: {page}");
    }
    let links = links(&page);
    assert_eq!(links.len(), names.len() + 1);
    let mut read = Vec::new();
    for link in &links[1..] {
        let path = link.strip_prefix('.').unwrap();
        let text = body(&site, path).await;
        read.push(String::from_utf8(text.into()).unwrap());
    }
    let mut names = names.to_vec();
    names.sort_unstable();
    assert_eq!(read, names);
    let below = list(&site, links[0].strip_prefix('.').unwrap()).await;
    assert!(below.contains("<h1>/&lt;i&gt;&amp;:/</h1>"), "{below}");
    assert!(below.contains("href=\"../\""), "{below}");
}

#[tokio::test]
async fn what_is_not_served_is_not_listed() {
    let root = listed("listing-hidden");
    for name in [".env", "shown.txt", "-"] {
        fs::write(root.join(name), "").unwrap();
    }
    fs::create_dir(root.join(".well-known")).unwrap();
    symlink("shown.txt", root.join("inside")).unwrap();
    symlink("/etc/passwd", root.join("outside")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    if cfg!(target_os = "linux") {
        // A name that is not UTF-8, which no request can name.
        fs::write(root.join(OsStr::from_bytes(b"\xff")), "").unwrap();
    }
    let site = serve(&root, |it| it.listing = true);
    let expected = ["./.well-known/", "./-", "./inside", "./shown.txt"];
    assert_eq!(links(&list(&site, "/").await), expected);
    let open = serve(&root, |it| {
        it.listing = true;
        it.hidden = true;
    });
    let expected = ["./.well-known/", "./-", "./.env", "./inside", "./shown.txt"];
    assert_eq!(links(&list(&open, "/").await), expected);
}

#[tokio::test]
async fn lists_have_an_order_and_directories_come_first() {
    let root = listed("listing-orders");
    let now = SystemTime::now();
    for (name, len, age) in [("a", 30, 2), ("b", 10, 3), ("c", 20, 1), ("d", 20, 0)] {
        let file = fs::File::create(root.join(name)).unwrap();
        file.set_len(len).unwrap();
        file.set_modified(now - age * LONG).unwrap();
    }
    for name in ["y", "z"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    let site = serve(&root, |it| it.listing = true);
    for (query, expected) in [
        ("", "y/ z/ a b c d"),
        ("?sort=name", "y/ z/ a b c d"),
        ("?sort=name&order=desc", "z/ y/ d c b a"),
        ("?sort=size&order=asc", "y/ z/ b c d a"),
        ("?sort=size&order=desc", "z/ y/ a d c b"),
        ("?sort=time", "y/ z/ b a c d"),
        ("?order=desc&sort=time", "z/ y/ d c a b"),
        ("?sort=colour&order=&&=&sort", "y/ z/ a b c d"),
    ] {
        let page = list(&site, &format!("/{query}")).await;
        let names: Vec<_> = links(&page).iter().map(|link| &link[2..]).collect();
        let names = names.join(" ");
        match query.contains("time") {
            // The directories were made in an instant.
            true => assert_eq!(names[6..], expected[6..], "{query}"),
            false => assert_eq!(names, expected, "{query}"),
        }
    }
    let page = list(&site, "/?sort=size").await;
    for link in ["?sort=name&amp;order=asc", "?sort=size&amp;order=desc"] {
        assert!(page.contains(&format!("href=\"{link}\"")), "{page}");
    }
}

#[tokio::test]
async fn a_list_ends_at_its_limit_with_a_note() {
    let root = listed("listing-limit");
    for name in 0..5 {
        fs::write(root.join(name.to_string()), "").unwrap();
    }
    for (limit, shown) in [(0, 0), (4, 4), (5, 5), (6, 5)] {
        let site = serve(&root, |it| {
            it.listing = true;
            it.max_listed = limit;
        });
        let page = list(&site, "/").await;
        assert_eq!(links(&page).len(), shown);
        let note = format!("ends after {shown} entries");
        assert_eq!(page.contains(&note), limit < 5, "{page}");
    }
    // It must fit into the cache.
    let site = serve(&root, |it| {
        it.listing = true;
        it.max_bytes = 200;
    });
    let page = list(&site, "/").await;
    assert!((1..5).contains(&links(&page).len()), "{page}");
    assert!(page.contains("There are more"), "{page}");
}

#[tokio::test]
async fn a_directory_is_not_searched_for_ever() {
    let root = listed("listing-search");
    for name in 0..40 {
        let link = if name % 2 == 0 { "link" } else { ".link" };
        symlink("nowhere", root.join(format!("{link}{name}"))).unwrap();
    }
    for (max_listed, is_whole) in [(9, false), (10, true)] {
        let site = serve(&root, |it| {
            it.listing = true;
            it.max_listed = max_listed;
        });
        let page = list(&site, "/").await;
        assert_eq!(links(&page).len(), 0);
        assert_eq!(page.contains("There are more"), !is_whole, "{page}");
    }
}

#[tokio::test]
async fn a_long_list_is_sent_in_pieces_and_a_change_is_noticed() {
    let root = listed("listing-long");
    for name in 0..500 {
        fs::write(root.join(format!("{name:0100}")), "").unwrap();
    }
    let site = serve(&root, |it| it.listing = true);
    let request = Request::get("/").body(Body::empty()).unwrap();
    let mut body = site.clone().oneshot(request).await.unwrap().into_body();
    let (mut pieces, mut length) = (0, 0);
    while let Some(piece) = body.frame().await {
        let piece = piece.unwrap().into_data().unwrap();
        assert!(piece.len() <= 16 << 10);
        pieces += 1;
        length += piece.len();
    }
    assert!(pieces > 5, "{pieces}");
    let page = list(&site, "/").await;
    assert_eq!((page.len(), links(&page).len()), (length, 500));
    // The time of change of the directory is the same.
    fs::write(root.join(format!("{:0100}", 7)), "longer").unwrap();
    assert!(list(&site, "/").await.contains("<td>6</td>"));
}
