//! Pipes that are sent, and Ctrl-C in each phase of a request.

use std::{
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
#[cfg(target_os = "linux")]
use std::{io::Read, net::TcpListener};

#[cfg(target_os = "linux")]
use super::common::interrupt;
use super::{
    PROTOCOLS,
    common::{Ran, directory, run, tool},
    get_by, start,
};

/// Makes a pipe with a name.
fn pipe(test: &str) -> String {
    let path = format!("{}/pipe", directory(test));
    assert!(
        Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    path
}

/// Writes into a pipe as soon as it is read.
fn fill(pipe: &str) -> thread::JoinHandle<()> {
    let pipe = pipe.to_owned();
    thread::spawn(move || fs::write(pipe, "from a pipe").unwrap())
}

#[tokio::test]
async fn a_pipe_is_sent_once_and_to_one_url() {
    let (server, url) = start().await;
    let pipe = pipe("habits-pipe");
    let name = format!("{pipe}, which is a pipe or a device,");
    for protocol in PROTOCOLS {
        let writes = fill(&pipe);
        let text = get_by(protocol, &["-T", &pipe, &url("/mirror")]).await;
        assert!(text.success().ends_with("\n\nfrom a pipe"));
        writes.join().unwrap();
        for form in [["-T", &*pipe], ["-F", &format!("a=@{pipe}")]] {
            let writes = fill(&pipe);
            let same = url("/same");
            let ran = get_by(protocol, &[&["-L"], &form[..], &[&same]].concat()).await;
            let why = format!(
                "{same}: redirect to /mirror: {name} cannot be sent again: save it to a file, and \
                 send that"
            );
            assert_eq!(ran.failure(4), why);
            writes.join().unwrap();
        }
        // A redirect after which nothing is sent is followed.
        let writes = fill(&pipe);
        let words = ["-L", "-X", "POST", "-T", &pipe, &url("/hop/0")];
        let text = get_by(protocol, &words).await.success();
        assert!(text.starts_with("GET /mirror\n"), "{text}");
        writes.join().unwrap();
    }
    let mirror = url("/mirror");
    let ran = run(&["get", "-T", &pipe, &mirror, &mirror]).await;
    assert_eq!(
        ran.failure(2),
        format!("{name} can be sent to one URL only")
    );
    // No process writes into it.
    let ran = run(&["get", "-m", "300ms", "-T", &pipe, &mirror]).await;
    let why = "timed out by --max-time before the response";
    assert!(ran.failure(1).ends_with(why), "{ran:?}");
    assert_eq!(server.end().await.cut, 0);
}

/// A redirect that leads nowhere is not the fault of the pipe, which is not sent again after it.
#[tokio::test]
async fn a_redirect_of_a_pipe_to_no_url_is_named() {
    let (server, url) = start().await;
    let pipe = pipe("habits-pipe-nowhere");
    let nowhere = url("/nowhere");
    let writes = fill(&pipe);
    let words = ["-L", "-X", "POST", "-T", &pipe, &nowhere];
    let ran = get_by(&[], &words).await;
    let why = format!("{nowhere}: redirect to http://[::1/: that is no valid URL");
    assert_eq!(ran.failure(1), why);
    writes.join().unwrap();
    assert_eq!(server.end().await.cut, 0);
}

/// The time of the user is over also while the tool waits for what another program writes.
#[test]
fn max_time_ends_a_command_whose_input_does_not_end() {
    let mut child = tool()
        .args(["get", "-m", "300ms", "-d@-", "http://127.0.0.1:1/"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = child.stdin.take();
    let ran = Ran::from(ended(child));
    assert_eq!(ran.failure(1), "timed out by --max-time");
    drop(input);
}

/// Waits for the tool, which ends by itself. A tool that does not is ended, and fails the test.
pub(crate) fn ended(mut child: Child) -> std::process::Output {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("it does not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

/// Interrupts the tool in a phase from which it does not go on. Returns its last line.
#[cfg(target_os = "linux")]
async fn interrupted(words: &[&str], stdin: Stdio) -> String {
    let child = tool()
        .args(words)
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !catches_ctrl_c(&child) {
        assert!(began.elapsed() < Duration::from_secs(60), "{words:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // If the phase has not begun then, the test proves less.
    tokio::time::sleep(Duration::from_millis(400)).await;
    interrupt(&child);
    let ended = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
    let ran = Ran::from(ended.await.unwrap());
    assert_eq!(ran.code, 130, "{words:?} {ran:?}");
    ran.stderr.lines().last().unwrap_or_default().to_owned()
}

/// Returns whether a process has a handler for the signal of Ctrl-C, which is the second bit.
#[cfg(target_os = "linux")]
fn catches_ctrl_c(child: &Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
    caught & 2 != 0
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn ctrl_c_ends_each_phase() {
    let (server, url) = start().await;
    // A server, or a proxy, that accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = silent.local_addr().unwrap().to_string();
    let keeps = thread::spawn(move || {
        let mut all = Vec::new();
        for mut io in silent.incoming().flatten().take(7) {
            let mut first = [0; 1];
            _ = io.read(&mut first);
            all.push(io);
        }
    });
    let (tls, plain) = (format!("https://{mute}/"), format!("http://{mute}/"));
    let pipe = pipe("habits-phases");
    let quiet = url("/silent");
    for words in [
        // The handshake of TLS, the answer of a proxy, the upgrade.
        &["get", "-k", &*tls][..],
        &["get", "-x", &plain, "http://a.invalid/"],
        &["get", "--upgrade", &plain],
        &["ping", "-k", &tls],
        &["load", "-k", &tls],
        // The response, over each protocol.
        &["get", &quiet],
        &["get", "--http2", &quiet],
        &["get", "--http1", &quiet],
        // A pipe that no process writes to, and the time before another attempt.
        &["get", "-T", &pipe, &quiet],
        &[
            "get",
            "--retry",
            "9",
            "--retry-delay",
            "1h",
            "http://127.0.0.1:1/",
        ],
    ] {
        let last = interrupted(words, Stdio::null()).await;
        assert!(last.contains("interrupted"), "{words:?}: {last}");
    }
    // Standard input that does not end: the process ends without a word, after a second.
    for flag in ["-d@-", "-T-"] {
        interrupted(&["get", flag, &quiet], Stdio::piped()).await;
    }
    drop(keeps);
    assert_eq!(server.end().await.cut, 0);
}
