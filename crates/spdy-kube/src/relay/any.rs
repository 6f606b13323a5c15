//! The relay that speaks with each side what that side speaks.

use std::{future::Future, sync::Arc};

use http::{Request, Response, StatusCode};
use hyper::rt::{Read, Write};
use spdy_tower::upgrade::ConnectError;

use super::{
    Tap,
    command::{CommandTap, Joined, Told},
    pass_streams, refused,
};
use crate::{
    BoxError, Options, Server, Status, Streams,
    client::{Client, ClientError},
    server::Kind,
};

/// A relay between any two: a client over SPDY or WebSocket, and a server over SPDY or WebSocket. It stands in front of an
/// API server, a kubelet or a container runtime, and can record and end sessions.
///
/// It is a [`Server`] to the client and a [`Client`] to the server, each with its own settings:
///
/// - What differs between them is translated: the end of the input is told to a server over v5 of WebSocket or over SPDY,
///   whichever way the client has told it; the outcome is told in the version that the client speaks.
/// - A side that waits holds up the other; the bytes under way are bounded.
/// - The client is told a success only if the server has told one, after both outputs have ended. When the server is
///   lost, the client is told a failure. When the client is lost, the session with the server is broken off, and its
///   input does not look as if it had ended.
/// - A server over v4 of WebSocket, which a [`Client`] asks for alone if it is told to, cannot be told the end of the input:
///   the client is told a failure then.
#[derive(Clone, Debug)]
pub struct Relay<C> {
    server: Server,
    client: Client<C>,
}

impl<C> Relay<C> {
    /// Returns a relay. `server` is how clients are served, and `client` how the server is asked.
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
    /// Answers a request for exec by what the server answers to `onward`, and passes the streams from then on.
    ///
    /// `onward` says what is asked for and where: make it with [`client::request`](crate::client::request). The
    /// `streams` have to be those of its query; where it has one that says something else, the client is refused with
    /// 500 and the server is not asked. What the server refuses, the client is refused in the same way. When no answer
    /// comes it is refused with 502.
    ///
    /// Dropped before it is ready, it asks for nothing more, and the tap is told of the end.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
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

    /// Answers a request for attach: as [`exec`](Self::exec).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
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
        let told = Told::new(tap);
        if !is_query_of(&onward, streams) {
            let status = Status::internal("request to the server asks for other streams");
            told.refuse(status.clone());
            return status.into_response();
        }
        let accepted = match self.server.accept_command(request, kind, streams) {
            Ok(accepted) => accepted,
            Err(refusal) => return refusal.into_response(),
        };
        match self.client.exec(onward, streams).await {
            Ok(remote) => {
                let joined = Joined::new(remote, told);
                accepted.run(Box::new(|io| Box::pin(joined.run(io))))
            }
            Err(error) => {
                told.refuse(error.refusal().unwrap_or_else(|| Status::internal(&error)));
                answer(error)
            }
        }
    }

    /// Answers a request for port-forward by what the server answers to `onward`, and passes the streams from then on, as
    /// [`relay`](crate::relay()) does. Each side speaks SPDY, over WebSocket or without it. A client that asks for WebSocket
    /// without SPDY is refused with 403.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn port_forward<B>(
        &self,
        request: &mut Request<B>,
        onward: Request<()>,
        tap: impl Tap,
    ) -> Response<String> {
        let accepted = match self.server.accept_forward(request) {
            Ok(accepted) => accepted,
            Err(refusal) => return refusal.into_response(),
        };
        match self.client.forward(onward).await {
            Ok(forward) => {
                let server = forward.into_session();
                let tap = Arc::new(tap);
                accepted.run(|client, config| pass_streams(client, config, server, tap))
            }
            Err(error) => answer(error),
        }
    }
}

/// Whether the query of a request asks for these streams. A container runtime gets none.
fn is_query_of(onward: &Request<()>, streams: Streams) -> bool {
    let Some(query) = onward.uri().query() else {
        return true;
    };
    let asked = Options::from_query(query).map(|options| options.streams);
    let stderr = streams.has_stderr();
    asked == Ok(Streams { stderr, ..streams })
}

/// What the client is told when the server does not upgrade, or not answer.
fn answer(error: ClientError) -> Response<String> {
    match error {
        ClientError::Connect(error @ ConnectError::Refused(_)) => refused(error),
        error => {
            tracing::debug!(target: "spdy", %error, "server cannot be asked");
            let mut response = Response::new(format!("{error}\n"));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    }
}
