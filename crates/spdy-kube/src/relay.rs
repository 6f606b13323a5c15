//! A relay: takes a client's request, asks another server the same, and passes the streams between the two.

mod any;
mod command;

use std::{sync::Arc, time::Duration};

use http::{HeaderName, Request, Response, StatusCode, header::CONTENT_TYPE};
use spdy_session::{
    Config, HeaderBlock, OpenOptions, Opening, PendingStream, Received, RecvStream, RstStatus,
    SendReply, SendStream, Session, SessionError, Shutdown, Side, Stream, StreamError, StreamId,
    Version,
};
use spdy_tower::upgrade::{self, ConnectError};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    task::{JoinError, JoinHandle, JoinSet},
    time::timeout,
};

pub use self::{
    any::Relay,
    command::{CommandTap, Passing},
};
use crate::{
    client::{self, Begun},
    config::config,
    negotiate::VERSION,
    stream_type::is_clear,
};

/// Sees what is relayed, such as to record it. Its methods are called on the way, so they should return soon.
pub trait Tap: Send + Sync + 'static {
    /// The client opens a stream, with headers such as `streamtype`. Ids are those of the client.
    fn opened(&self, stream: StreamId, headers: &HeaderBlock) {
        _ = (stream, headers);
    }

    /// Octets pass, sent by `from`.
    fn passed(&self, stream: StreamId, from: Side, octets: &[u8]) {
        _ = (stream, from, octets);
    }

    /// Nothing more passes on a stream that was opened. Streams that are open when the session ends are not told of: the
    /// tap is dropped then.
    fn closed(&self, stream: StreamId) {
        _ = stream;
    }
}

/// Sees nothing.
impl Tap for () {}

/// Answers a request for exec, attach or port-forward by what another server answers to `onward`, which is sent on
/// `transport`, and passes the streams between the two from then on.
///
/// `onward` says where: make it with [`client::request`]. The protocols that the client offers are added to it. What
/// the other server refuses, the client is refused in the same way. Only SPDY is relayed: kubectl asks again for that
/// when its request for WebSocket is refused. A [`Relay`] speaks with each side what it speaks.
///
/// A stream whose `streamtype` is not exactly one that is known is reset, as one whose `port` or `requestid` has several
/// values: what a tap records has to be what the other server does.
///
/// A side that waits holds up the other: the bytes under way are bounded. When one side ends, the
/// relay ends the other as soon as it has passed on what was under way.
///
/// # Panics
///
/// Outside a tokio runtime.
pub async fn relay<B, IO>(
    request: &mut Request<B>,
    mut onward: Request<()>,
    transport: IO,
    tap: impl Tap,
) -> Response<String>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut response, client) = match upgrade::accept(request) {
        Ok(accepted) => accepted,
        Err(error) => return error.into_response(),
    };
    for name in request.headers().get_all(VERSION) {
        onward.headers_mut().append(VERSION, name.clone());
    }
    let (answer, server) = match upgrade::connect(transport, onward).await {
        Ok(connected) => connected,
        Err(error) => return refused(error),
    };
    if let Some(name) = answer.headers().get(VERSION) {
        response.headers_mut().insert(VERSION, name.clone());
    }
    tokio::spawn(async move {
        if let Ok(client) = client.await {
            let server = client::begin(server, config());
            pass_streams(client, config(), server, Arc::new(tap)).await;
        }
    });
    response
}

/// What the client is told when the other server does not upgrade.
fn refused(error: ConnectError) -> Response<String> {
    let ConnectError::Refused(refusal) = error else {
        tracing::debug!(target: "spdy", %error, "server cannot be asked");
        let mut response = Response::new(format!("{error}\n"));
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        return response;
    };
    let (head, body) = refusal.into_parts();
    let mut response = Response::new(String::from_utf8_lossy(&body).into_owned());
    // Something that claims to be an upgrade and is none.
    let is_refusal = head.status != StatusCode::SWITCHING_PROTOCOLS;
    let status = Some(head.status).filter(|_| is_refusal);
    *response.status_mut() = status.unwrap_or(StatusCode::BAD_GATEWAY);
    for name in [CONTENT_TYPE, ACCEPTED] {
        for value in head.headers.get_all(&name) {
            response.headers_mut().append(&name, value.clone());
        }
    }
    response
}

/// Passes streams until one of the sessions has ended, and ends the other.
async fn pass_streams(
    client: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    config: Config,
    (to_server, driver_to_server): Begun,
    tap: Arc<dyn Tap>,
) {
    let (to_client, mut incoming, driver) = spdy_session::server(client, Version::V3_1, config);
    let driver = tokio::spawn(driver);
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            stream = incoming.accept() => match stream {
                Some(stream) if !is_clear(stream.headers()) => {
                    tracing::debug!(target: "spdy", stream = %stream.id(), "stream is of no one type");
                    stream.reset(RstStatus::PROTOCOL_ERROR);
                }
                Some(stream) => {
                    tap.opened(stream.id(), stream.headers());
                    let how = OpenOptions { priority: stream.priority(), ..OpenOptions::default() };
                    // The order of streams is that of these calls.
                    let opening = to_server.open(stream.headers().clone(), how);
                    let sessions = (to_client.clone(), to_server.clone());
                    streams.spawn(pass(stream, opening, sessions, Arc::clone(&tap)));
                }
                None => break,
            },
            _ = to_server.closed() => {
                // The client has to get what came before the end. If it is gone, the streams end at once.
                while let Some(ended) = streams.join_next().await {
                    look_at(ended);
                }
                break;
            }
            Some(ended) = streams.join_next() => look_at(ended),
        }
    }
    streams.abort_all();
    to_server.shutdown(Shutdown::Now);
    to_client.shutdown(Shutdown::Now);
    tokio::join!(end(driver), end(driver_to_server));
}

fn look_at(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::warn!(target: "spdy", %error, "a relayed stream panicked");
    }
}

/// Waits for the last bytes of a session. A peer that does not take them gets no more time than this.
async fn end(mut driver: JoinHandle<Result<(), SessionError>>) {
    if timeout(ENDED, &mut driver).await.is_err() {
        driver.abort();
    }
}

/// Passes one stream, until the server's direction has ended, and the client's has too or leads nowhere.
async fn pass(
    stream: PendingStream,
    opening: Opening,
    sessions: (Session, Session),
    tap: Arc<dyn Tap>,
) {
    let id = stream.id();
    pass_both_ways(stream, opening, sessions, &*tap).await;
    tap.closed(id);
}

async fn pass_both_ways(
    stream: PendingStream,
    opening: Opening,
    (to_client, to_server): (Session, Session),
    tap: &dyn Tap,
) {
    let id = stream.id();
    let (from_client, reply) = stream.split();
    let Some((server, down)) = answer(opening, reply).await else {
        tracing::debug!(target: "spdy", stream = %id, "stream is not relayed");
        return;
    };
    let (from_server, up) = server.split();
    let up = async {
        if let Some((up, status)) = copy(id, Side::Client, from_client, up, tap).await {
            up.reset(status);
        }
    };
    let down = async {
        if let Some((down, status)) = copy(id, Side::Server, from_server, down, tap).await {
            // A reset takes back an answer that is not written. Once the client has answered a PING, ours was.
            _ = timeout(ANSWERED, to_client.ping()).await;
            down.reset(status);
        }
    };
    let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
    let mut is_sending = true;
    loop {
        tokio::select! {
            () = &mut up, if is_sending => is_sending = false,
            () = &mut down => break,
        }
    }
    if is_sending {
        tokio::select! {
            () = up => {}
            _ = to_server.closed() => {}
        }
    }
}

/// Answers the client's stream as the server answers its own.
async fn answer(opening: Opening, reply: SendReply) -> Option<(Stream, SendStream)> {
    let mut server = opening.await.ok()?;
    match server.response_headers().await {
        Ok(headers) => Some((server, reply.send_reply(headers, false).ok()?)),
        Err(error) => {
            reply.reset(status_of(&error));
            None
        }
    }
}

/// Copies one direction to its end, and ends it in the same way. When that is to be a reset, gives the stream and the
/// status; what came before it is written then.
async fn copy(
    id: StreamId,
    side: Side,
    mut from: RecvStream,
    mut to: SendStream,
    tap: &dyn Tap,
) -> Option<(SendStream, RstStatus)> {
    let mut room = MAX_HEADERS;
    while let Some(received) = from.next().await {
        let sent = match received {
            Ok(Received::Data(piece)) => {
                tap.passed(id, side, &piece);
                match to.ready().await {
                    Ok(()) => to.send_data(piece, false),
                    gone => gone,
                }
            }
            Ok(Received::Headers(headers)) => match room.checked_sub(headers.size()) {
                Some(left) => {
                    room = left;
                    to.send_headers(headers, false)
                }
                None => return Some((to, RstStatus::CANCEL)),
            },
            Err(error) => {
                _ = to.flush().await;
                return Some((to, status_of(&error)));
            }
        };
        if sent.is_err() {
            return None;
        }
    }
    if to.finish().is_ok() {
        _ = to.written().await;
    }
    None
}

/// The size of all header blocks that are passed on of one direction of a stream. Kubernetes sends none, and nothing holds
/// them up where the other side is not read: so a peer could have any number of them kept.
const MAX_HEADERS: usize = 256 * 1024;

/// The status to reset a stream with whose other side has ended so.
fn status_of(error: &StreamError) -> RstStatus {
    match error {
        StreamError::NotProcessed => RstStatus::REFUSED_STREAM,
        StreamError::Reset { status, .. } => *status,
        _ => RstStatus::CANCEL,
    }
}

/// How long a client may take to answer a PING before a stream is reset all the same.
const ANSWERED: Duration = Duration::from_secs(5);

/// How long the last bytes of a session may take.
const ENDED: Duration = Duration::from_secs(5);

/// Where refusals say what would be accepted.
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
