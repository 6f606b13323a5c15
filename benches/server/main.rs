//! The servers beside which `spdy-server` is measured.
//!
//! ```text
//! bench-server h2                    an axum router served over HTTP/2 by hyper, and nothing else
//! bench-server spdy                  the same router served over SPDY/3.1 by spdy-tower
//! bench-server raw [CERT KEY]        no protocol at all: see raw.rs
//! bench-server certificate FOLDER    makes cert.pem and key.pem, and ends
//! ```
//!
//! There are no timeouts, no limits on connections, and no choice of protocols. A server prints the
//! address that it listens on, and runs until it is killed.

mod raw;

use std::{
    convert::Infallible,
    env,
    error::Error,
    fs,
    path::Path as FilePath,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::Body,
    extract::Path,
    http::{
        HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use spdy_tower::Version;
use tokio::net::{TcpListener, TcpStream};

/// Why a server does not start.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match arguments[..] {
        ["h2"] => runtime.block_on(serve(over_http2)),
        ["spdy"] => runtime.block_on(serve(over_spdy)),
        ["raw"] => runtime.block_on(raw::serve(None)),
        ["raw", certificate, key] => {
            let acceptor = raw::acceptor(certificate, key)?;
            runtime.block_on(raw::serve(Some(acceptor)))
        }
        ["certificate", folder] => make_certificate(folder.as_ref()),
        _ => Err("usage: bench-server h2 | spdy | raw [CERT KEY] | certificate FOLDER".into()),
    }
}

/// Makes a certificate that is its own issuer.
fn make_certificate(folder: &FilePath) -> Result<(), Failure> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    fs::write(folder.join("cert.pem"), made.cert.pem())?;
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem())?;
    Ok(())
}

async fn serve(connection: impl Fn(TcpStream, Router)) -> Result<(), Failure> {
    let app = Router::new()
        .route("/hello", get(hello))
        .route("/bytes/{bytes}", get(block))
        .route("/memory/{bytes}", get(memory))
        .route("/sink", post(sink))
        .route("/echo", post(async |body: Body| body));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        connection(socket, app.clone());
    }
}

fn over_http2(socket: TcpStream, app: Router) {
    let connection = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(app));
    // How a connection ends is the client's to judge.
    tokio::spawn(async move { drop(connection.await) });
}

fn over_spdy(socket: TcpStream, app: Router) {
    let connection = spdy_tower::Builder::new().serve_connection(socket, Version::V3_1, app);
    tokio::spawn(async move { drop(connection.await) });
}

async fn hello() -> Response {
    let mut response = Response::new(Body::from(Bytes::from_static(&[b'x'; 100])));
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// A body of slices of one block of 64 KiB, which stays in the caches of the CPU.
async fn block(Path(bytes): Path<usize>) -> Body {
    static BLOCK: [u8; 65_536] = [b'y'; 65_536];
    Body::new(Filler(Bytes::from_static(&BLOCK), 0, bytes))
}

/// A body of slices of 256 MiB of memory, one after the other, which do not fit into the caches.
async fn memory(Path(bytes): Path<usize>) -> Body {
    static MEMORY: LazyLock<Bytes> = LazyLock::new(|| vec![b'z'; 256 << 20].into());
    Body::new(Filler(MEMORY.clone(), 0, bytes))
}

async fn sink(mut body: Body) -> String {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
    bytes.to_string()
}

/// Memory, the next place in it, and the number of bytes that are left to send.
struct Filler(Bytes, usize, usize);

impl http_body::Body for Filler {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Self(memory, place, left) = &mut *self;
        if *left == 0 {
            return Poll::Ready(None);
        }
        let bytes = PIECE.min(*left);
        let piece = memory.slice(*place..*place + bytes);
        *place = (*place + PIECE) % memory.len();
        *left -= bytes;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.2 as u64)
    }
}

/// The length of a piece, which divides that of the memory.
const PIECE: usize = 65_536;
