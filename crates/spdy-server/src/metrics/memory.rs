//! The memory that SPDY sessions hold.

use std::{fmt, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};
use spdy_tower::session::MemoryUse;

/// Exports the sum as it is at the time of a request.
#[derive(Debug)]
pub(super) struct Memory(pub(super) Arc<MemoryUse>);

impl Collector for Memory {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Bytes that all SPDY sessions hold together";
        let mut metric =
            encoder.encode_descriptor("session_memory_bytes", help, None, MetricType::Gauge)?;
        metric.encode_gauge(&i64::try_from(self.0.bytes()).unwrap_or(i64::MAX))
    }
}
