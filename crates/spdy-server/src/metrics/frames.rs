//! The counters of SPDY sessions: frames, bytes, resets and limits.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};
use spdy_tower::session::{Count, Counters};

/// Exports the counters as they are at the time of a request.
#[derive(Debug)]
pub(super) struct Frames(pub(super) Arc<Counters>);

impl Collector for Frames {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counts = self.0.snapshot();
        let mut counts = counts.iter().peekable();
        // Counters of the same name are adjacent.
        while let Some(&(first, _)) = counts.peek() {
            let (name, help) = (first.name(), help(first));
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            while let Some((count, number)) = counts.next_if(|(count, _)| count.name() == name) {
                match count.label() {
                    Some(label) => put(&mut family.encode_family(&[label])?, number)?,
                    None => put(&mut family, number)?,
                }
            }
        }
        Ok(())
    }
}

fn put(encoder: &mut MetricEncoder<'_>, number: u64) -> fmt::Result {
    encoder.encode_counter::<NoLabelSet, _, u64>(&number, None)
}

const fn help(count: Count) -> &'static str {
    match count {
        Count::FramesReceived(_) => "SPDY frames received, by type",
        Count::FramesSent(_) => "SPDY frames sent, by type",
        Count::BytesReceived => "Bytes of SPDY frames received, without TLS overhead",
        Count::BytesSent => "Bytes of SPDY frames sent, without TLS overhead",
        Count::StreamsReceived => "Streams opened by clients",
        Count::StreamsOpened => "Streams opened by the server, for pushes",
        Count::ResetsReceived(_) => "RST_STREAM frames received, by status",
        Count::ResetsSent(_) => "RST_STREAM frames sent, by status",
        Count::GoAwaysReceived(_) => "GOAWAY frames received, by status",
        Count::GoAwaysSent(_) => "GOAWAY frames sent, by status",
        Count::Limit(_) => "Streams and sessions ended by a limit or a timeout, by name",
        _ => "Other counts of SPDY sessions",
    }
}
