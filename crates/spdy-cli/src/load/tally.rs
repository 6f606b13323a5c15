//! The results of `spdy load`, and their report as text and as JSON.

use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use spdy_tower::Protocol;

use crate::failure::{Exit, shown};

/// The results of a number of requests.
#[derive(Debug)]
pub(super) struct Tally {
    /// The latency of each complete response, in nanoseconds, with three digits.
    times: Histogram<u64>,
    /// The number of complete responses, by the first digit of the status.
    statuses: [u64; 6],
    /// The length of all bodies of these responses.
    bytes: u64,
    /// The number of requests without a complete response, by reason.
    errors: BTreeMap<String, u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            times: Histogram::new(3).expect("three digits are possible"),
            statuses: [0; 6],
            bytes: 0,
            errors: BTreeMap::new(),
        }
    }
}

impl Tally {
    /// Records a complete response.
    pub(super) fn done(&mut self, status: u16, bytes: u64, took: Duration) {
        let recorded = self.times.record(took.as_nanos() as u64);
        recorded.expect("the histogram grows as needed");
        self.statuses[usize::from(status / 100).min(5)] += 1;
        self.bytes += bytes;
    }

    /// Records requests that failed for the same reason.
    pub(super) fn failed(&mut self, reason: String, requests: u64) {
        let is_new = !self.errors.contains_key(&reason);
        let reason = match self.errors.len() {
            // The server may have a part in the text.
            MAX_REASONS.. if is_new => OTHERS.into(),
            _ => reason,
        };
        *self.errors.entry(reason).or_default() += requests;
    }

    /// Returns the number of complete responses.
    pub(super) fn responses(&self) -> u64 {
        self.times.len()
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Returns the latency, in milliseconds, that this percentage of the responses did not exceed.
    pub(super) fn percentile(&self, percent: f64) -> f64 {
        self.times.value_at_percentile(percent) as f64 / 1e6
    }

    fn mean(&self) -> f64 {
        self.times.mean() / 1e6
    }

    /// Returns the minimum, percentiles and the maximum, with their names.
    fn percentiles(&self) -> [(&'static str, f64); 8] {
        [
            ("min", self.times.min() as f64 / 1e6),
            ("p50", self.percentile(50.0)),
            ("p75", self.percentile(75.0)),
            ("p90", self.percentile(90.0)),
            ("p95", self.percentile(95.0)),
            ("p99", self.percentile(99.0)),
            ("p99.9", self.percentile(99.9)),
            ("max", self.times.max() as f64 / 1e6),
        ]
    }

    /// Returns the numbers of responses by latency: each with the latency, in milliseconds, that
    /// they did not exceed and that is twice the one before.
    fn histogram(&self) -> Vec<(f64, u64)> {
        let steps = self.times.iter_log(FINEST, 2.0);
        steps
            .map(|step| {
                let most = step.value_iterated_to() as f64 / 1e6;
                (most, step.count_since_last_iteration())
            })
            .skip_while(|(_, count)| *count == 0)
            .collect()
    }
}

/// The maximum number of different reasons, apart from [`OTHERS`].
const MAX_REASONS: usize = 100;
const OTHERS: &str = "other reasons";

/// In nanoseconds: the lowest step of the histogram.
const FINEST: u64 = 1000;

/// Everything that `spdy load` prints.
pub(super) struct Report {
    pub(super) urls: Vec<String>,
    pub(super) protocol: Protocol,
    pub(super) sessions: u16,
    pub(super) streams: u16,
    /// The number of requests that were to be sent, or that were if there was no such number.
    pub(super) requests: u64,
    pub(super) rate: Option<u32>,
    /// The number of requests that were cut off.
    pub(super) unfinished: u64,
    pub(super) is_interrupted: bool,
    pub(super) took: Duration,
    /// The minimum, the mean and the maximum of the times that it took to connect.
    pub(super) connect: [Duration; 3],
    /// The bytes received and sent on the wire.
    pub(super) wire: [u64; 2],
    pub(super) tally: Tally,
}

impl Report {
    pub(super) fn exit(&self) -> Exit {
        if self.is_interrupted {
            Exit::Interrupted
        } else if self.tally.errors() > 0 {
            Exit::Exchange
        } else if self.tally.statuses[4..].iter().any(|&count| count > 0) {
            Exit::Status
        } else {
            Exit::Success
        }
    }

    pub(super) fn json(&self) -> Value {
        let tally = &self.tally;
        let [received, sent] = self.wire;
        let [connect_min, connect_mean, connect_max] = self.connect.map(milliseconds);
        let mut latency: Map<_, _> = tally
            .percentiles()
            .into_iter()
            .map(|(name, time)| (name.to_owned(), time.into()))
            .collect();
        latency.insert("mean".into(), tally.mean().into());
        json!({
            "url": self.urls[0],
            "urls": self.urls,
            "protocol": self.protocol.token(),
            "sessions": self.sessions,
            "streams": self.streams,
            "requests": self.requests,
            "rate": self.rate,
            "interrupted": self.is_interrupted,
            "unfinished": self.unfinished,
            "seconds": self.took.as_secs_f64(),
            "requests_per_second": self.rate(),
            "bytes_per_second": self.byte_rate(),
            "bytes": {"bodies": tally.bytes, "received": received, "sent": sent},
            "statuses": {
                "2xx": tally.statuses[2],
                "3xx": tally.statuses[3],
                "4xx": tally.statuses[4],
                "5xx": tally.statuses[5],
            },
            "errors": tally.errors(),
            "errors_by_reason": tally.errors,
            "latency_ms": latency,
            "latency_histogram_ms": tally.histogram(),
            "connect_ms": {"min": connect_min, "mean": connect_mean, "max": connect_max},
        })
    }

    /// Returns the number of complete responses per second.
    fn rate(&self) -> f64 {
        self.tally.responses() as f64 / self.took.as_secs_f64()
    }

    /// Returns the number of bytes of bodies per second.
    fn byte_rate(&self) -> f64 {
        self.tally.bytes as f64 / self.took.as_secs_f64()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = &self.tally;
        let [received, sent] = self.wire;
        let [least, mean, most] = self.connect.map(milliseconds);
        writeln!(
            f,
            "{}, sessions: {}, streams in each: {}, {}",
            self.protocol.token(),
            self.sessions,
            self.streams,
            self.urls.join(" ")
        )?;
        writeln!(
            f,
            "requests  {} in {:.3} s: {:.0} responses/s, {:.2} MB/s",
            self.requests,
            self.took.as_secs_f64(),
            self.rate(),
            self.byte_rate() / 1e6,
        )?;
        let [_, _, success, redirection, client_error, server_error] = tally.statuses;
        writeln!(
            f,
            "status    2xx {success}, 3xx {redirection}, 4xx {client_error}, 5xx {server_error}"
        )?;
        writeln!(
            f,
            "bytes     {} in bodies; on the wire {received} received, {sent} sent",
            tally.bytes
        )?;
        let times = tally
            .percentiles()
            .map(|(name, time)| format!("{name} {time:.3} ms"));
        writeln!(
            f,
            "latency   mean {:.3} ms, {}",
            tally.mean(),
            times.join(", ")
        )?;
        for (most, count) in tally.histogram() {
            let share = count as f64 / tally.responses() as f64;
            let bar = "#".repeat((share * 50.0).round() as usize);
            let percent = 100.0 * share;
            writeln!(f, "up to {most:>9.3} ms {count:>9} {percent:>5.1} % {bar}")?;
        }
        writeln!(
            f,
            "connect   min {least:.3} ms, mean {mean:.3} ms, max {most:.3} ms"
        )?;
        if self.unfinished > 0 {
            writeln!(f, "cut off   {} requests", self.unfinished)?;
        }
        writeln!(f, "errors    {}", tally.errors())?;
        for (reason, count) in &tally.errors {
            writeln!(f, "          {count}: {}", shown(reason))?;
        }
        Ok(())
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_time_that_this_many_did_not_exceed() {
        let mut tally = Tally::default();
        for number in (1..=2000).rev() {
            tally.done(200, 1, Duration::from_millis(number));
        }
        let expected = [1.0, 1000.0, 1500.0, 1800.0, 1900.0, 1980.0, 1998.0, 2000.0];
        for ((name, found), expected) in tally.percentiles().into_iter().zip(expected) {
            assert!((found / expected - 1.0).abs() < 0.001, "{name} {found}");
        }
        assert!((tally.mean() / 1000.5 - 1.0).abs() < 0.001);
        assert_eq!(Tally::default().percentile(50.0), 0.0);
    }

    #[test]
    fn there_is_room_for_a_hundred_reasons_and_a_count_of_the_others() {
        let mut tally = Tally::default();
        for number in 0..1000 {
            tally.failed(format!("reason {}", number % 500), 1);
        }
        assert_eq!(tally.errors.len(), MAX_REASONS + 1);
        assert_eq!((tally.errors(), tally.errors[OTHERS]), (1000, 800));
    }

    #[test]
    fn the_histogram_has_every_response() {
        let mut tally = Tally::default();
        assert_eq!(tally.histogram(), []);
        for milliseconds in [1, 3, 3, 100] {
            tally.done(200, 1, Duration::from_millis(milliseconds));
        }
        let rows = tally.histogram();
        assert_eq!(rows.iter().map(|(_, count)| count).sum::<u64>(), 4);
        assert!(
            (1.0..2.1).contains(&rows[0].0) && rows[0].1 == 1,
            "{rows:?}"
        );
        assert!(rows.len() < 10, "{rows:?}");
    }
}
