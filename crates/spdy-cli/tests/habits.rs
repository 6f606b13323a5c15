//! The options of `spdy get` that users of curl know, over SPDY and other protocols.

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Path, Request},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{any, get},
};
use flate2::{Compression, write::GzEncoder};
use rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier};

use self::common::{Running, SPDY, Site, directory, run, spdy};

/// Each protocol in plain text.
const PROTOCOLS: [&[&str]; 5] = [
    &["--version", "3.1"],
    &["--version", "3"],
    &["--version", "2"],
    &["--http2"],
    &["--http1"],
];

/// Runs `spdy get` with these words after the flags of a protocol.
async fn get_by(protocol: &[&str], words: &[&str]) -> common::Ran {
    run(&[&["get"], protocol, words].concat()).await
}

/// Describes a request in its response.
async fn mirror(request: Request) -> String {
    let (head, body) = request.into_parts();
    let mut text = format!("{} {}\n", head.method, head.uri.path());
    if let Some(authority) = head.uri.authority() {
        text += &format!("host: {authority}\n");
    }
    for (name, value) in &head.headers {
        text += &format!("{name}: {}\n", value.to_str().unwrap());
    }
    let body = to_bytes(body, usize::MAX).await.unwrap();
    text + "\n" + &String::from_utf8_lossy(&body)
}

fn redirect(status: u16, location: &str) -> Response {
    let redirect = Response::builder().status(status);
    redirect
        .header("location", location)
        .body(Body::empty())
        .unwrap()
}

fn app() -> Router {
    let failures = Arc::new(AtomicUsize::new(0));
    Router::new()
        .route(
            "/hop/{left}",
            any(async |Path(left): Path<u32>| match left {
                0 => redirect(302, "/mirror"),
                _ => redirect(301, &format!("../hop/{}", left - 1)),
            }),
        )
        .route("/loop", any(async || redirect(302, "/loop")))
        .route("/ftp", any(async || redirect(302, "ftp://a.test/")))
        .route("/same", any(async || redirect(307, "/mirror")))
        .route(
            "/away/{port}",
            any(async |Path(port): Path<u16>| {
                redirect(302, &format!("http://127.0.0.1:{port}/mirror"))
            }),
        )
        .route("/digits", get(digits))
        .route("/gzip/{cut}", get(gzip))
        .route(
            "/flaky",
            any(
                async move || match failures.fetch_add(1, Ordering::Relaxed) % 3 {
                    2 => StatusCode::OK,
                    _ => StatusCode::SERVICE_UNAVAILABLE,
                },
            ),
        )
        .route("/silent", any(std::future::pending::<()>))
        .route("/endless", any(endless))
        .fallback(mirror)
}

/// Ten digits, or those that the range asks for.
async fn digits(headers: HeaderMap) -> Response {
    let whole = "0123456789";
    let response = Response::builder();
    let Some(range) = headers.get("range") else {
        return response.body(whole.into()).unwrap();
    };
    let start = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
    let start: usize = start.strip_suffix('-').unwrap().parse().unwrap();
    if start >= whole.len() {
        let response = response.status(416).header("content-range", "bytes */10");
        return response.body(Body::empty()).unwrap();
    }
    let response = response.status(206);
    let response = response.header("content-range", format!("bytes {start}-9/10"));
    response.body(whole[start..].into()).unwrap()
}

/// A million bytes, compressed if the client asks for that. `cut` bytes are missing at the end.
async fn gzip(Path(cut): Path<usize>, headers: HeaderMap) -> Response {
    let whole = "spdy ".repeat(200_000);
    if headers.get("accept-encoding").is_none_or(|it| it != "gzip") {
        return Response::new(whole.into());
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(whole.as_bytes()).unwrap();
    let mut body = encoder.finish().unwrap();
    body.truncate(body.len() - cut);
    let response = Response::builder().header("content-encoding", "gzip");
    response.body(body.into()).unwrap()
}

/// 1000 of 2000 bytes, and then nothing.
async fn endless() -> Response {
    let first = futures_util::stream::iter([Ok::<_, std::io::Error>(vec![b'x'; 1000])]);
    let rest = futures_util::stream::pending();
    let body = Body::from_stream(futures_util::StreamExt::chain(first, rest));
    let response = Response::builder().header("content-length", "2000");
    response.body(body).unwrap()
}

async fn start() -> (Running, impl Fn(&str) -> String) {
    let server = Running::start(app()).await;
    let address = server.address;
    (server, move |path| format!("http://{address}{path}"))
}

#[tokio::test]
async fn bodies_come_from_texts_files_and_standard_input() {
    let (server, url) = start().await;
    let mirror = url("/mirror");
    let directory = directory("habits-bodies");
    let file = format!("{directory}/lines");
    fs::write(&file, "one\r\ntwo\n\0").unwrap();
    let at = format!("@{file}");
    for protocol in PROTOCOLS {
        let sent = async |words: &[&str]| {
            let text = get_by(protocol, &[words, &[&*mirror]].concat()).await;
            text.success()
        };
        let text = sent(&["-d", "a=1", "-d", "b=2"]).await;
        assert!(text.starts_with("POST /mirror\n"), "{text}");
        assert!(text.ends_with("\n\na=1&b=2"), "{text}");
        assert!(text.contains("content-type: application/x-www-form-urlencoded\n"));
        // A file that is text loses its line breaks, as in curl.
        let text = sent(&["-d", &at]).await;
        assert!(text.ends_with("\n\nonetwo"), "{text}");
        let text = sent(&["--data-binary", &at, "-X", "PATCH"]).await;
        assert!(text.starts_with("PATCH /mirror\n"), "{text}");
        assert!(text.ends_with("\n\none\r\ntwo\n\0"), "{text}");

        let text = sent(&["-T", &file]).await;
        assert!(text.starts_with("PUT /mirror\n"), "{text}");
        assert!(text.contains("content-length: 10\n"), "{text}");
        assert!(text.ends_with("\n\none\r\ntwo\n\0"), "{text}");
        let text = get_by(protocol, &["-T", &file, &url("/up/")]).await;
        assert!(text.success().starts_with("PUT /up/lines\n"));
    }
    for protocol in PROTOCOLS {
        let mut child = Command::new(SPDY)
            .args([&["get", "-T", "-"], protocol, &[&*mirror]].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let output = tokio::task::spawn_blocking(move || {
            input.write_all(b"from a pipe").unwrap();
            drop(input);
            child.wait_with_output().unwrap()
        });
        let text = String::from_utf8(output.await.unwrap().stdout).unwrap();
        assert!(text.ends_with("\n\nfrom a pipe"), "{text}");
    }
    for (words, message) in [
        (
            &["-T", "/nowhere"][..],
            "cannot read /nowhere: No such file",
        ),
        (&["-T", &directory], ": it is a directory"),
    ] {
        let ran = run(&[&["get"], words, &[&*mirror]].concat()).await;
        assert!(ran.failure(4).contains(message), "{ran:?}");
    }
    let ran = run(&["get", "-T", "-", &mirror, &mirror]).await;
    assert_eq!(ran.failure(2), "standard input can be sent to one URL only");
    assert_eq!(server.end().await.cut, 0);
}

/// A quarter of a GiB, by a process that never has 32 MiB.
#[cfg(target_os = "linux")]
#[test]
fn an_upload_takes_little_memory() {
    const LENGTH: u64 = 256 * 1024 * 1024;
    let site = Site::start("habits-memory");
    let file = format!("{}/holes", directory("habits-holes"));
    fs::File::create(&file).unwrap().set_len(LENGTH).unwrap();
    for protocol in [&["--version", "3.1"][..], &["--http2"], &["--http1"]] {
        let words = ["-X", "POST", "-T", &file, &site.http("/sink")];
        let mut child = Command::new(SPDY)
            .args([&["get"], protocol, &words].concat())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut most = 0;
        while child.try_wait().unwrap().is_none() {
            // A process that has just ended has no memory.
            let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
            let status = status.unwrap_or_default();
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let peak = peak.and_then(|peak| peak.split_whitespace().next()?.parse().ok());
            most = most.max(peak.unwrap_or(0));
            thread::sleep(Duration::from_millis(5));
        }
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.stdout, format!("{LENGTH}\n").into_bytes());
        assert!((1..32 * 1024).contains(&most), "{protocol:?}: {most} KiB");
    }
}

#[tokio::test]
async fn a_form_has_fields_and_files() {
    let (server, url) = start().await;
    let file = format!("{}/page", directory("habits-form"));
    fs::write(&file, "contents").unwrap();
    for protocol in PROTOCOLS {
        let words = [
            "-F",
            "plain=text; with more",
            "-F",
            "typed=1;type=text/x",
            "-F",
            &format!("up=@{file};filename=a\"b;type=text/html"),
            "-F",
            &format!("own=@{file}"),
            "-F",
            &format!("read=<{file}"),
            &url("/mirror"),
        ];
        let text = get_by(protocol, &words).await.success();
        let (head, body) = text.split_once("\n\n").unwrap();
        let (_, boundary) = head.split_once("multipart/form-data; boundary=").unwrap();
        let boundary = boundary.lines().next().unwrap();
        let expected = [
            "content-disposition: form-data; name=\"plain\"\r\n\r\ntext; with more",
            "content-disposition: form-data; name=\"typed\"\r\ncontent-type: text/x\r\n\r\n1",
            "content-disposition: form-data; name=\"up\"; filename=\"a%22b\"\r\n\
             content-type: text/html\r\n\r\ncontents",
            "content-disposition: form-data; name=\"own\"; filename=\"page\"\r\n\
             content-type: application/octet-stream\r\n\r\ncontents",
            "content-disposition: form-data; name=\"read\"\r\n\r\ncontents",
        ];
        let expected = expected.map(|part| format!("--{boundary}\r\n{part}\r\n"));
        assert_eq!(body, expected.concat() + &format!("--{boundary}--\r\n"));
        assert!(head.contains(&format!("content-length: {}\n", body.len())));
    }
    let ran = run(&["get", "-F", "nothing", &url("/mirror")]).await;
    assert_eq!(
        ran.failure(2),
        "--form nothing must have the form NAME=VALUE"
    );
    assert_eq!(server.end().await.cut, 0);
}

#[tokio::test]
async fn the_head_the_user_and_the_agent_are_those_of_the_flags() {
    let (server, url) = start().await;
    for protocol in PROTOCOLS {
        let words = ["-u", "me:secret", "-A", "me/1", &url("/mirror")];
        let text = get_by(protocol, &words).await.success();
        assert!(
            text.contains("authorization: Basic bWU6c2VjcmV0\n"),
            "{text}"
        );
        assert!(text.contains("user-agent: me/1\n"), "{text}");
        let text = get_by(protocol, &["-I", &url("/digits")]).await.success();
        assert!(text.contains(" 200 OK\r\n"), "{text}");
        assert!(text.contains("content-length: 10\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n"), "{text}");
        // The fields are shown with every protocol.
        let ran = get_by(protocol, &["-v", "-H", "x-a: b", &url("/digits")]).await;
        assert!(ran.stderr.contains(" x-a: b\n"), "{}", ran.stderr);
        assert!(
            ran.stderr.contains(" content-length: 10\n"),
            "{}",
            ran.stderr
        );
    }
    assert_eq!(server.end().await.cut, 0);
}

#[tokio::test]
async fn redirects_are_followed_and_leave_credentials_behind() {
    let (server, url) = start().await;
    let (other, other_url) = start().await;
    for protocol in PROTOCOLS {
        let format = "\n%{num_redirects} %{url_effective} %{http_code}";
        let words = ["-L", "-w", format, "-u", "a:b", &url("/hop/3")];
        let text = get_by(protocol, &words).await.success();
        assert!(text.starts_with("GET /mirror\n"), "{text}");
        assert!(text.contains("authorization: "), "{text}");
        let end = format!("\n4 {} 200", url("/mirror"));
        assert!(text.ends_with(&end), "{text}");

        // A POST becomes a GET, unless the status asks for the same again.
        let text = get_by(protocol, &["-L", "-d", "a", &url("/hop/0")]).await;
        let text = text.success();
        assert!(text.starts_with("GET ") && text.ends_with("\n\n"), "{text}");
        let file = format!("{}/a", directory("habits-again"));
        fs::write(&file, "again").unwrap();
        let text = get_by(protocol, &["-L", "-T", &file, &url("/same")]).await;
        let text = text.success();
        assert!(
            text.starts_with("PUT ") && text.ends_with("\n\nagain"),
            "{text}"
        );
        let ran = get_by(protocol, &["-L", "-T", "-", &url("/same")]).await;
        assert_eq!(
            ran.failure(4),
            format!(
                "{}: redirect to /mirror: the body cannot be sent again",
                url("/same")
            )
        );

        let away = url(&format!("/away/{}", other.address.port()));
        let text = get_by(protocol, &["-L", "-u", "a:b", &away])
            .await
            .success();
        assert!(text.starts_with("GET /mirror\n"), "{text}");
        assert!(
            text.contains(&format!("host: {}\n", other.address)),
            "{text}"
        );
        assert!(!text.contains("authorization: "), "{text}");

        let ran = get_by(protocol, &["-L", &url("/loop")]).await;
        assert!(ran.failure(1).contains("more than 50 redirects"), "{ran:?}");
        let ran = get_by(protocol, &["-L", &url("/ftp")]).await;
        assert!(ran.failure(1).contains("neither http nor https"), "{ran:?}");
        // Without the flag a redirect is a response like others.
        let text = get_by(protocol, &["-I", &url("/loop")]).await.success();
        assert!(text.contains(" 302 Found\r\n"), "{text}");
    }
    drop(other_url);
    assert_eq!(server.end().await.cut, 0);
    assert_eq!(other.end().await.cut, 0);
}

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

#[tokio::test]
async fn passing_failures_are_tried_again() {
    let (server, url) = start().await;
    for protocol in PROTOCOLS {
        let flags = ["--retry", "2", "--retry-delay", "1ms", "-w", "%{http_code}"];
        let ran = get_by(protocol, &[&flags[..], &[&url("/flaky")]].concat()).await;
        assert_eq!((ran.code, &*ran.stdout), (0, &b"200"[..]), "{ran:?}");
        let again = "status 503 Service Unavailable: trying again after 1ms, ";
        assert_eq!(ran.stderr.matches(again).count(), 2, "{ran:?}");
        // Fewer attempts than there are failures.
        let flags = [
            "--retry",
            "1",
            "--retry-delay",
            "1ms",
            "-s",
            "-w",
            "%{http_code}",
        ];
        let text = get_by(protocol, &[&flags[..], &[&url("/flaky")]].concat()).await;
        assert_eq!(text.success(), "503");
        get_by(protocol, &["-s", &url("/flaky")]).await.success();
    }
    let ran = run(&[
        "get",
        "--retry",
        "3",
        "--retry-delay",
        "1ms",
        "http://127.0.0.1:1/",
    ])
    .await;
    assert_eq!(ran.code, 3);
    assert_eq!(ran.stderr.matches("trying again").count(), 3, "{ran:?}");
    assert_eq!(server.end().await.cut, 0);
}

#[tokio::test]
async fn the_time_of_the_user_ends_a_request() {
    let (server, url) = start().await;
    for protocol in PROTOCOLS {
        let ran = get_by(protocol, &["-m", "300ms", &url("/silent")]).await;
        let message = "timed out by --max-time before the response";
        assert!(ran.failure(1).ends_with(message), "{ran:?}");
    }
    let file = format!("{}/a", directory("habits-time"));
    let ran = run(&["get", "-m", "1s", "-o", &file, &url("/endless")]).await;
    let message = format!(
        "timed out by --max-time after 1000 of 2000 bytes, which are in {file}: \
         --continue-at - gets the rest"
    );
    assert!(ran.failure(1).ends_with(&message), "{ran:?}");
    assert_eq!(server.end().await.cut, 0);
}

#[cfg(unix)]
#[tokio::test]
async fn ctrl_c_keeps_what_has_arrived() {
    let (server, url) = start().await;
    for protocol in PROTOCOLS {
        let file = format!("{}/a", directory("habits-interrupt"));
        let url = url("/endless");
        let child = Command::new(SPDY)
            .args([&["get", "-o", &file], protocol, &[&*url]].concat())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while fs::metadata(&file).map_or(0, |about| about.len()) < 1000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let interrupt = ["-INT".to_owned(), child.id().to_string()];
        assert!(
            Command::new("kill")
                .args(interrupt)
                .status()
                .unwrap()
                .success()
        );
        let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
        let ran = common::Ran::from(output.await.unwrap());
        let message = format!(
            "{url}: interrupted after 1000 of 2000 bytes, which are in {file}: \
             --continue-at - gets the rest"
        );
        assert_eq!(ran.failure(130), message);
        assert_eq!(fs::metadata(&file).unwrap().len(), 1000);
    }
    assert_eq!(server.end().await.cut, 0);
}

/// Ctrl-C ends a command that waits for a reader of its output.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_command_whose_output_is_not_read() {
    let site = Site::start("habits-unread");
    let mut child = Command::new(SPDY)
        .args(["get", &site.http("/bytes/50000000")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The pipe is full soon after its first byte.
    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut [0]).unwrap();
    thread::sleep(Duration::from_millis(200));
    let interrupt = ["-INT".to_owned(), child.id().to_string()];
    assert!(
        Command::new("kill")
            .args(interrupt)
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(child.wait().unwrap().code(), Some(130));
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
        let child = Command::new(SPDY)
            .args([&["get"], protocol, &["-O", &url("/digits"), &url("/a/b?c")]].concat())
            .current_dir(&directory)
            .spawn();
        let mut child = child.unwrap();
        let status = tokio::task::spawn_blocking(move || child.wait().unwrap());
        assert!(status.await.unwrap().success());
        for (name, beginning) in [("digits", "0123456789"), ("b", "GET /a/b\n")] {
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

#[tokio::test]
async fn a_host_is_reached_at_another_address() {
    let (server, url) = start().await;
    let port = server.address.port();
    for protocol in PROTOCOLS {
        for words in [
            ["--resolve", &format!("a.invalid:{port}:127.0.0.1")],
            ["--connect-to", &format!("a.invalid::127.0.0.1:{port}")],
        ] {
            let there = format!("http://a.invalid:{port}/mirror");
            let text = get_by(protocol, &[&words[..], &[&there]].concat()).await;
            let text = text.success();
            assert!(
                text.contains(&format!("host: a.invalid:{port}\n")),
                "{text}"
            );
        }
    }
    drop(url);
    assert_eq!(server.end().await.cut, 0);
}

/// A server that wants a certificate gets that of `--cert`, with the key beside it or in it.
#[tokio::test]
async fn the_client_has_the_certificate_of_its_flags() {
    let directory = directory("habits-certificate");
    let [server, client] = ["127.0.0.1", "client.test"]
        .map(|name| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap());
    let write = |name: &str, text: String| {
        let path = format!("{directory}/{name}");
        fs::write(&path, text).unwrap();
        path
    };
    let cert = write("cert", client.cert.pem());
    let key = write("key", client.signing_key.serialize_pem());
    let both = client.cert.pem() + &client.signing_key.serialize_pem();
    let both = write("both", both);
    let mut roots = RootCertStore::empty();
    roots.add(client.cert.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![server.cert.der().clone()],
            server.signing_key.serialize_der().try_into().unwrap(),
        );
    let server = Running::tls(app(), config.unwrap()).await;
    let url = format!("https://{}/mirror", server.address);
    for protocol in PROTOCOLS {
        for flags in [&["-E", &cert, "--key", &key][..], &["--cert", &both]] {
            let words = [&["-k"], flags, &[&*url]].concat();
            let text = get_by(protocol, &words).await.success();
            assert!(text.starts_with("GET /mirror\n"), "{text}");
        }
    }
    let ran = run(&["get", "-k", &url]).await;
    assert!([1, 3].contains(&ran.code), "{ran:?}");
    // The server's alert can be lost with its connection.
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    let ran = run(&["get", "-k", "--cert", &cert, &url]).await;
    let message = format!("no private key found in {cert}: use --key");
    assert_eq!(ran.failure(4), message);
    let ran = run(&["get", "-k", "--cert", &key, &url]).await;
    assert_eq!(ran.failure(4), format!("no certificate found in {key}"));
    assert_eq!(server.end().await.cut, 0);
}

/// The secrets of a connection are in the file of SSLKEYLOGFILE.
#[test]
fn the_secrets_of_tls_are_written_to_the_file_of_the_environment() {
    let site = Site::start("habits-secrets");
    let file = format!("{}/keys", directory("habits-keys"));
    for protocol in [&[][..], &["--http2"], &["--http1"]] {
        let output = Command::new(SPDY)
            .args([&["get", "-k"], protocol, &[&*site.https("/hello")]].concat())
            .env("SSLKEYLOGFILE", &file)
            .output()
            .unwrap();
        assert!(output.status.success());
        let keys = fs::read_to_string(&file).unwrap();
        assert!(keys.contains("CLIENT_TRAFFIC_SECRET_0 "), "{keys}");
        fs::remove_file(&file).unwrap();
    }
}

/// A message says what to try.
#[test]
fn messages_name_the_cure() {
    let site = Site::start("habits-cures");
    let port = site.https("").rsplit(':').next().unwrap().to_owned();
    let resolve = format!("*:{port}:127.0.0.1");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let http1 = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut io in listener.incoming().flatten() {
            _ = io.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
            _ = io.read_to_end(&mut Vec::new());
        }
    });
    for (words, message) in [
        (
            &[&*site.https("/")][..],
            "invalid peer certificate: UnknownIssuer: trust it by --cacert FILE, or accept any \
             certificate by --insecure",
        ),
        (
            &[
                "--cacert",
                &site.cacert,
                "--resolve",
                &resolve,
                &format!("https://b.test:{port}/"),
            ],
            "use a name of the certificate in the URL, and --connect-to for the address",
        ),
        (
            &["-k", &format!("https://{http1}/")],
            "it does not speak TLS there: try http://",
        ),
        (
            &[&format!("http://{http1}/")],
            "peer speaks HTTP/1.1 and not SPDY: try --http1",
        ),
        (
            &[
                "--version",
                "3.1",
                &site.https("/").replace("https:", "http:"),
            ],
            "peer speaks TLS and not SPDY: try https://",
        ),
    ] {
        let ran = spdy(&[&["get"][..], words].concat());
        assert!([1, 3].contains(&ran.code), "{ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
        assert!(ran.stderr.contains(message), "{ran:?}");
    }
    for (words, message) in [
        (
            &["a.test"][..],
            "the URL must begin with http:// or https://: try https://a.test or http://a.test",
        ),
        (
            &["http://a.test/ b"],
            "the URL must have a host, and its path must have no spaces: write %20",
        ),
        (&["https://"], "the URL must have a host"),
        (&["--mx-time=1", "http://a/"], "--max-time"),
        (
            &["--max-time=0", "http://a/"],
            "must be a time above zero, such as 10, 1.5s, 200ms, 2m or 1h",
        ),
        (
            &["--retry=x", "http://a/"],
            "must be a whole number of up to 32 bits",
        ),
        (
            &["-u", "me", "http://a/"],
            "must have the form USER:PASSWORD",
        ),
        (
            &["-C", "x", "http://a/"],
            "must be a number of bytes, or - for the end of the file",
        ),
        (
            &["-H", "a b: c", "http://a/"],
            "the name of a header field must have letters",
        ),
        (
            &["-A", "a\nb", "http://a/"],
            "a header field must not contain control characters",
        ),
        (
            &["-X", "A B", "http://a/"],
            "the method must be one word, such as PUT",
        ),
        (
            &["--resolve", "a", "http://a/"],
            "must have the form HOST:PORT:ADDRESS",
        ),
        (
            &["--connect-to", "a", "http://a/"],
            "must have the form HOST:PORT:HOST:PORT",
        ),
    ] {
        let ran = spdy(&[&["get"][..], words].concat());
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains(message), "{ran:?}");
    }
}
