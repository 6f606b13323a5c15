//! A relay: takes a client's request, sends the same request to another server, and passes the
//! streams between the two.

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

/// Sees what is relayed, for example to record it. The relay waits for its methods, so they should
/// return soon.
pub trait Tap: Send + Sync + 'static {
    /// The client opens a stream, with headers such as `streamtype`. The id is that of the client.
    fn opened(&self, stream: StreamId, headers: &HeaderBlock) {
        _ = (stream, headers);
    }

    /// Bytes pass that `from` has sent.
    fn passed(&self, stream: StreamId, from: Side, bytes: &[u8]) {
        _ = (stream, from, bytes);
    }

    /// An opened stream is over. This is not called for streams that are open when the session
    /// ends; then the tap is dropped.
    fn closed(&self, stream: StreamId) {
        _ = stream;
    }
}

/// Sees nothing.
impl Tap for () {}

/// Answers a request for exec, attach or port-forward with the response of another server, and then
/// passes the streams between the two. `onward` is the request to the other server, which is sent
/// on `transport`.
///
/// Make `onward` with [`client::request`]. The relay adds the protocols that the client offers. If
/// the other server refuses, the client gets the same refusal. Only SPDY is relayed: if the client
/// asks for WebSocket it is refused, and kubectl then asks for SPDY. A [`Relay`] translates between
/// SPDY and WebSocket.
///
/// The relay resets a stream without exactly one known `streamtype`, or with several values of
/// `port` or `requestid`. Otherwise the other server could do something else than the tap records.
///
/// A side that does not read stops the other one, so the bytes under way are limited. When one side
/// ends, the relay passes on what was under way, and then ends the other side.
///
/// # Panics
///
/// Panics outside a tokio runtime.
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

/// Returns the response for the client if the other server does not upgrade.
fn refused(error: ConnectError) -> Response<String> {
    let ConnectError::Refused(refusal) = error else {
        tracing::debug!(target: "spdy", %error, "server cannot be asked");
        let mut response = Response::new(format!("{error}\n"));
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        return response;
    };
    let (head, body) = refusal.into_parts();
    let mut response = Response::new(String::from_utf8_lossy(&body).into_owned());
    // The response claims to be an upgrade but is not one.
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

/// Passes streams until one of the sessions has ended, and then ends the other one.
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
                    // This call decides the order of streams.
                    let opening = to_server.open(stream.headers().clone(), how);
                    let sessions = (to_client.clone(), to_server.clone());
                    streams.spawn(pass(stream, opening, sessions, Arc::clone(&tap)));
                }
                None => break,
            },
            _ = to_server.closed() => {
                // The client has to get the bytes that came before the end. If it is gone, the
                // streams end immediately.
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

/// Waits until the last bytes of a session are written, for a limited time.
async fn end(mut driver: JoinHandle<Result<(), SessionError>>) {
    if timeout(ENDED, &mut driver).await.is_err() {
        driver.abort();
    }
}

/// Passes one stream until the server's direction has ended, and the client's direction has ended
/// or can have no more effect.
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
            // A reset would drop a reply that is not written. When the client has answered a PING,
            // the reply was written.
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

/// Replies to the client's stream as the server replies to its own.
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

/// Copies one direction to its end, and ends it in the same way. If that is a reset, waits until
/// the bytes before it are written, and returns the stream and the status.
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

/// The size of all header blocks that are passed on in one direction of a stream. Kubernetes sends
/// none. Header blocks are not subject to flow control, so without this limit a peer could make the
/// relay keep any number of them.
const MAX_HEADERS: usize = 256 * 1024;

/// Returns the status with which a stream is reset whose other side ended with this error.
fn status_of(error: &StreamError) -> RstStatus {
    match error {
        StreamError::NotProcessed => RstStatus::REFUSED_STREAM,
        StreamError::Reset { status, .. } => *status,
        _ => RstStatus::CANCEL,
    }
}

/// How long a client may take to answer a PING before a stream is reset anyway.
const ANSWERED: Duration = Duration::from_secs(5);

/// How long the last bytes of a session may take.
const ENDED: Duration = Duration::from_secs(5);

/// The field in which a refusal lists the accepted protocols.
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
