//! Flags with wrong values, flags that do not fit together, and outputs that cannot be written.

use std::{fs, io::Write, net::TcpListener, process::Stdio, thread};

use super::{
    PROTOCOLS,
    common::{Ran, Site, directory, spdy, tool},
};

/// Each is refused before anything is sent, with the name of the flag.
#[test]
fn wrong_values_are_refused_by_name() {
    for (words, message) in [
        (&["-m", "0"][..], "--max-time"),
        (&["-m", "-1"], "--max-time"),
        (&["-m", "9999999999"], "at most 1000 hours"),
        (&["--connect-timeout", "0"], "--connect-timeout"),
        (&["--retry", "-1"], "--retry"),
        (&["--retry-delay", "x"], "--retry-delay"),
        (&["-C", "99999999999999999999"], "--continue-at"),
        (&["-C", "-1"], "--continue-at"),
        (&["-C", "5", "-T", "x"], "cannot be used with"),
        (&["-C", "5", "-d", "x"], "cannot be used with"),
        (&["-C", "5", "-I"], "cannot be used with"),
        (&["-C", "5", "--compressed"], "cannot be used with"),
        (&["-o", "x", "-O"], "cannot be used with"),
        (&["-o", ""], "--output"),
        (&["-T", ""], "--upload-file"),
        (&["-w", "%{x"], "--write-out"),
        (&["-w", "100%"], "must begin %{NAME}"),
        (&["-w", "x", "--json"], "cannot be used with"),
        (&["-X", ""], "--request"),
        (&["-X", "CONNECT"], "CONNECT is not supported"),
        (&["-H", ""], "--header"),
        (&["-H", ":"], "--header"),
        (&["-H", "a: b\r\nc: d"], "--header"),
        (&["-A", "\u{7f}"], "--user-agent"),
        (&["-u", "me"], "--user"),
        (&["-d", "x", "-F", "a=b"], "cannot be used with"),
        (&["-d", "x", "-T", "x"], "cannot be used with"),
        (&["-G", "-F", "a=b"], "cannot be used with"),
        (&["-I", "-X", "GET"], "cannot be used with"),
        (&["-f", "--fail-with-body"], "cannot be used with"),
        (&["--http1", "--http2"], "cannot be used with"),
        (&["--http2", "--upgrade"], "cannot be used with"),
        (&["--version", "1"], "must be 2, 3 or 3.1"),
        (&["--resolve", "garbage"], "--resolve"),
        (&["--resolve", "a:443:b"], "--resolve"),
        (&["--resolve", "a:99999:127.0.0.1"], "--resolve"),
        (&["--resolve", "a:443:[::1"], "--resolve"),
        (&["--connect-to", "a:1:b:99999"], "--connect-to"),
        (&["-x", "ftp://a"], "--proxy"),
        (&["-x", "http://"], "--proxy"),
        (&["-U", "me"], "--proxy-user"),
        (&["--key", "x"], "--cert"),
        (&["--cacert", "x", "-k"], "cannot be used with"),
        (&["--no-such-flag"], "--no-such-flag"),
    ] {
        let ran = spdy(&[&["get"], words, &["http://127.0.0.1:1/"]].concat());
        assert_eq!((ran.code, &*ran.stdout), (2, &b""[..]), "{words:?} {ran:?}");
        assert!(ran.stderr.contains(message), "{words:?} {ran:?}");
        assert!(!ran.stderr.contains("panicked"), "{ran:?}");
    }
}

/// What only a look at all flags, or at a file, can find.
#[test]
fn what_does_not_fit_together_is_one_sentence() {
    let directory = directory("habits-misfits");
    let [a, b] = ["http://127.0.0.1:1/a", "http://127.0.0.1:1/b"];
    let slash = "http://127.0.0.1:1/";
    for (words, code, message) in [
        (
            &["-o", "x", a, b][..],
            2,
            "--output must be given once for each URL, or not at all",
        ),
        (&["-O", slash], 2, "/ has no file name: use --output"),
        (&["-O", "http://127.0.0.1:1/x/.."], 2, "has no file name"),
        (&["-C", "-", a], 2, "--continue-at - needs a file"),
        (&["-F", "a", a], 2, "--form a must have the form NAME=VALUE"),
        (
            &["-T", "-", a, b],
            2,
            "standard input can be sent to one URL only",
        ),
        (
            &["-F", "a=@-", a, b],
            2,
            "standard input can be sent to one URL only",
        ),
        (&["-T", &directory, a], 3, "cannot connect"),
        (&["-d", "@/nowhere", a], 4, "cannot read /nowhere"),
        (&["-d", &format!("@{directory}"), a], 4, "Is a directory"),
        (
            &["-k", "--cert", "/nowhere", "https://127.0.0.1:1/"],
            4,
            "/nowhere",
        ),
        (
            &["--cacert", &directory, "https://127.0.0.1:1/"],
            4,
            &directory,
        ),
        (
            &["--upgrade", "--version", "3", a],
            2,
            "--upgrade supports only SPDY/3.1",
        ),
    ] {
        let ran = spdy(&[&["get"], words].concat());
        let said = ran.failure(code);
        assert!(said.contains(message), "{words:?} {said}");
        let ran = spdy(&[&["get", "--json"], words].concat());
        let told = ran.json();
        let error = told[0]["error"].as_str().unwrap();
        assert!(error.contains(message), "{words:?} {told:?}");
    }
}

#[test]
fn an_output_that_cannot_be_written_is_one_sentence() {
    let site = Site::start("habits-outputs");
    let url = site.http("/hello");
    let directory = directory("habits-unwritable");
    for protocol in PROTOCOLS {
        for (file, why) in [
            (&*directory, "Is a directory"),
            ("/nowhere/x", "No such file or directory"),
        ] {
            let ran = spdy(&[&["get"], protocol, &["-o", file, &url]].concat());
            assert!(ran.failure(4).contains(why), "{ran:?}");
        }
    }
}

/// Every command whose output goes to a full disk says so, and none hangs or panics.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_one_sentence() {
    let site = Site::start("habits-full");
    let (hello, long) = (site.http("/hello"), site.http("/bytes/1000000"));
    let recording = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/v31-node-node-tour.c2s.bin"
    );
    for words in [
        &["get", &*hello][..],
        &["get", &long, &long],
        &["get", "-i", &hello],
        &["get", "--json", &hello],
        &["get", "-w", "x", "-o", "/dev/null", &hello],
        &["get", "--http1", &long, &hello],
        &["get", "--json", "http://127.0.0.1:1/"],
        &["ping", "-n", "2", &hello],
        &["ping", "--json", "-n", "1", &hello],
        &["load", "-n", "2", &hello],
        &["load", "--json", "-n", "2", &hello],
        &["inspect", "3.1", recording],
        &["inspect", "--json", "3.1", recording],
    ] {
        let full = fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let output = tool().args(words).stdout(Stdio::from(full)).output();
        let ran = Ran::from(output.unwrap());
        let why = "cannot write to standard output: No space left on device";
        assert!(
            ran.stderr.contains(why) || ran.code == 3,
            "{words:?} {ran:?}"
        );
        assert!([3, 4].contains(&ran.code), "{words:?} {ran:?}");
        assert!(!ran.stderr.contains("panicked"), "{words:?} {ran:?}");
        assert!(ran.stderr.lines().count() <= 2, "{words:?} {ran:?}");
    }
}

/// A message that cannot be written changes nothing else.
#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_error_changes_nothing_else() {
    let site = Site::start("habits-mute");
    for (words, code, length) in [
        (&["get", "-v", &*site.http("/hello")][..], 0, 100),
        (&["get", "http://127.0.0.1:1/"], 3, 0),
        (&["get", "-f", &site.http("/nothing")], 5, 0),
        (&["get", "-o", "/nowhere/x", &site.http("/hello")], 4, 0),
        (&["get"], 2, 0),
    ] {
        let full = fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let output = tool()
            .args(words)
            .stderr(Stdio::from(full))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}");
        assert_eq!(output.stdout.len(), length, "{words:?}");
    }
}

/// A redirect of a server can have a user and a password in its location.
#[test]
fn a_user_in_a_redirect_is_not_shown() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (mut io, location) in listener.incoming().flatten().zip(
            [
                "http://me:secret@a.test/",
                "ftp://me:secret@a.test/",
                "http://me:secret@[::1/",
            ]
            .iter()
            .cycle(),
        ) {
            let answer =
                format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
            _ = std::io::Read::read(&mut io, &mut [0; 4096]);
            _ = io.write_all(answer.as_bytes());
        }
    });
    for code in [3, 1, 1] {
        let ran = spdy(&[
            "get",
            "--http1",
            "-L",
            "--json",
            &format!("http://{address}/"),
        ]);
        assert!(ran.failure(code).contains("***@"), "{ran:?}");
        assert!(!ran.stderr.contains("secret"), "{ran:?}");
        assert!(!String::from_utf8(ran.stdout).unwrap().contains("secret"));
    }
}
