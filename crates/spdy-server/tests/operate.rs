//! The tools of an operator: the configuration file, logs, metrics, and the announced port.

mod common;

use std::{
    convert::Infallible,
    fs,
    io::{BufReader, Read, Write},
    net::TcpStream,
    num::NonZeroU16,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use axum::{Router, routing::get};
use rustls::RootCertStore;
use spdy_server::{
    AccessLog, Bind, Config, ConnectionInfo, PlainVersion, Server, Timeouts, Version,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use self::common::{
    program::{LONG, Program, ask, command, get_page_with, head},
    server::{Running, connect, connect_with, http1, http2, loopback, plain, spdy, tls},
};

/// Creates a new and empty directory for a test.
fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn get_page(address: &str, path: &str) -> String {
    get_page_with(address, path, "user-agent: me \"x\"\r\n")
}

/// Waits until `found` returns a value.
fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    while start.elapsed() < LONG {
        if let Some(found) = found() {
            return found;
        }
        sleep(Duration::from_millis(10));
    }
    panic!("there was no {what}");
}

fn until_a_request_is_open(metrics: &str) {
    let open = "spdy_server_requests_open{protocol=\"http/1.1\"} 1\n";
    wait_for("open request", || {
        get_page(metrics, "/metrics").contains(open).then_some(())
    });
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_configuration_file_says_what_flags_say() {
    let directory = directory("config");
    let file = directory.join("spdy.toml");
    fs::write(directory.join("a.txt"), "from the disk").unwrap();
    let text = format!(
        "directory = {:?}\nplain = [\"127.0.0.1:0\", \"[::1]:1\"]\nthreads = 1\ndrain-timeout = 5\n",
        directory.to_str().unwrap()
    );
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    // The listeners of the command line replace those of the file.
    let program = Program::plain(&["--config", file]);
    let answer = get_page(program.address(1), "/a.txt");
    assert!(answer.ends_with("from the disk"), "{answer}");

    for (text, expected) in [
        ("# a\nplian = 1\n", "spdy.toml:2: unknown key `plian`"),
        (
            "listen = \"nowhere\"\n",
            "invalid value 'nowhere' for '--listen <ADDR>'",
        ),
        ("plain = []\nthreads = \n", "spdy.toml: line 2: "),
    ] {
        fs::write(file, text).unwrap();
        let output = command(&["--config", file]).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
    let output = command(&["--config", "/no/such.toml"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("cannot read the configuration file /no/such.toml: "),
        "{stderr}"
    );
}

#[test]
fn a_configuration_is_checked_without_a_start() {
    let directory = directory("check");
    let (file, cert) = (directory.join("a.toml"), directory.join("cert.pem"));
    fs::write(&cert, "no certificate").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let (cert, name) = (cert.to_str().unwrap(), file.to_str().unwrap());
    let of_cert = format!("listen = {taken:?}\ncert = {cert:?}\nkey = {cert:?}\n");
    for (text, status, expected) in [
        (
            format!("listen = {taken:?}\n"),
            0,
            "the configuration is valid\n".to_owned(),
        ),
        ("directory = \"/no/such\"\n".into(), 1, "/no/such".into()),
        (of_cert, 1, cert.into()),
        (
            "threads = 1\nthreads = 2\n".into(),
            2,
            format!("{name}: line 2: "),
        ),
        (
            "threads = 1\nmetrics = \"x\"\n".into(),
            2,
            format!("{name}:2: `metrics`: invalid value 'x'"),
        ),
        (
            "check-config = true\n".into(),
            2,
            format!("{name}:1: unknown key `check-config`"),
        ),
    ] {
        fs::write(&file, &text).unwrap();
        let output = command(&["--config", name, "--check-config"])
            .output()
            .unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(status), "{text}: {said}");
        assert!(said.contains(&expected), "{text}: {said}");
    }
}

/// The sockets of systemd can use TLS, and a certificate that is no longer valid is worth a line.
#[test]
fn the_certificate_is_checked_whoever_opens_the_sockets() {
    let directory = directory("check-cert");
    let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    let [cert_name, key_name] = [&cert, &key].map(|it| it.to_str().unwrap());
    let check = || {
        let files = ["--cert", cert_name, "--key", key_name];
        command(&[&["--check-config", "--systemd"], &files[..]].concat())
            .output()
            .unwrap()
    };
    fs::write(&cert, "no certificate").unwrap();
    fs::write(&key, "no key").unwrap();
    let output = check();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(cert_name), "{stderr}");

    let signer = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let made = params.self_signed(&signer).unwrap();
    fs::write(&cert, made.pem()).unwrap();
    fs::write(&key, signer.serialize_pem()).unwrap();
    let output = check();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("WARN"), "{stderr}");
}

#[test]
fn completions_and_the_manual_page_are_printed() {
    for (arguments, expected) in [
        (&["--completions", "bash"][..], "--plain-version"),
        (&["--completions", "zsh"], "#compdef spdy-server"),
        (&["--man"], ".TH spdy-server 1"),
    ] {
        let output = command(arguments).output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn the_access_log_has_a_line_for_each_request_and_follows_its_file() {
    let directory = directory("access");
    let (log, moved) = (directory.join("access.log"), directory.join("moved.log"));
    let program = Program::start(
        &[
            "--plain",
            "127.0.0.1:0",
            "--metrics",
            "127.0.0.1:0",
            "--access-log",
            log.to_str().unwrap(),
        ],
        3,
    );
    get_page(program.address(1), "/hello?a=%22");
    let mut io = program.connect();
    write!(
        io,
        "POST /sink HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n12345"
    )
    .unwrap();
    let _ = head(&mut BufReader::new(io));
    let seen = wait_for("line", || {
        Some(lines(&log)).filter(|lines| lines.len() == 2)
    });
    let (start, rest) = seen[0].split_once(" - - [").unwrap();
    let (_, rest) = rest.split_once("] ").unwrap();
    assert_eq!(start, "127.0.0.1");
    let expected = "\"GET /hello?a=%22 HTTP/1.1\" 200 100 \"-\" \"me \\\"x\\\"\" HTTP/1.1 - 0.";
    assert!(rest.starts_with(expected), "{rest}");
    assert!(
        seen[1].contains("\"POST /sink HTTP/1.1\" 200 2 "),
        "{seen:?}"
    );
    assert!(seen[1].ends_with(" 5 -"), "{seen:?}");

    // A client that leaves before the response.
    let mut io = program.connect();
    ask(&mut io, "/slow/60000");
    until_a_request_is_open(program.address(2));
    drop(io);
    wait_for("line", || {
        lines(&log)
            .get(2)
            .cloned()
            .filter(|line| line.contains("\" 499 0 "))
    });

    fs::rename(&log, &moved).unwrap();
    program.signal("HUP");
    wait_for("new file", || log.exists().then_some(()));
    get_page(program.address(1), "/hello");
    wait_for("line", || (lines(&log).len() == 1).then_some(()));
    assert_eq!(lines(&moved).len(), 3);

    // When the program has ended, the last response is in the file, too.
    get_page(program.address(1), "/hello");
    program.signal("TERM");
    let (status, ..) = program.wait();
    assert!(status.success());
    assert_eq!(lines(&log).len(), 2);
}

#[tokio::test]
async fn the_access_log_names_protocol_and_stream() {
    let log = directory("streams").join("access.log");
    let config = Config {
        access_log: Some(AccessLog::File(log.clone())),
        ..plain(Timeouts::default())
    };
    let app = Router::new().route("/", get(async || "x"));
    let server = Running::start(config, app).await;
    let tcp = async || {
        tokio::net::TcpStream::connect(server.address)
            .await
            .unwrap()
    };
    spdy(tcp().await, Version::V3_1, "/").await;
    spdy(tcp().await, Version::V2, "/").await;
    http2(tcp().await, "/").await;
    let seen = loop {
        let seen = lines(&log);
        if seen.len() == 3 {
            break seen;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    for (line, end) in seen
        .iter()
        .zip(["SPDY/3.1 1 0.", "SPDY/2 1 0.", "HTTP/2 - 0."])
    {
        let expected = format!("\"GET / HTTP/1.1\" 200 1 \"-\" \"-\" {end}");
        assert!(line.contains(&expected), "{line}");
    }
}

#[test]
fn an_access_log_that_cannot_be_opened_is_said_at_start() {
    let output = command(&["--plain", "127.0.0.1:0", "--access-log", "/no/such/log"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.starts_with("spdy-server: cannot open the access log /no/such/log: "),
        "{stderr}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_one_warning_and_disturbs_no_request() {
    let program = Program::plain(&["--access-log", "/dev/full"]);
    for _ in 0..5 {
        assert!(get_page(program.address(1), "/hello").starts_with("HTTP/1.1 200 OK"));
        sleep(Duration::from_millis(20));
    }
    program.signal("TERM");
    let (status, _, stderr) = program.wait();
    assert!(status.success());
    assert_eq!(
        stderr.matches("cannot write the access log").count(),
        1,
        "{stderr}"
    );
}

#[test]
fn metrics_count_what_has_happened_and_health_tells_of_the_end() {
    let program = Program::start(
        &[
            "--plain",
            "127.0.0.1:0",
            "--metrics",
            "127.0.0.1:0",
            "--max-connections",
            "77",
        ],
        3,
    );
    let metrics = program.address(2).to_owned();
    get_page(program.address(1), "/hello");
    get_page(program.address(1), "/status/404");
    let mut silent = program.connect();
    silent.write_all(b"\x16\x03\x01").unwrap();
    let text = wait_for("count", || {
        Some(get_page(&metrics, "/metrics")).filter(|text| {
            text.contains("spdy_server_handshake_failures_total{transport=\"plain\"} 1\n")
        })
    });
    for line in [
        "content-type: text/plain; version=0.0.4; charset=utf-8\r\n",
        "# HELP spdy_server_connections_total Connections accepted.\n",
        "spdy_server_connections_total 3\n",
        "spdy_server_connections_limit 77\n",
        "spdy_server_connections_limit_reached_total 0\n",
        "spdy_server_sessions_total{protocol=\"http/1.1\"} 2\n",
        "spdy_server_requests_total{protocol=\"http/1.1\",status=\"2xx\"} 1\n",
        "spdy_server_requests_total{protocol=\"http/1.1\",status=\"4xx\"} 1\n",
        "spdy_server_requests_total{protocol=\"spdy/3.1\",status=\"2xx\"} 0\n",
        "spdy_server_requests_open{protocol=\"http/1.1\"} 0\n",
        "http_server_request_duration_seconds_count{http_request_method=\"GET\",\
         network_protocol_name=\"http\",network_protocol_version=\"1.1\",url_scheme=\"http\",\
         http_response_status_code=\"404\"} 1\n",
        concat!(
            "spdy_server_build_info{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\"} 1\n"
        ),
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    for check in ["/healthz", "/readyz", "/livez"] {
        assert!(get_page(&metrics, check).ends_with("\r\n\r\nok\n"));
    }

    let mut slow = program.connect();
    ask(&mut slow, "/slow/1500");
    until_a_request_is_open(&metrics);
    // The program runs for as long as this one.
    let mut holder = program.connect();
    ask(&mut holder, "/slow/60000");
    program.signal("TERM");
    wait_for("503", || {
        get_page(&metrics, "/healthz")
            .starts_with("HTTP/1.1 503 ")
            .then_some(())
    });
    assert!(get_page(&metrics, "/readyz").starts_with("HTTP/1.1 503 "));
    assert!(get_page(&metrics, "/livez").ends_with("\r\n\r\nok\n"));
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("waited 1500 ms\n"), "{answer}");
    drop(holder);
    assert!(program.wait().0.success());
}

#[cfg(unix)]
#[test]
fn the_access_log_follows_its_file_while_the_server_drains() {
    let directory = directory("rotate-draining");
    let (log, moved) = (directory.join("access.log"), directory.join("moved.log"));
    let listen = ["--plain", "127.0.0.1:0", "--metrics", "127.0.0.1:0"];
    let to_log = ["--access-log", log.to_str().unwrap()];
    let flags = [&listen[..], &to_log, &["--drain-timeout", "600"]].concat();
    let program = Program::start(&flags, 3);
    let mut open = program.connect();
    ask(&mut open, "/slow/60000");
    until_a_request_is_open(program.address(2));
    program.signal("TERM");
    program.until_it_drains();
    fs::rename(&log, &moved).unwrap();
    program.signal("HUP");
    wait_for("new log", || log.exists().then_some(()));
    drop(open);
    assert!(program.wait().0.success());
}

/// Collectors that keep their connections do not lock others out.
#[test]
fn idle_connections_of_collectors_make_way_for_another() {
    let listen = ["--plain", "127.0.0.1:0", "--metrics", "127.0.0.1:0"];
    // Otherwise the connections end by themselves, in time for the next one.
    let patient = ["--http1", "header-timeout=600"];
    let program = Program::start(&[&listen[..], &patient].concat(), 3);
    let metrics = program.address(2);
    let _idle: Vec<_> = (0..64)
        .map(|_| {
            let mut io = TcpStream::connect(metrics).unwrap();
            ask(&mut io, "/livez");
            let mut io = BufReader::new(io);
            head(&mut io);
            io
        })
        .collect();
    assert!(get_page(metrics, "/livez").starts_with("HTTP/1.1 200 "));
    program.until_it_says("the limit of open connections is reached");
    program.until_it_says("connections do not wait for the limit of open ones any more");
}

/// Two processes that share the address of the metrics: once the first one drains, only the second
/// one answers there.
#[cfg(unix)]
#[test]
fn a_process_that_is_replaced_gives_the_address_of_its_metrics_up() {
    let start = |plain: &str, metrics: &str| {
        let flags = ["--plain", plain, "--metrics", metrics, "--reuse-port"];
        Program::start(&[&flags[..], &["--drain-timeout", "600"]].concat(), 3)
    };
    let old = start("127.0.0.1:0", "127.0.0.1:0");
    let metrics = old.address(2).to_owned();
    let mut holder = old.connect();
    ask(&mut holder, "/slow/60000");
    until_a_request_is_open(&metrics);
    let _new = start(old.address(1), &metrics);
    old.signal("TERM");
    wait_for("hundred healthy answers in a row", || {
        (0..100)
            .all(|_| get_page(&metrics, "/healthz").starts_with("HTTP/1.1 200 "))
            .then_some(())
    });
    assert!(get_page(&metrics, "/metrics").contains("requests_open{protocol=\"http/1.1\"} 0\n"));
    drop(holder);
    assert!(old.wait().0.success());
}

/// Failed handshakes by transport, and the durations of requests.
#[tokio::test]
async fn failed_handshakes_and_durations_are_measured() {
    let (mut config, roots) = tls("handshakes");
    config.metrics = Some(loopback().into());
    let app = Router::new().route("/", get(async || "x")).route(
        "/slow",
        get(async || tokio::time::sleep(Duration::from_millis(60)).await),
    );
    let server = Server::bind(config).await.unwrap();
    let address = server.endpoints()[0].address.tcp().unwrap();
    let metrics = server.metrics().unwrap().address.tcp().unwrap();
    tokio::spawn(server.run(app, std::future::pending()));

    // Plain text to a TLS listener, and a client that trusts no certificate.
    let mut io = tokio::net::TcpStream::connect(address).await.unwrap();
    io.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    // Unread bytes might be answered with a reset.
    _ = io.read_to_end(&mut Vec::new()).await;
    let refused = connect_with(address, RootCertStore::empty(), &["spdy/3.1"]).await;
    assert!(refused.is_err());
    for path in ["/", "/slow"] {
        let io = connect(address, roots.clone(), &["spdy/3.1"]).await;
        spdy(io, Version::V3_1, path).await;
    }
    let duration = "http_server_request_duration_seconds";
    let of = "http_request_method=\"GET\",network_protocol_name=\"spdy\",\
              network_protocol_version=\"3.1\",url_scheme=\"https\",\
              http_response_status_code=\"200\"";
    let expected = [
        "spdy_server_handshake_failures_total{transport=\"tls\"} 2\n".to_owned(),
        "spdy_server_handshake_failures_total{transport=\"plain\"} 0\n".to_owned(),
        format!("{duration}_count{{{of}}} 2\n"),
        format!("{duration}_bucket{{{of},le=\"60\"}} 2\n"),
        format!("{duration}_bucket{{{of},le=\"+Inf\"}} 2\n"),
    ];
    let start = Instant::now();
    loop {
        let io = tokio::net::TcpStream::connect(metrics).await.unwrap();
        let text = http1(io, "/metrics").await;
        let missing: Vec<_> = expected
            .iter()
            .filter(|line| !text.contains(*line))
            .collect();
        if missing.is_empty() {
            // The slow request has taken longer than that, and the other one might have.
            let short = format!("{duration}_bucket{{{of},le=\"0.05\"}} ");
            let (_, count) = text.split_once(&short).unwrap();
            assert!(!count.starts_with('2'), "{text}");
            break;
        }
        assert!(start.elapsed() < LONG, "{missing:?} in {text}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_make_service_that_panics_is_a_failed_handshake() {
    let config = Config {
        binds: vec![Bind::plain(loopback())],
        metrics: Some(loopback().into()),
        ..Config::default()
    };
    let server = Server::bind(config).await.unwrap();
    let address = server.endpoints()[0].address.tcp().unwrap();
    let metrics = server.metrics().unwrap().address.tcp().unwrap();
    let make = tower::service_fn(async |_: ConnectionInfo| -> Result<Router, Infallible> {
        panic!("on purpose: the make-service panics")
    });
    tokio::spawn(server.run_make_service(make, std::future::pending()));
    let mut io = tokio::net::TcpStream::connect(address).await.unwrap();
    io.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    // Unread bytes might be answered with a reset.
    _ = io.read_to_end(&mut Vec::new()).await;
    let line = "spdy_server_handshake_failures_total{transport=\"plain\"} ";
    let io = tokio::net::TcpStream::connect(metrics).await.unwrap();
    let text = http1(io, "/metrics").await;
    assert!(text.contains(&format!("{line}1\n")), "{text}");
}

#[tokio::test]
async fn c015_http_1_responses_advertise_spdy_and_no_others_do() {
    let app = Router::new().route("/", get(async || "x"));
    // In plain text a server takes version field 3 for one of the two versions.
    for (plain_version, versions) in [
        (PlainVersion::V3, [Version::V2, Version::V3]),
        (PlainVersion::V3_1, [Version::V2, Version::V3_1]),
    ] {
        let config = Config {
            advertise: NonZeroU16::new(8443),
            plain_version,
            ..plain(Timeouts::default())
        };
        let server = Running::start(config, app.clone()).await;
        let tcp = async || {
            tokio::net::TcpStream::connect(server.address)
                .await
                .unwrap()
        };
        let expected = "alternate-protocol: 8443:npn-spdy/3.1,8443:npn-spdy/3,8443:npn-spdy/2\r\n";
        for path in ["/", "/missing"] {
            let answer = http1(tcp().await, path).await;
            assert!(answer.contains(expected), "{answer}");
        }
        for version in versions {
            for path in ["/", "/missing"] {
                let (fields, _) = spdy(tcp().await, version, path).await;
                assert_eq!(fields.get("alternate-protocol"), None, "{version}");
            }
        }
        assert_eq!(http2(tcp().await, "/").await.1, "x");
    }

    let silent = Running::start(plain(Timeouts::default()), app).await;
    let io = tokio::net::TcpStream::connect(silent.address)
        .await
        .unwrap();
    assert!(!http1(io, "/").await.contains("alternate-protocol"));
}

/// A time that a clock cannot count means no limit.
#[tokio::test]
async fn the_longest_possible_timeouts_do_not_overflow() {
    let patient = Timeouts {
        handshake: Duration::MAX,
        idle: Duration::MAX,
        write: Duration::MAX,
        body: Some(Duration::MAX),
        keep_alive: Some(Duration::MAX),
        drain_delay: Duration::ZERO,
        drain: Duration::MAX,
        idle_close: Duration::MAX,
    };
    let app = Router::new().route("/", get(async || "served"));
    let server = Running::start(plain(patient), app).await;
    let connect = async || {
        tokio::net::TcpStream::connect(server.address)
            .await
            .unwrap()
    };
    assert!(http1(connect().await, "/").await.ends_with("served"));
    for version in Version::ALL {
        let version = if version == Version::V3 {
            Version::V3_1
        } else {
            version
        };
        assert_eq!(spdy(connect().await, version, "/").await.1, b"served");
    }
    assert_eq!(http2(connect().await, "/").await.1, "served");
    assert_eq!(server.end().await.cut, 0);
}
