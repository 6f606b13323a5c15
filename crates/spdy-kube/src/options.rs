//! The options of a request for exec or attach.

use std::{borrow::Cow, fmt};

mod ports;

pub(crate) use self::ports::parse_port;
pub use self::ports::{InvalidPorts, Ports};

/// The streams of an exec or attach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// Whether the client sends input.
    pub stdin: bool,
    /// Whether the client wants the output.
    pub stdout: bool,
    /// Whether the client wants the errors. Has no effect with a terminal, where errors are part of
    /// the output.
    pub stderr: bool,
    /// Whether the command has a terminal.
    pub tty: bool,
}

impl Streams {
    /// An input and both outputs, without a terminal.
    pub const PIPES: Self = Self {
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };

    /// Returns whether there is no stream at all.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        !(self.stdin || self.stdout || self.stderr)
    }

    /// Returns whether errors have a stream of their own.
    #[must_use]
    pub const fn has_stderr(self) -> bool {
        self.stderr && !self.tty
    }
}

/// The query of a request for exec or attach, in the form of the API server (`stdin=true`) or of
/// the kubelet (`input=1`). Requests to a container runtime have no query, because the runtime got
/// their options before, with the token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The command and its arguments, as the client gave them. They are not meant for a shell.
    /// Empty for attach.
    pub command: Vec<String>,
    /// The container of the pod, if the request names one.
    pub container: Option<String>,
    /// The streams.
    pub streams: Streams,
}

impl Options {
    /// Parses a query with form-encoded values, as the servers of Kubernetes do. The first of
    /// several values of one parameter counts, only `0` and `false` are false, and a pair that
    /// contains `;` or a broken `%` escape is ignored. These details matter for security: if a
    /// policy reads another container than the server behind it, the policy can be bypassed.
    ///
    /// Unknown parameters are ignored.
    ///
    /// # Errors
    ///
    /// [`NoStreams`], if the query asks for no stream. Answer with 400.
    pub fn from_query(query: &str) -> Result<Self, NoStreams> {
        let mut options = Self::default();
        let mut first = First::default();
        for (name, value) in pairs(query) {
            match &*name {
                "command" => options.command.push(value.into_owned()),
                "container" => _ = options.container.get_or_insert_with(|| value.into_owned()),
                "stdin" => first.stdin.see(&value),
                "input" => first.input.see(&value),
                "stdout" => first.stdout.see(&value),
                "output" => first.output.see(&value),
                "stderr" => first.stderr.see(&value),
                "error" => first.error.see(&value),
                "tty" => first.tty.see(&value),
                _ => {}
            }
        }
        options.container = options.container.filter(|name| !name.is_empty());
        options.streams = first.streams();
        // With a terminal, errors are part of the output.
        options.streams.stderr = options.streams.has_stderr();
        if options.streams.is_empty() {
            return Err(NoStreams);
        }
        Ok(options)
    }

    /// Returns the query that asks an API server for these options.
    /// [`from_query`](Self::from_query) parses it back to the same options.
    #[must_use]
    pub fn to_query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(self.command.iter().map(|argument| ("command", argument)));
        if let Some(container) = &self.container {
            query.append_pair("container", container);
        }
        let Streams {
            stdin,
            stdout,
            stderr,
            tty,
        } = self.streams;
        for (name, is_asked) in [
            ("stderr", stderr),
            ("stdin", stdin),
            ("stdout", stdout),
            ("tty", tty),
        ] {
            if is_asked {
                query.append_pair(name, "true");
            }
        }
        query.finish()
    }
}

/// Returns the pairs of a query as Kubernetes reads them: a pair that contains `;`, or a `%`
/// without two hexadecimal digits behind it, is ignored.
fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let pairs = query.split('&');
    let pairs = pairs.filter(|pair| !pair.contains(';') && is_escaped(pair));
    pairs.flat_map(|pair| form_urlencoded::parse(pair.as_bytes()))
}

/// Returns whether every `%` begins an escape.
fn is_escaped(pair: &str) -> bool {
    let mut escapes = pair.split('%').skip(1).map(str::as_bytes);
    escapes.all(|rest| rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit))
}

/// The switches of a query, by their names at an API server and at a kubelet.
#[derive(Debug, Default)]
struct First {
    stdin: Switch,
    input: Switch,
    stdout: Switch,
    output: Switch,
    stderr: Switch,
    error: Switch,
    tty: Switch,
}

impl First {
    const fn streams(&self) -> Streams {
        Streams {
            stdin: self.stdin.is_on() || self.input.is_on(),
            stdout: self.stdout.is_on() || self.output.is_on(),
            stderr: self.stderr.is_on() || self.error.is_on(),
            tty: self.tty.is_on(),
        }
    }
}

/// A parameter that is true or false. The first value counts.
#[derive(Debug, Default)]
struct Switch(Option<bool>);

impl Switch {
    fn see(&mut self, value: &str) {
        let is_false = value == "0" || value.eq_ignore_ascii_case("false");
        self.0.get_or_insert(!is_false);
    }

    const fn is_on(&self) -> bool {
        matches!(self.0, Some(true))
    }
}

/// The error for a request without stdin, stdout and stderr.
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
    fn a_query_that_is_written_is_read_again() {
        let options = Options {
            command: ["sh", "-c", "a=1; b&c+%20 'ü'\n", ""]
                .map(str::to_owned)
                .into(),
            container: Some("demo".to_owned()),
            streams: Streams {
                stdin: true,
                stdout: true,
                stderr: true,
                tty: false,
            },
        };
        let query = options.to_query();
        assert_eq!(Options::from_query(&query), Ok(options), "{query}");
        let attach = Options {
            streams: Streams {
                stdout: true,
                tty: true,
                ..Streams::default()
            },
            ..Options::default()
        };
        assert_eq!(attach.to_query(), "stdout=true&tty=true");
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
    fn a_query_is_read_as_the_servers_of_kubernetes_read_it() {
        let read =
            |query: &str| Options::from_query(query).map(|it| (it.streams.stdout, it.container));
        for value in ["=True", "=yes", "=", "", "=1", "=true&stdout=false"] {
            let read = read(&format!("stdout{value}"));
            assert_eq!(read, Ok((true, None)), "{value}");
        }
        for value in ["=false", "=0", "=FALSE", "=false&stdout=true", "=true;x"] {
            assert_eq!(read(&format!("stdout{value}")), Err(NoStreams), "{value}");
        }
        let container = |query: &str| read(&format!("stdout=1&{query}")).unwrap().1;
        let secret = Some("secret".to_owned());
        assert_eq!(container("container=secret&container=demo"), secret);
        assert_eq!(container("container=demo;x&container=secret"), secret);
        for broken in ["%zz", "demo%", "demo%1", "%\u{fc}\u{fc}", "%%20", "%3"] {
            let query = format!("container={broken}&container=secret");
            assert_eq!(container(&query), secret, "{query}");
        }
        assert_eq!(container("container%=demo&container=secret"), secret);
        assert_eq!(container("container=demo%3Bx").as_deref(), Some("demo;x"));
        assert_eq!(container("container=100%25").as_deref(), Some("100%"));
        assert_eq!(container("container=&container=demo"), None);
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
