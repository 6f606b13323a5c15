//! What SPDY sessions count by themselves: frames, octets, resets, limits.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};
use spdy_tower::session::{Count, Counters};

/// Tells the numbers as they are when somebody asks.
#[derive(Debug)]
pub(super) struct Frames(pub(super) Arc<Counters>);

impl Collector for Frames {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counts = self.0.snapshot();
        let mut counts = counts.iter().peekable();
        // Those of one name stand together.
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
        Count::StreamsReceived => "Streams that clients have opened",
        Count::StreamsOpened => "Streams that the server has opened: pushes",
        Count::ResetsReceived(_) => "RST_STREAM frames received, by status",
        Count::ResetsSent(_) => "RST_STREAM frames sent, by status",
        Count::GoAwaysReceived(_) => "GOAWAY frames received, by status",
        Count::GoAwaysSent(_) => "GOAWAY frames sent, by status",
        Count::Limit(_) => "Streams and sessions that a limit or a timeout has ended, by its name",
        _ => "Counted by SPDY sessions",
    }
}
