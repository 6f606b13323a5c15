//! The files that a running server reads again.

use std::{convert::Infallible, error::Error, sync::Arc, time::Duration};

use tokio::{sync::Notify, time::sleep};
use tracing::{info, warn};

use crate::{
    access_log::Log,
    metrics::Metrics,
    tls::{Tls, Watch},
};

/// A handle that asks a running server to reload its certificate and to reopen its access log.
#[derive(Clone, Debug, Default)]
pub struct Reload(Arc<Notify>);

impl Reload {
    /// Returns at once. If the new certificate is invalid, the server keeps the old one and logs a
    /// warning.
    pub fn now(&self) {
        self.0.notify_one();
    }
}

/// The files that can change while the server runs.
pub(super) struct Files {
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) log: Option<Arc<Log>>,
    pub(super) metrics: Option<Arc<Metrics>>,
    pub(super) watch: Option<Watch>,
    pub(super) period: Duration,
    /// Whether the certificate could not be read. Then each check tries again, because the reason
    /// might have been temporary and the files might not change again.
    pub(super) overdue: bool,
}

impl Files {
    /// Reloads the files when they change or when `reload` asks for it.
    pub(super) async fn keep_up(mut self, reload: &Reload) -> Infallible {
        loop {
            let asked = tokio::select! {
                () = reload.0.notified() => true,
                () = sleep(self.period), if self.watch.is_some() => false,
            };
            let changed = match &mut self.watch {
                Some(watch) if asked => {
                    watch.catch_up();
                    true
                }
                Some(watch) => watch.has_changed(),
                None => false,
            };
            if changed || self.overdue {
                self.load(changed);
            }
            if asked && let Some(log) = &self.log {
                log.reopen();
            }
        }
    }

    /// Reads the certificate. With `tell`, a failure is logged; the caller sets it once for each
    /// change of the files.
    fn load(&mut self, tell: bool) {
        let Some(tls) = &self.tls else { return };
        let outcome = tls.reload();
        self.overdue = outcome.is_err();
        if self.overdue
            && let Some(metrics) = &self.metrics
        {
            metrics.reload_failed();
        }
        match outcome {
            Ok(true) => {
                let fingerprint = tls.fingerprint().map(|it| it.to_string());
                info!(fingerprint, "certificate reloaded")
            }
            Ok(false) => {}
            Err(error) if tell => warn!(
                reason = error.source().map(ToString::to_string),
                "{error}; keeping the old certificate and trying again"
            ),
            Err(_) => {}
        }
    }
}

/// A shorter interval would use all the time of the server for checks.
pub(super) const SHORTEST_CHECK: Duration = Duration::from_millis(10);
