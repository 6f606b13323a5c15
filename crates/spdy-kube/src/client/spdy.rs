//! Exec and attach over SPDY, and what port-forward has in common with them.

use std::time::Duration;

use http::{HeaderValue, Request, Response};
use spdy_session::{Config, HeaderBlock, OpenOptions, Session, SessionError, Stream, Version};
use spdy_tower::upgrade::{self, ConnectError};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
    time::timeout,
};

use super::{
    ANSWER, ClientError, Input, Output, PING, Remote, Resizer,
    remote::{Breaking, Held},
};
use crate::{
    Protocol, Streams,
    config::config,
    drive::drive,
    negotiate::{VERSION, names},
};

/// Asks a server to run a command, over SPDY, and opens the command's streams. The path and the
/// query of the request name the command and the container; `streams` have to be the streams of the
/// query.
///
/// # Errors
///
/// [`ClientError`]. After [`ClientError::Stream`] the command may have run. There is no timeout
/// until the server has answered the request.
pub async fn exec<IO>(
    transport: IO,
    request: Request<()>,
    streams: Streams,
) -> Result<Remote, ClientError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let offer = PROTOCOLS.map(Protocol::name);
    let (response, (session, _)) = connect(transport, request, &offer, Some(PING)).await?;
    open_streams(&response, session, streams).await
}

/// Opens the streams of a command one after the other, because servers answer each one immediately.
pub(super) async fn open_streams(
    response: &Response<()>,
    session: Session,
    streams: Streams,
) -> Result<Remote, ClientError> {
    let protocol = chosen(response)?;
    let error = open(&session, &[("streamtype", "error")]).await?;
    let held = Held::Spdy(session.clone());
    let remote = Remote {
        protocol,
        stdin: None,
        stdout: None,
        stderr: None,
        resize: None,
        error: Output::spdy(error),
        session: held.clone(),
    };
    // The command may have started before the last answer comes. If that is not waited for, the
    // first field is dropped first. An input that was dropped before it would look as if it had
    // ended.
    let mut opened = (Breaking::new(held), remote);
    let remote = &mut opened.1;
    let stdin = open_if(&session, streams.stdin, "stdin").await?;
    remote.stdin = stdin.map(Input::spdy);
    let stdout = open_if(&session, streams.stdout, "stdout").await?;
    remote.stdout = stdout.map(Output::spdy);
    let stderr = open_if(&session, streams.has_stderr(), "stderr").await?;
    remote.stderr = stderr.map(Output::spdy);
    let has_resize = streams.tty && protocol.has_resize();
    let resize = open_if(&session, has_resize, "resize").await?;
    remote.resize = resize.map(Resizer::spdy);
    let (breaking, remote) = opened;
    breaking.release();
    Ok(remote)
}

/// Attaches to a process, as [`exec`] does, with a request for attach.
///
/// # Errors
///
/// The same as [`exec`].
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

/// Upgrades a transport, and starts a session on it. Fails only if there is no upgrade.
pub(super) async fn connect<IO>(
    transport: IO,
    mut request: Request<()>,
    offer: &[&'static str],
    ping: Option<Duration>,
) -> Result<(Response<()>, Begun), ConnectError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    for name in offer {
        let name = HeaderValue::from_static(name);
        request.headers_mut().append(VERSION, name);
    }
    let (response, transport) = upgrade::connect(transport, request).await?;
    Ok((response, begin(transport, with_ping(ping))))
}

/// A session, and the task that drives it.
pub(crate) type Begun = (Session, JoinHandle<Result<(), SessionError>>);

/// Starts a session on an upgraded transport, and a task that drives it.
pub(crate) fn begin<IO>(transport: IO, mut config: Config) -> Begun
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // A server loses nothing that it could still use.
    config.timeouts.linger = Config::default().timeouts.linger;
    let (session, _, driver) = spdy_session::client(transport, Version::V3_1, config);
    (session, tokio::spawn(drive(driver, LEAVE)))
}

/// Returns the configuration of a session that sends PINGs.
pub(super) fn with_ping(period: Option<Duration>) -> Config {
    let mut config = config();
    config.timeouts.keep_alive = period.map(|period| period.max(SHORTEST));
    // spdystream answers PINGs on a thread that also handles streams, and these can delay it for
    // hours.
    config.timeouts.keep_alive_reply = Duration::MAX;
    config
}

/// Opens a stream and waits for the reply.
pub(super) async fn open(
    session: &Session,
    fields: &[(&str, &str)],
) -> Result<Stream, ClientError> {
    let headers = HeaderBlock::from_pairs(fields.iter().copied())
        .expect("names are in lower case and values short");
    let opened = async {
        let mut stream = session.open(headers, OpenOptions::default()).await?;
        stream.response_headers().await?;
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

/// Returns the protocol that the server names. A server that names none speaks the first version.
pub(crate) fn chosen(response: &Response<()>) -> Result<Protocol, ClientError> {
    let named = names(response.headers(), &VERSION);
    let Some(name) = named.first() else {
        return Ok(Protocol::V1);
    };
    let found = PROTOCOLS.iter().find(|protocol| protocol.name() == *name);
    found.copied().ok_or(ClientError::Protocol)
}

/// The protocols that are offered, in this order.
pub(super) const PROTOCOLS: [Protocol; 5] = [
    Protocol::V5,
    Protocol::V4,
    Protocol::V3,
    Protocol::V2,
    Protocol::V1,
];

/// The shortest period of PINGs.
pub(super) const SHORTEST: Duration = Duration::from_millis(10);

/// How long the last frames of a session that is over may take to leave.
const LEAVE: Duration = Duration::from_secs(10);
