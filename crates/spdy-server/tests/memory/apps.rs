//! The applications for clients that do not read.

use std::{
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http_body::Frame;
use spdy_server::app::{self, Proxy};
use spdy_tower::Pusher;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Running, STREAMS, Version};

/// An application, and the requests to it.
pub(crate) struct Served {
    pub(crate) router: Router,
    pub(crate) paths: Vec<String>,
    /// The connections that it uses to another application.
    pub(crate) connections: usize,
}

impl Served {
    fn new(router: Router, path: &str) -> Self {
        let paths = vec![path.to_owned(); STREAMS];
        Self {
            router,
            paths,
            connections: 0,
        }
    }
}

pub(crate) fn site() -> Served {
    Served::new(app::site(), "/bytes/16777216")
}

pub(crate) fn small_files() -> Served {
    let directory = directory("small");
    for file in 0..STREAMS {
        fs::write(directory.join(file.to_string()), vec![7; 60_000]).unwrap();
    }
    Served {
        router: app::directory(&directory).unwrap(),
        paths: (0..STREAMS).map(|file| format!("/{file}")).collect(),
        connections: 0,
    }
}

pub(crate) fn large_file() -> Served {
    let directory = directory("large");
    fs::write(directory.join("large"), vec![7; 8 << 20]).unwrap();
    Served::new(app::directory(&directory).unwrap(), "/large")
}

fn directory(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("memory-{name}"));
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// Endless bodies of chunks of this length.
pub(crate) fn chunks(length: usize) -> Served {
    short_then_chunks(0, 0, length)
}

/// Endless bodies that begin with pieces of a short length.
pub(crate) fn short_then_chunks(number: usize, short: usize, length: usize) -> Served {
    let chunks = move || async move {
        Response::new(Body::new(Chunks {
            number,
            short,
            length,
        }))
    };
    Served::new(Router::new().route("/", get(chunks)), "/")
}

/// A page with as many pushes as a session has streams, each an endless body of chunks of 1 MiB.
pub(crate) fn pushes() -> Served {
    async fn page(request: Request) -> Response {
        let pusher = Pusher::of(&request).expect("it came over SPDY");
        for push in 0..STREAMS {
            let pushed = Response::new(Body::new(Chunks {
                number: 0,
                short: 0,
                length: 1 << 20,
            }));
            pusher.push(&format!("/{push}"), pushed).unwrap();
        }
        "pushed".into_response()
    }
    Served {
        router: Router::new().route("/", get(page)),
        paths: vec!["/".to_owned()],
        connections: 0,
    }
}

pub(crate) async fn proxy_to_http1() -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (io, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(io));
        }
    });
    let proxy = Proxy::new(format!("http://{address}").parse().unwrap());
    Served {
        connections: STREAMS,
        ..Served::new(app::proxy(proxy), "/")
    }
}

/// Answers one request with more bytes than any client reads.
async fn answer(mut io: TcpStream) -> std::io::Result<()> {
    static BODY: [u8; 65_536] = [7; 65_536];
    _ = io.read(&mut [0; 1024]).await?;
    io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8388608\r\n\r\n")
        .await?;
    for _ in 0..128 {
        io.write_all(&BODY).await?;
    }
    Ok(())
}

/// The application is another server in this process. Its bodies are static, and its streams are
/// counted as well.
pub(crate) async fn proxy_to_http2() -> Served {
    let application = Running::start(app::site(), Version::V3_1).await;
    let proxy = Proxy::new(format!("h2://{}", application.address).parse().unwrap());
    Served {
        connections: STREAMS,
        ..Served::new(app::proxy(proxy), "/bytes/8388608")
    }
}

/// An endless body of chunks of this length, each in memory of its own, behind some short ones.
struct Chunks {
    number: usize,
    short: usize,
    length: usize,
}

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = match self.number.checked_sub(1) {
            Some(number) => {
                self.number = number;
                self.short
            }
            None => self.length,
        };
        Poll::Ready(Some(Ok(Frame::data(vec![7; length].into()))))
    }
}
