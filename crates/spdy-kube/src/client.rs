//! The client of exec, attach and port-forward, for tools and proxies.
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use hyper_util::rt::TokioIo;
//! use spdy_kube::{Options, Streams, client};
//! use tokio::{io::AsyncReadExt, net::TcpStream};
//!
//! let mut options = Options::default();
//! options.command = vec!["id".to_owned()];
//! options.streams = Streams { stdout: true, ..Streams::default() };
//! let query = options.to_query();
//! let pod = "http://127.0.0.1:8001/api/v1/namespaces/default/pods/demo";
//! let uri = format!("{pod}/exec?{query}").parse()?;
//! let client = client::Client::new(|| async {
//!     Ok::<_, std::io::Error>(TokioIo::new(TcpStream::connect("127.0.0.1:8001").await?))
//! });
//! let mut remote = client.exec(client::request(&uri), options.streams).await?;
//! let mut output = String::new();
//! if let Some(stdout) = &mut remote.stdout {
//!     stdout.read_to_string(&mut output).await?;
//! }
//! println!("{output}, {}", remote.outcome().await?);
//! # Ok(())
//! # }
//! ```
//!
//! [`Remote::copy`] passes the streams of a program on.
//!
//! A [`Client`] makes its own connections. It asks for WebSocket first, and for SPDY if the server
//! refuses that, as kubectl does. The functions [`exec()`], [`attach()`] and [`Forward::connect`]
//! use SPDY on one transport.

mod copy;
mod error;
mod forward;
mod remote;
mod spdy;
mod websocket;

use std::{future::Future, time::Duration};

use http::{Method, Request, Response, Uri};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use spdy_tower::upgrade::{self, ConnectError};
use tokio::time::timeout;

pub use self::{
    copy::CopyError,
    error::ClientError,
    forward::{Connection, Forward},
    remote::{Input, Output, Remote, Resizer},
    spdy::{attach, exec},
};
pub(crate) use self::{
    remote::{Breaking, MAX_STATUS, judge},
    spdy::{Begun, begin, chosen},
};
use crate::{
    BoxError, Streams,
    negotiate::{PORT_FORWARD, asks_for_websocket},
    websocket::Subprotocol,
};

/// Returns a request for a [`Client`], or for [`exec()`], [`attach()`] or [`Forward::connect`]. You
/// can add headers, such as `authorization`. A client that asks for WebSocket replaces the method
/// and the headers that belong to SPDY.
#[must_use]
pub fn request(uri: &Uri) -> Request<()> {
    let mut request = upgrade::request(uri);
    *request.method_mut() = Method::POST;
    request
}

/// The transports that a [`Client`] asks for. If the server refuses the first one and does not
/// accept the second one, or does not answer again, the error is the first refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// WebSocket, and SPDY if the server refuses WebSocket with any status.
    #[default]
    WebSocketFirst,
    /// SPDY, and WebSocket if the server refuses SPDY with any status.
    SpdyFirst,
    /// Only WebSocket.
    WebSocket,
    /// Only SPDY.
    Spdy,
}

impl Transport {
    /// Returns the transports for a relay that passes a request on: first the one that the request
    /// asks for, and then the other one. Streams that are not translated cost less.
    #[must_use]
    pub fn of<B>(request: &Request<B>) -> Self {
        match asks_for_websocket(request) {
            true => Self::WebSocketFirst,
            false => Self::SpdyFirst,
        }
    }
}

/// A client of servers that offer exec, attach and port-forward: an API server, a kubelet, a
/// container runtime.
///
/// `connect` makes a connection to the server. It is called for each request, and once more if the
/// server refuses the first one. It returns a future of any transport that hyper accepts, such as a
/// `TokioIo` of a TCP or TLS stream. TLS has to offer only `http/1.1` in ALPN.
#[derive(Clone, Debug)]
pub struct Client<C> {
    connect: C,
    transport: Transport,
    ping: Option<Duration>,
    timeout: Option<Duration>,
}

impl<C> Client<C> {
    /// Creates a client that asks for WebSocket first, sends a PING every 5 s, and gives a server
    /// 30 s to answer.
    #[must_use]
    pub const fn new(connect: C) -> Self {
        Self {
            connect,
            transport: Transport::WebSocketFirst,
            ping: Some(PING),
            timeout: Some(ANSWER),
        }
    }

    /// Sets the transports that the client asks for.
    #[must_use]
    pub const fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Sets how often a PING is sent, so that no proxy or firewall takes the connection for idle.
    /// `None` sends none. Less than 10 ms counts as 10 ms.
    ///
    /// Over SPDY a PING is sent when no frame has arrived for this long. The client does not wait
    /// for answers, because some servers do not answer while they are busy. But if the server is
    /// gone, the system notices that the PINGs are not acknowledged, on Linux after about 15
    /// minutes.
    #[must_use]
    pub const fn ping(mut self, period: Option<Duration>) -> Self {
        self.ping = period;
        self
    }

    /// Sets how long a server may take to accept a connection and answer a request, for each
    /// transport that is asked for. `None` waits for as long as the server does.
    #[must_use]
    pub const fn timeout(mut self, time: Option<Duration>) -> Self {
        self.timeout = time;
        self
    }
}

impl<C, F, IO, E> Client<C>
where
    C: Fn() -> F,
    F: Future<Output = Result<IO, E>>,
    IO: Read + Write + Unpin + Send + 'static,
    E: Into<BoxError>,
{
    /// Asks the server to run a command, and opens the command's streams. The path and the query of
    /// the request name the command and the container; `streams` have to be the streams of the
    /// query.
    ///
    /// Over WebSocket the client offers v5. It also offers v4 if there is no input or no other
    /// transport, because v4 cannot express the end of an input.
    ///
    /// # Errors
    ///
    /// [`ClientError`]. The command may have run. With [`Connect`](ClientError::Connect) it has run
    /// only if the server has upgraded to WebSocket, and its response was lost or came too late.
    pub async fn exec(
        &self,
        request: Request<()>,
        streams: Streams,
    ) -> Result<Remote, ClientError> {
        let has_v4 = !streams.stdin || self.transport == Transport::WebSocket;
        self.command(request, streams, has_v4).await
    }

    /// Runs [`exec`](Self::exec). `has_v4`: over WebSocket, v4 is offered as well.
    async fn command(
        &self,
        request: Request<()>,
        streams: Streams,
        has_v4: bool,
    ) -> Result<Remote, ClientError> {
        let offer = match has_v4 {
            true => &[Subprotocol::V5, Subprotocol::V4][..],
            false => &[Subprotocol::V5],
        };
        let over_spdy = spdy::PROTOCOLS.map(crate::Protocol::name);
        match self.upgrade(&request, offer, &over_spdy).await? {
            Upgrade::WebSocket(upgrade) => {
                let (socket, chosen) = upgrade.agree(offer).await?;
                Ok(websocket::exec(socket, chosen, streams, self.ping))
            }
            Upgrade::Spdy((response, (session, _))) => {
                spdy::open_streams(&response, session, streams).await
            }
        }
    }

    /// Attaches to a process, as [`exec`](Self::exec) does, with a request for attach.
    ///
    /// # Errors
    ///
    /// The same as [`exec`](Self::exec).
    pub async fn attach(
        &self,
        request: Request<()>,
        streams: Streams,
    ) -> Result<Remote, ClientError> {
        self.exec(request, streams).await
    }

    /// Starts a session over which connections to ports are made. Over WebSocket, SPDY is tunnelled
    /// through messages.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn forward(&self, request: Request<()>) -> Result<Forward, ClientError> {
        let offer = [Subprotocol::Tunnel];
        match self.upgrade(&request, &offer, &[PORT_FORWARD]).await? {
            Upgrade::WebSocket(upgrade) => {
                let (socket, _) = upgrade.agree(&offer).await?;
                Ok(Forward::tunnelled(socket, self.ping))
            }
            Upgrade::Spdy(upgrade) => Forward::agreed(upgrade),
        }
    }

    /// Asks over the transports in their order, until the server upgrades. What fails after that is
    /// no reason to ask again, or to say that it was refused: the command may run.
    async fn upgrade(
        &self,
        request: &Request<()>,
        subprotocols: &[Subprotocol],
        protocols: &[&'static str],
    ) -> Result<Upgrade, ClientError> {
        let over_websocket = self.in_time(async {
            let upgrade = websocket::connect(self.connect().await?, request, subprotocols).await?;
            Ok(Upgrade::WebSocket(upgrade))
        });
        let over_spdy = self.in_time(async {
            let (transport, request) = (self.connect().await?, request.clone());
            let upgrade = spdy::connect(transport, request, protocols, self.ping).await?;
            Ok(Upgrade::Spdy(upgrade))
        });
        match self.transport {
            Transport::WebSocketFirst => either(over_websocket, over_spdy).await,
            Transport::SpdyFirst => either(over_spdy, over_websocket).await,
            Transport::WebSocket => over_websocket.await,
            Transport::Spdy => over_spdy.await,
        }
    }

    async fn connect(&self) -> Result<TokioIo<IO>, ConnectError> {
        match (self.connect)().await {
            Ok(transport) => Ok(TokioIo::new(transport)),
            Err(error) => Err(ConnectError::Transport(error.into())),
        }
    }

    async fn in_time<T>(
        &self,
        asked: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ClientError> {
        let answer = match self.timeout {
            Some(time) => timeout(time, asked)
                .await
                .map_err(|_| ClientError::NoAnswer)?,
            None => asked.await,
        };
        Ok(answer?)
    }
}

/// What a server has upgraded to.
enum Upgrade {
    WebSocket(websocket::Upgrade),
    Spdy((Response<()>, Begun)),
}

/// Asks in one way, and in another one if that is refused. Without an upgrade the error is the
/// first refusal: a server that does not have the pod says so the first time, and the second answer
/// can be about the transport alone.
async fn either(
    first: impl Future<Output = Result<Upgrade, ClientError>>,
    second: impl Future<Output = Result<Upgrade, ClientError>>,
) -> Result<Upgrade, ClientError> {
    let refusal = match first.await {
        Err(error) if error.http_status().is_some() => error,
        answer => return answer,
    };
    tracing::debug!(target: "spdy", %refusal, "server refuses a transport, the other one is asked for");
    second.await.map_err(|error| {
        tracing::debug!(target: "spdy", %error, "server does not upgrade to the other one either");
        refusal
    })
}

/// The same period as client-go.
const PING: Duration = Duration::from_secs(5);

/// How long a server may take to answer a request, or a stream.
const ANSWER: Duration = Duration::from_secs(30);
