//! How fast uploads and downloads are over a path of 100 ms.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};
use spdy_frame::{Side, StreamId, Version, WindowTarget};
use spdy_session::{
    Config, HeaderBlock, Incoming,
    proto::{Connection, Event, OpenOptions},
};
use spdy_tests::machine::{SINCE_V3, id, reply_block, request_block};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, split},
    sync::mpsc::unbounded_channel,
    time,
};

const MIB: usize = 1 << 20;

/// A path of 100 ms there and back, that takes 100 MB a second in each direction.
struct Path {
    now: Instant,
    ends: [End; 2],
}

struct End {
    connection: Connection,
    /// What arrives here, and when.
    under_way: VecDeque<(Instant, Bytes)>,
    input: BytesMut,
    received: usize,
    /// How much the application reads in a millisecond.
    appetite: usize,
    unread: VecDeque<(StreamId, usize)>,
}

const ROUND_TRIP: Duration = Duration::from_millis(100);
const TICK: Duration = Duration::from_millis(1);
const BYTES_A_TICK: usize = 100_000;

impl Path {
    fn new(version: Version, configs: [Config; 2]) -> Self {
        let now = Instant::now();
        let mut configs = configs.into_iter();
        let ends = [Side::Client, Side::Server].map(|side| End {
            connection: Connection::new(
                side,
                version,
                Arc::new(configs.next().expect("there are two")),
                now,
            ),
            under_way: VecDeque::new(),
            input: BytesMut::new(),
            received: 0,
            appetite: usize::MAX,
            unread: VecDeque::new(),
        });
        Self { now, ends }
    }

    /// Opens `count` streams and answers them. Each is open on both sides then.
    fn streams(&mut self, count: usize) -> Vec<StreamId> {
        let version = self.ends[0].connection.version();
        let streams = (0..count).map(|_| {
            let headers = request_block(version);
            let opened = self.ends[0]
                .connection
                .open(self.now, headers, OpenOptions::default());
            opened.expect("a stream can be opened")
        });
        let streams: Vec<_> = streams.collect();
        self.pass(ROUND_TRIP);
        for stream in &streams {
            let headers = reply_block(version);
            let result = self.ends[1].connection.send_reply(*stream, headers, false);
            result.expect("it can be answered");
        }
        self.pass(ROUND_TRIP);
        streams
    }

    /// Sends `bytes` bytes on each stream, until all have been read. Returns how long that took.
    fn send(&mut self, from: Side, streams: &[StreamId], bytes: usize) -> Duration {
        let began = self.now;
        let done = self.ends[from.peer() as usize].received + bytes * streams.len();
        for stream in streams {
            let payload = vec![0; bytes].into();
            let sender = &mut self.ends[from as usize].connection;
            let result = sender.send_data(*stream, payload, false);
            result.expect("the stream is open");
        }
        while self.ends[from.peer() as usize].received < done {
            self.tick();
            assert!(
                self.now - began < Duration::from_secs(600),
                "it stands still"
            );
        }
        self.now - began
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.tick();
        }
    }

    fn tick(&mut self) {
        self.now += TICK;
        for side in [Side::Client, Side::Server] {
            let sent = self.ends[side as usize].write(self.now);
            if !sent.is_empty() {
                let arrives = self.now + ROUND_TRIP / 2;
                self.ends[side.peer() as usize]
                    .under_way
                    .push_back((arrives, sent));
            }
            self.ends[side as usize].read(self.now);
        }
    }

    fn window(&self, side: Side, target: WindowTarget) -> usize {
        let connection = &self.ends[side as usize].connection;
        connection.windows(target).expect("it is open").size as usize
    }
}

impl End {
    fn write(&mut self, now: Instant) -> Bytes {
        let mut sent = BytesMut::new();
        while sent.len() < BYTES_A_TICK {
            let out = self.connection.poll_transmit(now);
            let step = out.chunk().len().min(BYTES_A_TICK - sent.len());
            if step == 0 {
                break;
            }
            sent.extend_from_slice(&out.chunk()[..step]);
            out.advance(step);
        }
        sent.freeze()
    }

    fn read(&mut self, now: Instant) {
        let arrived = self.under_way.partition_point(|(at, _)| *at <= now);
        for (_, bytes) in self.under_way.drain(..arrived) {
            self.input.extend_from_slice(&bytes);
        }
        loop {
            while let Some(event) = self.connection.poll_event() {
                if let Event::Data { id, payload, .. } = event {
                    self.received += payload.len();
                    self.unread.push_back((id, payload.len()));
                }
            }
            if !self.connection.handle_input(now, &mut self.input) {
                break;
            }
        }
        let mut appetite = self.appetite;
        while let Some((stream, bytes)) = self.unread.front_mut() {
            let step = appetite.min(*bytes);
            self.connection.consume(*stream, step);
            appetite -= step;
            *bytes -= step;
            if *bytes > 0 {
                break;
            }
            self.unread.pop_front();
        }
    }
}

fn fixed() -> Config {
    let mut config = Config::default();
    config.limits.max_stream_window = 0;
    config.limits.max_session_window = 0;
    config
}

/// Bytes a millisecond.
fn rate(bytes: usize, time: Duration) -> usize {
    bytes / time.as_millis() as usize
}

#[test]
fn one_transfer_over_a_long_path_is_as_fast_as_the_largest_window_lets_it_be() {
    for version in SINCE_V3 {
        for from in [Side::Client, Side::Server] {
            let measure = |config: Config| {
                let mut path = Path::new(version, [config.clone(), config]);
                let streams = path.streams(1);
                let time = path.send(from, &streams, 64 * MIB);
                (rate(64 * MIB, time), path)
            };
            let (before, _) = measure(fixed());
            let (after, path) = measure(Config::default());
            println!("{version}, 64 MiB from the {from}: {before} and {after} kB a second");
            // A window in each round trip, of which some part is always on its way back as credit.
            let largest = if version == Version::V3_1 {
                2 * MIB
            } else {
                MIB / 2
            };
            assert!(before < 256 * 1024 / 100 + 100, "{before}");
            assert!(after > largest / 100 * 4 / 5, "{after}");
            let streams = path.window(from.peer(), WindowTarget::Stream(id(1)));
            assert_eq!(streams, largest);
        }
    }
}

#[test]
fn many_uploads_over_a_long_path_share_the_largest_window_of_the_session() {
    let version = Version::V3_1;
    let mut path = Path::new(version, [Config::default(), Config::default()]);
    let streams = path.streams(16);
    let time = path.send(Side::Client, &streams, 8 * MIB);
    let rate = rate(128 * MIB, time);
    println!("{version}, 16 uploads of 8 MiB: {rate} kB a second");
    assert!(rate > 4 * MIB / 100 * 2 / 3, "{rate}");
    assert_eq!(path.window(Side::Server, WindowTarget::Session), 4 * MIB);
}

#[test]
fn a_slow_reader_does_not_make_windows_grow() {
    for version in SINCE_V3 {
        let mut path = Path::new(version, [Config::default(), Config::default()]);
        // Below what the smallest window lets through.
        path.ends[Side::Server as usize].appetite = 500;
        let streams = path.streams(1);
        path.send(Side::Client, &streams, 8 * MIB);
        let stream = path.window(Side::Server, WindowTarget::Stream(id(1)));
        assert_eq!(stream, 256 * 1024, "{version}");
    }
}

// --- over drivers --------------------------------------------------------------------------------

/// What is sent by handles over a path that takes any number of bytes at once.
#[tokio::test(start_paused = true)]
async fn an_upload_by_handles_grows_the_windows_as_well() {
    for version in SINCE_V3 {
        let before = upload(version, fixed()).await;
        let after = upload(version, Config::default()).await;
        println!("{version}, 32 MiB by handles: {before} and {after} kB a second");
        let times = if version == Version::V3_1 { 5 } else { 3 / 2 };
        assert!(after > times * before, "{before} {after}");
    }
}

async fn upload(version: Version, config: Config) -> usize {
    let (near, far) = long_pipe();
    let (session, _pushes, driver) = spdy_session::client(near, version, config.clone());
    tokio::spawn(driver);
    let (_session, incoming, driver) = spdy_session::server(far, version, config);
    tokio::spawn(driver);
    let reader = tokio::spawn(read_one(incoming));
    let began = time::Instant::now();
    let mut stream = session
        .open(request_block(version), OpenOptions::default())
        .await
        .expect("the session is new");
    let piece = vec![0; 64 * 1024];
    for _ in 0..512 {
        stream.write_all(&piece).await.expect("it is open");
    }
    stream.shutdown().await.expect("it is open");
    assert_eq!(reader.await.expect("it reads to the end"), 32 * MIB);
    rate(32 * MIB, began.elapsed())
}

async fn read_one(mut incoming: Incoming) -> usize {
    let stream = incoming.accept().await.expect("a stream comes");
    let mut stream = stream.send_reply(HeaderBlock::new()).expect("it is open");
    let mut bytes = vec![0; 64 * 1024];
    let mut sum = 0;
    loop {
        match stream.read(&mut bytes).await.expect("the peer goes on") {
            0 => return sum,
            more => sum += more,
        }
    }
}

/// Two ends of a pipe on which bytes take half of a round trip.
fn long_pipe() -> (DuplexStream, DuplexStream) {
    let ((near, here), (there, far)) = (duplex(64 * 1024), duplex(64 * 1024));
    let (here, there) = (split(here), split(there));
    carry(here.0, there.1);
    carry(there.0, here.1);
    (near, far)
}

fn carry(
    mut from: impl AsyncRead + Unpin + Send + 'static,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
) {
    let (sender, mut receiver) = unbounded_channel();
    tokio::spawn(async move {
        let mut bytes = BytesMut::with_capacity(64 * 1024);
        while from.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
            let arrives = time::Instant::now() + ROUND_TRIP / 2;
            _ = sender.send((arrives, bytes.split()));
            bytes.reserve(64 * 1024);
        }
    });
    tokio::spawn(async move {
        while let Some((arrives, bytes)) = receiver.recv().await {
            time::sleep_until(arrives).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
}
