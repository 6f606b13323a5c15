//! The command line: what may be said, and the configuration that follows from it.

mod file;
mod manual;

use std::{
    error::Error,
    fmt,
    num::{NonZeroU16, NonZeroU32},
    path::PathBuf,
    thread,
    time::Duration,
};

use clap::{
    CommandFactory, FromArgMatches, Parser,
    builder::{PossibleValuesParser, TypedValueParser},
};
use clap_complete::Shell;
use spdy_server::{
    AccessLog, Address, Bind, Certificate, Config, PlainVersion, Timeouts,
    app::{Directory, Proxy, Upstream},
};
use tracing_subscriber::{
    EnvFilter,
    filter::{LevelFilter, ParseError},
};

use crate::runtimes::Layout;

/// Serves an application, a directory, or a small built-in site over SPDY/3.1, SPDY/3, SPDY/2, HTTP/2 and HTTP/1.1.
///
/// All protocols share one port. Under TLS the protocol is chosen by ALPN, in the order above; in plain text it is told
/// by the first octets a client sends. Any browser of today opens the same URL as a client that knows only SPDY.
///
/// Without arguments the built-in site is served at https://localhost:8443/ with a certificate made at start.
#[derive(Debug, Parser)]
#[command(name = "spdy-server", version, after_long_help = manual::AFTER_HELP)]
pub(crate) struct Flags {
    /// The directory to serve; the built-in site when left out
    ///
    /// A directory is answered by its index.html. No file below it is hidden and symbolic links are followed.
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,

    /// How many MiB of a directory's small files are kept in memory; 0 looks at the disk for each request
    ///
    /// Files of up to 64 KiB, and what is known of 1,024 files and directories, 64 of them open. What has changed on
    /// the disk is seen after a second.
    #[arg(long, value_name = "MIB", default_value = "16", requires = "directory")]
    file_cache: u16,

    /// Pass all requests on to an application
    ///
    /// http://HOST:PORT or unix:/PATH for one that speaks HTTP/1.1, h2://HOST:PORT for HTTP/2 without TLS. It is told
    /// who asks by x-forwarded-for, -proto, -host and forwarded; host stays what the client sends. WebSocket, other
    /// upgrades and CONNECT are not passed on. Without an answer of the application the client gets 502 or 504.
    #[arg(long, value_name = "URL", conflicts_with = "directory", help_heading = PROXY)]
    proxy: Option<Upstream>,

    /// How long the application may be silent before it is given up
    #[arg(long, value_name = "SECONDS", default_value = "60", requires = "proxy", help_heading = PROXY)]
    proxy_timeout: NonZeroU32,

    /// How many connections an application gets at once; a request that finds no place on them waits
    #[arg(long, value_name = "NUMBER", default_value = "512", requires = "proxy", help_heading = PROXY)]
    proxy_connections: NonZeroU32,

    /// Keep what clients say in x-forwarded-* and forwarded, and add to it
    ///
    /// For servers behind another proxy, and only there: clients could claim to be anybody.
    #[arg(long, requires = "proxy", help_heading = PROXY)]
    trust_forwarded: bool,

    /// Listen for TLS connections on this address; may be given several times
    ///
    /// IP:PORT or unix:/PATH. Without --listen, --plain and --systemd the server listens on 127.0.0.1:8443 and, where
    /// there is such an address, on [::1]:8443. With port 0 a free port is chosen and printed. Clients that know NPN
    /// and no ALPN get HTTP/1.1, unless the program was built with the feature npn.
    #[arg(long, value_name = "ADDR", help_heading = SOCKETS)]
    listen: Vec<Address>,

    /// Listen for plaintext connections on this address; may be given several times
    ///
    /// IP:PORT or unix:/PATH. With --plain and without --listen there is no TLS listener and no certificate.
    #[arg(long, value_name = "ADDR", help_heading = SOCKETS)]
    plain: Vec<Address>,

    /// Serve the sockets that systemd hands over
    ///
    /// Those with FileDescriptorName=plain carry plain text, all others TLS.
    #[arg(long, help_heading = SOCKETS)]
    systemd: bool,

    /// Let a new process listen on the same addresses while this one ends
    ///
    /// Both need the flag (SO_REUSEPORT). At a Unix socket the new process takes the place of the old one.
    #[arg(long, help_heading = SOCKETS)]
    reuse_port: bool,

    /// Read the client's address from a header of the PROXY protocol, version 1 or 2
    ///
    /// Every connection has to begin with one. For servers behind a proxy that sends it, and only there.
    #[arg(long, help_heading = SOCKETS)]
    proxy_protocol: bool,

    /// What version field 3 stands for on plaintext listeners
    ///
    /// SPDY/3 and SPDY/3.1 cannot be told apart by their first octets, and differ in flow control. SPDY/2 is always
    /// recognised.
    #[arg(long, value_name = "VERSION", default_value = "spdy/3.1", value_parser = plain_versions(), help_heading = SOCKETS)]
    plain_version: PlainVersion,

    /// Name this port in an Alternate-Protocol field of HTTP/1 responses
    ///
    /// Tells old clients where SPDY is spoken over TLS.
    #[arg(long, value_name = "PORT", help_heading = SOCKETS)]
    advertise: Option<NonZeroU16>,

    /// The certificate to show, in PEM form, followed by its intermediates
    ///
    /// Without it a self-signed certificate for localhost, 127.0.0.1 and ::1 is made at start. When the files change,
    /// or on SIGHUP, they are read again; connections that are open stay. Files that are of no use change nothing.
    #[arg(long, value_name = "FILE", requires = "key", help_heading = TLS)]
    cert: Option<PathBuf>,

    /// The certificate's private key, in PEM form and without a passphrase
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = TLS)]
    key: Option<PathBuf>,

    /// How long to wait for open requests after SIGINT or SIGTERM
    ///
    /// The first signal closes the listeners and asks every client to finish: SPDY and HTTP/2 by GOAWAY, HTTP/1.1 by
    /// closing after the answer. What is still open after this time is cut. A second signal cuts at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain_timeout: u32,

    /// How long a client may take nothing of an answer
    ///
    /// Then the answer is reset: over HTTP/1, or when the connection takes nothing at all, the connection ends. An
    /// HTTP/2 client that takes a little of some answer is waited for, up to ten times as long.
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    write_timeout: NonZeroU32,

    /// How long a handler that waits for the body of a request waits for its next byte; 0 is for ever
    ///
    /// Then the client gets 408, or a reset once the answer has begun. Tunnels have no such limit.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    body_timeout: u32,

    /// After how long a silent client is asked for a sign of life; 0 is never
    ///
    /// By PING of SPDY, and of HTTP/2 while requests are open. A client that does not answer within 20 seconds is gone.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    keep_alive: u32,

    /// How many connections may be open at once; more of them wait
    #[arg(long, value_name = "NUMBER", default_value = "16384")]
    max_connections: NonZeroU32,

    /// How many MiB all SPDY sessions may hold together; above that new connections are refused
    #[arg(long, value_name = "MIB", default_value = "1024")]
    session_memory: NonZeroU32,

    /// How many threads serve connections; one for each CPU when left out
    #[arg(long, value_name = "NUMBER")]
    threads: Option<NonZeroU16>,

    /// How the threads share the connections
    ///
    /// shared: each of them runs whatever is due, so that a connection that works hard holds nobody up. per-core: a
    /// connection stays with the thread it was given to, the one that had the fewest; this saves moving it, and those
    /// of its thread wait while it works.
    #[arg(long, value_name = "LAYOUT", value_enum, default_value = "shared")]
    runtime: Layout,

    /// What to log to standard error
    ///
    /// error, warn, info, debug or trace; or a list such as warn,spdy_server=debug with a level for each part.
    #[arg(long, value_name = "FILTER", default_value = "warn", value_parser = log_filter, help_heading = LOGS)]
    log: String,

    /// Write a line for each request to this file; - is standard output
    ///
    /// The combined format, and then the protocol, the stream, the seconds it took and the octets of the request's
    /// body. The file is opened again on SIGHUP. Status 499 is a client that left before there was an answer.
    #[arg(long, value_name = "FILE", value_parser = access_log, help_heading = LOGS)]
    access_log: Option<AccessLog>,

    /// Answer /metrics (for Prometheus) and /healthz on this address, in plain text
    #[arg(long, value_name = "ADDR", help_heading = LOGS)]
    metrics: Option<Address>,

    /// Read flags from this TOML file
    ///
    /// Each key is the name of a flag without its dashes, and "directory" for DIR. Flags that may be given several
    /// times are arrays; those without a value are true. What is said on the command line counts more.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print completions for this shell and exit
    #[arg(long, value_name = "SHELL", exclusive = true, hide_short_help = true)]
    completions: Option<Shell>,

    /// Print the manual page and exit
    #[arg(long, exclusive = true, hide_short_help = true)]
    man: bool,
}

const PROXY: &str = "Proxy";
const SOCKETS: &str = "Sockets";
const TLS: &str = "TLS";
const LOGS: &str = "Logs and metrics";

impl Flags {
    /// Reads the command line, and the file that it names. Prints and ends the process when that is all it asks for,
    /// or when there is a mistake in it.
    pub(crate) fn from_command_line() -> Self {
        let matches = Self::command().get_matches();
        let flags = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        if let Some(text) = manual::wanted(flags.completions, flags.man) {
            manual::print_and_exit(&text);
        }
        match &flags.config {
            Some(path) => file::merge(path, &matches, std::env::args_os())
                .unwrap_or_else(|error| error.exit()),
            None => flags,
        }
    }

    pub(crate) fn directory(&self) -> Option<Directory> {
        let mut directory = Directory::new(self.directory.as_ref()?);
        directory.max_octets = usize::from(self.file_cache) << 20;
        if self.file_cache == 0 {
            directory.max_entries = 0;
        }
        Some(directory)
    }

    pub(crate) fn proxy(&self) -> Option<Proxy> {
        let mut proxy = Proxy::new(self.proxy.clone()?);
        proxy.trust_forwarded = self.trust_forwarded;
        proxy.answer_timeout = Duration::from_secs(self.proxy_timeout.get().into());
        proxy.max_connections = self.proxy_connections.get() as usize;
        Some(proxy)
    }

    pub(crate) const fn systemd(&self) -> bool {
        self.systemd
    }

    /// What is logged. Warnings are, unless the list itself names a level for everything.
    pub(crate) fn log(&self) -> EnvFilter {
        EnvFilter::new(format!("warn,{}", self.log))
    }

    pub(crate) fn threads(&self) -> usize {
        let cpus = || thread::available_parallelism().map_or(1, usize::from);
        self.threads
            .map_or_else(cpus, |threads| threads.get().into())
    }

    pub(crate) const fn runtime(&self) -> Layout {
        self.runtime
    }

    pub(crate) fn config(self) -> Config {
        let idle = match &self.proxy {
            // A client that waits for a slow application is not idle.
            Some(_) => Duration::from_secs(self.proxy_timeout.get().into()),
            None => Duration::ZERO,
        };
        let timeouts = Timeouts::default();
        let mut binds: Vec<_> = self.listen.into_iter().map(Bind::tls).collect();
        binds.extend(self.plain.into_iter().map(Bind::plain));
        if binds.is_empty() && !self.systemd {
            binds = Bind::localhost();
        }
        Config {
            binds,
            reuse_port: self.reuse_port,
            proxy_protocol: self.proxy_protocol,
            certificate: match (self.cert, self.key) {
                (Some(chain), Some(key)) => Certificate::Files { chain, key },
                _ => Certificate::SelfSigned,
            },
            plain_version: self.plain_version,
            advertise: self.advertise,
            access_log: self.access_log,
            metrics: self.metrics,
            max_connections: self.max_connections.get() as usize,
            max_session_memory: (self.session_memory.get() as usize).saturating_mul(1 << 20),
            timeouts: Timeouts {
                drain: Duration::from_secs(self.drain_timeout.into()),
                idle: timeouts.idle.max(idle),
                write: Duration::from_secs(self.write_timeout.get().into()),
                body: seconds(self.body_timeout),
                keep_alive: seconds(self.keep_alive),
                ..timeouts
            },
            ..Config::default()
        }
    }
}

/// Returns a time limit; 0 stands for none.
fn seconds(number: u32) -> Option<Duration> {
    (number > 0).then(|| Duration::from_secs(number.into()))
}

fn plain_versions() -> impl TypedValueParser<Value = PlainVersion> {
    PossibleValuesParser::new(["spdy/3.1", "spdy/3"]).try_map(|token| token.parse::<PlainVersion>())
}

/// Lets only such text through as makes a filter. (A filter itself cannot be an argument: it cannot be cloned.)
///
/// To tracing a word alone is a level if it can be, and else the name of a part that is to be logged in full: a level
/// with a mistake in it would turn everything else off.
fn log_filter(text: &str) -> Result<String, BadFilter> {
    for directive in text.split(',').map(str::trim) {
        let is_word = !directive.contains(['=', '[']);
        if is_word && directive.parse::<LevelFilter>().is_err() {
            return Err(BadFilter::NoLevel(directive.to_owned()));
        }
    }
    let filter = EnvFilter::try_new(text).map_err(BadFilter::Refused);
    filter.map(|_| text.to_owned())
}

/// Why a text is no filter.
#[derive(Debug)]
enum BadFilter {
    NoLevel(String),
    Refused(ParseError),
}

impl fmt::Display for BadFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLevel(word) => write!(
                f,
                "`{word}` is not one of off, error, warn, info, debug and trace; for one part write {word}=LEVEL"
            ),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl Error for BadFilter {}

fn access_log(text: &str) -> Result<AccessLog, &'static str> {
    match text {
        "" => Err("a file needs a name"),
        "-" => Ok(AccessLog::Stdout),
        path => Ok(AccessLog::File(path.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use spdy_server::Transport;

    use super::*;

    fn flags(words: &str) -> Flags {
        Flags::try_parse_from(words.split(' ')).unwrap()
    }

    fn config(words: &str) -> Config {
        flags(words).config()
    }

    #[test]
    fn the_flags_are_consistent() {
        Flags::command().debug_assert();
    }

    #[test]
    fn without_arguments_the_default_configuration_is_meant() {
        assert_eq!(
            format!("{:?}", config("spdy-server")),
            format!("{:?}", Config::default())
        );
        assert!(config("spdy-server --systemd").binds.is_empty());
    }

    #[test]
    fn listeners_may_be_given_several_times_and_replace_the_default() {
        let binds = config(
            "spdy-server --plain 127.0.0.1:1 --listen [::1]:2 --listen 127.0.0.1:3 --plain unix:/a",
        )
        .binds;
        let shown: Vec<_> = binds
            .iter()
            .map(|bind| (bind.transport, bind.address.to_string(), bind.required))
            .collect();
        assert_eq!(
            shown,
            [
                (Transport::Tls, "[::1]:2".into(), true),
                (Transport::Tls, "127.0.0.1:3".into(), true),
                (Transport::Plain, "127.0.0.1:1".into(), true),
                (Transport::Plain, "unix:/a".into(), true),
            ]
        );
        let plain_only = config("spdy-server --plain 127.0.0.1:0").binds;
        assert!(
            plain_only
                .iter()
                .all(|bind| bind.transport == Transport::Plain)
        );
    }

    #[test]
    fn values_find_their_place() {
        let all = config(
            "spdy-server --cert a --key b --plain-version spdy/3 --drain-timeout 7 --max-connections 9 \
             --session-memory 3 --write-timeout 8 \
             --body-timeout 5 --keep-alive 0 \
             --advertise 443 --access-log - --metrics 127.0.0.1:1 --reuse-port --proxy-protocol d",
        );
        assert_eq!(
            all.certificate,
            Certificate::Files {
                chain: "a".into(),
                key: "b".into()
            }
        );
        assert_eq!(all.plain_version, PlainVersion::V3);
        assert_eq!(all.timeouts.drain, Duration::from_secs(7));
        assert_eq!(all.timeouts.write, Duration::from_secs(8));
        assert_eq!(all.timeouts.body, Some(Duration::from_secs(5)));
        assert_eq!(all.timeouts.keep_alive, None);
        assert_eq!(all.max_connections, 9);
        assert_eq!(all.max_session_memory, 3 << 20);
        assert_eq!(all.advertise, NonZeroU16::new(443));
        assert_eq!(all.access_log, Some(AccessLog::Stdout));
        assert_eq!(all.metrics, Some("127.0.0.1:1".parse().unwrap()));
        assert!(all.reuse_port && all.proxy_protocol);

        let directory = flags("spdy-server --file-cache 3 d").directory().unwrap();
        assert_eq!(directory.path, Path::new("d"));
        assert_eq!(directory.max_octets, 3 << 20);
        let forgetful = flags("spdy-server --file-cache 0 d").directory().unwrap();
        assert_eq!(forgetful.max_entries, 0);

        assert_eq!(flags("spdy-server").runtime(), Layout::Shared);
        assert_eq!(
            flags("spdy-server --runtime per-core").runtime(),
            Layout::PerCore
        );

        let proxy = flags("spdy-server --proxy http://a:1 --proxy-timeout 3 --proxy-connections 4")
            .proxy()
            .unwrap();
        assert_eq!(proxy.upstream.to_string(), "http://a:1");
        assert_eq!(proxy.answer_timeout, Duration::from_secs(3));
        assert_eq!(proxy.max_connections, 4);
        assert!(!proxy.trust_forwarded);
        let patient = config("spdy-server --proxy http://a:1 --proxy-timeout 900");
        assert_eq!(patient.timeouts.idle, Duration::from_secs(900));
    }

    #[test]
    fn warnings_are_logged_unless_the_filter_says_otherwise() {
        for (words, filter) in [
            ("spdy-server", "warn"),
            ("spdy-server --log info", "info"),
            ("spdy-server --log off", "off"),
            (
                "spdy-server --log spdy_server=debug",
                "spdy_server=debug,warn",
            ),
            (
                "spdy-server --log error,spdy::wire=trace",
                "spdy::wire=trace,error",
            ),
        ] {
            assert_eq!(flags(words).log().to_string(), filter, "{words}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for words in [
            "spdy-server --cert a",
            "spdy-server --key a",
            "spdy-server --plain-version spdy/2",
            "spdy-server --listen nowhere",
            "spdy-server --listen unix:",
            "spdy-server --max-connections 0",
            "spdy-server --log spdy_server=loudly",
            "spdy-server --log inof",
            "spdy-server --log warn,spdy_server",
            "spdy-server --log",
            "spdy-server --proxy https://a",
            "spdy-server --proxy http://a b",
            "spdy-server --proxy-timeout 1",
            "spdy-server --trust-forwarded",
            "spdy-server --file-cache 1",
            "spdy-server --file-cache -1 d",
            "spdy-server --runtime single",
            "spdy-server --advertise 0",
            "spdy-server --man b",
            "spdy-server --completions tcl",
            "spdy-server a b",
        ] {
            assert!(Flags::try_parse_from(words.split(' ')).is_err(), "{words}");
        }
    }
}
