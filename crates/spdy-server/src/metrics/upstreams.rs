//! The addresses of the application behind a reverse proxy.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use crate::app::Upstreams;

/// Exports each address as it is at the time of a request. There are as many labels as addresses.
#[derive(Debug)]
pub(super) struct Addresses(pub(super) Upstreams);

impl Collector for Addresses {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let addresses: Vec<_> = self.0.view().collect();
        let mut gauge = |name, help, value: fn(bool, usize) -> i64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (upstream, is_up, requests) in &addresses {
                let label = [("upstream", upstream.as_str())];
                ConstGauge::new(value(*is_up, *requests)).encode(family.encode_family(&label)?)?;
            }
            Ok(())
        };
        gauge(
            "upstream_up",
            "Whether an address of the application is used: 0 while it is left out because \
             connects have failed",
            |is_up, _| i64::from(is_up),
        )?;
        gauge(
            "upstream_requests_open",
            "Open requests by address of the application; one that waits for a place counts at each \
             address that is full",
            |_, requests| i64::try_from(requests).unwrap_or(i64::MAX),
        )
    }
}
