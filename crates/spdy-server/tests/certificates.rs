//! Certificates that change while the server runs.

mod common;

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use axum::{Router, routing::get};
use rustls::RootCertStore;
use spdy_server::{Bind, Certificate, Config, Server, Version};
use spdy_tower::session::{self, HeaderBlock, OpenOptions, Session};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::client::TlsStream;

#[cfg(all(unix, feature = "cli"))]
use self::common::program::Program;
use self::common::server::{LONG, Running, connect, connect_with, http1, loopback};

/// The files of a certificate that can be replaced.
struct Files {
    chain: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new(name: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&directory).unwrap();
        Self {
            chain: directory.join("chain.pem"),
            key: directory.join("key.pem"),
        }
    }

    /// Writes a new certificate. Returns a store that trusts only this one.
    fn renew(&self) -> RootCertStore {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(&self.chain, made.cert.pem()).unwrap();
        fs::write(&self.key, made.signing_key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        roots
    }

    fn certificate(&self) -> Certificate {
        Certificate::Files {
            chain: self.chain.clone(),
            key: self.key.clone(),
        }
    }
}

/// Returns whether a client that only trusts `roots` can connect.
async fn is_trusted(address: SocketAddr, roots: &RootCertStore) -> bool {
    connect_with(address, roots.clone(), &[]).await.is_ok()
}

async fn become_trusted(address: SocketAddr, roots: &RootCertStore) {
    let start = Instant::now();
    while !is_trusted(address, roots).await {
        assert!(start.elapsed() < LONG, "the new certificate is not shown");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn begin(io: TlsStream<TcpStream>) -> Session {
    let (session, _, driver) = session::client(io, Version::V3_1, session::Config::default());
    tokio::spawn(driver);
    session
}

/// Sends a request over an open session.
async fn ask(session: &Session) {
    let names = [":method", ":path", ":version", ":host", ":scheme"];
    let values = ["GET", "/", "HTTP/1.1", "localhost", "https"];
    let head = HeaderBlock::from_pairs(names.into_iter().zip(values)).unwrap();
    let how = OpenOptions::new().fin(true);
    let mut stream = session.open(head, how).await.unwrap();
    let fields = timeout(LONG, stream.response_headers())
        .await
        .unwrap()
        .unwrap();
    assert!(fields.get(":status").unwrap().starts_with(b"200"));
}

#[tokio::test]
async fn new_files_of_a_certificate_are_taken_up_and_sessions_go_on() {
    let files = Files::new("renewed");
    let first = files.renew();
    let config = Config {
        binds: vec![Bind::tls(loopback())],
        certificate: files.certificate(),
        certificate_check: Duration::from_millis(50),
        ..Config::default()
    };
    let app = Router::new().route("/", get(async || "x"));
    let server = Running::start(config, app).await;
    let open = connect(server.address, first.clone(), &["http/1.1"]).await;
    let session = connect(server.address, first.clone(), &["spdy/3.1"]).await;
    let session = begin(session);
    ask(&session).await;

    let second = files.renew();
    become_trusted(server.address, &second).await;
    assert!(!is_trusted(server.address, &first).await);
    assert!(http1(open, "/").await.ends_with("x"));
    ask(&session).await;

    // Invalid files change nothing, and valid ones after them do.
    fs::write(&files.chain, "nothing").unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(is_trusted(server.address, &second).await);
    let third = files.renew();
    become_trusted(server.address, &third).await;
}

/// A file can become readable again without a visible change, for example after a change of
/// permissions or an error of the disk.
#[tokio::test]
async fn files_that_were_of_no_use_for_a_moment_are_tried_again() {
    let files = Files::new("passing");
    let first = files.renew();
    let config = Config {
        binds: vec![Bind::tls(loopback())],
        certificate: files.certificate(),
        certificate_check: Duration::from_millis(50),
        ..Config::default()
    };
    let server = Running::start(config, Router::new()).await;
    let next = Files::new("passing-next");
    let second = next.renew();
    let good = [&next.chain, &next.key].map(|path| fs::read(path).unwrap());
    let paths = [&files.chain, &files.key];
    // The length and the time of change are the same, so no change is visible.
    let time = SystemTime::now();
    let write = |contents: [Vec<u8>; 2]| {
        for (path, contents) in paths.into_iter().zip(contents) {
            fs::write(path, contents).unwrap();
            File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_modified(time)
                .unwrap();
        }
    };
    write(good.clone().map(|text| vec![b'x'; text.len()]));
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(is_trusted(server.address, &first).await);
    write(good);
    become_trusted(server.address, &second).await;
}

#[tokio::test]
async fn a_handle_has_the_files_read_at_once() {
    let files = Files::new("asked");
    let first = files.renew();
    let config = Config {
        binds: vec![Bind::tls(loopback())],
        certificate: files.certificate(),
        certificate_check: LONG * 10,
        ..Config::default()
    };
    let server = Server::bind(config).await.unwrap();
    let address = server.endpoints()[0].address.tcp().unwrap();
    let reload = server.reload();
    tokio::spawn(server.run(Router::new(), std::future::pending()));
    assert!(is_trusted(address, &first).await);
    let second = files.renew();
    assert!(is_trusted(address, &first).await);
    reload.now();
    become_trusted(address, &second).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_pipe_in_the_place_of_a_key_is_not_waited_for() {
    let files = Files::new("pipe");
    let first = files.renew();
    let config = Config {
        binds: vec![Bind::tls(loopback())],
        certificate: files.certificate(),
        certificate_check: LONG * 10,
        ..Config::default()
    };
    let server = Server::bind(config).await.unwrap();
    let address = server.endpoints()[0].address.tcp().unwrap();
    let reload = server.reload();
    tokio::spawn(server.run(Router::new(), std::future::pending()));
    fs::remove_file(&files.key).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(&files.key)
        .status();
    assert!(made.unwrap().success());
    reload.now();
    assert!(is_trusted(address, &first).await);
    fs::remove_file(&files.key).unwrap();
    let second = files.renew();
    reload.now();
    become_trusted(address, &second).await;
}

#[cfg(all(unix, feature = "cli"))]
#[tokio::test]
async fn sighup_reads_the_certificate_again_and_a_bad_one_is_one_warning() {
    let files = Files::new("hangup");
    let first = files.renew();
    let (chain, key) = (files.chain.to_str().unwrap(), files.key.to_str().unwrap());
    let program = Program::start(
        &["--listen", "127.0.0.1:0", "--cert", chain, "--key", key],
        3,
    );
    let address = program.address(1).parse().unwrap();
    let session = begin(connect(address, first.clone(), &["spdy/3.1"]).await);
    ask(&session).await;
    let second = files.renew();
    program.signal("HUP");
    become_trusted(address, &second).await;
    ask(&session).await;

    fs::write(&files.key, "nothing").unwrap();
    program.signal("HUP");
    let warning = "key.pem; keeping the old certificate and trying again";
    program.until_it_says(warning);
    assert!(is_trusted(address, &second).await);
    program.signal("TERM");
    let (status, _, stderr) = program.wait();
    assert!(status.success());
    assert_eq!(stderr.matches(warning).count(), 1, "{stderr}");
}
