//! The command line and the configuration that follows from it.

mod directory;
mod file;
mod listen;
mod logs;
mod manual;
mod owner;
mod proxy;
mod settings;
#[cfg(test)]
mod tests;
mod trust;

use std::{
    num::{NonZeroU16, NonZeroU32},
    path::PathBuf,
    thread,
    time::Duration,
};

use clap::{
    ArgGroup, CommandFactory, FromArgMatches, Parser,
    builder::{PossibleValuesParser, TypedValueParser},
};
use clap_complete::Shell;
use spdy_server::{
    Bind, Certificate, Config, Network, PlainVersion, SocketFiles, Timeouts, Transport,
    app::{Directory, Proxy},
};
use tracing_subscriber::EnvFilter;

use self::{directory::Folder, logs::Logs, owner::Owner, proxy::Application, settings::Setting};
pub(crate) use self::{listen::Listen, logs::LogFormat};
use crate::{
    descriptors::{Each, Needs},
    runtimes::Layout,
};

/// Serves an application, a directory or a small built-in site over SPDY/3.1, SPDY/3, SPDY/2,
/// HTTP/2 and HTTP/1.1.
///
/// All protocols share one port. Over TLS, ALPN selects the protocol, in the order above. In plain
/// text, the server recognizes the protocol by the first bytes of the client. Modern browsers and
/// clients that only support SPDY use the same URL.
///
/// Without arguments, the program serves the built-in site at https://localhost:8443/ with a
/// certificate that it creates at start.
#[derive(Debug, Parser)]
#[command(name = "spdy-server", version, after_long_help = manual::AFTER_HELP)]
// What /readyz can be served by.
#[command(group = ArgGroup::new("pages").args(["metrics", "systemd"]).multiple(true))]
pub(crate) struct Flags {
    #[command(flatten)]
    folder: Folder,

    #[command(flatten)]
    application: Application,

    /// Listen for TLS connections on this address; can be repeated
    ///
    /// IP:PORT, HOST:PORT, :PORT for all addresses, or unix:/PATH. A host is looked up once, at
    /// start, and this machine must have one of its addresses. Without --listen, --plain and
    /// --systemd the server listens on 127.0.0.1:8443 and, if the machine has that address, on
    /// [::1]:8443. An IPv6 address is for IPv6 alone: for both, listen on 0.0.0.0 and on [::]. With
    /// port 0 the system chooses a free port, which the server prints. Clients that support NPN but
    /// not ALPN use HTTP/1.1, unless the program was built with the feature npn.
    #[arg(long, value_name = "ADDR", help_heading = SOCKETS)]
    listen: Vec<Listen>,

    /// Listen for plaintext connections on this address; can be repeated
    ///
    /// Addresses are those of --listen. With --plain and without --listen, the server has no TLS
    /// listener and no certificate.
    #[arg(long, value_name = "ADDR", help_heading = SOCKETS)]
    plain: Vec<Listen>,

    /// Serve the sockets that systemd passes to the process
    ///
    /// The name of a socket (FileDescriptorName= in its unit) tells its use: tls, plain, or metrics
    /// for what --metrics serves. A socket without a name of its own uses TLS.
    #[arg(long, help_heading = SOCKETS)]
    systemd: bool,

    /// Mode of the files of Unix sockets, in octal such as 660; by default, what the umask leaves
    ///
    /// Users who may write to the file may connect.
    #[arg(long, value_name = "MODE", value_parser = owner::mode, help_heading = SOCKETS)]
    socket_mode: Option<u32>,

    /// Owner of the files of Unix sockets: USER, USER:GROUP or :GROUP, by name or number
    ///
    /// Names are those of /etc/passwd and /etc/group. If another user puts a link in the place of
    /// the file meanwhile, the server does not follow it, and does not start. On Linux this and
    /// --socket-mode need /proc.
    #[arg(long, value_name = "OWNER", help_heading = SOCKETS)]
    socket_owner: Option<Owner>,

    /// Let a new process listen on the same addresses while this one stops
    ///
    /// Both processes need this flag (SO_REUSEPORT). A new process replaces the Unix socket of the
    /// old one.
    #[arg(long, help_heading = SOCKETS)]
    reuse_port: bool,

    /// Read the address of each client from a PROXY protocol header, version 1 or 2
    ///
    /// Every connection must begin with the header. Use this only behind a proxy that sends it.
    /// From version 2 the server also takes ALPN, and whether the proxy has ended TLS
    /// (send-proxy-v2-ssl and proxy-v2-options of HAProxy). On plaintext listeners that ALPN takes
    /// precedence over --plain-version.
    #[arg(long, help_heading = SOCKETS)]
    proxy_protocol: bool,

    /// Expect the PROXY protocol header only from this address or network; can be repeated
    ///
    /// IP or IP/BITS. Connections from other addresses are clients themselves, and must not begin
    /// with the header. Connections at Unix sockets must begin with it.
    #[arg(long, value_name = "NETWORK", requires = "proxy_protocol", help_heading = SOCKETS)]
    proxy_protocol_from: Vec<Network>,

    /// The SPDY version that version field 3 means on plaintext listeners
    ///
    /// SPDY/3 and SPDY/3.1 have the same first bytes and differ in flow control. SPDY/2 is always
    /// recognized.
    #[arg(long, value_name = "VERSION", default_value = "spdy/3.1", value_parser = plain_versions(), help_heading = SOCKETS)]
    plain_version: PlainVersion,

    /// Announce this port in the Alternate-Protocol field of HTTP/1 responses
    ///
    /// The field tells old clients where they can use SPDY over TLS.
    #[arg(long, value_name = "PORT", help_heading = SOCKETS)]
    advertise: Option<NonZeroU16>,

    /// Certificate in PEM form, followed by its intermediates
    ///
    /// Without it the server creates a self-signed certificate for localhost, 127.0.0.1 and ::1.
    /// The server reloads the files when they change, and on SIGHUP. Open connections are kept. If
    /// the new files are invalid, the server keeps the old certificate.
    #[arg(long, value_name = "FILE", requires = "key", help_heading = TLS)]
    cert: Option<PathBuf>,

    /// Private key of the certificate, in PEM form and without a passphrase
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = TLS)]
    key: Option<PathBuf>,

    /// Seconds to wait for open requests after SIGINT or SIGTERM
    ///
    /// The first signal closes the listeners and asks every client to finish: over SPDY and HTTP/2
    /// by GOAWAY, over HTTP/1.1 by closing the connection after its next response. After this time
    /// the remaining connections are closed. A second signal closes them at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain_timeout: u32,

    /// Seconds to go on as before after SIGINT or SIGTERM, while /readyz returns 503
    ///
    /// Then the listeners are closed and --drain-timeout begins. Set it to the time that a load
    /// balancer or Kubernetes takes to notice that the server is not ready.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    drain_delay: u32,

    /// Seconds that an idle HTTP/1.1 connection is kept after SIGINT or SIGTERM
    ///
    /// The response to a request within this time announces the end of the connection. Without it,
    /// the request of a client that uses its idle connection in that instant would be lost. It is
    /// at most half of --drain-timeout. 0 closes idle connections at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    idle_close: u32,

    /// Seconds that a client can take without reading any byte of a response
    ///
    /// Then the server resets the response. Over HTTP/1, or if the whole connection is stalled, it
    /// closes the connection. An HTTP/2 client that reads slowly from some responses has up to ten
    /// times as long.
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    write_timeout: NonZeroU32,

    /// Seconds that a handler waits for the next byte of a request body; 0 means no limit
    ///
    /// Then the client receives 408, or a reset if the response has begun. Tunnels have no such
    /// limit.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    body_timeout: u32,

    /// Seconds of silence before the server sends PING to a client; 0 disables it
    ///
    /// The server sends PING over SPDY, and over HTTP/2 while requests are open. It closes the
    /// connection of a client that does not reply within 20 seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    keep_alive: u32,

    /// Seconds for the TLS handshake, or for the first bytes in plain text
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    handshake_timeout: NonZeroU32,

    /// Seconds without a byte after which an HTTP/1 or HTTP/2 connection is closed
    ///
    /// The server closes it after one to two times this. With --proxy it is at least
    /// --proxy-timeout. SPDY has a timeout of its own: --spdy timeouts.idle=SECONDS.
    #[arg(long, value_name = "SECONDS", default_value = "180")]
    idle_timeout: NonZeroU32,

    #[arg(long, value_name = "NAME=VALUE", value_parser = Setting::spdy, help_heading = PROTOCOLS,
        help = "A setting of SPDY; can be repeated", long_help = settings::spdy_help())]
    spdy: Vec<Setting>,

    #[arg(long, value_name = "NAME=VALUE", value_parser = Setting::http2, help_heading = PROTOCOLS,
        help = "A setting of HTTP/2; can be repeated", long_help = settings::http2_help())]
    http2: Vec<Setting>,

    #[arg(long, value_name = "NAME=VALUE", value_parser = Setting::http1, help_heading = PROTOCOLS,
        help = "A setting of HTTP/1.1; can be repeated", long_help = settings::http1_help())]
    http1: Vec<Setting>,

    /// Maximum number of open connections; further ones wait
    ///
    /// By default 16384, or fewer if the limit of file descriptors is not enough for them. The
    /// server raises its soft limit (ulimit -n) to the hard one at start. A new connection takes
    /// the place of an HTTP/1.1 connection that was idle for a second.
    #[arg(long, value_name = "NUMBER")]
    max_connections: Option<NonZeroU32>,

    /// MiB that all SPDY sessions can hold together; above it, new connections are refused
    #[arg(long, value_name = "MIB", default_value = "1024")]
    session_memory: NonZeroU32,

    /// Number of threads that serve connections; by default, one for each CPU
    #[arg(long, value_name = "NUMBER")]
    threads: Option<NonZeroU16>,

    /// How the threads share the connections
    ///
    /// shared: a thread takes work from any connection, so a busy connection does not delay others.
    /// per-core: each connection stays on the thread that had the fewest connections when it
    /// arrived. This saves moving connections, but a busy connection delays the others on its
    /// thread.
    #[arg(long, value_name = "LAYOUT", value_enum, default_value = "shared")]
    runtime: Layout,

    #[command(flatten)]
    logs: Logs,

    /// Serve /metrics (for Prometheus), /livez and /readyz on this address, in plain text
    ///
    /// /livez returns 200 as long as the process lives. /readyz returns 503 as soon as it is asked
    /// to stop, and see --ready-checks-application; /healthz is another name for it. With
    /// --reuse-port the server closes this address as soon as it is asked to stop, and from then on
    /// only the new process answers. There is one address: :PORT means 0.0.0.0:PORT, and the first
    /// one of a host is used.
    #[arg(long, value_name = "ADDR", help_heading = LOGS)]
    metrics: Option<Listen>,

    /// Read flags from this TOML file
    ///
    /// A key is the name of a flag without its dashes, or "directory" for DIR. Flags that can be
    /// repeated are arrays, and flags without a value are true. The command line takes precedence.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Check the flags, the configuration file and the certificate, and exit
    ///
    /// Prints that the configuration is valid, or the first mistake. Nothing is bound and no file
    /// is written, so it can run beside the server.
    #[arg(long)]
    check_config: bool,

    /// Print the completions for this shell and exit
    #[arg(long, value_name = "SHELL", exclusive = true, hide_short_help = true)]
    completions: Option<Shell>,

    /// Print the manual page and exit
    #[arg(long, exclusive = true, hide_short_help = true)]
    man: bool,
}

const SOCKETS: &str = "Sockets";
const TLS: &str = "TLS";
const PROTOCOLS: &str = "Protocols";
const LOGS: &str = "Logs and metrics";

impl Flags {
    /// Parses the command line, and the configuration file that it names.
    ///
    /// Ends the process if the command line only asks for a text, such as `--help` or `--man`, or
    /// if it is invalid.
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
        self.folder.directory()
    }

    /// Returns the proxy. The error is a sentence.
    pub(crate) fn proxy(&self) -> Result<Option<Proxy>, String> {
        self.application.proxy()
    }

    /// Returns whether `/readyz` checks the application.
    pub(crate) const fn ready_checks_application(&self) -> bool {
        self.application.is_checked()
    }

    pub(crate) const fn check_config(&self) -> bool {
        self.check_config
    }

    pub(crate) const fn systemd(&self) -> bool {
        self.systemd
    }

    /// Returns what the flags say to listen on, apart from metrics.
    pub(crate) fn listens(&self) -> Vec<Listen> {
        [&*self.listen, &*self.plain].concat()
    }

    /// Returns the filter and the form of the log of the program.
    pub(crate) fn log(&self) -> (EnvFilter, LogFormat) {
        (self.logs.filter(), self.logs.format())
    }

    /// Returns the maximum number of connections, if it is given.
    pub(crate) fn max_connections(&self) -> Option<usize> {
        self.max_connections.map(|number| number.get() as usize)
    }

    /// Returns what needs descriptors, with this number of inherited sockets.
    pub(crate) fn needs(&self, inherited: usize) -> Needs {
        let given = self.listen.len() + self.plain.len();
        Needs {
            // Without a flag there are two, and one more is for the metrics.
            listeners: inherited + given.max(2) + 1,
            threads: match self.runtime {
                Layout::Shared => 1,
                Layout::PerCore => self.threads() + 1,
            },
            checks: self.application.checks(),
            each: match (self.application.connections(), &self.folder.directory) {
                (Some(most), _) => Each::Upstream(most),
                (None, Some(_)) => Each::File,
                (None, None) => Each::Nothing,
            },
        }
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
        let default = Config::default();
        let max_connections = self.max_connections();
        // A client that waits for a slow application is not idle.
        let idle = self.application.patience().unwrap_or_default();
        let tls = self.listen.into_iter();
        let tls = tls.flat_map(|it| it.binds(Transport::Tls));
        let plain = self.plain.into_iter();
        let plain = plain.flat_map(|it| it.binds(Transport::Plain));
        let mut binds: Vec<_> = tls.chain(plain).collect();
        if binds.is_empty() && !self.systemd {
            binds = Bind::localhost();
        }
        let mut config = Config {
            binds,
            reuse_port: self.reuse_port,
            socket_files: SocketFiles {
                mode: self.socket_mode,
                user: self.socket_owner.and_then(|owner| owner.user),
                group: self.socket_owner.and_then(|owner| owner.group),
            },
            proxy_protocol: self.proxy_protocol,
            proxy_protocol_from: self.proxy_protocol_from,
            certificate: match (self.cert, self.key) {
                (Some(chain), Some(key)) => Certificate::Files { chain, key },
                _ => Certificate::SelfSigned,
            },
            plain_version: self.plain_version,
            advertise: self.advertise,
            metrics: self.metrics.map(Listen::first),
            max_connections: max_connections.unwrap_or(default.max_connections),
            max_session_memory: (self.session_memory.get() as usize).saturating_mul(1 << 20),
            timeouts: Timeouts {
                drain_delay: Duration::from_secs(self.drain_delay.into()),
                drain: Duration::from_secs(self.drain_timeout.into()),
                idle_close: Duration::from_secs(self.idle_close.into()),
                handshake: Duration::from_secs(self.handshake_timeout.get().into()),
                idle: Duration::from_secs(self.idle_timeout.get().into()).max(idle),
                write: Duration::from_secs(self.write_timeout.get().into()),
                body: seconds(self.body_timeout),
                keep_alive: seconds(self.keep_alive),
            },
            ..default
        };
        self.logs.apply(&mut config);
        for setting in [self.spdy, self.http2, self.http1].concat() {
            setting.apply(&mut config);
        }
        config
    }
}

/// Returns a timeout in seconds, or `None` for 0.
fn seconds(number: u32) -> Option<Duration> {
    (number > 0).then(|| Duration::from_secs(number.into()))
}

fn plain_versions() -> impl TypedValueParser<Value = PlainVersion> {
    PossibleValuesParser::new(["spdy/3.1", "spdy/3"]).try_map(|token| token.parse::<PlainVersion>())
}
