//! The rest of a request whose response came early, on a connection that nothing uses any more.

use std::time::Duration;

use axum::{Router, body::Body, routing::any};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use spdy_frame::Version;
use spdy_tower::{
    Builder,
    client::{Client, Connector, Dial, Dialing, Plain, Transport},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufWriter, DuplexStream, copy, duplex, split},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::rustls::RootCertStore;
use tower::ServiceExt;

use super::{http1_on, trusting};

/// How much of a request comes before its server pauses.
const BEGINNING: u64 = 1000;

/// For how long it pauses: longer than a connection rests.
const PAUSE: Duration = Duration::from_secs(10);

/// How long a body is. The transport of the client takes all of it.
const LENGTH: usize = 50_000;

/// A server that responds at once, and reports how much of each request comes.
#[derive(Clone, Debug)]
struct Early {
    plain: Plain,
    lengths: mpsc::UnboundedSender<usize>,
}

impl Early {
    fn app(&self) -> Router {
        let lengths = self.lengths.clone();
        Router::new().fallback(any(async move |body: Body| {
            tokio::spawn(async move {
                let body = body.collect().await;
                let length = body.map_or(0, |body| body.to_bytes().len());
                lengths.send(length).unwrap();
            });
            "early"
        }))
    }

    async fn serve(self, io: DuplexStream) {
        let app = self.app();
        match self.plain {
            Plain::Spdy(version) => {
                _ = Builder::new().serve_connection(io, version, app).await;
            }
            Plain::Http2 => {
                let service = service_fn(move |request| app.clone().oneshot(request));
                let builder = http2::Builder::new(TokioExecutor::new());
                _ = builder.serve_connection(TokioIo::new(io), service).await;
            }
            _ => http1_on(io, app).await,
        }
    }
}

impl Dial for Early {
    /// The transport holds what it takes, as TLS does.
    fn dial(&self, _: &str, _: u16) -> Dialing {
        let ((near, wire), (far, server)) = (duplex(64), duplex(4096));
        let ((mut up, mut back), (mut down, mut on)) = (split(wire), split(far));
        tokio::spawn(async move { copy(&mut down, &mut back).await });
        tokio::spawn(async move {
            _ = copy(&mut (&mut up).take(BEGINNING), &mut on).await;
            sleep(PAUSE).await;
            _ = copy(&mut up, &mut on).await;
            _ = on.shutdown().await;
        });
        tokio::spawn(self.clone().serve(server));
        let near = BufWriter::with_capacity(80 * 1024, near);
        Box::pin(async { Ok(Box::new(near) as Box<dyn Transport>) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_rests_too_long_still_sends_what_its_transport_holds() {
    for plain in [
        Plain::Http1,
        Plain::Http2,
        Plain::Spdy(Version::V2),
        Plain::Spdy(Version::V3),
        Plain::Spdy(Version::V3_1),
    ] {
        let (lengths, mut told) = mpsc::unbounded_channel();
        let connector = Connector::new(trusting(RootCertStore::empty()))
            .plain(plain)
            .idle_timeout(Duration::from_secs(1))
            .dial(Early { plain, lengths });
        let client = Client::new(connector);
        let body = Full::new(Bytes::from(vec![b'x'; LENGTH]));
        let request = http::Request::post("http://a.test/").body(body).unwrap();
        let early = timeout(PAUSE / 2, client.send(request)).await;
        let response = early.expect("the response is early").unwrap();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text, "early", "{plain:?}");
        let length = timeout(2 * PAUSE, told.recv()).await;
        assert_eq!(length.expect("it comes"), Some(LENGTH), "{plain:?}");
    }
}
