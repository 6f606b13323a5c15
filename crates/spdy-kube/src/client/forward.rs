//! Port-forward, as the side that connects.

use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Request;
use spdy_session::{Session, SessionError, Stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    task::JoinHandle,
    time::Sleep,
};

use super::{
    Begun, ClientError, Output, PING,
    spdy::{begin, connect, open, with_ping},
    websocket::Socket,
};
use crate::{
    negotiate::{PORT_FORWARD, VERSION, names},
    printable::Printable,
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
        Self::ask(transport, request, Some(PING)).await
    }

    pub(super) async fn ask<IO>(
        transport: IO,
        request: Request<()>,
        ping: Option<Duration>,
    ) -> Result<Self, ClientError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (response, begun) = connect(transport, request, &[PORT_FORWARD], ping).await?;
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
            lost: None,
        })
    }

    /// Waits until either side has ended the session.
    pub async fn closed(&self) {
        _ = self.session.closed().await;
    }
}

/// A connection to a port of a pod. Reading ends when the target has ended. If the server could not
/// connect, reading fails with the server's message, in which control characters are escaped.
/// Dropping the connection resets it.
#[derive(Debug)]
pub struct Connection {
    data: Stream,
    error: Output,
    /// The server's error message.
    told: Vec<u8>,
    is_over: bool,
    lost: Option<Lost>,
}

/// The connection was reset. The server's message about it may still arrive on another stream.
#[derive(Debug)]
struct Lost {
    error: io::Error,
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

    /// Returns why the connection was reset. The server's message is better than the reset, and is
    /// waited for, but the error stream might not end.
    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Error>> {
        let Some(until) = self.lost.as_mut().map(|lost| lost.until.as_mut()) else {
            return Poll::Ready(None);
        };
        let is_late = until.poll(cx).is_ready();
        if self.poll_told(cx).is_pending() && !is_late {
            return Poll::Pending;
        }
        let lost = self.lost.take();
        Poll::Ready(self.failure().or_else(|| lost.map(|lost| lost.error)))
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
        if let Some(error) = ready!(self.poll_lost(cx)) {
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        if !self.is_over && buffer.remaining() > 0 {
            if let Err(error) = ready!(Pin::new(&mut self.data).poll_read(cx, buffer)) {
                let until = Box::pin(tokio::time::sleep(TOLD));
                self.lost = Some(Lost { error, until });
                let error = ready!(self.poll_lost(cx));
                return Poll::Ready(error.map_or(Ok(()), Err));
            }
            if buffer.filled().len() == before {
                // The error stream shows whether the connection has ended in order.
                ready!(self.poll_told(cx))?;
                self.is_over = true;
            }
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

/// How much of the server's message is kept, in bytes.
const MAX_TEXT: usize = 64 * 1024;
