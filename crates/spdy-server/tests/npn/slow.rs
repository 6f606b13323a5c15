//! Clients over NPN that leave the socket of the server full: no byte is lost in either direction.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Path,
    response::Response,
    routing::{get, post},
};
use bytes::{Bytes, BytesMut};
use http_body::Frame as BodyFrame;
use spdy_frame::{
    DecodeLimits, Decoder, Frame, HeaderBlock, HeaderCompression, HeaderEncoder, Priority,
    RstStatus, RstStream, Setting, SettingId, Settings, StreamId, SynStream, Version,
    WindowIncrement, WindowTarget, WindowUpdate,
};
use spdy_tower::session::{self, OpenOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_openssl::SslStream;

use super::{
    Offer,
    common::server::{LONG, Running, tls},
    connect,
};

/// 30 MB in pieces that fill neither a record nor a DATA frame, each with different bytes. Between
/// two pieces other tasks run, so that the server returns to a full socket with more bytes than
/// before.
struct Pieces {
    size: usize,
    at: usize,
    rests: bool,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Infallible>>> {
        if self.at == ALL {
            return Poll::Ready(None);
        }
        self.rests = !self.rests;
        if self.rests {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let piece = vec![byte(self.at); self.size];
        self.at += self.size;
        Poll::Ready(Some(Ok(BodyFrame::data(piece.into()))))
    }
}

async fn pieces(Path(size): Path<usize>) -> Response {
    Response::new(Body::new(Pieces {
        size,
        at: 0,
        rests: false,
    }))
}

/// The number of bytes with the same value.
const PIECE: usize = 10_000;
const ALL: usize = 30_000_000;

/// Returns the byte at a place of the body.
fn byte(at: usize) -> u8 {
    (at / PIECE % 251) as u8
}

/// Returns where the body differs from what it should be.
fn first_wrong(from: usize, received: &[u8]) -> Option<usize> {
    (from..)
        .zip(received)
        .find(|(at, is)| **is != byte(*at))
        .map(|(at, _)| at)
}

async fn start(test: &str) -> Running {
    let app = Router::new()
        .route("/down/{size}", get(pieces))
        .route("/echo", post(async |body: Body| Response::new(body)));
    Running::start(tls(test).0, app).await
}

async fn npn(server: &Running, protocol: &'static str) -> SslStream<TcpStream> {
    let offer = Offer {
        npn: Some(protocol),
        ..Offer::default()
    };
    connect(server.address, offer).await.unwrap()
}

/// Lets the server fill its socket. If the machine is too busy for that, the test covers less.
async fn pause() {
    sleep(Duration::from_millis(500)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_over_http_1_is_whole() {
    let server = start("slow_http_1").await;
    let mut io = npn(&server, "http/1.1").await;
    let request = b"GET /down/10000 HTTP/1.0\r\nhost: localhost\r\n\r\n";
    io.write_all(request).await.unwrap();
    let mut received = Vec::new();
    let mut pauses = 0;
    loop {
        if received.len() >= pauses * ALL / 5 {
            pauses += 1;
            pause().await;
        }
        let read = timeout(LONG, io.read_buf(&mut received));
        if read.await.expect("the answer stalls").unwrap() == 0 {
            break;
        }
    }
    let head = received.windows(4).position(|end| end == b"\r\n\r\n");
    let body = &received[head.expect("no head") + 4..];
    assert_eq!((body.len(), first_wrong(0, body)), (ALL, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_comes_back_is_whole_in_every_version() {
    let server = start("slow_echo").await;
    for version in [Version::V3_1, Version::V3, Version::V2] {
        let io = npn(&server, str::from_utf8(version.alpn()).unwrap()).await;
        let (session, _incoming, driver) = session::client(io, version, session::Config::default());
        tokio::spawn(driver);
        let head = head(version, "POST", "/echo");
        let stream = session.open(head, OpenOptions::default()).await.unwrap();
        let (mut recv, mut send) = stream.split();
        let sending = tokio::spawn(async move {
            for at in (0..ALL).step_by(PIECE) {
                send.write_all(&[byte(at); PIECE]).await?;
            }
            send.shutdown().await
        });
        timeout(LONG, recv.response_headers())
            .await
            .expect("no reply")
            .unwrap();
        let mut received = Vec::new();
        while timeout(LONG, recv.read_buf(&mut received))
            .await
            .expect("it stalls")
            .unwrap()
            > 0
        {
            if received.len() / 1024 % 5_000 == 0 {
                pause().await;
            }
        }
        sending.await.unwrap().unwrap();
        assert_eq!(
            (received.len(), first_wrong(0, &received)),
            (ALL, None),
            "{version}"
        );
    }
}

/// A reset does not take back what OpenSSL has encrypted and could not send.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_reset_while_the_socket_is_full_costs_no_other() {
    let server = start("slow_reset").await;
    // Which frame did not fit into the socket is a matter of chance.
    for _ in 0..4 {
        let mut io = npn(&server, "spdy/3.1").await;
        io.write_all(&three_downloads()).await.unwrap();
        pause().await;
        for id in [1, 3] {
            let mut frame = BytesMut::new();
            let (stream, status) = (StreamId::new(id).unwrap(), RstStatus::CANCEL);
            RstStream { stream, status }.encode(Version::V3_1, &mut frame);
            io.write_all(&frame).await.unwrap();
        }
        pause().await;
        let received = receive(&mut io).await;
        assert!(received[1] < ALL && received[3] < ALL, "{received:?}");
    }
}

/// Requests three downloads whose windows are never full.
fn three_downloads() -> BytesMut {
    let version = Version::V3_1;
    let (mut out, size) = (BytesMut::new(), 0x7000_0000);
    let entries = vec![Setting::new(SettingId::INITIAL_WINDOW_SIZE, size)];
    Settings {
        clear: false,
        entries,
    }
    .encode(version, &mut out);
    let (target, increment) = (WindowTarget::Session, WindowIncrement::new(size).unwrap());
    WindowUpdate { target, increment }.encode(version, &mut out);
    let mut encoder = HeaderEncoder::new(version, HeaderCompression::default());
    let block = head(version, "GET", "/down/100");
    for id in [1, 3, 5] {
        let frame = SynStream {
            stream: StreamId::new(id).unwrap(),
            associated: None,
            priority: Priority::default(),
            fin: true,
            unidirectional: false,
            block: &block,
        };
        encoder.encode_syn_stream(&frame, &mut out).unwrap();
    }
    out
}

/// Reads until a third of the stream that was not reset has arrived, which is far more than the
/// socket can hold. Returns how many bytes of each stream arrived.
async fn receive(io: &mut SslStream<TcpStream>) -> [usize; 6] {
    let mut decoder = Decoder::new(Version::V3_1, DecodeLimits::default());
    let (mut bytes, mut received) = (BytesMut::new(), [0; 6]);
    while received[5] < ALL / 3 {
        match decoder.decode(&mut bytes).expect("no frame of SPDY") {
            Some(Frame::Data(data)) => {
                let at = &mut received[data.stream.get() as usize];
                assert_eq!(first_wrong(*at, &data.payload), None, "on {}", data.stream);
                *at += data.payload.len();
            }
            Some(_) => {}
            None => {
                bytes.reserve(64 * 1024);
                let read = timeout(LONG, io.read_buf(&mut bytes));
                let read = read.await.expect("the server stalls").unwrap();
                assert_ne!(read, 0, "{received:?}");
            }
        }
    }
    received
}

fn head(version: Version, method: &str, path: &str) -> HeaderBlock {
    let colon = if version == Version::V2 { "" } else { ":" };
    let host = if version == Version::V2 {
        "host"
    } else {
        ":host"
    };
    let path_name = if version == Version::V2 {
        "url"
    } else {
        ":path"
    };
    HeaderBlock::from_pairs([
        (&*format!("{colon}method"), method),
        (path_name, path),
        (&*format!("{colon}version"), "HTTP/1.1"),
        (host, "localhost"),
        (&*format!("{colon}scheme"), "https"),
    ])
    .unwrap()
}
