//! The results of `spdy load`, and their report as text and as JSON.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde_json::{Value, json};
use spdy_tower::Protocol;

use crate::failure::Exit;

/// The results of a number of requests.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The latency of each complete response, in nanoseconds.
    times: Vec<u64>,
    /// The number of complete responses, by the first digit of the status.
    statuses: [u64; 6],
    /// The length of all bodies of these responses.
    bytes: u64,
    /// The number of requests without a complete response, by reason.
    errors: BTreeMap<String, u64>,
}

impl Tally {
    /// Records a complete response.
    pub(super) fn done(&mut self, status: u16, bytes: u64, took: Duration) {
        self.times.push(took.as_nanos() as u64);
        self.statuses[usize::from(status / 100).min(5)] += 1;
        self.bytes += bytes;
    }

    /// Records requests that failed for the same reason.
    pub(super) fn failed(&mut self, reason: String, requests: u32) {
        *self.errors.entry(reason).or_default() += u64::from(requests);
    }

    pub(super) fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        for (sum, more) in self.statuses.iter_mut().zip(other.statuses) {
            *sum += more;
        }
        self.bytes += other.bytes;
        for (reason, count) in other.errors {
            *self.errors.entry(reason).or_default() += count;
        }
    }

    pub(super) fn sorted(mut self) -> Self {
        self.times.sort_unstable();
        self
    }

    fn errors(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Returns the latency, in milliseconds, that this percentage of the responses did not exceed.
    ///
    /// The times must be sorted.
    fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.times.len() * percent).div_ceil(100);
        let time = self.times.get(rank.saturating_sub(1));
        time.map_or(0.0, |&nanoseconds| nanoseconds as f64 / 1e6)
    }

    fn mean(&self) -> f64 {
        let sum: u64 = self.times.iter().sum();
        sum as f64 / self.times.len().max(1) as f64 / 1e6
    }
}

/// Everything that `spdy load` prints.
pub(super) struct Report {
    pub(super) url: String,
    pub(super) protocol: Protocol,
    pub(super) sessions: u16,
    pub(super) streams: u16,
    pub(super) requests: u32,
    pub(super) took: Duration,
    /// The minimum, the mean and the maximum of the times that it took to connect.
    pub(super) connect: [Duration; 3],
    /// The bytes received and sent on the wire.
    pub(super) wire: [u64; 2],
    pub(super) tally: Tally,
}

impl Report {
    pub(super) fn exit(&self) -> Exit {
        if self.tally.errors() > 0 {
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
        json!({
            "url": self.url,
            "protocol": self.protocol.token(),
            "sessions": self.sessions,
            "streams": self.streams,
            "requests": self.requests,
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
            "latency_ms": {
                "min": tally.percentile(0),
                "mean": tally.mean(),
                "p50": tally.percentile(50),
                "p90": tally.percentile(90),
                "p99": tally.percentile(99),
                "max": tally.percentile(100),
            },
            "connect_ms": {"min": connect_min, "mean": connect_mean, "max": connect_max},
        })
    }

    /// Returns the number of complete responses per second.
    fn rate(&self) -> f64 {
        self.tally.times.len() as f64 / self.took.as_secs_f64()
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
            self.url
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
        writeln!(
            f,
            "latency   min {:.3} ms, mean {:.3} ms, p50 {:.3} ms, p90 {:.3} ms, p99 {:.3} ms, max {:.3} ms",
            tally.percentile(0),
            tally.mean(),
            tally.percentile(50),
            tally.percentile(90),
            tally.percentile(99),
            tally.percentile(100),
        )?;
        writeln!(
            f,
            "connect   min {least:.3} ms, mean {mean:.3} ms, max {most:.3} ms"
        )?;
        writeln!(f, "errors    {}", tally.errors())?;
        for (reason, count) in &tally.errors {
            writeln!(f, "          {count}: {reason}")?;
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
        for number in (1..=200).rev() {
            tally.done(200, 1, Duration::from_millis(number));
        }
        let tally = tally.sorted();
        let found = [0, 50, 90, 99, 100].map(|percent| tally.percentile(percent));
        assert_eq!(found, [1.0, 100.0, 180.0, 198.0, 200.0]);
        assert_eq!(tally.mean(), 100.5);
        assert_eq!(Tally::default().percentile(50), 0.0);
    }

    #[test]
    fn two_tallies_are_added() {
        let mut sum = Tally::default();
        for _ in 0..2 {
            let mut tally = Tally::default();
            tally.done(404, 7, Duration::from_millis(1));
            tally.failed("gone".into(), 3);
            sum.add(tally);
        }
        assert_eq!((sum.statuses[4], sum.bytes, sum.errors()), (2, 14, 6));
    }
}
