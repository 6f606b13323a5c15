//! Attacks a server that speaks SPDY in plain text, and prints the result. Meanwhile an honest
//! client requests pages, and its results are printed, too.
//!
//! Run with `cargo run --release -p spdy-tests --bin hostile -- ADDRESS [OPTION…] ATTACK…`,
//! for instance
//!
//! ```text
//! cargo run --release -p spdy-server -- --plain 127.0.0.1:8080 &
//! cargo run --release -p spdy-tests --bin hostile -- 127.0.0.1:8080 pid=$! all
//! ```
//!
//! | Option | Means |
//! |---|---|
//! | `rounds=N` | rounds of each attack; default 1,000,000, or 1,000 for those with * |
//! | `version=V` | `spdy/2`, `spdy/3` or `spdy/3.1`, the default |
//! | `pid=N` | the server's process, with `/proc`: prints its memory and processor time |
//!
//! | Attack | One round is |
//! |---|---|
//! | `pings-unread` | a PING, whose answer is not read |
//! | `pings` | a PING |
//! | `rapid-reset` | SYN_STREAM and RST_STREAM |
//! | `rapid-reset-unread` | the same, and nothing is read |
//! | `resets` | RST_STREAM of a stream that is not open |
//! | `requests-unread` | a request for `/hello`, whose answer is not read |
//! | `after-fin` | a request, and DATA that makes the server reset it |
//! | `settings` | SETTINGS that change the window |
//! | `settings-count`* | SETTINGS that claims 4,294,967,295 entries |
//! | `empty-data` | DATA without a byte |
//! | `bytes-unread` | DATA of one byte to `/echo`, whose answer is not read |
//! | `bomb-1m`* | a header block that inflates to a little more than one MiB |
//! | `bomb-1g`* | five header blocks that inflate to one GiB together |
//! | `many-fields`* | 100 requests with 127 fields each, and no window for the answers |
//! | `slow`* | half a frame, and silence |
//!
//! A session that the server ends, or of which it stops reading, is followed by another one until
//! all rounds are done. Those of which nothing is read any more are kept open to the end of the
//! attack, 64 of them at most.

use std::{
    env,
    error::Error,
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use flate2::{Compress, Compression, FlushCompress};
use spdy_session::{Config, HeaderBlock, OpenOptions, Received, Version};
use tokio::{sync::oneshot, time::sleep};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(env::args().skip(1)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hostile: {error}");
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn Error + Send + Sync>;

async fn run(mut arguments: impl Iterator<Item = String>) -> Result<(), Failure> {
    let address = arguments
        .next()
        .ok_or("usage: hostile ADDRESS [OPTION…] ATTACK…")?
        .parse()?;
    let (mut rounds, mut version, mut pid) = (1_000_000, Version::V3_1, None);
    let mut attacks = Vec::new();
    for argument in arguments {
        match argument.split_once('=') {
            Some(("rounds", value)) => rounds = value.parse()?,
            Some(("version", value)) => {
                version = Version::from_alpn(value.as_bytes()).ok_or("no such version")?;
            }
            Some(("pid", value)) => pid = Some(value.parse()?),
            None if argument == "all" => attacks.extend(ATTACKS),
            None => {
                let known = ATTACKS.into_iter().find(|attack| attack.name == argument);
                attacks.push(known.ok_or_else(|| format!("there is no attack {argument}"))?);
            }
            Some(_) => return Err(format!("there is no option {argument}").into()),
        }
    }
    println!(
        "attack               rounds  sessions  ended stopped  seconds    cpu   memory before, peak, after   healthy \
         p50, p99, max before; during"
    );
    for attack in attacks {
        let rounds = if attack.is_costly {
            (rounds / 1000).max(1)
        } else {
            rounds
        };
        let calm = Healthy::watch(address, version, sleep(Duration::from_secs(3))).await?;
        let before = Process::of(pid);
        let (done, over) = oneshot::channel();
        let start = Instant::now();
        thread::spawn(move || {
            let attack = Attacker::new(address, version, attack, rounds).run();
            _ = done.send(attack);
        });
        let mut outcome = None;
        let peak = Peak::watch(pid);
        let attacked = async { outcome = over.await.ok() };
        let busy = Healthy::watch(address, version, attacked).await?;
        let peak = peak.end().await;
        let Outcome {
            rounds,
            sessions,
            ended,
            stopped,
            time,
        } = outcome.ok_or("the attacker has failed")??;
        let used = Process::of(pid).cpu - before.cpu;
        // The sockets are closed: everything should be free again.
        sleep(Duration::from_secs(3)).await;
        println!(
            "{:18} {rounds:8}  {sessions:8}  {ended:5} {stopped:7}  {:7.2}  {used:5.2}   {} {} {}   {calm}; {busy}",
            attack.name,
            time.min(start.elapsed()).as_secs_f64(),
            mebibytes(before.memory),
            mebibytes(peak.max(before.memory)),
            mebibytes(Process::of(pid).memory),
        );
    }
    Ok(())
}

// --- the honest client ---------------------------------------------------------------------------

/// How long its requests took.
#[derive(Debug)]
struct Healthy(Vec<Duration>);

impl Healthy {
    /// Asks for a page every 20 ms over one session until `end`.
    async fn watch(
        address: SocketAddr,
        version: Version,
        end: impl Future<Output = ()>,
    ) -> Result<Self, Failure> {
        let socket = tokio::net::TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let (session, _pushes, driver) = spdy_session::client(socket, version, Config::default());
        let driver = tokio::spawn(driver);
        let mut end = std::pin::pin!(end);
        let mut times = Vec::new();
        loop {
            let start = Instant::now();
            let how = OpenOptions::new().fin(true);
            let (mut receive, _) = session.open(head(version, "/hello"), how).await?.split();
            receive.response_headers().await?;
            let mut bytes = 0;
            while let Some(received) = receive.next().await {
                if let Received::Data(piece) = received? {
                    bytes += piece.len();
                }
            }
            if bytes != 100 {
                return Err(format!("the healthy client has received {bytes} bytes").into());
            }
            times.push(start.elapsed());
            tokio::select! {
                () = &mut end => break,
                () = sleep(Duration::from_millis(20)) => {}
            }
        }
        driver.abort();
        times.sort();
        Ok(Self(times))
    }

    fn at(&self, share: f64) -> f64 {
        let place = ((self.0.len() - 1) as f64 * share).round() as usize;
        self.0[place].as_secs_f64() * 1e3
    }
}

impl std::fmt::Display for Healthy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (p50, p99, max) = (self.at(0.5), self.at(0.99), self.at(1.0));
        write!(f, "{p50:.2} {p99:.2} {max:.2} ms of {}", self.0.len())
    }
}

fn head(version: Version, path: &str) -> HeaderBlock {
    let names = match version {
        Version::V2 => ["method", "url", "version", "host", "scheme"],
        Version::V3 | Version::V3_1 => [":method", ":path", ":version", ":host", ":scheme"],
    };
    let values = ["GET", path, "HTTP/1.1", "localhost", "http"];
    HeaderBlock::from_pairs(names.into_iter().zip(values)).expect("the fields are sound")
}

// --- the attacker --------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug)]
struct Attack {
    name: &'static str,
    /// A round takes long, or a session of its own.
    is_costly: bool,
    /// What the server sends is read.
    reads: bool,
    /// Writes the bytes that come before the rounds of a session.
    begin: fn(&mut Peer),
    /// Writes a round, the n-th of its session.
    round: fn(&mut Peer, u32),
}

const NOTHING: fn(&mut Peer) = |_| {};

const ATTACKS: [Attack; 15] = [
    Attack {
        name: "pings-unread",
        is_costly: false,
        reads: false,
        begin: NOTHING,
        round: |peer, _| peer.control(6, &[&[0, 0, 0, 1]]),
    },
    Attack {
        name: "pings",
        is_costly: false,
        reads: true,
        begin: NOTHING,
        round: |peer, _| peer.control(6, &[&[0, 0, 0, 1]]),
    },
    Attack {
        name: "rapid-reset",
        is_costly: false,
        reads: true,
        begin: NOTHING,
        round: Peer::open_and_reset,
    },
    Attack {
        name: "rapid-reset-unread",
        is_costly: false,
        reads: false,
        begin: NOTHING,
        round: Peer::open_and_reset,
    },
    Attack {
        name: "resets",
        is_costly: false,
        reads: true,
        begin: NOTHING,
        round: |peer, _| peer.reset(1),
    },
    Attack {
        name: "requests-unread",
        is_costly: false,
        reads: false,
        begin: NOTHING,
        round: |peer, n| peer.request(2 * n + 1, "GET", "/hello", true, &[]),
    },
    Attack {
        name: "after-fin",
        is_costly: false,
        reads: true,
        begin: NOTHING,
        round: |peer, n| {
            peer.request(2 * n + 1, "GET", "/slow/1000", true, &[]);
            peer.data(2 * n + 1, b"more");
        },
    },
    Attack {
        name: "settings",
        is_costly: false,
        reads: true,
        begin: NOTHING,
        round: |peer, n| peer.window(n % 2 * 100_000),
    },
    Attack {
        name: "settings-count",
        is_costly: true,
        reads: true,
        begin: NOTHING,
        round: |peer, _| peer.control(4, &[&[0xff; 4], &[0; 16]]),
    },
    Attack {
        name: "empty-data",
        is_costly: false,
        reads: true,
        begin: |peer| peer.request(1, "POST", "/sink", false, &[]),
        round: |peer, _| peer.data(1, b""),
    },
    Attack {
        name: "bytes-unread",
        is_costly: false,
        reads: false,
        begin: |peer| {
            peer.window(0);
            peer.request(1, "POST", "/echo", false, &[]);
        },
        round: |peer, _| peer.data(1, b"x"),
    },
    Attack {
        name: "bomb-1m",
        is_costly: true,
        reads: true,
        begin: NOTHING,
        round: |peer, n| peer.bomb(2 * n + 1, (1 << 20) + 4096),
    },
    Attack {
        name: "bomb-1g",
        is_costly: true,
        reads: true,
        begin: NOTHING,
        round: |peer, n| {
            for part in 0..5 {
                peer.bomb(2 * (5 * n + part) + 1, (1 << 30) / 5);
            }
        },
    },
    Attack {
        name: "many-fields",
        is_costly: true,
        reads: false,
        begin: |peer| peer.window(0),
        round: |peer, n| {
            let fields: Vec<String> = (0..122).map(|n| format!("x-{n}")).collect();
            for stream in 0..100 {
                peer.request(
                    2 * (100 * n + stream) + 1,
                    "GET",
                    "/bytes/100000",
                    true,
                    &fields,
                );
            }
        },
    },
    Attack {
        name: "slow",
        is_costly: true,
        reads: false,
        begin: NOTHING,
        round: |peer, _| {
            peer.bytes.extend([0x80, 3, 0]);
            peer.is_over = true;
        },
    },
];

/// What a session of the attacker sends.
#[derive(Debug)]
struct Peer {
    version: Version,
    bytes: Vec<u8>,
    /// The zlib header and the dictionary, until they are sent.
    start: &'static [u8],
    /// Compressed zeros, by how many they are.
    bomb: Option<(usize, Vec<u8>)>,
    /// Nothing more is to be said.
    is_over: bool,
}

impl Peer {
    fn new(version: Version) -> Self {
        Self {
            version,
            bytes: Vec::new(),
            start: match version {
                Version::V2 => &[0x78, 0x3f, 0xdf, 0xa2, 0x51, 0xb2],
                Version::V3 | Version::V3_1 => &[0x78, 0x3f, 0xe3, 0xc6, 0xa7, 0xc2],
            },
            bomb: None,
            is_over: false,
        }
    }

    fn frame(&mut self, start: [u8; 4], flags: u8, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.bytes.extend(start);
        self.bytes.push(flags);
        self.bytes.extend(&(length as u32).to_be_bytes()[1..]);
        for part in parts {
            self.bytes.extend(*part);
        }
    }

    fn control_with(&mut self, kind: u8, flags: u8, parts: &[&[u8]]) {
        let version = match self.version {
            Version::V2 => 2,
            Version::V3 | Version::V3_1 => 3,
        };
        self.frame([0x80, version, 0, kind], flags, parts);
    }

    fn control(&mut self, kind: u8, parts: &[&[u8]]) {
        self.control_with(kind, 0, parts);
    }

    fn data(&mut self, stream: u32, payload: &[u8]) {
        self.frame(stream.to_be_bytes(), 0, &[payload]);
    }

    fn reset(&mut self, stream: u32) {
        self.control(3, &[&stream.to_be_bytes(), &[0, 0, 0, 5]]);
    }

    /// Sets INITIAL_WINDOW_SIZE.
    fn window(&mut self, bytes: u32) {
        let id = match self.version {
            Version::V2 => [7, 0, 0, 0],
            Version::V3 | Version::V3_1 => [0, 0, 0, 7],
        };
        self.control(4, &[&[0, 0, 0, 1], &id, &bytes.to_be_bytes()]);
    }

    fn request(&mut self, stream: u32, method: &str, path: &str, fin: bool, more: &[String]) {
        let names = match self.version {
            Version::V2 => ["method", "url", "version", "host", "scheme"],
            Version::V3 | Version::V3_1 => [":method", ":path", ":version", ":host", ":scheme"],
        };
        let values = [method, path, "HTTP/1.1", "localhost", "http"];
        let mut plain = Vec::new();
        let is_v2 = self.version == Version::V2;
        let number = |plain: &mut Vec<u8>, number: usize| {
            let bytes = (number as u32).to_be_bytes();
            plain.extend(if is_v2 { &bytes[2..] } else { &bytes[..] });
        };
        number(&mut plain, names.len() + more.len());
        let fields = names.into_iter().zip(values);
        for (name, value) in fields.chain(more.iter().map(|name| (name.as_str(), ""))) {
            number(&mut plain, name.len());
            plain.extend(name.as_bytes());
            number(&mut plain, value.len());
            plain.extend(value.as_bytes());
        }
        // A stored block, and an empty one behind it.
        let length = plain.len() as u16;
        let mut block = vec![0];
        block.extend(length.to_le_bytes());
        block.extend((!length).to_le_bytes());
        block.extend(plain);
        block.extend([0, 0, 0, 0xff, 0xff]);
        self.open(stream, fin, &block);
    }

    fn open(&mut self, stream: u32, fin: bool, block: &[u8]) {
        let start = std::mem::take(&mut self.start);
        let head = [&stream.to_be_bytes()[..], &[0; 6]].concat();
        self.control_with(1, u8::from(fin), &[&head, start, block]);
    }

    fn open_and_reset(&mut self, n: u32) {
        self.request(2 * n + 1, "GET", "/hello", true, &[]);
        self.reset(2 * n + 1);
    }

    /// Opens a stream with a header block of this number of zeros.
    fn bomb(&mut self, stream: u32, bytes: usize) {
        let (_, block) = match self.bomb.take() {
            Some(bomb) if bomb.0 == bytes => bomb,
            _ => (bytes, zeros(bytes)),
        };
        self.open(stream, true, &block);
        self.bomb = Some((bytes, block));
    }
}

/// Zeros, compressed.
fn zeros(bytes: usize) -> Vec<u8> {
    let piece = vec![0; 1 << 20];
    let mut deflate = Compress::new(Compression::best(), false);
    let mut out = Vec::with_capacity(bytes / 1000 + 4096);
    let mut left = bytes;
    while left > 0 {
        let length = left.min(piece.len());
        left -= length;
        let flush = if left == 0 {
            FlushCompress::Sync
        } else {
            FlushCompress::None
        };
        deflate
            .compress_vec(&piece[..length], &mut out, flush)
            .expect("zeros can be compressed");
    }
    out
}

/// Does an attack over one session after the other.
#[derive(Debug)]
struct Attacker {
    address: SocketAddr,
    version: Version,
    attack: Attack,
    rounds: u32,
    /// Sessions of which the server reads nothing any more.
    kept: Vec<TcpStream>,
}

/// The result of an attack.
#[derive(Debug)]
struct Outcome {
    rounds: u32,
    sessions: u32,
    /// Sessions that the server has ended.
    ended: u32,
    /// Sessions of which it has stopped reading.
    stopped: u32,
    time: Duration,
}

impl Attacker {
    fn new(address: SocketAddr, version: Version, attack: Attack, rounds: u32) -> Self {
        Self {
            address,
            version,
            attack,
            rounds,
            kept: Vec::new(),
        }
    }

    fn run(mut self) -> io::Result<Outcome> {
        let start = Instant::now();
        let mut outcome = Outcome {
            rounds: 0,
            sessions: 0,
            ended: 0,
            stopped: 0,
            time: Duration::ZERO,
        };
        let mut bomb = None;
        while outcome.rounds < self.rounds && start.elapsed() < LONGEST {
            let mut peer = Peer::new(self.version);
            peer.bomb = bomb;
            outcome.sessions += 1;
            let (rounds, end) = self.session(&mut peer, self.rounds - outcome.rounds)?;
            outcome.rounds += rounds;
            match end {
                End::Ended => outcome.ended += 1,
                End::Stopped => outcome.stopped += 1,
                End::Over => {}
            }
            bomb = peer.bomb;
        }
        outcome.time = start.elapsed();
        // What is in the system's buffers reaches the server, and the sessions are still open.
        thread::sleep(Duration::from_secs(1));
        Ok(outcome)
    }

    /// Writes until the session ends or all rounds are written. Returns the rounds that were
    /// written.
    fn session(&mut self, peer: &mut Peer, most: u32) -> io::Result<(u32, End)> {
        let mut io = TcpStream::connect(self.address)?;
        io.set_write_timeout(Some(Duration::from_millis(300)))?;
        let reader = if self.attack.reads {
            let mut io = io.try_clone()?;
            Some(thread::spawn(move || {
                while matches!(io.read(&mut [0; 65_536]), Ok(1..)) {}
            }))
        } else {
            None
        };
        let is_over = || reader.as_ref().is_some_and(|reader| reader.is_finished());
        (self.attack.begin)(peer);
        let mut rounds = 0;
        let end = loop {
            while peer.bytes.len() < 16 * 1024 && rounds < most && !peer.is_over {
                (self.attack.round)(peer, rounds);
                rounds += 1;
                if self.attack.is_costly {
                    break;
                }
            }
            match io.write_all(&peer.bytes) {
                Ok(()) => peer.bytes.clear(),
                Err(error) if is_timeout(&error) => break End::Stopped,
                Err(_) => break End::Ended,
            }
            if is_over() {
                break End::Ended;
            }
            if self.attack.is_costly && self.attack.reads {
                // The end of the session is part of the round.
                let start = Instant::now();
                while !is_over() && start.elapsed() < Duration::from_secs(2) {
                    thread::sleep(Duration::from_micros(100));
                }
                if is_over() {
                    break End::Ended;
                }
            }
            if rounds == most || peer.is_over {
                break if is_over() { End::Ended } else { End::Over };
            }
        };
        if self.kept.len() < 64 {
            self.kept.push(io);
        } else {
            _ = io.shutdown(std::net::Shutdown::Both);
        }
        Ok((rounds, end))
    }
}

/// How a session of the attacker has ended.
#[derive(Debug)]
enum End {
    Ended,
    Stopped,
    Over,
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// No attack takes longer.
const LONGEST: Duration = Duration::from_secs(120);

// --- the server's process ------------------------------------------------------------------------

/// What the system says about the server; nothing where it is not known.
#[derive(Clone, Copy, Debug, Default)]
struct Process {
    /// Resident memory in bytes.
    memory: u64,
    /// Processor time in seconds.
    cpu: f64,
}

impl Process {
    fn of(pid: Option<u32>) -> Self {
        let Some(pid) = pid else {
            return Self::default();
        };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let times = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 = times
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|ticks| ticks.parse::<u64>().ok())
            .sum();
        Self {
            memory: kib.unwrap_or(0) * 1024,
            // Linux counts in hundredths of a second.
            cpu: ticks as f64 / 100.0,
        }
    }
}

/// Looks at the server's memory again and again.
#[derive(Debug)]
struct Peak {
    stop: oneshot::Sender<()>,
    watch: tokio::task::JoinHandle<u64>,
}

impl Peak {
    fn watch(pid: Option<u32>) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let watch = tokio::spawn(async move {
            let mut peak = 0;
            loop {
                peak = peak.max(Process::of(pid).memory);
                tokio::select! {
                    _ = &mut stopped => return peak,
                    () = sleep(Duration::from_millis(5)) => {}
                }
            }
        });
        Self { stop, watch }
    }

    async fn end(self) -> u64 {
        _ = self.stop.send(());
        self.watch.await.unwrap_or(0)
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:6.2}M", bytes as f64 / f64::from(1 << 20))
}
