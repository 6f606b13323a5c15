//! The side that asks: exec, attach and port-forward over SPDY, for tools and proxies.
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use spdy_kube::{Streams, client};
//! use tokio::{io::AsyncReadExt, net::TcpStream};
//!
//! let uri = "http://127.0.0.1:8001/api/v1/namespaces/default/pods/demo/exec?command=id&stdout=true";
//! let transport = TcpStream::connect("127.0.0.1:8001").await?;
//! let streams = Streams { stdout: true, ..Streams::default() };
//! let mut remote = client::exec(transport, client::request(&uri.parse()?), streams).await?;
//! let mut output = String::new();
//! if let Some(stdout) = &mut remote.stdout {
//!     stdout.read_to_string(&mut output).await?;
//! }
//! println!("{output}, {}", remote.outcome().await?);
//! # Ok(())
//! # }
//! ```

mod forward;

use std::{
    error::Error,
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderValue, Method, Request, Response, Uri};
use spdy_session::{
    HeaderBlock, Open, OpenError, RecvStream, SendStream, Session, SessionError, Stream,
    StreamError, Version,
};
use spdy_tower::upgrade::{self, ConnectError, Upgraded};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    task::JoinHandle,
    time::timeout,
};

pub use self::forward::{Connection, Forward};
use crate::{
    Protocol, Size, Status, StatusError, Streams,
    config::config,
    negotiate::{VERSION, names},
    stdio::end_at_reset,
};

/// A request for [`exec`], [`attach`] or [`Forward::connect`]: more headers may be added, such as `authorization`.
#[must_use]
pub fn request(uri: &Uri) -> Request<()> {
    let mut request = upgrade::request(uri);
    *request.method_mut() = Method::POST;
    request
}

/// Asks for a command to be run, and opens the streams of it. The path and query of the request say what is to be run
/// and where; `streams` have to be those of the query.
///
/// # Errors
///
/// [`ClientError`]; the command may have been run if it is one of a stream.
pub async fn exec<IO>(
    transport: IO,
    request: Request<()>,
    streams: Streams,
) -> Result<Remote, ClientError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let offer = PROTOCOLS.map(Protocol::name);
    let (response, session) = connect(transport, request, &offer).await?;
    let protocol = chosen(&response)?;
    let error = open(&session, &[("streamtype", "error")]).await?;
    let stdin = open_if(&session, streams.stdin, "stdin").await?;
    let stdout = open_if(&session, streams.stdout, "stdout").await?;
    let stderr = open_if(&session, streams.has_stderr(), "stderr").await?;
    let has_resize = streams.tty && protocol.has_resize();
    let resize = open_if(&session, has_resize, "resize").await?;
    Ok(Remote {
        protocol,
        stdin: stdin.map(Input),
        stdout: stdout.map(Output::new),
        stderr: stderr.map(Output::new),
        resize: resize.map(Resizer),
        error: Output::new(error),
        _session: session,
    })
}

/// Asks to join a process: as [`exec`], with a request for attach.
///
/// # Errors
///
/// As [`exec`].
pub async fn attach<IO>(
    transport: IO,
    request: Request<()>,
    streams: Streams,
) -> Result<Remote, ClientError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    exec(transport, request, streams).await
}

/// A command that runs elsewhere. Dropped with all its streams, it ends the session, and the server ends the command.
///
/// Read all outputs, or drop them: one that is not read holds the others up.
#[derive(Debug)]
#[non_exhaustive]
pub struct Remote {
    /// The protocol that the server has chosen.
    pub protocol: Protocol,
    /// Its input, if it was asked for. Shut it down to end the input.
    pub stdin: Option<Input>,
    /// Its output, if it was asked for.
    pub stdout: Option<Output>,
    /// Its errors, if they were asked for and there is no terminal.
    pub stderr: Option<Output>,
    /// The size of its terminal, if it has one. Tell the first one soon: servers wait for it.
    pub resize: Option<Resizer>,
    error: Output,
    _session: Session,
}

impl Remote {
    /// Waits for the command to end. Outputs that were not taken are dropped first.
    ///
    /// # Errors
    ///
    /// [`ClientError::Stream`] if the session was lost before the outcome, or [`ClientError::Status`].
    pub async fn outcome(self) -> Result<Status, ClientError> {
        let Self {
            protocol,
            mut error,
            _session,
            ..
        } = self;
        let mut told = Vec::new();
        let mut limited = (&mut error).take(MAX_STATUS);
        limited.read_to_end(&mut told).await?;
        // Also in v4 nothing counts as success.
        if told.is_empty() {
            return Ok(Status::Success);
        }
        if protocol.has_status() {
            return Status::from_json(&told).map_err(ClientError::Status);
        }
        Ok(Status::internal(format_args!(
            "error executing remote command: {}",
            String::from_utf8_lossy(&told)
        )))
    }
}

/// The input of a command that runs elsewhere. `shutdown` ends it; dropped before that, it is reset.
#[derive(Debug)]
pub struct Input(Stream);

impl AsyncWrite for Input {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// An output of a command that runs elsewhere. A server that resets it has ended it, as some do. Reading fails when the
/// session was lost.
#[derive(Debug)]
pub struct Output {
    from: RecvStream,
    /// Nothing is sent on it, and dropping it would reset the stream.
    _to: SendStream,
}

impl Output {
    fn new(stream: Stream) -> Self {
        let (from, to) = stream.split();
        Self { from, _to: to }
    }
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        end_at_reset(ready!(Pin::new(&mut self.from).poll_read(cx, buffer)))
    }
}

/// Tells the size of a terminal.
#[derive(Debug)]
pub struct Resizer(Stream);

impl Resizer {
    /// Tells a size.
    ///
    /// # Errors
    ///
    /// The command has ended.
    pub async fn resize(&mut self, size: Size) -> io::Result<()> {
        self.0.write_all(size.to_json().as_bytes()).await
    }
}

/// Upgrades, and begins a session.
async fn connect<IO>(
    transport: IO,
    mut request: Request<()>,
    offer: &[&'static str],
) -> Result<(Response<()>, Session), ClientError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    for name in offer {
        let name = HeaderValue::from_static(name);
        request.headers_mut().append(VERSION, name);
    }
    let (response, transport) = upgrade::connect(transport, request).await?;
    let (session, _) = begin(transport);
    Ok((response, session))
}

/// Begins a session on a transport that was upgraded. The task drives it.
pub(crate) fn begin(transport: Upgraded) -> (Session, JoinHandle<Result<(), SessionError>>) {
    let (session, _, driver) = spdy_session::client(transport, Version::V3_1, config());
    (session, tokio::spawn(driver))
}

/// Opens a stream and waits for the answer.
async fn open(session: &Session, fields: &[(&str, &str)]) -> Result<Stream, ClientError> {
    let headers = HeaderBlock::from_pairs(fields.iter().copied())
        .expect("names are in lower case and values short");
    let opened = async {
        let mut stream = session.open(headers, Open::default()).await?;
        stream.headers().await?;
        Ok(stream)
    };
    timeout(ANSWER, opened)
        .await
        .unwrap_or(Err(ClientError::NoAnswer))
}

async fn open_if(
    session: &Session,
    is_wanted: bool,
    name: &str,
) -> Result<Option<Stream>, ClientError> {
    if !is_wanted {
        return Ok(None);
    }
    open(session, &[("streamtype", name)]).await.map(Some)
}

/// The protocol that the server names; without a name it is the first one.
fn chosen(response: &Response<()>) -> Result<Protocol, ClientError> {
    let named = names(response.headers(), &VERSION);
    let Some(name) = named.first() else {
        return Ok(Protocol::V1);
    };
    let found = PROTOCOLS.iter().find(|protocol| protocol.name() == *name);
    found.copied().ok_or(ClientError::Protocol)
}

/// Why there are no streams, or no outcome.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// The server does not upgrade, or the transport failed before it did.
    Connect(ConnectError),
    /// The server has chosen a protocol that was not offered, or none.
    Protocol,
    /// A stream was refused or the session lost.
    Stream(io::Error),
    /// The server does not answer a stream within 30 s.
    NoAnswer,
    /// The outcome is malformed.
    Status(StatusError),
}

impl From<ConnectError> for ClientError {
    fn from(error: ConnectError) -> Self {
        Self::Connect(error)
    }
}

impl From<StreamError> for ClientError {
    fn from(error: StreamError) -> Self {
        Self::Stream(error.into())
    }
}

impl From<OpenError> for ClientError {
    fn from(error: OpenError) -> Self {
        Self::Stream(io::Error::new(io::ErrorKind::ConnectionAborted, error))
    }
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::Stream(error)
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // What the server says is what the user has to know.
            Self::Connect(ConnectError::Refused(response)) => {
                let text = String::from_utf8_lossy(response.body());
                write!(f, "server does not upgrade: {}: ", response.status())?;
                f.write_str(text.trim())
            }
            Self::Connect(_) => f.write_str("connection to the server failed"),
            Self::Protocol => f.write_str("server has chosen a protocol that was not offered"),
            Self::Stream(_) => f.write_str("stream of the session failed"),
            Self::NoAnswer => f.write_str("server does not answer a stream"),
            Self::Status(error) => error.fmt(f),
        }
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Connect(error) => Some(error),
            Self::Stream(error) => Some(error),
            _ => None,
        }
    }
}

/// What is offered, in this order.
const PROTOCOLS: [Protocol; 5] = [
    Protocol::V5,
    Protocol::V4,
    Protocol::V3,
    Protocol::V2,
    Protocol::V1,
];

/// How long a server may take to answer a stream.
const ANSWER: Duration = Duration::from_secs(30);

/// A status is not longer, in octets.
const MAX_STATUS: u64 = 1024 * 1024;
