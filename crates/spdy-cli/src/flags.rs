//! The command line.

use std::{
    num::{NonZeroU8, NonZeroU16, NonZeroU32},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use http::{HeaderName, HeaderValue, Method};
use spdy_frame::Version;

use super::{manual, origin::Url};

/// A command-line client for SPDY/2, SPDY/3 and SPDY/3.1.
#[derive(Debug, Parser)]
#[command(
    name = "spdy",
    version,
    after_help = AFTER_HELP,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub(crate) struct Flags {
    #[command(subcommand)]
    command: Option<Command>,

    /// Print the completions for this shell and exit
    #[arg(long, value_name = "SHELL", exclusive = true)]
    completions: Option<Shell>,

    /// Print the manual page and exit; with a command, print the page of that command
    #[arg(long, value_name = "COMMAND", exclusive = true, num_args = 0..=1,
          default_missing_value = "spdy", value_parser = manual::PAGES)]
    man: Option<String>,
}

impl Flags {
    /// Parses the command line and returns the command.
    ///
    /// Ends the process if the command line only asks for a text, such as `--help` or `--man`, or
    /// if it is invalid.
    pub(crate) fn from_command_line() -> Command {
        let flags = Self::parse();
        if let Some(text) = manual::wanted(Self::command(), flags.completions, flags.man.as_deref())
        {
            manual::print_and_exit(&text);
        }
        flags
            .command
            .expect("clap requires an argument, and the options without a command are handled")
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Get(Get),
    Ping(Ping),
    Load(Load),
    Inspect(Inspect),
}

/// Sends requests and writes the bodies of the responses to standard output
///
/// Several URLs of one origin are requested at once, over one session. The bodies are written in
/// the order of the URLs: a body that arrives before its turn is kept in memory, up to 64 MiB for
/// all of them. Redirects are not followed.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct Get {
    /// URLs to request
    #[arg(value_name = "URL", required = true, value_parser = Url::parse)]
    pub(crate) urls: Vec<Url>,

    /// Add a header field, for example "accept: text/html"; can be repeated
    #[arg(short = 'H', long = "header", value_name = "FIELD", value_parser = header)]
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,

    /// Send this text, or the contents of FILE (@- is standard input), as the body of a POST
    #[arg(short, long, value_name = "DATA|@FILE")]
    pub(crate) data: Option<String>,

    /// Use this request method
    #[arg(short = 'X', long = "request", value_name = "METHOD", value_parser = method)]
    pub(crate) method: Option<Method>,

    /// Write the body to this file (- is standard output); give one for each URL, in order
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Vec<PathBuf>,

    /// Write the response head before the body, and the trailers after it
    #[arg(short, long)]
    pub(crate) include: bool,

    /// Exit with status 5 if a response has status 400 or above
    #[arg(short, long)]
    pub(crate) fail: bool,

    /// Write one line of JSON for each response; bodies are written only to --output
    #[arg(long)]
    pub(crate) json: bool,

    /// Use HTTP/1.1
    #[arg(long, conflicts_with = "version")]
    pub(crate) http1: bool,

    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Measures round-trip times with PING frames
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct Ping {
    /// URL of the server
    #[arg(value_name = "URL", value_parser = Url::parse)]
    pub(crate) url: Url,

    /// Number of round trips
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "5")]
    pub(crate) count: NonZeroU32,

    /// Time between a reply and the next PING, in milliseconds
    #[arg(long, value_name = "MS", default_value = "200")]
    pub(crate) interval: u64,

    /// Write the result as JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Sends many requests and reports the rate and the latency of the responses
///
/// Latency is the time from sending a request to the last byte of its response. It includes the
/// time that the request waits for a free stream. Bytes on the wire are those of TCP, which include
/// TLS and framing.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct Load {
    /// URL to request
    #[arg(value_name = "URL", value_parser = Url::parse)]
    pub(crate) url: Url,

    /// Number of sessions, each on its own connection
    #[arg(short = 'c', long, value_name = "NUMBER", default_value = "1")]
    pub(crate) sessions: NonZeroU16,

    /// Number of concurrent requests in each session
    #[arg(short = 'm', long, value_name = "NUMBER", default_value = "1")]
    pub(crate) streams: NonZeroU16,

    /// Total number of requests
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "1000")]
    pub(crate) requests: NonZeroU32,

    /// Number of requests that are sent first, over the same sessions, and are not measured
    #[arg(long, value_name = "NUMBER", default_value = "0")]
    pub(crate) warm_up: u32,

    /// Send a POST with a body of this many bytes
    #[arg(long, value_name = "BYTES")]
    pub(crate) body: Option<u32>,

    /// Add a header field; can be repeated
    #[arg(short = 'H', long = "header", value_name = "FIELD", value_parser = header)]
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,

    /// Number of threads of this program
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    pub(crate) threads: NonZeroU8,

    /// Use HTTP/2, for comparison
    #[arg(long, conflicts_with_all = ["version", "upgrade"])]
    pub(crate) h2: bool,

    /// Write the report as JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Shows the frames of a recording with their header fields
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct Inspect {
    /// The version of the session: 2, 3 or 3.1
    #[arg(value_parser = version)]
    pub(crate) version: Version,

    /// File with the bytes of one direction of a session, from its start (- is standard input)
    pub(crate) file: PathBuf,

    /// Write one line of JSON for each frame
    #[arg(long)]
    pub(crate) json: bool,
}

/// The options of the connection to a server.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Reach {
    /// Require this version of SPDY: 2, 3 or 3.1
    ///
    /// By default, https:// URLs use the newest version that ALPN negotiates, and plain text uses
    /// SPDY/3.1.
    #[arg(long, value_name = "VERSION", value_parser = version, aliases = ["spdy", "plain-version"])]
    pub(crate) version: Option<Version>,

    /// Use plain text, without TLS, also for https:// URLs
    ///
    /// http:// URLs always use plain text. Plain text has no negotiation: the client sends SPDY
    /// frames at once.
    #[arg(long)]
    pub(crate) plain: bool,

    /// Request SPDY/3.1 by HTTP/1.1 Upgrade
    #[arg(long)]
    pub(crate) upgrade: bool,

    /// Accept any server certificate
    #[arg(long, short = 'k')]
    pub(crate) insecure: bool,

    /// Trust only the certificates in this PEM file, instead of those of the system
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub(crate) cacert: Option<PathBuf>,

    /// Timeout for opening a connection, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    connect_timeout: NonZeroU32,

    /// Show each frame, with the seconds since the start, on standard error
    ///
    /// For HTTP/2 and HTTP/1.1 it shows the heads of requests and responses.
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

impl Reach {
    /// Returns the URL to connect to, which differs from `url` if `--plain` is set.
    pub(crate) fn reached(&self, url: &Url) -> Url {
        if self.plain {
            url.in_plain_text()
        } else {
            url.clone()
        }
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.connect_timeout.get().into())
    }
}

fn version(text: &str) -> Result<Version, &'static str> {
    let number = text.strip_prefix("spdy/").unwrap_or(text);
    let id = format!("spdy/{number}");
    Version::from_alpn(id.as_bytes()).ok_or("the version must be 2, 3 or 3.1")
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or("a header field must have the form NAME: VALUE")?;
    let name = name.trim().parse().map_err(|error| format!("{error}"))?;
    let value = HeaderValue::from_str(value.trim()).map_err(|error| format!("{error}"))?;
    Ok((name, value))
}

fn method(text: &str) -> Result<Method, String> {
    match text.parse() {
        Ok(Method::CONNECT) => Err("the method CONNECT is not supported".into()),
        Ok(method) => Ok(method),
        Err(error) => Err(format!("{error}")),
    }
}

const AFTER_HELP: &str = "\
Examples:
  spdy get --insecure https://localhost:8443/hello
  spdy get -v --version 3 http://127.0.0.1:8080/ http://127.0.0.1:8080/style.css
  spdy get -o big.bin https://localhost:8443/bytes/100000000
  spdy ping -n 10 https://localhost:8443/
  spdy load -c 10 -m 10 -n 100000 http://127.0.0.1:8080/hello
  spdy load -c 10 -m 10 -n 100000 --h2 http://127.0.0.1:8080/hello
  spdy inspect 3.1 client-to-server.bin

Exit status:
  0  every request received a complete response, of any status
  1  a response is missing or incomplete, a session was lost, or a recording is not valid SPDY
  2  the arguments are invalid
  3  no connection: name lookup, TCP or TLS failed, or the server does not support the protocol
  4  a file or standard output could not be read or written
  5  a response has status 400 or above (get --fail, and load)
  If several URLs fail, the status is that of the first one.

JSON output is one object per line. If a command or a URL fails, the object has the member \"error\"
with the message that is also written to standard error.";

const EXIT_STATUS: &str = "See spdy --help for the exit status.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Flags::command().debug_assert();
    }

    #[test]
    fn invalid_command_lines_are_refused() {
        for words in [
            "spdy",
            "spdy --man get http://a/",
            "spdy --man server",
            "spdy --completions",
            "spdy get",
            "spdy get a.test",
            "spdy get --version 4 http://a/",
            "spdy get --http1 --version 3 http://a/",
            "spdy get -H nothing http://a/",
            "spdy get -X CONNECT http://a/",
            "spdy get --insecure --cacert f https://a/",
            "spdy ping -n 0 http://a/",
            "spdy load --h2 --version 3 http://a/",
            "spdy load -c 0 http://a/",
            "spdy inspect 1 f",
        ] {
            assert!(Flags::try_parse_from(words.split(' ')).is_err(), "{words}");
        }
    }
}
