//! The accept loop: one for each socket, all of them under one limit of connections.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tracing::{Instrument, debug, debug_span, warn};

use crate::{
    config::{Bind, Endpoint},
    serve::Service,
    shutdown::Lifeline,
};

/// A bound socket that nobody accepts from yet.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    endpoint: Endpoint,
}

impl Listener {
    pub(crate) async fn bind(bind: Bind) -> io::Result<Self> {
        let socket = TcpListener::bind(bind.address).await?;
        let endpoint = Endpoint {
            address: socket.local_addr()?,
            transport: bind.transport,
        };
        Ok(Self { socket, endpoint })
    }

    pub(crate) const fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// Accepts connections, each on a task of its own, until the server drains. Then the socket is closed.
    pub(crate) async fn run(
        self,
        service: Arc<Service>,
        permits: Arc<Semaphore>,
        mut lifeline: Lifeline,
    ) {
        loop {
            let (io, peer, permit) = tokio::select! {
                biased;
                () = lifeline.draining() => return,
                accepted = self.accept(&permits) => accepted,
            };
            let connection = connection(
                Arc::clone(&service),
                self.endpoint,
                io,
                peer,
                lifeline.clone(),
                permit,
            );
            tokio::spawn(connection.instrument(debug_span!("connection", %peer)));
        }
    }

    /// Waits for a connection, then for a place below the limit. Errors are waited out in here.
    ///
    /// In this order the listeners share the limit: one that waits for connections holds no place meanwhile.
    async fn accept(
        &self,
        permits: &Arc<Semaphore>,
    ) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        let mut pause = FIRST_PAUSE;
        let (io, peer) = loop {
            match self.socket.accept().await {
                Ok(accepted) => break accepted,
                Err(error) if concerns_one_connection(&error) => {
                    debug!(%error, "a connection was lost on arrival")
                }
                Err(error) => {
                    warn!(%error, listener = %self.endpoint, ?pause, "cannot accept connections");
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        };
        if let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
            return (io, peer, permit);
        }
        warn!(listener = %self.endpoint, "as many connections are open as the limit allows; new ones wait");
        let permit = Arc::clone(permits)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        (io, peer, permit)
    }
}

/// One connection from beginning to end. The permit and the lifeline go with it.
async fn connection(
    service: Arc<Service>,
    endpoint: Endpoint,
    io: TcpStream,
    peer: SocketAddr,
    lifeline: Lifeline,
    permit: OwnedSemaphorePermit,
) {
    // Frames are written when they are due, so there is nothing to wait for. A failure means that the peer is gone
    // already, which the first read will tell.
    let _ = io.set_nodelay(true);
    match service
        .connection(io, peer, endpoint.transport, lifeline)
        .await
    {
        Ok(()) => debug!("connection ended"),
        // Clients end connections in every way there is; none of them is worth an operator's time.
        Err(error) => debug!(error, "connection failed"),
    }
    drop(permit);
}

/// Whether an error of `accept` says something about a single peer, and the next call may well succeed.
///
/// All others, above all the lack of file descriptors, last for a while: trying again at once would spin.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// How long to wait after a first error of `accept`, and after many in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_out_of_descriptors_is_waited_out_and_a_lost_peer_is_not() {
        const EMFILE: i32 = 24;
        assert!(!concerns_one_connection(&io::Error::from_raw_os_error(
            EMFILE
        )));
        assert!(!concerns_one_connection(&io::ErrorKind::OutOfMemory.into()));
        assert!(concerns_one_connection(
            &io::ErrorKind::ConnectionAborted.into()
        ));
    }

    #[tokio::test]
    async fn a_connection_over_the_limit_waits_until_another_has_ended() {
        let listener = Listener::bind(Bind::plain("127.0.0.1:0".parse().unwrap()))
            .await
            .unwrap();
        let permits = Arc::new(Semaphore::new(1));
        let address = listener.endpoint().address;
        let _first = TcpStream::connect(address).await.unwrap();
        let _second = TcpStream::connect(address).await.unwrap();

        let (_io, _peer, permit) = listener.accept(&permits).await;
        let waiting =
            tokio::time::timeout(Duration::from_millis(50), listener.accept(&permits)).await;
        assert!(waiting.is_err(), "a second connection was accepted");
        drop(permit);
        let _third = TcpStream::connect(address).await.unwrap();
        let _accepted = listener.accept(&permits).await;
    }

    #[tokio::test]
    async fn a_listener_without_connections_takes_no_place_from_another() {
        let quiet = Listener::bind(Bind::plain("127.0.0.1:0".parse().unwrap()))
            .await
            .unwrap();
        let busy = Listener::bind(Bind::plain("127.0.0.1:0".parse().unwrap()))
            .await
            .unwrap();
        let permits = Arc::new(Semaphore::new(1));
        let _client = TcpStream::connect(busy.endpoint().address).await.unwrap();
        tokio::select! {
            biased;
            _ = quiet.accept(&permits) => panic!("nobody has connected there"),
            _ = busy.accept(&permits) => {}
        }
    }
}
