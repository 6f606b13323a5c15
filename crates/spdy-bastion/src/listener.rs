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
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use spdy_kube::{BoxError, Explained};
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
    http2::Ends,
    pieces::{Busy, Pieces},
    tls::H2,
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
                self.http1(socket, Peer::new(address, credentials)).await
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
    ) -> Result<(), BoxError> {
        let limit = self.gateway.limits.handshake;
        let io = timeout(limit, TlsAcceptor::from(tls).accept(socket)).await??;
        let connection = io.get_ref().1;
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        let credentials = Credentials {
            is_plain: false,
            certificate: certificate.map(|certificate| certificate.to_vec()),
        };
        let peer = Peer::new(address, credentials);
        match connection.alpn_protocol() == Some(H2) {
            true => self.http2(io, peer).await,
            false => self.http1(io, peer).await,
        }
    }

    async fn http1<IO>(&self, io: IO, peer: Peer) -> Result<(), BoxError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new());
        builder.header_read_timeout(self.gateway.limits.head);
        builder.max_buf_size(HEAD);
        let io = Explained::new(io).max_head(HEAD);
        let io = peer.cut.connection(io, self.gateway.limits.unread);
        let refused = peer.refused.subscribe();
        let connection =
            builder.serve_connection(TokioIo::new(Http1Io::new(io)), self.service(peer));
        let mut connection = pin!(connection.with_upgrades());
        tokio::select! {
            served = &mut connection => return Ok(served?),
            () = until(self.stop.clone()) => {}
            () = until(refused) => {}
        }
        connection.as_mut().graceful_shutdown();
        Ok(connection.await?)
    }

    async fn http2<IO>(&self, io: IO, peer: Peer) -> Result<(), BoxError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let refused = peer.refused.subscribe();
        let service = self.service(peer);
        let ends = Ends {
            stop: self.stop.clone(),
            refused,
            busy: service.busy.subscribe(),
            limit: self.gateway.limits.head,
        };
        ends.serve(io, service, self.gateway.limits.unread).await
    }

    fn service(&self, peer: Peer) -> Requests {
        Requests {
            gateway: Arc::clone(&self.gateway),
            peer: Arc::new(peer),
            busy: watch::Sender::new(0),
        }
    }
}

/// Answers the requests of a connection.
struct Requests {
    gateway: Arc<Gateway>,
    peer: Arc<Peer>,
    /// How many requests have no complete response.
    busy: watch::Sender<usize>,
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<Pieces>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let busy = Busy::new(&self.busy);
        let answer = Arc::clone(&self.gateway).answer(Arc::clone(&self.peer), request);
        Box::pin(async move { Ok(answer.await.map(|body| Pieces::new(body, busy))) })
    }
}

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

/// The most bytes of a head over HTTP/1.1, and of a body that is under way: a target of 64 KiB, and
/// as much for the fields.
const HEAD: usize = 128 * 1024;
