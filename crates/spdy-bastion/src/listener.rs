//! Connections of clients: accepted within a limit, secured, and served over HTTP/1.1 or HTTP/2.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::{Frame, Incoming, SizeHint},
    server::conn::{http1, http2},
    service::Service,
};
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
    tls::H2,
    unread::{self, Tasks},
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
        let busy = service.busy.subscribe();
        let settings = http2_settings(self.gateway.limits.unread);
        let mut connection = pin!(settings.serve_connection(TokioIo::new(io), service));
        let limit = self.gateway.limits.head;
        tokio::select! {
            served = &mut connection => return Ok(served?),
            () = until(self.stop.clone()) => {
                connection.as_mut().graceful_shutdown();
                return Ok(connection.await?);
            }
            () = until(refused) => {}
            () = idle(busy.clone(), limit) => {}
        }
        connection.as_mut().graceful_shutdown();
        // A request can arrive meanwhile. A client that has not begun to speak HTTP/2 gets nothing,
        // and its connection would stay.
        tokio::select! {
            served = &mut connection => Ok(served?),
            () = idle(busy, limit) => Ok(()),
        }
    }

    fn service(&self, peer: Peer) -> Requests {
        Requests {
            gateway: Arc::clone(&self.gateway),
            peer: Arc::new(peer),
            busy: watch::Sender::new(0),
        }
    }
}

/// Returns the settings of HTTP/2. `unread` is how long a client can leave a response unread.
fn http2_settings(unread: Duration) -> http2::Builder<Tasks> {
    let mut builder = http2::Builder::new(Tasks { limit: unread });
    builder.timer(TokioTimer::new());
    builder.keep_alive_interval(HTTP2_PING);
    builder.max_concurrent_streams(HTTP2_REQUESTS);
    builder.max_send_buf_size(HTTP2_QUEUE);
    builder
}

/// Answers the requests of a connection.
struct Requests {
    gateway: Arc<Gateway>,
    peer: Arc<Peer>,
    /// How many requests have no complete response.
    busy: watch::Sender<usize>,
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<Counted>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let busy = Busy::new(&self.busy);
        let answer = Arc::clone(&self.gateway).answer(Arc::clone(&self.peer), request);
        Box::pin(async move { Ok(answer.await.map(|body| Counted { body, _busy: busy })) })
    }
}

/// Counts a request until this is dropped.
struct Busy(watch::Sender<usize>);

impl Busy {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// The body of a response. The request counts until this is dropped.
struct Counted {
    body: Body,
    _busy: Busy,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        unread::note(&polled);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Waits until there was no request for so long.
async fn idle(mut busy: watch::Receiver<usize>, limit: Duration) {
    loop {
        let is_idle = *busy.borrow_and_update() == 0;
        tokio::select! {
            changed = busy.changed() => if changed.is_err() {
                // The connection is gone.
                return;
            },
            () = sleep(limit), if is_idle => return,
        }
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

/// How many requests a connection over HTTP/2 has at once.
const HTTP2_REQUESTS: u32 = 100;

/// How many bytes of a response wait for a client over HTTP/2 that does not read.
const HTTP2_QUEUE: usize = 64 * 1024;

/// How often a client over HTTP/2 is sent a PING. It has 20 s to answer, which is hyper's default.
const HTTP2_PING: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::{BodyExt, Empty};
    use hyper::{client, service::service_fn};
    use hyper_util::rt::TokioExecutor;
    use tokio::{io::duplex, sync::mpsc, time::Instant};

    use super::*;

    /// A body without an end, whose bytes are counted.
    struct Endless(Arc<AtomicUsize>);

    impl hyper::body::Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.fetch_add(PIECE, Ordering::Relaxed);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; PIECE])))))
        }
    }

    const PIECE: usize = 8 * 1024;

    const UNREAD: Duration = Duration::from_secs(100);

    /// Far more than the limit, which is not about windows.
    const WINDOW: u32 = 10_000_000;

    #[tokio::test(start_paused = true)]
    async fn little_of_a_response_waits_for_a_client_over_http_2_that_does_not_read() {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        let service = service_fn(move |_| {
            let body = Endless(Arc::clone(&count));
            async { Ok::<_, Infallible>(Response::new(body)) }
        });
        let (near, far) = duplex(1024);
        tokio::spawn(http2_settings(UNREAD).serve_connection(TokioIo::new(far), service));
        let (mut sender, connection) = client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(TokioIo::new(near))
            .await
            .unwrap();
        let mut connection = pin!(connection);
        let request = Request::new(Empty::<Bytes>::new());
        tokio::select! {
            _ = sender.send_request(request) => {}
            _ = &mut connection => panic!("connection ends"),
        }
        // From now on the transport is not read. Everything is at rest when the time passes.
        sleep(Duration::from_secs(1)).await;
        let taken = taken.load(Ordering::Relaxed);
        // Some more is in the frame under way, and was read before. Without the limit it is 450 kB.
        assert!((HTTP2_QUEUE..=2 * HTTP2_QUEUE).contains(&taken), "{taken}");
    }

    /// A response without an end, which sends the time of its end.
    struct Timed(Instant, mpsc::UnboundedSender<Duration>);

    impl hyper::body::Body for Timed {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; PIECE])))))
        }
    }

    impl Drop for Timed {
        fn drop(&mut self) {
            _ = self.1.send(self.0.elapsed());
        }
    }

    /// The client drives the connection, so it answers PINGs. It reads one response a frame at a
    /// time, and nothing of the other one.
    #[tokio::test(start_paused = true)]
    async fn a_response_over_http_2_that_is_not_read_ends_and_others_go_on() {
        let (sender, mut ended) = mpsc::unbounded_channel();
        let busy = watch::Sender::new(0);
        let service = service_fn(move |_| {
            let body = Timed(Instant::now(), sender.clone()).boxed_unsync();
            let body = Counted {
                body,
                _busy: Busy::new(&busy),
            };
            async { Ok::<_, Infallible>(Response::new(body)) }
        });
        let (near, far) = duplex(64 * 1024);
        tokio::spawn(http2_settings(UNREAD).serve_connection(TokioIo::new(far), service));
        let (mut sender, connection) = client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_connection_window_size(WINDOW)
            .handshake(TokioIo::new(near))
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut ask = async || {
            let request = Request::new(Empty::<Bytes>::new());
            sender.send_request(request).await.unwrap().into_body()
        };
        let (mut unread, mut slow) = (ask().await, ask().await);
        let reading = async {
            loop {
                slow.frame().await.unwrap().unwrap();
                sleep(UNREAD / 20).await;
            }
        };
        let lasted = tokio::select! {
            lasted = ended.recv() => lasted.unwrap(),
            () = reading => Duration::ZERO,
            () = sleep(10 * UNREAD) => panic!("it does not end"),
        };
        assert!(UNREAD <= lasted && lasted < 2 * UNREAD, "{lasted:?}");
        while let Some(Ok(_)) = unread.frame().await {}
        // Everything that had arrived was read before the reset.
        let goes_on = sleep(3 * UNREAD);
        let reading = async {
            loop {
                slow.frame().await.unwrap().unwrap();
                sleep(UNREAD / 20).await;
            }
        };
        tokio::select! {
            lasted = ended.recv() => panic!("the other one has ended after {lasted:?}"),
            () = reading => {}
            () = goes_on => {}
        }
    }
}
