//! What went wrong, in one sentence, and the exit status that goes with it.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use serde_json::json;

/// How the program ends. Mistakes in the arguments are 2, which clap sees to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Success = 0,
    /// A request got no whole response, or a recording is no SPDY.
    Exchange = 1,
    Usage = 2,
    /// There is no connection.
    Connect = 3,
    /// A file or standard output cannot be read or written.
    Local = 4,
    /// A response has status 400 or above, and that matters.
    Status = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    message: String,
}

impl Failure {
    pub(crate) fn exchange(what: impl fmt::Display, cause: &dyn Error) -> Self {
        Self::caused(Exit::Exchange, what, cause)
    }

    pub(crate) fn connect(what: impl fmt::Display, cause: &dyn Error) -> Self {
        Self::caused(Exit::Connect, what, cause)
    }

    pub(crate) fn local(what: impl fmt::Display, cause: &dyn Error) -> Self {
        Self::caused(Exit::Local, what, cause)
    }

    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    /// Says on standard error what went wrong.
    pub(crate) fn report(&self) -> Exit {
        // Without standard error there is still the exit status.
        _ = writeln!(io::stderr(), "spdy: {self}");
        self.exit
    }

    /// Says it in JSON, too, if that is wanted: what was asked for, and why there is no answer.
    pub(crate) fn told<T>(self, json: bool, what: (&str, impl fmt::Display)) -> Result<T, Self> {
        if json {
            print_json(&json!({what.0: what.1.to_string(), "error": self.to_string()}))?;
        }
        Err(self)
    }

    fn caused(exit: Exit, what: impl fmt::Display, cause: &dyn Error) -> Self {
        Self::new(exit, format!("{what}: {}", sentence(cause)))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Joins an error and its causes to one sentence. Some errors repeat their cause: that is said once.
pub(crate) fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// Writes to standard output, all at once.
pub(crate) fn print(octets: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(octets)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::local("cannot write to standard output", &error))
}

/// Writes a line for programs to standard output.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(format!("{value}\n").as_bytes())
}
