//! The client of `benches/curves` and `benches/compare`: opens sessions, and does what its standard
//! input says, a line at a time.
//!
//! ```text
//! curves-client ADDRESS SESSIONS STREAMS     prints `open` when the sessions are
//! METHOD PATH REQUESTS BODY FIELDS           sends REQUESTS requests, then prints `done`
//! ```
//!
//! The requests are shared out evenly to SESSIONS × STREAMS workers, each of which does one after
//! the other. BODY is how many bytes each sends. FIELDS is how many bytes of header fields it has
//! besides the usual ones, with other values each time.

use std::{
    env,
    error::Error,
    io::{self, BufRead},
    net::SocketAddr,
    sync::Arc,
};

use bytes::Bytes;
use spdy_session::{
    Config, HeaderBlock, Limits, OpenOptions, Received, SendStream, Session, Version,
};
use tokio::{net::TcpStream, runtime::Builder, task::JoinSet};

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, sessions, streams] = &arguments[..] else {
        return Err("usage: curves-client ADDRESS SESSIONS STREAMS".into());
    };
    let (sessions, streams) = (sessions.parse()?, streams.parse()?);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let sessions = runtime.block_on(open(address.parse()?, sessions))?;
    println!("open");
    for line in io::stdin().lock().lines() {
        let work = Arc::new(Work::parse(&line?)?);
        runtime.block_on(work.spread(&sessions, streams))?;
        println!("done");
    }
    Ok(())
}

/// Opens the sessions, a few at a time so that no connection has to be tried again.
async fn open(address: SocketAddr, count: usize) -> Result<Vec<Session>, Failure> {
    let mut sessions = Vec::new();
    while sessions.len() < count {
        let mut connecting = JoinSet::new();
        for _ in sessions.len()..count.min(sessions.len() + 64) {
            connecting.spawn(TcpStream::connect(address));
        }
        while let Some(socket) = connecting.join_next().await {
            let socket = socket??;
            socket.set_nodelay(true)?;
            let (session, _, driver) = spdy_session::client(socket, Version::V3_1, config());
            tokio::spawn(driver);
            sessions.push(session);
        }
    }
    Ok(sessions)
}

/// Windows that are never used up.
fn config() -> Config {
    let mut limits = Limits::default();
    limits.stream_window = 64 << 20;
    limits.session_window = 64 << 20;
    let mut config = Config::default();
    config.limits = limits;
    config
}

/// What a line says.
struct Work {
    method: String,
    path: String,
    requests: usize,
    body: usize,
    fields: usize,
}

impl Work {
    fn parse(line: &str) -> Result<Self, Failure> {
        let words: Vec<&str> = line.split(' ').collect();
        let [method, path, requests, body, fields] = words[..] else {
            return Err(format!("not METHOD PATH REQUESTS BODY FIELDS: {line}").into());
        };
        Ok(Self {
            method: method.to_owned(),
            path: path.to_owned(),
            requests: requests.parse()?,
            body: body.parse()?,
            fields: fields.parse()?,
        })
    }

    async fn spread(self: Arc<Self>, sessions: &[Session], streams: usize) -> Result<(), Failure> {
        let workers = sessions.len() * streams;
        let mut tasks = JoinSet::new();
        for worker in 0..workers {
            let (work, session) = (Arc::clone(&self), sessions[worker / streams].clone());
            // What cannot be shared out is done by those in front.
            let share = (self.requests + workers - 1 - worker) / workers;
            tasks.spawn(async move {
                let mut values = Values(worker as u64);
                for _ in 0..share {
                    work.request(&session, &mut values).await?;
                }
                Ok::<_, Failure>(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(())
    }

    async fn request(&self, session: &Session, values: &mut Values) -> Result<(), Failure> {
        let how = OpenOptions::new().fin(self.body == 0);
        let stream = session.open(self.head(values)?, how).await?;
        let (mut receive, send) = stream.split();
        if self.body > 0 {
            upload(send, self.body).await?;
        }
        let reply = receive.response_headers().await?;
        let status = reply.get(":status").unwrap_or_default();
        if !status.starts_with(b"200") {
            return Err(format!("status {}", String::from_utf8_lossy(status)).into());
        }
        let mut bytes = 0;
        while let Some(received) = receive.next().await {
            if let Received::Data(piece) = received? {
                bytes += piece.len();
            }
        }
        match reply.get("content-length") {
            Some(length) if length != bytes.to_string().as_bytes() => {
                Err(format!("{bytes} bytes came of {}", String::from_utf8_lossy(length)).into())
            }
            _ => Ok(()),
        }
    }

    fn head(&self, values: &mut Values) -> Result<HeaderBlock, Failure> {
        let mut head = HeaderBlock::from_pairs([
            (":method", self.method.as_str()),
            (":path", self.path.as_str()),
            (":version", "HTTP/1.1"),
            (":host", "localhost"),
            (":scheme", "http"),
            ("accept", "*/*"),
            ("accept-encoding", "gzip,deflate,sdch"),
            ("user-agent", "curves"),
        ])?;
        for (number, at) in (0..self.fields).step_by(FIELD).enumerate() {
            let length = FIELD.min(self.fields - at);
            head.append(format!("x-fill-{number}"), values.take(length))?;
        }
        Ok(head)
    }
}

/// Sends a body. The window of the server holds it back, not the queue here.
async fn upload(mut send: SendStream, bytes: usize) -> Result<(), Failure> {
    let piece = Bytes::from_static(&[b'a'; PIECE]);
    let mut left = bytes;
    while left > 0 {
        send.ready().await?;
        let bytes = left.min(PIECE);
        left -= bytes;
        send.send_data(piece.slice(..bytes), left == 0)?;
    }
    Ok(())
}

/// Values that never repeat, the same in each run.
struct Values(u64);

impl Values {
    fn take(&mut self, length: usize) -> String {
        let letter = |_| {
            // The generator of Knuth's MMIX; its upper bits are the good ones.
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
            self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + (self.0 >> 60) as u8)
        };
        (0..length).map(letter).collect()
    }
}

/// The bytes of a header field at most.
const FIELD: usize = 1024;

/// The bytes of a piece of a body.
const PIECE: usize = 16 * 1024;
