//! Requests for what is not served: hidden files, files outside, and what is no file.

use std::{
    os::unix::net::UnixListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use super::*;

const SECRET: &str = "the secret";

/// Creates the directory to serve, and one beside it that has a secret. Returns both.
fn beside_a_secret(test: &str) -> (PathBuf, PathBuf) {
    let root = files(test).join("root");
    let outside = root.with_file_name("outside");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::create_dir_all(&outside).unwrap();
    fs::write(root.join("sub/page.txt"), "a page").unwrap();
    fs::write(outside.join("page.txt"), SECRET).unwrap();
    (root, outside)
}

async fn is_missing(site: &Router, path: &str) {
    let (status, _, body) = get(site, path).await;
    assert_eq!(
        (status, &body[..]),
        (StatusCode::NOT_FOUND, &b""[..]),
        "{path}"
    );
}

#[tokio::test]
async fn hidden_files_are_not_found_unless_they_are_served() {
    let root = files("directory-hidden");
    for directory in [".git", ".well-known/.deep", "sub/.well-known"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    let hidden = [
        ".env",
        ".git/config",
        "sub/.htpasswd",
        ".well-known/.secret",
        ".well-known/.deep/file",
        "sub/.well-known/file",
        "...",
    ];
    for name in hidden {
        fs::write(root.join(name), SECRET).unwrap();
    }
    fs::write(root.join(".well-known/security.txt"), "Contact").unwrap();
    let safe = serve(&root, |_| {});
    let open = serve(&root, |it| it.hidden = true);
    for name in hidden {
        is_missing(&safe, &format!("/{name}")).await;
        assert_eq!(body(&open, &format!("/{name}")).await, SECRET, "{name}");
    }
    for other in [
        "/%2eenv",
        "/%2Eenv",
        "//.env",
        "/./.env",
        "/%2f.env",
        "/sub/%2e%68tpasswd",
        "/%2egit/config",
        "/.git",
        "/.git/",
        "/.env/",
    ] {
        is_missing(&safe, other).await;
    }
    for site in [&safe, &open] {
        assert_eq!(body(site, "/.well-known/security.txt").await, "Contact");
    }
}

#[tokio::test]
async fn links_are_followed_inside_of_the_directory_and_not_out_of_it() {
    let (root, outside) = beside_a_secret("directory-links");
    let inside = [
        ("file", "sub/page.txt".into()),
        ("sub/up", "../sub/page.txt".into()),
        ("absolute", root.join("sub/page.txt")),
        ("chain", "file".into()),
        ("directory", "sub".into()),
    ];
    let out = [
        ("out", outside.join("page.txt")),
        ("relative", "../outside/page.txt".into()),
        ("sub/relative", "../../outside/page.txt".into()),
        ("again", "out".into()),
        ("far", outside.clone()),
        ("farther", "sub/../../outside".into()),
        ("itself", "../root".into()),
    ];
    for (name, target) in inside.iter().chain(&out) {
        symlink(target, root.join(name)).unwrap();
    }
    let safe = serve(&root, |_| {});
    let open = serve(&root, |it| it.follow_links = true);
    for path in [
        "/file",
        "/sub/up",
        "/absolute",
        "/chain",
        "/directory/page.txt",
    ] {
        for site in [&safe, &open] {
            assert_eq!(body(site, path).await, "a page", "{path}");
        }
    }
    for path in [
        "/out",
        "/relative",
        "/sub/relative",
        "/again",
        "/far/page.txt",
        "/farther/page.txt",
    ] {
        is_missing(&safe, path).await;
        assert_eq!(body(&open, path).await, SECRET, "{path}");
    }
    for path in ["/far", "/far/"] {
        is_missing(&safe, path).await;
    }
}

/// Kubernetes mounts configurations like this, and changes all files at once by one rename.
#[tokio::test]
async fn links_may_lead_through_hidden_directories_and_be_replaced() {
    let root = files("directory-mounted");
    for (version, text) in [("..1", "one"), ("..2", "two")] {
        fs::create_dir(root.join(version)).unwrap();
        fs::write(root.join(version).join("page.txt"), text).unwrap();
    }
    symlink("..1", root.join("..data")).unwrap();
    symlink("..data/page.txt", root.join("page.txt")).unwrap();
    let site = serve(&root, |_| {});
    assert_eq!(body(&site, "/page.txt").await, "one");
    is_missing(&site, "/..data/page.txt").await;
    symlink("..2", root.join("..new")).unwrap();
    fs::rename(root.join("..new"), root.join("..data")).unwrap();
    assert_eq!(body(&site, "/page.txt").await, "two");
}

#[tokio::test]
async fn the_directory_may_be_a_link_that_changes() {
    let (root, outside) = beside_a_secret("directory-release");
    let current = root.with_file_name("current");
    symlink(root.join("sub"), &current).unwrap();
    let site = serve(&current, |_| {});
    assert_eq!(body(&site, "/page.txt").await, "a page");
    fs::remove_file(&current).unwrap();
    symlink(outside, current).unwrap();
    assert_eq!(body(&site, "/page.txt").await, SECRET);
}

#[tokio::test]
async fn no_spelling_of_a_path_leads_out() {
    let (root, outside) = beside_a_secret("directory-spellings");
    let whole = outside.join("page.txt");
    let whole = whole.to_str().unwrap();
    let site = serve(&root, |it| it.hidden = true);
    let up = [
        "..",
        "%2e%2e",
        "%2E.",
        ".%2e",
        "%252e%252e",
        "%c0%ae%c0%ae",
        "%e0%80%ae%e0%80%ae",
        "%u002e%u002e",
        "..%00",
        "...",
        "..;",
        "%ef%bc%8e%ef%bc%8e",
    ];
    let slashes = ["/", "%2f", "%5c", "%c0%af", "//", "/./", "%2f%2f", "%252f"];
    for up in up {
        for slash in slashes {
            for start in ["/", "/sub/../", "/sub/%2e%2e/", "//", "/%2f"] {
                is_missing(&site, &format!("{start}{up}{slash}outside{slash}page.txt")).await;
            }
        }
    }
    for path in [
        format!("/{whole}"),
        format!("/{}", whole.replace('/', "%2f")),
        format!("/%2f{whole}"),
        format!("/sub/page.txt%00{whole}"),
        "/sub/page.txt%00".into(),
        "/sub/page.txt%00.html".into(),
        "/sub%00/page.txt".into(),
        "/sub/page.txt%0a".into(),
        "/sub%5cpage.txt".into(),
        "/C:%5cpage.txt".into(),
    ] {
        is_missing(&site, &path).await;
    }
}

/// A writer of the directory replaces a part of a path while it is requested.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_swapped_during_requests_never_leads_out() {
    let (root, _) = beside_a_secret("directory-swapped");
    let site = serve(&root, |_| {});
    let is_over = Arc::new(AtomicBool::new(false));
    let swapper = thread::spawn({
        let (is_over, new, link) = (Arc::clone(&is_over), root.join("new"), root.join("link"));
        move || {
            while !is_over.load(Relaxed) {
                for target in ["sub", "../outside"] {
                    symlink(target, &new).unwrap();
                    fs::rename(&new, &link).unwrap();
                }
            }
        }
    });
    let mut found = 0;
    for _ in 0..2_000 {
        let (status, _, body) = get(&site, "/link/page.txt").await;
        assert!(body != SECRET, "the link led out");
        if status == StatusCode::OK {
            assert_eq!(body, "a page");
            found += 1;
        } else {
            assert_eq!(status, StatusCode::NOT_FOUND);
        }
    }
    is_over.store(true, Relaxed);
    swapper.join().unwrap();
    println!("{found} of 2000 were found");
}

/// An entry of the cache is what was found inside. Nothing is added to it by what is outside later.
#[tokio::test]
async fn what_is_cached_gives_way_to_a_link_that_leads_out() {
    let (root, outside) = beside_a_secret("directory-cached");
    let site = serve(&root, |_| {});
    assert_eq!(body(&site, "/sub/page.txt").await, "a page");
    fs::rename(root.join("sub"), root.join("moved")).unwrap();
    symlink(outside, root.join("sub")).unwrap();
    is_missing(&site, "/sub/page.txt").await;
    is_missing(&site, "/sub/").await;
}

#[tokio::test]
async fn devices_sockets_and_pipes_are_not_found() {
    let root = files("directory-devices");
    let made = Command::new("mkfifo").arg(root.join("pipe")).status();
    assert!(made.unwrap().success());
    symlink("/dev/zero", root.join("zero")).unwrap();
    symlink("/proc/self/fd/0", root.join("magic")).unwrap();
    let _socket = UnixListener::bind(root.join("s")).unwrap();
    for follow_links in [false, true] {
        let site = serve(&root, |it| {
            it.follow_links = follow_links;
            it.listing = true;
        });
        for path in ["/pipe", "/zero", "/s", "/pipe/", "/zero/"] {
            is_missing(&site, path).await;
        }
        let list = body(&site, "/").await;
        for name in ["pipe", "zero", "\"./s\""] {
            let list = String::from_utf8_lossy(&list);
            assert!(!list.contains(name), "{name}: {list}");
        }
    }
    let safe = serve(&root, |_| {});
    is_missing(&safe, "/magic").await;
}

/// The tests may run as root, who can read everything, so the server runs as another user.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_the_server_cannot_read_is_not_found() {
    use std::os::unix::fs::PermissionsExt;

    let root = std::env::temp_dir().join(format!("spdy-unreadable-{}", std::process::id()));
    fs::create_dir_all(root.join("closed")).unwrap();
    let set = |name: &str, mode| {
        fs::set_permissions(root.join(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    for (name, mode) in [
        ("open", 0o644),
        ("secret", 0o600),
        ("closed/page.txt", 0o644),
    ] {
        fs::write(root.join(name), name).unwrap();
        set(name, mode);
    }
    set(".", 0o755);
    set("closed", 0o600);
    let requests = async |root: PathBuf| {
        let site = serve(&root, |it| it.listing = true);
        assert_eq!(body(&site, "/open").await, "open");
        for path in ["/secret", "/closed/page.txt", "/closed/"] {
            is_missing(&site, path).await;
        }
    };
    let path = root.clone();
    let as_another = thread::spawn(move || {
        if rustix::process::geteuid().is_root() {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65_534)).unwrap();
        } else {
            set_unreadable_for_owner(&path);
        }
        // The threads of the runtime have the user of the thread that starts them.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(requests(path));
    });
    as_another.join().unwrap();
    fs::remove_dir_all(root).unwrap();
}

/// What only its owner can read is made unreadable for the owner, too.
#[cfg(target_os = "linux")]
fn set_unreadable_for_owner(root: &Path) {
    use std::os::unix::fs::PermissionsExt;

    for (name, mode) in [("secret", 0), ("closed", 0o200)] {
        fs::set_permissions(root.join(name), PermissionsExt::from_mode(mode)).unwrap();
    }
}

/// HTTP has no form for them, and the library that writes dates panics.
#[tokio::test]
async fn files_with_dates_before_1970_have_none() {
    let root = files("directory-ancient");
    let file = OpenOptions::new().write(true).open(root.join("small.txt"));
    let file = file.unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH - LONG).unwrap();
    let site = serve(&root, |it| it.listing = true);
    for method in [Method::GET, Method::HEAD] {
        let request = Request::builder().method(method).uri("/small.txt");
        let (status, fields, _) = ask(&site, request.body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::OK);
        assert!(!fields.contains_key("last-modified"), "{fields:?}");
    }
    assert_eq!(get(&site, "/").await.0, StatusCode::OK);
}
