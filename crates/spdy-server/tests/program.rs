//! The program: it is started, used over HTTP/1.1 and stopped by signals.

mod common;

use std::{
    fs,
    io::{BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    thread::sleep,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use self::common::program::{LONG, Program, ask, command, field, head};

#[test]
fn it_prints_its_urls_and_its_fingerprint_and_serves() {
    let program = Program::start(
        &[
            "--listen",
            "127.0.0.1:0",
            "--plain",
            "127.0.0.1:0",
            "--threads",
            "1",
        ],
        4,
    );
    assert!(
        program.lines[0].starts_with("spdy-server "),
        "{:?}",
        program.lines
    );
    assert!(
        program.lines[1].starts_with("https://127.0.0.1:"),
        "{:?}",
        program.lines
    );
    assert!(
        program.lines[2].starts_with("http://127.0.0.1:"),
        "{:?}",
        program.lines
    );
    let fingerprint = program.lines[3]
        .strip_prefix("certificate SHA-256 ")
        .unwrap();
    assert_eq!(fingerprint.split(':').count(), 32);

    let mut io = TcpStream::connect(program.address(2)).unwrap();
    ask(&mut io, "/hello");
    let mut io = BufReader::new(io);
    let head = head(&mut io);
    assert_eq!(head[0], "HTTP/1.1 200 OK");
    assert_eq!(field(&head, "content-length"), "100");
}

#[test]
fn it_serves_a_directory() {
    let directory = concat!(env!("CARGO_TARGET_TMPDIR"), "/program");
    fs::create_dir_all(directory).unwrap();
    fs::write(format!("{directory}/a.txt"), "from the disk").unwrap();
    let program = Program::plain(&[directory]);
    let mut io = program.connect();
    write!(io, "GET /a.txt HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nfrom the disk"), "{answer}");
}

#[test]
fn sigterm_in_mid_download_loses_no_byte() {
    let program = Program::plain(&[]);
    let mut io = program.connect();
    ask(&mut io, "/bytes/20000000");
    let mut io = BufReader::new(io);
    let head = head(&mut io);
    let mut hasher = Sha256::new();
    let mut start = [0; 100_000];
    io.read_exact(&mut start).unwrap();
    hasher.update(start);

    program.signal("TERM");
    // This ensures that a draining server sends the rest.
    program.until_it_drains();
    let mut rest = Vec::new();
    io.read_to_end(&mut rest).unwrap();
    assert_eq!(start.len() + rest.len(), 20_000_000);
    hasher.update(&rest);
    let digest: String = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(digest, field(&head, "x-sha256"));

    let (status, _, stderr) = program.wait();
    assert!(status.success(), "{status}: {stderr}");
}

#[test]
fn connections_at_rest_do_not_hold_up_the_end() {
    for signal in ["TERM", "INT"] {
        // Longer than the time limit of the shutdown.
        let program = Program::plain(&["--drain-timeout", "600"]);
        let _silent = program.connect();
        let mut kept = program.connect();
        ask(&mut kept, "/hello");
        let mut bytes = [0; 100];
        kept.read_exact(&mut bytes).unwrap();
        program.signal(signal);
        let (status, _, stderr) = program.wait();
        assert!(status.success(), "{signal}: {status}: {stderr}");
    }
}

#[test]
fn what_does_not_end_within_the_drain_timeout_is_cut() {
    let program = Program::plain(&["--drain-timeout", "1"]);
    let mut io = program.connect();
    ask(&mut io, "/slow/60000");
    // The request might not have arrived yet, but its connection has.
    let start = Instant::now();
    program.signal("TERM");
    let (status, _, stderr) = program.wait();
    let took = start.elapsed();
    assert!(status.success(), "{status}");
    assert!(
        took >= Duration::from_millis(900) && took < LONG / 2,
        "{took:?}"
    );
    assert!(
        stderr.contains("1 connections did not finish in time and were closed"),
        "{stderr}"
    );
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let program = Program::plain(&["--drain-timeout", "600"]);
    let mut io = program.connect();
    ask(&mut io, "/slow/60000");
    program.signal("TERM");
    program.until_it_drains();
    program.signal("INT");
    let (status, took, stderr) = program.wait();
    assert!(status.success(), "{status}");
    // Earlier than the response would come.
    assert!(took < LONG / 2, "{took:?}");
    assert!(stderr.contains("stopped at once"), "{stderr}");
}

#[test]
fn what_stands_in_the_way_of_a_start_is_said_in_one_line_with_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (arguments, expected) in [
        (
            &["--plain", &taken][..],
            format!("spdy-server: cannot listen on {taken}: "),
        ),
        (
            &["--plain", "127.0.0.1:0", "/no/such/dir"],
            "spdy-server: cannot serve the directory /no/such/dir: ".into(),
        ),
        (
            &[
                "--listen",
                "127.0.0.1:0",
                "--cert",
                "/no/cert.pem",
                "--key",
                "/no/key.pem",
            ],
            "spdy-server: cannot read /no/cert.pem: ".into(),
        ),
    ] {
        let output = command(arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.starts_with(&expected), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert_eq!(output.stdout, b"");
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    for (argument, expected) in [
        ("--help", "--plain-version"),
        ("--version", env!("CARGO_PKG_VERSION")),
    ] {
        let output = command(&[argument]).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains(expected));
    }
}

/// One thread accepts connections and receives signals, and the configured number of threads serve.
#[cfg(target_os = "linux")]
#[test]
fn with_a_runtime_per_core_it_serves_on_threads_of_their_own_and_ends_as_gracefully() {
    let program = Program::plain(&["--runtime", "per-core", "--threads", "3"]);
    let threads = format!("/proc/{}/task", program.child.id());
    let serving = || {
        let names = fs::read_dir(&threads).unwrap().map(|thread| {
            let name = thread.unwrap().path().join("comm");
            fs::read_to_string(name).unwrap()
        });
        names.filter(|name| name == "connections\n").count()
    };
    // A thread sets its own name once it runs.
    let start = Instant::now();
    while serving() != 3 && start.elapsed() < LONG {
        sleep(Duration::from_millis(10));
    }
    assert_eq!(serving(), 3);

    let mut slow: Vec<_> = (0..6).map(|_| program.connect()).collect();
    for io in &mut slow {
        ask(io, "/slow/600");
    }
    sleep(Duration::from_millis(200));
    program.signal("TERM");
    for mut io in slow {
        let mut answer = String::new();
        io.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("waited 600 ms\n"), "{answer}");
    }
    let (status, _, stderr) = program.wait();
    assert!(status.success(), "{status}: {stderr}");
}
