//! Sockets of all kinds: Unix sockets, shared ports, sockets of systemd, and connections through a
//! proxy.

#![cfg(unix)]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, sleep},
    time::{Duration, Instant},
};

use axum::{Extension, Router, http::Request, routing::get};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use spdy_server::{
    Bind, Certificate, Config, ConnectionInfo, Drained, ProxyInfo, Server, Timeouts, Version,
};
use spdy_tower::{client, session};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use self::common::{
    program::{LONG, Program, command},
    server::{self, Running, http1, plain, spdy},
};

/// Returns a path of this name for a socket. No file exists there.
fn socket(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_file(&path);
    path
}

fn get_hello(mut io: impl Read + Write) -> std::io::Result<String> {
    io.write_all(b"GET /hello HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    io.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn it_listens_on_a_unix_socket_and_removes_its_file() {
    let path = socket("plain.sock");
    let address = format!("unix:{}", path.display());
    let program = Program::start(&["--plain", &address], 2);
    let expected = format!("{address} (plain text: spdy/2, ");
    assert!(
        program.lines[1].starts_with(&expected),
        "{:?}",
        program.lines
    );
    let answer = get_hello(UnixStream::connect(&path).unwrap()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

    // A socket of another program is not replaced.
    let output = command(&["--plain", &address]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let expected = format!("spdy-server: cannot listen on {address}: ");
    assert!(stderr.starts_with(&expected), "{stderr}");

    program.signal("TERM");
    let (status, _, stderr) = program.wait();
    assert!(status.success(), "{stderr}");
    assert!(!path.exists());
}

#[test]
fn a_file_that_a_dead_server_left_behind_is_replaced_and_no_other_file_is() {
    let path = socket("left.sock");
    let address = format!("unix:{}", path.display());
    let program = Program::start(&["--plain", &address], 2);
    drop(program);
    assert!(path.exists(), "it was killed and could not clean up");
    let program = Program::start(&["--plain", &address], 2);
    assert!(get_hello(UnixStream::connect(&path).unwrap()).is_ok());
    drop(program);

    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    let output = command(&["--plain", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_new_process_takes_a_unix_socket_over() {
    let path = socket("shared.sock");
    let address = format!("unix:{}", path.display());
    let arguments = ["--plain", &address, "--reuse-port"];
    let old = Program::start(&arguments, 2);
    let new = Program::start(&arguments, 2);
    old.signal("TERM");
    let (status, _, stderr) = old.wait();
    assert!(status.success(), "{stderr}");
    let answer = get_hello(UnixStream::connect(&path).unwrap()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    drop(new);
}

#[test]
fn sockets_of_systemd_are_served() {
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = plain.local_addr().unwrap();
    // The shell passes its standard input on as descriptor 3, as systemd would.
    let script =
        "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=plain exec \"$0\" --systemd 3<&0 </dev/null";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_spdy-server")])
        .stdin(Stdio::from(OwnedFd::from(plain)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let program = Program::spawn(command, 2);
    assert!(
        program.lines[1].starts_with(&format!("http://{address}/ (spdy/2, ")),
        "{:?}",
        program.lines
    );
    let answer = get_hello(TcpStream::connect(address).unwrap()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

/// Starts the program with these sockets as descriptors 3 and so on, as systemd would, and with
/// these names.
fn activated(sockets: Vec<TcpListener>, names: &str, arguments: &[&str]) -> Command {
    let mut sockets = sockets.into_iter().map(OwnedFd::from);
    // The shell has them as its standard input and its standard error.
    let passed = ["3<&0 </dev/null", "3<&0 4<&2 </dev/null 2>/dev/null"][sockets.len() - 1];
    let script = format!(
        "LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={names} exec \"$0\" \"$@\" {passed}",
        sockets.len()
    );
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, env!("CARGO_BIN_EXE_spdy-server")])
        .args(arguments)
        .stdin(Stdio::from(sockets.next().unwrap()))
        .stdout(Stdio::piped());
    match sockets.next() {
        Some(second) => command.stderr(Stdio::from(second)),
        None => command.stderr(Stdio::piped()),
    };
    command
}

fn bound() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[test]
fn a_socket_of_systemd_whose_name_tells_no_use_is_named_with_the_cure() {
    for name in ["Plain", "http", "plain.", "plain2"] {
        let output = activated(vec![bound()], name, &["--systemd"]).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            String::from_utf8(output.stderr).unwrap(),
            format!(
                "spdy-server: cannot listen on a socket passed by systemd: the socket has the \
                 unknown name `{name}`; set FileDescriptorName=tls, plain or metrics in its unit\n"
            )
        );
    }
    for name in ["spdy.socket", "unknown", ""] {
        let program = Program::spawn(activated(vec![bound()], name, &["--systemd"]), 2);
        program.until_it_says("so it uses TLS; set FileDescriptorName=tls, plain or metrics");
        assert!(
            program.lines[1].starts_with("https://"),
            "{:?}",
            program.lines
        );
    }
}

#[test]
fn sockets_of_systemd_that_are_not_served_are_warned_of() {
    let command = activated(vec![bound()], "plain", &["--plain", "127.0.0.1:0"]);
    let program = Program::spawn(command, 2);
    program.until_it_says("systemd has passed sockets that are not served: add --systemd");
}

#[test]
fn a_socket_of_systemd_can_be_for_metrics() {
    let (clients, metrics) = (bound(), bound());
    let address = metrics.local_addr().unwrap();
    let mut child = activated(vec![clients, metrics], "plain:metrics", &["--systemd"])
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let lines: Vec<_> = stdout.lines().take(3).map_while(Result::ok).collect();
    let pages = ["/healthz", "/metrics"].map(|path| page(address, path));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        lines[2].starts_with(&format!("http://{address}/metrics")),
        "{lines:?}"
    );
    let [health, metrics] = pages.map(Result::unwrap);
    assert!(health.ends_with("\r\n\r\nok\n"), "{health}");
    assert!(
        metrics.contains("\nspdy_server_connections_total "),
        "{metrics}"
    );
}

fn page(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut io = TcpStream::connect(address)?;
    io.set_read_timeout(Some(LONG))?;
    let end = "host: a\r\nconnection: close\r\n\r\n";
    write!(io, "GET {path} HTTP/1.1\r\n{end}")?;
    let mut answer = String::new();
    io.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn the_file_of_a_socket_has_its_mode_and_its_owner() {
    use std::os::unix::fs::MetadataExt;

    let path = socket("owned.sock");
    let address = format!("unix:{}", path.display());
    let owner = fs::metadata(path.parent().unwrap()).unwrap();
    let owner = format!("{}:{}", owner.uid(), owner.gid());
    for (mode, expected) in [("600", 0o600), ("666", 0o666)] {
        let arguments = [
            "--plain",
            &address,
            "--socket-mode",
            mode,
            "--socket-owner",
            &owner,
        ];
        let program = Program::start(&arguments, 2);
        let file = fs::metadata(&path).unwrap();
        assert_eq!(file.mode() & 0o777, expected);
        assert_eq!(format!("{}:{}", file.uid(), file.gid()), owner);
        let answer = get_hello(UnixStream::connect(&path).unwrap()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        drop(program);
    }
}

#[test]
fn a_port_alone_is_served_at_all_addresses() {
    let program = Program::start(&["--plain", ":0"], 3);
    let answer = get_hello(TcpStream::connect(program.address(1)).unwrap()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        program.lines[1].starts_with("http://0.0.0.0:"),
        "{:?}",
        program.lines
    );
    let named = Program::start(&["--plain", "localhost:0"], 2);
    let answer = get_hello(TcpStream::connect(named.address(1)).unwrap()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[test]
fn without_a_socket_of_systemd_there_is_no_start() {
    let output = command(&["--systemd"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "spdy-server: systemd passed no sockets to the process\n"
    );
}

#[test]
fn many_sockets_of_all_kinds_are_served_at_once() {
    let paths = ["many-tls.sock", "many-plain.sock"].map(socket);
    let [tls, plain] = paths
        .each_ref()
        .map(|path| format!("unix:{}", path.display()));
    let any = "127.0.0.1:0";
    let (config, roots) = server::tls("many");
    let Certificate::Files { chain, key } = config.certificate else {
        panic!("the certificate is in files")
    };
    let arguments = [
        "--listen",
        any,
        "--listen",
        any,
        "--listen",
        &tls,
        "--plain",
        any,
        "--plain",
        any,
        "--plain",
        &plain,
        "--cert",
        chain.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
    ];
    let program = Program::start(&arguments, 8);
    let address = |line: usize| program.address(line).parse().unwrap();
    block_on(async {
        for line in [1, 2] {
            let io = server::connect(address(line), roots.clone(), &["spdy/3.1"]).await;
            assert_eq!(spdy(io, Version::V3_1, "/hello").await.1.len(), 100);
        }
        for line in [4, 5] {
            let io = tokio::net::TcpStream::connect(address(line)).await.unwrap();
            assert_eq!(spdy(io, Version::V3_1, "/hello").await.1.len(), 100);
        }
    });
    assert!(get_hello(UnixStream::connect(&paths[1]).unwrap()).is_ok());
    // The socket expects TLS: plain text receives no response.
    let told = get_hello(UnixStream::connect(&paths[0]).unwrap());
    assert!(!told.is_ok_and(|told| told.starts_with("HTTP/")));
}

#[test]
fn connections_above_the_limit_wait_for_others_to_end() {
    let program = Program::plain(&["--max-connections", "2"]);
    let held = [program.connect(), program.connect()];
    let waiting = program.connect();
    let asking = thread::spawn(move || get_hello(waiting).unwrap());
    // The test can only wait for nothing to happen.
    sleep(Duration::from_millis(200));
    assert!(!asking.is_finished());
    drop(held);
    assert!(asking.join().unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
}

/// Without descriptors the server waits, a little longer each time, and continues when there are
/// some.
#[cfg(target_os = "linux")]
#[test]
fn running_out_of_descriptors_is_waited_out() {
    const DESCRIPTORS: usize = 24;
    let script = format!(
        "ulimit -n {DESCRIPTORS}; exec \"$0\" --plain 127.0.0.1:0 --threads 1 --max-connections 100"
    );
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, env!("CARGO_BIN_EXE_spdy-server")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let program = Program::spawn(command, 2);
    let held: Vec<_> = (0..DESCRIPTORS).map(|_| program.connect()).collect();
    let waiting = program.connect();
    let asking = thread::spawn(move || get_hello(waiting).unwrap());
    program.until_it_says("cannot accept connections");
    // Long enough to notice a loop without pauses.
    sleep(Duration::from_millis(500));
    assert!(!asking.is_finished());
    drop(held);
    assert!(asking.join().unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    program.signal("TERM");
    let (status, _, stderr) = program.wait();
    assert!(status.success(), "{stderr}");
    let expected = "--max-connections 100 is more than the limit of 24 file descriptors";
    for line in [
        expected,
        "cannot accept connections; trying again",
        "the system accepts connections again failures=",
    ] {
        assert_eq!(stderr.matches(line).count(), 1, "{stderr}");
    }
}

/// Clients connect all the time, while an old process stops and a new one takes over.
///
/// On Linux the system resets a connection that arrives at the instant in which a shared socket is
/// closed. No server can prevent that. So a client can send its request once more if its connection
/// was never served. No response is cut short.
#[test]
fn a_rolling_restart_loses_no_request() {
    let old = Program::plain(&["--reuse-port", "--threads", "1"]);
    let address = old.address(1).to_owned();
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let new = thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    hello_or_again(&address);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let (asked, is_asked) = mpsc::channel();
        let to = &address;
        let slow = scope.spawn(move || {
            let mut io = TcpStream::connect(to).unwrap();
            write!(io, "GET /slow/1000 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            asked.send(()).unwrap();
            let mut answer = String::new();
            io.read_to_string(&mut answer).unwrap();
            answer
        });
        let over_spdy = scope.spawn(|| block_on(slow_or_again(&address)));
        is_asked.recv().unwrap();
        let answers = |least| {
            let start = Instant::now();
            while answered.load(Ordering::Relaxed) < least {
                assert!(start.elapsed() < LONG, "there are no answers any more");
                sleep(Duration::from_millis(5));
            }
        };
        answers(100);
        let new = Program::start(&["--plain", &address, "--reuse-port", "--threads", "1"], 2);
        assert_eq!(new.address(1), address);
        old.signal("TERM");
        let (status, _, stderr) = old.wait();
        assert!(status.success(), "{stderr}");
        assert!(!stderr.contains("cut"), "{stderr}");
        assert!(slow.join().unwrap().ends_with("waited 1000 ms\n"));
        over_spdy.join().unwrap();
        answers(answered.load(Ordering::Relaxed) + 100);
        stop.store(true, Ordering::Relaxed);
        new
    });
    drop(new);
    assert!(answered.load(Ordering::Relaxed) >= 200);
}

/// The same over SPDY: GOAWAY lets open requests finish.
async fn slow_or_again(address: &str) {
    for _ in 0..3 {
        let Ok(io) = tokio::net::TcpStream::connect(address).await else {
            continue;
        };
        let (requests, _, driver) =
            client::handshake(io, Version::V3_1, session::Config::default());
        tokio::spawn(driver);
        let request = Request::get(format!("http://{address}/slow/1000"));
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let Ok(response) = requests.send(request).await else {
            continue;
        };
        // A response that has begun is complete.
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "waited 1000 ms\n");
        return;
    }
    panic!("three sessions in a row were not served");
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(work)
}

/// Sends requests until a response arrives. A response that has begun must be complete.
fn hello_or_again(address: &str) {
    for _ in 0..3 {
        let Ok(io) = TcpStream::connect(address) else {
            continue;
        };
        io.set_read_timeout(Some(LONG)).unwrap();
        match get_hello(io) {
            Ok(answer) if answer.is_empty() => {}
            Ok(answer) => {
                assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
                assert!(answer.ends_with("Bye!\n"), "{answer}");
                return;
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    panic!("three connections in a row were not served");
}

#[tokio::test]
async fn who_has_only_just_connected_is_served_though_the_server_drains() {
    let app = Router::new().route("/", get(async || "served"));
    let server = Running::start(plain(Timeouts::default()), app).await;
    let io = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    // The connections are accepted, or still in the queue of the system. Both must work.
    let ending = tokio::spawn(server.end());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(http1(io, "/").await.ends_with("served"));
    assert_eq!(
        ending.await.unwrap(),
        Drained {
            cut: 0,
            unclosed: 0
        }
    );
}

/// Starts a server with this time limit for the PROXY protocol header. Its response is the address
/// of the client.
async fn behind_a_proxy(handshake: Duration) -> SocketAddr {
    behind(&[], handshake).await
}

/// The same with these proxies. At `/facts` it shows what the header says, and at `/large` it has
/// more bytes than a window of SPDY/3.
async fn behind(proxies: &[&str], handshake: Duration) -> SocketAddr {
    let app = Router::new()
        .route(
            "/",
            get(async |Extension(info): Extension<ConnectionInfo>| format!("{:?}", info.peer)),
        )
        .route("/facts", get(facts))
        .route("/large", get(async || vec![b'x'; 200_000]));
    let config = Config {
        proxy_protocol: true,
        proxy_protocol_from: proxies.iter().map(|it| it.parse().unwrap()).collect(),
        binds: vec![Bind::plain(SocketAddr::from(([127, 0, 0, 1], 0)))],
        timeouts: Timeouts {
            handshake,
            ..Timeouts::default()
        },
        ..Config::default()
    };
    let server = Server::bind(config).await.unwrap();
    let address = server.endpoints()[0].address.tcp().unwrap();
    tokio::spawn(server.run(app, std::future::pending()));
    address
}

#[tokio::test]
async fn the_clients_address_is_the_one_that_the_proxy_names() {
    let address = behind_a_proxy(LONG).await;
    let v2 = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..],
        &[192, 0, 2, 2, 127, 0, 0, 1, 0x13, 0x88, 1, 0xbb],
    ]
    .concat();
    for (header, peer) in [
        (
            &b"PROXY TCP4 192.0.2.1 127.0.0.1 5000 443\r\n"[..],
            "Some(192.0.2.1:5000)",
        ),
        (&v2, "Some(192.0.2.2:5000)"),
    ] {
        let mut io = tokio::net::TcpStream::connect(address).await.unwrap();
        io.write_all(header).await.unwrap();
        let answer = http1(io, "/").await;
        assert!(answer.ends_with(peer), "{answer}");
        let mut io = tokio::net::TcpStream::connect(address).await.unwrap();
        io.write_all(header).await.unwrap();
        let (_, body) = spdy(io, Version::V3_1, "/").await;
        assert_eq!(body, peer.as_bytes());
    }
    let mut io = tokio::net::TcpStream::connect(address).await.unwrap();
    io.write_all(b"PROXY UNKNOWN\r\n").await.unwrap();
    assert!(http1(io, "/").await.contains("Some(127.0.0.1:"));
}

async fn facts(
    Extension(connection): Extension<ConnectionInfo>,
    proxy: Option<Extension<Arc<ProxyInfo>>>,
) -> String {
    let is_secure = connection.is_secure();
    let Some(Extension(proxy)) = proxy else {
        return format!("{is_secure}");
    };
    let tls = proxy.tls.as_ref().unwrap();
    let certificate = tls.certificate.as_ref().unwrap();
    format!(
        "{is_secure} {} {} {} {} {}",
        str::from_utf8(proxy.alpn.as_ref().unwrap()).unwrap(),
        proxy.authority.as_ref().unwrap(),
        tls.version.as_ref().unwrap(),
        certificate.is_verified,
        certificate.common_name.as_ref().unwrap(),
    )
}

/// Returns a header of version 2 with these fields after the address.
fn v2_with(fields: &[u8]) -> Vec<u8> {
    let length = u16::try_from(12 + fields.len()).unwrap().to_be_bytes();
    let address = [192, 0, 2, 2, 127, 0, 0, 1, 0x13, 0x88, 1, 0xbb];
    [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11"[..],
        &length,
        &address,
        fields,
    ]
    .concat()
}

/// What HAProxy sends with `send-proxy-v2-ssl-cn proxy-v2-options authority`.
const FIELDS_OF_HAPROXY: &[u8] =
    b"\x01\0\x06spdy/3\x02\0\x06a.test\x20\0\x19\x07\0\0\0\0\x21\0\x07TLSv1.2\x22\0\x07kim doe";

#[tokio::test]
async fn a_proxy_that_ends_tls_says_what_the_client_speaks_and_who_it_is() {
    let address = behind_a_proxy(LONG).await;
    let header = v2_with(FIELDS_OF_HAPROXY);
    let connect = async || {
        let mut io = tokio::net::TcpStream::connect(address).await.unwrap();
        io.write_all(&header).await.unwrap();
        io
    };
    let answer = http1(connect().await, "/facts").await;
    let expected = "true spdy/3 a.test TLSv1.2 true kim doe";
    assert!(answer.ends_with(expected), "{answer}");
    // Without ALPN field 3 means SPDY/3.1. There the server would wait for the client to open the
    // window of the session, which SPDY/3 does not have.
    let large = spdy(connect().await, Version::V3, "/large");
    let (_, body) = timeout(LONG, large).await.expect("the response is whole");
    assert_eq!(body.len(), 200_000);

    let mut io = tokio::net::TcpStream::connect(address).await.unwrap();
    io.write_all(&v2_with(b"")).await.unwrap();
    let answer = http1(io, "/facts").await;
    assert!(answer.ends_with("false"), "{answer}");
}

#[tokio::test]
async fn the_header_is_expected_from_the_proxy_alone() {
    let header = v2_with(FIELDS_OF_HAPROXY);
    for (proxies, with, without) in [
        (&["127.0.0.0/8", "::1"][..], "true spdy/3", ""),
        (&["192.0.2.0/24"], "", "HTTP/1.1 200 OK"),
    ] {
        let address = behind(proxies, Duration::from_millis(500)).await;
        for (header, expected) in [(&header[..], with), (b"", without)] {
            let mut io = tokio::net::TcpStream::connect(address).await.unwrap();
            io.write_all(header).await.unwrap();
            let request = b"GET /facts HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            io.write_all(request).await.unwrap();
            let mut answer = Vec::new();
            // Unread bytes turn the close into a reset.
            _ = timeout(LONG, io.read_to_end(&mut answer)).await.unwrap();
            let answer = String::from_utf8(answer).unwrap();
            assert_eq!(
                answer.is_empty(),
                expected.is_empty(),
                "{proxies:?} {answer}"
            );
            assert!(answer.contains(expected), "{proxies:?} {answer}");
        }
    }
}

#[tokio::test]
async fn without_the_header_of_the_proxy_a_connection_is_closed() {
    let address = behind_a_proxy(Duration::from_millis(500)).await;
    for begin in [
        &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
        b"PROXY TCP4",
        b"",
    ] {
        let mut io = TcpStream::connect(address).unwrap();
        io.set_read_timeout(Some(LONG)).unwrap();
        io.write_all(begin).unwrap();
        let told = tokio::task::spawn_blocking(move || {
            let mut told = Vec::new();
            // Unread bytes turn the close into a reset.
            let _ = io.read_to_end(&mut told);
            told
        });
        assert_eq!(told.await.unwrap(), b"");
    }
}
