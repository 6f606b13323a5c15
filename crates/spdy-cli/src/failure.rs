//! Failures: a message of one sentence, and the exit status that belongs to it.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use serde_json::json;

/// The exit status of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Success = 0,
    /// A request received no complete response, or a recording is not valid SPDY.
    Exchange = 1,
    /// The arguments are invalid. clap uses the same status.
    Usage = 2,
    /// No connection could be opened.
    Connect = 3,
    /// A file or standard output cannot be read or written.
    Local = 4,
    /// A response has status 400 or above, and the command treats that as a failure.
    Status = 5,
    /// Ctrl-C. Shells use this status too.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) again: Again,
    message: String,
}

/// Whether a request that has failed may succeed if it is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// The failure does not pass.
    Never,
    /// It may pass, and the server may have processed the request.
    Perhaps,
    /// It may pass, and the server has not processed the request.
    Safely,
}

impl Failure {
    pub(crate) fn exchange(what: impl fmt::Display, cause: &dyn Error) -> Self {
        Self::caused(Exit::Exchange, what, cause)
    }

    pub(crate) fn local(what: impl fmt::Display, cause: &dyn Error) -> Self {
        Self::caused(Exit::Local, what, cause)
    }

    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            again: Again::Never,
            message: message.into(),
        }
    }

    pub(crate) const fn again(mut self, again: Again) -> Self {
        self.again = again;
        self
    }

    /// Puts what was before the failure in front of the message.
    pub(crate) fn after(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Writes the message to standard error and returns the exit status.
    pub(crate) fn report(&self) -> Exit {
        note(&self.message);
        self.exit
    }

    /// Returns this failure as an `Err`.
    ///
    /// If `json` is set, the failure is first written to standard output as a JSON object: the
    /// `subject`, which is a key and its value, and the message as `error`.
    pub(crate) fn told<T>(self, json: bool, subject: (&str, impl fmt::Display)) -> Result<T, Self> {
        let (key, value) = subject;
        if json {
            print_json(&json!({key: value.to_string(), "error": self.to_string()}))?;
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

/// Joins an error and its causes into one sentence.
///
/// Some errors repeat the text of their cause. The sentence contains that text once.
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

/// Writes a message to standard error. If that is closed, the exit status still reports a failure.
pub(crate) fn note(message: &str) {
    _ = writeln!(io::stderr(), "spdy: {}", shown(message));
}

/// Escapes what could control a terminal. Line breaks and tabs stay.
pub(crate) fn shown(text: &str) -> String {
    let is_control = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            letter if is_control(letter) => shown.extend(letter.escape_default()),
            letter => shown.push(letter),
        }
    }
    shown
}

/// Writes all of `bytes` to standard output and flushes it.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::local("cannot write to standard output", &error))
}

/// Writes a JSON value to standard output as one line, in which nothing controls a terminal.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(json_line(value).as_bytes())
}

/// JSON itself escapes only the control characters below U+0020.
fn json_line(value: &serde_json::Value) -> String {
    let mut line = String::new();
    for letter in value.to_string().chars() {
        match letter {
            letter if letter.is_control() => line += &format!("\\u{:04x}", u32::from(letter)),
            letter => line.push(letter),
        }
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_json_has_no_control_character_and_the_same_value() {
        let controls = (0..0xa0).filter_map(char::from_u32).collect::<String>() + "\u{a0}\u{1f600}";
        let value = json!({ &*controls: controls });
        let line = json_line(&value);
        let line = line.strip_suffix('\n').unwrap();
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(line.contains("\\u007f\\u0080"), "{line:?}");
        assert!(line.contains("\\u009f\u{a0}\u{1f600}"), "{line:?}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(line).unwrap(),
            value
        );
    }
}
