//! Opening sockets to listen on: by their address, or as systemd has opened them.

#[cfg(unix)]
use std::env;
use std::{fmt, io, iter, net::SocketAddr};

#[cfg(unix)]
use tokio::net::TcpSocket;
use tokio::net::{TcpListener, TcpStream};

#[cfg(unix)]
use super::unix::UnixListener;
use crate::{
    config::{Address, Transport},
    socket::Socket,
};

/// A socket that listens, of either kind.
#[derive(Debug)]
pub(super) enum Accepting {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Accepting {
    /// Opens a socket. With `shared` other processes may do the same at the same time.
    pub(super) async fn open(address: &Address, shared: bool) -> io::Result<Self> {
        match address {
            Address::Tcp(address) if shared => open_shared(*address).map(Self::Tcp),
            Address::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            #[cfg(unix)]
            Address::Unix(path) => UnixListener::bind(path, shared).map(Self::Unix),
            #[cfg(not(unix))]
            Address::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The address that the socket has, with the port that the system has chosen.
    pub(super) fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(socket) => socket.local_addr().map(Address::Tcp),
            #[cfg(unix)]
            Self::Unix(socket) => Ok(Address::Unix(socket.path().to_owned())),
        }
    }

    /// Waits for a connection. Clients at Unix sockets have no address. Cancel safe.
    pub(super) async fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self {
            Self::Tcp(socket) => {
                let (io, peer) = socket.accept().await?;
                Ok((Socket::tcp(io), Some(peer)))
            }
            #[cfg(unix)]
            Self::Unix(socket) => Ok((Socket::Unix(socket.accept().await?), None)),
        }
    }

    /// Closes the socket once nobody waits for being accepted; yields those who did.
    pub(super) fn close(self) -> Box<dyn Iterator<Item = (Socket, Option<SocketAddr>)> + Send> {
        // The runtime may not have heard yet of who has just come. The system itself knows.
        match self {
            Self::Tcp(socket) => {
                let socket = socket.into_std().ok();
                Box::new(iter::from_fn(move || {
                    let (io, peer) = socket.as_ref()?.accept().ok()?;
                    io.set_nonblocking(true).ok()?;
                    Some((Socket::tcp(TcpStream::from_std(io).ok()?), Some(peer)))
                }))
            }
            #[cfg(unix)]
            Self::Unix(socket) => Box::new(socket.close().map(|io| (Socket::Unix(io), None))),
        }
    }
}

#[cfg(unix)]
fn open_shared(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(not(unix))]
fn open_shared(_: SocketAddr) -> io::Result<TcpListener> {
    Err(io::ErrorKind::Unsupported.into())
}

/// How many connections may wait to be accepted, as `TcpListener::bind` has it. The system may allow less.
#[cfg(unix)]
const BACKLOG: u32 = 1024;

/// Sockets that were opened by whoever has started the process, and that a server takes over.
///
/// They stay open while one server ends and the next one starts: clients in between wait, and none is refused.
#[derive(Default)]
pub struct Inherited {
    #[cfg(unix)]
    sockets: Vec<(Opened, Transport)>,
}

#[cfg(unix)]
#[derive(Debug)]
enum Opened {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

#[cfg(unix)]
impl Inherited {
    /// Takes the sockets of systemd's socket activation. One with `FileDescriptorName=plain` carries plain text, all
    /// others carry TLS.
    ///
    /// To be called once, and before the process has threads: it removes variables from the environment.
    ///
    /// # Errors
    /// When something else than a listening socket of TCP or a Unix stream was handed over.
    pub fn from_systemd() -> io::Result<Self> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut handed = listenfd::ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..handed.len() {
            let transport = match names.next() {
                Some("plain") => Transport::Plain,
                _ => Transport::Tls,
            };
            let opened = match handed.take_tcp_listener(index) {
                Ok(socket) => socket.map(Opened::Tcp),
                Err(_) => handed.take_unix_listener(index)?.map(Opened::Unix),
            };
            sockets.extend(opened.map(|socket| (socket, transport)));
        }
        Ok(Self { sockets })
    }

    /// How many sockets there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    pub(super) fn into_sockets(self) -> io::Result<Vec<(Accepting, Transport)>> {
        let accepting = |socket| match socket {
            Opened::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                TcpListener::from_std(socket).map(Accepting::Tcp)
            }
            Opened::Unix(socket) => UnixListener::inherited(socket).map(Accepting::Unix),
        };
        self.sockets
            .into_iter()
            .map(|(socket, transport)| Ok((accepting(socket)?, transport)))
            .collect()
    }
}

#[cfg(not(unix))]
impl Inherited {
    /// Finds nothing: there is no systemd on this platform.
    ///
    /// # Errors
    /// None on this platform.
    pub fn from_systemd() -> io::Result<Self> {
        Ok(Self::default())
    }

    /// How many sockets there are: none on this platform.
    #[must_use]
    pub fn len(&self) -> usize {
        0
    }

    pub(super) fn into_sockets(self) -> io::Result<Vec<(Accepting, Transport)>> {
        Ok(Vec::new())
    }
}

impl Inherited {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inherited")
            .field("len", &self.len())
            .finish()
    }
}
