//! The relay that translates between the protocols of both sides.

use std::future::Future;

use http::{Request, Response, StatusCode};
use hyper::rt::{Read, Write};
use spdy_tower::upgrade::ConnectError;

use super::{
    Tap,
    command::{CommandTap, Joined, Told},
    pass_streams, refuse, refused,
    tap::Watch,
};
use crate::{
    BoxError, Options, Server, Status, Streams,
    client::{Client, ClientError},
    server::Kind,
};

/// A relay between a client over SPDY or WebSocket and a server over SPDY or WebSocket. It stands
/// in front of an API server, a kubelet or a container runtime, and can record and end sessions.
///
/// It is a [`Server`] to the client and a [`Client`] to the server, each with its own settings.
///
/// This handler of an axum server records each command in a file, and a command that cannot be
/// recorded ends:
///
/// ```
/// use axum::extract::Request;
/// use http::Response;
/// use hyper_util::rt::TokioIo;
/// use spdy_kube::{Asciicast, BoxError, Options, Relay, Server, client};
/// use tokio::{fs::File, net::TcpStream};
///
/// async fn exec(mut request: Request, server: &str) -> Result<Response<String>, BoxError> {
///     let onward = client::request(&format!("http://{server}{}", request.uri()).parse()?);
///     let connect = || async { TcpStream::connect(server).await.map(TokioIo::new) };
///     let relay = Relay::new(Server::new(), client::Client::new(connect));
///     let query = request.uri().query().unwrap_or_default();
///     let streams = Options::from_query(query)?.streams;
///     let file = File::create_new("session.cast").await?;
///     let (tap, _written) = Asciicast::new().fail_closed(true).record(file);
///     Ok(relay.exec(&mut request, onward, streams, tap).await)
/// }
/// ```
///
/// - It translates between the two. A server over v5 of WebSocket or over SPDY gets the end of the
///   input, in whichever way the client expressed it. The client gets the outcome in its own
///   version.
/// - A side that does not read stops the other one, so the bytes under way are limited.
/// - The client gets a success only if the server has reported one, after both outputs have ended.
///   If the server is lost, the client gets a failure. If the client is lost, the relay breaks off
///   the session with the server, so its input does not look complete.
/// - A server over v4 of WebSocket cannot receive the end of the input. A [`Client`] uses v4 only
///   if it is set to use WebSocket alone. If the input ends then, the client gets a failure.
#[derive(Clone, Debug)]
pub struct Relay<C> {
    server: Server,
    client: Client<C>,
}

impl<C> Relay<C> {
    /// Creates a relay that serves clients with `server`, and sends requests with `client`.
    #[must_use]
    pub const fn new(server: Server, client: Client<C>) -> Self {
        Self { server, client }
    }
}

impl<C, F, IO, E> Relay<C>
where
    C: Fn() -> F,
    F: Future<Output = Result<IO, E>>,
    IO: Read + Write + Unpin + Send + 'static,
    E: Into<BoxError>,
{
    /// Answers a request for exec with the response of the server to `onward`, and then passes the
    /// streams.
    ///
    /// Make `onward` with [`client::request`](crate::client::request); it names the command and the
    /// container. `streams` have to be the streams of its query. If its query asks for others, the
    /// client is refused with 500, and the server gets no request. If the server refuses, the
    /// client gets the same refusal, and the first one if the server was asked for two transports.
    /// If the server cannot be reached, the client is refused with 502, and with 504 if the server
    /// does not answer in time.
    ///
    /// Dropping the future sends nothing more, and reports the end to the tap.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub async fn exec<B>(
        &self,
        request: &mut Request<B>,
        onward: Request<()>,
        streams: Streams,
        tap: impl CommandTap,
    ) -> Response<String> {
        self.command(request, onward, Kind::Exec, streams, tap)
            .await
    }

    /// Answers a request for attach, as [`exec`](Self::exec) does.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub async fn attach<B>(
        &self,
        request: &mut Request<B>,
        onward: Request<()>,
        streams: Streams,
        tap: impl CommandTap,
    ) -> Response<String> {
        self.command(request, onward, Kind::Attach, streams, tap)
            .await
    }

    async fn command<B>(
        &self,
        request: &mut Request<B>,
        onward: Request<()>,
        kind: Kind,
        streams: Streams,
        tap: impl CommandTap,
    ) -> Response<String> {
        let told = Told::new(tap, kind);
        if !is_query_of(&onward, streams) {
            let status = Status::internal("request to the server asks for other streams");
            return told.refuse(status.into_response());
        }
        let accepted = match self.server.accept_command(request, kind, streams) {
            Ok(accepted) => accepted,
            Err(refusal) => return told.refuse(refusal.into_response()),
        };
        match self.client.exec(onward, streams).await {
            Ok(remote) => {
                let joined = Joined::new(remote, told);
                accepted.run(Box::new(|io| Box::pin(joined.run(io))))
            }
            Err(error) => told.refuse(answer(error)),
        }
    }

    /// Answers a request for port-forward with the response of the server to `onward`, and then
    /// passes the streams, as [`relay`](crate::relay()) does. The server is asked for SPDY,
    /// directly or in a WebSocket. A client over WebSocket without SPDY is translated: each port of
    /// its query is a connection, whose streams the tap sees.
    ///
    /// If such a client closes its connection, the server still gets the rest of all inputs. The
    /// relay does not see what ports take of the bytes that the server holds. So it waits 30 s from
    /// the last bytes that it could pass on, and a second more for each 100 bytes, at most
    /// 10,000 s: a port that takes 100 bytes a second gets everything. It waits no longer than 4 h
    /// in all.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub async fn port_forward<B>(
        &self,
        request: &mut Request<B>,
        onward: Request<()>,
        tap: impl Tap,
    ) -> Response<String> {
        let watch = Watch::new(tap);
        let accepted = match self.server.accept_forward(request) {
            Ok(accepted) => accepted,
            Err(refusal) => return refuse(watch, refusal.into_response()),
        };
        match self.client.forward(onward).await {
            Ok(forward) => {
                let server = forward.into_session();
                accepted.run(|client, config, taken| {
                    pass_streams(client, config, server, watch.counting(taken))
                })
            }
            Err(error) => refuse(watch, answer(error)),
        }
    }
}

/// Returns whether the query of a request asks for these streams. A request to a container runtime
/// has no query.
fn is_query_of(onward: &Request<()>, streams: Streams) -> bool {
    let Some(query) = onward.uri().query() else {
        return true;
    };
    let asked = Options::from_query(query).map(|options| options.streams);
    let stderr = streams.has_stderr();
    asked == Ok(Streams { stderr, ..streams })
}

/// Returns the response for the client if the server refuses to upgrade or does not answer.
fn answer(error: ClientError) -> Response<String> {
    match error {
        ClientError::Connect(error @ ConnectError::Refused(_)) => refused(error),
        error => {
            tracing::debug!(target: "spdy", %error, "server cannot be asked");
            let mut response = Response::new(format!("{error}\n"));
            *response.status_mut() = match error {
                ClientError::NoAnswer => StatusCode::GATEWAY_TIMEOUT,
                _ => StatusCode::BAD_GATEWAY,
            };
            response
        }
    }
}
