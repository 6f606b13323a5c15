//! Port-forward, as the side that connects.

use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use spdy_session::{Session, SessionError, Stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    task::{AbortHandle, JoinHandle},
    time::{Instant, Sleep},
};

use super::{
    Begun, ClientError, Output, PING,
    spdy::{begin, connect, open, with_ping},
    websocket::Socket,
};
use crate::{
    negotiate::{PORT_FORWARD, VERSION, names},
    printable::Printable,
    status::MAX_TEXT,
    websocket::Tunnel,
};

/// A session over which connections to the ports of a pod are made. It ends when it is dropped with
/// all its connections.
#[derive(Debug)]
pub struct Forward {
    session: Session,
    driver: JoinHandle<Result<(), SessionError>>,
    requests: AtomicU64,
}

impl Forward {
    /// Starts a session over SPDY, with a request for port-forward.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn connect<IO>(transport: IO, request: Request<()>) -> Result<Self, ClientError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let upgrade = connect(transport, request, &[PORT_FORWARD], Some(PING)).await?;
        Self::agreed(upgrade)
    }

    /// Returns the session of a server that has upgraded, if it has chosen the protocol.
    pub(super) fn agreed((response, begun): (Response<()>, Begun)) -> Result<Self, ClientError> {
        if names(response.headers(), &VERSION) != [PORT_FORWARD] {
            return Err(ClientError::Protocol);
        }
        Ok(Self::new(begun))
    }

    /// Starts a session in the messages of a WebSocket.
    pub(super) fn tunnelled(socket: Socket, ping: Option<Duration>) -> Self {
        Self::new(begin(Tunnel::new(socket), with_ping(ping)))
    }

    /// Starts a session on a transport of this process.
    pub(crate) fn over(transport: DuplexStream) -> Self {
        Self::new(begin(transport, with_ping(None)))
    }

    fn new((session, driver): Begun) -> Self {
        Self {
            session,
            driver,
            requests: AtomicU64::new(0),
        }
    }

    /// Returns what can end the session at once, whatever is under way.
    pub(crate) fn driver(&self) -> AbortHandle {
        self.driver.abort_handle()
    }

    /// Returns the session, for streams that others have opened.
    pub(crate) fn into_session(self) -> Begun {
        (self.session, self.driver)
    }

    /// Opens a connection to a port. It returns before the server has connected; reading the
    /// connection shows whether the server could.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn open(&self, port: u16) -> Result<Connection, ClientError> {
        let request = self.requests.fetch_add(1, Ordering::Relaxed).to_string();
        let port = port.to_string();
        let fields = |kind| {
            [
                ("streamtype", kind),
                ("port", &*port),
                ("requestid", &*request),
            ]
        };
        let mut error = open(&self.session, &fields("error")).await?;
        error.shutdown().await?;
        let data = open(&self.session, &fields("data")).await?;
        Ok(Connection {
            data,
            error: Output::spdy(error),
            told: Vec::new(),
            is_over: false,
            ending: None,
        })
    }

    /// Waits until either side has ended the session.
    pub async fn closed(&self) {
        _ = self.session.closed().await;
    }
}

/// A connection to a port of a pod. Reading ends when the target has ended. If the server could not
/// connect, reading fails with the server's message, in which control characters are escaped. If
/// the server does not tell within 30 s whether the target has ended in order, reading fails with
/// [`TimedOut`](io::ErrorKind::TimedOut) after all bytes. Dropping the connection resets it.
#[derive(Debug)]
pub struct Connection {
    data: Stream,
    error: Output,
    /// The server's error message.
    told: Vec<u8>,
    is_over: bool,
    ending: Option<Ending>,
}

/// The bytes have ended. The server's message about it may still arrive on another stream.
#[derive(Debug)]
struct Ending {
    /// The error if the connection was reset.
    reset: Option<io::Error>,
    until: Pin<Box<Sleep>>,
}

impl Connection {
    /// Reads the error stream to its end.
    fn poll_told(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut piece = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut self.error).poll_read(cx, &mut buffer))?;
            let room = MAX_TEXT - self.told.len();
            match buffer.filled() {
                [] => return Poll::Ready(Ok(())),
                text => self.told.extend_from_slice(&text[..text.len().min(room)]),
            }
        }
    }

    /// Begins to wait for the server's message.
    fn end(&mut self, reset: Option<io::Error>) {
        let time = if reset.is_some() { TOLD } else { ENDED };
        let until = Box::pin(tokio::time::sleep(time));
        self.ending = Some(Ending { reset, until });
    }

    /// Returns how the connection has ended. The error stream shows whether it was in order. The
    /// server's message is better than a reset, but the error stream might not end.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let told = match self.poll_told(cx) {
            Poll::Ready(told) => told,
            Poll::Pending => {
                ready!(self.poll_late(cx));
                Err(io::ErrorKind::TimedOut.into())
            }
        };
        let reset = self.ending.take().and_then(|ending| ending.reset);
        self.is_over = reset.is_none() && told.is_ok();
        let failure = self.failure().or(reset);
        Poll::Ready(failure.map_or(told, Err))
    }

    /// Is ready when the server's message is waited for no longer.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(ending) = &mut self.ending else {
            return Poll::Ready(());
        };
        loop {
            ready!(ending.until.as_mut().poll(cx));
            // While other connections are not read, the server cannot tell anything. A reset is an
            // error without its message as well.
            let now = Instant::now().into_std();
            let held_up = self.error.held_up_until(now).map(|end| end + ENDED);
            match held_up.filter(|end| *end > now && ending.reset.is_none()) {
                Some(end) => ending.until.as_mut().reset(end.into()),
                None => return Poll::Ready(()),
            }
        }
    }

    /// Returns the server's message as an error, if there is one.
    fn failure(&self) -> Option<io::Error> {
        let text = String::from_utf8_lossy(&self.told);
        (!text.is_empty()).then(|| io::Error::other(Printable(text).to_string()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ending.is_none() && !self.is_over && buffer.remaining() > 0 {
            let before = buffer.filled().len();
            match Pin::new(&mut self.data).poll_read(cx, buffer) {
                Poll::Ready(Ok(())) if buffer.filled().len() > before => {
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(read) => self.end(read.err()),
                Poll::Pending => {
                    // A long message that is not read would stop the session with all connections.
                    _ = self.poll_told(cx);
                    return Poll::Pending;
                }
            }
        }
        if self.ending.is_some() {
            return self.poll_end(cx);
        }
        let failure = self.failure().filter(|_| self.is_over);
        Poll::Ready(failure.map_or(Ok(()), Err))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.data).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.data).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.data).poll_shutdown(cx)
    }
}

/// How long the server's message about a reset is waited for.
const TOLD: Duration = Duration::from_secs(1);

/// How long the server may take to tell whether a connection has ended in order.
const ENDED: Duration = Duration::from_secs(30);
