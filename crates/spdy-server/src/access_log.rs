//! The access log: a line for each request, written by a thread of its own.
//!
//! A line is the combined format that servers have in common, and what SPDY adds:
//!
//! ```text
//! PEER - - [TIME] "METHOD TARGET HTTP/1.1" STATUS OCTETS "REFERER" "USER-AGENT" PROTOCOL STREAM SECONDS RECEIVED
//! ```
//!
//! A request that is malformed, and so never reaches the application, has a line as far as it can be read. A status of 499
//! stands for a client that left before there was an answer. What is not known is `-`.

use std::{
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::SystemTime,
};

use httpdate::HttpDate;
use tracing::warn;

use crate::{config::AccessLog, metrics::Measured, negotiate::Protocol};

/// A log that is open.
#[derive(Debug)]
pub(crate) struct Log {
    orders: SyncSender<Order>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Octets of the lines that wait.
    waiting: Arc<AtomicUsize>,
    lost: AtomicU64,
}

/// What a line tells.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) at: SystemTime,
    pub(crate) method: &'a [u8],
    pub(crate) target: &'a [u8],
    pub(crate) protocol: Protocol,
    pub(crate) stream: Option<u32>,
    pub(crate) referer: Option<&'a [u8]>,
    pub(crate) agent: Option<&'a [u8]>,
    pub(crate) measured: Measured,
}

enum Order {
    Write(String),
    Reopen,
    End,
}

impl Log {
    /// Opens the file and starts the thread.
    pub(crate) fn open(target: &AccessLog) -> io::Result<Self> {
        let output = Output::open(target)?;
        let (sender, orders) = sync_channel(QUEUE);
        let target = target.clone();
        let waiting = Arc::<AtomicUsize>::default();
        let taken = Arc::clone(&waiting);
        let writer = thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write(output, &target, &orders, &taken))?;
        Ok(Self {
            orders: sender,
            writer: Mutex::new(Some(writer)),
            waiting,
            lost: AtomicU64::new(0),
        })
    }

    /// Writes a line. Never waits: when the disk is too slow, lines are lost, and their number is told.
    pub(crate) fn write(&self, entry: &Entry<'_>) {
        let line = entry.line();
        let octets = line.len();
        let waiting = self.waiting.fetch_add(octets, Ordering::Relaxed) + octets;
        if waiting > MAX_WAITING || self.orders.try_send(Order::Write(line)).is_err() {
            self.waiting.fetch_sub(octets, Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
        } else if self.lost.load(Ordering::Relaxed) > 0 {
            let lost = self.lost.swap(0, Ordering::Relaxed);
            warn!(
                lost,
                "the access log is written too slowly; lines were lost"
            );
        }
    }

    /// Opens the file anew, for those who have moved it away.
    pub(crate) fn reopen(&self) {
        let _ = self.orders.try_send(Order::Reopen);
    }

    /// Waits until all lines are in the file, or cannot be. What is written from now on is lost.
    pub(crate) fn finish(&self) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = writer.take() {
            let _ = self.orders.send(Order::End);
            let _ = writer.join();
        }
    }
}

impl Entry<'_> {
    fn line(&self) -> String {
        let mut line = String::with_capacity(256);
        self.write_to(&mut line).expect("a String takes any text");
        line
    }

    fn write_to(&self, line: &mut String) -> std::fmt::Result {
        match self.peer {
            Some(peer) => write!(line, "{}", peer.ip().to_canonical())?,
            None => line.push('-'),
        }
        write!(line, " - - [{}] \"", Time(self.at))?;
        escape(line, self.method);
        line.push(' ');
        escape(line, self.target);
        let measured = &self.measured;
        let status = measured.status.map_or(LEFT, |status| status.as_u16());
        write!(line, " HTTP/1.1\" {status} {} \"", measured.sent)?;
        escape(line, self.referer.unwrap_or(b"-"));
        line.push_str("\" \"");
        escape(line, self.agent.unwrap_or(b"-"));
        write!(line, "\" {} ", self.protocol)?;
        match self.stream {
            Some(stream) => write!(line, "{stream}")?,
            None => line.push('-'),
        }
        let seconds = measured.duration.as_secs_f64();
        writeln!(line, " {seconds:.6} {}", measured.received)
    }
}

/// Writes text in a way that can neither end its quotes nor its line.
fn escape(line: &mut String, text: &[u8]) {
    for octet in text {
        match octet {
            b'"' | b'\\' => {
                line.push('\\');
                line.push(char::from(*octet));
            }
            b' '..=b'~' => line.push(char::from(*octet)),
            _ => write!(line, "\\x{octet:02x}").expect("a String takes any text"),
        }
    }
}

/// A moment, as `06/Nov/1994:08:49:37 +0000`.
struct Time(SystemTime);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // `Sun, 06 Nov 1994 08:49:37 GMT`
        let date = HttpDate::from(self.0).to_string();
        let (day, month, year) = (&date[5..7], &date[8..11], &date[12..16]);
        write!(f, "{day}/{month}/{year}:{} +0000", &date[17..25])
    }
}

/// Where the lines go.
enum Output {
    Stdout(BufWriter<io::Stdout>),
    File(BufWriter<File>),
}

impl Output {
    fn open(target: &AccessLog) -> io::Result<Self> {
        match target {
            AccessLog::Stdout => Ok(Self::Stdout(BufWriter::new(io::stdout()))),
            AccessLog::File(path) => append(path).map(BufWriter::new).map(Self::File),
        }
    }

    fn as_write(&mut self) -> &mut dyn Write {
        match self {
            Self::Stdout(output) => output,
            Self::File(output) => output,
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Writes what comes, until the end is ordered or nobody is left to order anything. Failures are told once, until
/// lines go through again.
fn write(mut output: Output, target: &AccessLog, orders: &Receiver<Order>, waiting: &AtomicUsize) {
    let (mut ended, mut failing) = (false, false);
    while !ended && let Ok(first) = orders.recv() {
        let outcome = write_all_there_is(&mut output, target, orders, first, waiting, &mut ended);
        if let Err(error) = &outcome
            && !failing
        {
            warn!(%error, "cannot write the access log; lines are lost");
        }
        failing = outcome.is_err();
    }
}

fn write_all_there_is(
    output: &mut Output,
    target: &AccessLog,
    orders: &Receiver<Order>,
    first: Order,
    waiting: &AtomicUsize,
    ended: &mut bool,
) -> io::Result<()> {
    let mut order = first;
    loop {
        match order {
            Order::Write(line) => {
                waiting.fetch_sub(line.len(), Ordering::Relaxed);
                output.as_write().write_all(line.as_bytes())?;
            }
            Order::Reopen => {
                // What cannot be written to the old file will not be written to the new one either.
                let flushed = output.as_write().flush();
                *output = Output::open(target)?;
                flushed?;
            }
            Order::End => {
                *ended = true;
                return output.as_write().flush();
            }
        }
        let Ok(next) = orders.try_recv() else {
            return output.as_write().flush();
        };
        order = next;
    }
}

/// How many lines may wait for the disk, and how many octets they may have: clients say how long a line is.
const QUEUE: usize = 8192;
const MAX_WAITING: usize = 8 * 1024 * 1024;

/// The status that other servers log, too, for a client that has left.
const LEFT: u16 = 499;

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::sync_channel, time::Duration};

    use axum::http::StatusCode;
    use spdy_frame::Version;

    use super::*;

    /// Of a request of which nothing is known.
    fn line() -> Entry<'static> {
        Entry {
            peer: None,
            at: SystemTime::UNIX_EPOCH,
            method: b"OPTIONS",
            target: b"*",
            protocol: Protocol::Http1,
            stream: None,
            referer: None,
            agent: None,
            measured: Measured {
                status: None,
                received: 0,
                sent: 0,
                duration: Duration::ZERO,
            },
        }
    }

    #[test]
    fn a_line_is_the_combined_format_and_more() {
        let entry = Entry {
            peer: Some("[::ffff:192.0.2.1]:80".parse().unwrap()),
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777),
            method: b"GET",
            target: b"/b?c",
            protocol: Protocol::Spdy(Version::V3_1),
            stream: Some(7),
            referer: None,
            agent: Some(b"say \"hi\"\\ \xff"),
            measured: Measured {
                status: Some(StatusCode::OK),
                received: 3,
                sent: 100,
                duration: Duration::from_micros(1_500),
            },
        };
        assert_eq!(
            entry.line(),
            "192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] \"GET /b?c HTTP/1.1\" 200 100 \"-\" \
             \"say \\\"hi\\\"\\\\ \\xff\" SPDY/3.1 7 0.001500 3\n"
        );
    }

    #[test]
    fn what_is_not_known_is_a_dash_and_a_client_that_left_is_499() {
        assert_eq!(
            line().line(),
            "- - - [01/Jan/1970:00:00:00 +0000] \"OPTIONS * HTTP/1.1\" 499 0 \"-\" \"-\" HTTP/1.1 - 0.000000 0\n"
        );
    }

    #[test]
    fn lines_that_wait_for_the_disk_have_a_bound() {
        let (orders, waiting) = sync_channel(QUEUE);
        let log = Log {
            orders,
            writer: Mutex::new(None),
            waiting: Arc::default(),
            lost: AtomicU64::new(0),
        };
        let target = vec![b'x'; MAX_WAITING / 8];
        let entry = Entry {
            target: &target,
            ..line()
        };
        for _ in 0..20 {
            log.write(&entry);
        }
        assert_eq!(waiting.try_iter().count(), 7);
        assert_eq!(log.lost.load(Ordering::Relaxed), 13);
        assert!(log.waiting.load(Ordering::Relaxed) <= MAX_WAITING);
    }
}
