//! The connections of clients.

use std::{io, net::SocketAddr};

use axum::serve;
use spdy_kube::Explained;
use tokio::net::{TcpListener, TcpStream};

/// Accepts connections on which bytes that are typed do not wait for others, and a command line
/// that is too long gets a message.
pub(crate) struct Listener(pub(crate) TcpListener);

impl serve::Listener for Listener {
    type Io = Explained<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        let (socket, address) = serve::Listener::accept(&mut self.0).await;
        _ = socket.set_nodelay(true);
        (Explained::new(socket), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
