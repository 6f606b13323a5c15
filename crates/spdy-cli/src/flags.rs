//! The command line.

mod get;
mod load;
mod reach;
mod values;

use std::{num::NonZeroU32, path::PathBuf};

use clap::{
    Args, CommandFactory, Error, Parser, Subcommand,
    error::{ContextKind, ContextValue},
};
use clap_complete::Shell;
use spdy_frame::Version;

pub(crate) use self::{
    get::{Get, Sent},
    load::{Load, WarmUp},
    reach::{Reach, Via},
};
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
        let flags = Self::try_parse().unwrap_or_else(|error| without_secret(error).exit());
        if let Some(text) = manual::wanted(Self::command(), flags.completions, flags.man.as_deref())
        {
            manual::print_and_exit(&text);
        }
        flags
            .command
            .expect("clap requires an argument, and the options without a command are handled")
    }
}

/// Hides what may be a user and a password in the value that an error is about.
fn without_secret(mut error: Error) -> Error {
    let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) else {
        return error;
    };
    let is_secret = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(name)) => SECRETS.iter().any(|secret| name.starts_with(secret)),
        _ => false,
    };
    let hidden = match value.rsplit_once('@') {
        _ if is_secret => "***".to_owned(),
        Some((_, host)) => format!("***@{host}"),
        None => return error,
    };
    error.insert(ContextKind::InvalidValue, ContextValue::String(hidden));
    error
}

/// The options of which a wrong value may be a secret.
const SECRETS: [&str; 3] = ["--user ", "--proxy-user ", "--header "];

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Get(Box<Get>),
    Ping(Box<Ping>),
    Load(Box<Load>),
    Inspect(Inspect),
}

/// Measures round-trip times with PING frames
///
/// Ctrl-C ends it with a report.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS, allow_negative_numbers = true)]
pub(crate) struct Ping {
    /// URL of the server
    #[arg(value_name = "URL", value_parser = Url::parse)]
    pub(crate) url: Url,

    /// Number of round trips
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "5",
          value_parser = values::positive::<NonZeroU32>)]
    pub(crate) count: NonZeroU32,

    /// Time between a reply and the next PING, in milliseconds
    #[arg(long, value_name = "MS", default_value = "200", value_parser = values::whole::<u64>)]
    pub(crate) interval: u64,

    /// Write the result as JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) reach: Reach,

    #[command(flatten)]
    pub(crate) via: Via,
}

/// Shows the frames of a recording with their header fields
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS, allow_negative_numbers = true)]
pub(crate) struct Inspect {
    /// The version of the session: 2, 3 or 3.1
    #[arg(value_parser = values::version)]
    pub(crate) version: Version,

    /// File with the bytes of one direction of a session, from its start (- is standard input)
    pub(crate) file: PathBuf,

    /// Write one line of JSON for each frame
    #[arg(long)]
    pub(crate) json: bool,
}

const AFTER_HELP: &str = "\
Examples:
  spdy get --insecure https://localhost:8443/hello
  spdy get -v --version 3 http://127.0.0.1:8080/ http://127.0.0.1:8080/style.css
  spdy get -L -O https://localhost:8443/logo.svg
  spdy get -T big.bin https://localhost:8443/files/
  spdy get -x http://proxy.test:3128 -U me:secret https://a.test/
  spdy ping -n 10 https://localhost:8443/
  spdy load -c 10 -m 10 -n 100000 http://127.0.0.1:8080/hello
  spdy load -c 10 -m 10 -D 30s --rate 5000 --warm-up 2s --h2 http://127.0.0.1:8080/hello
  spdy inspect 3.1 client-to-server.bin

Environment:
  SSLKEYLOGFILE  a file to which the secrets of TLS are appended, for programs like Wireshark
  http_proxy, HTTPS_PROXY, ALL_PROXY, NO_PROXY  the proxies of get and ping, and hosts without one

Exit status:
  0  every request received a complete response, of any status
  1  a response is missing or incomplete, a session was lost, or a recording is not valid SPDY
  2  the arguments are invalid
  3  no connection: name lookup, TCP or TLS failed, the server does not support the protocol, or
     the proxy refuses
  4  a file or standard output could not be read or written
  5  a response has status 400 or above (get --fail and --fail-with-body, and load)
  130  Ctrl-C; get has kept what had arrived, ping and load have reported on what was complete
  If several URLs fail, the status is that of the first one.

JSON output is one object per line. If a command or a URL fails, the object has the member \"error\"
with the message that is also written to standard error.";

const EXIT_STATUS: &str = "See spdy --help for the exit status.";

#[cfg(test)]
mod tests;
