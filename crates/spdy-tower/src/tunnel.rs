//! Streams of bytes after a CONNECT request, as client and as server.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use http::{Extensions, Request, Response};
use spdy_frame::{RstStatus, StreamId};
use spdy_session::{RecvStream, SendStream, StreamError};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

/// The bytes in both directions after a CONNECT request that was answered with 2xx.
///
/// It is [`AsyncRead`] and [`AsyncWrite`] with the contract of [`Stream`](spdy_session::Stream):
/// reading ends only at the peer's FIN, `shutdown` sends FIN, and dropping the tunnel before that
/// resets it with CANCEL.
///
/// A server:
///
/// ```
/// # use http::{Request, Response, StatusCode};
/// use spdy_tower::{Body, Tunnel};
///
/// async fn connect(mut request: Request<Body>) -> Response<String> {
///     let Some(tunnel) = Tunnel::on(&mut request) else {
///         let mut response = Response::new("only CONNECT\n".to_owned());
///         *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
///         return response;
///     };
///     tokio::spawn(async move {
///         // The tunnel opens when the response is on its way.
///         let mut tunnel = tunnel.await?;
///         let (mut receive, mut send) = tokio::io::split(&mut tunnel);
///         tokio::io::copy(&mut receive, &mut send).await
///     });
///     Response::new(String::new())
/// }
/// ```
#[derive(Debug)]
pub struct Tunnel {
    receive: RecvStream,
    send: SendStream,
}

impl Tunnel {
    pub(crate) const fn new(receive: RecvStream, send: SendStream) -> Self {
        Self { receive, send }
    }

    /// As a server: takes the tunnel that a request asks for. Returns `None` if the request is not
    /// CONNECT, did not arrive over SPDY, or its tunnel was taken. A response of 2xx opens the
    /// tunnel, see [`OnTunnel`]; the body of that response is not sent.
    pub fn on<B>(request: &mut Request<B>) -> Option<OnTunnel> {
        let slot = request.extensions_mut().remove::<Slot<OnTunnel>>()?;
        slot.take()
    }

    /// As a client: takes the tunnel that a response has opened. Returns `None` if it has not
    /// opened one, or the tunnel was taken. Dropping the response drops its tunnel.
    pub fn of<B>(response: &mut Response<B>) -> Option<Self> {
        let slot = response.extensions_mut().remove::<Slot<Self>>()?;
        slot.take()
    }

    pub(crate) fn attach(self, extensions: &mut Extensions) {
        extensions.insert(Slot::new(self));
    }

    /// Returns the id of the stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.send.id()
    }

    /// Resets the tunnel in both directions. Bytes that are queued on it are dropped.
    pub fn reset(self, status: RstStatus) {
        self.send.reset(status);
    }

    /// Splits the tunnel into its two directions, which separate tasks can use.
    #[must_use]
    pub fn split(self) -> (RecvStream, SendStream) {
        (self.receive, self.send)
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.receive).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.send).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_shutdown(cx)
    }
}

/// A tunnel that opens when its request is answered with 2xx: see [`Tunnel::on`].
///
/// Await this future in a separate task, because the handler has to return first. It fails if the
/// response has another status or the client is gone.
#[derive(Debug)]
#[must_use = "the tunnel is not opened when this is dropped"]
pub struct OnTunnel(oneshot::Receiver<Tunnel>);

impl Future for OnTunnel {
    type Output = Result<Tunnel, StreamError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let closed = |_| StreamError::Finished;
        Pin::new(&mut self.0).poll(cx).map_err(closed)
    }
}

/// The server's side of an [`OnTunnel`]. The receiving half waits here for the sending half.
#[derive(Debug)]
pub(crate) struct TunnelDue {
    receive: RecvStream,
    opens: oneshot::Sender<Tunnel>,
}

impl TunnelDue {
    /// Adds an [`OnTunnel`] to the extensions of a request.
    pub(crate) fn offer(receive: RecvStream, extensions: &mut Extensions) -> Self {
        let (opens, opened) = oneshot::channel();
        extensions.insert(Slot::new(OnTunnel(opened)));
        Self { receive, opens }
    }

    /// Returns whether the tunnel was taken, or can still be taken.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.opens.is_closed()
    }

    pub(crate) fn open(self, send: SendStream) {
        // If the receiver was dropped meanwhile, this drops the tunnel, which resets it.
        _ = self.opens.send(Tunnel::new(self.receive, send));
    }
}

/// A value that can be taken once, for extensions, which can be cloned.
struct Slot<T>(Arc<Mutex<Option<T>>>);

impl<T> Slot<T> {
    fn new(thing: T) -> Self {
        Self(Arc::new(Mutex::new(Some(thing))))
    }

    fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}
