//! One address of an application: how it is connected to, and within which limits.

use std::{fmt, io, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};
use tracing::{info, warn};

#[cfg(feature = "rustls")]
use super::secure;
use super::{Choice, Failure, Proxy, Upstream, dial::Channel};
#[cfg(test)]
use super::{Turn, choice::Wanted};

/// An address, with what its connections need.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) proxy: Arc<Proxy>,
    choice: Arc<Choice>,
    index: usize,
}

impl Target {
    pub(super) const fn new(proxy: Arc<Proxy>, choice: Arc<Choice>, index: usize) -> Self {
        Self {
            proxy,
            choice,
            index,
        }
    }

    /// Returns the only address of a proxy.
    #[cfg(test)]
    pub(super) fn alone(proxy: Proxy) -> Arc<Self> {
        let choice = Arc::new(Choice::new(1, proxy.down_after, proxy.down_for));
        Arc::new(Self::new(Arc::new(proxy), choice, 0))
    }

    /// Returns the turn of a request that has chosen this address.
    #[cfg(test)]
    pub(super) fn turn(&self) -> Turn {
        self.choice.choose(&Wanted::default()).unwrap()
    }

    pub(super) const fn index(&self) -> usize {
        self.index
    }

    pub(super) fn upstream(&self) -> &Upstream {
        &self.proxy.upstreams()[self.index]
    }

    /// Opens a transport.
    pub(super) async fn dial(&self) -> Result<Channel, Failure> {
        let upstream = self.upstream();
        // It is a box, because each request would have room for it otherwise.
        let dialed = Box::pin(self.dial_address(upstream)).await;
        dialed.map_err(|error| match upstream.is_refusal(&error) {
            true => Failure::Refused(error.to_string()),
            false => Failure::Connect(error.to_string()),
        })
    }

    async fn dial_address(&self, upstream: &Upstream) -> io::Result<Channel> {
        let io = match &self.proxy.dial {
            Some(dial) => dial.connect(upstream).await?,
            None => Box::new(upstream.connect().await?),
        };
        #[cfg(feature = "rustls")]
        if upstream.is_tls() {
            return secure::connect(self.proxy.tls.as_ref(), upstream, io).await;
        }
        Ok(io)
    }

    /// Waits for a connection that is being opened, within the time of one attempt, and notes the
    /// outcome.
    ///
    /// An attempt that is given up before its end is a failure if half of its time is over.
    /// Otherwise it says nothing of the address.
    pub(super) async fn open<C>(
        &self,
        opening: impl Future<Output = Result<C, Failure>>,
    ) -> Result<C, Failure> {
        let mut attempt = Attempt {
            target: self,
            begun: Instant::now(),
            is_open: None,
        };
        let opened = timeout(self.limit(), opening).await;
        let opened = opened.unwrap_or(Err(Failure::ConnectTimeout));
        attempt.is_open = Some(opened.is_ok());
        opened
    }

    /// Returns how long an attempt can take, so that there is time for all addresses.
    pub(super) fn limit(&self) -> Duration {
        let whole = self.proxy.connect_timeout;
        let addresses = u32::try_from(self.proxy.upstreams().len()).unwrap_or(u32::MAX);
        (whole / addresses).max(LEAST_ATTEMPT.min(whole))
    }

    /// Notes whether an attempt to connect, or the trial of the address, has succeeded.
    pub(super) fn note(&self, is_open: bool) {
        let Proxy {
            down_after,
            down_for,
            ..
        } = &*self.proxy;
        if is_open {
            if self.choice.succeeded(self.index) {
                info!(upstream = %self, "an address of the application is back");
            }
        } else if self.choice.failed(self.index) {
            warn!(
                upstream = %self,
                failures = down_after,
                "an address of the application is down: no connection can be opened; it is left \
                 out for {} s at a time while others are up",
                down_for.as_secs_f64()
            );
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.upstream().fmt(f)
    }
}

/// An attempt to open a connection.
struct Attempt<'a> {
    target: &'a Target,
    begun: Instant,
    /// Whether the connection is open, once that is known.
    is_open: Option<bool>,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let had_time = || self.begun.elapsed() >= self.target.limit() / 2;
        if let Some(is_open) = self.is_open.or_else(|| had_time().then_some(false)) {
            self.target.note(is_open);
        }
    }
}

/// The least time for an attempt to open a connection, if an application has many addresses.
const LEAST_ATTEMPT: Duration = Duration::from_secs(1);
