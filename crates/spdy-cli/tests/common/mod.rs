//! Runs the program `spdy`, and servers for it.

// Each test uses a part of this module.
#![allow(dead_code)]

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use axum::Router;
use rustls::{ServerConfig, crypto::ring};
use spdy_server::{Bind, Certificate, Config, Drained, Server, app};
use spdy_tests::panics::{self, Watch};
use tokio::{
    runtime,
    sync::oneshot,
    task::{self, spawn_blocking},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// The result of a run of `spdy`.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    /// Returns standard output. Panics unless the run succeeded with nothing on standard error.
    #[track_caller]
    pub(crate) fn success(self) -> String {
        assert_eq!((self.code, &*self.stderr), (0, ""));
        String::from_utf8(self.stdout).unwrap()
    }

    /// Returns the lines of JSON on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        let lines = str::from_utf8(&self.stdout).unwrap().lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Returns the message of a failed run. Panics unless the exit status is `code` and standard
    /// error is one line.
    #[track_caller]
    pub(crate) fn failure(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        self.stderr.strip_prefix("spdy: ").unwrap().trim_end()
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Each protocol in plain text.
pub(crate) const PROTOCOLS: [&[&str]; 5] = [
    &["--version", "3.1"],
    &["--version", "3"],
    &["--version", "2"],
    &["--http2"],
    &["--http1"],
];

pub(crate) const SPDY: &str = env!("CARGO_BIN_EXE_spdy");

/// The tool, without the proxies that the environment of the tests may have.
pub(crate) fn tool() -> Command {
    let mut tool = Command::new(SPDY);
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        tool.env_remove(name).env_remove(name.to_uppercase());
    }
    tool
}

/// Sends what Ctrl-C sends.
#[cfg(unix)]
#[track_caller]
pub(crate) fn interrupt(child: &Child) {
    let words = ["-INT".to_owned(), child.id().to_string()];
    let status = Command::new("kill").args(words).status().unwrap();
    assert!(status.success());
}

pub(crate) fn spdy(arguments: &[&str]) -> Ran {
    spdy_reading(arguments, b"")
}

pub(crate) fn spdy_reading(arguments: &[&str], stdin: &'static [u8]) -> Ran {
    let mut child = tool()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let feed = thread::spawn(move || input.write_all(stdin));
    let output = child.wait_with_output().unwrap();
    feed.join().unwrap().unwrap();
    output.into()
}

/// Runs the tool while the runtime of this thread serves it.
pub(crate) async fn run(arguments: &[&str]) -> Ran {
    let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
    let tool = move || spdy(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    spawn_blocking(tool).await.unwrap()
}

/// A server in this process that runs until [`end`](Self::end). A panic in it fails the test.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    shutdown: oneshot::Sender<()>,
    task: task::JoinHandle<Drained>,
    _panics: Watch,
}

impl Running {
    /// Serves an application in plain text.
    pub(crate) async fn start(app: Router) -> Self {
        Self::with(app, Bind::plain(loopback()), Certificate::default()).await
    }

    /// Serves an application over TLS.
    pub(crate) async fn tls(app: Router, config: ServerConfig) -> Self {
        let certificate = Certificate::Rustls(Arc::new(config));
        Self::with(app, Bind::tls(loopback()), certificate).await
    }

    async fn with(app: Router, bind: Bind, certificate: Certificate) -> Self {
        let config = Config {
            binds: vec![bind],
            certificate,
            ..Config::default()
        };
        let server = Server::bind(config).await.unwrap();
        let address = server.endpoints()[0].address.tcp().unwrap();
        let (shutdown, asked) = oneshot::channel();
        let task = tokio::spawn(server.run(app, async { _ = asked.await }));
        Self {
            address,
            shutdown,
            task,
            _panics: panics::watch(),
        }
    }

    pub(crate) async fn end(self) -> Drained {
        self.shutdown.send(()).unwrap();
        let drained = timeout(LONG, self.task).await;
        drained.expect("the server did not end").unwrap()
    }
}

/// The built-in site of spdy-server, over TLS and in plain text. It runs on its own thread until
/// this is dropped.
pub(crate) struct Site {
    addresses: [SocketAddr; 2],
    /// The file with the certificate of the site.
    pub(crate) cacert: String,
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Site {
    /// Starts the site. Its files are in a directory that is named for the test.
    pub(crate) fn start(test: &str) -> Self {
        let directory = directory(test);
        let made = rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()]);
        let made = made.unwrap();
        let [chain, key] = ["chain.pem", "key.pem"].map(|name| format!("{directory}/{name}"));
        fs::write(&chain, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let config = Config {
            binds: vec![Bind::tls(loopback()), Bind::plain(loopback())],
            certificate: Certificate::Files {
                chain: chain.clone().into(),
                key: key.into(),
            },
            ..Config::default()
        };
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let server = runtime.block_on(Server::bind(config)).unwrap();
        let addresses = [0, 1].map(|place| server.endpoints()[place].address.tcp().unwrap());
        let (shutdown, asked) = oneshot::channel();
        let thread = thread::spawn(move || {
            let panics = panics::watch();
            _ = runtime.block_on(server.run(app::site(), async { _ = asked.await }));
            drop(panics);
        });
        Self {
            addresses,
            cacert: chain,
            shutdown: Some(shutdown),
            thread: Some(thread),
        }
    }

    pub(crate) fn https(&self, path: &str) -> String {
        format!("https://{}{path}", self.addresses[0])
    }

    pub(crate) fn http(&self, path: &str) -> String {
        format!("http://{}{path}", self.addresses[1])
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // The server waits for its connections to end, and then returns.
        drop(self.shutdown.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().expect("the server ends without a panic");
        }
    }
}

/// Returns what accepts TLS with these ALPN protocols, and its certificate as PEM.
pub(crate) fn tls(alpn: &[&str]) -> (TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()]);
    let made = made.unwrap();
    let key = made.signing_key.serialize_der().try_into().unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|id| id.as_bytes().to_vec()).collect();
    (TlsAcceptor::from(Arc::new(config)), made.cert.pem())
}

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// A bound that only a hanging test exceeds, even on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// Creates an empty directory for a test, and returns its path.
pub(crate) fn directory(test: &str) -> String {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    directory.to_str().unwrap().to_owned()
}
