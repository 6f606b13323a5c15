//! Programs of the examples.

#![allow(dead_code, reason = "no test file uses all of it")]

use std::{
    env,
    io::{BufRead, BufReader, Lines},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use spdy_tests::built::build;
use tokio::time::{sleep, timeout};

/// An example that runs. It is killed when dropped.
pub(crate) struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Self {
        Self::start_in(&env::temp_dir(), name, arguments)
    }

    /// Starts an example that writes files into the folder in which it runs.
    pub(crate) fn start_in(folder: &Path, name: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(example(name))
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        Self {
            child,
            lines: BufReader::new(stdout).lines(),
        }
    }

    /// The next line that the program prints.
    pub(crate) fn line(&mut self) -> String {
        self.lines.next().expect("a line is printed").unwrap()
    }

    /// The address in the next line that the program prints.
    pub(crate) fn address(&mut self) -> SocketAddr {
        let line = self.line();
        let words = line.split(['/', ' ']);
        let address = words.filter_map(|word| word.parse().ok()).next();
        address.unwrap_or_else(|| panic!("no address in {line:?}"))
    }

    /// Asks the program to end and waits for its end. Returns the lines that it prints meanwhile.
    pub(crate) async fn end(mut self) -> String {
        let id = self.child.id().to_string();
        let kill = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(kill.success());
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    break status;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(timeout(LONG, ended).await.expect("it ends").success());
        self.lines.by_ref().map(Result::unwrap).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

pub(crate) fn example(name: &str) -> PathBuf {
    build(["--example", name]).join("examples").join(name)
}

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(LONG, what).await.expect("it does not take so long")
}

const LONG: Duration = Duration::from_secs(60);
