//! The durations of requests, under the names of OpenTelemetry.

use std::{fmt, time::Duration};

use axum::http::{Method, StatusCode};
use prometheus_client::{
    encoding::{EncodeLabelSet, LabelSetEncoder},
    metrics::{family::Family, histogram::Histogram},
    registry::Registry,
};

use crate::{
    info::ConnectionInfo,
    negotiate::{Protocol, name_and_version},
};

/// A histogram for each kind of request that has occurred.
#[derive(Clone, Debug)]
pub(super) struct Durations(Family<Labels, Histogram, fn() -> Histogram>);

impl Durations {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let durations = Self(Family::new_with_constructor(|| Histogram::new(BUCKETS)));
        registry.register(
            "http_server_request_duration_seconds",
            "Seconds from the head of the request to the last byte of the response",
            durations.0.clone(),
        );
        durations
    }

    pub(super) fn observe(
        &self,
        connection: &ConnectionInfo,
        method: &Method,
        status: Option<StatusCode>,
        duration: Duration,
    ) {
        let labels = Labels {
            protocol: connection.protocol,
            is_secure: connection.is_secure(),
            method: known(method),
            status: status.map(Status::new),
        };
        let histogram = self.0.get_or_create(&labels);
        histogram.observe(duration.as_secs_f64());
    }
}

/// A kind of request. Clients cannot make more kinds than there are methods and status codes with
/// names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Labels {
    protocol: Protocol,
    is_secure: bool,
    method: &'static str,
    /// `None` if the client left before the response. Then the label is left out.
    status: Option<Status>,
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let (name, version) = name_and_version(self.protocol);
        let scheme = if self.is_secure { "https" } else { "http" };
        [
            ("http_request_method", self.method),
            ("network_protocol_name", name),
            ("network_protocol_version", version),
            ("url_scheme", scheme),
        ]
        .encode(encoder)?;
        match self.status {
            Some(Status::Code(code)) => [("http_response_status_code", code)].encode(encoder),
            Some(Status::Class(class)) => {
                [("http_response_status_code", format!("{class}xx"))].encode(encoder)
            }
            None => Ok(()),
        }
    }
}

/// The status of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Status {
    Code(u16),
    /// The class of a code without a name, as in `5xx`.
    Class(u16),
}

impl Status {
    fn new(status: StatusCode) -> Self {
        match status.canonical_reason() {
            Some(_) => Self::Code(status.as_u16()),
            None => Self::Class(status.as_u16() / 100),
        }
    }
}

/// Returns the name of a method, or `_OTHER` for one that is not registered.
fn known(method: &Method) -> &'static str {
    let name = method.as_str();
    let known = METHODS.iter().find(|known| **known == name);
    known.copied().unwrap_or("_OTHER")
}

const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

/// In seconds: those of OpenTelemetry, below them the times of handlers in memory, and above them
/// the time after which clients give up.
const BUCKETS: [f64; 17] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    60.0,
];

#[cfg(test)]
mod tests {
    use spdy_tower::Version;

    use super::*;
    use crate::metrics::format::Format;

    #[test]
    fn a_client_cannot_make_labels_of_its_own() {
        let mut registry = Registry::default();
        let durations = Durations::new(&mut registry);
        let connection = ConnectionInfo {
            protocol: Protocol::Spdy(Version::V3),
            peer: None,
            tls: None,
            is_tls_of_proxy: false,
        };
        for number in 0..1000 {
            let method = Method::from_bytes(format!("M{number}").as_bytes()).unwrap();
            let status = StatusCode::from_u16(550 + number % 10).unwrap();
            durations.observe(&connection, &method, Some(status), Duration::ZERO);
        }
        durations.observe(&connection, &Method::GET, None, Duration::ZERO);
        let text = Format::Prometheus.text(&registry);
        let counts: Vec<_> = text
            .lines()
            .filter(|line| line.contains("_count"))
            .collect();
        let name = "http_server_request_duration_seconds_count";
        let spdy = "network_protocol_name=\"spdy\",network_protocol_version=\"3\"";
        let other = format!(
            "{name}{{http_request_method=\"_OTHER\",{spdy},url_scheme=\"http\",\
             http_response_status_code=\"5xx\"}} 1000"
        );
        let left = format!("{name}{{http_request_method=\"GET\",{spdy},url_scheme=\"http\"}} 1");
        assert_eq!(counts.len(), 2, "{text}");
        assert!(
            counts.contains(&&*other) && counts.contains(&&*left),
            "{text}"
        );
    }
}
