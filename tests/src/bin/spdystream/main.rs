//! Our side of the tests in `tests/interop/spdystream`, over sessions without windows:
//!
//! ```text
//! spdystream serve               listens, prints `port N`, and answers on every session
//! spdystream connect ADDRESS     answers on one session after the other, until none is accepted
//! spdystream check ADDRESS       makes the checks, as the client of a server that answers
//! spdystream check listen        prints `port N`, and makes them as the server of such a client
//! ```
//!
//! What a side that answers does with a stream says its field `do`: see `answers`. `go-peer` is the
//! same on moby/spdystream, so each side makes its checks against the other.

mod answers;
mod checks;

use std::{env, io, process::ExitCode, sync::Arc};

use sha2::{Digest, Sha256};
use spdy_session::{
    Config, FlowControl, HeaderBlock, OpenOptions, Received, RecvStream, SendStream, Session,
    SessionError, Side, StreamError, Version,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(env::args().skip(1).collect()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("spdystream: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether all checks have passed, if there were any.
async fn run(arguments: Vec<String>) -> Result<bool, Failure> {
    let notes = Arc::new(Notes::new());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve"] => {
            let listener = listen().await?;
            for number in 1.. {
                let (_, driven) =
                    begin(listener.accept().await?.0, Side::Server, Arc::clone(&notes))?;
                tokio::spawn(async move {
                    match driven.await {
                        Ok(()) => eprintln!("session {number} has ended"),
                        Err(error) => eprintln!("session {number} has failed: {error}"),
                    }
                });
            }
        }
        ["connect", address] => {
            while let Ok(transport) = TcpStream::connect(address).await {
                let (_, driven) = begin(transport, Side::Client, Arc::clone(&notes))?;
                if let Err(error) = driven.await {
                    eprintln!("session has failed: {error}");
                }
            }
        }
        ["check", "listen"] => {
            let listener = listen().await?;
            return checks::check("server", async || {
                let transport = listener.accept().await?.0;
                Ok(begin(transport, Side::Server, Arc::clone(&notes))?.0)
            })
            .await;
        }
        ["check", address] => {
            return checks::check("client", async || {
                let transport = TcpStream::connect(address).await?;
                Ok(begin(transport, Side::Client, Arc::clone(&notes))?.0)
            })
            .await;
        }
        _ => return Err("usage: spdystream serve | connect ADDRESS | check ADDRESS|listen".into()),
    }
    Ok(true)
}

async fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("port {}", listener.local_addr()?.port());
    Ok(listener)
}

/// Begins a session whose incoming streams are answered. The future ends with it.
fn begin(
    transport: TcpStream,
    side: Side,
    notes: Arc<Notes>,
) -> io::Result<(Session, impl Future<Output = Result<(), SessionError>>)> {
    transport.set_nodelay(true)?;
    let mut config = Config::default();
    config.flow_control = FlowControl::Off;
    // Streams of the server are pushes by name alone.
    config.accept_push = true;
    config.limits.max_streams = 1000;
    config.limits.max_backlog = 1000;
    let (session, mut incoming, driver) = match side {
        Side::Client => spdy_session::client(transport, Version::V3_1, config),
        Side::Server => spdy_session::server(transport, Version::V3_1, config),
    };
    let driven = tokio::spawn(driver);
    let answering = session.clone();
    tokio::spawn(async move {
        while let Some(stream) = incoming.accept().await {
            let (session, notes) = (answering.clone(), Arc::clone(&notes));
            tokio::spawn(async move {
                if let Err(error) = answers::answer(stream, session, &notes).await {
                    eprintln!("stream has failed: {error}");
                }
            });
        }
    });
    let ended = async { driven.await.expect("the driver does not panic") };
    Ok((session, ended))
}

/// What streams of answers have seen that could not tell it themselves.
struct Notes {
    sender: mpsc::UnboundedSender<String>,
    receiver: tokio::sync::Mutex<mpsc::UnboundedReceiver<String>>,
}

impl Notes {
    fn new() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            sender,
            receiver: tokio::sync::Mutex::new(receiver),
        }
    }

    fn add(&self, note: String) {
        _ = self.sender.send(note);
    }

    /// Waits for the oldest.
    async fn take(&self) -> String {
        let note = self.receiver.lock().await.recv().await;
        note.expect("this holds a sender")
    }
}

/// Opens a stream and waits for the reply: spdystream throws away what comes before it has sent
/// that.
async fn open(
    session: &Session,
    fields: &[(&str, &str)],
    fin: bool,
) -> Result<(HeaderBlock, RecvStream, SendStream), Failure> {
    let headers = HeaderBlock::from_pairs(fields.iter().copied())?;
    let how = OpenOptions::new().fin(fin);
    let mut stream = session.open(headers, how).await?;
    let reply = stream.response_headers().await?;
    let (receive, send) = stream.split();
    Ok((reply, receive, send))
}

/// Sends bytes to be echoed, and compares what comes back.
async fn echo(session: &Session, bytes: usize) -> Result<(), Failure> {
    let (_, receive, mut send) = open(session, &[("do", "echo")], false).await?;
    let (sent, received) = tokio::join!(send_pattern(&mut send, bytes), digest(receive));
    sent?;
    expect(&pattern_digest(bytes), &received?)
}

async fn send_pattern(to: &mut SendStream, bytes: usize) -> Result<(), StreamError> {
    for piece in pattern(bytes) {
        to.ready().await?;
        to.send_data(piece.into(), false)?;
    }
    to.finish()?;
    to.written().await
}

/// Returns this number of bytes, in pieces. Each byte depends on its place.
fn pattern(bytes: usize) -> impl Iterator<Item = Vec<u8>> {
    let pieces = (0..bytes).step_by(PIECE);
    pieces.map(move |start| {
        let places = start..bytes.min(start + PIECE);
        places.map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect()
    })
}

/// Reads to the end, and tells how much came and its SHA-256.
async fn digest(mut from: RecvStream) -> Result<String, StreamError> {
    let (mut bytes, mut hash) = (0, Sha256::new());
    while let Some(received) = from.next().await {
        if let Received::Data(piece) = received? {
            bytes += piece.len();
            hash.update(&piece);
        }
    }
    Ok(told(bytes, hash))
}

fn pattern_digest(bytes: usize) -> String {
    let mut hash = Sha256::new();
    pattern(bytes).for_each(|piece| hash.update(piece));
    told(bytes, hash)
}

fn told(bytes: usize, hash: Sha256) -> String {
    let hash = hash.finalize();
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{bytes} {digits}")
}

fn expect(expected: &str, actual: &str) -> Result<(), Failure> {
    if actual != expected {
        return Err(format!("{actual:?} where {expected:?} was expected").into());
    }
    Ok(())
}

const PIECE: usize = 32 * 1024;
