//! A bastion: stands between kubectl and a server, passes everything on, and records what goes over
//! the streams.
//!
//! Run with `cargo run --release -p spdy-examples --example relay -- 127.0.0.1:8002 127.0.0.1:8001
//! recording`, where the example `kubelet` listens on the second address, and then `kubectl
//! --server http://127.0.0.1:8002 exec -it demo -- sh`.
//!
//! Clients use SPDY or WebSocket. The server is asked for WebSocket first, and for SPDY if it
//! refuses that; with `spdy` as the last argument it is asked for SPDY alone.
//!
//! In the folder `recording` a session with a terminal has one file, such as `1-exec.cast`, which
//! asciinema plays. Other commands have a file for each stream, such as `2-exec-stdout`, and
//! forwarded connections two for each stream, such as `3-portforward-5-data.client`. A command that
//! cannot be recorded ends.
//!
//! The place to decide who may do what is `pass_streams`, before anything is passed on.

#[path = "kubelet/listener.rs"]
mod listener;

use std::{
    collections::HashMap,
    env,
    error::Error,
    fs::File,
    future::Future,
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{
        self, StatusCode, Uri,
        header::{AUTHORIZATION, UPGRADE, USER_AGENT},
    },
    response::{IntoResponse, Response},
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use spdy_kube::{
    Asciicast, BoxError, CommandTap, Options, Origins, Passing, Server, Status, Streams, Tap,
    client::{self, Client, Transport},
};
use spdy_session::{HeaderBlock, Side, StreamId};
use tokio::net::{TcpListener, TcpStream};

use self::listener::Listener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (listen, server, folder, transport) = match &arguments[..] {
        [listen, server, folder] => (listen, server, folder, Transport::WebSocketFirst),
        [listen, server, folder, spdy] if spdy == "spdy" => {
            (listen, server, folder, Transport::Spdy)
        }
        _ => return Err("usage: relay LISTEN-ADDRESS SERVER-ADDRESS FOLDER [spdy]".into()),
    };
    std::fs::create_dir_all(folder)?;
    let relay = Arc::new(Relay {
        server: server.parse()?,
        transport,
        folder: folder.into(),
        sessions: AtomicU64::new(0),
    });
    let listener = TcpListener::bind(listen).await?;
    println!(
        "kubectl --server http://{} exec demo -- id",
        listener.local_addr()?
    );
    let app = Router::new().fallback(answer).with_state(relay);
    Ok(axum::serve(Listener(listener), app).await?)
}

struct Relay {
    server: SocketAddr,
    transport: Transport,
    folder: PathBuf,
    sessions: AtomicU64,
}

async fn answer(State(relay): State<Arc<Relay>>, request: Request) -> Response {
    // Any page in a browser could open a WebSocket to a bastion on loopback.
    if let Err(refusal) = Origins::same_host().check(&request) {
        return refusal.into_response().into_response();
    }
    let passed = if request.headers().contains_key(UPGRADE) {
        relay.pass_streams(request).await
    } else {
        relay.pass(request).await
    };
    passed.unwrap_or_else(|error| (StatusCode::BAD_GATEWAY, format!("{error}\n")).into_response())
}

/// Connects to the server.
async fn connect(server: SocketAddr) -> std::io::Result<TokioIo<TcpStream>> {
    let transport = TcpStream::connect(server).await?;
    transport.set_nodelay(true)?;
    Ok(TokioIo::new(transport))
}

impl Relay {
    /// Passes on a request that is no more than one, such as for the pod.
    async fn pass(&self, request: Request) -> Result<Response, BoxError> {
        let (mut sender, connection) = http1::handshake(connect(self.server).await?).await?;
        tokio::spawn(connection);
        Ok(sender.send_request(request).await?.map(Body::new))
    }

    /// Passes on exec, attach and port-forward.
    async fn pass_streams(&self, mut request: Request) -> Result<Response, BoxError> {
        let path = request.uri().path_and_query();
        let path = path.ok_or("the request has no path")?.clone();
        let uri: Uri = format!("http://{}{path}", self.server).parse()?;
        let mut onward = client::request(&uri);
        for name in [AUTHORIZATION, USER_AGENT] {
            if let Some(value) = request.headers().get(&name) {
                onward.headers_mut().insert(name, value.clone());
            }
        }
        let number = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let what = path.path().rsplit('/').next().unwrap_or_default();
        let start = self.folder.join(format!("{number}-{what}"));
        let response = match what {
            "exec" | "attach" => {
                let options = Options::from_query(path.query().unwrap_or_default());
                match options {
                    Ok(options) => {
                        let is_exec = what == "exec";
                        self.command(&mut request, onward, options.streams, is_exec, start)
                            .await?
                    }
                    Err(error) => Status::bad_request(error.to_string()).into_response(),
                }
            }
            "portforward" => {
                let files = Mutex::default();
                let tap = Connections { start, files };
                let relay = self.relay();
                relay.port_forward(&mut request, onward, tap).await
            }
            _ => Status::not_found("no such path").into_response(),
        };
        Ok(response.into_response())
    }

    /// Returns what passes streams between any two transports.
    fn relay(&self) -> spdy_kube::Relay<impl Fn() -> Connecting + use<>> {
        let server = self.server;
        let client = Client::new(move || -> Connecting { Box::pin(connect(server)) });
        spdy_kube::Relay::new(Server::new(), client.transport(self.transport))
    }

    /// Passes on a command. One with a terminal is recorded as it looks, others byte for byte.
    async fn command(
        &self,
        request: &mut Request,
        onward: http::Request<()>,
        streams: Streams,
        is_exec: bool,
        start: PathBuf,
    ) -> Result<http::Response<String>, BoxError> {
        let relay = self.relay();
        if streams.tty {
            let file = tokio::fs::File::create(with(&start, ".cast")).await?;
            let (tap, _written) = Asciicast::new().fail_closed(true).record(file);
            return Ok(match is_exec {
                true => relay.exec(request, onward, streams, tap).await,
                false => relay.attach(request, onward, streams, tap).await,
            });
        }
        let tap = Command::create(start, streams)?;
        Ok(match is_exec {
            true => relay.exec(request, onward, streams, tap).await,
            false => relay.attach(request, onward, streams, tap).await,
        })
    }
}

type Connecting =
    std::pin::Pin<Box<dyn Future<Output = std::io::Result<TokioIo<TcpStream>>> + Send>>;

/// Returns a path with something added to its name.
fn with(start: &std::path::Path, end: &str) -> PathBuf {
    let mut name = start.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Writes what passes on the streams of a command to files.
///
/// A file takes bytes at once as long as there is memory for them. Where that is not sure enough
/// they go to a thread, and `settled` waits for it.
struct Command {
    start: PathBuf,
    stdin: Option<File>,
    stdout: Option<File>,
    stderr: Option<File>,
}

impl Command {
    fn create(start: PathBuf, streams: Streams) -> std::io::Result<Self> {
        let create = |is_wanted: bool, name: &str| {
            let create = || File::create(with(&start, name));
            is_wanted.then(create).transpose()
        };
        Ok(Self {
            stdin: create(streams.stdin, "-stdin")?,
            stdout: create(streams.stdout, "-stdout")?,
            stderr: create(streams.has_stderr(), "-stderr")?,
            start,
        })
    }
}

impl CommandTap for Command {
    fn passes(&self, what: Passing<'_>) -> Result<(), BoxError> {
        let (file, bytes) = match what {
            Passing::Stdin(bytes) => (&self.stdin, bytes),
            Passing::Stdout(bytes) => (&self.stdout, bytes),
            Passing::Stderr(bytes) => (&self.stderr, bytes),
            _ => return Ok(()),
        };
        // The client gets the error, and the session ends.
        let mut file = file.as_ref().ok_or("stream is not recorded")?;
        let written = file.write_all(bytes);
        written.map_err(|error| format!("session cannot be recorded: {error}").into())
    }

    fn ended(&self, outcome: Option<&Status>) {
        let outcome = outcome.map_or_else(|| "client is gone".to_owned(), Status::to_json);
        if let Err(error) = std::fs::write(with(&self.start, "-outcome"), outcome) {
            eprintln!("{}: outcome is not recorded: {error}", self.start.display());
        }
    }
}

/// Writes what passes over the connections of one session to files.
struct Connections {
    /// How the names of the files begin.
    start: PathBuf,
    files: Mutex<HashMap<StreamId, [File; 2]>>,
}

impl Connections {
    fn create(&self, stream: StreamId, kind: &str) -> std::io::Result<[File; 2]> {
        let create =
            |side: &str| File::create(with(&self.start, &format!("-{stream}-{kind}.{side}")));
        Ok([create("client")?, create("server")?])
    }
}

impl Tap for Connections {
    fn opened(&self, stream: StreamId, headers: &HeaderBlock) {
        let kind = match headers.get("streamtype") {
            Some(b"data") => "data",
            Some(b"error") => "error",
            // It becomes part of a name.
            _ => "other",
        };
        match self.create(stream, kind) {
            Ok(files) => {
                let mut open = self.files.lock().unwrap_or_else(PoisonError::into_inner);
                open.insert(stream, files);
            }
            Err(error) => eprintln!("stream {stream} is not recorded: {error}"),
        }
    }

    fn passed(&self, stream: StreamId, from: Side, bytes: &[u8]) {
        let mut open = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let Some([client, server]) = open.get_mut(&stream) else {
            return;
        };
        let file = match from {
            Side::Client => client,
            Side::Server => server,
        };
        if let Err(error) = file.write_all(bytes) {
            eprintln!("stream {stream} is not recorded any more: {error}");
            open.remove(&stream);
        }
    }

    fn closed(&self, stream: StreamId) {
        let mut open = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&stream);
    }
}
