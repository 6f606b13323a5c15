//! The metrics for Prometheus, and the pages that serve them.
//!
//! All labels are created in advance, so counting is only an addition. Only those of the durations
//! are created when they occur, because most of them never do.

mod certificate;
mod duration;
mod format;
mod frames;
mod http2;
mod memory;
#[cfg(target_os = "linux")]
mod process;
#[cfg(feature = "proxy")]
mod upstreams;

use std::{
    array, fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    http::{
        HeaderMap, Method, StatusCode,
        header::{ACCEPT, CONTENT_TYPE, VARY},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};
use spdy_tower::session;

use self::{
    certificate::Expiry, duration::Durations, format::Format, frames::Frames, http2::Faults,
    memory::Memory,
};
use crate::{
    config::{Config, Transport},
    data_count::Fault,
    info::ConnectionInfo,
    negotiate::Protocol,
    observe::{End, Measured},
    readiness::Readiness,
    tls::Tls,
};

/// All metrics of a server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    draining: AtomicBool,
    connections: Counter,
    connections_open: Gauge,
    limit_reached: Counter,
    refused: Counter,
    reloads_failed: Counter,
    handshake_failures: [Counter; 2],
    frames: Arc<session::Counters>,
    http2: Faults,
    protocols: [Counters; PROTOCOLS],
    durations: Durations,
}

/// The metrics of one protocol.
#[derive(Debug)]
struct Counters {
    sessions: Counter,
    sessions_open: Gauge,
    requests: [Counter; CLASSES.len()],
    requests_open: Gauge,
    cut: Counter,
    requests_cut: Counter,
    malformed: [Counter; REFUSALS.len()],
    received: Counter,
    sent: Counter,
}

impl Metrics {
    /// Creates the metrics. Returns `None` in a build without them. `memory` is the counter of what
    /// SPDY sessions hold, and `tls` has the certificate.
    #[allow(clippy::unnecessary_wraps)]
    pub(crate) fn new(
        config: &Config,
        memory: Arc<session::MemoryUse>,
        tls: Option<&Arc<Tls>>,
    ) -> Option<Self> {
        Some(Self::named(config, memory, tls))
    }

    fn named(config: &Config, memory: Arc<session::MemoryUse>, tls: Option<&Arc<Tls>>) -> Self {
        let mut registry = Registry::default();
        let durations = Durations::new(&mut registry);
        #[cfg(target_os = "linux")]
        registry.register_collector(Box::new(process::Process));
        let ours = registry.sub_registry_with_prefix("spdy_server");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        ours.register("build", "The version of spdy-server", version);
        let mut names = Names(ours);
        let connections = names.one("connections", "Connections accepted");
        let connections_open = names.one("connections_open", "Open connections");
        let limit: Gauge = names.one("connections_limit", "Maximum number of open connections");
        limit.set(i64::try_from(config.max_connections).unwrap_or(i64::MAX));
        let limit_reached = names.one(
            "connections_limit_reached",
            "Connections that waited because the limit was reached",
        );
        let refused = names.one(
            "connections_refused",
            "Connections refused because SPDY sessions held too much memory",
        );
        let reloads_failed = names.one(
            "certificate_reload_failures",
            "How often the files of the certificate were read again and are of no use",
        );
        let memory_limit: Gauge = names.one(
            "session_memory_limit_bytes",
            "Maximum bytes that SPDY sessions hold before connections are refused",
        );
        memory_limit.set(i64::try_from(config.max_session_memory).unwrap_or(i64::MAX));
        let failures: Family<[Label; 1], Counter> = names.one(
            "handshake_failures",
            "Connections that failed during the handshake or the detection of the protocol",
        );
        let sessions = names.family("sessions", "Connections by protocol");
        let sessions_open = names.family("sessions_open", "Open connections by protocol");
        let requests: Family<[Label; 2], Counter> =
            names.one("requests", "Requests by protocol and class of status");
        let malformed: Family<[Label; 2], Counter> = names.one(
            "malformed_requests",
            "Malformed requests that did not reach the application, by status",
        );
        let cut = names.family(
            "responses_cut",
            "Responses that were begun and not handed over whole",
        );
        let requests_cut = names.family(
            "requests_cut",
            "Requests whose body broke off, and that were answered whole nevertheless",
        );
        let requests_open = names.family("requests_open", "Open requests");
        let received = names.family("request_body_bytes", "Bytes of request bodies received");
        let sent = names.family("response_body_bytes", "Bytes of response bodies sent");
        let http2 = Faults::new(&mut names);

        let frames = Arc::<session::Counters>::default();
        ours.register_collector(Box::new(Frames(Arc::clone(&frames))));
        ours.register_collector(Box::new(Memory(memory)));
        if let Some(tls) = tls {
            ours.register_collector(Box::new(Expiry(Arc::clone(tls))));
        }

        let counters = |protocol: Protocol| {
            let label = ("protocol", protocol.token());
            Counters {
                sessions: sessions.get_or_create_owned(&[label]),
                sessions_open: sessions_open.get_or_create_owned(&[label]),
                requests: CLASSES
                    .map(|class| requests.get_or_create_owned(&[label, ("status", class)])),
                cut: cut.get_or_create_owned(&[label]),
                requests_cut: requests_cut.get_or_create_owned(&[label]),
                requests_open: requests_open.get_or_create_owned(&[label]),
                malformed: REFUSALS.map(|status| match (protocol, status) {
                    // h2 resets those whose target is too long, like others.
                    (Protocol::Http2, "414") => Counter::default(),
                    // A reset of h2 counts as 400.
                    _ => malformed.get_or_create_owned(&[label, ("status", status)]),
                }),
                received: received.get_or_create_owned(&[label]),
                sent: sent.get_or_create_owned(&[label]),
            }
        };
        Self {
            protocols: array::from_fn(|index| counters(Protocol::ALL[index])),
            handshake_failures: ["tls", "plain"]
                .map(|transport| failures.get_or_create_owned(&[("transport", transport)])),
            registry,
            durations,
            frames,
            http2,
            draining: AtomicBool::new(false),
            connections,
            connections_open,
            limit_reached,
            refused,
            reloads_failed,
        }
    }

    /// Counts a connection, which is open as long as the guard is held.
    pub(crate) fn connection(self: &Arc<Self>) -> Open {
        self.connections.inc();
        Open::new(&self.connections_open)
    }

    pub(crate) fn refused(&self) {
        self.refused.inc();
    }

    pub(crate) fn reload_failed(&self) {
        self.reloads_failed.inc();
    }

    pub(crate) fn limit_reached(&self) {
        self.limit_reached.inc();
    }

    pub(crate) fn handshake_failed(&self, transport: Transport) {
        self.handshake_failures[usize::from(transport == Transport::Plain)].inc();
    }

    /// Counts a connection whose protocol is known. It is open as long as the guard is held.
    pub(crate) fn session(&self, protocol: Protocol) -> Open {
        let counters = self.of(protocol);
        counters.sessions.inc();
        Open::new(&counters.sessions_open)
    }

    /// Counts an open request as long as the guard is held.
    pub(crate) fn request(&self, protocol: Protocol) -> Open {
        Open::new(&self.of(protocol).requests_open)
    }

    /// Returns the counters for SPDY sessions.
    pub(crate) const fn frames(&self) -> &Arc<session::Counters> {
        &self.frames
    }

    /// Counts a malformed request that did not reach the application, by the status of its
    /// response.
    pub(crate) fn malformed(&self, protocol: Protocol, status: StatusCode) {
        let counters = self.of(protocol);
        counters.requests[class(status)].inc();
        let place = REFUSALS.iter().position(|known| *known == status.as_str());
        if let Some(place) = place {
            counters.malformed[place].inc();
        }
    }

    /// Counts what an HTTP/2 connection tells its client.
    pub(crate) fn told(&self, fault: Fault) {
        self.http2.count(fault);
    }

    /// Counts a request that is over.
    pub(crate) fn measured(
        &self,
        connection: &ConnectionInfo,
        method: &Method,
        measured: Measured,
    ) {
        let counters = self.of(connection.protocol);
        counters.requests[measured.status.map_or(0, class)].inc();
        let is = |end| u64::from(measured.end == end);
        counters.cut.inc_by(is(End::Cut));
        counters.requests_cut.inc_by(is(End::RequestCut));
        counters.received.inc_by(measured.received);
        counters.sent.inc_by(measured.sent);
        let Measured {
            status, duration, ..
        } = measured;
        self.durations.observe(connection, method, status, duration);
    }

    /// Adds the addresses of the application behind a proxy.
    #[cfg(feature = "proxy")]
    pub(crate) fn add_upstreams(&mut self, upstreams: crate::app::Upstreams) {
        let ours = self.registry.sub_registry_with_prefix("spdy_server");
        ours.register_collector(Box::new(upstreams::Addresses(upstreams)));
    }

    /// Makes `/readyz` report that the server accepts no new work.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn of(&self, protocol: Protocol) -> &Counters {
        let index = Protocol::ALL.iter().position(|known| *known == protocol);
        &self.protocols[index.expect("all protocols are listed")]
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

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Open")
    }
}

/// Registers metrics under their names.
struct Names<'a>(&'a mut Registry);

impl Names<'_> {
    fn one<M>(&mut self, name: &str, help: &str) -> M
    where
        M: prometheus_client::registry::Metric + Clone + Default,
    {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    fn family<M>(&mut self, name: &str, help: &str) -> Family<[Label; 1], M>
    where
        Family<[Label; 1], M>: prometheus_client::registry::Metric,
        M: Default,
    {
        self.one(name, help)
    }
}

/// Returns the page of the metrics and those of the health checks. With `readiness` the application
/// has to be ready, too.
pub(crate) fn pages(metrics: Arc<Metrics>, readiness: Option<Readiness>) -> Router {
    let ready = get(async move |State(metrics): State<Arc<Metrics>>| {
        state(&metrics, readiness.as_ref()).await
    });
    Router::new()
        .route("/metrics", get(page))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", ready.clone())
        .route("/healthz", ready)
        .with_state(metrics)
}

async fn page(State(metrics): State<Arc<Metrics>>, fields: HeaderMap) -> Response {
    let format = Format::wanted(&fields);
    let head = [
        (CONTENT_TYPE, format.content_type()),
        (VARY, ACCEPT.as_str()),
    ];
    (head, format.text(&metrics.registry)).into_response()
}

async fn state(metrics: &Metrics, readiness: Option<&Readiness>) -> Response {
    if metrics.draining.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    if let Some(readiness) = readiness
        && !readiness.is_ready().await
    {
        let text = "the application is not ready\n";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    "ok\n".into_response()
}

type Label = (&'static str, &'static str);

const PROTOCOLS: usize = Protocol::ALL.len();

/// The classes of status: the class of 200 is at index 2. A response never has status 1xx.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Returns the place of a status in [`CLASSES`].
fn class(status: StatusCode) -> usize {
    let class = usize::from(status.as_u16() / 100);
    if class < CLASSES.len() { class } else { 0 }
}

/// The status codes with which spdy-tower and hyper answer malformed requests.
const REFUSALS: [&str; 3] = ["400", "414", "431"];
