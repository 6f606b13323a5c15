//! The options of `spdy load`, over SPDY and other protocols.

mod common;

use std::{
    net::SocketAddr,
    pin::pin,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    http::{Method, StatusCode},
    routing::any,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use serde_json::Value;
use spdy_frame::Version;
use spdy_tower::Builder;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
    time::{sleep, timeout},
};

use self::common::{Running, SPDY, interrupt, run, spdy, tool};

const PROTOCOLS: [&[&str]; 4] = [
    &["--version", "3.1"],
    &["--version", "2"],
    &["--h2"],
    &["--http1"],
];

/// Counts its requests. `/` returns the method and the length of the body, `/slow` the same after
/// 100 ms, and `/never` nothing.
fn app(count: &Arc<AtomicU64>) -> Router {
    let count = Arc::clone(count);
    let describe = async move |method: Method, body: String| {
        count.fetch_add(1, Ordering::Relaxed);
        format!("{method} {}", body.len())
    };
    let slow = async || sleep(Duration::from_millis(100)).await;
    Router::new()
        .route("/", any(describe))
        .route("/slow", any(slow))
        .route("/none", any(async || StatusCode::NOT_FOUND))
        .route("/never", any(std::future::pending::<()>))
}

struct Counted {
    server: Running,
    count: Arc<AtomicU64>,
}

impl Counted {
    async fn start() -> Self {
        let count = Arc::default();
        let server = Running::start(app(&count)).await;
        Self { server, count }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address)
    }

    /// Returns the number of requests since the last call.
    fn counted(&self) -> u64 {
        self.count.swap(0, Ordering::Relaxed)
    }
}

/// Runs `spdy load --json`. Returns its report.
async fn load(protocol: &[&str], words: &[&str]) -> Value {
    let ran = run(&[&["load", "--json"], protocol, words].concat()).await;
    assert_eq!((ran.code, &*ran.stderr), (0, ""), "{ran:?}");
    ran.json().remove(0)
}

#[tokio::test]
async fn time_ends_the_requests() {
    let it = Counted::start().await;
    for protocol in PROTOCOLS {
        let words = ["-c", "2", "-m", "3", "-D", "300ms", &it.url("/")];
        let told = load(protocol, &words).await;
        assert!(told["seconds"].as_f64().unwrap() >= 0.3, "{told}");
        let [sent, answered, unfinished] = [
            &told["requests"],
            &told["statuses"]["2xx"],
            &told["unfinished"],
        ]
        .map(|number| number.as_u64().unwrap());
        assert!(answered > 0 && unfinished <= 6, "{told}");
        assert_eq!(sent, answered + unfinished, "{told}");
        it.counted();

        let words = ["-c", "2", "-m", "3", "-D", "300ms", &it.url("/never")];
        let told = load(protocol, &words).await;
        let of_each = [&told["requests"], &told["unfinished"], &told["errors"]];
        assert_eq!(of_each.map(|number| number.as_u64().unwrap()), [6, 6, 0]);
    }
    let ran = run(&["load", "-n", "1", "-D", "1s", &it.url("/")]).await;
    assert_eq!(ran.code, 2);
}

#[tokio::test]
async fn requests_are_sent_when_they_are_due_and_wait_since_then() {
    let it = Counted::start().await;
    for protocol in PROTOCOLS {
        let words = ["--rate", "100", "-n", "30", "-m", "10", &it.url("/")];
        let told = load(protocol, &words).await;
        assert!(told["seconds"].as_f64().unwrap() >= 0.29, "{told}");
        assert_eq!(told["rate"], 100);
        // One at a time takes ten times as long as the rate wants: the last request is sent after
        // 900 ms, and was due after 90 ms.
        let words = ["--rate", "100", "-n", "10", &it.url("/slow")];
        let told = load(protocol, &words).await;
        assert!(
            told["latency_ms"]["max"].as_f64().unwrap() > 900.0,
            "{told}"
        );
    }
}

/// A request that was not due when the time was over was not sent, and is not counted.
#[tokio::test]
async fn requests_that_were_not_due_are_not_counted() {
    let it = Counted::start().await;
    for protocol in PROTOCOLS {
        let words = ["--rate", "1", "-m", "50", "-D", "300ms", &it.url("/")];
        let told = load(protocol, &words).await;
        assert_eq!(
            (&told["requests"], &told["unfinished"]),
            (&1.into(), &0.into())
        );
        assert_eq!(it.counted(), 1);
    }
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_a_failure() {
    let it = Counted::start().await;
    for protocol in PROTOCOLS {
        let words = [
            "-n",
            "4",
            "-m",
            "2",
            "--timeout",
            "200ms",
            &it.url("/never"),
        ];
        let ran = run(&[&["load", "--json"], protocol, &words[..]].concat()).await;
        let told = ran.json().remove(0);
        assert_eq!(ran.code, 1, "{told}");
        let reasons = &told["errors_by_reason"];
        assert_eq!(reasons["no complete response within 200ms"], 4, "{told}");
        assert_eq!((&told["requests"], &told["errors"]), (&4.into(), &4.into()));
    }
}

#[tokio::test]
async fn the_report_has_percentiles_and_a_histogram() {
    let it = Counted::start().await;
    for protocol in PROTOCOLS {
        let told = load(protocol, &["-n", "200", "-m", "4", &it.url("/")]).await;
        let names = ["min", "p50", "p75", "p90", "p95", "p99", "p99.9", "max"];
        let times = names.map(|name| told["latency_ms"][name].as_f64().unwrap());
        assert!(times[0] > 0.0 && times.is_sorted(), "{told}");
        let steps = told["latency_histogram_ms"].as_array().unwrap();
        let counts = steps.iter().map(|step| step[1].as_u64().unwrap());
        assert_eq!(counts.sum::<u64>(), 200, "{told}");

        let words = ["load", "-n", "200", &it.url("/")];
        let text = run(&[&words[..], protocol].concat()).await.success();
        assert!(text.contains(", p99.9 "), "{text}");
        assert!(text.contains(" % #"), "{text}");
    }
}

#[tokio::test]
async fn several_urls_take_turns() {
    let it = Counted::start().await;
    for protocol in PROTOCOLS {
        let words = [
            "-n",
            "30",
            "-m",
            "3",
            &it.url("/"),
            &it.url("/none"),
            &it.url("/"),
        ];
        let ran = run(&[&["load", "--json"], protocol, &words].concat()).await;
        assert_eq!(ran.code, 5);
        let statuses = &ran.json()[0]["statuses"];
        assert_eq!(
            (&statuses["2xx"], &statuses["4xx"]),
            (&20.into(), &10.into())
        );
    }
    let ran = run(&["load", &it.url("/"), "http://a.test/"]).await;
    let message = "all URLs must have the same scheme, host and port";
    assert_eq!(ran.failure(2), message);
}

#[tokio::test]
async fn the_method_and_the_body_are_those_of_the_flags() {
    let it = Counted::start().await;
    let url = it.url("/");
    for protocol in PROTOCOLS {
        for (words, answer) in [
            (&["-X", "PUT", "-d", "abc"][..], "PUT 3"),
            (&["-d", "abc"], "POST 3"),
            (&["--body", "1000"], "POST 1000"),
            (&["-X", "DELETE"], "DELETE 0"),
        ] {
            let words = [words, &["-n", "7", &*url]].concat();
            let told = load(protocol, &words).await;
            assert_eq!(told["bytes"]["bodies"], 7 * answer.len(), "{told}");
            assert_eq!(told["statuses"]["2xx"], 7);
        }
    }
    let ran = run(&["load", "-d", "@/nowhere", &it.url("/")]).await;
    assert!(
        ran.failure(4).starts_with("cannot read /nowhere: "),
        "{ran:?}"
    );
}

#[tokio::test]
async fn warming_up_is_not_measured() {
    let it = Counted::start().await;
    for protocol in PROTOCOLS {
        let words = ["-n", "10", "--warm-up", "25", &it.url("/")];
        let told = load(protocol, &words).await;
        assert_eq!((it.counted(), &told["requests"]), (35, &10.into()));
        let words = ["-n", "10", "--warm-up", "100ms", &it.url("/")];
        let told = load(protocol, &words).await;
        assert_eq!(told["statuses"]["2xx"], 10);
        assert!(it.counted() > 11);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn ctrl_c_ends_the_requests_with_a_report() {
    let it = Counted::start().await;
    for protocol in PROTOCOLS {
        let url = it.url("/");
        let child = tool()
            .args([&["load", "--json", "-D", "1h"], protocol, &[&*url]].concat())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        while it.count.load(Ordering::Relaxed) < 100 {
            sleep(Duration::from_millis(5)).await;
        }
        interrupt(&child);
        let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
        let ran = common::Ran::from(output.await.unwrap());
        assert_eq!(ran.code, 130);
        let told = &ran.json()[0];
        assert_eq!(told["interrupted"], true);
        assert!(told["statuses"]["2xx"].as_u64().unwrap() >= 99, "{told}");
        it.counted();
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_terminal_shows_the_progress() {
    use std::io::Read;

    let it = Counted::start().await;
    let (mut pty, pts) = pty_process::blocking::open().unwrap();
    pty.resize(pty_process::Size::new(24, 200)).unwrap();
    let child = pty_process::blocking::Command::new(SPDY)
        .args(["load", "-D", "1s", &it.url("/")])
        .spawn(pts);
    let mut child = child.unwrap();
    let seen = tokio::task::spawn_blocking(move || {
        let mut seen = Vec::new();
        let mut piece = [0; 4096];
        while let Ok(bytes @ 1..) = pty.read(&mut piece) {
            seen.extend_from_slice(&piece[..bytes]);
        }
        assert!(child.wait().unwrap().success());
        String::from_utf8_lossy(&seen).into_owned()
    });
    let seen = seen.await.unwrap();
    assert!(seen.contains(" responses, "), "{seen}");
    assert!(seen.contains("/s, p99 "), "{seen}");
    assert!(seen.contains("latency   mean "), "{seen}");
}

/// A server that stops and is back after a while answers every request.
#[tokio::test]
async fn no_request_is_lost_while_a_server_restarts() {
    for protocol in PROTOCOLS {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let version = version_of(protocol);
        let server = tokio::spawn(async move {
            let (io, _) = listener.accept().await.unwrap();
            drop(listener);
            serve(io, version, 10).await;
            // Meanwhile connections are refused.
            sleep(Duration::from_millis(300)).await;
            let listener = TcpListener::bind(address).await.unwrap();
            loop {
                let (io, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(io, version, usize::MAX));
            }
        });
        let told = load(protocol, &["-n", "100", &format!("http://{address}/")]).await;
        assert_eq!(told["statuses"]["2xx"], 100, "{told}");
        assert!(
            told["latency_ms"]["max"].as_f64().unwrap() > 100.0,
            "{told}"
        );
        server.abort();
    }
}

/// Over a connection that is lost a request may have been processed.
#[tokio::test]
async fn only_what_can_be_processed_twice_is_sent_again() {
    for protocol in PROTOCOLS {
        for (method, body) in [("GET", None), ("POST", None), ("POST", Some("--body=3"))] {
            let (address, count, server) = losing(version_of(protocol)).await;
            let url = format!("http://{address}/");
            let words = [
                &["load", "--json", "-n", "1", "-X", method],
                protocol,
                &[&*url],
            ]
            .concat();
            let ran = run(&[words, body.into_iter().collect()].concat()).await;
            assert_eq!(ran.json()[0]["errors"], 1, "{method} {ran:?}");
            let sent = count.load(Ordering::Relaxed);
            match method {
                "POST" => assert_eq!(sent, 1, "{protocol:?} {body:?}"),
                _ if protocol == ["--http1"] => {}
                _ => assert!(sent > 1, "{protocol:?}: {sent}"),
            }
            server.abort();
        }
    }
}

/// A server is measured with the same windows over both protocols: 2 MiB for each stream, and 5 MiB
/// for all of them.
#[tokio::test]
async fn the_windows_of_both_protocols_are_the_same() {
    let spdy: [&[u8]; 2] = [
        &[0, 0, 0, 7, 0, 0x20, 0, 0],
        &[0, 9, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0x4f, 0, 0],
    ];
    let http2: [&[u8]; 2] = [
        &[0, 4, 0, 0x20, 0, 0],
        &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0x4f, 0, 1],
    ];
    for (protocol, wanted) in [(PROTOCOLS[0], spdy), (PROTOCOLS[2], http2)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let words = [&["load", "-n", "1"], protocol, &[&*url]].concat();
        let client = run(&words);
        let server = async {
            let (mut io, _) = listener.accept().await.unwrap();
            let mut sent = Vec::new();
            let has = |sent: &[u8], frame: &[u8]| sent.windows(frame.len()).any(|it| it == frame);
            while !wanted.iter().all(|frame| has(&sent, frame)) {
                let read = timeout(Duration::from_secs(60), io.read_buf(&mut sent)).await;
                let read = read.unwrap_or_else(|_| panic!("{protocol:?}: {sent:x?}"));
                assert_ne!(read.unwrap(), 0, "{protocol:?}: {sent:x?}");
            }
            drop((io, listener));
        };
        tokio::join!(client, server);
    }
}

/// Starts a server that closes each connection at its first request, and counts them.
async fn losing(version: Option<Version>) -> (SocketAddr, Arc<AtomicU64>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&count);
    let server = tokio::spawn(async move {
        loop {
            let (io, _) = listener.accept().await.unwrap();
            let (counts, begun) = (Arc::clone(&counts), Arc::new(Notify::new()));
            let begins = Arc::clone(&begun);
            let app = Router::new().fallback(any(async move || {
                counts.fetch_add(1, Ordering::Relaxed);
                begins.notify_one();
                std::future::pending::<()>().await;
            }));
            tokio::spawn(async move {
                tokio::select! {
                    () = serve_app(io, version, app) => {}
                    () = begun.notified() => {}
                }
            });
        }
    });
    (address, count, server)
}

/// Serves a connection until the client ends it.
async fn serve_app(io: TcpStream, version: Option<Version>, app: Router) {
    if let Some(version) = version {
        _ = Builder::new().serve_connection(io, version, app).await;
    } else {
        let builder = auto::Builder::new(TokioExecutor::new());
        let app = TowerToHyperService::new(app);
        _ = builder.serve_connection(TokioIo::new(io), app).await;
    }
}

/// Returns the version of SPDY that these flags choose.
fn version_of(protocol: &[&str]) -> Option<Version> {
    match protocol {
        [_, "2"] => Some(Version::V2),
        [_, _] => Some(Version::V3_1),
        _ => None,
    }
}

/// Serves a connection of SPDY, or without a version of HTTP, and ends it after some requests.
async fn serve(io: TcpStream, version: Option<Version>, requests: usize) {
    let (served, end) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let last = Arc::clone(&end);
    let app = Router::new().fallback(any(async move || {
        if served.fetch_add(1, Ordering::Relaxed) + 1 == requests as u64 {
            last.notify_one();
        }
    }));
    if let Some(version) = version {
        let mut connection = pin!(Builder::new().serve_connection(io, version, app));
        tokio::select! {
            _ = connection.as_mut() => return,
            () = end.notified() => {}
        }
        connection.as_mut().graceful_shutdown();
        _ = connection.await;
    } else {
        let builder = auto::Builder::new(TokioExecutor::new());
        let app = TowerToHyperService::new(app);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(io), app));
        tokio::select! {
            _ = connection.as_mut() => return,
            () = end.notified() => {}
        }
        connection.as_mut().graceful_shutdown();
        _ = connection.await;
    }
}

#[test]
fn values_of_options_are_explained() {
    for (words, message) in [
        (["-c", "0"], "must be a whole number from 1 to 65535"),
        (["-m", "x"], "must be a whole number from 1 to 65535"),
        (["-n", "0"], "must be a whole number from 1 to 4294967295"),
        (["--threads", "256"], "must be a whole number from 1 to 255"),
        (["-D", "5d"], "must be a time above zero, such as 10, 1.5s"),
        (
            ["--rate", "0.5"],
            "must be a whole number from 1 to 4294967295",
        ),
        (
            ["--warm-up", "1.5"],
            "must be a number of requests, or a time with a unit, such as 2s",
        ),
        (["-n", "-1"], "must be a whole number from 1 to 4294967295"),
        (
            ["--body", "1e3"],
            "must be a whole number from 0 to 1073741824",
        ),
        (["--durration", "5"], "--duration"),
    ] {
        let ran = spdy(&["load", words[0], words[1], "http://a/"]);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains(message), "{ran:?}");
    }
}
