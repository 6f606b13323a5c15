//! Where responses go: files, other parts of files, formats; what Ctrl-C leaves.

use std::{fs, io::Read, process::Stdio, thread, time::Duration};

#[cfg(unix)]
use flate2::read::GzDecoder;

use super::{
    PROTOCOLS,
    common::{Ran, Site, directory, interrupt, run, tool},
    get_by, start,
};
#[cfg(unix)]
use super::{ends::ended, first_of_gzip};

#[tokio::test]
async fn a_download_is_continued_at_the_end_of_its_file() {
    let (server, url) = start().await;
    let directory = directory("habits-continue");
    let file = format!("{directory}/digits");
    for protocol in PROTOCOLS {
        let words = ["-C", "-", "-o", &file, &url("/digits")];
        for before in ["", "0123", "0123456789"] {
            fs::write(&file, before).unwrap();
            get_by(protocol, &words).await.success();
            assert_eq!(fs::read_to_string(&file).unwrap(), "0123456789");
        }
        fs::remove_file(&file).unwrap();
        get_by(protocol, &words).await.success();
        assert_eq!(fs::read_to_string(&file).unwrap(), "0123456789");
        let text = get_by(protocol, &["-C", "7", &url("/digits")]).await;
        assert_eq!(text.success(), "789");
        // The file is left as it is if the server does not continue.
        let ran = get_by(protocol, &["-C", "-", "-o", &file, &url("/mirror")]).await;
        let message = "cannot continue at byte 10: the server answers 200 OK";
        assert!(ran.failure(1).ends_with(message), "{ran:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "0123456789");
    }
    let ran = run(&["get", "-C", "-", &url("/digits")]).await;
    assert_eq!(
        ran.failure(2),
        "--continue-at - needs a file: use --output or --remote-name"
    );
    assert_eq!(server.end().await.cut, 0);
}

#[tokio::test]
async fn a_compressed_body_is_written_decompressed() {
    let (server, url) = start().await;
    for protocol in PROTOCOLS {
        let words = ["--compressed", "-w", " %{size_download}", &url("/gzip/0")];
        let text = get_by(protocol, &words).await.success();
        let (body, size) = text.rsplit_once(' ').unwrap();
        assert_eq!(body, "spdy ".repeat(200_000).trim_end().to_owned() + " ");
        assert!(size.parse::<u32>().unwrap() < 10_000, "{size}");
        for cut in ["4", "100"] {
            let path = url(&format!("/gzip/{cut}"));
            let ran = get_by(protocol, &["--compressed", "-o", "/dev/null", &path]).await;
            let message = "the compressed body is not complete gzip";
            assert!(ran.failure(1).contains(message), "{ran:?}");
        }
    }
    assert_eq!(server.end().await.cut, 0);
}

#[cfg(unix)]
#[tokio::test]
async fn ctrl_c_keeps_what_has_arrived() {
    let (server, url) = start().await;
    for protocol in PROTOCOLS {
        let file = format!("{}/a", directory("habits-interrupt"));
        let url = url("/endless");
        let child = tool()
            .args([&["get", "-o", &file], protocol, &[&*url]].concat())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while fs::metadata(&file).map_or(0, |about| about.len()) < 1000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        interrupt(&child);
        let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
        let ran = Ran::from(output.await.unwrap());
        let message = format!(
            "{url}: interrupted after 1000 of 2000 bytes, which are in {file}: \
             --continue-at - gets the rest"
        );
        assert_eq!(ran.failure(130), message);
        assert_eq!(fs::metadata(&file).unwrap().len(), 1000);
    }
    assert_eq!(server.end().await.cut, 0);
}

/// The file has all that the compressed bytes say, which is not where the rest can begin.
#[cfg(unix)]
#[tokio::test]
async fn ctrl_c_keeps_what_has_arrived_compressed() {
    let (server, url) = start().await;
    let (first, whole) = (first_of_gzip(), "spdy ".repeat(200_000));
    let mut expected = Vec::new();
    _ = GzDecoder::new(&*first).read_to_end(&mut expected);
    assert!(!expected.is_empty() && whole.as_bytes().starts_with(&expected));
    for protocol in PROTOCOLS {
        let file = format!("{}/a", directory("habits-interrupt-gzip"));
        let url = url("/endless-gzip");
        let child = tool()
            .args([&["get", "--compressed", "-o", &file], protocol, &[&*url]].concat())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while fs::metadata(&file).map_or(0, |about| about.len()) < 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // If not all is written then, the test fails.
        tokio::time::sleep(Duration::from_millis(300)).await;
        interrupt(&child);
        let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
        let ran = Ran::from(output.await.unwrap());
        let message = format!(
            "{url}: interrupted after {} bytes, whose decompressed text is in {file}: it cannot be \
             continued",
            first.len()
        );
        assert_eq!(ran.failure(130), message);
        // It is too long for a message.
        assert!(fs::read(&file).unwrap() == expected, "{protocol:?}");
    }
    assert_eq!(server.end().await.cut, 0);
}

/// Ctrl-C ends a command that waits for a reader of its output.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_command_whose_output_is_not_read() {
    let site = Site::start("habits-unread");
    let mut child = tool()
        .args(["get", &site.http("/bytes/50000000")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The pipe is full soon after its first byte.
    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut [0]).unwrap();
    thread::sleep(Duration::from_millis(200));
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(output);
}

/// And so does the time of the user.
#[cfg(unix)]
#[test]
fn max_time_ends_a_command_whose_output_is_not_read() {
    let site = Site::start("habits-unread-time");
    let mut child = tool()
        .args(["get", "-m", "300ms", &site.http("/bytes/50000000")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.stdout.take().unwrap();
    let ran = Ran::from(ended(child));
    // On a slow machine the time can be over before the response.
    assert!(
        ran.failure(1).contains("timed out by --max-time"),
        "{ran:?}"
    );
    drop(output);
}

#[tokio::test]
async fn messages_are_hidden_by_silent_and_shown_by_show_error() {
    let url = "http://127.0.0.1:1/";
    let ran = run(&["get", "-s", url]).await;
    assert_eq!((ran.code, &*ran.stderr), (3, ""));
    let ran = run(&["get", "-sS", url]).await;
    assert!(ran.failure(3).contains("cannot connect"), "{ran:?}");
    let format = "%{exitcode} %{http_code} %{errormsg}";
    let ran = run(&["get", "-s", "-w", format, url]).await;
    let text = String::from_utf8(ran.stdout).unwrap();
    assert!(text.starts_with("3 000 cannot connect to "), "{text}");
}

#[tokio::test]
async fn the_format_after_a_response_has_its_facts() {
    let (server, url) = start().await;
    for protocol in PROTOCOLS {
        let format = "%{method} %{http_code} %{size_upload} %{size_download} %{content_type}\\t\
                      %{time_total} %{time_starttransfer}%%\\n";
        let words = [
            "-o",
            "/dev/null",
            "-w",
            format,
            "-d",
            "abc",
            &url("/digits"),
        ];
        let text = get_by(protocol, &words).await.success();
        let (facts, times) = text.split_once('\t').unwrap();
        assert_eq!(facts, "POST 405 3 0 ");
        let (total, head) = times.strip_suffix("%\n").unwrap().split_once(' ').unwrap();
        let [total, head] = [total, head].map(|time| time.parse::<f64>().unwrap());
        assert!(0.0 < head && head <= total, "{times}");
    }
    let ran = run(&["get", "-w", "%{nothing}", &url("/digits")]).await;
    assert_eq!(ran.code, 2);
    let message = "no name nothing; the names are content_type, errormsg, ";
    assert!(ran.stderr.contains(message), "{ran:?}");
    assert_eq!(server.end().await.cut, 0);
}

#[tokio::test]
async fn files_have_the_names_in_the_urls() {
    let (server, url) = start().await;
    let directory = directory("habits-names");
    for protocol in PROTOCOLS {
        let child = tool()
            .args([&["get"], protocol, &["-O", &url("/digits"), &url("/a/b?c")]].concat())
            .current_dir(&directory)
            .spawn();
        let mut child = child.unwrap();
        let status = tokio::task::spawn_blocking(move || child.wait().unwrap());
        assert!(status.await.unwrap().success());
        for (name, beginning) in [("digits", "0123456789"), ("b", "GET /a/b?c\n")] {
            let path = format!("{directory}/{name}");
            assert!(fs::read_to_string(&path).unwrap().starts_with(beginning));
            fs::remove_file(&path).unwrap();
        }
    }
    let ran = run(&["get", "-O", &url("/")]).await;
    assert!(
        ran.failure(2).ends_with(" has no file name: use --output"),
        "{ran:?}"
    );
    assert_eq!(server.end().await.cut, 0);
}

/// The file that is there is not replaced by the page of an error.
#[tokio::test]
async fn the_body_of_an_error_is_not_written_if_the_user_wants_that() {
    let (server, url) = start().await;
    let file = format!("{}/a", directory("habits-fail"));
    let missing = url("/status/404");
    for protocol in PROTOCOLS {
        fs::write(&file, "good").unwrap();
        let ran = get_by(protocol, &["-f", "-o", &file, &missing]).await;
        let message = format!("{missing}: the server answers 404 Not Found");
        assert_eq!(ran.failure(5), message);
        assert_eq!(fs::read_to_string(&file).unwrap(), "good");
        let ran = get_by(protocol, &["-f", "-C", "-", "-o", &file, &missing]).await;
        assert_eq!(ran.failure(5), message);
        let ran = get_by(protocol, &["--fail-with-body", &missing]).await;
        assert_eq!(ran.failure(5), message);
        assert_eq!(ran.stdout, b"not what you want");
        let ran = get_by(protocol, &["-f", "--json", &missing]).await;
        let told = ran.json().remove(0);
        assert_eq!(told["status"], 404);
        assert_eq!(told["error"], "the server answers 404 Not Found");
        // A server without a proxy can have this status too.
        let asks = url("/status/407");
        let ran = get_by(protocol, &["-f", &asks]).await;
        let message = format!("{asks}: the server answers 407 Proxy Authentication Required");
        assert_eq!(ran.failure(5), message);
        get_by(protocol, &["-f", &url("/status/302")])
            .await
            .success();
    }
    assert_eq!(server.end().await.cut, 0);
}

#[tokio::test]
async fn two_bodies_do_not_share_a_file() {
    let (server, url) = start().await;
    let file = format!("{}/digits", directory("habits-shared"));
    let digits = url("/digits");
    let ran = run(&["get", "-o", &file, "-o", &file, &digits, &digits]).await;
    let message = format!("{file} would have two bodies: use --output with other names");
    assert_eq!(ran.failure(2), message);
    let ran = run(&["get", "-o", "x", "-o", "././x", &digits, &digits]).await;
    assert!(ran.failure(2).starts_with("././x would have two bodies"));
    #[cfg(unix)]
    refuse_links(&directory("habits-links"), &digits).await;
    let ran = run(&["get", "-O", &digits, &url("/other/digits")]).await;
    assert!(ran.failure(2).starts_with("digits would have two bodies"));
    let words = [
        "get",
        "-o",
        "/dev/null",
        "-o",
        "/dev/null",
        &digits,
        &digits,
    ];
    run(&words).await.success();
    assert_eq!(server.end().await.cut, 0);
}

/// Requests two bodies for two names of one file.
#[cfg(unix)]
async fn refuse_links(directory: &str, url: &str) {
    use std::os::unix::fs::symlink;

    let at = |name: &str| format!("{directory}/{name}");
    fs::create_dir(at("d")).unwrap();
    symlink(directory, at("same")).unwrap();
    symlink("later", at("link")).unwrap();
    fs::write(at("there"), "").unwrap();
    fs::hard_link(at("there"), at("hard")).unwrap();
    for (one, other) in [
        ("x", "d/../x"),
        ("x", "same/x"),
        ("later", "link"),
        ("there", "hard"),
    ] {
        let (one, other) = (at(one), at(other));
        let ran = run(&["get", "-o", &one, "-o", &other, url, url]).await;
        let message = format!("{other} would have two bodies: use --output with other names");
        assert_eq!(ran.failure(2), message);
    }
    let here = std::env::current_dir().unwrap().join("x");
    let ran = run(&["get", "-o", "x", "-o", here.to_str().unwrap(), url, url]).await;
    assert!(ran.failure(2).contains("would have two bodies"), "{ran:?}");
    let (one, other) = (at("one"), at("d/one"));
    run(&["get", "-o", &one, "-o", &other, url, url])
        .await
        .success();
}
