//! A served session over an in-memory transport, and a client to ask it.

// Each test file uses its own part of this module, and `pub` reaches no further than it.
#![allow(dead_code, unreachable_pub)]

pub mod client;

use std::{future::poll_fn, pin::pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use spdy_frame::{
    DecodeLimits, Decoder, Frame, HeaderBlock, HeaderCompression, HeaderEncoder, Priority,
    StreamId, SynStream, Version,
};
use spdy_session::{
    Config, OpenOptions, Received, RecvStream, SendStream, Session, SessionError, StreamError,
};
use spdy_tests::panics::{self, Watch};
use spdy_tower::{Builder, HttpService};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::Notify,
    task::JoinHandle,
};

/// The client's end, and what is known of the server's.
#[derive(Debug)]
pub struct Client {
    pub session: Session,
    pub version: Version,
    /// How the served connection ends.
    pub server: JoinHandle<Result<(), SessionError>>,
    stop: Arc<Notify>,
    driver: JoinHandle<Result<(), SessionError>>,
    _panics: Watch,
}

/// A whole response.
#[derive(Debug)]
pub struct Reply {
    pub headers: HeaderBlock,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderBlock>,
}

impl Client {
    pub fn of<S: HttpService>(version: Version, service: S) -> Self {
        Self::with(version, &Builder::new(), service)
    }

    pub fn with<S: HttpService>(version: Version, builder: &Builder, service: S) -> Self {
        let (near, far) = duplex(16 * 1024);
        let connection = builder.serve_connection(far, version, service);
        let stop = Arc::new(Notify::new());
        let stopping = Arc::clone(&stop);
        let server = tokio::spawn(async move {
            let mut connection = pin!(connection);
            tokio::select! {
                end = &mut connection => return end,
                () = stopping.notified() => connection.as_mut().graceful_shutdown(),
            }
            connection.await
        });
        let (session, mut incoming, driver) =
            spdy_session::client(near, version, Config::default());
        let driver = tokio::spawn(async move {
            let mut driver = pin!(driver);
            loop {
                tokio::select! {
                    end = &mut driver => return end,
                    Some(_) = incoming.accept() => {}
                }
            }
        });
        Self {
            session,
            version,
            server,
            stop,
            driver,
            _panics: panics::watch(),
        }
    }

    /// Asks the server to drain.
    pub fn shut_down(&self) {
        self.stop.notify_one();
    }

    /// Cuts the transport.
    pub fn cut(&self) {
        self.driver.abort();
    }

    /// The head of a request, ready for more fields.
    pub fn head(&self, method: &str, path: &str) -> HeaderBlock {
        head(self.version, method, path)
    }

    pub async fn open(&self, head: HeaderBlock, fin: bool) -> (RecvStream, SendStream) {
        let how = OpenOptions::new().fin(fin);
        within(self.session.open(head, how)).await.unwrap().split()
    }

    /// A request without a body.
    pub async fn ask(&self, method: &str, path: &str) -> Reply {
        let (receive, _send) = self.open(self.head(method, path), true).await;
        Reply::read(receive).await.unwrap()
    }

    /// A request with a body in one piece.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        let (receive, mut send) = self.open(self.head("POST", path), false).await;
        send.send_data(body.into(), true).unwrap();
        Reply::read(receive).await.unwrap()
    }
}

impl Reply {
    pub async fn read(mut receive: RecvStream) -> Result<Self, StreamError> {
        let headers = Self::head(&mut receive).await?;
        let (mut body, mut trailers) = (Vec::new(), None);
        while let Some(received) = within(receive.next()).await {
            match received? {
                Received::Data(bytes) => body.extend_from_slice(&bytes),
                Received::Headers(block) => trailers = Some(block),
            }
        }
        Ok(Self {
            headers,
            body,
            trailers,
        })
    }

    /// The head alone, before the body is read.
    pub async fn head(receive: &mut RecvStream) -> Result<HeaderBlock, StreamError> {
        within(poll_fn(|cx| receive.poll_response_headers(cx))).await
    }

    pub fn status(&self) -> u16 {
        status(&self.headers)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .map(|value| str::from_utf8(value).unwrap())
    }
}

pub fn head(version: Version, method: &str, path: &str) -> HeaderBlock {
    let names = match version {
        Version::V2 => ["method", "url", "version", "host", "scheme"],
        _ => [":method", ":path", ":version", ":host", ":scheme"],
    };
    let mut head = HeaderBlock::new();
    for (name, value) in names
        .into_iter()
        .zip([method, path, "HTTP/1.1", "a.test", "https"])
    {
        head.append(name, value).unwrap();
    }
    head
}

/// A client that sees frames, not streams.
#[derive(Debug)]
pub struct RawClient {
    version: Version,
    io: DuplexStream,
    encoder: HeaderEncoder,
    decoder: Decoder,
    unread: BytesMut,
}

impl RawClient {
    pub fn of<S: HttpService>(version: Version, service: S) -> Self {
        let (near, far) = duplex(16 * 1024);
        tokio::spawn(Builder::new().serve_connection(far, version, service));
        Self {
            version,
            io: near,
            encoder: HeaderEncoder::new(version, HeaderCompression::Stored),
            decoder: Decoder::new(version, DecodeLimits::default()),
            unread: BytesMut::new(),
        }
    }

    /// Opens a stream as `frame` says.
    pub async fn open(&mut self, frame: &SynStream<&HeaderBlock>) {
        let mut bytes = BytesMut::new();
        self.encoder.encode_syn_stream(frame, &mut bytes).unwrap();
        within(self.io.write_all(&bytes)).await.unwrap();
    }

    /// Asks for a path with GET.
    pub async fn ask(&mut self, stream: u32, path: &str) {
        let head = head(self.version, "GET", path);
        let frame = SynStream {
            stream: StreamId::new(stream).unwrap(),
            associated: None,
            priority: Priority::default(),
            fin: true,
            unidirectional: false,
            block: &head,
        };
        self.open(&frame).await;
    }

    /// Sends a control frame without flags.
    pub async fn control(&mut self, kind: u8, payload: &[u32]) {
        let version = if self.version == Version::V2 { 2 } else { 3 };
        let mut bytes = vec![0x80, version, 0, kind, 0, 0, 0, 4 * payload.len() as u8];
        bytes.extend(payload.iter().flat_map(|word| word.to_be_bytes()));
        within(self.io.write_all(&bytes)).await.unwrap();
    }

    /// Sends nothing more, and goes on reading.
    pub async fn half_close(&mut self) {
        within(self.io.shutdown()).await.unwrap();
    }

    /// The next frame about a stream that this side has opened.
    pub async fn next(&mut self) -> Frame {
        loop {
            match self.decoder.decode(&mut self.unread).unwrap() {
                Some(Frame::Settings(_) | Frame::WindowUpdate(_)) => {}
                Some(frame) => return frame,
                None => {
                    // Room for all that is there, so that no frame of these tests comes in pieces.
                    self.unread.reserve(16 * 1024);
                    let read = within(self.io.read_buf(&mut self.unread)).await.unwrap();
                    assert!(read > 0, "the server has closed the transport");
                }
            }
        }
    }
}

pub fn status(head: &HeaderBlock) -> u16 {
    let status = head.get(":status").or_else(|| head.get("status")).unwrap();
    str::from_utf8(status).unwrap().parse().unwrap()
}

/// No test waits for ever.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .expect("it took more than 10 s")
}

/// Runs a test for each version. A panic of ours fails it, wherever it was caught.
pub async fn in_all_versions<F: Future<Output = ()>>(test: impl Fn(Version) -> F) {
    let _panics = panics::watch();
    for version in Version::ALL {
        test(version).await;
    }
}
