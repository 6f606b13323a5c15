//! The time in which the certificate is valid.

use std::{fmt, sync::Arc, time::SystemTime};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use crate::tls::Tls;

/// Exports the end of the certificate that is in use at the time of a request.
#[derive(Debug)]
pub(super) struct Expiry(pub(super) Arc<Tls>);

impl Collector for Expiry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some((name, not_after)) = self.0.expiry() else {
            return Ok(());
        };
        let not_after = not_after
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0.0, |time| time.as_secs_f64());
        let mut family = encoder.encode_descriptor(
            "certificate_not_after_timestamp_seconds",
            "The last second in which the certificate is valid, since the epoch, by its first name",
            None,
            MetricType::Gauge,
        )?;
        let label = [("name", name.unwrap_or_default())];
        ConstGauge::new(not_after).encode(family.encode_family(&label)?)
    }
}
