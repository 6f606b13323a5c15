//! A relay: takes a client's request, sends the same request to another server, and passes the
//! streams between the two.

mod any;
mod batch;
mod command;
mod pipe;
mod tap;

use std::{future::poll_fn, sync::Arc, time::Duration};

use http::{HeaderName, Request, Response, StatusCode, header::CONTENT_TYPE};
use spdy_session::{
    Config, Initiator, OpenOptions, Opening, PendingStream, Received, RecvStream, RstStatus,
    SendReply, SendStream, Session, Shutdown, Side, Stream, StreamError, StreamId, Version,
};
use spdy_tower::upgrade::{self, ConnectError};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    task::{JoinError, JoinSet},
    time::timeout,
};

use self::tap::{Outcome, Panicked, Watch};
pub use self::{
    any::Relay,
    command::{CommandTap, Passing},
    tap::Tap,
};
use crate::{
    Status,
    client::{self, Begun},
    config::config,
    drive::{CLOSE, drive},
    negotiate::VERSION,
    server::{self, Taken},
    stream_type::is_clear,
};

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
/// A side that does not read stops the other one, so the bytes under way are limited. When the
/// server ends, the relay passes on what was under way, and then ends the client's session. When
/// the client ends, the relay breaks off the session with the server. If the client resets a stream
/// before the server has replied to it, the relay resets it at the server.
///
/// The relay waits for the response of the server for as long as the caller polls this future. If
/// the future is dropped, the relay asks for nothing more, and calls [`Tap::ended`].
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
    let mut watch = Watch::new(tap);
    let (mut response, client) = match upgrade::accept(request) {
        Ok(accepted) => accepted,
        Err(error) => return refuse(watch, error.into_response()),
    };
    for name in request.headers().get_all(VERSION) {
        onward.headers_mut().append(VERSION, name.clone());
    }
    let (answer, server) = match upgrade::connect(transport, onward).await {
        Ok(connected) => connected,
        Err(error) => return refuse(watch, refused(error)),
    };
    if let Ok(protocol) = client::chosen(&answer) {
        watch.expects(protocol);
    }
    if let Some(name) = answer.headers().get(VERSION) {
        response.headers_mut().insert(VERSION, name.clone());
    }
    tokio::spawn(async move {
        if let Ok(client) = client.await {
            let server = client::begin(server, config());
            pass_streams(client, config(), server, watch).await;
        }
    });
    response
}

/// Reports to the tap why the session does not start, and returns the response.
fn refuse(watch: Watch, response: Response<String>) -> Response<String> {
    watch.refuse(Status::of_refusal(&response));
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
    watch: Watch,
) {
    let watch = Arc::new(watch);
    let (to_client, mut incoming, driver) = spdy_session::server(client, Version::V3_1, config);
    let driver = tokio::spawn(drive(driver, CLOSE));
    let mut streams = JoinSet::new();
    let (mut failed, mut unseen) = (Vec::new(), None);
    loop {
        tokio::select! {
            stream = incoming.accept() => match stream {
                Some(stream) if !is_clear(stream.headers()) => {
                    tracing::debug!(target: "spdy", stream = %stream.id(), "stream is of no one type");
                    stream.reset(RstStatus::PROTOCOL_ERROR);
                }
                Some(stream) => match Watched::new(&stream, &watch) {
                    Ok(watched) => {
                        let sessions = (to_client.clone(), to_server.clone());
                        streams.spawn(begin(stream, sessions, watched));
                    }
                    Err(Panicked) => {
                        unseen = Some(stream);
                        break;
                    }
                },
                None => {
                    settle(&to_server, watch.taken()).await;
                    break;
                }
            },
            _ = to_server.closed() => {
                // The client has to get the bytes that came before the end. If it is gone, the
                // streams end immediately.
                while let Some(ended) = streams.join_next().await {
                    failed.extend(look_at(ended));
                }
                break;
            }
            Some(ended) = streams.join_next() => failed.extend(look_at(ended)),
        }
    }
    // Dropped before the sessions are shut down, a stream would be reset, which looks like its end.
    to_server.shutdown(Shutdown::Now);
    to_client.shutdown(Shutdown::Now);
    // The end of each stream is reported before the end of the session.
    streams.shutdown().await;
    drop((failed, unseen));
    // Each has its own limit, and the last bytes are written until then.
    _ = tokio::join!(driver, driver_to_server);
}

/// Waits until the server has read everything of a client that has left, if all its streams have
/// ended: a transport that is closed before that can lose what it holds. A server that is slow has
/// the same time as one whose ports are slow. The end of its session ends this, and nothing else
/// can happen meanwhile.
async fn settle(to_server: &Session, taken: &Taken) {
    if taken.is_idle() {
        _ = taken.last(to_server.ping()).await;
    }
}

/// Opens a stream at the server as the client has opened it. Returns the future that relays it.
fn begin(
    stream: PendingStream,
    sessions: (Session, Session),
    watched: Watched,
) -> impl Future<Output = Option<SendStream>> + Send + use<> {
    let how = OpenOptions::new().priority(stream.priority());
    // This call decides the order of streams.
    let opening = sessions.1.open(stream.headers().clone(), how);
    pass(stream, opening, sessions, watched)
}

/// A stream that was reported to the tap. Its end is reported when this is dropped.
struct Watched {
    id: StreamId,
    watch: Arc<Watch>,
    outcome: Option<Outcome>,
    _passing: server::Passing,
}

impl Watched {
    fn new(stream: &PendingStream, watch: &Arc<Watch>) -> Result<Self, Panicked> {
        watch.tell(|tap| tap.opened(stream.id(), stream.headers()))?;
        Ok(Self {
            id: stream.id(),
            outcome: watch.collect(stream.headers()),
            _passing: watch.taken().passing(),
            watch: Arc::clone(watch),
        })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        _ = self.watch.tell(|tap| tap.closed(self.id));
    }
}

/// Returns what the task of a stream has left.
fn look_at(ended: Result<Option<SendStream>, JoinError>) -> Option<SendStream> {
    ended.unwrap_or_else(|error| {
        tracing::warn!(target: "spdy", %error, "a relayed stream panicked");
        None
    })
}

/// Passes one stream until the server's direction has ended, and the client's direction has ended
/// or can have no more effect. Returns the client's stream if the server's direction has failed: it
/// stays open until the client's session has ended.
async fn pass(
    stream: PendingStream,
    opening: Opening,
    (to_client, to_server): (Session, Session),
    mut watched: Watched,
) -> Option<SendStream> {
    let outcome = watched.outcome.take();
    let (id, watch) = (watched.id, &watched.watch);
    let (from_client, reply) = stream.split();
    let Some((server, down)) = answer(opening, reply, &to_server).await else {
        tracing::debug!(target: "spdy", stream = %id, "stream is not relayed");
        return None;
    };
    let (from_server, up) = server.split();
    let up = async {
        let saw = |bytes: &[u8]| {
            watch.taken().pass(bytes.len());
            watch.tell(|tap| tap.passed(id, Side::Client, bytes))
        };
        let copied = copy(from_client, up, saw).await;
        copied.finish(&to_server, async {}).await;
    };
    let down = async {
        let mut outcome = outcome;
        let saw = |bytes: &[u8]| {
            watch.tell(|tap| tap.passed(id, Side::Server, bytes))?;
            if let Some(outcome) = &mut outcome {
                outcome.take(bytes);
            }
            Ok(())
        };
        let copied = copy(from_server, down, saw).await;
        if let (Some(outcome), Some(is_reset)) = (outcome, copied.is_reset())
            && let Some(status) = outcome.judge(is_reset)
        {
            watch.conclude(status);
        }
        // A reset would drop a reply that is not written. When the client has answered a PING, the
        // reply was written.
        let answered = async { _ = timeout(ANSWERED, to_client.ping()).await };
        copied.finish(&to_server, answered).await
    };
    let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
    let mut is_sending = true;
    let failed = loop {
        tokio::select! {
            () = &mut up, if is_sending => is_sending = false,
            failed = &mut down => break failed,
        }
    };
    if is_sending {
        tokio::select! {
            () = up => {}
            _ = to_server.closed() => {}
        }
    }
    failed
}

/// Replies to the client's stream as the server replies to its own. If the client resets the stream
/// before that, it is reset at the server: the reply might never come, and the stream would keep
/// its place.
async fn answer(
    opening: Opening,
    mut reply: SendReply,
    to_server: &Session,
) -> Option<(Stream, SendStream)> {
    // Without flow control a stream does not wait for its turn.
    let mut server = opening.await.ok()?;
    let headers = tokio::select! {
        headers = server.response_headers() => headers,
        why = poll_fn(|cx| reply.poll_closed(cx)) => {
            if matches!(why, StreamError::Session(_)) {
                // A reset would look like the end of an input.
                to_server.shutdown(Shutdown::Now);
            }
            server.reset(status_of(&why));
            return None;
        }
    };
    match headers {
        Ok(headers) => Some((server, reply.send_reply(headers, false).ok()?)),
        Err(error) => {
            reply.reset(status_of(&error));
            None
        }
    }
}

/// How the copying of one direction has ended, and where it went.
enum Copied {
    /// Its sender has finished it.
    Whole(SendStream),
    /// It was reset, by its sender or because the other direction was reset.
    Reset(SendStream, RstStatus, Initiator),
    /// It has failed: a session was lost, the sender has broken a rule, or the tap has panicked. A
    /// reset would look like the end of an input or an output, so the sessions have to end instead.
    Failed(SendStream),
    /// The receiver takes no more.
    Unwanted,
}

impl Copied {
    /// Returns whether the sender ended it with a reset. `None` means that it was not ended.
    fn is_reset(&self) -> Option<bool> {
        match self {
            Self::Whole(_) => Some(false),
            Self::Reset(_, _, Initiator::Remote) => Some(true),
            _ => None,
        }
    }

    fn failed(to: SendStream, error: &StreamError) -> Self {
        match error {
            StreamError::NotProcessed => {
                Self::Reset(to, RstStatus::REFUSED_STREAM, Initiator::Remote)
            }
            StreamError::Reset {
                initiator: Initiator::Library { .. },
                ..
            } => Self::Failed(to),
            StreamError::Reset { status, initiator } => Self::Reset(to, *status, *initiator),
            _ => Self::Failed(to),
        }
    }

    /// Ends the stream of the receiver in the same way, after all bytes before it are written. A
    /// reset also waits for `answered`. After a failure this returns the stream, and the session
    /// with the server is broken off.
    async fn finish(
        self,
        to_server: &Session,
        answered: impl Future<Output = ()>,
    ) -> Option<SendStream> {
        match self {
            Self::Whole(mut to) => _ = to.written().await,
            Self::Reset(mut to, status, _) => {
                _ = to.flush().await;
                answered.await;
                to.reset(status);
            }
            Self::Failed(mut to) => {
                to_server.shutdown(Shutdown::Now);
                _ = to.flush().await;
                return Some(to);
            }
            Self::Unwanted => {}
        }
        None
    }
}

/// Copies one direction to its end. What `saw` has not seen does not pass.
async fn copy(
    mut from: RecvStream,
    mut to: SendStream,
    mut saw: impl FnMut(&[u8]) -> Result<(), Panicked>,
) -> Copied {
    let mut room = MAX_HEADERS;
    while let Some(received) = from.next().await {
        let sent = match received {
            Ok(Received::Data(piece)) => {
                if saw(&piece).is_err() {
                    return Copied::Failed(to);
                }
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
                None => return Copied::Failed(to),
            },
            Err(error) => return Copied::failed(to, &error),
        };
        if sent.is_err() {
            return Copied::Unwanted;
        }
    }
    match to.finish() {
        Ok(()) => Copied::Whole(to),
        Err(_) => Copied::Unwanted,
    }
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

/// The field in which a refusal lists the accepted protocols.
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
