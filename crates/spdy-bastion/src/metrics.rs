//! Counters for Prometheus.

use std::sync::Arc;

use prometheus_client::{
    encoding::prometheus_text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Metric, Registry},
};

use crate::target::Verb;

/// All metrics of a bastion. Clones count together.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    connections_open: Gauge,
    requests: Family<[Label; 1], Counter>,
    sessions: Family<[Label; 1], Counter>,
    sessions_open: Gauge,
    denied: Family<[Label; 1], Counter>,
    bytes: Family<[Label; 1], Counter>,
    recordings_failed: Counter,
    reloads_failed: Counter,
}

/// Why a request was not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It has no valid credentials.
    Credentials,
    /// A page in a browser has sent it.
    Origin,
    /// The bastion does not understand it.
    Unknown,
    /// A rule denies it.
    Rule,
    /// There is no place for another session.
    Limit,
    /// It cannot be recorded, or not be audited.
    Recording,
}

impl Reason {
    const ALL: [Self; 6] = [
        Self::Credentials,
        Self::Origin,
        Self::Unknown,
        Self::Rule,
        Self::Limit,
        Self::Recording,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Origin => "origin",
            Self::Unknown => "unknown",
            Self::Rule => "rule",
            Self::Limit => "limit",
            Self::Recording => "recording",
        }
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("spdy_bastion");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of spdy-bastion", version);
        let mut names = Names(&mut registry);
        let mut metrics = Self {
            connections_open: names.add("connections_open", "Open connections of clients"),
            requests: names.add(
                "requests",
                "Requests that were passed on, by class of status",
            ),
            sessions: names.add("sessions", "Sessions with streams that have begun, by verb"),
            sessions_open: names.add("sessions_open", "Sessions with streams that are live"),
            denied: names.add("denied", "Requests that were not passed on, by reason"),
            bytes: names.add(
                "stream_bytes",
                "Bytes of sessions that have ended, by direction",
            ),
            recordings_failed: names.add("recordings_failed", "Recordings that are not complete"),
            reloads_failed: names.add("reloads_failed", "Files that were not valid when reloaded"),
            registry: Arc::default(),
        };
        for verb in Verb::ALL {
            drop(metrics.sessions.get_or_create(&[("verb", verb.name())]));
        }
        for reason in Reason::ALL {
            drop(metrics.denied.get_or_create(&[("reason", reason.name())]));
        }
        metrics.registry = Arc::new(registry);
        metrics
    }

    /// Returns all metrics in Prometheus' text format, which every scraper reads.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes any text");
        text
    }

    pub(crate) fn connection(&self) -> Open {
        Open::new(&self.connections_open)
    }

    pub(crate) fn session(&self, verb: Verb) -> Open {
        self.sessions.get_or_create(&[("verb", verb.name())]).inc();
        Open::new(&self.sessions_open)
    }

    pub(crate) fn moved(&self, received: u64, sent: u64) {
        self.bytes
            .get_or_create(&[("direction", "in")])
            .inc_by(received);
        self.bytes
            .get_or_create(&[("direction", "out")])
            .inc_by(sent);
    }

    pub(crate) fn denied(&self, reason: Reason) {
        self.denied
            .get_or_create(&[("reason", reason.name())])
            .inc();
    }

    pub(crate) fn passed(&self, status: http::StatusCode) {
        let class = match status.as_u16() / 100 {
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.requests.get_or_create(&[("status", class)]).inc();
    }

    pub(crate) fn recording_failed(&self) {
        self.recordings_failed.inc();
    }

    pub(crate) fn reload_failed(&self) {
        self.reloads_failed.inc();
    }
}

/// Adds one to a gauge as long as this is held.
pub(crate) struct Open(Gauge);

impl Open {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Registers metrics under their names.
struct Names<'a>(&'a mut Registry);

impl Names<'_> {
    fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }
}

type Label = (&'static str, &'static str);

/// The type of the text.
pub(crate) const CONTENT: &str = "text/plain; version=0.0.4; charset=utf-8";
