//! The command line: what may be said, and the configuration that follows from it.

use std::{
    net::SocketAddr,
    num::{NonZeroU16, NonZeroU32},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use clap::{
    Parser,
    builder::{PossibleValuesParser, TypedValueParser},
};
use spdy_server::{Bind, Certificate, Config, PlainVersion, Timeouts};
use tracing_subscriber::{EnvFilter, filter::ParseError};

/// Serves a directory, or a small built-in site, over SPDY/3.1, SPDY/3, SPDY/2, HTTP/2 and HTTP/1.1.
///
/// All protocols share one port. Under TLS the protocol is chosen by ALPN, in the order above; in plain text it is told
/// by the first octets a client sends. Any browser of today opens the same URL as a client that knows only SPDY.
///
/// Without arguments the built-in site is served at https://localhost:8443/ with a certificate made at start.
#[derive(Debug, Parser)]
#[command(name = "spdy-server", version, after_long_help = AFTER_HELP)]
pub(crate) struct Flags {
    /// The directory to serve; the built-in site when left out
    ///
    /// A directory is answered by its index.html. No file below it is hidden and symbolic links are followed.
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,

    /// Listen for TLS connections on this address; may be given several times
    ///
    /// Without --listen and --plain the server listens on 127.0.0.1:8443 and, where there is such an address, on
    /// [::1]:8443. With port 0 a free port is chosen and printed.
    #[arg(long, value_name = "ADDR")]
    listen: Vec<SocketAddr>,

    /// Listen for plaintext connections on this address; may be given several times
    ///
    /// With --plain and without --listen there is no TLS listener and no certificate.
    #[arg(long, value_name = "ADDR")]
    plain: Vec<SocketAddr>,

    /// What version field 3 stands for on plaintext listeners
    ///
    /// SPDY/3 and SPDY/3.1 cannot be told apart by their first octets, and differ in flow control. SPDY/2 is always
    /// recognised.
    #[arg(long, value_name = "VERSION", default_value = "spdy/3.1", value_parser = plain_versions())]
    plain_version: PlainVersion,

    /// The certificate to show, in PEM form, followed by its intermediates
    ///
    /// Without it a self-signed certificate for localhost, 127.0.0.1 and ::1 is made at start.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,

    /// The certificate's private key, in PEM form and without a passphrase
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,

    /// How long to wait for open requests after SIGINT or SIGTERM
    ///
    /// The first signal closes the listeners and asks every client to finish: SPDY and HTTP/2 by GOAWAY, HTTP/1.1 by
    /// closing after the answer. What is still open after this time is cut. A second signal cuts at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain_timeout: u32,

    /// How many connections may be open at once; more of them wait
    #[arg(long, value_name = "NUMBER", default_value = "16384")]
    max_connections: NonZeroU32,

    /// How many threads serve connections; one for each CPU when left out
    #[arg(long, value_name = "NUMBER")]
    threads: Option<NonZeroU16>,

    /// What to log to standard error
    ///
    /// error, warn, info, debug or trace; or a list such as warn,spdy_server=debug with a level for each part.
    #[arg(long, value_name = "FILTER", default_value = "warn", value_parser = log_filter)]
    log: String,
}

const AFTER_HELP: &str = "\
Examples:
  spdy-server                                   the built-in site at https://localhost:8443/
  spdy-server public/                           the files of public/ at the same address
  spdy-server --plain 127.0.0.1:8080            plain text only
  spdy-server --listen 0.0.0.0:443 --cert chain.pem --key key.pem /var/www

  curl --insecure https://localhost:8443/hello
  curl --http2-prior-knowledge http://127.0.0.1:8080/bytes/1000000 --output /dev/null

At start the URLs and the certificate's SHA-256 are printed to standard output, each URL at the beginning of a line.

Exit status:
  0  ended by a signal
  1  not started: a port in use, an unreadable certificate, a missing directory
  2  a mistake in the arguments";

impl Flags {
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    pub(crate) fn log(&self) -> EnvFilter {
        EnvFilter::new(&self.log)
    }

    pub(crate) fn threads(&self) -> usize {
        let cpus = || thread::available_parallelism().map_or(1, usize::from);
        self.threads
            .map_or_else(cpus, |threads| threads.get().into())
    }

    pub(crate) fn config(self) -> Config {
        let mut binds: Vec<_> = self.listen.into_iter().map(Bind::tls).collect();
        binds.extend(self.plain.into_iter().map(Bind::plain));
        if binds.is_empty() {
            binds = Bind::localhost();
        }
        Config {
            binds,
            certificate: match (self.cert, self.key) {
                (Some(chain), Some(key)) => Certificate::Files { chain, key },
                _ => Certificate::SelfSigned,
            },
            plain_version: self.plain_version,
            max_connections: self.max_connections.get() as usize,
            timeouts: Timeouts {
                drain: Duration::from_secs(self.drain_timeout.into()),
                ..Timeouts::default()
            },
        }
    }
}

fn plain_versions() -> impl TypedValueParser<Value = PlainVersion> {
    PossibleValuesParser::new(["spdy/3.1", "spdy/3"]).try_map(|token| token.parse::<PlainVersion>())
}

/// Lets only such text through as makes a filter. (A filter itself cannot be an argument: it cannot be cloned.)
fn log_filter(text: &str) -> Result<String, ParseError> {
    EnvFilter::try_new(text).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use spdy_server::Transport;

    use super::*;

    fn config(words: &str) -> Config {
        Flags::try_parse_from(words.split(' ')).unwrap().config()
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
    }

    #[test]
    fn listeners_may_be_given_several_times_and_replace_the_default() {
        let binds = config(
            "spdy-server --plain 127.0.0.1:1 --listen [::1]:2 --listen 127.0.0.1:3 --plain [::1]:0",
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
                (Transport::Plain, "[::1]:0".into(), true),
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
        let config = config(
            "spdy-server --cert a --key b --plain-version spdy/3 --drain-timeout 7 --max-connections 9 d",
        );
        assert_eq!(
            config.certificate,
            Certificate::Files {
                chain: "a".into(),
                key: "b".into()
            }
        );
        assert_eq!(config.plain_version, PlainVersion::V3);
        assert_eq!(config.timeouts.drain, Duration::from_secs(7));
        assert_eq!(config.max_connections, 9);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for words in [
            "spdy-server --cert a",
            "spdy-server --key a",
            "spdy-server --plain-version spdy/2",
            "spdy-server --listen nowhere",
            "spdy-server --max-connections 0",
            "spdy-server --log spdy_server=loudly",
            "spdy-server a b",
        ] {
            assert!(Flags::try_parse_from(words.split(' ')).is_err(), "{words}");
        }
    }
}
