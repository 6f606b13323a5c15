//! A relay: takes a client's request, asks another server the same, and passes the streams between the two.

use std::sync::Arc;

use http::{HeaderName, Request, Response, StatusCode, header::CONTENT_TYPE};
use spdy_session::{
    HeaderBlock, Open, Opening, PendingStream, Received, RecvStream, RstStatus, SendReply,
    SendStream, Session, Shutdown, Side, Stream, StreamError, StreamId, Version,
};
use spdy_tower::upgrade::{self, ConnectError, Upgraded};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
};

use crate::{client, negotiate::VERSION, server::config};

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
}

/// Sees nothing.
impl Tap for () {}

/// Answers a request for exec, attach or port-forward by what another server answers to `onward`, which is sent on
/// `transport`, and passes the streams between the two from then on.
///
/// `onward` says where: make it with [`client::request`]. The protocols that the client offers are added to it. What
/// the other server refuses, the client is refused in the same way. Only SPDY is relayed: kubectl asks again for that
/// when its request for WebSocket is refused.
///
/// Whoever waits on one side holds up the other: what is under way is bounded. When one side ends, the other is ended
/// as soon as it has got what was under way.
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
            pass_streams(client, server, Arc::new(tap)).await;
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
async fn pass_streams(client: Upgraded, server: Upgraded, tap: Arc<dyn Tap>) {
    let (to_client, mut incoming, driver) = spdy_session::server(client, Version::V3_1, config());
    let driver = tokio::spawn(driver);
    let (to_server, _) = client::begin(server);
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            stream = incoming.accept() => match stream {
                Some(stream) => {
                    tap.opened(stream.id(), stream.headers());
                    let how = Open { priority: stream.priority(), ..Open::default() };
                    // The order of streams is that of these calls.
                    let opening = to_server.open(stream.headers().clone(), how);
                    streams.spawn(pass(stream, opening, to_server.clone(), Arc::clone(&tap)));
                }
                None => break,
            },
            _ = to_server.closed() => {
                // The client has to get what came before the end.
                while streams.join_next().await.is_some() {}
                break;
            }
            Some(_) = streams.join_next() => {}
        }
    }
    streams.abort_all();
    to_server.shutdown(Shutdown::Now);
    to_client.shutdown(Shutdown::Now);
    _ = driver.await;
}

/// Passes one stream, until the server's direction has ended, and the client's has too or leads nowhere.
async fn pass(stream: PendingStream, opening: Opening, to_server: Session, tap: Arc<dyn Tap>) {
    let id = stream.id();
    let (from_client, reply) = stream.split();
    let Some((server, to_client)) = answer(opening, reply).await else {
        tracing::debug!(target: "spdy", stream = %id, "stream is not relayed");
        return;
    };
    let (from_server, up_to_server) = server.split();
    let up = copy(id, Side::Client, from_client, up_to_server, &*tap);
    let down = copy(id, Side::Server, from_server, to_client, &*tap);
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
    match server.headers().await {
        Ok(headers) => Some((server, reply.reply(headers, false).ok()?)),
        Err(error) => {
            reply.refuse(status_of(&error));
            None
        }
    }
}

/// Copies one direction to its end, and ends it in the same way.
async fn copy(id: StreamId, side: Side, mut from: RecvStream, mut to: SendStream, tap: &dyn Tap) {
    while let Some(received) = from.next().await {
        let sent = match received {
            Ok(Received::Data(piece)) => {
                tap.passed(id, side, &piece);
                match to.ready().await {
                    Ok(()) => to.send_data(piece, false),
                    gone => gone,
                }
            }
            Ok(Received::Headers(headers)) => to.send_headers(headers, false),
            Err(error) => return to.reset(status_of(&error)),
        };
        if sent.is_err() {
            return;
        }
    }
    if to.finish().is_ok() {
        _ = to.written().await;
    }
}

/// The status to reset a stream with whose other side has ended so.
fn status_of(error: &StreamError) -> RstStatus {
    match error {
        StreamError::NotProcessed => RstStatus::REFUSED_STREAM,
        StreamError::Reset { status, .. } => *status,
        _ => RstStatus::CANCEL,
    }
}

/// Where refusals say what would be accepted.
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
