//! The client of this crate, and a server that does exactly what a test says.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use spdy_frame::{HeaderBlock, RstStatus, Version};
use spdy_session::{Config, Incoming, PendingStream, SendReply, SendStream, Session, StreamError};
use spdy_tower::{
    Body, Builder, HttpService,
    client::{self, Pushes, SendRequest},
};
use tokio::{io::duplex, task::JoinHandle};

use super::within;

/// A request body in one piece.
pub type Whole = Full<Bytes>;

/// The client of a service.
pub fn client_of<S: HttpService>(version: Version, service: S) -> SendRequest {
    let (near, far) = duplex(16 * 1024);
    tokio::spawn(Builder::new().serve_connection(far, version, service));
    let (requests, _, driver) = client::handshake(near, version, Config::default());
    tokio::spawn(driver);
    requests
}

/// The server's end of a session, by hand.
#[derive(Debug)]
pub struct Server {
    pub session: Session,
    pub incoming: Incoming,
    /// How the client's session ends.
    pub client: JoinHandle<Result<(), spdy_session::SessionError>>,
}

impl Server {
    pub fn new(version: Version) -> (SendRequest, Self) {
        Self::with(version, Config::default())
    }

    pub fn with(version: Version, config: Config) -> (SendRequest, Self) {
        let (near, far) = duplex(16 * 1024);
        let (requests, _, driver) = client::handshake(near, version, Config::default());
        let client = tokio::spawn(driver);
        let (session, incoming, driver) = spdy_session::server(far, version, config);
        tokio::spawn(driver);
        let server = Self {
            session,
            incoming,
            client,
        };
        (requests, server)
    }

    pub fn with_pushes(version: Version) -> (SendRequest, Pushes, Self) {
        let (near, far) = duplex(16 * 1024);
        let mut config = Config::default();
        config.accept_push = true;
        let (requests, pushes, driver) = client::handshake(near, version, config);
        let client = tokio::spawn(driver);
        let (session, incoming, driver) = spdy_session::server(far, version, Config::default());
        tokio::spawn(driver);
        let server = Self {
            session,
            incoming,
            client,
        };
        (requests, pushes, server)
    }

    pub async fn accept(&mut self) -> PendingStream {
        within(self.incoming.accept())
            .await
            .expect("the session has ended")
    }
}

/// A head of `pairs`, in which a name that begins with a colon is one of SPDY/3, written as the
/// version wants it.
pub fn block(version: Version, pairs: &[(&str, &str)]) -> HeaderBlock {
    let pairs = pairs.iter().map(|&(name, value)| match (version, name) {
        (Version::V2, ":path") => ("url", value),
        (Version::V2, name) => (name.trim_start_matches(':'), value),
        (_, name) => (name, value),
    });
    HeaderBlock::from_pairs(pairs).unwrap()
}

/// The head of a response of status 200, with `pairs` behind it.
pub fn ok(version: Version, pairs: &[(&str, &str)]) -> HeaderBlock {
    let mut all = vec![(":status", "200 OK"), (":version", "HTTP/1.1")];
    all.extend(pairs);
    block(version, &all)
}

pub fn get(path: &str) -> http::Request<Whole> {
    let uri = format!("https://a.test{path}");
    http::Request::get(uri).body(Whole::default()).unwrap()
}

pub fn post(path: &str, body: impl Into<Bytes>) -> http::Request<Whole> {
    let uri = format!("https://a.test{path}");
    http::Request::post(uri)
        .body(Whole::new(body.into()))
        .unwrap()
}

pub async fn body_of(body: Body) -> Bytes {
    within(body.collect()).await.unwrap().to_bytes()
}

/// How the client resets a stream.
pub async fn reset_of(mut reply: SendReply) -> RstStatus {
    let end = within(std::future::poll_fn(|cx| reply.poll_closed(cx))).await;
    let StreamError::Reset { status, .. } = end else {
        panic!("no reset: {end:?}")
    };
    status
}

/// Waits for the client to reset a stream.
pub async fn assert_reset(mut send: SendStream, expected: RstStatus) {
    match within(send.closed()).await {
        StreamError::Reset { status, .. } => assert_eq!(status, expected),
        StreamError::NotProcessed => assert_eq!(RstStatus::REFUSED_STREAM, expected),
        end => panic!("{end:?}"),
    }
}
