//! The protocol machine without tokio: a client and a server of SPDY/3.1 over sockets of `std` that
//! block.
//!
//! Run with `cargo run --release -p spdy-examples --example sans_io_loop`: the client sends to a
//! server in the same process, which echoes. `-- serve ADDRESS` is the server alone and `--
//! ADDRESS` the client alone.
//!
//! `drive` is all that a program on another runtime has to write. `Application` stands for what it
//! is written for.

use std::{
    collections::HashMap,
    env,
    error::Error,
    io::{self, ErrorKind, IoSlice, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};
use spdy_session::{
    Config, HeaderBlock, RstStatus, SessionError, Side, StreamId, Version,
    proto::{self, Connection, Event, OpenOptions, Phase},
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?.to_string();
            thread::spawn(move || serve(&listener));
            connect(&address)
        }
        ["serve", address] => {
            let listener = TcpListener::bind(address)?;
            println!("listening on {}", listener.local_addr()?);
            Ok(serve(&listener)?)
        }
        [address] => connect(address),
        _ => Err("usage: sans_io_loop [[serve] ADDRESS]".into()),
    }
}

fn serve(listener: &TcpListener) -> io::Result<()> {
    let mut config = Config::default();
    config.timeouts.first_frame = Some(Duration::from_secs(2));
    let config = Arc::new(config);
    loop {
        let (socket, _) = listener.accept()?;
        let connection = connection(Side::Server, Arc::clone(&config));
        thread::spawn(move || {
            if let Err(error) = drive(connection, &socket, &mut Echo::default()) {
                eprintln!("session ended early: {error}");
            }
        });
    }
}

fn connect(address: &str) -> Result<(), Box<dyn Error>> {
    let socket = TcpStream::connect(address)?;
    let mut connection = connection(Side::Client, Arc::default());
    let mut client = Client::start(&mut connection)?;
    drive(connection, &socket, &mut client)?;
    if !client.streams.is_empty() {
        return Err("the session ended before all streams came back".into());
    }
    println!("{STREAMS} streams of {BYTES} bytes each came back whole");
    Ok(())
}

fn connection(side: Side, config: Arc<Config>) -> Connection {
    Connection::new(side, Version::V3_1, config, Instant::now())
}

/// What a program does with its streams.
trait Application {
    fn handle(&mut self, connection: &mut Connection, event: Event);
}

/// Moves bytes between a connection and a socket until the session has ended: the order of calls is
/// the whole point. Nothing here waits for ever, as each wait ends at the next deadline of the
/// connection.
fn drive(
    mut connection: Connection,
    socket: &TcpStream,
    application: &mut impl Application,
) -> Result<(), SessionError> {
    socket.set_nodelay(true)?;
    // A peer that does not read, because it waits for us to read, must not hold us up.
    socket.set_write_timeout(Some(MOMENT))?;
    let mut input = BytesMut::new();
    loop {
        // What has come, and what the application makes of it. It may end a pause of reading: then
        // there is more.
        while connection.handle_input(Instant::now(), &mut input) {
            dispatch(&mut connection, application);
        }
        dispatch(&mut connection, application);

        // All that may go out. That it has may end a pause, too.
        let was_paused = !connection.wants_input();
        if let Err(error) = write(&mut connection, socket) {
            connection.handle_transport_error(error.into());
        }
        let has_acted = dispatch(&mut connection, application);
        if connection.phase() == Phase::Closing && !connection.has_output() {
            break;
        }

        // Bytes from the peer, unless reading pauses. There is nothing to wait for when more can be
        // done at once.
        let resumed = was_paused && connection.wants_input();
        let wait = match has_acted || resumed || connection.has_output() {
            true => Duration::ZERO,
            false => until(connection.poll_timeout()),
        };
        if !connection.wants_input() {
            thread::sleep(wait);
        } else {
            match read(socket, &mut input, wait) {
                Ok(Some(0)) => connection.handle_eof(Instant::now()),
                Ok(_) => {}
                Err(error) => connection.handle_transport_error(error.into()),
            }
        }

        // Deadlines that have passed, however the wait has ended.
        let now = Instant::now();
        if connection.poll_timeout().is_some_and(|at| at <= now) {
            connection.handle_timeout(now);
        }
    }
    // A socket that has failed fails again.
    _ = linger(socket, connection.config().timeouts.close);
    connection.outcome().clone()
}

/// Hands all events to the application. Returns whether there were any.
fn dispatch(connection: &mut Connection, application: &mut impl Application) -> bool {
    let mut any = false;
    while let Some(event) = connection.poll_event() {
        application.handle(connection, event);
        any = true;
    }
    any
}

/// Writes until the connection has no more, or the socket takes no more for now. What a write has
/// not taken is given again by the connection.
fn write(connection: &mut Connection, mut socket: &TcpStream) -> io::Result<()> {
    loop {
        let out = connection.poll_transmit(Instant::now());
        if !out.has_remaining() {
            return Ok(());
        }
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = out.chunks_vectored(&mut slices);
        match socket.write_vectored(&slices[..filled]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => out.advance(written),
            Err(error) if is_not_now(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Reads the bytes that have come, or that come within `wait`. Returns `None` if none come, and
/// `Some(0)` at the end.
fn read(mut socket: &TcpStream, input: &mut BytesMut, wait: Duration) -> io::Result<Option<usize>> {
    socket.set_nonblocking(wait.is_zero())?;
    socket.set_read_timeout(Some(wait.max(MOMENT)))?;
    let filled = input.len();
    input.resize(filled + CHUNK, 0);
    let read = socket.read(&mut input[filled..]);
    input.truncate(filled + read.as_ref().unwrap_or(&0));
    socket.set_nonblocking(false)?;
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_not_now(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Ends the writing side, and reads on for a while: were the socket closed with bytes unread, TCP
/// could take our GOAWAY back.
fn linger(mut socket: &TcpStream, time: Duration) -> io::Result<()> {
    socket.shutdown(Shutdown::Write)?;
    let end = Instant::now() + time;
    while Instant::now() < end {
        socket.set_read_timeout(Some(until(Some(end))))?;
        match socket.read(&mut [0; CHUNK]) {
            Ok(0) => return Ok(()),
            Err(error) if !is_not_now(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The time until a deadline, but some time, and not for ever.
fn until(deadline: Option<Instant>) -> Duration {
    let time = deadline.map(|at| at.saturating_duration_since(Instant::now()));
    time.unwrap_or(Duration::MAX)
        .clamp(MOMENT, Duration::from_secs(60))
}

/// Whether a call failed because it would have had to wait for longer, or was disturbed.
fn is_not_now(error: &io::Error) -> bool {
    use ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

/// An echo server.
#[derive(Default)]
struct Echo {
    /// The bytes of each stream that are not sent back yet.
    owed: HashMap<StreamId, usize>,
}

impl Application for Echo {
    fn handle(&mut self, connection: &mut Connection, event: Event) {
        match event {
            Event::Opened(opened) => {
                // It may be one that takes no answer, or be gone already.
                _ = connection.send_reply(opened.id, HeaderBlock::new(), opened.fin);
            }
            Event::Data { id, payload, fin } => {
                *self.owed.entry(id).or_default() += payload.len();
                if connection.send_data(id, payload, fin).is_err() {
                    self.drop_stream(connection, id);
                }
            }
            // The client gets new credit for what it has got back, and so cannot make us hold more
            // than a window.
            Event::Sent { id, bytes, .. } => {
                if let Some(owed) = self.owed.get_mut(&id) {
                    *owed -= bytes;
                    connection.consume(id, bytes);
                    if *owed == 0 {
                        self.owed.remove(&id);
                    }
                }
            }
            Event::Reset { id, .. } => self.drop_stream(connection, id),
            _ => {}
        }
    }
}

impl Echo {
    /// Credit is owed for what was received, whatever became of it.
    fn drop_stream(&mut self, connection: &mut Connection, id: StreamId) {
        let bytes = self.owed.remove(&id).unwrap_or(0);
        connection.consume(id, bytes);
        connection.release(id);
    }
}

/// A client that sends on all its streams at once, and compares.
struct Client {
    streams: HashMap<StreamId, Progress>,
}

/// The bytes of a stream that were sent, and those that came back.
#[derive(Default)]
struct Progress {
    sent: usize,
    received: usize,
}

impl Client {
    fn start(connection: &mut Connection) -> Result<Self, Box<dyn Error>> {
        let mut streams = HashMap::new();
        for _ in 0..STREAMS {
            let id = connection.open(Instant::now(), HeaderBlock::new(), OpenOptions::default())?;
            let mut progress = Progress::default();
            send_piece(connection, id, &mut progress);
            streams.insert(id, progress);
        }
        connection.ping(Instant::now());
        Ok(Self { streams })
    }
}

impl Application for Client {
    fn handle(&mut self, connection: &mut Connection, event: Event) {
        match event {
            Event::Pong { rtt, .. } => println!("a PING took {rtt:?}"),
            // A piece has left: there is room for the next one.
            Event::Sent { id, bytes, .. } => {
                if let Some(progress) = self.streams.get_mut(&id).filter(|_| bytes > 0) {
                    send_piece(connection, id, progress);
                }
            }
            Event::Data { id, payload, fin } => {
                connection.consume(id, payload.len());
                let Some(progress) = self.streams.get_mut(&id) else {
                    return;
                };
                let expected = pattern(id, progress.received, payload.len());
                progress.received += payload.len();
                if payload != expected || (fin && progress.received != BYTES) {
                    eprintln!("stream {id} came back changed");
                    connection.reset(id, RstStatus::PROTOCOL_ERROR);
                } else if fin {
                    self.streams.remove(&id);
                }
            }
            Event::Reset { id, error } => {
                eprintln!("stream {id} failed: {error}");
                connection.release(id);
                connection.shutdown(Instant::now(), proto::Shutdown::Now);
            }
            _ => {}
        }
        if self.streams.is_empty() && connection.phase() == Phase::Open {
            let how = proto::Shutdown::Graceful { deadline: None };
            connection.shutdown(Instant::now(), how);
        }
    }
}

/// Queues the next piece of a stream, with FIN on the last. One piece at most is queued: what was
/// sent of it makes room.
fn send_piece(connection: &mut Connection, id: StreamId, progress: &mut Progress) {
    let bytes = PIECE.min(BYTES - progress.sent);
    if bytes == 0 {
        return;
    }
    let piece = pattern(id, progress.sent, bytes);
    progress.sent += bytes;
    // An event reports that a stream is gone.
    _ = connection.send_data(id, piece, progress.sent == BYTES);
}

/// The bytes from `start` on of what is sent on a stream.
fn pattern(id: StreamId, start: usize, bytes: usize) -> Bytes {
    let byte = |at: usize| (at.wrapping_mul(31) ^ (at >> 8) ^ id.get() as usize) as u8;
    (start..start + bytes).map(byte).collect()
}

const STREAMS: usize = 20;
const BYTES: usize = 1_000_000;

/// How much the client queues at once.
const PIECE: usize = 16 * 1024;

/// How much is read at once.
const CHUNK: usize = 32 * 1024;

/// A wait that ends at once. Some systems take shorter timeouts of sockets for no timeout.
const MOMENT: Duration = Duration::from_millis(10);
