//! The flags of the reverse proxy.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use clap::{
    ArgMatches, Args, Command, Error, FromArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
};
use spdy_server::app::{Proxy, Upstream, UpstreamsError};

use super::trust;

/// The application behind the proxy, if there is one.
#[derive(Debug)]
pub(super) struct Application {
    proxy: Option<Proxy>,
    /// The file of the authorities that its addresses over TLS can have.
    authorities: Option<PathBuf>,
    is_checked: bool,
}

/// The flags as they are given.
#[derive(Debug, Args)]
struct Given {
    /// Pass all requests on to an application; can be repeated for its other addresses
    ///
    /// Use http://HOST:PORT, https://HOST:PORT or unix:/PATH for HTTP/1.1, and h2://HOST:PORT or
    /// h2s://HOST:PORT for HTTP/2. https:// and h2s:// use TLS: see --proxy-ca. The fields
    /// x-forwarded-for, x-forwarded-proto, x-forwarded-host and forwarded describe the client; host
    /// stays as the client sent it. WebSocket and other upgrades pass over HTTP/1.1. CONNECT is not
    /// supported. If the application does not respond, the client receives 502 or 504.
    ///
    /// Of several URLs, a request goes to the one with the fewest requests, and to the next one if
    /// no connection can be opened. All must be h2://, all h2s://, or neither. If the host of a URL
    /// has several addresses, the first that answers is used; they are not balanced.
    #[arg(long, value_name = "URL", conflicts_with = "directory", help_heading = PROXY)]
    proxy: Vec<Upstream>,

    /// File with the authorities whose certificates https:// and h2s:// URLs of --proxy can have
    ///
    /// The file is in PEM form. By default the authorities are those that the system trusts. A
    /// certificate that its application has signed itself can be in the file, too. Certificates
    /// have to name the host of their URL.
    #[arg(long, value_name = "FILE", requires = "proxy", conflicts_with = "directory", help_heading = PROXY)]
    proxy_ca: Option<PathBuf>,

    /// Seconds that the application can be silent before its request fails
    #[arg(long, value_name = "SECONDS", default_value = "60", requires = "proxy", conflicts_with = "directory", help_heading = PROXY)]
    proxy_timeout: NonZeroU32,

    /// Maximum number of connections to each URL of --proxy; further requests wait
    #[arg(long, value_name = "NUMBER", default_value = "512", requires = "proxy", conflicts_with = "directory", help_heading = PROXY)]
    proxy_connections: NonZeroU32,

    /// Seconds that an application which refuses connections is asked again; 0 asks once
    ///
    /// An application that starts again refuses connections for a while. A request waits for it
    /// while all URLs fail and one of them refuses, and fails with 502 after this time. Getting a
    /// connection takes at most 5 seconds, so with 5 or more the failure can be 504.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, requires = "proxy", conflicts_with = "directory", help_heading = PROXY)]
    proxy_retry: u32,

    /// Connects that fail in a row until a URL of --proxy is left out; 0 leaves none out
    ///
    /// A connect fails if it is refused, ends with an error or is not open in its part of the 5
    /// seconds, which all URLs share. Responses do not count, and neither does a connect for which
    /// this machine has no descriptor, port or memory left. If all URLs are left out, all are
    /// tried.
    #[arg(long, value_name = "NUMBER", default_value_t = 3, requires = "proxy", conflicts_with = "directory", help_heading = PROXY)]
    proxy_down_after: u32,

    /// Seconds that such a URL is left out before one request tries it
    ///
    /// The URL is back if that request can connect or is answered, and is left out for the same
    /// time again if its connect fails. If the request ends before either, the next one tries.
    #[arg(long, value_name = "SECONDS", default_value = "10", requires = "proxy", conflicts_with = "directory", help_heading = PROXY)]
    proxy_down_for: NonZeroU32,

    /// Seconds in which nothing moves after an upgrade, such as WebSocket, until it is closed
    ///
    /// It also limits how long a side can take without reading. --idle-timeout, --write-timeout and
    /// --proxy-timeout do not apply after an upgrade.
    #[arg(long, value_name = "SECONDS", default_value = "3600", requires = "proxy", conflicts_with = "directory", help_heading = PROXY)]
    upgrade_timeout: NonZeroU32,

    /// Maximum number of bytes in the body of a request; longer ones are answered with 413
    ///
    /// By default there is no limit. Bodies pass through without being held.
    #[arg(long, value_name = "BYTES", requires = "proxy", conflicts_with = "directory", help_heading = PROXY)]
    max_body: Option<u64>,

    /// Keep the x-forwarded-* and forwarded fields of clients, and add to them
    ///
    /// Use this only behind another proxy: otherwise clients can claim any address.
    #[arg(long, requires = "proxy", conflicts_with = "directory", help_heading = PROXY)]
    trust_forwarded: bool,

    /// Let /readyz return 503 while no URL of --proxy accepts a connection
    ///
    /// It opens a connection to each URL, beside those of --proxy-connections, and closes it: at
    /// most once in a second and for a second at most. It is off by default because all servers in
    /// front of one application would leave their load balancer at once when the application
    /// fails; with it off, clients get 502 and see what is wrong. Use it where each server has an
    /// application of its own.
    #[arg(long, requires_all = ["proxy", "pages"], conflicts_with = "directory", help_heading = PROXY)]
    ready_checks_application: bool,
}

const PROXY: &str = "Proxy";

impl Given {
    fn proxy(self) -> Result<Option<Proxy>, UpstreamsError> {
        let mut upstreams = self.proxy.into_iter();
        let Some(first) = upstreams.next() else {
            return Ok(None);
        };
        let mut proxy = upstreams.try_fold(Proxy::new(first), Proxy::also)?;
        proxy.trust_forwarded = self.trust_forwarded;
        proxy.answer_timeout = Duration::from_secs(self.proxy_timeout.get().into());
        proxy.max_connections = self.proxy_connections.get() as usize;
        proxy.retry_refused = Duration::from_secs(self.proxy_retry.into());
        proxy.down_after = self.proxy_down_after;
        proxy.down_for = Duration::from_secs(self.proxy_down_for.get().into());
        proxy.max_body = self.max_body;
        proxy.upgrade_timeout = Duration::from_secs(self.upgrade_timeout.get().into());
        Ok(Some(proxy))
    }
}

impl Application {
    /// Returns the proxy, with the certificates that it trusts. The error is a sentence.
    pub(super) fn proxy(&self) -> Result<Option<Proxy>, String> {
        let Some(mut proxy) = self.proxy.clone() else {
            return Ok(None);
        };
        let authorities = self.authorities.as_deref();
        if proxy.upstreams().iter().any(Upstream::is_tls) {
            proxy.tls = Some(trust::config(authorities)?);
        } else if authorities.is_some() {
            return Err(NO_TLS.into());
        }
        Ok(Some(proxy))
    }

    /// Returns whether the server is ready only if the application is.
    pub(super) const fn is_checked(&self) -> bool {
        self.is_checked
    }

    /// Returns how long a request waits for the application.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.proxy.as_ref().map(|proxy| proxy.answer_timeout)
    }

    /// Returns how many connections a check of the application opens at once.
    pub(super) fn checks(&self) -> usize {
        let proxy = self.proxy.as_ref().filter(|_| self.is_checked);
        proxy.map_or(0, |proxy| proxy.upstreams().len())
    }

    /// Returns how many connections to the application there can be for requests.
    pub(super) fn connections(&self) -> Option<usize> {
        let proxy = self.proxy.as_ref()?;
        let addresses = proxy.upstreams().len();
        Some(proxy.max_connections.saturating_mul(addresses))
    }
}

impl FromArgMatches for Application {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = Given::from_arg_matches(matches)?;
        Ok(Self {
            is_checked: given.ready_checks_application,
            authorities: given.proxy_ca.clone(),
            proxy: given.proxy().map_err(|error| invalid(&error))?,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Application {
    fn augment_args(command: Command) -> Command {
        Given::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Given::augment_args_for_update(command)
    }
}

const NO_TLS: &str =
    "--proxy-ca is of no use to a --proxy without TLS: write https:// or h2s:// there";

/// Returns the error for addresses that are not those of one application.
fn invalid(reason: &UpstreamsError) -> Error {
    let mut error = Error::raw(ErrorKind::ValueValidation, format!("{reason}\n"));
    let flag = ContextValue::String("--proxy <URL>".into());
    error.insert(ContextKind::InvalidArg, flag);
    error
}
