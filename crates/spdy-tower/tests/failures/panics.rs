//! Panics in everything that belongs to the application.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum::http::{Request, Response};
use bytes::Bytes;
use spdy_frame::{HeaderBlock, Version};
use spdy_tower::{BoxError, Builder};
use tower::Service;

use crate::support::{Client, Reply, in_all_versions};

/// A value of the application whose drop panics.
#[derive(Clone)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        // A second panic would end the process.
        assert!(std::thread::panicking(), "on purpose: in the drop");
    }
}

/// A body of one byte whose drop panics.
struct Explosive {
    is_sent: bool,
    _bomb: Bomb,
}

impl Explosive {
    fn new() -> Self {
        Self {
            is_sent: false,
            _bomb: Bomb,
        }
    }
}

impl http_body::Body for Explosive {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        let is_sent = std::mem::replace(&mut self.is_sent, true);
        let frame = http_body::Frame::data(Bytes::from_static(b"1"));
        Poll::Ready((!is_sent).then_some(Ok(frame)))
    }
}

/// An error that panics when it is converted.
#[derive(Debug)]
struct Unspeakable;

impl From<Unspeakable> for BoxError {
    fn from(_: Unspeakable) -> Self {
        panic!("on purpose: in the conversion")
    }
}

/// A service that panics in one of its parts, as the path wants it.
struct Panics(Arc<AtomicBool>);

impl Clone for Panics {
    fn clone(&self) -> Self {
        let panics = self.0.swap(false, Ordering::Relaxed);
        assert!(!panics, "on purpose: in the clone");
        Self(Arc::clone(&self.0))
    }
}

impl Service<Request<spdy_tower::Body>> for Panics {
    type Response = Response<Explosive>;
    type Error = Unspeakable;
    type Future = std::future::Ready<Result<Self::Response, Unspeakable>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unspeakable>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<spdy_tower::Body>) -> Self::Future {
        let mut response = Response::new(Explosive::new());
        match request.uri().path() {
            "/extension" => _ = response.extensions_mut().insert(Bomb),
            "/error" => {
                std::mem::forget(response);
                return std::future::ready(Err(Unspeakable));
            }
            "/push" => {
                let pusher = spdy_tower::Pusher::of(&request).unwrap();
                pusher
                    .push("/pushed", Response::new(Explosive::new()))
                    .unwrap();
            }
            _ => {}
        }
        if let Some(tunnel) = spdy_tower::Tunnel::on(&mut request) {
            tokio::spawn(tunnel);
        }
        std::future::ready(Ok(response))
    }
}

/// What the application drops, converts or clones can panic as well. That ends one request at most.
#[tokio::test(start_paused = true)]
async fn a_panic_in_any_code_of_the_application_does_not_end_the_session() {
    in_all_versions(async |version| {
        let panics = Arc::new(AtomicBool::new(false));
        let builder = Builder::new().on_malformed(|_| panic!("on purpose: in the hook"));
        let client = Client::with(version, &builder, Panics(Arc::clone(&panics)));
        // A response that is complete stays a success.
        for (method, path, status) in [
            ("GET", "/body", 200),
            ("HEAD", "/body", 500),
            ("GET", "/extension", 500),
            ("GET", "/error", 500),
            ("GET", "/push", 200),
        ] {
            let reply = client.ask(method, path).await;
            assert_eq!(reply.status(), status, "{method} {path}");
        }
        let head = connect(version);
        let (receive, _send) = client.open(head, false).await;
        assert_eq!(Reply::read(receive).await.unwrap().status(), 500);
        panics.store(true, Ordering::Relaxed);
        assert_eq!(client.ask("GET", "/clone").await.status(), 500);
        let (receive, _send) = client.open(HeaderBlock::new(), true).await;
        assert_eq!(Reply::read(receive).await.unwrap().status(), 400);
        // The pushes have their time.
        tokio::time::sleep(std::time::Duration::from_secs(10)).await;
        assert_eq!(client.ask("GET", "/body").await.status(), 200);
    })
    .await;
}

/// The head of a request for a tunnel.
fn connect(version: Version) -> HeaderBlock {
    let names = match version {
        Version::V2 => ["method", "url", "version", "host"],
        _ => [":method", ":path", ":version", ":host"],
    };
    let values = ["CONNECT", "a.test:1", "HTTP/1.1", "a.test:1"];
    HeaderBlock::from_pairs(names.into_iter().zip(values)).unwrap()
}
