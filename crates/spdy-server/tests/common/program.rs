//! The running program.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle, panicking, sleep},
    time::{Duration, Instant},
};

/// The running program. It is killed when dropped.
pub(crate) struct Program {
    pub(crate) child: Child,
    /// The lines that it has printed at start.
    pub(crate) lines: Vec<String>,
    log: Log,
}

impl Program {
    /// Starts the program. It prints this number of `lines` before it serves.
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
        let log = Log::of(child.stderr.take().unwrap());
        Self { child, lines, log }
    }

    pub(crate) fn plain(arguments: &[&str]) -> Self {
        Self::start(&[&["--plain", "127.0.0.1:0"], arguments].concat(), 2)
    }

    /// Returns the host and the port in a line that begins with a URL.
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

    /// Waits until the program has written this to standard error.
    pub(crate) fn until_it_says(&self, text: &str) {
        self.until("it says so", || self.log.text().contains(text));
    }

    /// Waits until the program drains and accepts no more connections.
    pub(crate) fn until_it_drains(&self) {
        let address = self.address(1);
        self.until("the listener is gone", || {
            TcpStream::connect(address).is_err()
        });
    }

    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < LONG, "not {what}: {}", self.log.text());
            sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end. Returns the exit status, the time that it took, and the text on standard
    /// error.
    pub(crate) fn wait(mut self) -> (ExitStatus, Duration, String) {
        let start = Instant::now();
        while start.elapsed() < LONG {
            if let Some(status) = self.child.try_wait().unwrap() {
                let log = self.log.whole();
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
        if !panicking() {
            assert_no_panic(&self.log.whole());
        }
    }
}

/// Returns what has been written to standard error so far.
struct Log {
    lines: Arc<Mutex<String>>,
    reading: Option<JoinHandle<()>>,
}

impl Log {
    fn of(stderr: ChildStderr) -> Self {
        let lines = Arc::<Mutex<String>>::default();
        let written = Arc::clone(&lines);
        let reading = thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                *written.lock().unwrap() += &(line.unwrap() + "\n");
            }
        });
        Self {
            lines,
            reading: Some(reading),
        }
    }

    fn text(&self) -> String {
        self.lines.lock().unwrap().clone()
    }

    /// Returns all of standard error, once the program has ended.
    fn whole(&mut self) -> String {
        if let Some(reading) = self.reading.take() {
            reading.join().unwrap();
        }
        self.text()
    }
}

/// The program continues after a panic of one connection. A test does not.
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

pub(crate) fn ask(io: &mut TcpStream, path: &str) {
    write!(io, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
}

/// Returns the whole response over a new connection.
pub(crate) fn get_page(address: impl ToSocketAddrs, path: &str) -> String {
    get_page_with(address, path, "")
}

/// Does the same with lines of further fields.
pub(crate) fn get_page_with(address: impl ToSocketAddrs, path: &str, fields: &str) -> String {
    let mut io = TcpStream::connect(address).unwrap();
    io.set_read_timeout(Some(LONG)).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n");
    io.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).unwrap();
    answer
}

/// Reads the head of a response.
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

/// A bound that only a hanging program exceeds.
pub(crate) const LONG: Duration = Duration::from_secs(60);
