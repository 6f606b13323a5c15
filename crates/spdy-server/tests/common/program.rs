//! The program itself, while it runs.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    thread::{panicking, sleep},
    time::{Duration, Instant},
};

/// The program while it runs. It is killed when dropped.
pub(crate) struct Program {
    pub(crate) child: Child,
    /// What it has printed at start.
    pub(crate) lines: Vec<String>,
}

impl Program {
    /// Starts the program; `lines` is how many lines it prints before it serves.
    pub(crate) fn start(arguments: &[&str], lines: usize) -> Self {
        Self::spawn(command(arguments), lines)
    }

    pub(crate) fn spawn(mut command: Command, lines: usize) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let lines = stdout
            .lines()
            .take(lines)
            .collect::<Result<_, _>>()
            .unwrap();
        Self { child, lines }
    }

    pub(crate) fn plain(arguments: &[&str]) -> Self {
        Self::start(&[&["--plain", "127.0.0.1:0"], arguments].concat(), 2)
    }

    /// The host and port in a line that begins with a URL.
    pub(crate) fn address(&self, line: usize) -> &str {
        let url = self.lines[line].split(' ').next().unwrap();
        url.split('/').nth(2).unwrap()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let io = TcpStream::connect(self.address(1)).unwrap();
        io.set_read_timeout(Some(LONG)).unwrap();
        io
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits for the end; returns the exit status, how long it took, and what was written to standard error.
    pub(crate) fn wait(mut self) -> (ExitStatus, Duration, String) {
        let start = Instant::now();
        while start.elapsed() < LONG {
            if let Some(status) = self.child.try_wait().unwrap() {
                let log = read_all(self.child.stderr.take().unwrap());
                assert_no_panic(&log);
                return (status, start.elapsed(), log);
            }
            sleep(Duration::from_millis(5));
        }
        panic!("the program did not end");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(stderr) = self.child.stderr.take()
            && !panicking()
        {
            assert_no_panic(&read_all(stderr));
        }
    }
}

/// The program serves on after a panic of one connection. A test does not.
fn assert_no_panic(log: &str) {
    assert!(!log.contains("panicked at"), "{log}");
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spdy-server"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub(crate) fn read_all(mut stderr: ChildStderr) -> String {
    let mut text = String::new();
    stderr.read_to_string(&mut text).unwrap();
    text
}

pub(crate) fn ask(io: &mut TcpStream, path: &str) {
    write!(io, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
}

/// Reads the head of an answer.
pub(crate) fn head(io: &mut BufReader<TcpStream>) -> Vec<String> {
    io.lines()
        .map(Result::unwrap)
        .take_while(|line| !line.is_empty())
        .collect()
}

pub(crate) fn field<'a>(head: &'a [String], name: &str) -> &'a str {
    let prefix = format!("{name}: ");
    head.iter()
        .find_map(|line| line.strip_prefix(&prefix))
        .unwrap()
}

/// Long enough that only a program that hangs takes longer.
pub(crate) const LONG: Duration = Duration::from_secs(30);
