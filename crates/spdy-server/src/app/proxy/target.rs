//! One address of an application: how it is connected to, and within which limits.

use std::{fmt, io, sync::Arc, time::Duration};

use spdy_tower::client::Lookups;
use tokio::{
    sync::{Mutex, MutexGuard, Notify},
    time::{Instant, timeout},
};
use tracing::{info, warn};

#[cfg(feature = "rustls")]
use super::secure;
use super::{
    Choice, Failure, Proxy, Upstream,
    choice::Race,
    dial::Channel,
    shortage::{Shortage, cure},
};
#[cfg(test)]
use super::{Turn, choice::Wanted};

/// An address, with what its connections need.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) proxy: Arc<Proxy>,
    choice: Arc<Choice>,
    index: usize,
    shortage: Arc<Shortage>,
    lookups: Lookups,
    /// The only connect to the address while it is down holds this lock.
    trying: Mutex<()>,
    /// Wakes those that wait until the address is up.
    up: Notify,
}

/// What a connection is opened for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Requests,
    Check,
}

/// How an attempt to open a connection has ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    Open,
    Failed,
    /// It says nothing of the address.
    Unknown,
}

impl Outcome {
    const fn of<C>(opened: &Result<C, Failure>) -> Self {
        match opened {
            Ok(_) => Self::Open,
            Err(Failure::Short(_)) => Self::Unknown,
            Err(_) => Self::Failed,
        }
    }
}

impl Target {
    pub(super) fn all(proxy: &Arc<Proxy>, choice: &Arc<Choice>) -> impl Iterator<Item = Self> {
        let shortage = Arc::default();
        let target = move |index| Self {
            proxy: Arc::clone(proxy),
            choice: Arc::clone(choice),
            index,
            shortage: Arc::clone(&shortage),
            lookups: Lookups::default(),
            trying: Mutex::default(),
            up: Notify::new(),
        };
        (0..proxy.upstreams().len()).map(target)
    }

    /// Returns the only address of a proxy.
    #[cfg(test)]
    pub(super) fn alone(proxy: Proxy) -> Arc<Self> {
        let choice = Arc::new(Choice::new(1, proxy.down_after, proxy.down_for));
        let proxy = Arc::new(proxy);
        let first = Self::all(&proxy, &choice).next();
        Arc::new(first.unwrap())
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
        self.dial_for(Purpose::Requests).await
    }

    /// Opens a transport that shows whether the address accepts one, and carries no request.
    pub(super) async fn check(&self) -> Result<Channel, Failure> {
        self.dial_for(Purpose::Check).await
    }

    async fn dial_for(&self, purpose: Purpose) -> Result<Channel, Failure> {
        // It is a box, because each request would have room for it otherwise.
        let dialed = Box::pin(self.dial_address(purpose)).await;
        dialed
            .inspect(|_| self.shortage.ends())
            .map_err(|error| self.failure(&error))
    }

    async fn dial_address(&self, purpose: Purpose) -> io::Result<Channel> {
        let upstream = self.upstream();
        let io = match &self.proxy.dial {
            Some(dial) => dial.connect(upstream).await?,
            None => Box::new(upstream.connect(&self.lookups).await?),
        };
        #[cfg(feature = "rustls")]
        if upstream.is_tls() {
            let config = self.proxy.tls.as_ref().map(|config| match purpose {
                Purpose::Requests => Arc::clone(config),
                Purpose::Check => secure::without_sessions(config),
            });
            return secure::connect(config, upstream, io).await;
        }
        #[cfg(not(feature = "rustls"))]
        let _ = purpose;
        Ok(io)
    }

    fn failure(&self, error: &io::Error) -> Failure {
        if let Some(cure) = cure(error) {
            if self.shortage.begins() {
                warn!(
                    upstream = %self,
                    reason = %error,
                    "no connection to the application can be opened, for a reason of this \
                     machine: {cure}"
                );
            }
            return Failure::Short(error.to_string());
        }
        match self.upstream().is_refusal(error) {
            true => Failure::Refused(error.to_string()),
            false => Failure::Connect(error.to_string()),
        }
    }

    /// Opens a connection within the time of one attempt, and notes the outcome.
    ///
    /// Connects to an address that is down are made one after another. One whose turn comes when
    /// half of its time is over waits until the address is up, so a crowd makes few.
    ///
    /// An attempt that is given up before its end is a failure if half of the time was its own. It
    /// says nothing of the address otherwise, and neither does one that is given up because its
    /// `race` is lost, nor what this machine lacks.
    pub(super) async fn open<C>(
        &self,
        race: Option<Race>,
        opening: impl Future<Output = Result<C, Failure>>,
    ) -> Result<C, Failure> {
        let attempt = async {
            let _alone = self.alone_if_down().await;
            let mut attempt = Attempt {
                target: self,
                race,
                begun: Instant::now(),
                outcome: None,
            };
            let opened = opening.await;
            attempt.outcome = Some(Outcome::of(&opened));
            opened
        };
        let opened = timeout(self.limit(), attempt).await;
        opened.unwrap_or(Err(Failure::ConnectTimeout))
    }

    /// Waits until no other connect to an address that is down is under way, or until it is up.
    async fn alone_if_down(&self) -> Option<MutexGuard<'_, ()>> {
        let asked = Instant::now();
        // It also completes if the address comes up before it is awaited.
        let up = self.up.notified();
        let is_down = || self.choice.is_down(self.index);
        if !is_down() {
            return None;
        }
        let alone = self.trying.lock().await;
        if !is_down() || asked.elapsed() <= self.limit() / 2 {
            return is_down().then_some(alone);
        }
        drop(alone);
        up.await;
        None
    }

    /// Returns how long an attempt can take, so that there is time for all addresses.
    pub(super) fn limit(&self) -> Duration {
        let whole = self.proxy.connect_timeout;
        let addresses = u32::try_from(self.proxy.upstreams().len()).unwrap_or(u32::MAX);
        (whole / addresses).max(LEAST_ATTEMPT.min(whole))
    }

    /// Notes how an attempt to connect, or the trial of the address, has ended.
    pub(super) fn note(&self, outcome: Outcome) {
        match outcome {
            Outcome::Open => {
                if self.choice.succeeded(self.index) {
                    self.up.notify_waiters();
                    info!(upstream = %self, "an address of the application is back");
                }
            }
            Outcome::Failed => {
                if self.choice.failed(self.index) {
                    self.tell_down();
                }
            }
            Outcome::Unknown => {}
        }
    }

    fn tell_down(&self) {
        warn!(
            upstream = %self,
            failures = self.proxy.down_after,
            "an address of the application is down: no connection can be opened; it is left out \
             for {} s at a time while others are up",
            self.proxy.down_for.as_secs_f64()
        );
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
    race: Option<Race>,
    begun: Instant,
    /// `None` until the end of the attempt.
    outcome: Option<Outcome>,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let given_up = || {
            let is_lost = self.race.as_ref().is_some_and(Race::is_lost);
            match !is_lost && self.begun.elapsed() >= self.target.limit() / 2 {
                true => Outcome::Failed,
                false => Outcome::Unknown,
            }
        };
        self.target.note(self.outcome.unwrap_or_else(given_up));
    }
}

/// The least time for an attempt to open a connection, if an application has many addresses.
const LEAST_ATTEMPT: Duration = Duration::from_secs(1);
