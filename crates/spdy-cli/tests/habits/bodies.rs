//! The bodies of requests: texts, files, forms.

use std::{fs, io::Write, path::Path, process::Stdio, thread, time::Duration};

use axum::{Router, routing::any};

use super::{
    PROTOCOLS,
    common::{Ran, Running, Site, directory, run, tool},
    get_by, redirect, start,
};

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
        // The name of a file is encoded, and the query stays.
        let odd = format!("{directory}/a b?");
        fs::write(&odd, "odd").unwrap();
        let text = get_by(protocol, &["-T", &odd, &url("/up/?q")]).await;
        assert!(text.success().starts_with("PUT /up/a%20b%3F?q\n"));
    }
    for protocol in PROTOCOLS {
        let mut child = tool()
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

/// The server removes the file before it answers with the first of two redirects.
#[tokio::test]
async fn a_file_that_is_gone_before_a_redirect_is_named() {
    let file = format!("{}/gone", directory("habits-gone"));
    let removed = file.clone();
    let hop = async move || {
        fs::remove_file(&removed).unwrap();
        redirect(307, "/same")
    };
    let again = any(async || redirect(307, "/mirror"));
    let app = Router::new().route("/hop", any(hop)).route("/same", again);
    let server = Running::start(app).await;
    let url = format!("http://{}/hop", server.address);
    let [form, why] = [
        format!("up=@{file}"),
        format!("redirect to /mirror: cannot read {file}: No such file"),
    ];
    for protocol in PROTOCOLS {
        for words in [["-T", &*file], ["-F", &form]] {
            fs::write(&file, "once").unwrap();
            let ran = get_by(protocol, &[&["-L"], &words[..], &[&url]].concat()).await;
            assert!(ran.failure(4).contains(&why), "{ran:?}");
        }
    }
    assert_eq!(server.end().await.cut, 0);
}

/// A name on Unix need not be text.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_bytes_of_a_name_are_encoded() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    let (server, url) = start().await;
    let directory = directory("habits-bytes");
    let file = Path::new(&directory).join(OsStr::from_bytes(b"a\xff\xc3\xa4"));
    fs::write(&file, "odd").unwrap();
    let mut tool = tool();
    tool.args(["get", &url("/up/"), "-T"]).arg(&file);
    let ran = tokio::task::spawn_blocking(move || tool.output().unwrap());
    let text = Ran::from(ran.await.unwrap()).success();
    assert!(text.starts_with("PUT /up/a%FF%C3%A4\n"), "{text}");
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
        let mut child = tool()
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
            &format!("set=@{file};type=text/x; charset=utf-8;filename=b"),
            "-F",
            &format!("own=@{file}"),
            "-F",
            &format!("read=<{file}"),
            "-F",
            &format!("quoted=@\"{file}\";filename=\"c;d\""),
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
            "content-disposition: form-data; name=\"set\"; filename=\"b\"\r\n\
             content-type: text/x; charset=utf-8\r\n\r\ncontents",
            "content-disposition: form-data; name=\"own\"; filename=\"page\"\r\n\
             content-type: application/octet-stream\r\n\r\ncontents",
            "content-disposition: form-data; name=\"read\"\r\n\r\ncontents",
            "content-disposition: form-data; name=\"quoted\"; filename=\"c;d\"\r\n\
             content-type: application/octet-stream\r\n\r\ncontents",
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
async fn data_are_encoded_and_can_be_in_the_url() {
    let (server, url) = start().await;
    let file = format!("{}/text", directory("habits-encoded"));
    fs::write(&file, "x y\n&").unwrap();
    let from_file = format!("n@{file}");
    for protocol in PROTOCOLS {
        for (data, encoded) in [
            ("a b&c", "a+b%26c"),
            ("=a@b", "a%40b"),
            ("n=\u{e4}-1", "n=%C3%A4-1"),
            (&from_file, "n=x+y%0A%26"),
            (&from_file[1..], "x+y%0A%26"),
        ] {
            let words = ["-d", "first=1", "--data-urlencode", data];
            let text = get_by(protocol, &[&words[..], &[&url("/mirror")]].concat()).await;
            let text = text.success();
            assert!(text.starts_with("POST /mirror\n"), "{text}");
            assert!(text.ends_with(&format!("\n\nfirst=1&{encoded}")), "{text}");
            for (path, seen) in [
                ("/mirror", "/mirror?"),
                ("/mirror?a", "/mirror?a&"),
                ("?a", "/?a&"),
            ] {
                let text = get_by(protocol, &[&["-G"], &words[..], &[&url(path)]].concat()).await;
                let expected = format!("GET {seen}first=1&{encoded}\n");
                assert!(text.success().starts_with(&expected), "{expected}");
            }
        }
    }
    for data in ["a b", "a#b"] {
        let ran = run(&["get", "-G", "-d", data, &url("/mirror")]).await;
        let message = "the data cannot be part of a URL: use --data-urlencode";
        assert_eq!(ran.failure(2), message);
    }
    assert_eq!(server.end().await.cut, 0);
}
