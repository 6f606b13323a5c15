//! Transports: how they are opened, and how they are watched while they are in use.

use std::{
    fmt,
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Uri;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::{Sleep, sleep},
};
use tower_service::Service;

use super::{origin::Origin, slot::Place};
use crate::{BoxError, Protocol};

/// Opens transports to a host and a port: see [`Connector::dial`](super::Connector::dial).
///
/// ```
/// use spdy_tower::client::{Dial, Dialing, Transport};
/// use tokio::net::TcpStream;
///
/// /// Reaches every origin at the same address.
/// #[derive(Debug)]
/// struct Fixed(std::net::SocketAddr);
///
/// impl Dial for Fixed {
///     fn dial(&self, _host: &str, _port: u16) -> Dialing {
///         let connecting = TcpStream::connect(self.0);
///         Box::pin(async { Ok(Box::new(connecting.await?) as Box<dyn Transport>) })
///     }
/// }
/// ```
pub trait Dial: fmt::Debug + Send + Sync + 'static {
    /// Opens a transport. `host` is the host of the origin, without the brackets of an IPv6
    /// address.
    ///
    /// The future is dropped when the [timeout](super::Connector::timeout) of the connector runs
    /// out. For an `https` origin, the TLS handshake runs over the transport. The transport is
    /// dropped when its connection has ended.
    fn dial(&self, host: &str, port: u16) -> Dialing;
}

/// The future of a transport, which [`Dial::dial`] returns.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send>>;

/// A transport that connections can use.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> Transport for IO {}

/// A transport, and the protocol that was negotiated on it: what the service of
/// [`Connector::service`](super::Connector::service) returns. Each transport can be converted into
/// one.
pub struct Dialed {
    pub(super) io: Box<dyn Transport>,
    /// `None` if nothing was negotiated.
    pub(super) protocol: Option<Protocol>,
}

impl Dialed {
    /// A transport on which nothing was negotiated. For an `https` origin, the TLS handshake runs
    /// over it.
    pub fn new(io: impl Transport) -> Self {
        Self {
            io: Box::new(io),
            protocol: None,
        }
    }

    /// Sets what the transport speaks. Then the connector makes no TLS handshake, and does not
    /// check whether the protocol was [offered](super::Connector::offer).
    ///
    /// Over TLS this is what ALPN has chosen: see [`Protocol::from_alpn`]. If it has chosen
    /// nothing, the server speaks HTTP/1.1.
    #[must_use]
    pub fn negotiated(mut self, protocol: Protocol) -> Self {
        self.protocol = Some(protocol);
        self
    }
}

impl<IO: Transport> From<IO> for Dialed {
    fn from(io: IO) -> Self {
        Self::new(io)
    }
}

impl fmt::Debug for Dialed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialed")
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

/// How a connector gets its transports.
pub(super) trait Reach: fmt::Debug + Send + Sync {
    fn reach(&self, origin: &Origin) -> Reaching;

    /// Returns whether the transport decides what is spoken.
    fn negotiates(&self) -> bool;
}

/// The future of a transport.
pub(super) type Reaching = Pin<Box<dyn Future<Output = io::Result<Dialed>> + Send>>;

/// Transports by host and port.
#[derive(Debug)]
pub(super) struct ByDial<D>(pub(super) D);

impl<D: Dial> Reach for ByDial<D> {
    fn reach(&self, origin: &Origin) -> Reaching {
        let dialing = self.0.dial(origin.name(), origin.port);
        Box::pin(async {
            let (io, protocol) = (dialing.await?, None);
            Ok(Dialed { io, protocol })
        })
    }

    fn negotiates(&self) -> bool {
        false
    }
}

/// Transports by URI.
pub(super) struct ByService<S>(pub(super) S);

impl<S> Reach for ByService<S>
where
    S: Service<Uri, Response: Into<Dialed>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    fn reach(&self, origin: &Origin) -> Reaching {
        let (mut service, uri) = (self.0.clone(), origin.uri());
        Box::pin(async move {
            let dialed = async {
                poll_fn(|cx| service.poll_ready(cx)).await?;
                service.call(uri).await
            };
            match dialed.await {
                Ok(dialed) => Ok(dialed.into()),
                Err(error) => Err(into_io(error.into())),
            }
        })
    }

    fn negotiates(&self) -> bool {
        true
    }
}

impl<S> fmt::Debug for ByService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByService")
    }
}

/// Keeps the kind of an error, which tells whether it was a timeout.
fn into_io(error: BoxError) -> io::Error {
    match error.downcast::<io::Error>() {
        Ok(error) => *error,
        Err(error) => io::Error::other(error),
    }
}

/// Counts the reads from a transport. A change shows that the peer has sent something.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Words>);

#[derive(Debug, Default)]
struct Words {
    count: AtomicUsize,
    /// Wakes the tasks that wait for the next one.
    next: Notify,
}

impl Heard {
    pub(super) fn count(&self) -> usize {
        self.0.count.load(Ordering::Relaxed)
    }

    /// Waits until the peer speaks again.
    pub(super) async fn more(&self) {
        self.0.next.notified().await;
    }

    fn note(&self) {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        self.0.next.notify_waiters();
    }
}

/// A transport in use. It keeps a [`Place`] while it is open, counts what the peer sends, and fails
/// if the peer reads nothing for too long.
#[derive(Debug)]
pub(super) struct Watched<IO> {
    // This field is first, so that the transport is closed before its place is free.
    io: IO,
    _place: Arc<Place>,
    heard: Heard,
    /// How long a write may wait. `None` if the protocol limits this itself.
    patience: Option<Duration>,
    /// The deadline of a write that waits.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<IO> Watched<IO> {
    pub(super) fn new(io: IO, place: &Arc<Place>, patience: Option<Duration>) -> Self {
        Self {
            io,
            _place: Arc::clone(place),
            heard: Heard::default(),
            patience,
            alarm: None,
        }
    }

    pub(super) fn heard(&self) -> Heard {
        self.heard.clone()
    }

    /// Fails a write that has waited for too long.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let (Poll::Pending, Some(patience)) = (&outcome, self.patience) else {
            self.alarm = None;
            return outcome;
        };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(alarm.as_mut().poll(cx));
        let reason = format!("peer took no bytes for {patience:?}");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, reason)))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.heard.note();
        }
        outcome
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(cx, buf);
        self.watch(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watch(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_flush(cx);
        self.watch(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_shutdown(cx);
        self.watch(cx, outcome)
    }
}
