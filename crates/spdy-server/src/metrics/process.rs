//! The metrics of the process, under the names that all clients of Prometheus use. They are those
//! of `/proc`, so other systems than Linux have none of them.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};

/// Exports the state of the process as it is at the time of a request. What cannot be read is left
/// out.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name, help, value: Option<f64>| match value {
            Some(value) => encoder
                .encode_descriptor(name, help, None, MetricType::Gauge)?
                .encode_gauge(&value),
            None => Ok(()),
        };
        let stat = Stat::read();
        let of = |value: fn(&Stat) -> f64| stat.as_ref().map(value);
        gauge(
            "process_resident_memory_bytes",
            "Resident memory size in bytes",
            of(|stat| stat.resident),
        )?;
        gauge(
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes",
            of(|stat| stat.virtual_),
        )?;
        gauge(
            "process_threads",
            "Number of threads of the process",
            of(|stat| stat.threads),
        )?;
        gauge(
            "process_start_time_seconds",
            "Start time of the process since the epoch in seconds",
            of(|stat| stat.started).and_then(|started| Some(booted()? + started)),
        )?;
        gauge(
            "process_open_fds",
            "Number of open file descriptors",
            open_files(),
        )?;
        gauge(
            "process_max_fds",
            "Maximum number of open file descriptors",
            max_files(),
        )?;
        let Some(stat) = stat else { return Ok(()) };
        let help = "Total user and system CPU time in seconds";
        encoder
            .encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&stat.cpu, None)
    }
}

/// A part of `/proc/self/stat`, in seconds and bytes.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu: f64,
    threads: f64,
    /// Since the machine was started.
    started: f64,
    virtual_: f64,
    resident: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        let page = rustix::param::page_size() as f64;
        let tick = 1.0 / rustix::param::clock_ticks_per_second() as f64;
        Self::parse(&text, tick, page)
    }

    /// The name of the program is in parentheses and can contain spaces. The fields after it are
    /// numbered from 3 in proc(5).
    fn parse(text: &str, tick: f64, page: f64) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<_> = fields.split_ascii_whitespace().collect();
        let number = |place: usize| fields.get(place - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu: (number(14)? + number(15)?) * tick,
            threads: number(20)?,
            started: number(22)? * tick,
            virtual_: number(23)?,
            resident: number(24)? * page,
        })
    }
}

/// Returns when the machine was started, in seconds since the epoch.
fn booted() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.parse().ok()
}

/// Since Linux 6.2 the folder knows how many files it has.
fn open_files() -> Option<f64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        // The one that reads the folder is open, too.
        0 => Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64 - 1.0),
        known => Some(known as f64),
    }
}

fn max_files() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let text = "7 (a b) c) S 1 7 7 0 -1 4194560 99 0 0 0 150 50 0 0 20 0 5 0 1000 4096 2 18446";
        let expected = Stat {
            cpu: 2.0,
            threads: 5.0,
            started: 10.0,
            virtual_: 4096.0,
            resident: 8192.0,
        };
        assert_eq!(Stat::parse(text, 0.01, 4096.0), Some(expected));
        for text in ["", "7 (a) S 1", "7 (a"] {
            assert_eq!(Stat::parse(text, 0.01, 4096.0), None, "{text}");
        }
    }
}
