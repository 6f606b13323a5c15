//! The command line.

use std::{env, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use http::HeaderName;
use spdy_bastion::{Config, Error, Kubeconfig, KubeconfigOptions, Security, UserHeader, Users};

/// A recording gateway in front of a Kubernetes API server
///
/// kubectl uses it as its only server. Commands are recorded, and sessions can be denied, limited
/// in time, listed and ended. Without further options it listens on loopback and prints a
/// kubeconfig for clients.
#[derive(Debug, Parser)]
#[command(name = "spdy-bastion", version, disable_help_subcommand = true)]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Kubeconfig with the API server and the credentials for it [default: $KUBECONFIG, or
    /// ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig [default: its current context]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,

    /// Accept `insecure-skip-tls-verify` of the kubeconfig
    #[arg(long)]
    insecure_upstream: bool,

    /// Address for clients
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6444")]
    listen: SocketAddr,

    /// Certificate for clients, in PEM [default: one that is made at start]
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,

    /// Key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,

    /// Use no TLS; the address must be on loopback
    #[arg(long, conflicts_with = "cert")]
    plain: bool,

    /// Name of the bastion, for its certificate and its kubeconfig; can be repeated
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,

    /// Write the kubeconfig for clients to this file, and not to standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) write_kubeconfig: Option<PathBuf>,

    /// Authorities of client certificates, in PEM: CN is the user, and each O a group
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,

    /// Bearer tokens, in lines of the form token,user,uid,"group,group"
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,

    /// Field in which a trusted proxy names the user
    #[arg(long, value_name = "FIELD")]
    user_header: Option<HeaderName>,

    /// Field in which a trusted proxy names a group
    #[arg(long, value_name = "FIELD", requires = "user_header")]
    group_header: Option<HeaderName>,

    /// Name (CN) of the client certificate of a trusted proxy; can be repeated
    #[arg(long, value_name = "NAME", requires = "user_header")]
    trusted_proxy: Vec<String>,

    /// Rules, in TOML
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,

    /// Folder for recordings
    #[arg(long, value_name = "FOLDER", default_value = "recordings")]
    recordings: PathBuf,

    /// File for audit lines [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) audit: Option<PathBuf>,

    /// Socket of the commands `sessions` and `kill`
    #[arg(
        long,
        value_name = "PATH",
        default_value = "spdy-bastion.sock",
        global = true
    )]
    pub(crate) socket: PathBuf,

    /// Address for metrics, over HTTP [default: none]
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,

    /// Most sessions at once
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    max_sessions: usize,

    /// Most connections of clients at once
    #[arg(long, value_name = "NUMBER", default_value_t = 4096)]
    max_connections: usize,

    /// Seconds that clients may take to end at a shutdown
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    drain_timeout: u64,

    /// What is logged on standard error, such as `info` or `spdy_bastion=debug`
    #[arg(long, value_name = "FILTER", default_value = "warn", global = true)]
    pub(crate) log: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the live sessions of a running bastion
    Sessions {
        /// Print one JSON object for each session
        #[arg(long)]
        json: bool,
    },
    /// End a live session of a running bastion
    Kill {
        /// Id of the session
        id: String,
        /// Message for the client
        #[arg(long, value_name = "TEXT", default_value = "ended by the operator")]
        message: String,
    },
    Play(Play),
}

/// Play a recording in the terminal
#[derive(Debug, Args)]
pub(crate) struct Play {
    /// Recording, in asciicast v2
    pub(crate) file: PathBuf,

    /// How many times faster than it was recorded
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = speed)]
    pub(crate) speed: f64,

    /// Longest pause, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600.0, value_parser = speed)]
    pub(crate) idle: f64,

    /// Write what the command has written to standard output and standard error, without pauses and
    /// unfiltered, if standard output is no terminal
    #[arg(long, conflicts_with_all = ["speed", "idle"])]
    pub(crate) raw: bool,
}

impl Flags {
    /// Returns the configuration of the bastion.
    pub(crate) fn config(self) -> Result<Config, Error> {
        let kubeconfig = self.kubeconfig.unwrap_or_else(default_kubeconfig);
        let options = KubeconfigOptions {
            context: self.context,
            insecure: self.insecure_upstream,
        };
        let mut config = Config::new(Kubeconfig::load(&kubeconfig, options)?);
        config.listen = self.listen;
        config.security = match (self.cert, self.key) {
            (Some(chain), Some(key)) => Security::Files { chain, key },
            _ if self.plain => Security::Plain,
            _ => Security::SelfSigned,
        };
        let (groups, proxies) = (self.group_header, self.trusted_proxy);
        config.users = Users {
            authorities: self.client_ca,
            tokens: self.tokens,
            header: self.user_header.map(|user| UserHeader {
                user,
                groups,
                proxies,
            }),
        };
        config.names = self.names;
        config.rules = self.rules;
        config.recordings = self.recordings;
        config.audit = self.audit;
        config.socket = Some(self.socket);
        config.metrics = self.metrics;
        config.limits.sessions = self.max_sessions;
        config.limits.connections = self.max_connections;
        config.limits.drain = Duration::from_secs(self.drain_timeout);
        Ok(config)
    }
}

fn default_kubeconfig() -> PathBuf {
    if let Some(path) = env::var_os("KUBECONFIG").filter(|path| !path.is_empty()) {
        return path.into();
    }
    env::home_dir().unwrap_or_default().join(".kube/config")
}

fn speed(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    match number.is_finite() && number > 0.0 {
        true => Ok(number),
        false => Err("must be more than zero".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Flags::command().debug_assert();
        let defaults = spdy_bastion::Limits::default();
        let flags = Flags::parse_from(["spdy-bastion"]);
        assert_eq!(flags.max_sessions, defaults.sessions);
        assert_eq!(flags.max_connections, defaults.connections);
        assert_eq!(Duration::from_secs(flags.drain_timeout), defaults.drain);
        for wrong in ["--speed=0", "--speed=nan", "--idle=-1"] {
            assert!(Flags::try_parse_from(["spdy-bastion", "play", "a", wrong]).is_err());
        }
    }
}
