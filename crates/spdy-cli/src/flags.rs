//! The command line.

mod values;

use std::{
    num::{NonZeroU8, NonZeroU16, NonZeroU32},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clap::{
    ArgAction, Args, CommandFactory, Error, Parser, Subcommand,
    error::{ContextKind, ContextValue},
};
use clap_complete::Shell;
use http::{HeaderName, HeaderValue, Method, header::HOST};
use spdy_frame::Version;

use super::{
    get::{Format, Start},
    manual,
    origin::Url,
    proxies::Chosen,
    route::Route,
    tls::Trust,
};

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

/// Sends requests and writes the bodies of the responses to standard output
///
/// Several URLs of one origin are requested at once, over one session. The bodies are written in
/// the order of the URLs: a body that arrives before its turn is kept in memory, up to 64 MiB for
/// all of them. Ctrl-C keeps what has arrived, and says how much that is.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS, allow_negative_numbers = true)]
pub(crate) struct Get {
    /// URLs to request
    #[arg(value_name = "URL", required = true, value_parser = Url::parse)]
    pub(crate) urls: Vec<Url>,

    /// Follow redirects, up to 50
    ///
    /// A redirect to another origin does not receive the credentials. With status 301 or 302 a POST
    /// becomes a GET, and with 303 every method does.
    #[arg(short = 'L', long)]
    pub(crate) location: bool,

    /// Maximum time for all requests, for example 10, 1.5s or 2m
    ///
    /// A command that then still waits for a program which reads its output or writes its input
    /// ends a second later.
    #[arg(short, long, value_name = "TIME", value_parser = values::time)]
    pub(crate) max_time: Option<Duration>,

    /// Send a request again up to this many times if the failure may pass
    ///
    /// These failures may pass: no connection, a connection that is lost before the response, and
    /// the status 408, 429, 500, 502, 503 or 504. A request that must not be processed twice, like
    /// a POST, is sent again only if the server has certainly not processed it: if no connection
    /// could be opened, or if the server has refused it unread. After a redirect it is not sent
    /// again.
    #[arg(long, value_name = "NUMBER", default_value = "0", hide_default_value = true,
          value_parser = values::whole::<u32>)]
    pub(crate) retry: u32,

    /// Time before a request is sent again
    ///
    /// By default it is 1 s, then twice as long each time, up to 10 minutes; or what the server
    /// asks for with retry-after.
    #[arg(long, value_name = "TIME", value_parser = values::time, requires = "retry")]
    pub(crate) retry_delay: Option<Duration>,

    /// Use HTTP/2
    #[arg(long, visible_alias = "h2", conflicts_with_all = ["version", "upgrade", "http1"])]
    pub(crate) http2: bool,

    /// Use HTTP/1.1
    #[arg(long, visible_alias = "http1.1", conflicts_with = "version")]
    pub(crate) http1: bool,

    #[command(flatten)]
    pub(crate) sent: Sent,

    #[command(flatten)]
    pub(crate) received: Received,

    #[command(flatten)]
    pub(crate) reach: Reach,

    #[command(flatten)]
    pub(crate) via: Via,
}

/// What the requests of `get` contain.
#[derive(Debug, Args)]
#[command(next_help_heading = "Request")]
pub(crate) struct Sent {
    /// Add a header field, for example "accept: text/html"; can be repeated
    ///
    /// It replaces the field of the same name that other options make, or that is usual. NAME:
    /// takes that field away, and NAME; is a field without a value. The field host is for the
    /// server alone, and does not change where a request goes: a proxy always opens a tunnel for
    /// it.
    #[arg(short = 'H', long = "header", value_name = "FIELD", value_parser = values::header)]
    pub(crate) headers: Vec<(HeaderName, Option<HeaderValue>)>,

    /// Use this request method
    #[arg(short = 'X', long = "request", value_name = "METHOD", value_parser = values::method,
          conflicts_with = "head")]
    pub(crate) method: Option<Method>,

    /// Send HEAD, and write the heads of the responses
    #[arg(short = 'I', long, conflicts_with_all = ["data", "data_binary", "data_urlencode", "form", "upload_file"])]
    pub(crate) head: bool,

    /// Send this text, or FILE without its line breaks (@- is standard input), as the body of a
    /// POST; several are joined with "&"
    #[arg(short, long, value_name = "DATA|@FILE")]
    pub(crate) data: Vec<String>,

    /// The same as --data, but a file is sent as it is
    #[arg(long, value_name = "DATA|@FILE")]
    pub(crate) data_binary: Vec<String>,

    /// The same as --data, but the text is encoded: TEXT, NAME=TEXT, @FILE or NAME@FILE, of which
    /// the name is sent as it is; they follow the other data
    #[arg(long, value_name = "DATA")]
    pub(crate) data_urlencode: Vec<String>,

    /// Send the data in the query of the URL, with GET
    #[arg(short = 'G', long, conflicts_with_all = ["form", "upload_file"])]
    pub(crate) get: bool,

    /// Send a field of a form: NAME=TEXT, NAME=@FILE for a file, or NAME=<FILE for its contents;
    /// can be repeated
    ///
    /// The body is multipart/form-data. The parameters ";type=" and ";filename=" can follow a file,
    /// and ";type=" a text.
    #[arg(short = 'F', long, value_name = "NAME=VALUE",
          conflicts_with_all = ["data", "data_binary", "data_urlencode", "upload_file"])]
    pub(crate) form: Vec<String>,

    /// Send FILE (- is standard input) as the body of a PUT, while it is read
    ///
    /// If the path of the URL ends with "/", the name of the file is added to it.
    #[arg(short = 'T', long, value_name = "FILE",
          conflicts_with_all = ["data", "data_binary", "data_urlencode"])]
    pub(crate) upload_file: Option<PathBuf>,

    /// Send this user and password by basic authentication
    #[arg(short, long, value_name = "USER:PASSWORD", value_parser = values::user)]
    pub(crate) user: Option<HeaderValue>,

    /// Use this text for the field user-agent
    #[arg(short = 'A', long, value_name = "TEXT", value_parser = values::field)]
    pub(crate) user_agent: Option<HeaderValue>,

    /// Ask for a body that is compressed with gzip, and write it decompressed
    #[arg(long, conflicts_with = "continue_at")]
    pub(crate) compressed: bool,
}

impl Sent {
    /// Returns whether a server is to get another host than that of the URL.
    pub(crate) fn has_host(&self) -> bool {
        let mut fields = self.headers.iter();
        fields.any(|(name, value)| name == HOST && value.is_some())
    }
}

/// What `get` does with the responses.
#[derive(Debug, Args)]
#[command(next_help_heading = "Response")]
pub(crate) struct Received {
    /// Write the body to this file (- is standard output); give one for each URL, in order
    #[arg(short, long, value_name = "FILE", conflicts_with = "remote_name")]
    pub(crate) output: Vec<PathBuf>,

    /// Write each body to a file with the last part of the path of its URL as its name
    #[arg(short = 'O', long, action = ArgAction::Count)]
    pub(crate) remote_name: u8,

    /// Request the body from this byte on, and append it to the file; - continues each file at its
    /// end
    #[arg(short = 'C', long, value_name = "BYTE", value_parser = values::start,
          conflicts_with_all = ["head", "data", "data_binary", "data_urlencode", "form", "upload_file"])]
    pub(crate) continue_at: Option<Start>,

    /// Write the response head before the body, and the trailers after it
    #[arg(short, long)]
    pub(crate) include: bool,

    /// Exit with status 5 if a response has status 400 or above, and do not write its body
    #[arg(short, long)]
    pub(crate) fail: bool,

    /// The same as --fail, but the body is written
    #[arg(long, conflicts_with = "fail")]
    pub(crate) fail_with_body: bool,

    /// Show no progress, and no messages about URLs
    #[arg(short, long)]
    pub(crate) silent: bool,

    /// Show messages although --silent is set
    #[arg(short = 'S', long)]
    pub(crate) show_error: bool,

    /// Write this text after each response, with %{NAME} replaced
    ///
    /// The names are content_type, errormsg, exitcode, http_code, method, num_redirects, protocol,
    /// size_download, size_upload, time_starttransfer, time_total, url, and url_effective. Times
    /// are in seconds. \n is a line break, \t a tab, and %% a percent sign.
    #[arg(short, long, value_name = "FORMAT", value_parser = Format::parse,
          conflicts_with = "json")]
    pub(crate) write_out: Option<Format>,

    /// Write one line of JSON for each response; bodies are written only to files
    #[arg(long)]
    pub(crate) json: bool,
}

impl Received {
    /// Returns whether messages are shown.
    pub(crate) const fn is_loud(&self) -> bool {
        !self.silent || self.show_error
    }
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

/// Sends many requests and reports the rate and the latency of the responses
///
/// Latency is the time from sending a request to the last byte of its response. It includes the
/// time that the request waits for a free stream; with --rate it begins when the request was due.
/// Bytes on the wire are those of TCP, which include TLS and framing. A connection that ends is
/// opened again: for up to --connect-timeout, if the server refuses. Ctrl-C ends the requests, and
/// the report is about those that are complete. No proxy is used, also none of the environment.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS, allow_negative_numbers = true)]
pub(crate) struct Load {
    /// URLs to request, one after the other, all of one origin
    #[arg(value_name = "URL", required = true, value_parser = Url::parse)]
    pub(crate) urls: Vec<Url>,

    /// Number of sessions, each on its own connection
    ///
    /// Over HTTP/1.1 each concurrent request has a connection of its own, up to 256 for each
    /// session. Further requests wait.
    #[arg(short = 'c', long, value_name = "NUMBER", default_value = "1",
          value_parser = values::positive::<NonZeroU16>)]
    pub(crate) sessions: NonZeroU16,

    /// Number of concurrent requests in each session
    #[arg(short = 'm', long, value_name = "NUMBER", default_value = "1",
          value_parser = values::positive::<NonZeroU16>)]
    pub(crate) streams: NonZeroU16,

    /// Total number of requests
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "1000",
          value_parser = values::positive::<NonZeroU32>)]
    pub(crate) requests: NonZeroU32,

    /// Send requests for this time, for example 10, 1.5s or 2m, instead of a number of them
    ///
    /// Requests that have no response then are unfinished, and not failures.
    #[arg(short = 'D', long, value_name = "TIME", value_parser = values::time,
          conflicts_with = "requests")]
    pub(crate) duration: Option<Duration>,

    /// Time for each request, for example 10, 1.5s or 2m; one that takes longer is a failure
    #[arg(long, value_name = "TIME", default_value = "30", value_parser = values::time)]
    pub(crate) timeout: Duration,

    /// Number of requests that are sent per second, over all sessions
    ///
    /// By default each request follows the response before it.
    #[arg(long, value_name = "NUMBER", value_parser = values::positive::<NonZeroU32>)]
    pub(crate) rate: Option<NonZeroU32>,

    /// Number of requests, or the time with a unit such as 2s, before the measurement, over the
    /// same sessions
    #[arg(long, value_name = "NUMBER|TIME", value_parser = values::warm_up)]
    pub(crate) warm_up: Option<WarmUp>,

    /// Use this request method
    #[arg(short = 'X', long = "request", value_name = "METHOD", value_parser = values::method)]
    pub(crate) method: Option<Method>,

    /// Send a POST with a body of this many bytes
    #[arg(long, value_name = "BYTES", value_parser = values::length)]
    pub(crate) body: Option<u32>,

    /// Send a POST with this text, or with the contents of FILE (@- is standard input)
    #[arg(short, long, value_name = "DATA|@FILE", conflicts_with = "body")]
    pub(crate) data: Option<String>,

    /// Add a header field, for example "accept: text/html"; can be repeated
    ///
    /// NAME: takes away a field that is usual, and NAME; is a field without a value.
    #[arg(short = 'H', long = "header", value_name = "FIELD", value_parser = values::header)]
    pub(crate) headers: Vec<(HeaderName, Option<HeaderValue>)>,

    /// Number of threads of this program
    #[arg(long, value_name = "NUMBER", default_value = "1",
          value_parser = values::positive::<NonZeroU8>)]
    pub(crate) threads: NonZeroU8,

    /// Use HTTP/2, for comparison
    #[arg(long, visible_alias = "http2", conflicts_with_all = ["version", "upgrade", "http1"])]
    pub(crate) h2: bool,

    /// Use HTTP/1.1, for comparison
    #[arg(long, visible_alias = "h1", conflicts_with_all = ["version", "upgrade"])]
    pub(crate) http1: bool,

    /// Write the report as JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// How long the requests before a measurement last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum WarmUp {
    Requests(u32),
    Time(Duration),
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

/// The options of the connection to a server.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Reach {
    /// Require this version of SPDY: 2, 3 or 3.1
    ///
    /// By default, https:// URLs use the newest version that ALPN negotiates, and plain text uses
    /// SPDY/3.1.
    #[arg(long, value_name = "VERSION", value_parser = values::version, aliases = ["spdy", "plain-version"])]
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

    /// Accept any certificate of the server
    #[arg(long, short = 'k')]
    insecure: bool,

    /// Trust only the certificates in this PEM file, instead of those of the system
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    cacert: Option<PathBuf>,

    /// Certificate of the client: a PEM file with its chain, and the key unless --key names it
    #[arg(short = 'E', long, value_name = "FILE")]
    cert: Option<PathBuf>,

    /// Private key of the client: a PEM file
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,

    /// Timeout for opening a connection, for example 10, 1.5s or 2m
    #[arg(long, value_name = "TIME", default_value = "10", value_parser = values::time)]
    pub(crate) connect_timeout: Duration,

    /// Reach this host and port at this address, HOST:PORT:ADDRESS; can be repeated
    ///
    /// The name in the URL is still the one in the request and in TLS. * is any host.
    #[arg(long, value_name = "HOST:PORT:ADDRESS", value_parser = Route::resolve)]
    pub(crate) resolve: Vec<Route>,

    /// Connect to another host and port, HOST:PORT:HOST:PORT; can be repeated
    ///
    /// The name in the URL is still the one in the request and in TLS. If one of the first two is
    /// empty it means any, and if one of the last two is, it does not change.
    #[arg(long, value_name = "HOST:PORT:HOST:PORT", value_parser = Route::connect_to)]
    pub(crate) connect_to: Vec<Route>,

    /// Show the header fields of requests and responses, and each frame of SPDY, with the seconds
    /// since the start, on standard error
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// The options of proxies.
#[derive(Debug, Args)]
#[command(next_help_heading = "Proxy")]
pub(crate) struct Via {
    /// Use the proxy at this URL of http:// or https://; "" means no proxy
    ///
    /// The URL may have a user and a password: http://USER:PASSWORD@HOST:PORT. Without a scheme it
    /// is http://.
    ///
    /// Without a port it is 1080, or 443 for https://. The proxy opens a tunnel with CONNECT, and
    /// learns the host and the port alone. Only with --http1 does it get the requests for http://
    /// URLs themselves, to pass them on, unless --proxytunnel is set or --header has a host.
    /// Without this option the variables http_proxy (in lower case only), HTTPS_PROXY and ALL_PROXY
    /// name the proxies.
    ///
    /// A proxy finds the addresses of hosts by itself. So --resolve and --connect-to apply to the
    /// proxy.
    #[arg(short = 'x', long, value_name = "URL", value_parser = Chosen::parse)]
    pub(crate) proxy: Option<Chosen>,

    /// Send this user and password to the proxy by basic authentication
    #[arg(short = 'U', long, value_name = "USER:PASSWORD", value_parser = values::user)]
    pub(crate) proxy_user: Option<HeaderValue>,

    /// Use a tunnel through the proxy also with --http1 for http:// URLs
    #[arg(short = 'p', long)]
    pub(crate) proxytunnel: bool,

    /// Accept any certificate of a proxy with https://
    #[arg(long)]
    proxy_insecure: bool,

    /// Trust only the certificates in this PEM file for a proxy with https://, instead of those of
    /// the system
    #[arg(long, value_name = "FILE", conflicts_with = "proxy_insecure")]
    proxy_cacert: Option<PathBuf>,

    /// Certificate of the client for a proxy with https://: a PEM file with its chain, and the key
    /// unless --proxy-key names it
    #[arg(long, value_name = "FILE")]
    proxy_cert: Option<PathBuf>,

    /// Private key of the client for a proxy with https://: a PEM file
    #[arg(long, value_name = "FILE", requires = "proxy_cert")]
    proxy_key: Option<PathBuf>,

    /// Use no proxy for these hosts, instead of those in NO_PROXY
    ///
    /// The list is separated by commas. An entry is a domain with all its subdomains, an IP
    /// address, a network such as 10.0.0.0/8, or * for all hosts. With a port, as in a.test:8443,
    /// it is for that port alone.
    #[arg(long, value_name = "LIST")]
    pub(crate) noproxy: Option<String>,
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

    /// Returns what is trusted of servers.
    pub(crate) fn trust(&self) -> Trust<'_> {
        Trust {
            accepts_any: self.insecure,
            roots: self.cacert.as_deref(),
            cert: self.cert.as_deref(),
            key: self.key.as_deref(),
            roots_flag: "--cacert",
            key_flag: "--key",
        }
    }

    /// Returns the routes of `--resolve` and `--connect-to`.
    pub(crate) fn routes(&self) -> Arc<[Route]> {
        let routes = self.resolve.iter().chain(&self.connect_to);
        routes.cloned().collect()
    }
}

impl Via {
    /// Returns what is trusted of proxies.
    pub(crate) fn trust(&self) -> Trust<'_> {
        Trust {
            accepts_any: self.proxy_insecure,
            roots: self.proxy_cacert.as_deref(),
            cert: self.proxy_cert.as_deref(),
            key: self.proxy_key.as_deref(),
            roots_flag: "--proxy-cacert",
            key_flag: "--proxy-key",
        }
    }
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
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Flags::command().debug_assert();
    }

    #[test]
    fn no_error_shows_a_password() {
        for words in [
            "spdy get https://me:secret@a.test/",
            "spdy get https://me:sec/ret@a.test/",
            "spdy get -x socks5://me:secret@a.test http://a/",
            "spdy ping -x me:secret@: http://a/",
            "spdy load me:secret@a.test",
        ] {
            let error = Flags::try_parse_from(words.split(' ')).unwrap_err();
            let error = without_secret(error).to_string();
            assert!(!error.contains("sec") && error.contains("***@"), "{error}");
        }
    }

    #[test]
    fn no_error_shows_a_value_that_may_be_a_secret() {
        for words in [
            "spdy get -u secret http://a/",
            "spdy get --user=me@secret http://a/",
            "spdy get -U secret http://a/",
            "spdy ping --proxy-user secret http://a/",
            "spdy get -H secret http://a/",
            "spdy load -H a:\tsecret\u{1} http://a/",
        ] {
            let error = Flags::try_parse_from(words.split(' ')).unwrap_err();
            let error = without_secret(error).to_string();
            assert!(!error.contains("sec") && error.contains("'***'"), "{error}");
        }
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
            "spdy get --proxy-insecure --proxy-cacert f https://a/",
            "spdy get --proxy-key f https://a/",
            "spdy get -x socks5://a.test http://a/",
            "spdy load -x http://a.test http://a/",
            "spdy ping -n 0 http://a/",
            "spdy load --h2 --version 3 http://a/",
            "spdy load -c 0 http://a/",
            "spdy inspect 1 f",
        ] {
            assert!(Flags::try_parse_from(words.split(' ')).is_err(), "{words}");
        }
    }
}
