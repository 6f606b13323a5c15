//! The side that runs commands and makes connections.

mod command;
mod forward;
pub(crate) mod watch;
mod websocket;

use std::{io, pin::Pin, time::Duration};

use http::{HeaderValue, Request, Response, StatusCode};
use spdy_session::{Config, Rate};
use spdy_tower::upgrade::{self, OnSession};
use tokio::io::{AsyncRead, AsyncWrite};

use self::{command::Kind, forward::Connect};
use crate::{
    BoxError, Exit, Io, Protocol, Streams,
    negotiate::{self, PORT_FORWARD, Refusal, VERSION},
    options::NoStreams,
};

/// Answers requests for exec, attach and port-forward: a kubelet, a container runtime, or whoever is asked by kubectl.
///
/// Each method takes a request, gives the response to it, and does the rest on tasks of the tokio runtime it is called
/// in. The method, path and query of the request do not matter here: look at them before, with
/// [`Options`](crate::Options) or [`Tokens`](crate::Tokens). Requests that do not ask to upgrade properly get the
/// refusals of the servers of Kubernetes.
///
/// A `Server` is cheap to clone. Clones are the same.
#[derive(Clone, Debug)]
pub struct Server {
    config: Config,
    gather: Duration,
    grace: Duration,
    watch: Duration,
}

impl Server {
    /// A server that waits 30 s for streams, gives commands 10 s when their client is gone, and looks after clients that
    /// are held up each 10 s.
    #[must_use]
    pub fn new() -> Self {
        Self {
            config: config(),
            gather: GATHER,
            grace: GRACE,
            watch: WATCH,
        }
    }

    /// How long a client may take to open the streams that belong together.
    #[must_use]
    pub const fn gather(mut self, time: Duration) -> Self {
        self.gather = time;
        self
    }

    /// How long a command may go on when its client is gone. Then its future is dropped.
    #[must_use]
    pub const fn grace(mut self, time: Duration) -> Self {
        self.grace = time;
        self
    }

    /// How often a client is looked after whose connection is not read, because a command does not read its input or a
    /// target what is forwarded to it. One that is gone is noticed within about two of these times. Zero counts as 1 ms.
    #[must_use]
    pub const fn watch(mut self, period: Duration) -> Self {
        self.watch = period;
        self
    }

    /// The configuration of the sessions, instead of [`config()`](crate::config).
    #[must_use]
    pub fn session(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Answers a request for exec: `run` runs the command, with the `streams` that were asked for.
    ///
    /// The exit code that `run` gives, or the error, is told to the client when the outputs have ended. A client that
    /// goes before that is told of by [`Client`](crate::Client); reading and writing fail then; after
    /// [`grace`](Self::grace) the future is dropped. So a command must end when the future is: let it own the process
    /// by a guard that kills it.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
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
        self.command(
            request,
            Kind::Exec,
            streams,
            Box::new(|io| Box::pin(run(io))),
        )
    }

    /// Answers a request for attach: as [`exec`](Self::exec), but for a process that runs already. Success is that its
    /// output has ended.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
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
            Box::pin(async { joined.await.map(|()| Exit::SUCCESS) })
        });
        self.command(request, Kind::Attach, streams, run)
    }

    /// Answers a request for port-forward: `connect` makes a connection to a port of the pod, each time that somebody
    /// connects on the client's side. `pod` is how errors call it, such as `demo, uid 7d0f`.
    ///
    /// - Each side may finish first, and the other go on.
    /// - A port that cannot be connected to is told to the client. kubectl ends its session then, from 1.23 on.
    /// - One client that is slow at its end, or one target that does not read, holds up the connections beside it:
    ///   SPDY without windows cannot do otherwise.
    /// - When the client goes, all connections are dropped.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
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
        let (server, pod) = (self.clone(), pod.into());
        if websocket::is_asked(request) {
            return answer(
                websocket::accept(request, &[websocket::TUNNEL]),
                |upgraded, _| async move {
                    let transport = websocket::tunnel(upgraded).await?;
                    forward::serve(transport, &server, pod, connect).await;
                    Ok(())
                },
            );
        }
        answer(accept(request, &[PORT_FORWARD]), |upgraded, _| async move {
            forward::serve(upgraded.await?, &server, pod, connect).await;
            Ok(())
        })
    }

    fn command<B>(
        &self,
        request: &mut Request<B>,
        kind: Kind,
        streams: Streams,
        run: Run,
    ) -> Response<String> {
        if streams.is_empty() {
            return Refusal::new(StatusCode::BAD_REQUEST, NoStreams.to_string()).into_response();
        }
        let server = self.clone();
        if websocket::is_asked(request) {
            let accepted = websocket::accept(request, &OVER_WEBSOCKET);
            return answer(accepted, move |upgraded, chosen| async move {
                let protocol = Protocol::OVER_WEBSOCKET[chosen];
                websocket::serve(upgraded, &server, kind, protocol, streams, run).await
            });
        }
        answer(
            accept(request, &OVER_SPDY),
            move |upgraded, chosen| async move {
                let protocol = Protocol::OVER_SPDY[chosen];
                command::serve(upgraded.await?, &server, kind, protocol, streams, run).await;
                Ok(())
            },
        )
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

/// Gives the response to a request, and serves what it was upgraded to on a task.
fn answer<U, R>(
    accepted: Result<Accepted<U>, Refusal>,
    serve: impl FnOnce(U, usize) -> R,
) -> Response<String>
where
    R: Future<Output = io::Result<()>> + Send + 'static,
{
    let Accepted {
        response,
        upgraded,
        chosen,
    } = match accepted {
        Ok(accepted) => accepted,
        Err(refusal) => return refusal.into_response(),
    };
    let serving = serve(upgraded, chosen);
    tokio::spawn(async {
        if let Err(error) = serving.await {
            tracing::debug!(target: "spdy", %error, "request was not upgraded");
        }
    });
    response
}

/// A request that is upgraded.
struct Accepted<U> {
    response: Response<String>,
    upgraded: U,
    /// The place of the protocol among those that are supported.
    chosen: usize,
}

/// Accepts the upgrade to SPDY and one of the protocols that are supported.
fn accept<B>(
    request: &mut Request<B>,
    supported: &[&'static str],
) -> Result<Accepted<OnSession>, Refusal> {
    let (mut response, upgraded) =
        upgrade::accept(request).map_err(|error| Refusal(Box::new(error.into_response())))?;
    let chosen = negotiate::choose(request.headers(), supported)?;
    let name = HeaderValue::from_static(supported[chosen]);
    response.headers_mut().insert(VERSION, name);
    Ok(Accepted {
        response,
        upgraded,
        chosen,
    })
}

/// The configuration for sessions with kubectl and the like.
///
/// On top of [`upgrade::config`]: a peer that does not read may do so for hours, as a user may stop a terminal for; a
/// command may leave its input unread as long; and peers may open and reset streams as fast as connections to a
/// forwarded port come and go.
#[must_use]
pub fn config() -> Config {
    let mut config = upgrade::config();
    config.timeouts.write = Some(STALLED);
    config.timeouts.unread = None;
    config.limits.max_streams = MAX_STREAMS;
    config.limits.max_backlog = MAX_STREAMS as usize;
    config.limits.data_frame = DATA_FRAME;
    // What nobody wants is thrown away, however much: a reset would end the other direction too.
    config.limits.discard = u64::MAX;
    config.limits.peer_resets = OFTEN;
    config.limits.local_resets = OFTEN;
    config.limits.empty_frames = OFTEN;
    config
}

/// Runs a command or joins one.
type Run = Box<dyn FnOnce(Io) -> Running + Send>;

type Running = Pin<Box<dyn Future<Output = Result<Exit, BoxError>> + Send>>;

/// Something that can be forwarded to.
trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<IO: AsyncRead + AsyncWrite + Send + Unpin> Transport for IO {}

/// The names of [`Protocol::OVER_SPDY`].
const OVER_SPDY: [&str; 4] = {
    let [first, second, third, fourth] = Protocol::OVER_SPDY;
    [first.name(), second.name(), third.name(), fourth.name()]
};

/// The names of [`Protocol::OVER_WEBSOCKET`].
const OVER_WEBSOCKET: [&str; 2] = {
    let [first, second] = Protocol::OVER_WEBSOCKET;
    [first.name(), second.name()]
};

/// As in the servers of Kubernetes.
const GATHER: Duration = Duration::from_secs(30);

const GRACE: Duration = Duration::from_secs(10);

/// A few octets for each client that is held up, and a command that goes on for so long without its client.
pub(crate) const WATCH: Duration = Duration::from_secs(10);

/// As long as a session may be idle.
const STALLED: Duration = Duration::from_secs(4 * 60 * 60);

/// Two streams a forwarded connection: a thousand connections at once.
const MAX_STREAMS: u32 = 2000;

/// What Go sends, in octets.
const DATA_FRAME: usize = 32 * 1024;

const OFTEN: Rate = Rate {
    burst: 1_000_000,
    per_second: 100_000,
};
