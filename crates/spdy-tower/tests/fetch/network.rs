//! A network in memory, for tests on a paused clock.

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use spdy_tests::vectored::Vectored;
use spdy_tower::client::{
    Client, Connector, Dial, Dialing, FetchError, Plain, ResponseBody, Transport,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    task::AbortHandle,
    time::sleep,
};
use tokio_rustls::rustls::RootCertStore;

use super::trusting;

type Serve = dyn Fn(DuplexStream, usize) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// A network with one server, and how many connections to it there were and are.
#[derive(Clone)]
pub(crate) struct Network {
    /// How long a connection takes.
    delay: Duration,
    serve: Arc<Serve>,
    made: Arc<AtomicUsize>,
    open: Arc<Open>,
    servers: Arc<Mutex<Vec<AbortHandle>>>,
}

#[derive(Debug, Default)]
struct Open {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Network {
    pub(crate) fn new<F: Future<Output = ()> + Send + 'static>(
        delay: Duration,
        serve: impl Fn(DuplexStream, usize) -> F + Send + Sync + 'static,
    ) -> Self {
        Self {
            delay,
            serve: Arc::new(move |io, number| Box::pin(serve(io, number))),
            made: Arc::default(),
            open: Arc::default(),
            servers: Arc::default(),
        }
    }

    /// Closes all connections, at the server's end.
    pub(crate) fn close_all(&self) {
        for server in self.servers.lock().unwrap().drain(..) {
            server.abort();
        }
    }

    /// Connections that were made.
    pub(crate) fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    /// Connections that the client has open.
    pub(crate) fn open(&self) -> usize {
        self.open.now.load(Ordering::Relaxed)
    }

    /// The most that it had open at once.
    pub(crate) fn most(&self) -> usize {
        self.open.most.load(Ordering::Relaxed)
    }

    pub(crate) fn connector(&self, plain: Plain) -> Connector {
        let connector = Connector::new(trusting(RootCertStore::empty()));
        connector.plain(plain).dial(self.clone())
    }

    pub(crate) fn client(&self, plain: Plain) -> Client {
        Client::new(self.connector(plain))
    }
}

impl Dial for Network {
    fn dial(&self, _: &str, _: u16) -> Dialing {
        let network = self.clone();
        let counted = Counted::new(&self.open);
        Box::pin(async move {
            sleep(network.delay).await;
            let (near, far) = duplex(16 * 1024);
            let number = network.made.fetch_add(1, Ordering::Relaxed);
            let server = tokio::spawn((network.serve)(far, number));
            network.servers.lock().unwrap().push(server.abort_handle());
            Ok(Box::new(Near(Vectored(near), counted)) as Box<dyn Transport>)
        })
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

/// Counts a connection as long as it is being made or open.
struct Counted(Arc<Open>);

impl Counted {
    fn new(open: &Arc<Open>) -> Self {
        let now = open.now.fetch_add(1, Ordering::Relaxed) + 1;
        open.most.fetch_max(now, Ordering::Relaxed);
        Self(Arc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The client's end.
struct Near(
    Vectored<DuplexStream>,
    #[expect(dead_code, reason = "counts")] Counted,
);

impl AsyncRead for Near {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Near {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Sends a request, with a body or without, and waits for as long as it takes.
pub(crate) async fn ask(
    client: &Client,
    method: &str,
    path: &str,
    body: &'static str,
) -> Result<Response<ResponseBody>, FetchError> {
    let uri = format!("http://a.test{path}");
    let request = http::Request::builder().method(method).uri(uri);
    let request = request.body(Full::new(Bytes::from_static(body.as_bytes())));
    client.send(request.unwrap()).await
}

/// Sends a GET and reads the whole response.
pub(crate) async fn get(client: &Client) -> Result<String, FetchError> {
    let response = ask(client, "GET", "/", "").await?;
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}
