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

/// Speaks SPDY/2, SPDY/3 and SPDY/3.1 to servers, and measures how they do.
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

    /// Print completions for this shell and exit
    #[arg(long, value_name = "SHELL", exclusive = true)]
    completions: Option<Shell>,

    /// Print the manual page and exit; with a command, that of the command
    #[arg(long, value_name = "COMMAND", exclusive = true, num_args = 0..=1,
          default_missing_value = "spdy", value_parser = manual::PAGES)]
    man: Option<String>,
}

impl Flags {
    /// Reads the command line. Prints and ends the process when that is all it asks for, or when there is a mistake in
    /// it.
    pub(crate) fn from_command_line() -> Command {
        let flags = Self::parse();
        if let Some(text) = manual::wanted(Self::command(), flags.completions, flags.man.as_deref())
        {
            manual::print_and_exit(&text);
        }
        flags
            .command
            .expect("clap insists on an argument, and the others are done")
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
/// Several URLs of one origin are asked for at once, over one session; the bodies come out in the order of the URLs.
/// What has to wait for its turn is kept in memory, 64 MiB at most. Redirects are not followed.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct Get {
    #[arg(value_name = "URL", required = true, value_parser = Url::parse)]
    pub(crate) urls: Vec<Url>,

    /// Send this field, for instance "accept: text/html"; may be given several times
    #[arg(short = 'H', long = "header", value_name = "FIELD", value_parser = header)]
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,

    /// Send this body, or with @FILE that of a file (@- is standard input); the method is POST then
    #[arg(short, long, value_name = "DATA|@FILE")]
    pub(crate) data: Option<String>,

    /// The method of the requests
    #[arg(short = 'X', long = "request", value_name = "METHOD", value_parser = method)]
    pub(crate) method: Option<Method>,

    /// Write the body to this file, - for standard output; given several times, one for each URL
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Vec<PathBuf>,

    /// Write the head of the response before its body, and the trailers behind it
    #[arg(short, long)]
    pub(crate) include: bool,

    /// End with status 5 if a response has status 400 or above
    #[arg(short, long)]
    pub(crate) fail: bool,

    /// Write a line of JSON about each response, and its body only to --output
    #[arg(long)]
    pub(crate) json: bool,

    /// Speak HTTP/1.1
    #[arg(long, conflicts_with = "version")]
    pub(crate) http1: bool,

    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Measures round trips with PING
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct Ping {
    #[arg(value_name = "URL", value_parser = Url::parse)]
    pub(crate) url: Url,

    /// So many round trips
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "5")]
    pub(crate) count: NonZeroU32,

    /// Time from an answer to the next PING, in milliseconds
    #[arg(long, value_name = "MS", default_value = "200")]
    pub(crate) interval: u64,

    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Sends many requests, and says how fast the responses came
///
/// A request takes from when it is sent to the last octet of its response; one that waits for a free stream is sent
/// already. Octets on the wire are those of TCP: TLS and frames are among them.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct Load {
    #[arg(value_name = "URL", value_parser = Url::parse)]
    pub(crate) url: Url,

    /// So many sessions, each a connection of its own
    #[arg(short = 'c', long, value_name = "NUMBER", default_value = "1")]
    pub(crate) sessions: NonZeroU16,

    /// So many requests at once in each session
    #[arg(short = 'm', long, value_name = "NUMBER", default_value = "1")]
    pub(crate) streams: NonZeroU16,

    /// So many requests in all
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "1000")]
    pub(crate) requests: NonZeroU32,

    /// So many requests before, over the same sessions, that are not measured
    #[arg(long, value_name = "NUMBER", default_value = "0")]
    pub(crate) warm_up: u32,

    /// POST so many octets
    #[arg(long, value_name = "OCTETS")]
    pub(crate) body: Option<u32>,

    /// Send this field; may be given several times
    #[arg(short = 'H', long = "header", value_name = "FIELD", value_parser = header)]
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,

    /// So many threads of this program
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    pub(crate) threads: NonZeroU8,

    /// Speak HTTP/2, to compare
    #[arg(long, conflicts_with_all = ["version", "upgrade"])]
    pub(crate) h2: bool,

    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Shows the frames of a recording, with the header fields inside
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct Inspect {
    /// 2, 3 or 3.1
    #[arg(value_parser = version)]
    pub(crate) version: Version,

    /// The octets of one direction of a session, from its beginning; - is standard input
    pub(crate) file: PathBuf,

    /// Write a line of JSON for each frame
    #[arg(long)]
    pub(crate) json: bool,
}

/// How a server is reached.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Reach {
    /// Insist on this version of SPDY: 2, 3 or 3.1
    ///
    /// Without it https:// takes the best that ALPN gives, and plain text is SPDY/3.1.
    #[arg(long, value_name = "VERSION", value_parser = version, aliases = ["spdy", "plain-version"])]
    pub(crate) version: Option<Version>,

    /// Speak in plain text, without TLS, also to https:// URLs
    ///
    /// To http:// URLs it is so by itself. Nothing is negotiated in plain text: SPDY is spoken at once.
    #[arg(long)]
    pub(crate) plain: bool,

    /// Ask by HTTP/1.1 Upgrade for SPDY/3.1
    #[arg(long)]
    pub(crate) upgrade: bool,

    /// Take any certificate
    #[arg(long, short = 'k')]
    pub(crate) insecure: bool,

    /// Trust the certificates in this file (PEM) and no others; without it those that the system trusts
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub(crate) cacert: Option<PathBuf>,

    /// How long connecting may take
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    connect_timeout: NonZeroU32,

    /// Show frames as they pass, with the seconds since the start, on standard error; of HTTP/2 and HTTP/1.1 the heads
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

impl Reach {
    /// How a URL is reached: in plain text, if that is asked for.
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
    Version::from_alpn(id.as_bytes()).ok_or("the versions are 2, 3 and 3.1")
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a field is NAME: VALUE")?;
    let name = name.trim().parse().map_err(|error| format!("{error}"))?;
    let value = HeaderValue::from_str(value.trim()).map_err(|error| format!("{error}"))?;
    Ok((name, value))
}

fn method(text: &str) -> Result<Method, String> {
    match text.parse() {
        Ok(Method::CONNECT) => Err("CONNECT makes a tunnel, for which there is no use here".into()),
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
  0  every request has its whole response, whatever its status
  1  a request got none, or not all of it; a session was lost; a recording is no SPDY
  2  a mistake in the arguments
  3  no connection: the name, TCP, TLS, or a server that does not speak what was insisted on
  4  a file or standard output cannot be read or written
  5  a response has status 400 or above (get --fail, and load)
  Of several, the one of the first URL that failed.

JSON is one object in each line. What gives no result has the member error: the sentence that is said on standard error.";

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
    fn what_makes_no_sense_is_refused() {
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
