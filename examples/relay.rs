//! A bastion: stands between kubectl and a server, passes everything on, and records what goes over
//! the streams.
//!
//! Run with `cargo run --release -p spdy-examples --example relay -- 127.0.0.1:8002 127.0.0.1:8001
//! recording`, where the example `kubelet` listens on the second address, and then `kubectl
//! --server http://127.0.0.1:8002 exec demo -- id`.
//!
//! In the folder `recording` each stream has two files, such as `1-exec-5-stdout.server`: the
//! session, what was asked for, the stream and its type, and who has sent the bytes. WebSocket is
//! refused, and kubectl asks again for SPDY.
//!
//! The place to decide who may do what is `answer`, before anything is passed on.

use std::{
    collections::HashMap,
    env,
    error::Error,
    fs::File,
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
        StatusCode, Uri,
        header::{AUTHORIZATION, UPGRADE, USER_AGENT},
    },
    response::{IntoResponse, Response},
    serve::ListenerExt,
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use spdy_kube::{Tap, client};
use spdy_session::{HeaderBlock, Side, StreamId};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [listen, server, folder] = &arguments[..] else {
        return Err("usage: relay LISTEN-ADDRESS SERVER-ADDRESS FOLDER".into());
    };
    std::fs::create_dir_all(folder)?;
    let relay = Arc::new(Relay {
        server: server.parse()?,
        folder: folder.into(),
        sessions: AtomicU64::new(0),
    });
    let listener = TcpListener::bind(listen).await?;
    println!(
        "kubectl --server http://{} exec demo -- id",
        listener.local_addr()?
    );
    let listener = listener.tap_io(|socket| _ = socket.set_nodelay(true));
    let app = Router::new().fallback(answer).with_state(relay);
    Ok(axum::serve(listener, app).await?)
}

struct Relay {
    server: SocketAddr,
    folder: PathBuf,
    sessions: AtomicU64,
}

async fn answer(State(relay): State<Arc<Relay>>, request: Request) -> Response {
    let passed = if request.headers().contains_key(UPGRADE) {
        relay.pass_streams(request).await
    } else {
        relay.pass(request).await
    };
    passed.unwrap_or_else(|error| (StatusCode::BAD_GATEWAY, format!("{error}\n")).into_response())
}

type Failure = Box<dyn Error + Send + Sync>;

impl Relay {
    async fn connect(&self) -> std::io::Result<TcpStream> {
        let transport = TcpStream::connect(self.server).await?;
        transport.set_nodelay(true)?;
        Ok(transport)
    }

    /// Passes on a request that is no more than one, such as for the pod.
    async fn pass(&self, request: Request) -> Result<Response, Failure> {
        let transport = TokioIo::new(self.connect().await?);
        let (mut sender, connection) = http1::handshake(transport).await?;
        tokio::spawn(connection);
        Ok(sender.send_request(request).await?.map(Body::new))
    }

    /// Passes on exec, attach and port-forward.
    async fn pass_streams(&self, mut request: Request) -> Result<Response, Failure> {
        let path = request.uri().path_and_query();
        let path = path.ok_or("the request has no path")?;
        let uri: Uri = format!("http://{}{path}", self.server).parse()?;
        let mut onward = client::request(&uri);
        for name in [AUTHORIZATION, USER_AGENT] {
            if let Some(value) = request.headers().get(&name) {
                onward.headers_mut().insert(name, value.clone());
            }
        }
        let number = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let what = path.path().rsplit('/').next().unwrap_or_default();
        let recorder = Recorder {
            start: self.folder.join(format!("{number}-{what}")),
            files: Mutex::default(),
        };
        let transport = self.connect().await?;
        let response = spdy_kube::relay(&mut request, onward, transport, recorder).await;
        Ok(response.into_response())
    }
}

/// Writes what passes on the streams of one session to files.
struct Recorder {
    /// How the names of the files begin.
    start: PathBuf,
    files: Mutex<HashMap<StreamId, [File; 2]>>,
}

impl Recorder {
    fn create(&self, stream: StreamId, kind: &str) -> std::io::Result<[File; 2]> {
        let create = |side: &str| {
            let mut name = self.start.clone().into_os_string();
            name.push(format!("-{stream}-{kind}.{side}"));
            File::create(name)
        };
        Ok([create("client")?, create("server")?])
    }
}

/// A file takes bytes at once as long as there is memory for them. Where that is not sure enough
/// they go to a thread by a channel that is bounded.
impl Tap for Recorder {
    fn opened(&self, stream: StreamId, headers: &HeaderBlock) {
        let kind = match headers.get("streamtype") {
            Some(b"stdin") => "stdin",
            Some(b"stdout") => "stdout",
            Some(b"stderr") => "stderr",
            Some(b"resize") => "resize",
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
