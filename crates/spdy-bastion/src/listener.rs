//! Connections of clients: accepted within a limit, secured, and served over HTTP/1.1 or HTTP/2.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use spdy_tower::Http1Io;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    gateway::{Gateway, Peer},
    tls::H2,
    upstream::Body,
    users::Credentials,
};

/// Serves the connections of clients.
pub(crate) struct Listener {
    pub(crate) gateway: Arc<Gateway>,
    /// True when no more connections and requests are accepted.
    pub(crate) stop: watch::Receiver<bool>,
}

impl Listener {
    /// Accepts connections until it is stopped. Then it returns those that are open, which end when
    /// their requests have ended.
    pub(crate) async fn run(self, socket: TcpListener) -> JoinSet<()> {
        let places = Arc::new(Semaphore::new(self.gateway.limits.connections));
        let this = Arc::new(self);
        let mut open = JoinSet::new();
        let mut stopped = pin!(until(this.stop.clone()));
        loop {
            while open.try_join_next().is_some() {}
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                let place = place.expect("the semaphore is never closed");
                (place, socket.accept().await)
            };
            let (place, accepted) = tokio::select! {
                accepted = accepted => accepted,
                () = &mut stopped => return open,
            };
            match accepted {
                Ok((socket, address)) => {
                    let this = Arc::clone(&this);
                    open.spawn(async move {
                        this.serve(socket, address).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "connection cannot be accepted");
                    // If no more files can be opened, the next attempt fails at once.
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn serve(&self, socket: TcpStream, address: SocketAddr) {
        let _open = self.gateway.metrics.connection();
        _ = socket.set_nodelay(true);
        keep_alive(&socket);
        let served = match self.gateway.tls() {
            Some(tls) => self.secure(socket, address, tls).await,
            None => {
                let credentials = Credentials {
                    is_plain: true,
                    certificate: None,
                };
                self.http1(
                    socket,
                    Peer {
                        address,
                        credentials,
                    },
                )
                .await
            }
        };
        if let Err(error) = served {
            tracing::debug!(from = %address, error, "connection has failed");
        }
    }

    async fn secure(
        &self,
        socket: TcpStream,
        address: SocketAddr,
        tls: Arc<ServerConfig>,
    ) -> Result<(), spdy_kube::BoxError> {
        let limit = self.gateway.limits.handshake;
        let io = timeout(limit, TlsAcceptor::from(tls).accept(socket)).await??;
        let connection = io.get_ref().1;
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        let peer = Peer {
            address,
            credentials: Credentials {
                is_plain: false,
                certificate: certificate.map(|certificate| certificate.to_vec()),
            },
        };
        match connection.alpn_protocol() == Some(H2) {
            true => self.http2(io, peer).await,
            false => self.http1(io, peer).await,
        }
    }

    async fn http1<IO>(&self, io: IO, peer: Peer) -> Result<(), spdy_kube::BoxError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new());
        builder.header_read_timeout(self.gateway.limits.head);
        let connection =
            builder.serve_connection(TokioIo::new(Http1Io::new(io)), self.service(peer));
        let mut connection = pin!(connection.with_upgrades());
        tokio::select! {
            served = &mut connection => return Ok(served?),
            () = until(self.stop.clone()) => connection.as_mut().graceful_shutdown(),
        }
        Ok(connection.await?)
    }

    async fn http2<IO>(&self, io: IO, peer: Peer) -> Result<(), spdy_kube::BoxError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new());
        builder.keep_alive_interval(HTTP2_PING);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(io), self.service(peer)));
        tokio::select! {
            served = &mut connection => return Ok(served?),
            () = until(self.stop.clone()) => connection.as_mut().graceful_shutdown(),
        }
        Ok(connection.await?)
    }

    fn service(
        &self,
        peer: Peer,
    ) -> impl hyper::service::Service<
        Request<Incoming>,
        Response = Response<Body>,
        Error = Infallible,
        Future = Answer,
    > + use<> {
        let (gateway, peer) = (Arc::clone(&self.gateway), Arc::new(peer));
        service_fn(move |request| -> Answer {
            let answer = Arc::clone(&gateway).answer(Arc::clone(&peer), request);
            Box::pin(async move { Ok(answer.await) })
        })
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// Waits until a value is true, or can never become true.
pub(crate) async fn until(mut stop: watch::Receiver<bool>) {
    _ = stop.wait_for(|stop| *stop).await;
}

/// Makes the system notice that the other side of a connection has disappeared.
pub(crate) fn keep_alive(socket: &TcpStream) {
    let keep_alive = TcpKeepalive::new()
        .with_time(KEEP_ALIVE)
        .with_interval(KEEP_ALIVE_AGAIN);
    let set: io::Result<()> = SockRef::from(socket).set_tcp_keepalive(&keep_alive);
    if let Err(error) = set {
        tracing::debug!(%error, "TCP keep-alive cannot be set");
    }
}

/// How long an attempt to accept waits after one that has failed.
const PAUSE: Duration = Duration::from_millis(100);

/// After how long without a byte a connection is probed.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// How long the system waits for the answer to a probe before it sends the next one.
const KEEP_ALIVE_AGAIN: Duration = Duration::from_secs(15);

/// How often a client over HTTP/2 is sent a PING. It has 20 s to answer, which is hyper's default.
const HTTP2_PING: Duration = Duration::from_secs(60);
