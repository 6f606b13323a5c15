//! The flags of the reverse proxy.

use std::{num::NonZeroU32, time::Duration};

use clap::Args;
use spdy_server::app::{Proxy, Upstream};

/// The application behind the proxy, if there is one.
#[derive(Debug, Args)]
pub(super) struct Application {
    /// Pass all requests on to an application
    ///
    /// Use http://HOST:PORT or unix:/PATH for HTTP/1.1, and h2://HOST:PORT for HTTP/2 without TLS.
    /// The fields x-forwarded-for, x-forwarded-proto, x-forwarded-host and forwarded describe the
    /// client; host stays as the client sent it. If a host has several addresses, the first that
    /// answers is used. WebSocket, other upgrades and CONNECT are not supported. If the application
    /// does not respond, the client receives 502 or 504.
    #[arg(long, value_name = "URL", conflicts_with = "directory", help_heading = PROXY)]
    proxy: Option<Upstream>,

    /// Seconds that the application can be silent before its request fails
    #[arg(long, value_name = "SECONDS", default_value = "60", requires = "proxy", help_heading = PROXY)]
    proxy_timeout: NonZeroU32,

    /// Maximum number of connections to the application; further requests wait
    #[arg(long, value_name = "NUMBER", default_value = "512", requires = "proxy", help_heading = PROXY)]
    proxy_connections: NonZeroU32,

    /// Seconds that an application which refuses connections is asked again; 0 asks once
    ///
    /// An application that starts again refuses connections for a while. A request waits for it,
    /// and fails with 502 after this time. It holds one of --proxy-connections meanwhile: requests
    /// that find no place fail with 503 after 5 seconds. With 5 or more those 5 seconds are the
    /// limit, and the failure can be 504.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, requires = "proxy", help_heading = PROXY)]
    proxy_retry: u32,

    /// Keep the x-forwarded-* and forwarded fields of clients, and add to them
    ///
    /// Use this only behind another proxy: otherwise clients can claim any address.
    #[arg(long, requires = "proxy", help_heading = PROXY)]
    trust_forwarded: bool,
}

const PROXY: &str = "Proxy";

impl Application {
    pub(super) fn proxy(&self) -> Option<Proxy> {
        let mut proxy = Proxy::new(self.proxy.clone()?);
        proxy.trust_forwarded = self.trust_forwarded;
        proxy.answer_timeout = self.patience()?;
        proxy.max_connections = self.connections()?.get() as usize;
        proxy.retry_refused = Duration::from_secs(self.proxy_retry.into());
        Some(proxy)
    }

    /// Returns how long a request waits for the application.
    pub(super) fn patience(&self) -> Option<Duration> {
        let seconds = self.proxy.as_ref().map(|_| self.proxy_timeout)?;
        Some(Duration::from_secs(seconds.get().into()))
    }

    /// Returns how many connections to the application there can be.
    pub(super) fn connections(&self) -> Option<NonZeroU32> {
        self.proxy.as_ref().map(|_| self.proxy_connections)
    }
}
