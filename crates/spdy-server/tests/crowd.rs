//! A server with as many connections as it may have: what the others get, and what the log says.

mod common;

#[cfg(target_os = "linux")]
use std::{
    fs,
    ops::Range,
    path::Path,
    process::{Command, Stdio},
};
use std::{
    io::{BufReader, Write},
    net::TcpStream,
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use axum::{Router, routing::get};
use spdy_server::{Config, Server, Timeouts};
#[cfg(target_os = "linux")]
use spdy_tower::session::{self, HeaderBlock, OpenOptions, Stream, Version};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
    time::timeout,
};

use self::common::{
    program::{LONG, Program, ask, get_page, head},
    server::{http1, loopback, plain},
};

fn number(page: &str, name: &str) -> usize {
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim().parse().unwrap()
}

/// Waits until the head of an answer has come, and leaves the connection open.
fn answered(io: TcpStream) -> TcpStream {
    let mut io = BufReader::new(io);
    assert!(head(&mut io)[0].starts_with("HTTP/1.1 200"));
    io.into_inner()
}

#[test]
fn the_limit_has_two_lines_in_the_log_for_any_number_of_connections() {
    let flags = ["--plain", "127.0.0.1:0", "--metrics", "127.0.0.1:0"];
    let program = Program::start(&[&flags[..], &["--max-connections", "2"]].concat(), 3);
    let metrics = program.address(2).to_owned();
    let waited = || {
        number(
            &get_page(&metrics, "/metrics"),
            "spdy_server_connections_limit_reached_total ",
        )
    };
    let held: Vec<_> = (0..2)
        .map(|_| {
            let mut io = program.connect();
            ask(&mut io, "/slow/60000");
            io
        })
        .collect();
    let others: Vec<_> = (0..50)
        .map(|_| {
            let mut io = program.connect();
            let request = "GET /hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            io.write_all(request.as_bytes()).unwrap();
            io
        })
        .collect();
    let start = Instant::now();
    while waited() == 0 {
        assert!(start.elapsed() < LONG);
        sleep(Duration::from_millis(5));
    }
    drop(held);
    for io in others {
        answered(io);
    }
    let count = waited();
    assert!(count > 5, "{count}");
    program.signal("TERM");
    let (status, _, log) = program.wait();
    assert!(status.success());
    let begun = "the limit of open connections is reached; new ones wait limit=2\n";
    let over =
        format!("connections do not wait for the limit of open ones any more waited={count} ");
    for line in [begun, &over] {
        assert_eq!(log.matches(line).count(), 1, "{line} in {log}");
    }
}

#[test]
fn idle_connections_give_way_to_new_ones() {
    let program = Program::plain(&["--max-connections", "3", "--http1", "header-timeout=600"]);
    let _idle: Vec<_> = (0..20)
        .map(|_| {
            let mut io = program.connect();
            ask(&mut io, "/hello");
            answered(io)
        })
        .collect();
}

#[tokio::test]
async fn a_busy_connection_announces_that_it_gives_way() {
    let (go, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let inside = Arc::clone(&gate);
    let hold = Arc::clone(&go);
    let app = Router::new().route("/", get(async || "ok")).route(
        "/hold",
        get(async move || {
            inside.notify_one();
            hold.notified().await;
            "held"
        }),
    );
    let config = Config {
        max_connections: 1,
        metrics: Some(loopback().into()),
        ..plain(Timeouts::default())
    };
    let server = Server::bind(config).await.unwrap();
    let address = server.endpoints()[0].address.tcp().unwrap();
    let pages = server.metrics().unwrap().address.tcp().unwrap();
    let running = tokio::spawn(server.run(app, std::future::pending()));
    let connect = async || tokio::net::TcpStream::connect(address).await.unwrap();
    let mut io = connect().await;
    let request = b"GET /hold HTTP/1.1\r\nhost: a\r\n\r\n";
    io.write_all(request).await.unwrap();
    timeout(LONG, gate.notified()).await.unwrap();
    let waiting = connect().await;
    let full = "spdy_server_connections_limit_reached_total 1\n";
    let page = async || {
        let io = tokio::net::TcpStream::connect(pages).await.unwrap();
        http1(io, "/metrics").await
    };
    let until = async { while !page().await.contains(full) {} };
    timeout(LONG, until).await.unwrap();
    go.notify_one();
    let mut answer = String::new();
    let read = timeout(LONG, io.read_to_string(&mut answer)).await;
    read.unwrap().unwrap();
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    let answer = http1(waiting, "/").await;
    assert!(answer.ends_with("ok"), "{answer}");
    running.abort();
}

#[cfg(target_os = "linux")]
fn limited(limits: &str, flags: &str) -> Program {
    let script = format!(
        "ulimit {limits}; exec \"$0\" --plain 127.0.0.1:0 --metrics 127.0.0.1:0 --threads 2 {flags}"
    );
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, env!("CARGO_BIN_EXE_spdy-server")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Program::spawn(command, 3)
}

#[cfg(target_os = "linux")]
#[test]
fn few_descriptors_are_a_lower_limit_that_is_said_and_checks_are_answered() {
    let program = limited("-Sn 50; ulimit -Hn 100", "--http1 header-timeout=600");
    program.until_it_says("the limit of file descriptors descriptors=100 before=50");
    let metrics = program.address(2);
    let page = get_page(metrics, "/metrics");
    let limit = number(&page, "spdy_server_connections_limit ");
    assert!((20..80).contains(&limit), "{limit}");
    let _idle: Vec<_> = (0..130)
        .map(|_| {
            let mut io = program.connect();
            ask(&mut io, "/hello");
            answered(io)
        })
        .collect();
    let mut busy: Vec<_> = (0..130).map(|_| program.connect()).collect();
    for io in &mut busy {
        ask(io, "/slow/60000");
    }
    for _ in 0..10 {
        assert!(get_page(metrics, "/readyz").ends_with("ok\n"));
    }
    drop(busy);
    program.signal("TERM");
    let (status, _, log) = program.wait();
    assert!(status.success());
    assert!(!log.contains("cannot accept connections"), "{log}");
}

/// Requests these files of a program over one session, and reads none of them.
#[cfg(target_os = "linux")]
async fn requested(program: &Program, files: Range<usize>) -> (session::Session, Vec<Stream>) {
    let io = tokio::net::TcpStream::connect(program.address(1)).await;
    let config = session::Config::default();
    let (session, _, driver) = session::client(io.unwrap(), Version::V3_1, config);
    tokio::spawn(driver);
    let mut streams = Vec::new();
    for file in files {
        let path = format!("/{file}");
        let head = [
            (":method", "GET"),
            (":path", &path),
            (":version", "HTTP/1.1"),
            (":host", "localhost"),
            (":scheme", "http"),
        ];
        let head = HeaderBlock::from_pairs(head).unwrap();
        let stream = session
            .open(head, OpenOptions::new().fin(true))
            .await
            .unwrap();
        streams.push(stream);
    }
    timeout(LONG, session.ping()).await.unwrap().unwrap();
    (session, streams)
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn large_files_that_are_not_read_leave_descriptors_to_others() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("crowd-files");
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("small"), "small").unwrap();
    for file in 0..500 {
        let file = fs::File::create(path.join(file.to_string())).unwrap();
        file.set_len(1 << 20).unwrap();
    }
    let program = limited("-n 512", &path.display().to_string());
    let mut clients = Vec::new();
    for client in 0..5 {
        clients.push(requested(&program, 100 * client..100 * (client + 1)).await);
    }
    for _ in 0..20 {
        let page = get_page(program.address(1), "/small");
        assert!(page.ends_with("\r\n\r\nsmall"), "{page}");
        sleep(Duration::from_millis(20));
    }
    program.signal("KILL");
    let (_, _, log) = program.wait();
    assert!(!log.contains("cannot accept connections"), "{log}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_limit_of_connections_above_that_of_descriptors_is_a_warning_with_both() {
    let program = limited("-n 100", "--max-connections 5000");
    program.until_it_says("--max-connections 5000 is more than the limit of 100 file descriptors");
    let limit = "spdy_server_connections_limit 5000\n";
    assert!(get_page(program.address(2), "/metrics").contains(limit));
    let fits = limited("-n 100", "--max-connections 20");
    fits.until_it_says("max_connections=20");
    fits.signal("TERM");
    assert!(!fits.wait().2.contains("is more than"));
}
