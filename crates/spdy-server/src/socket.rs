//! A byte stream over either kind of socket.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready},
    net::TcpStream,
};

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    Tcp(SocketAddr),
    /// The client of a Unix socket, which has no address.
    Unix,
    /// That of a transport which is no socket, or of one that does not tell.
    Unknown,
}

impl Peer {
    pub(crate) const fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(address),
            Self::Unix | Self::Unknown => None,
        }
    }
}

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Socket {
    /// Wraps a connected TCP socket.
    pub(crate) fn tcp(io: TcpStream) -> Self {
        // Frames are written when they are due, so delaying them has no benefit. If this fails, the
        // peer has left, and the first read reports that.
        let _ = io.set_nodelay(true);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = socket2::SockRef::from(&io).set_tcp_notsent_lowat(UNSENT);
        Self::Tcp(io)
    }

    /// Removes the socket from its runtime.
    pub(crate) fn detach(self) -> io::Result<Detached> {
        match self {
            Self::Tcp(io) => io.into_std().map(Detached::Tcp),
            #[cfg(unix)]
            Self::Unix(io) => io.into_std().map(Detached::Unix),
        }
    }
}

/// The maximum number of bytes that wait in the system, apart from those in flight.
///
/// Bytes in the queues of a session can still be overtaken by a PING or a small response; those in
/// the system cannot. Without this limit, Linux holds up to 4 MiB for a client that reads slowly,
/// and wakes the writer only when a third of them have left. At 40 KB/s this takes longer than
/// `Timeouts::write`, and the client would seem to read nothing.
///
/// The limit is this small because of congestion control that paces, such as BBR: it sends what
/// waits by timers, and each costs a wake-up. With 64 KiB, a download cost up to four times the CPU
/// time in some runs; with 16 KiB in none.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 16 * 1024;

/// A connected socket without a runtime.
#[derive(Debug)]
pub(crate) enum Detached {
    Tcp(std::net::TcpStream),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixStream),
}

impl Detached {
    /// Adds the socket to the current runtime.
    pub(crate) fn attach(self) -> io::Result<Socket> {
        match self {
            Self::Tcp(io) => TcpStream::from_std(io).map(Socket::Tcp),
            #[cfg(unix)]
            Self::Unix(io) => UnixStream::from_std(io).map(Socket::Unix),
        }
    }
}

/// Calls a function on either kind of socket.
macro_rules! either {
    ($socket:expr, $io:ident => $action:expr) => {
        match $socket.get_mut() {
            Socket::Tcp($io) => $action,
            #[cfg(unix)]
            Socket::Unix($io) => $action,
        }
    };
}

/// A transport that can know of its peer's end although it is not read, and can fail for its peer.
pub(crate) trait Fails {
    /// Returns the failure, even if earlier bytes are still to be read. A failure is returned once.
    fn failure(&self) -> Option<io::Error>;

    /// Returns whether the peer sends nothing more, even if earlier bytes are still to be read.
    fn has_ended(&self) -> bool;

    /// Returns whether the system has sent everything that it has taken, as far as it tells.
    fn is_sent(&self) -> bool;

    /// Has the peer see a reset instead of an end when the transport is dropped, if it can.
    fn reset_when_dropped(&self);
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

    fn has_ended(&self) -> bool {
        match self {
            Self::Tcp(io) => is_ended(io.ready(Interest::READABLE)),
            #[cfg(unix)]
            Self::Unix(io) => is_ended(io.ready(Interest::READABLE)),
        }
    }

    fn is_sent(&self) -> bool {
        match self {
            Self::Tcp(io) => is_sent(io),
            #[cfg(unix)]
            Self::Unix(_) => true,
        }
    }

    fn reset_when_dropped(&self) {
        match self {
            Self::Tcp(io) => reset_when_dropped(io),
            #[cfg(unix)]
            Self::Unix(_) => {}
        }
    }
}

/// Returns whether the system has sent everything that it has taken, though its peer might not have
/// received it. Other systems than Linux do not tell.
pub(crate) fn is_sent(io: &TcpStream) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};

        // With this mark a socket takes more once nothing waits. If it fails, its peer has left.
        let _ = socket2::SockRef::from(io).set_tcp_notsent_lowat(1);
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut asked = [PollFd::new(io, PollFlags::OUT)];
        poll(&mut asked, Some(&at_once)) != Ok(0)
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = io;
        true
    }
}

/// Has a socket send a reset when it is closed, and nothing that waits. The peer still reads what
/// it has received.
pub(crate) fn reset_when_dropped(io: &TcpStream) {
    // If it fails, the peer has left.
    let _ = io.set_zero_linger();
}

/// Returns whether a socket that is asked whether it is readable says that its peer has ended.
pub(crate) fn is_ended(ready: impl Future<Output = io::Result<Ready>>) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(ready).poll(&mut cx) {
        Poll::Ready(Ok(ready)) => ready.is_read_closed(),
        Poll::Ready(Err(_)) | Poll::Pending => false,
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{io::AsyncWriteExt, net::TcpListener, time::sleep};

    use super::*;

    #[tokio::test]
    async fn the_end_of_a_peer_is_known_though_bytes_before_it_are_not_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut peer = TcpStream::connect(address).await.unwrap();
        let socket = Socket::tcp(listener.accept().await.unwrap().0);
        assert!(!socket.has_ended());
        peer.write_all(&[7; 100_000]).await.unwrap();
        if let Socket::Tcp(io) = &socket {
            io.readable().await.unwrap();
        }
        assert!(!socket.has_ended(), "it may go on");
        peer.shutdown().await.unwrap();
        for _ in 0..6000 {
            if socket.has_ended() {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("the end is not known after a minute");
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[tokio::test]
    async fn little_waits_in_the_system() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let Socket::Tcp(socket) = Socket::tcp(TcpStream::connect(address).await.unwrap()) else {
            unreachable!("it is a TCP socket")
        };
        let unsent = socket2::SockRef::from(&socket).tcp_notsent_lowat();
        assert_eq!(unsent.unwrap(), 16 * 1024);
    }
}
