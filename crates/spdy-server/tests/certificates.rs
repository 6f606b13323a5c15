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
use self::common::program::{Program, command};
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
        self.renew_until(4096)
    }

    /// Writes a new certificate that is valid from 1975 to the beginning of this year.
    fn renew_until(&self, year: i32) -> RootCertStore {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(1975, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(&self.chain, certificate.pem()).unwrap();
        fs::write(&self.key, key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
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

/// A file can become readable again without a visible change, for example after an error of the
/// disk.
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

/// A certificate can come with the time of its making, and certificates of one kind have a few
/// lengths.
#[cfg(unix)]
#[tokio::test]
async fn a_file_of_the_same_length_and_time_in_the_place_of_another_is_noticed() {
    let (files, next) = (Files::new("alike"), Files::new("alike-next"));
    let first = files.renew();
    let lengths =
        |files: &Files| [&files.chain, &files.key].map(|path| fs::metadata(path).unwrap().len());
    let time = SystemTime::now() - Duration::from_secs(60);
    let date = |files: &Files| {
        for path in [&files.chain, &files.key] {
            let file = File::options().write(true).open(path).unwrap();
            file.set_modified(time).unwrap();
        }
    };
    date(&files);
    let server = Running::start(checked_often(&files), Router::new()).await;
    assert!(is_trusted(server.address, &first).await);
    let second = (0..10_000)
        .map(|_| next.renew())
        .find(|_| lengths(&next) == lengths(&files))
        .expect("a signature has a few lengths");
    date(&next);
    fs::rename(&next.key, &files.key).unwrap();
    fs::rename(&next.chain, &files.chain).unwrap();
    become_trusted(server.address, &second).await;
}

fn checked_often(files: &Files) -> Config {
    Config {
        binds: vec![Bind::tls(loopback())],
        certificate: files.certificate(),
        certificate_check: Duration::from_millis(50),
        ..Config::default()
    }
}

/// Kubernetes mounts a secret as links to `..data`, which is a link to the folder of a version.
#[cfg(unix)]
#[tokio::test]
async fn a_secret_of_kubernetes_is_taken_up_when_its_link_moves() {
    use std::os::unix::fs::symlink;

    let files = Files::new("mounted");
    let mount = files.chain.parent().unwrap();
    _ = fs::remove_dir_all(mount);
    let version = |name: &str| {
        let version = Files::new(&format!("mounted/{name}"));
        let roots = version.renew();
        symlink(name, mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        roots
    };
    let first = version("..1");
    for name in ["chain.pem", "key.pem"] {
        symlink(Path::new("..data").join(name), mount.join(name)).unwrap();
    }
    let server = Running::start(checked_often(&files), Router::new()).await;
    assert!(is_trusted(server.address, &first).await);
    for name in ["..2", "..3"] {
        let next = version(name);
        become_trusted(server.address, &next).await;
    }
}

#[cfg(all(unix, feature = "cli"))]
#[tokio::test]
async fn a_certificate_that_is_of_no_use_does_not_replace_one_that_is() {
    let files = Files::new("expired");
    let first = files.renew();
    let (chain, key) = (files.chain.to_str().unwrap(), files.key.to_str().unwrap());
    let arguments = ["--listen", "127.0.0.1:0", "--cert", chain, "--key", key];
    let program = Program::start(&[&arguments[..], &["--metrics", "127.0.0.1:0"]].concat(), 4);
    let address = program.address(1).parse().unwrap();
    let metrics = async || {
        let io = TcpStream::connect(program.address(2)).await.unwrap();
        http1(io, "/metrics").await
    };
    let page = metrics().await;
    let failures = "spdy_server_certificate_reload_failures_total ";
    assert!(page.contains(&format!("{failures}0\n")), "{page}");
    let in_4096 = "certificate_not_after_timestamp_seconds{name=\"localhost\"} 67090";
    assert!(page.contains(in_4096), "{page}");

    files.renew_until(2001);
    program.signal("HUP");
    program
        .until_it_says("chain.pem has expired on Mon, 01 Jan 2001 00:00:00 GMT; renew it; keeping");
    let whole = fs::read_to_string(&files.chain).unwrap();
    fs::write(&files.chain, &whole[..whole.len() / 2]).unwrap();
    program.signal("HUP");
    program.until_it_says("chain.pem is not complete: a line");
    assert!(is_trusted(address, &first).await);
    let page = metrics().await;
    assert!(page.contains(in_4096), "{page}");
    assert!(
        page.contains(failures) && !page.contains(&format!("{failures}0\n")),
        "{page}"
    );

    let second = files.renew_until(3000);
    program.signal("HUP");
    become_trusted(address, &second).await;
    assert!(!metrics().await.contains(in_4096));
    program.signal("TERM");
    let (status, _, stderr) = program.wait();
    assert!(status.success());
    assert!(!stderr.contains("[45, 45"), "{stderr}");
}

#[cfg(all(unix, feature = "cli"))]
#[test]
fn a_certificate_that_was_not_copied_whole_is_one_sentence() {
    let files = Files::new("half");
    files.renew();
    let whole = fs::read_to_string(&files.chain).unwrap();
    let (chain, key) = (files.chain.to_str().unwrap(), files.key.to_str().unwrap());
    for kept in [whole.len() / 2, whole.len() - 10, 20] {
        fs::write(&files.chain, &whole[..kept]).unwrap();
        let arguments = ["--listen", "127.0.0.1:0", "--cert", chain, "--key", key];
        let output = command(&arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let expected = format!(
            "spdy-server: {chain} is not complete: a line `-----BEGIN …-----` or \
             `-----END …-----` is cut off; copy the whole file again\n"
        );
        assert_eq!(stderr, expected, "{kept}");
    }
}
