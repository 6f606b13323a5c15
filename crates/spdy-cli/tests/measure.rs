//! `spdy ping`, `spdy load` and `spdy inspect`.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::Stdio,
};

use self::common::{Site, directory, interrupt, spdy, tool};

#[test]
fn ping_measures_round_trips_in_every_version() {
    let site = Site::start("ping");
    for version in ["2", "3", "3.1"] {
        let url = site.https("/");
        let words = [
            "ping",
            "-k",
            "-n",
            "3",
            "--interval",
            "0",
            "--version",
            version,
            &url,
        ];
        let text = spdy(&words).success();
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(
            text.contains(&format!("spdy/{version}, 3 round trips: min ")),
            "{text}"
        );
    }
    let ran = spdy(&[
        "ping",
        "-n",
        "4",
        "--interval",
        "0",
        "--json",
        &site.http("/"),
    ]);
    let told = &ran.json()[0];
    assert_eq!(told["times_ms"].as_array().unwrap().len(), 4);
    let [min, avg, max] = ["min_ms", "avg_ms", "max_ms"].map(|key| told[key].as_f64().unwrap());
    assert!(
        0.0 < min && min <= avg && avg <= max && max < 1000.0,
        "{told}"
    );
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_pings_with_a_report() {
    let site = Site::start("ping-interrupt");
    let mut child = tool()
        .args(["ping", "-n", "1000000", &site.http("/")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    for _ in 0..2 {
        lines.read_line(&mut text).unwrap();
    }
    interrupt(&child);
    lines.read_to_string(&mut text).unwrap();
    let report = text.lines().last().unwrap();
    assert!(report.contains(" round trips: min "), "{text}");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(output.stderr, b"spdy: interrupted\n");
}

#[test]
fn ping_fails_without_a_connection_or_a_reply() {
    let ran = spdy(&["ping", "http://127.0.0.1:1/"]);
    assert!(ran.failure(3).starts_with("cannot connect to "), "{ran:?}");
    // A server that only supports HTTP/1.1 refuses a frame as a bad request.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        use std::io::Write;
        for _ in 0..2 {
            let (mut io, _) = listener.accept().unwrap();
            io.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        }
    });
    let ran = spdy(&["ping", &url]);
    let why = "the server speaks HTTP/1.1 and not SPDY/3.1: try a server that has SPDY";
    assert_eq!(ran.failure(1), why);
    let ran = spdy(&["ping", "--json", &url]);
    for time in ["min_ms", "avg_ms", "max_ms"] {
        assert!(ran.json()[0][time].is_null(), "{time}: {ran:?}");
    }
    server.join().unwrap();
}

#[test]
fn load_measures_spdy_and_http2_alike() {
    let site = Site::start("load");
    for (flags, protocol) in [
        (&["--version", "3.1"][..], "spdy/3.1"),
        (&["--version", "2"], "spdy/2"),
        (&["--h2"], "h2"),
    ] {
        for url in [site.http("/hello"), site.https("/hello")] {
            let usual = [
                "load",
                "-k",
                "-c",
                "3",
                "-m",
                "7",
                "-n",
                "1000",
                "--warm-up",
                "100",
            ];
            let ran = spdy(&[&usual, flags, &["--json", &url]].concat());
            assert_eq!((ran.code, &*ran.stderr), (0, ""));
            let told = &ran.json()[0];
            assert_eq!(told["protocol"], protocol);
            assert_eq!(told["statuses"]["2xx"], 1000, "{told}");
            assert_eq!(told["bytes"]["bodies"], 100_000);
            assert_eq!(told["errors"], 0);
            let latency = &told["latency_ms"];
            let keys = ["min", "p50", "p90", "p99", "max"];
            let found = keys.map(|key| latency[key].as_f64().unwrap());
            assert!(found.is_sorted() && found[0] > 0.0, "{told}");
            assert!(told["bytes"]["received"].as_u64().unwrap() > 100_000);
        }
    }
}

#[test]
fn load_sends_bodies_and_prints_a_report() {
    let site = Site::start("load-post");
    let url = site.http("/sink");
    for flags in [&[][..], &["--h2"], &["--threads", "2"]] {
        let usual = ["load", "-c", "2", "-m", "2", "-n", "50", "--body", "100000"];
        let text = spdy(&[&usual[..], flags, &[&url]].concat()).success();
        assert!(text.contains("status    2xx 50, 3xx 0"), "{text}");
        assert!(text.contains("bytes     350 in bodies"), "{text}");
        assert!(
            text.contains("p90") && text.contains("errors    0"),
            "{text}"
        );
    }
}

#[test]
fn load_counts_failures() {
    let site = Site::start("load-wrong");
    let ran = spdy(&["load", "-n", "10", "--json", &site.http("/status/503")]);
    assert_eq!(ran.code, 5);
    assert_eq!(ran.json()[0]["statuses"]["5xx"], 10);

    // A server that closes each connection at once.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let ran = spdy(&[
        "load",
        "-n",
        "10",
        "-m",
        "2",
        "--connect-timeout",
        "500ms",
        "--json",
        &url,
    ]);
    server.join().unwrap();
    assert_eq!(ran.code, 1);
    let told = &ran.json()[0];
    assert_eq!(told["errors"], 10, "{told}");
    assert_eq!(told["statuses"]["2xx"], 0);
}

/// With `--json` every command writes a failure as an object with the member `error`.
#[test]
fn failures_are_written_as_json() {
    for command in ["get", "ping", "load"] {
        let ran = spdy(&[command, "--json", "http://127.0.0.1:1/"]);
        let said = ran.failure(3).to_owned();
        let told = ran.json();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0]["url"], "http://127.0.0.1:1/");
        let error = told[0]["error"].as_str().unwrap();
        assert!(error.starts_with("cannot connect to "), "{error}");
        assert!(said.ends_with(error), "{said}: {error}");
    }
    let file = format!("{}/garbage", directory("json"));
    fs::write(&file, [0x80, 2, 0, 5, 0, 0, 0, 0, 1]).unwrap();
    let ran = spdy(&["inspect", "--json", "2", &file]);
    ran.failure(1);
    let told = ran.json();
    assert_eq!(told[0]["kind"], "NOOP");
    assert_eq!(told[1]["file"], *file);
    assert_eq!(told[1]["error"], "the recording ends inside a frame");
}

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures");

#[test]
fn inspect_shows_the_frames_of_a_recording() {
    let file = format!("{FIXTURES}/v2-node-node-tour.c2s.bin");
    let text = spdy(&["inspect", "2", &file]).success();
    assert!(text.contains("SYN_STREAM stream=1 "), "{text}");
    assert!(text.contains("\n    method: GET\n"), "{text}");

    let ran = spdy(&["inspect", "--json", "spdy/2", &file]);
    assert_eq!((ran.code, &*ran.stderr), (0, ""));
    let frames = ran.json();
    let head = frames.iter().find(|frame| frame["kind"] == "SYN_STREAM");
    let fields = head.unwrap()["fields"].as_array().unwrap();
    assert!(
        fields.contains(&serde_json::json!(["method", "GET"])),
        "{fields:?}"
    );
    assert_eq!(frames[0]["offset"], 0);
}

#[test]
fn inspect_reports_where_a_recording_is_malformed() {
    let directory = directory("inspect");
    let whole = fs::read(format!("{FIXTURES}/v2-node-node-tour.c2s.bin")).unwrap();
    let cut = format!("{directory}/cut");
    fs::write(&cut, &whole[..whole.len() - 1]).unwrap();
    let ran = spdy(&["inspect", "2", &cut]);
    assert_eq!(ran.failure(1), "the recording ends inside a frame");
    assert!(!ran.stdout.is_empty());

    let ran = spdy(&["inspect", "3.1", &cut]);
    assert!(
        ran.failure(1).starts_with("malformed frame at byte 0: "),
        "{ran:?}"
    );
    let ran = spdy(&["inspect", "2", &format!("{directory}/none")]);
    assert!(ran.failure(4).starts_with("cannot read "), "{ran:?}");
}
