//! The options of connections, to servers and through proxies.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use http::HeaderValue;
use spdy_frame::Version;

use super::values;
use crate::{origin::Url, proxies::Chosen, route::Route, tls::Trust};

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
