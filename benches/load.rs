//! Loads a server that speaks SPDY in plain text, and prints how fast it was and how much memory
//! the server used.
//!
//! Run with `cargo run --release -p spdy-benches --bin load -- ADDRESS PATH REQUESTS
//! [OPTION…]`, for instance
//!
//! ```text
//! cargo run --release -p spdy-server -- --plain 127.0.0.1:8080 &
//! cargo run --release -p spdy-benches --bin load -- 127.0.0.1:8080 /hello 100000 pid=$!
//! ```
//!
//! | Option | Means |
//! |---|---|
//! | `sessions=N` | sessions at once; default 10 |
//! | `streams=N` | requests under way in each session; default 10 |
//! | `version=V` | `spdy/2`, `spdy/3` or `spdy/3.1`, the default |
//! | `upload=N` | POST with N bytes, of which byte i is (i·31 + 7) mod 256 |
//! | `check` | the response has to follow the same pattern |
//! | `idle` | each session stays open and silent after its requests, and the memory is read again |
//! | `pid=N` | the server's process, on a system with `/proc`: its resident memory is printed |

use std::{
    env,
    error::Error,
    fs,
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use spdy_session::{
    Config, HeaderBlock, OpenOptions, Received, RecvStream, SendStream, Session, Version,
};
use tokio::{net::TcpStream, task::JoinSet, time::sleep};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match Load::parse(env::args().skip(1)) {
        Ok(load) => Arc::new(load).run().await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Debug)]
struct Load {
    address: SocketAddr,
    path: String,
    requests: usize,
    sessions: usize,
    streams: usize,
    version: Version,
    upload: Option<usize>,
    check: bool,
    idle: bool,
    pid: Option<u32>,
    begun: AtomicUsize,
    bytes: AtomicUsize,
}

impl Load {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut next = || {
            arguments
                .next()
                .ok_or("usage: load ADDRESS PATH REQUESTS [OPTION…]")
        };
        let mut load = Self {
            address: next()?.parse()?,
            path: next()?,
            requests: next()?.parse()?,
            sessions: 10,
            streams: 10,
            version: Version::V3_1,
            upload: None,
            check: false,
            idle: false,
            pid: None,
            begun: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        };
        for option in arguments {
            match option.split_once('=') {
                Some(("sessions", value)) => load.sessions = value.parse()?,
                Some(("streams", value)) => load.streams = value.parse()?,
                Some(("version", value)) => {
                    load.version = Version::from_alpn(value.as_bytes()).ok_or("no such version")?;
                }
                Some(("upload", value)) => load.upload = Some(value.parse()?),
                Some(("pid", value)) => load.pid = Some(value.parse()?),
                None if option == "check" => load.check = true,
                None if option == "idle" => load.idle = true,
                _ => return Err(format!("there is no option {option}").into()),
            }
        }
        Ok(load)
    }

    async fn run(self: Arc<Self>) -> Result<(), Failure> {
        self.report("before");
        let start = Instant::now();
        let watch = tokio::spawn(Arc::clone(&self).watch());
        let mut sessions = JoinSet::new();
        for _ in 0..self.sessions {
            sessions.spawn(Arc::clone(&self).session());
        }
        let mut open = Vec::new();
        while let Some(session) = sessions.join_next().await {
            open.push(session??);
        }
        let seconds = start.elapsed().as_secs_f64();
        watch.abort();
        let bytes = self.bytes.load(Ordering::Relaxed) as f64;
        println!(
            "{} requests in {seconds:.2} s: {:.0} a second, {:.1} MB a second",
            self.requests,
            self.requests as f64 / seconds,
            bytes / seconds / 1e6
        );
        self.report("at the end");
        if self.idle {
            sleep(Duration::from_secs(2)).await;
            self.report(&format!("with {} sessions at rest", open.len()));
        }
        Ok(())
    }

    /// Prints the server's memory after the first thousand requests, and its peak now and then.
    async fn watch(self: Arc<Self>) {
        while self.begun.load(Ordering::Relaxed) < 1000 {
            sleep(Duration::from_millis(5)).await;
        }
        self.report("after 1,000 requests");
    }

    /// Does requests over one session until there are no more to do.
    async fn session(self: Arc<Self>) -> Result<Session, Failure> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let (session, _pushes, driver) =
            spdy_session::client(socket, self.version, Config::default());
        tokio::spawn(driver);
        let mut streams = JoinSet::new();
        for _ in 0..self.streams {
            let (load, session) = (Arc::clone(&self), session.clone());
            streams.spawn(async move {
                while load.begun.fetch_add(1, Ordering::Relaxed) < load.requests {
                    load.request(&session).await?;
                }
                Ok::<_, Failure>(())
            });
        }
        while let Some(stream) = streams.join_next().await {
            stream??;
        }
        Ok(session)
    }

    async fn request(&self, session: &Session) -> Result<(), Failure> {
        let how = OpenOptions::new().fin(self.upload.is_none());
        let (receive, send) = session.open(self.head(), how).await?.split();
        match self.upload {
            Some(bytes) => {
                tokio::try_join!(upload(send, bytes), self.download(receive)).map(|_| ())
            }
            None => self.download(receive).await,
        }
    }

    fn head(&self) -> HeaderBlock {
        let method = if self.upload.is_some() { "POST" } else { "GET" };
        let names = match self.version {
            Version::V2 => ["method", "url", "version", "host", "scheme"],
            Version::V3 | Version::V3_1 => [":method", ":path", ":version", ":host", ":scheme"],
        };
        let values = [method, &self.path, "HTTP/1.1", "localhost", "http"];
        let mut head = HeaderBlock::with_capacity(6, 200);
        for (name, value) in names.into_iter().zip(values) {
            head.append(name, value).expect("the fields are sound");
        }
        head.append("user-agent", "spdy load")
            .expect("the field is sound");
        head
    }

    async fn download(&self, mut receive: RecvStream) -> Result<(), Failure> {
        let reply = receive.response_headers().await?;
        let status = reply
            .get(":status")
            .or_else(|| reply.get("status"))
            .unwrap_or_default();
        if !status.starts_with(b"200") {
            return Err(format!("status {}", String::from_utf8_lossy(status)).into());
        }
        let mut place = 0;
        while let Some(received) = receive.next().await {
            let Received::Data(piece) = received? else {
                continue;
            };
            if self.check && !pattern(place, piece.len()).eq(piece.iter().copied()) {
                return Err(format!("bytes are wrong after {place}").into());
            }
            place += piece.len();
        }
        if self.check && self.upload.is_some_and(|bytes| bytes != place) {
            return Err(format!("{place} bytes came back").into());
        }
        self.bytes.fetch_add(place, Ordering::Relaxed);
        Ok(())
    }

    fn report(&self, when: &str) {
        let Some(pid) = self.pid else { return };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map_or("?", |line| line.trim()).to_owned()
        };
        println!(
            "resident memory {when}: {}, at its peak {}",
            kib("VmRSS:"),
            kib("VmHWM:")
        );
    }
}

async fn upload(mut send: SendStream, bytes: usize) -> Result<(), Failure> {
    let period: Bytes = pattern(0, PIECE).collect();
    let mut left = bytes;
    while left > 0 {
        send.ready().await?;
        let piece = period.slice(..left.min(PIECE));
        left -= piece.len();
        send.send_data(piece, left == 0)?;
    }
    Ok(())
}

/// Byte i is (i·31 + 7) mod 256.
fn pattern(place: usize, bytes: usize) -> impl Iterator<Item = u8> {
    (place..place + bytes).map(|i| i.wrapping_mul(31).wrapping_add(7) as u8)
}

/// A multiple of the pattern's period.
const PIECE: usize = 16 * 1024;
