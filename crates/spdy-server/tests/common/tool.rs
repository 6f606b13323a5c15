//! The client program, run to its end.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
};

use super::program::Program;

/// What a run of `spdy` has come to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    /// Standard output of a run that went well and had nothing to say besides.
    #[track_caller]
    pub(crate) fn well(self) -> String {
        assert_eq!((self.code, &*self.stderr), (0, ""));
        String::from_utf8(self.stdout).unwrap()
    }

    /// The lines of JSON on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        let lines = str::from_utf8(&self.stdout).unwrap().lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Standard error of a run that went wrong in this way: one line.
    #[track_caller]
    pub(crate) fn ill(&self, code: i32) -> &str {
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

pub(crate) const SPDY: &str = env!("CARGO_BIN_EXE_spdy");

pub(crate) fn spdy(arguments: &[&str]) -> Ran {
    spdy_reading(arguments, b"")
}

pub(crate) fn spdy_reading(arguments: &[&str], stdin: &'static [u8]) -> Ran {
    let mut child = Command::new(SPDY)
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

/// The built-in site, under TLS and in plain text.
pub(crate) struct Site {
    program: Program,
    /// The file of its certificate.
    pub(crate) cacert: String,
}

impl Site {
    /// Each test has a directory of its own.
    pub(crate) fn start(test: &str) -> Self {
        let directory = directory(test);
        let made = rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()]);
        let made = made.unwrap();
        let [cert, key] = ["chain.pem", "key.pem"].map(|name| format!("{directory}/{name}"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let anywhere = "127.0.0.1:0";
        let arguments = [
            "--listen", anywhere, "--plain", anywhere, "--cert", &cert, "--key", &key,
        ];
        Self {
            program: Program::start(&arguments, 4),
            cacert: cert,
        }
    }

    pub(crate) fn https(&self, path: &str) -> String {
        format!("https://{}{path}", self.program.address(1))
    }

    pub(crate) fn http(&self, path: &str) -> String {
        format!("http://{}{path}", self.program.address(2))
    }
}

/// An empty directory.
pub(crate) fn directory(test: &str) -> String {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    directory.to_str().unwrap().to_owned()
}
