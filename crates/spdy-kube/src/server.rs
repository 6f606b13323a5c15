//! The side that runs commands and makes connections.

mod accept;
mod command;
mod counted;
mod forward;
mod heard;
mod session;
mod sessions;
mod settings;
mod spdy;
mod taken;
mod websocket;

use std::{pin::pin, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::upgrade::OnUpgrade;
use spdy_session::Config;
use spdy_tower::upgrade::OnSession;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::AbortHandle,
    time::timeout,
};

pub use self::session::{Ended, Over};
use self::{
    accept::{Accepted, accept, answer},
    forward::{Connect, Forwarder, Transport},
    settings::Settings,
};
pub(crate) use self::{
    command::{Done, Kind, Run},
    session::{Rules, Session, shutting_down},
    sessions::Sessions,
    taken::{Passing, Taken},
};
use crate::{
    BoxError, Exit, Io, Ports, Protocol, Status, Streams,
    client::Forward,
    config::config,
    negotiate::{PORT_FORWARD, Refusal, asks_for_websocket},
    options::NoStreams,
    websocket::{MAX_MESSAGE, Subprotocol, Tally, WebSocketCounters},
};

/// Answers requests for exec, attach and port-forward, as a kubelet or a container runtime does.
///
/// Each method takes a request, returns its response, and does the work in tasks of the tokio
/// runtime in which it is called. The method, the path and the query of the request are not checked
/// here. Check them before, with [`Options`](crate::Options) or [`Tokens`](crate::Tokens). A
/// request with an invalid upgrade gets the same refusal as from the servers of Kubernetes.
///
/// A `Server` is cheap to clone. Clones have the same settings.
#[derive(Clone, Debug)]
pub struct Server(Settings);

impl Server {
    /// Creates a server that waits 30 s for streams, gives a command 10 s after its client is gone,
    /// and probes clients that are not read every 5 s.
    #[must_use]
    pub fn new() -> Self {
        Self(Settings {
            config: config(),
            gather: GATHER,
            grace: GRACE,
            ports: None,
            max_message: MAX_MESSAGE,
            drain: None,
            tally: Tally::default(),
            session: Session::default(),
        })
    }

    /// Sets how long a client may take to open all streams that belong together.
    #[must_use]
    pub const fn gather(mut self, time: Duration) -> Self {
        self.0.gather = time;
        self
    }

    /// Sets how long a command may go on after its client is gone. After that its future is
    /// dropped.
    #[must_use]
    pub const fn grace(mut self, time: Duration) -> Self {
        self.0.grace = time;
        self
    }

    /// Sets how often the server probes a client whose connection is not read, because a command
    /// does not read its input or a target does not read forwarded bytes. A client that is gone is
    /// noticed within about two of these periods. Less than 10 ms counts as 10 ms.
    ///
    /// This is `timeouts.probe` of the sessions' configuration, which [`session`](Self::session)
    /// sets as well.
    #[must_use]
    pub const fn watch(mut self, period: Duration) -> Self {
        self.0.config.timeouts.probe = Some(period);
        self
    }

    /// Sets the largest message of a WebSocket, in bytes. A longer one ends the connection with
    /// status 1009; if the messages carry SPDY, without a status. The default is 32 MiB, as in the
    /// servers of Kubernetes, because some clients send a file as one message.
    ///
    /// A client can make the server hold three such messages: one that the command reads, one that
    /// is queued, and one that has arrived.
    #[must_use]
    pub const fn max_message(mut self, bytes: usize) -> Self {
        self.0.max_message = bytes;
        self
    }

    /// Sets how long [`Io::run`] reads the outputs of a command after the end of the command, while
    /// another process keeps them open. `None`, which is the default, means to their end, as the
    /// container runtimes of today do. The client can leave at any time.
    #[must_use]
    pub const fn drain(mut self, time: Option<Duration>) -> Self {
        self.0.drain = time;
        self
    }

    /// Sets counters for WebSockets. Several servers can share them. `counters` of the sessions'
    /// configuration counts what passes over SPDY.
    #[must_use]
    pub fn web_socket_counters(mut self, counters: Arc<WebSocketCounters>) -> Self {
        self.0.tally = Tally::new(counters);
        self
    }

    /// Sets the ports of port-forward over WebSocket without SPDY. They replace the ports of the
    /// query. A container runtime needs this, because it got the ports before, with the token.
    #[must_use]
    pub fn ports(mut self, ports: Ports) -> Self {
        self.0.ports = Some(ports);
        self
    }

    /// Sets the configuration of the sessions, which replaces [`config()`](crate::config). For a
    /// WebSocket, `timeouts.write` also limits how long the client may take for one message, and
    /// `timeouts.probe` sets how often the client is probed.
    #[must_use]
    pub fn session(mut self, config: Config) -> Self {
        self.0.config = config;
        self
    }

    /// Answers a request for exec. `run` runs the command with the `streams` that were asked for.
    ///
    /// When the outputs have ended, the client gets the exit code or the error that `run` returns.
    /// If the client leaves before that, [`Client`](crate::Client) signals it, and reading and
    /// writing fail. After [`grace`](Self::grace) the future is dropped. So the command must end
    /// when its future is dropped: let the future own the process through a guard that kills it.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn exec<B, F, R>(
        &self,
        request: &mut Request<B>,
        streams: Streams,
        run: F,
    ) -> Response<String>
    where
        F: FnOnce(Io) -> R + Send + 'static,
        R: Future<Output = Result<Exit, BoxError>> + Send + 'static,
    {
        let run: Run = Box::new(|io| {
            let ended = run(io);
            Box::pin(async { Kind::Exec.outcome(ended.await).into() })
        });
        self.command(request, Kind::Exec, streams, run)
    }

    /// Answers a request for attach, as [`exec`](Self::exec) does, but for a process that runs
    /// already. The outcome is success when its output has ended.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn attach<B, F, R>(
        &self,
        request: &mut Request<B>,
        streams: Streams,
        join: F,
    ) -> Response<String>
    where
        F: FnOnce(Io) -> R + Send + 'static,
        R: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let run: Run = Box::new(|io| {
            let joined = join(io);
            Box::pin(async {
                let joined = joined.await.map(|()| Exit::SUCCESS);
                Kind::Attach.outcome(joined).into()
            })
        });
        self.command(request, Kind::Attach, streams, run)
    }

    /// Answers a request for port-forward. `connect` makes a connection to a port of the pod, once
    /// for each connection on the client's side. `pod` is the name of the pod in error messages,
    /// such as `demo, uid 7d0f`.
    ///
    /// - Either side can finish first, and the other side can go on. If the target has finished and
    ///   then takes nothing for 30 s, the connection is reset.
    /// - If a port cannot be connected to, or the connection panics, the client gets an error of at
    ///   most 64 KiB. kubectl then ends its session, since 1.23.
    /// - If the target resets its connection, the client's connection is reset. Over WebSocket
    ///   without SPDY, which has no resets, the client gets an error.
    /// - A slow client or a target that does not read delays the other connections of its session.
    ///   SPDY without windows cannot avoid that.
    /// - When the client leaves, its connections are dropped. A target still gets the input that
    ///   the client has finished, unless it takes nothing for 30 s or needs more than 4 h.
    /// - Over WebSocket without SPDY the query names the ports ([`Ports`]), and the server connects
    ///   to each port once, at the start. The client's connection ends when the last port has
    ///   ended. If the client closes its connection, all its inputs have ended, and they are
    ///   written to the ports, unless these take nothing for 30 s or need more than 4 h.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn port_forward<B, F, R, IO>(
        &self,
        request: &mut Request<B>,
        pod: impl Into<String>,
        connect: F,
    ) -> Response<String>
    where
        F: Fn(u16) -> R + Send + Sync + 'static,
        R: Future<Output = Result<IO, BoxError>> + Send + 'static,
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let connect: Connect = Box::new(move |port| {
            let connecting = connect(port);
            Box::pin(async { Ok::<Box<dyn Transport>, _>(Box::new(connecting.await?)) })
        });
        let forwarder = Forwarder::new(pod.into(), connect, self.0.session.clone());
        match self.accept_forward(request) {
            Ok(accepted) => accepted.serve(forwarder),
            Err(refusal) => refusal.into_response(),
        }
    }

    /// Sets the session that the next request belongs to. It replaces the idle time of the
    /// sessions' configuration.
    pub(crate) fn of_session(mut self, session: Session) -> Self {
        self.0.session = session;
        self.0.config.timeouts.idle = None;
        self
    }

    fn command<B>(
        &self,
        request: &mut Request<B>,
        kind: Kind,
        streams: Streams,
        run: Run,
    ) -> Response<String> {
        match self.accept_command(request, kind, streams) {
            Ok(accepted) => accepted.run(run),
            Err(refusal) => refusal.into_response(),
        }
    }

    /// Accepts a request for exec or attach. Nothing is served before [`Command::run`].
    pub(crate) fn accept_command<B>(
        &self,
        request: &mut Request<B>,
        kind: Kind,
        streams: Streams,
    ) -> Result<Command, Refusal> {
        if streams.is_empty() {
            let status = Status::bad_request(NoStreams.to_string());
            return Err(Refusal::status(status));
        }
        let accepted = if asks_for_websocket(request) {
            OverAny::WebSocket(websocket::accept(request, &Subprotocol::COMMAND)?)
        } else {
            OverAny::Spdy(accept(request, &Protocol::OVER_SPDY, Protocol::name)?)
        };
        Ok(Command {
            settings: self.0.clone(),
            kind,
            streams,
            accepted,
        })
    }
}

/// An accepted request for exec or attach. If it is dropped, the connection is not upgraded.
pub(crate) struct Command {
    settings: Settings,
    kind: Kind,
    streams: Streams,
    accepted: OverAny,
}

enum OverAny {
    Spdy(Accepted<OnSession, Protocol>),
    WebSocket(Accepted<OnUpgrade, Subprotocol>),
}

impl Command {
    /// Returns the response, and runs the command in a task.
    pub(crate) fn run(self, run: Run) -> Response<String> {
        let Self {
            settings,
            kind,
            streams,
            accepted,
        } = self;
        match accepted {
            OverAny::Spdy(accepted) => answer(
                Ok(accepted),
                settings,
                move |settings, upgraded, protocol| async move {
                    let transport = settings.spdy(upgraded).await?;
                    spdy::serve(transport, &settings, kind, protocol, streams, run).await;
                    Ok(())
                },
            ),
            OverAny::WebSocket(accepted) => answer(
                Ok(accepted),
                settings,
                move |settings, upgraded, chosen| async move {
                    websocket::serve_command(upgraded, &settings, kind, chosen, streams, run).await
                },
            ),
        }
    }
}

impl Server {
    /// Accepts a request for port-forward. Nothing is served before a method of [`Forwarding`] is
    /// called.
    pub(crate) fn accept_forward<B>(
        &self,
        request: &mut Request<B>,
    ) -> Result<Forwarding, Refusal> {
        let over = match asks_for_websocket(request) {
            true => self.accept_forward_over_websocket(request)?,
            false => {
                let accepted = accept(request, &[()], |()| PORT_FORWARD)?;
                ForwardOver::Spdy(OverSpdy::Plain(accepted))
            }
        };
        Ok(Forwarding {
            settings: self.0.clone(),
            over,
        })
    }

    fn accept_forward_over_websocket<B>(
        &self,
        request: &mut Request<B>,
    ) -> Result<ForwardOver, Refusal> {
        let accepted = websocket::accept(request, &Subprotocol::FORWARD)?;
        if accepted.chosen == Subprotocol::Tunnel {
            return Ok(ForwardOver::Spdy(OverSpdy::Tunnel(accepted)));
        }
        // Only SPDY can name the ports later.
        let ports = match &self.0.ports {
            Some(ports) => ports.clone(),
            None => Ports::from_query(request.uri().query().unwrap_or_default())
                .map_err(|error| Refusal::status(Status::bad_request(error.to_string())))?,
        };
        Ok(ForwardOver::Ports(accepted, ports))
    }
}

/// An accepted request for port-forward. If it is dropped, the connection is not upgraded.
pub(crate) struct Forwarding {
    settings: Settings,
    over: ForwardOver,
}

enum ForwardOver {
    Spdy(OverSpdy),
    /// Without SPDY.
    Ports(Accepted<OnUpgrade, Subprotocol>, Ports),
}

enum OverSpdy {
    Plain(Accepted<OnSession, ()>),
    Tunnel(Accepted<OnUpgrade, Subprotocol>),
}

impl Forwarding {
    /// Returns the response, and connects to the ports in a task.
    fn serve(self, forwarder: Forwarder) -> Response<String> {
        match self.over {
            ForwardOver::Spdy(over) => over.run(self.settings, |client, settings| async move {
                forward::serve(client, &settings, forwarder).await;
            }),
            ForwardOver::Ports(accepted, ports) => answer(
                Ok(accepted),
                self.settings,
                |settings, upgraded, chosen| async move {
                    let taken = Taken::default();
                    websocket::serve_ports(upgraded, &settings, chosen, ports, forwarder, taken)
                        .await
                },
            ),
        }
    }

    /// Returns the response, and serves a transport of SPDY in a task. A client without SPDY is
    /// translated: each of its ports is a connection over SPDY. `serve` counts the bytes that the
    /// ports take.
    pub(crate) fn run<R>(
        self,
        serve: impl FnOnce(Box<dyn Transport>, Config, Taken) -> R + Send + 'static,
    ) -> Response<String>
    where
        R: Future<Output = ()> + Send + 'static,
    {
        match self.over {
            ForwardOver::Spdy(over) => over.run(self.settings, |client, settings| {
                serve(client, settings.config, Taken::default())
            }),
            ForwardOver::Ports(accepted, ports) => answer(
                Ok(accepted),
                self.settings,
                |settings, upgraded, chosen| async move {
                    let (near, far) = tokio::io::duplex(TRANSLATED);
                    let taken = Taken::default();
                    let serving = serve(Box::new(far), settings.config.clone(), taken.clone());
                    let forward = Forward::over(near);
                    let driver = forward.driver();
                    let forwarder = Forwarder::over_spdy(forward, settings.session.clone());
                    let translating = websocket::serve_ports(
                        upgraded, &settings, chosen, ports, forwarder, taken,
                    );
                    translate(translating, serving, &driver).await
                },
            ),
        }
    }
}

/// Waits for both sides of a translation. `driver` drives the session between them.
async fn translate<T>(
    translating: impl Future<Output = T>,
    serving: impl Future<Output = ()>,
    driver: &AbortHandle,
) -> T {
    let (mut translating, mut serving) = (pin!(translating), pin!(serving));
    let translated = tokio::select! {
        translated = &mut translating => translated,
        () = &mut serving => return translating.await,
    };
    if timeout(ENDED, &mut serving).await.is_err() {
        // A side that is held up does not read, and so would not see the end of the session.
        driver.abort();
        serving.await;
    }
    translated
}

impl OverSpdy {
    fn run<R>(
        self,
        settings: Settings,
        serve: impl FnOnce(Box<dyn Transport>, Settings) -> R + Send + 'static,
    ) -> Response<String>
    where
        R: Future<Output = ()> + Send + 'static,
    {
        match self {
            Self::Plain(accepted) => answer(
                Ok(accepted),
                settings,
                |settings, upgraded, ()| async move {
                    let transport = settings.spdy(upgraded).await?;
                    serve(Box::new(transport), settings).await;
                    Ok(())
                },
            ),
            Self::Tunnel(accepted) => {
                answer(Ok(accepted), settings, |settings, upgraded, _| async move {
                    let transport = websocket::tunnel(upgraded, &settings).await?;
                    serve(Box::new(transport), settings).await;
                    Ok(())
                })
            }
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

/// How many bytes are on the way between a client without SPDY and a relay, in each direction.
const TRANSLATED: usize = 64 * 1024;

/// The same time as in the servers of Kubernetes.
const GATHER: Duration = Duration::from_secs(30);

/// How long the session of a translation may take to end after its client.
const ENDED: Duration = Duration::from_secs(5);

const GRACE: Duration = Duration::from_secs(10);
