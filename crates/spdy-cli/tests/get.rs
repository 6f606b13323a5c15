//! `spdy get` against the real server: its output, its files and its messages.

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    process::Command,
    thread,
    time::Duration,
};

use sha2::{Digest, Sha256};

use self::common::{SPDY, Site, directory, spdy, spdy_reading, tool};

#[test]
fn get_uses_the_best_protocol_of_alpn_and_trusts_the_certificate_file() {
    let site = Site::start("alpn");
    let page = spdy(&["get", "--cacert", &site.cacert, &site.https("/hello")]).success();
    assert!(page.contains("one hundred") && page.len() == 100, "{page}");

    let ran = spdy(&["get", "-i", "--insecure", &site.https("/cookies")]).success();
    assert!(ran.starts_with("SPDY/3.1 200 OK\r\n"), "{ran}");
    assert_eq!(ran.matches("set-cookie: ").count(), 2);
    assert!(ran.ends_with("\r\n\r\ntwo cookies\n"), "{ran}");
}

#[test]
fn output_with_a_dash_is_standard_output() {
    let site = Site::start("dash");
    let directory = directory("dash-out");
    let output = tool()
        .args(["get", "--output", "-", &site.http("/hello")])
        .current_dir(&directory)
        .output()
        .unwrap();
    assert_eq!(output.stdout.len(), 100, "{output:?}");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    let ran = spdy(&["get", "--json", "-o", "-", &site.http("/hello")]);
    assert_eq!(
        ran.failure(2),
        "--output cannot be standard output, because --json writes there"
    );
}

#[test]
fn get_uses_the_version_of_the_flag_or_fails() {
    let site = Site::start("versions");
    for version in ["2", "3", "3.1"] {
        let title = format!("SPDY/{version} 200 OK\r\n");
        let ran = spdy(&["get", "-ki", "--version", version, &site.https("/hello")]).success();
        assert!(ran.starts_with(&title), "{ran}");
        // In plain text the server takes version field 3 for SPDY/3.1. A response this small is the
        // same in both.
        let ran = spdy(&["get", "-i", "--version", version, &site.http("/hello")]).success();
        assert!(ran.starts_with(&title), "{ran}");
    }
    for url in [site.https("/hello"), site.http("/hello")] {
        let ran = spdy(&["get", "-ki", "--http1", &url]).success();
        assert!(ran.starts_with("HTTP/1.1 200 OK\r\n"), "{ran}");
    }
}

#[test]
fn plain_uses_plain_text_for_https_urls() {
    let site = Site::start("plain");
    let https_at_plain_port = site.http("/hello").replace("http:", "https:");
    for (flags, title) in [
        (&[][..], "SPDY/3.1 200 OK\r\n"),
        (&["--version", "2"], "SPDY/2 200 OK\r\n"),
        (&["--http1"], "HTTP/1.1 200 OK\r\n"),
    ] {
        for url in [&site.http("/hello"), &https_at_plain_port] {
            let ran = spdy(&[&["get", "-i", "--plain"], flags, &[url]].concat()).success();
            assert!(ran.starts_with(title), "{ran}");
        }
    }
    // A TLS server does not answer plain text.
    let ran = spdy(&["get", "--plain", &site.https("/hello")]);
    assert!([1, 3].contains(&ran.code), "{ran:?}");
}

#[test]
fn get_sends_the_fields_the_method_and_the_body_of_its_flags() {
    let site = Site::start("requests");
    let headers = site.http("/headers");
    let ran = spdy(&[
        "get",
        "-H",
        "x-colour: blue",
        "-H",
        "accept:text/html",
        &headers,
    ])
    .success();
    assert!(ran.contains("x-colour: blue\n"), "{ran}");
    assert!(
        ran.contains("accept: text/html\n") && !ran.contains("*/*"),
        "{ran}"
    );
    assert!(ran.contains("user-agent: spdy/"), "{ran}");

    let echo = site.http("/echo");
    assert_eq!(spdy(&["get", "-d", "a=b", &echo]).success(), "a=b");
    let file = format!("{}/body", directory("body"));
    fs::write(&file, vec![b'z'; 300_000]).unwrap();
    let at_file = format!("@{file}");
    let sink = site.http("/sink");
    assert_eq!(spdy(&["get", "-d", &at_file, &sink]).success(), "300000\n");
    assert_eq!(
        spdy(&["get", "-d", &at_file, "--http1", &sink]).success(),
        "300000\n"
    );
    let ran = spdy_reading(&["get", "-d", "@-", &echo], b"from a pipe");
    assert_eq!(ran.success(), "from a pipe");

    let ran = spdy(&["get", "-i", "-X", "HEAD", &site.http("/hello")]).success();
    assert!(
        ran.contains("content-length: 100\r\n") && ran.ends_with("\r\n\r\n"),
        "{ran}"
    );
    let ran = spdy(&["get", "-i", "-X", "DELETE", &site.http("/hello")]).success();
    assert!(ran.starts_with("SPDY/3.1 405 "), "{ran}");

    let ran = spdy(&["get", "-d", "@/nowhere", &echo]);
    assert!(
        ran.failure(4).starts_with("cannot read /nowhere: "),
        "{ran:?}"
    );
}

#[test]
fn several_urls_share_a_session_and_are_written_in_order() {
    let site = Site::start("several");
    let paths = ["/slow/400", "/bytes/3000000", "/slow/400", "/hello"];
    let urls = paths.map(|path| site.http(path));
    let mut arguments = vec!["get", "-v"];
    arguments.extend(urls.iter().map(String::as_str));
    let ran = spdy(&arguments);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.starts_with(b"waited 400 ms\n\x07\x26"));
    assert!(ran.stdout.ends_with(b"HTTP/1.1. Bye!\n"));
    assert_eq!(ran.stdout.len(), 2 * 14 + 3_000_000 + 100);

    let lines: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.contains("* connected"))
            .count(),
        1
    );
    // The client does not wait for a response before it sends the last request.
    let find = |text: &str| lines.iter().position(|line| line.contains(text)).unwrap();
    assert!(
        find("> SYN_STREAM stream=7") < find("< SYN_REPLY"),
        "{}",
        ran.stderr
    );
}

#[test]
fn verbose_shows_each_frame_with_its_time() {
    let site = Site::start("frames");
    let ran = spdy(&["get", "-v", "-k", &site.https("/slow/200")]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("protocol=spdy/3.1 tls=TLSv1_3"),
        "{}",
        ran.stderr
    );
    let time = |text: &str| -> f64 {
        let line = ran.stderr.lines().find(|line| line.contains(text));
        let line = line.unwrap_or_else(|| panic!("no {text} in {}", ran.stderr));
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let waited = time("< SYN_REPLY stream=1") - time("> SYN_STREAM stream=1");
    assert!((0.19..5.0).contains(&waited), "{waited}");
    assert!(time("< DATA stream=1") <= time("> GOAWAY"));
}

#[test]
fn output_files_have_the_bodies_and_json_describes_them() {
    let site = Site::start("files");
    let directory = directory("files-out");
    let files = ["a", "b"].map(|name| format!("{directory}/{name}"));
    let urls = [site.https("/bytes/5000000"), site.http("/trailers")];
    let ran = spdy(&[
        "get", "-k", "--json", "-o", &files[0], "-o", &files[1], &urls[0], &urls[1],
    ]);
    assert_eq!((ran.code, &*ran.stderr), (0, ""));
    let told = ran.json();
    assert_eq!(told.len(), 2);
    assert_eq!(told[0]["protocol"], "spdy/3.1");
    assert_eq!(told[0]["status"], 200);
    assert_eq!(told[0]["bytes"], 5_000_000);
    assert_eq!(told[0]["file"], *files[0]);
    let field = |fields: &serde_json::Value, name: &str| {
        let mut fields = fields.as_array().unwrap().iter();
        let field = fields.find(|field| field[0] == *name).unwrap();
        field[1].as_str().unwrap().to_owned()
    };
    let hash = |path: &String| {
        let digest = Sha256::digest(fs::read(path).unwrap());
        digest
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    assert_eq!(hash(&files[0]), field(&told[0]["headers"], "x-sha256"));
    assert_eq!(hash(&files[1]), field(&told[1]["trailers"], "x-checksum"));
}

#[test]
fn a_file_that_cannot_be_written_is_one_message_and_disturbs_nothing_else() {
    let site = Site::start("full");
    let directory = directory("full-out");
    let good = format!("{directory}/good");
    let nowhere = format!("{directory}/none/file");
    let big = site.http("/bytes/3000000");
    for (file, reason) in [
        ("/dev/full", "No space left on device"),
        (&nowhere, "No such file or directory"),
    ] {
        if file == "/dev/full" && !fs::exists(file).unwrap() {
            continue;
        }
        let ran = spdy(&["get", "-o", file, "-o", &good, &big, &big]);
        let said = ran.failure(4);
        assert!(
            said.contains(&format!("cannot write to {file}: {reason}")),
            "{said}"
        );
        assert_eq!(fs::metadata(&good).unwrap().len(), 3_000_000);
    }
    let ran = spdy(&["get", "-o", &good, &big, &big]);
    assert_eq!(
        ran.failure(2),
        "--output must be given once for each URL, or not at all"
    );
}

#[test]
fn a_server_of_another_protocol_is_named_in_the_message() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            _ = socket.read(&mut [0; 4096]);
            _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let ran = spdy(&["get", "--version", "3.1", &format!("http://{address}/")]);
    assert!(
        ran.failure(1)
            .contains("the server speaks HTTP/1.1 and not SPDY/3.1: try --http1"),
        "{ran:?}"
    );
}

#[test]
fn failures_have_their_exit_status() {
    let site = Site::start("failures");
    let missing = site.http("/nothing");
    assert_eq!(spdy(&["get", &missing]).success(), "not found: /nothing\n");
    assert_eq!(spdy(&["get", "--fail", &missing]).code, 5);

    let ran = spdy(&["get", "http://127.0.0.1:1/"]);
    assert!(
        ran.failure(3).contains("cannot connect to 127.0.0.1:1: "),
        "{ran:?}"
    );
    let ran = spdy(&["get", "--connect-timeout", "1", "http://a.invalid/"]);
    assert!(
        ran.failure(3).contains("cannot connect to a.invalid:80: "),
        "{ran:?}"
    );
    // The certificate of another site.
    let other = Site::start("failures-other");
    let ran = spdy(&["get", "--cacert", &other.cacert, &site.https("/")]);
    assert!(
        ran.failure(3).contains("invalid peer certificate"),
        "{ran:?}"
    );
    let ran = spdy(&["get", "--cacert", "/dev/null", &site.https("/")]);
    assert_eq!(ran.failure(4), "no certificate found in /dev/null");
    // TLS to a port of plain text.
    let ran = spdy(&["get", "-k", &site.http("/").replace("http:", "https:")]);
    ran.failure(3);

    // The first failure decides the exit status. The other URLs are still written, in order.
    let ran = spdy(&["get", &site.http("/hello"), "http://127.0.0.1:1/", &missing]);
    ran.failure(3);
    assert_eq!(ran.stdout.len(), 100 + 20);
    let ran = spdy(&["get", "--json", "http://127.0.0.1:1/", &missing]);
    assert!(
        ran.json()[0]["error"]
            .as_str()
            .unwrap()
            .contains("cannot connect")
    );
    assert_eq!(ran.json()[1]["status"], 404);
}

#[test]
fn a_closed_standard_output_ends_the_program() {
    let site = Site::start("pipe");
    let command = format!("{SPDY} get {} | head -c 3", site.http("/bytes/50000000"));
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    assert_eq!(output.stdout, [7, 38, 69]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("cannot write to standard output: Broken pipe"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1);
}

#[cfg(unix)]
#[test]
fn a_terminal_shows_a_progress_bar() {
    let site = Site::start("bar");
    let file = format!("{}/out", directory("bar-out"));
    let seen = on_a_terminal(&["-o", &file, &site.http("/bytes/40000000")]);
    assert!(seen.contains("/bytes/40000000 ["), "{seen}");
    assert!(seen.contains("MiB/38.15 MiB"), "{seen}");
    assert_eq!(fs::metadata(&file).unwrap().len(), 40_000_000);
    // The bar of an upload is at its end when all has been sent.
    for flags in [&["--version", "3.1"][..], &["--http2"], &["--http1"]] {
        let words = ["-T", &file, "-X", "POST", &site.http("/sink")];
        let seen = on_a_terminal(&[flags, &words].concat());
        assert!(seen.contains("/sink ["), "{seen}");
        assert!(seen.contains("MiB/38.15 MiB"), "{seen}");
        let seen = on_a_terminal(&[flags, &["-s"], &words].concat());
        assert_eq!(seen.trim_end(), "40000000", "silent");
    }
}

/// Header fields cannot control the terminal. A file or a pipe has them as they are, and JSON is
/// the same everywhere.
#[cfg(unix)]
#[test]
fn fields_on_a_terminal_are_escaped() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut io in listener.incoming().flatten() {
            // CSI as one character.
            _ = io.read(&mut [0; 1000]);
            _ = io.write_all(b"HTTP/1.1 200 OK\r\nx-a: \xc2\x9b31m\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let words = ["--http1", "-i", &*url];
    let seen = on_a_terminal(&words);
    assert!(seen.contains("x-a: \\u{9b}31m"), "{seen:?}");
    let ran = spdy(&[&["get"], &words[..]].concat());
    assert!(ran.success().contains("x-a: \u{9b}31m\r\n"));
    let seen = on_a_terminal(&["--http1", "--json", &*url]);
    assert!(seen.contains("\\u009b31m"), "{seen:?}");
}

/// Runs `spdy get` on a terminal of its own. Returns what it shows.
#[cfg(unix)]
fn on_a_terminal(arguments: &[&str]) -> String {
    use std::io::Read;

    let (mut pty, pts) = pty_process::blocking::open().unwrap();
    pty.resize(pty_process::Size::new(24, 200)).unwrap();
    let mut child = pty_process::blocking::Command::new(SPDY)
        .arg("get")
        .args(arguments)
        .spawn(pts)
        .unwrap();
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    // On some systems reading returns an error when the program of the terminal has ended.
    while let Ok(bytes @ 1..) = pty.read(&mut piece) {
        seen.extend_from_slice(&piece[..bytes]);
    }
    assert!(child.wait().unwrap().success());
    String::from_utf8_lossy(&seen).into_owned()
}

#[test]
fn help_names_the_exit_status() {
    let help = spdy(&["--help"]).success();
    for word in [
        "A command-line client for SPDY/2, SPDY/3 and SPDY/3.1\n",
        "  get      Sends requests and writes the bodies of the responses to standard output\n",
        "  ping     Measures round-trip times with PING frames\n",
        "  load     Sends many requests and reports the rate and the latency of the responses\n",
        "  inspect  Shows the frames of a recording with their header fields\n",
        "Exit status:\n  0  every request received a complete response, of any status\n",
        "  130  Ctrl-C; ",
        "  SSLKEYLOGFILE  ",
    ] {
        assert!(help.contains(word), "{help}");
    }
    let get = spdy(&["get", "--help"]).success();
    for word in [
        "Accept any certificate of the server\n",
        "Accept any certificate of a proxy with https://\n",
        "does not change where a request goes",
    ] {
        assert!(get.contains(word), "{get}");
    }
    let load = spdy(&["load", "--help"]).success();
    assert!(load.contains("--body <BYTES>"), "{load}");
    for (words, message) in [
        (
            ["a.test", "--http1"],
            "the URL must begin with http:// or https://",
        ),
        (["http://u@a/", "--http1"], "must not contain a user name"),
        (
            ["-Hnothing", "http://a/"],
            "a header field must have the form NAME: VALUE",
        ),
        (
            ["-XCONNECT", "http://a/"],
            "the method CONNECT is not supported",
        ),
        (
            ["--version=4", "http://a/"],
            "the version must be 2, 3 or 3.1",
        ),
    ] {
        let ran = spdy(&[&["get"][..], &words].concat());
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains(message), "{ran:?}");
    }
    for mistake in [&["get"][..], &[], &["get", "--version", "4", "http://a/"]] {
        assert_eq!(spdy(mistake).code, 2);
    }
    let version = spdy(&["--version"]).success();
    assert_eq!(version, concat!("spdy ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn completions_and_the_manual_pages_are_printed() {
    for (arguments, expected) in [
        (&["--completions", "bash"][..], "--connect-timeout"),
        (&["--completions", "zsh"], "#compdef spdy"),
        (&["--completions", "fish"], "complete -c spdy"),
        (&["--man"], ".TH spdy 1"),
        (&["--man", "get"], ".TH spdy-get 1"),
        (&["--man", "get"], "write\\-out"),
        (&["--man", "load"], "warm\\-up"),
    ] {
        let text = spdy(arguments).success();
        assert!(text.contains(expected), "{text}");
    }
    let unread = Command::new("sh")
        .args(["-c", &format!("{SPDY} --man >/dev/full")])
        .output()
        .unwrap();
    assert_eq!(unread.status.code(), Some(4));
}

#[test]
fn a_long_response_before_its_turn_does_not_delay_the_one_that_is_due() {
    let site = Site::start("turns");
    let [slow, long] = ["/slow/300", "/bytes/30000000"].map(|path| site.https(path));
    for version in ["2", "3", "3.1"] {
        let time = |urls: [&str; 2]| {
            let start = std::time::Instant::now();
            let ran = spdy(&[&["get", "-k", "--version", version][..], &urls].concat());
            assert_eq!(ran.code, 0, "{}", ran.stderr);
            assert_eq!(ran.stdout.len(), 14 + 30_000_000);
            start.elapsed()
        };
        let (in_turn, before) = (time([&long, &slow]), time([&slow, &long]));
        assert!(
            before < 10 * in_turn + Duration::from_secs(10),
            "{before:?}, {in_turn:?} in turn"
        );
    }
}
