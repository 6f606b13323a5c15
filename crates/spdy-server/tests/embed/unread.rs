//! Clients that stop reading before they have all of their responses, while the server drains.

use std::pin::Pin;

use axum::http::{HeaderMap, HeaderName};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http2 as client;
use hyper_util::rt::TokioExecutor;
use tokio::{
    io::DuplexStream,
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::*;

/// Much more than the transport of these tests has room for, and less than TLS takes.
const LENGTH: usize = 8 * 1024;

/// Longer than a server waits for a client that has everything, and shorter than it waits for one
/// that has not.
const PAUSE: Duration = Duration::from_secs(20);

/// A client that can stop reading, and its connection.
struct Unread {
    /// Whether the client reads.
    reads: watch::Sender<bool>,
    /// Told when a request has arrived.
    arrived: Arc<Notify>,
    /// Lets the application respond.
    respond: Arc<Notify>,
    drain: Arc<Notify>,
    served: JoinHandle<Result<(), BoxError>>,
}

impl Unread {
    /// Stops reading, lets the application respond, and asks the connection to finish.
    async fn drain(&self) {
        self.arrived.notified().await;
        self.reads.send_replace(false);
        self.respond.notify_one();
        sleep(Duration::from_secs(1)).await;
        self.drain.notify_one();
    }
}

fn big_field() -> HeaderMap {
    let name = HeaderName::from_static("x-big");
    HeaderMap::from_iter([(name, "x".repeat(LENGTH).parse().unwrap())])
}

/// Responses whose end is payload, trailers, or the only head.
fn responses(arrived: Arc<Notify>, respond: Arc<Notify>) -> Router {
    let response = async move |request: Request<Body>| {
        arrived.notify_one();
        respond.notified().await;
        let mut response = Response::new(Body::empty());
        match request.uri().path() {
            "/payload" => *response.body_mut() = vec![b'x'; LENGTH].into(),
            "/trailers" => {
                let body = Full::from("x").with_trailers(async { Some(Ok(big_field())) });
                *response.body_mut() = Body::new(body);
            }
            _ => *response.headers_mut() = big_field(),
        }
        response
    };
    Router::new().fallback(response)
}

/// Carries bytes both ways, and those to the client only while it reads.
fn carry(near: DuplexStream, far: DuplexStream, mut reads: watch::Receiver<bool>) {
    let (mut from_client, mut to_client) = tokio::io::split(near);
    let (mut from_server, mut to_server) = tokio::io::split(far);
    tokio::spawn(async move {
        _ = tokio::io::copy(&mut from_client, &mut to_server).await;
        _ = to_server.shutdown().await;
    });
    tokio::spawn(async move {
        let mut space = [0; 512];
        while let Ok(length @ 1..) = from_server.read(&mut space).await {
            _ = reads.wait_for(|reads| *reads).await;
            if to_client.write_all(&space[..length]).await.is_err() {
                return;
            }
        }
        _ = to_client.shutdown().await;
    });
}

trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}
impl<IO: AsyncRead + AsyncWrite + Unpin + Send> Transport for IO {}

/// Connects a client to a server, with TLS if `offered` has a protocol.
async fn connect(offered: Option<&'static str>) -> (Box<dyn Transport>, Unread) {
    let (reads, is_read) = watch::channel(true);
    let (arrived, respond, drain) = <(Arc<Notify>, Arc<Notify>, Arc<Notify>)>::default();
    let ((io, near), (far, taker)) = (duplex(65_536), duplex(512));
    carry(near, far, is_read);
    let app = responses(Arc::clone(&arrived), Arc::clone(&respond));
    let builder = auto::Builder::new();
    let (io, connection): (Box<dyn Transport>, _) = match offered {
        None => (Box::new(io), builder.serve_connection(taker, app)),
        Some(offered) => {
            let (io, accepted) = encrypt(io, taker, offered).await;
            (Box::new(io), builder.serve_tls_connection(accepted, app))
        }
    };
    let served = tokio::spawn(serve(connection, Arc::clone(&drain)));
    let unread = Unread {
        reads,
        arrived,
        respond,
        drain,
        served,
    };
    (io, unread)
}

/// Serves a connection, and asks it to finish when `drain` says so.
async fn serve(mut connection: auto::Connection, drain: Arc<Notify>) -> Result<(), BoxError> {
    tokio::select! {
        end = &mut connection => return end,
        () = drain.notified() => {}
    }
    Pin::new(&mut connection).graceful_shutdown();
    connection.await
}

async fn encrypt(
    near: DuplexStream,
    far: DuplexStream,
    offered: &'static str,
) -> (
    TlsStream<DuplexStream>,
    tokio_rustls::server::TlsStream<DuplexStream>,
) {
    let authority = Made::authority();
    let server = authority.sign("localhost", VALID);
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![server.der.clone()], server.key())
        .unwrap();
    config.alpn_protocols = vec![offered.into()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let client = Client {
        offered,
        ..Client::new(authority.roots(), "localhost")
    };
    let (client, accepted) = tokio::join!(client.over(near), acceptor.accept(far));
    (client.unwrap(), accepted.unwrap())
}

/// Returns the fields, the payload and the trailers of a response, if it is whole.
async fn over_http2(io: Box<dyn Transport>, path: &str) -> Option<(HeaderMap, Bytes, HeaderMap)> {
    let handshake = client::handshake(TokioExecutor::new(), TokioIo::new(io));
    let (mut requests, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(format!("http://localhost{path}")).body(Empty::<Bytes>::new());
    let response = requests.send_request(request.unwrap()).await.ok()?;
    let fields = response.headers().clone();
    let body = response.into_body().collect().await.ok()?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    Some((fields, body.to_bytes(), trailers))
}

/// Returns the length of the longest part of a response over HTTP/2.
async fn longest(io: Box<dyn Transport>, path: &str) -> Option<usize> {
    let (fields, body, trailers) = over_http2(io, path).await?;
    let field = |fields: &HeaderMap| fields.get("x-big").map_or(0, |value| value.len());
    Some(body.len().max(field(&fields)).max(field(&trailers)))
}

#[tokio::test(start_paused = true)]
async fn a_client_of_http_2_that_reads_on_in_time_gets_all_while_the_server_drains() {
    for offered in [None, Some("h2")] {
        for path in ["/payload", "/trailers", "/head"] {
            let (io, unread) = connect(offered).await;
            let asked = tokio::spawn(longest(io, path));
            unread.drain().await;
            sleep(PAUSE).await;
            unread.reads.send_replace(true);
            let longest = asked.await.unwrap();
            assert_eq!(longest, Some(LENGTH), "{path} of {offered:?}");
            unread.served.await.unwrap().unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_of_http_2_that_reads_no_more_is_cut_and_that_is_an_error() {
    for offered in [None, Some("h2")] {
        for path in ["/payload", "/trailers", "/head"] {
            let (io, unread) = connect(offered).await;
            let _asked = tokio::spawn(longest(io, path));
            unread.drain().await;
            let start = Instant::now();
            let end = unread.served.await.unwrap();
            assert!(end.is_err(), "{path} of {offered:?}");
            let most = 2 * Config::default().timeouts.write;
            assert!(PAUSE < start.elapsed() && start.elapsed() <= most);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_of_http_1_that_reads_on_in_time_gets_all_while_the_server_drains() {
    for offered in [None, Some("http/1.1")] {
        let (io, unread) = connect(offered).await;
        let asked = tokio::spawn(async move { http1(io, "/payload").await });
        unread.drain().await;
        sleep(PAUSE).await;
        unread.reads.send_replace(true);
        let answer = asked.await.unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body.len(), LENGTH, "{offered:?}");
        unread.served.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_of_spdy_that_reads_on_in_time_gets_all_while_the_server_drains() {
    for (version, id) in [
        (Version::V2, "spdy/2"),
        (Version::V3, "spdy/3"),
        (Version::V3_1, "spdy/3.1"),
    ] {
        let (io, unread) = connect(Some(id)).await;
        let asked = tokio::spawn(async move { spdy(io, version, "/payload").await });
        unread.drain().await;
        sleep(PAUSE).await;
        unread.reads.send_replace(true);
        let (_, body) = asked.await.unwrap();
        assert_eq!(body.len(), LENGTH, "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_of_spdy_that_reads_no_more_is_cut_and_that_is_an_error() {
    for (version, id) in [
        (Version::V2, "spdy/2"),
        (Version::V3, "spdy/3"),
        (Version::V3_1, "spdy/3.1"),
    ] {
        let (io, unread) = connect(Some(id)).await;
        let _asked = tokio::spawn(async move { spdy(io, version, "/payload").await });
        unread.drain().await;
        let start = Instant::now();
        let end = unread.served.await.unwrap();
        assert!(end.is_err(), "{id}");
        let most = 2 * Config::default().timeouts.write;
        assert!(PAUSE < start.elapsed() && start.elapsed() <= most, "{id}");
    }
}
