//! Slow readers, many of them, on one session and in both directions: what is lost, and what it
//! costs in memory.
//!
//! Run with `cargo run --release -p spdy-tests --bin slow_readers -- [OPTION…]`.
//!
//! | Option | Means |
//! |---|---|
//! | `streams=N` | streams at once; default 64 |
//! | `bytes=N` | bytes on each stream, in each direction; default 8,388,608 |
//! | `stop=MS` | how long the readers that stop do so, three times each; default 2000 |
//!
//! One reader in four reads as fast as it can, one sleeps after each piece, one stops for seconds,
//! and one reads a single byte at a time. Every byte is looked at. Both sides run in this process,
//! over a pipe of 64 KiB.
//!
//! Without windows (SPDY/2, and every version with `FlowControl::Off`) a reader that stops holds up
//! its neighbours, as not to read the transport is the only back-pressure there is. No byte is lost
//! there either.

use std::{
    env,
    error::Error,
    fs,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use spdy_session::{
    Config, FlowControl, HeaderBlock, Limits, OpenOptions, Received, RecvStream, SendStream,
    Stream, Version,
};
use tokio::{
    io::{AsyncReadExt, duplex},
    task::JoinSet,
    time::sleep,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(env::args().skip(1)).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("slow_readers: {error}");
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn Error + Send + Sync>;

/// Runs every version with windows and without, and prints a table. Returns whether all bytes have
/// arrived.
async fn run(arguments: impl Iterator<Item = String>) -> Result<bool, Failure> {
    let mut scene = Scene {
        streams: 64,
        bytes: 8 << 20,
        stop: Duration::from_secs(2),
        limits: Limits::default(),
    };
    for option in arguments {
        match option.split_once('=') {
            Some(("streams", value)) => scene.streams = value.parse()?,
            Some(("bytes", value)) => scene.bytes = value.parse()?,
            Some(("stop", value)) => scene.stop = Duration::from_millis(value.parse()?),
            _ => return Err(format!("there is no option {option}").into()),
        }
    }
    // The peer lets as many streams come.
    scene.limits.max_streams = scene.limits.max_streams.max(scene.streams as u32);
    println!("version   windows  bytes sent   bytes lost  seconds   MB/s  memory  of at most");
    let mut is_whole = true;
    for version in Version::ALL {
        for flow_control in [FlowControl::Enforce, FlowControl::Off] {
            let Outcome {
                sent,
                received,
                time,
                memory,
            } = scene.play(version, flow_control).await?;
            println!(
                "{:9} {:7}  {sent:11}  {:12}  {:7.1}  {:5.0}  {:6}  {:10}",
                version.to_string(),
                format!("{flow_control:?}"),
                sent - received,
                time.as_secs_f64(),
                received as f64 / 1e6 / time.as_secs_f64(),
                mebibytes(memory),
                mebibytes(2 * scene.limits.session_memory() as u64),
            );
            is_whole &= sent == received;
        }
    }
    Ok(is_whole)
}

/// What is played.
#[derive(Clone, Debug)]
struct Scene {
    streams: usize,
    bytes: usize,
    stop: Duration,
    limits: Limits,
}

/// What came of it.
#[derive(Debug)]
struct Outcome {
    sent: u64,
    received: u64,
    time: Duration,
    /// What the process has grown by at most, in bytes; 0 where that is not known.
    memory: u64,
}

impl Scene {
    async fn play(&self, version: Version, flow_control: FlowControl) -> Result<Outcome, Failure> {
        let mut config = Config::default();
        config.flow_control = flow_control;
        config.limits = self.limits.clone();
        let (near, far) = duplex(64 * 1024);
        let (client, _pushes, driver) = spdy_session::client(near, version, config.clone());
        tokio::spawn(driver);
        let (_server, mut incoming, driver) = spdy_session::server(far, version, config);
        tokio::spawn(driver);

        let start = Instant::now();
        let before = resident();
        let received = Arc::new(AtomicU64::new(0));
        let mut ends = JoinSet::new();
        for number in 0..self.streams {
            let stream = client
                .open(HeaderBlock::new(), OpenOptions::default())
                .await?;
            self.use_stream(stream, number, &received, &mut ends);
            let stream = incoming.accept().await.ok_or("the session has ended")?;
            let stream = stream.send_reply(HeaderBlock::new())?;
            self.use_stream(stream, number + 1, &received, &mut ends);
        }
        let mut memory = 0;
        loop {
            tokio::select! {
                end = ends.join_next() => match end {
                    Some(end) => end??,
                    None => break,
                },
                () = sleep(Duration::from_millis(10)) => {
                    memory = memory.max(resident().saturating_sub(before));
                }
            }
        }
        Ok(Outcome {
            sent: 2 * self.streams as u64 * self.bytes as u64,
            received: received.load(Ordering::Relaxed),
            time: start.elapsed(),
            memory,
        })
    }

    /// Writes and reads on a stream, each in a task of its own: neither waits for the other.
    fn use_stream(
        &self,
        stream: Stream,
        number: usize,
        received: &Arc<AtomicU64>,
        ends: &mut JoinSet<Result<(), Failure>>,
    ) {
        let (receive, send) = stream.split();
        ends.spawn(write(send, self.bytes));
        let reader = Reader {
            receive,
            place: 0,
            received: Arc::clone(received),
        };
        let (bytes, stop) = (self.bytes, self.stop);
        match number % 4 {
            0 => ends.spawn(reader.fast()),
            1 => ends.spawn(reader.sleepy()),
            2 => ends.spawn(reader.stopping(bytes, stop)),
            _ => ends.spawn(reader.byte_by_byte()),
        };
    }
}

async fn write(mut send: SendStream, bytes: usize) -> Result<(), Failure> {
    let pattern = Bytes::from_static(&PATTERN);
    let mut place = 0;
    while place < bytes {
        send.ready().await?;
        let start = place % 256;
        let length = (bytes - place).min(PATTERN.len() - start);
        send.send_data(pattern.slice(start..start + length), false)?;
        place += length;
    }
    send.finish()?;
    send.written().await?;
    Ok(())
}

struct Reader {
    receive: RecvStream,
    place: usize,
    received: Arc<AtomicU64>,
}

impl Reader {
    async fn fast(mut self) -> Result<(), Failure> {
        while self.piece().await? {}
        Ok(())
    }

    async fn sleepy(mut self) -> Result<(), Failure> {
        while self.piece().await? {
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Stops three times on the way.
    async fn stopping(mut self, bytes: usize, stop: Duration) -> Result<(), Failure> {
        let mut next = bytes / 4;
        while self.piece().await? {
            if self.place >= next && next < bytes {
                sleep(stop).await;
                next += bytes / 4;
            }
        }
        Ok(())
    }

    async fn byte_by_byte(mut self) -> Result<(), Failure> {
        loop {
            let mut byte = [0];
            if self.receive.read(&mut byte).await? == 0 {
                return Ok(());
            }
            self.take(&byte)?;
        }
    }

    /// Takes the next piece; false at the end.
    async fn piece(&mut self) -> Result<bool, Failure> {
        match self.receive.next().await.transpose()? {
            Some(Received::Data(piece)) => self.take(&piece).map(|()| true),
            Some(Received::Headers(_)) => Ok(true),
            None => Ok(false),
        }
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), Failure> {
        let mut rest = piece;
        while !rest.is_empty() {
            let expected = &PATTERN[self.place % 256..];
            let length = rest.len().min(expected.len());
            if rest[..length] != expected[..length] {
                return Err(format!("bytes are wrong after {}", self.place).into());
            }
            self.place += length;
            rest = &rest[length..];
        }
        self.received
            .fetch_add(piece.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// The resident memory of this process in bytes, on a system with `/proc`.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}M", bytes as f64 / f64::from(1 << 20))
}

/// Byte i is (i·31 + 7) mod 256, so a piece of it shows where it belongs.
static PATTERN: [u8; 16 * 1024] = {
    let mut pattern = [0; 16 * 1024];
    let mut place = 0;
    while place < pattern.len() {
        pattern[place] = (place * 31 + 7) as u8;
        place += 1;
    }
    pattern
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The same with small windows and few bytes. Memory is watched by the test `memory` of the
    /// workspace.
    #[tokio::test(start_paused = true)]
    async fn s23_slow_readers_lose_nothing() {
        let mut limits = Limits::default();
        limits.stream_window = 16 * 1024;
        limits.stream_buffer = 16 * 1024;
        limits.session_window = 128 * 1024;
        limits.session_buffer = 128 * 1024;
        let scene = Scene {
            streams: 64,
            bytes: 40_000,
            stop: Duration::from_millis(50),
            limits,
        };
        for version in Version::ALL {
            for flow_control in [FlowControl::Enforce, FlowControl::Off] {
                let outcome = scene.play(version, flow_control).await.unwrap();
                assert_eq!(outcome.received, outcome.sent, "{version} {flow_control:?}");
            }
        }
    }
}
