//! What a request for exec or attach asks for.

use std::fmt;

/// The streams of an exec or attach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// The client sends input.
    pub stdin: bool,
    /// The client takes output.
    pub stdout: bool,
    /// The client takes errors. Means nothing with a terminal, where they are part of the output.
    pub stderr: bool,
    /// The command has a terminal.
    pub tty: bool,
}

impl Streams {
    /// Whether there is any stream to carry.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        !(self.stdin || self.stdout || self.stderr)
    }

    /// Whether errors come on a stream of their own.
    #[must_use]
    pub const fn has_stderr(self) -> bool {
        self.stderr && !self.tty
    }
}

/// The query of an exec or attach request, as the API server gets it (`stdin=true`) or as the kubelet gets it
/// (`input=1`). Requests to a container runtime have none: their options came before, with the token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The command and its arguments, each as the client gave it: no shell is meant. Empty for attach.
    pub command: Vec<String>,
    /// The container of the pod, if the client names one.
    pub container: Option<String>,
    /// The streams.
    pub streams: Streams,
}

impl Options {
    /// Reads a query, in which values are form-encoded. What is not known is passed over.
    ///
    /// # Errors
    ///
    /// [`NoStreams`], to be answered with 400.
    pub fn from_query(query: &str) -> Result<Self, NoStreams> {
        let mut options = Self::default();
        let streams = &mut options.streams;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let is_true = matches!(&*value, "true" | "1");
            match &*name {
                "command" => options.command.push(value.into_owned()),
                "container" => {
                    options.container = Some(value.into_owned()).filter(|v| !v.is_empty())
                }
                "stdin" | "input" => streams.stdin = is_true,
                "stdout" | "output" => streams.stdout = is_true,
                "stderr" | "error" => streams.stderr = is_true,
                "tty" => streams.tty = is_true,
                _ => {}
            }
        }
        // A terminal has no other errors than its output.
        streams.stderr = streams.has_stderr();
        if options.streams.is_empty() {
            return Err(NoStreams);
        }
        Ok(options)
    }
}

/// A request asks for none of stdin, stdout and stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoStreams;

impl fmt::Display for NoStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("you must specify at least 1 of stdin, stdout, stderr")
    }
}

impl std::error::Error for NoStreams {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_of_kubectl_is_read() {
        let query = "command=sh&command=-c&command=echo+%22a%2Bb%22%0A&command=&container=demo\
                     &stderr=true&stdin=true&stdout=true";
        let options = Options::from_query(query).unwrap();
        assert_eq!(options.command, ["sh", "-c", "echo \"a+b\"\n", ""]);
        assert_eq!(options.container.as_deref(), Some("demo"));
        let streams = Streams {
            stdin: true,
            stdout: true,
            stderr: true,
            tty: false,
        };
        assert_eq!(options.streams, streams);
    }

    #[test]
    fn the_query_to_a_kubelet_is_read() {
        let options = Options::from_query("command=top&input=1&output=1&error=1&tty=1").unwrap();
        let streams = Streams {
            stdin: true,
            stdout: true,
            stderr: false,
            tty: true,
        };
        assert_eq!(options.streams, streams);
    }

    #[test]
    fn no_streams_are_refused() {
        assert_eq!(Options::from_query("command=true"), Err(NoStreams));
        assert_eq!(
            Options::from_query("command=true&stdout=false"),
            Err(NoStreams)
        );
        assert_eq!(
            Options::from_query("stderr=1&tty=1"),
            Err(NoStreams),
            "a terminal has no stderr"
        );
    }
}
