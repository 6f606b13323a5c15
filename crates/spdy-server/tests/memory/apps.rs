//! The applications for clients that do not read.

use std::{
    convert::Infallible,
    fs,
    io::{BufRead, BufReader},
    iter,
    path::{Path, PathBuf},
    pin::Pin,
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderValue, header::ACCEPT_ENCODING},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http_body::Frame;
use spdy_server::app::{self, Directory, Proxy};
use spdy_tower::Pusher;

use super::STREAMS;

/// An application, and the requests to it.
pub(crate) struct Served {
    pub(crate) router: Router,
    pub(crate) paths: Vec<String>,
    _application: Option<Application>,
}

impl Served {
    fn new(router: Router, path: &str) -> Self {
        let paths = vec![path.to_owned(); STREAMS];
        Self {
            router,
            paths,
            _application: None,
        }
    }
}

pub(crate) fn site() -> Served {
    Served::new(app::site(), "/bytes/16777216")
}

pub(crate) fn small_files() -> Served {
    let directory = directory("small");
    for file in 0..STREAMS {
        put(&directory, &file.to_string(), 60_000);
    }
    Served {
        router: app::directory(&directory).unwrap(),
        paths: (0..STREAMS).map(|file| format!("/{file}")).collect(),
        _application: None,
    }
}

pub(crate) fn large_file() -> Served {
    let directory = directory("large");
    put(&directory, "large", 8 << 20);
    Served::new(app::directory(&directory).unwrap(), "/large")
}

/// The longest lists, in each order.
pub(crate) fn lists() -> Served {
    let path = directory("lists");
    for file in 0..10_000 {
        put(&path, &format!("{file:032}"), file % 10);
    }
    let orders = ["", "?sort=size", "?sort=time", "?order=desc"];
    let orders = orders.iter().cycle().take(STREAMS);
    let mut directory = Directory::new(path);
    directory.listing = true;
    Served {
        router: app::directory(directory).unwrap(),
        paths: orders.map(|order| format!("/{order}")).collect(),
        _application: None,
    }
}

/// The longest text that is compressed, of digits, which stay long.
pub(crate) fn compressed_file() -> Served {
    let path = directory("compressed");
    let mut state = 1_u64;
    let digits = iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        b'0' + (state >> 60) as u8
    });
    let text = path.join("long.txt");
    fs::write(&text, digits.take(4 << 20).collect::<Vec<_>>()).unwrap();
    let file = fs::File::options().write(true).open(text).unwrap();
    let age = Duration::from_secs(60);
    file.set_modified(SystemTime::now() - age).unwrap();
    let mut directory = Directory::new(path);
    directory.compress = true;
    let router = app::directory(directory).unwrap();
    let accepts = middleware::map_request(async |mut request: Request| {
        let gzip = HeaderValue::from_static("gzip");
        request.headers_mut().insert(ACCEPT_ENCODING, gzip);
        request
    });
    Served::new(router.layer(accepts), "/long.txt")
}

/// Bodies of chunks of 1 MiB, as many as a session holds at once, and then a large file on all
/// other streams, whose pieces are made to measure.
pub(crate) fn large_file_behind_chunks() -> Served {
    let (chunks, file) = (chunks(1 << 20), large_file());
    let paths = iter::repeat_n("/", CHUNKED).chain(iter::repeat_n("/large", STREAMS - CHUNKED));
    Served {
        router: chunks.router.merge(file.router),
        paths: paths.map(str::to_owned).collect(),
        _application: None,
    }
}

/// How many chunks of 1 MiB a session holds at once.
const CHUNKED: usize = 3;

fn directory(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("memory-{name}"));
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// Makes a file of this length, unless it is there. It appears whole, since other tests, in this
/// process and in others, may be serving it.
fn put(directory: &Path, name: &str, length: usize) {
    let file = directory.join(name);
    if fs::metadata(&file).is_ok_and(|file| file.len() == length as u64) {
        return;
    }
    static WRITTEN: AtomicU32 = AtomicU32::new(0);
    let (process, number) = (process::id(), WRITTEN.fetch_add(1, Relaxed));
    let new = directory.join(format!("{name}.{process}.{number}"));
    fs::write(&new, vec![7; length]).unwrap();
    fs::rename(new, file).unwrap();
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
        _application: None,
    }
}

/// The application is another process.
pub(crate) fn proxy_to(scheme: &str) -> Served {
    let application = Application::start();
    let proxy = Proxy::new(
        format!("{scheme}://{}", application.address)
            .parse()
            .unwrap(),
    );
    Served {
        _application: Some(application),
        ..Served::new(app::proxy(proxy), "/bytes/8388608")
    }
}

/// The program with its own site. It is killed when dropped.
struct Application {
    child: Child,
    address: String,
}

impl Application {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_spdy-server"))
            .args(["--plain", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let printed = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = printed.map_while(Result::ok).find_map(|line| {
            let address = line.strip_prefix("http://")?.split('/').next()?;
            Some(address.to_owned())
        });
        Self {
            child,
            address: address.expect("it prints where it listens"),
        }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
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
