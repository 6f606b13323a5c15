//! Opens sockets by address, and takes over sockets that are bound already.

#[cfg(unix)]
use std::env;
use std::{fmt, io, iter, net::SocketAddr};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
#[cfg(unix)]
use tracing::warn;

#[cfg(unix)]
use super::unix::UnixListener;
use crate::{
    config::{Address, SocketFiles, Transport},
    socket::{Peer, Socket},
};

/// A listening socket of either kind.
#[derive(Debug)]
pub(super) enum Accepting {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Accepting {
    /// Opens a socket. With `shared`, other processes can open the same address at the same time.
    pub(super) fn open(address: &Address, shared: bool, files: SocketFiles) -> io::Result<Self> {
        #[cfg(not(unix))]
        let _ = files;
        match address {
            Address::Tcp(address) => open_tcp(*address, shared).map(Self::Tcp),
            #[cfg(unix)]
            Address::Unix(path) => UnixListener::bind(path, shared, files).map(Self::Unix),
            #[cfg(not(unix))]
            Address::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Returns the address of the socket, with the port that the system has chosen.
    pub(super) fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(socket) => socket.local_addr().map(Address::Tcp),
            #[cfg(unix)]
            Self::Unix(socket) => Ok(Address::Unix(socket.path().to_owned())),
        }
    }

    /// Waits for a connection. Cancel safe.
    pub(super) async fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp(socket) => {
                let (io, peer) = socket.accept().await?;
                Ok((Socket::tcp(io), Peer::Tcp(peer)))
            }
            #[cfg(unix)]
            Self::Unix(socket) => Ok((Socket::Unix(socket.accept().await?), Peer::Unix)),
        }
    }

    /// Yields the connections that wait to be accepted, and then closes the socket. It has no end
    /// if clients connect as fast as they are taken, so the caller limits their number.
    pub(super) fn close(self) -> Box<dyn Iterator<Item = (Socket, Peer)> + Send> {
        // The runtime might not know of the newest connections yet, so the system is asked
        // directly.
        match self {
            Self::Tcp(socket) => {
                let socket = socket.into_std().ok();
                Box::new(iter::from_fn(move || {
                    let (io, peer) = socket.as_ref()?.accept().ok()?;
                    io.set_nonblocking(true).ok()?;
                    let io = Socket::tcp(TcpStream::from_std(io).ok()?);
                    Some((io, Peer::Tcp(peer)))
                }))
            }
            #[cfg(unix)]
            Self::Unix(socket) => Box::new(socket.close().map(|io| (Socket::Unix(io), Peer::Unix))),
        }
    }
}

/// Opens a TCP socket.
fn open_tcp(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = unbound(address, shared)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Creates a socket for an address. One for an IPv6 address is for IPv6 alone, so that a server can
/// listen on `0.0.0.0` and on `[::]` with the same port.
fn unbound(address: SocketAddr, shared: bool) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            SockRef::from(&socket).set_only_v6(true)?;
            socket
        }
    };
    #[cfg(unix)]
    {
        // Connections that the last process has closed do not keep the address.
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(shared)?;
    }
    #[cfg(not(unix))]
    if shared {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(socket)
}

/// The sockets for clients, and the one for metrics.
pub(super) type Sockets = (Vec<(Accepting, Transport)>, Option<Accepting>);

/// The maximum number of connections that wait to be accepted, as in `TcpListener::bind`. The
/// system can have a lower limit.
pub(super) const BACKLOG: u32 = 1024;

/// Listening sockets that are open already, and that a server takes over: sockets that the caller
/// has bound, or those of the parent process.
///
/// Sockets of systemd stay open while one server stops and the next one starts: clients wait
/// meanwhile, and none is refused. Dropping this closes its sockets.
///
/// ```
/// use spdy_server::{Config, Inherited, Server, Transport};
///
/// # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let sockets = Inherited::default().tcp(listener.into_std()?, Transport::Plain);
/// let config = Config { binds: Vec::new(), ..Config::default() };
/// let server = Server::bind_with(config, sockets).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct Inherited {
    sockets: Vec<(Opened, Transport)>,
    /// The socket that serves `/metrics` and `/healthz`.
    metrics: Option<Opened>,
}

#[derive(Debug)]
enum Opened {
    Tcp(std::net::TcpListener),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixListener),
}

impl Inherited {
    /// Adds a bound TCP socket. It becomes non-blocking when the server starts.
    #[must_use]
    pub fn tcp(mut self, socket: std::net::TcpListener, transport: Transport) -> Self {
        self.sockets.push((Opened::Tcp(socket), transport));
        self
    }

    /// Adds a bound Unix socket. It becomes non-blocking when the server starts. The server does
    /// not remove its file.
    #[cfg(unix)]
    #[must_use]
    pub fn unix(mut self, socket: std::os::unix::net::UnixListener, transport: Transport) -> Self {
        self.sockets.push((Opened::Unix(socket), transport));
        self
    }

    /// Returns the number of sockets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sockets.len() + usize::from(self.metrics.is_some())
    }

    /// Returns the sockets for clients, and the one for metrics.
    pub(super) fn into_sockets(self) -> io::Result<Sockets> {
        let clients = self.sockets.into_iter();
        let clients = clients.map(|(socket, transport)| Ok((socket.accepting()?, transport)));
        let metrics = self.metrics.map(Opened::accepting).transpose()?;
        Ok((clients.collect::<io::Result<_>>()?, metrics))
    }
}

impl Opened {
    fn accepting(self) -> io::Result<Accepting> {
        match self {
            Self::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                TcpListener::from_std(socket).map(Accepting::Tcp)
            }
            #[cfg(unix)]
            Self::Unix(socket) => UnixListener::inherited(socket).map(Accepting::Unix),
        }
    }
}

#[cfg(unix)]
impl Inherited {
    /// Takes the sockets of systemd's socket activation. The name of a socket
    /// (`FileDescriptorName=` in its unit) tells its use: `tls`, `plain`, or `metrics` for the
    /// pages of [`Config::metrics`](crate::Config::metrics). A socket without a name of its own
    /// uses TLS, and the log has a warning.
    ///
    /// Call this once, before the process has threads: it removes variables from the environment.
    ///
    /// # Errors
    /// Returns an error if a descriptor is not a listening TCP socket or Unix stream socket, if it
    /// has any other name, or if two are for metrics.
    pub fn from_systemd() -> io::Result<Self> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut handed = listenfd::ListenFd::from_env();
        let mut inherited = Self::default();
        for index in 0..handed.len() {
            let name = names.next().unwrap_or_default();
            let opened = match handed.take_tcp_listener(index) {
                Ok(socket) => socket.map(Opened::Tcp),
                Err(_) => handed.take_unix_listener(index)?.map(Opened::Unix),
            };
            if let Some(socket) = opened {
                inherited.named(name, socket)?;
            }
        }
        Ok(inherited)
    }

    /// Adds a socket for the use that its name tells.
    fn named(&mut self, name: &str, socket: Opened) -> io::Result<()> {
        match name {
            "metrics" if self.metrics.is_some() => {
                return Err(io::Error::other("two sockets have the name `metrics`"));
            }
            "metrics" => self.metrics = Some(socket),
            "tls" => self.sockets.push((socket, Transport::Tls)),
            "plain" => self.sockets.push((socket, Transport::Plain)),
            _ if is_default(name) => {
                warn!(
                    socket = name,
                    "a socket of systemd has no name of its own, so it uses TLS; set \
                     FileDescriptorName=tls, plain or metrics in its unit"
                );
                self.sockets.push((socket, Transport::Tls));
            }
            _ => {
                return Err(io::Error::other(format!(
                    "the socket has the unknown name `{name}`; set FileDescriptorName=tls, plain or \
                     metrics in its unit"
                )));
            }
        }
        Ok(())
    }
}

/// Returns whether a name is one that systemd gives to a socket without a name: that of its unit,
/// or `unknown`.
#[cfg(unix)]
fn is_default(name: &str) -> bool {
    matches!(name, "" | "unknown") || name.ends_with(".socket")
}

#[cfg(not(unix))]
impl Inherited {
    /// Returns no sockets: this platform has no systemd.
    ///
    /// # Errors
    /// None on this platform.
    pub fn from_systemd() -> io::Result<Self> {
        Ok(Self::default())
    }
}

impl Inherited {
    /// Returns whether there are no sockets.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_of_ipv6_is_for_ipv6_alone() {
        let any = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 443));
        for shared in [false, cfg!(unix)] {
            let socket = unbound(any, shared).unwrap();
            assert!(SockRef::from(&socket).only_v6().unwrap(), "{shared}");
        }
    }
}
