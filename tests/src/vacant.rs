//! An address at which nothing listens.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// An address of the loopback that refuses connections. No other program can listen there
/// meanwhile.
#[derive(Debug)]
pub struct Vacant(TcpSocket);

impl Vacant {
    /// Takes a free port.
    ///
    /// # Panics
    ///
    /// If no port is free.
    #[must_use]
    pub fn take() -> Self {
        let socket = TcpSocket::new_v4().expect("there is a descriptor");
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        socket.bind(any).expect("there is a free port");
        Self(socket)
    }

    /// Returns the address.
    ///
    /// # Panics
    ///
    /// If the system does not tell it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("it is bound")
    }
}
