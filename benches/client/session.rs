//! Sessions of SPDY and connections of HTTP/2, with the same requests over either.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use spdy_session::{
    Config, FlowControl, HeaderBlock, Limits, OpenOptions, Received, SendStream, Version,
};
use tokio_rustls::TlsConnector;

use crate::{
    Failure,
    throttled::Throttled,
    transport::{self, Transport},
};

/// A server, and how to speak to it.
pub(crate) struct Target {
    address: SocketAddr,
    is_http2: bool,
    flow_control: FlowControl,
    tls: Option<TlsConnector>,
}

impl Target {
    pub(crate) fn new(protocol: &str, address: &str) -> Result<Self, Failure> {
        let (flow_control, is_http2, token) = match protocol {
            "spdy" | "spdys" => (FlowControl::Enforce, false, "spdy/3.1"),
            "spdystream" => (FlowControl::Off, false, "spdy/3.1"),
            "h2" | "h2s" => (FlowControl::Enforce, true, "h2"),
            _ => return Err(format!("no such protocol: {protocol}").into()),
        };
        let is_tls = protocol.ends_with('s');
        let tls = is_tls.then(|| transport::connector(Some(token), true));
        Ok(Self {
            address: address.parse()?,
            is_http2,
            flow_control,
            tls: tls.transpose()?,
        })
    }

    /// Opens a session, which is read at this number of bytes a second at most.
    pub(crate) async fn open(&self, rate: Option<u64>) -> Result<Session, Failure> {
        let mut io: Box<dyn Transport> = match &self.tls {
            Some(connector) => Box::new(transport::tls(connector, self.address).await?),
            None => Box::new(transport::tcp(self.address).await?),
        };
        if let Some(rate) = rate {
            io = Box::new(Throttled::new(io, rate));
        }
        if self.is_http2 {
            let (requests, driver) = http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WINDOW)
                .handshake(TokioIo::new(io))
                .await?;
            tokio::spawn(async move { drop(driver.await) });
            Ok(Session::Http2(requests))
        } else {
            let (session, _, driver) = spdy_session::client(io, Version::V3_1, self.config());
            tokio::spawn(async move { drop(driver.await) });
            Ok(Session::Spdy(session))
        }
    }

    /// Windows that are never used up.
    fn config(&self) -> Config {
        let mut limits = Limits::default();
        limits.stream_window = WINDOW;
        limits.session_window = WINDOW;
        let mut config = Config::default();
        config.limits = limits;
        config.flow_control = self.flow_control;
        config
    }
}

/// A session, or a connection of HTTP/2.
pub(crate) enum Session {
    Spdy(spdy_session::Session),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A request.
pub(crate) struct Ask {
    pub(crate) method: String,
    pub(crate) path: String,
    /// The length of its body.
    pub(crate) body: usize,
}

impl Ask {
    pub(crate) fn get(path: &str) -> Self {
        Self {
            method: "GET".into(),
            path: path.into(),
            body: 0,
        }
    }
}

/// Further fields of a request.
type Field = (String, String);

impl Session {
    /// Sends a request and reads its response, which has to be complete and of status 200.
    pub(crate) async fn request(&self, ask: &Ask, fields: &[Field]) -> Result<(), Failure> {
        let (length, bytes) = match self {
            Self::Spdy(session) => spdy(session, ask, fields).await?,
            Self::Http2(requests) => http2(requests.clone(), ask, fields).await?,
        };
        match length {
            Some(length) if length != bytes.to_string().as_bytes() => {
                let length = String::from_utf8_lossy(&length);
                Err(format!("{bytes} bytes came of {length}").into())
            }
            _ => Ok(()),
        }
    }
}

/// The length that a response promises, and the length that its body has.
type Lengths = (Option<Bytes>, usize);

async fn spdy(
    session: &spdy_session::Session,
    ask: &Ask,
    fields: &[Field],
) -> Result<Lengths, Failure> {
    let mut head = HeaderBlock::from_pairs([
        (":method", ask.method.as_str()),
        (":path", ask.path.as_str()),
        (":version", "HTTP/1.1"),
        (":host", "localhost"),
        (":scheme", "http"),
        ("accept", "*/*"),
        ("accept-encoding", "gzip,deflate,sdch"),
        ("user-agent", "curves"),
    ])?;
    for (name, value) in fields {
        head.append(name, value)?;
    }
    let how = OpenOptions::new().fin(ask.body == 0);
    let (mut receive, send) = session.open(head, how).await?.split();
    let upload = async {
        match ask.body {
            0 => Ok(()),
            bytes => upload(send, bytes).await,
        }
    };
    let download = async {
        let reply = receive.response_headers().await?;
        let status = reply.get(":status").unwrap_or_default();
        if !status.starts_with(b"200") {
            return Err(format!("status {}", String::from_utf8_lossy(status)).into());
        }
        let mut bytes = 0;
        while let Some(received) = receive.next().await {
            if let Received::Data(piece) = received? {
                bytes += piece.len();
            }
        }
        let length = reply.get("content-length");
        Ok((length.map(Bytes::copy_from_slice), bytes))
    };
    let ((), lengths) = tokio::try_join!(upload, download)?;
    Ok(lengths)
}

/// Sends a body. The window of the server holds it back, not the queue here.
async fn upload(mut send: SendStream, bytes: usize) -> Result<(), Failure> {
    let piece = Bytes::from_static(&BODY[..PIECE]);
    let mut left = bytes;
    while left > 0 {
        send.ready().await?;
        let bytes = left.min(PIECE);
        left -= bytes;
        send.send_data(piece.slice(..bytes), left == 0)?;
    }
    Ok(())
}

async fn http2(
    mut requests: http2::SendRequest<Full<Bytes>>,
    ask: &Ask,
    fields: &[Field],
) -> Result<Lengths, Failure> {
    let mut request = Request::builder()
        .method(ask.method.as_str())
        .uri(format!("http://localhost{}", ask.path))
        .header("accept", "*/*")
        .header("accept-encoding", "gzip,deflate,sdch")
        .header("user-agent", "curves");
    for (name, value) in fields {
        request = request.header(name, value);
    }
    let body = match ask.body {
        0 => Bytes::new(),
        bytes if bytes <= BODY.len() => Bytes::from_static(&BODY[..bytes]),
        bytes => vec![b'a'; bytes].into(),
    };
    requests.ready().await?;
    let response = requests
        .send_request(request.body(Full::new(body))?)
        .await?;
    if response.status() != StatusCode::OK {
        return Err(format!("status {}", response.status()).into());
    }
    let (head, mut body) = response.into_parts();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, Bytes::len);
    }
    let length = head.headers.get("content-length");
    let length = length.map(|length| Bytes::copy_from_slice(length.as_bytes()));
    Ok((length, bytes))
}

const WINDOW: u32 = 64 << 20;

/// The bytes of a piece of a body.
const PIECE: usize = 16 * 1024;
static BODY: [u8; 1 << 20] = [b'a'; 1 << 20];
