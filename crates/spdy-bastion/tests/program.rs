//! The program: its kubeconfig, its commands, its signals, and a disk that is full.

mod support;

use std::{path::Path, process::Stdio};

use spdy_kube::Status;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use self::support::{Folder, OUTPUT, SOON, Test, api::Api, audit, outcome, read};

const PROGRAM: &str = env!("CARGO_BIN_EXE_spdy-bastion");

/// The running program.
struct Program {
    child: Child,
    folder: Folder,
    printed: Lines<BufReader<ChildStdout>>,
}

impl Program {
    /// Starts the program through a shell that runs a script first.
    async fn start(api: &Api, script: &str) -> Self {
        let folder = Folder::new();
        folder.write("upstream", &api.kubeconfig());
        let mut child = Command::new("sh")
            .args(["-c", &format!("{script}; exec \"$0\" \"$@\""), PROGRAM])
            .args([
                "--kubeconfig",
                "upstream",
                "--listen",
                "127.0.0.1:0",
                "--plain",
            ])
            .args(["--audit", "audit", "--metrics", "127.0.0.1:0"])
            .current_dir(&folder.0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let printed = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child,
            folder,
            printed,
        }
    }

    /// Returns the rest of the first line that begins with a text.
    async fn line(&mut self, start: &str) -> String {
        let found = async {
            while let Some(line) = self.printed.next_line().await.unwrap() {
                if let Some(rest) = line.strip_prefix(start) {
                    return rest.to_owned();
                }
            }
            panic!("no line begins with {start:?}");
        };
        timeout(SOON, found).await.expect("program prints soon")
    }

    /// Runs a command of the program, and returns its output.
    async fn run(&self, arguments: &[&str]) -> (bool, String, String) {
        run(&self.folder.0, arguments).await
    }
}

async fn run(folder: &Path, arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(PROGRAM)
        .args(arguments)
        .current_dir(folder)
        .output();
    let output = timeout(SOON, output)
        .await
        .expect("command ends soon")
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.success(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Starts the program, and returns what clients need.
async fn start(script: &str) -> (Program, Test) {
    let api = Api::start().await;
    let mut program = Program::start(&api, script).await;
    let cluster = program.line("  cluster: ").await;
    let cluster: serde_json::Value = serde_json::from_str(&cluster).unwrap();
    let address = cluster["server"]
        .as_str()
        .unwrap()
        .strip_prefix("http://")
        .unwrap();
    let test = Test::of_program(api, address.parse().unwrap());
    (program, test)
}

#[tokio::test]
async fn sessions_are_listed_and_killed_with_a_message_and_played() {
    let (mut program, test) = start("true").await;
    let metrics = program.line("# metrics are on http://").await;
    let mut remote = test.exec(&["wait"], OUTPUT).await.unwrap();
    let mut stdout = remote.stdout.take().unwrap();
    let mut piece = [0; 8];
    stdout.read_exact(&mut piece).await.unwrap();

    let (is_success, listed, _) = program.run(&["sessions", "--json"]).await;
    assert!(is_success);
    let session: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(
        (&session["pod"], &session["bytes_out"]),
        (&"demo".into(), &8.into())
    );
    let (_, table, _) = program.run(&["sessions"]).await;
    assert!(
        table.contains("default/demo") && table.contains("owner"),
        "{table}"
    );

    let id = session["session"].as_str().unwrap();
    let killed = program.run(&["kill", id, "--message", "go home"]).await;
    assert!(killed.0, "{}", killed.2);
    assert_eq!(outcome(remote).await.to_string(), "go home");
    let lines = audit(&program.folder.0.join("audit"), 2).await;
    assert_eq!(lines[1]["ended_by_bastion"], "go home");
    let (is_success, _, error) = program.run(&["kill", id]).await;
    assert!(!is_success && error.contains("no such session"), "{error}");

    let file = format!("recordings/{}", lines[1]["recording"].as_str().unwrap());
    let (is_success, played, error) = program.run(&["play", &file, "--speed", "100"]).await;
    assert!(is_success, "{error}");
    assert_eq!(played, "waiting\n");
    assert_eq!(program.run(&["play", "--raw", &file]).await.1, "waiting\n");

    let address: std::net::SocketAddr = metrics.strip_suffix("/metrics").unwrap().parse().unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let page = support::raw(address, request).await;
    for line in [
        "content-type: text/plain; version=0.0.4; charset=utf-8\r\n",
        "# HELP spdy_bastion_sessions_total Sessions with streams that have begun, by verb",
        "spdy_bastion_build_info{version=",
        "spdy_bastion_sessions_total{verb=\"exec\"} 1",
        "spdy_bastion_sessions_open 0",
        "spdy_bastion_stream_bytes_total{direction=\"out\"} 8",
    ] {
        assert!(page.contains(line), "{line} in {page}");
    }
}

#[tokio::test]
async fn a_signal_tells_clients_why_and_ends_the_program() {
    let (mut program, test) = start("true").await;
    let mut remote = test.exec(&["wait"], OUTPUT).await.unwrap();
    let mut stdout = remote.stdout.take().unwrap();
    let mut piece = [0; 8];
    stdout.read_exact(&mut piece).await.unwrap();
    let id = program.child.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .await
            .unwrap()
            .success()
    );
    assert_eq!(
        outcome(remote).await.to_string(),
        "the bastion is shutting down"
    );
    let ended = timeout(SOON, program.child.wait())
        .await
        .expect("program ends soon")
        .unwrap();
    assert!(ended.success());
    let lines = audit(&program.folder.0.join("audit"), 2).await;
    assert_eq!(lines[1]["outcome"], "failure");
    assert_eq!(lines[1]["message"], "the bastion is shutting down");
    assert!(lines[1]["recording_sha256"].is_string());
    assert!(!program.folder.0.join("spdy-bastion.sock").exists());
}

#[tokio::test]
async fn a_full_disk_ends_a_recorded_session_with_a_message() {
    // A file that has reached this limit refuses bytes, as a full disk does.
    let (program, test) = start("trap '' XFSZ; ulimit -f 256").await;
    let mut remote = test.exec(&["flood"], OUTPUT).await.unwrap();
    let mut stdout = remote.stdout.take().unwrap();
    let mut flood = Vec::new();
    timeout(SOON, stdout.read_to_end(&mut flood))
        .await
        .expect("flood ends soon")
        .unwrap();
    let Status::Failure { message, .. } = outcome(remote).await else {
        panic!()
    };
    assert!(
        message.starts_with("session is not recorded any more: "),
        "{message}"
    );
    assert!(flood.len() < 512 * 1024, "{}", flood.len());
    let lines = audit(&program.folder.0.join("audit"), 2).await;
    assert_eq!(lines[1]["message"], message.as_str());
    assert!(lines[1]["recording_failed"].is_string(), "{}", lines[1]);
}

#[tokio::test]
async fn a_mistake_on_the_command_line_or_in_a_file_is_named() {
    let folder = Folder::new();
    folder.write("bad", "contexts: []\n");
    for (arguments, expected) in [
        (
            &["--kubeconfig", "none"][..],
            "cannot read none: No such file",
        ),
        (
            &["--kubeconfig", "bad"],
            "bad: kubeconfig has no current context",
        ),
        (
            &["--socket", "none", "sessions"],
            "cannot ask none: No such file",
        ),
        (&["play", "none"], "cannot open none: No such file"),
        (&["play", "bad"], "bad: this is no asciicast"),
        (&["--cert", "a"], "--key"),
    ] {
        let (is_success, _, error) = run(&folder.0, arguments).await;
        assert!(
            !is_success && error.contains(expected),
            "{expected} in {error}"
        );
    }
}

#[tokio::test]
async fn the_kubeconfig_can_be_written_to_a_file_of_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let (mut program, test) = start("true").await;
    assert!(program.child.try_wait().unwrap().is_none());
    let mut second = Command::new(PROGRAM)
        .args([
            "--kubeconfig",
            "upstream",
            "--listen",
            "127.0.0.1:0",
            "--audit",
            "audit2",
        ])
        .args(["--socket", "second.sock", "--write-kubeconfig", "clients"])
        .current_dir(&program.folder.0)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(second.stdout.take().unwrap()).lines();
    let line = timeout(SOON, lines.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(
        line.starts_with("# spdy-bastion listens on 127.0.0.1:"),
        "{line}"
    );
    let path = program.folder.0.join("clients");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("certificate-authority-data") && text.contains("token"));
    let mut remote = test.exec(&["echo", "a"], OUTPUT).await.unwrap();
    assert_eq!(read(&mut remote.stdout).await, "a");
}
