//! A stream of octets, whichever kind of socket it came in by.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Socket {
    /// Wraps an accepted or connected socket of TCP.
    pub(crate) fn tcp(io: TcpStream) -> Self {
        // Frames are written when they are due, so there is nothing to wait for. A failure means that the peer is
        // gone already, which the first read will tell.
        let _ = io.set_nodelay(true);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = socket2::SockRef::from(&io).set_tcp_notsent_lowat(UNSENT);
        Self::Tcp(io)
    }

    /// Takes the socket away from its runtime.
    pub(crate) fn detach(self) -> io::Result<Detached> {
        match self {
            Self::Tcp(io) => io.into_std().map(Detached::Tcp),
            #[cfg(unix)]
            Self::Unix(io) => io.into_std().map(Detached::Unix),
        }
    }
}

/// The bytes that wait in the system before a socket takes no more, beyond those that are on their way.
///
/// Without this bound Linux holds up to 4 MiB for a client that reads slowly, and wakes the writer only when a third of
/// them have left. At 40 KB a second this takes longer than `Timeouts::write`: the client
/// would seem to take nothing.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 128 * 1024;

/// A connected socket that belongs to no runtime.
#[derive(Debug)]
pub(crate) enum Detached {
    Tcp(std::net::TcpStream),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixStream),
}

impl Detached {
    /// Gives the socket to the runtime that this is called in.
    pub(crate) fn attach(self) -> io::Result<Socket> {
        match self {
            Self::Tcp(io) => TcpStream::from_std(io).map(Socket::Tcp),
            #[cfg(unix)]
            Self::Unix(io) => UnixStream::from_std(io).map(Socket::Unix),
        }
    }
}

/// Does the same with either kind of socket.
macro_rules! either {
    ($socket:expr, $io:ident => $action:expr) => {
        match $socket.get_mut() {
            Socket::Tcp($io) => $action,
            #[cfg(unix)]
            Socket::Unix($io) => $action,
        }
    };
}

/// A transport that may know that it has failed while nobody reads it.
pub(crate) trait Fails {
    /// Returns the failure, and then as well if bytes that came before it are still to be read. It is told once.
    fn failure(&self) -> Option<io::Error>;
}

impl Fails for Socket {
    fn failure(&self) -> Option<io::Error> {
        let failure = match self {
            Self::Tcp(io) => io.take_error(),
            #[cfg(unix)]
            Self::Unix(io) => io.take_error(),
        };
        failure.unwrap_or_else(Some)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => Pin::new(io).poll_shutdown(cx))
    }
}
