//! The applications that serve the cells, and the parts of them that are counted while they exist.

use std::{
    convert::Infallible,
    future::pending,
    path::Path,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http_body::{Frame, SizeHint};
use spdy_server::{
    Config,
    app::{self, Proxy},
    auto,
};
use spdy_tower::{Pusher, Tunnel};
use tokio::{
    io::{AsyncReadExt, duplex},
    sync::watch,
    time::{Sleep, sleep},
};

use crate::cells::Role;

/// The number of handlers, bodies, tunnels and pushes that exist, at this server and at the
/// application behind it.
#[derive(Clone, Debug)]
pub(crate) struct Held(watch::Sender<usize>);

impl Held {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    pub(crate) fn one(&self) -> One {
        self.0.send_modify(|held| *held += 1);
        One(self.clone())
    }

    pub(crate) fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// Waits until nothing is held.
    pub(crate) async fn nothing(&self) {
        let mut held = self.0.subscribe();
        _ = held.wait_for(|held| *held == 0).await;
    }
}

/// One counted part. It counts until it is dropped.
#[derive(Debug)]
pub(crate) struct One(Held);

impl Drop for One {
    fn drop(&mut self) {
        self.0.0.send_modify(|held| *held -= 1);
    }
}

pub(crate) fn application(role: Role, held: &Held) -> Router {
    let router = match role {
        Role::Site => site(held),
        Role::Directory => app::directory(directory()).unwrap(),
        Role::ProxyHttp1 => proxy("http://app", held),
        Role::ProxyHttp2 => proxy("h2://app", held),
    };
    counted(router, held)
}

/// Counts each request from its head until its response is gone.
fn counted(router: Router, held: &Held) -> Router {
    let held = held.clone();
    router.layer(from_fn(move |request: Request, next: Next| {
        let one = held.one();
        async move {
            let response = next.run(request).await;
            response.map(|body| Body::new(Counted { body, _one: one }))
        }
    }))
}

fn site(held: &Held) -> Router {
    let for_tunnels = held.clone();
    let for_pushes = held.clone();
    Router::new()
        .route("/", get(async || "at rest"))
        .route("/wait", get(async || pending::<()>().await))
        .route(
            "/unread",
            post(async |_unread: Request| pending::<()>().await),
        )
        .route("/read", post(async |body: Bytes| body))
        .route("/big", get(async || Response::new(Body::new(Endless))))
        .route(
            "/drip",
            get(async || Response::new(Body::new(Drip::new(None)))),
        )
        .route(
            "/push",
            get(async move |request: Request| {
                let pushed = Response::new(Drip::new(Some(for_pushes.one())));
                Pusher::of(&request).unwrap().push("/drip", pushed).unwrap();
                pending::<()>().await
            }),
        )
        .fallback(async move |mut request: Request| {
            let Some(tunnel) = Tunnel::on(&mut request) else {
                return "no tunnel".into_response();
            };
            let one = for_tunnels.one();
            tokio::spawn(async move {
                _ = tunnel.await.unwrap().read_to_end(&mut Vec::new()).await;
                drop(one);
            });
            ().into_response()
        })
}

/// A proxy of the site, with an application in memory.
fn proxy(upstream: &str, held: &Held) -> Router {
    let site = counted(site(held), held);
    // The proxy has to notice the end of the client. No test here is about its connection to the
    // application.
    let mut config = Config::default();
    config.timeouts.idle = FOR_EVER;
    let application = auto::Builder::with_config(&config);
    let mut options = Proxy::new(upstream.parse().unwrap());
    options.answer_timeout = FOR_EVER;
    app::proxy(options.connector(move || {
        let (near, far) = duplex(64 << 10);
        tokio::spawn(application.serve_connection(far, site.clone()));
        std::future::ready(Ok(near))
    }))
}

/// A directory with a large file.
fn directory() -> &'static Path {
    static MADE: OnceLock<std::path::PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("endings");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("big"), vec![7; 4 << 20]).unwrap();
        std::fs::write(directory.join("index.html"), "at rest").unwrap();
        directory
    })
}

/// A body that is counted.
#[derive(Debug)]
struct Counted {
    body: Body,
    _one: One,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body without an end. Its reader sets the speed.
#[derive(Debug)]
pub(crate) struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static PIECE: [u8; 4096] = [7; 4096];
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE)))))
    }
}

/// A body without an end, of 1 KiB a second.
#[derive(Debug)]
pub(crate) struct Drip {
    pause: Pin<Box<Sleep>>,
    _one: Option<One>,
}

impl Drip {
    pub(crate) fn new(one: Option<One>) -> Self {
        Self {
            pause: Box::pin(sleep(Duration::ZERO)),
            _one: one,
        }
    }
}

impl http_body::Body for Drip {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.pause.as_mut().poll(cx));
        self.pause = Box::pin(sleep(Duration::from_secs(1)));
        static PIECE: [u8; 1024] = [7; 1024];
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE)))))
    }
}

/// Longer than any cell reads.
const FOR_EVER: Duration = Duration::from_secs(100_000);
